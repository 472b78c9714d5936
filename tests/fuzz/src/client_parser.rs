//! Input that arrives in two parts gives the operations of the whole, and the same error after them.

use broker_proto::{
    op::{ClientOp, ParseError},
    parser::{Limits, Step, parse},
};

/// The first byte chooses the limits, the second where the input is cut.
pub(crate) fn run(input: &[u8]) {
    let [choice, cut, input @ ..] = input else {
        return;
    };
    let limits = Limits {
        max_control_line: if choice & 1 == 0 { 4096 } else { 24 },
        max_payload: if choice & 2 == 0 { 1 << 20 } else { 12 },
        headers: choice & 4 == 0,
    };
    let (mut ops, mut taken) = (Vec::new(), 0);
    let whole = read(input, &limits, &mut ops, &mut taken);

    let cut = usize::from(*cut).min(input.len());
    let (mut parts, mut taken_in_parts) = (Vec::new(), 0);
    let mut end = read(&input[..cut], &limits, &mut parts, &mut taken_in_parts);
    if end.is_ok() {
        end = read(input, &limits, &mut parts, &mut taken_in_parts);
    }
    assert_eq!((parts, end), (ops, whole), "cut at {cut}");
    assert_eq!(taken_in_parts, taken, "cut at {cut}");
}

/// Reads on from `taken` until more must arrive or nothing more can be read.
fn read<'a>(
    input: &'a [u8],
    limits: &Limits,
    ops: &mut Vec<ClientOp<'a>>,
    taken: &mut usize,
) -> Result<(), ParseError> {
    loop {
        let rest = &input[*taken..];
        match parse(rest, limits)? {
            Step::Taken { op, consumed } => {
                assert!(
                    (1..=rest.len()).contains(&consumed),
                    "{consumed} of {}",
                    rest.len()
                );
                check(&op, limits);
                ops.push(op);
                *taken += consumed;
            }
            Step::Incomplete { needed } => {
                assert!(
                    needed == 0 || needed > rest.len(),
                    "{needed} beyond {}",
                    rest.len()
                );
                return Ok(());
            }
        }
    }
}

/// What everybody who gets an operation relies on.
fn check(op: &ClientOp<'_>, limits: &Limits) {
    let is_argument = |text: &[u8]| !text.iter().any(|byte| b" \t\n".contains(byte));
    match op {
        ClientOp::Publish(publication) => {
            assert!(!publication.subject.is_empty() && is_argument(publication.subject));
            assert!(is_argument(publication.reply));
            assert!(publication.body().len() <= limits.max_payload);
            assert!(limits.headers || !publication.has_headers());
            let parts = [publication.headers(), publication.payload()].concat();
            assert_eq!(parts, publication.body());
            if let Some(tail) = publication.canonical_tail() {
                assert!(tail.ends_with(&[publication.body(), b"\r\n"].concat()));
            }
        }
        ClientOp::Subscribe { subject, sid, .. } => {
            assert!(!subject.is_empty() && is_argument(subject));
            assert!(!sid.is_empty() && is_argument(sid));
        }
        ClientOp::Unsubscribe { sid, .. } => assert!(!sid.is_empty() && is_argument(sid)),
        ClientOp::Connect(_)
        | ClientOp::Ping
        | ClientOp::Pong
        | ClientOp::Ignored
        | ClientOp::Error(_) => {}
    }
}
