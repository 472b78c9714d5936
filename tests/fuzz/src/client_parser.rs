//! Input that arrives in two parts gives the operations of the whole, and the same error after them.

use broker_proto::{
    op::ClientOp,
    parser::{Limits, parse},
};

use crate::cut::same_in_two_parts;

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
    same_in_two_parts(
        input,
        *cut,
        |input| parse(input, &limits),
        |op| check(op, &limits),
    );
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
