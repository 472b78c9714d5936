//! Input that arrives in two parts gives the operations of the whole, and the same error after them.

use std::fmt::Debug;

use broker_proto::{op::ParseError, parser::Step};

/// Reads the input whole and cut at a place. `check` is what everybody who gets an operation relies on.
///
/// # Panics
/// The parts give something else than the whole, or an operation is not as it should be.
pub(crate) fn same_in_two_parts<'a, Op: Debug + PartialEq>(
    input: &'a [u8],
    cut: u8,
    parse: impl Fn(&'a [u8]) -> Result<Step<Op>, ParseError>,
    check: impl Fn(&Op),
) {
    let (mut ops, mut taken) = (Vec::new(), 0);
    let whole = read(input, &parse, &check, &mut ops, &mut taken);

    let cut = usize::from(cut).min(input.len());
    let (mut parts, mut taken_in_parts) = (Vec::new(), 0);
    let mut end = read(
        &input[..cut],
        &parse,
        &check,
        &mut parts,
        &mut taken_in_parts,
    );
    if end.is_ok() {
        end = read(input, &parse, &check, &mut parts, &mut taken_in_parts);
    }
    assert_eq!((parts, end), (ops, whole), "cut at {cut}");
    assert_eq!(taken_in_parts, taken, "cut at {cut}");
}

/// Reads on from `taken` until more must arrive or nothing more can be read.
fn read<'a, Op>(
    input: &'a [u8],
    parse: &impl Fn(&'a [u8]) -> Result<Step<Op>, ParseError>,
    check: &impl Fn(&Op),
    ops: &mut Vec<Op>,
    taken: &mut usize,
) -> Result<(), ParseError> {
    loop {
        let rest = &input[*taken..];
        match parse(rest)? {
            Step::Taken { op, consumed } => {
                assert!(
                    (1..=rest.len()).contains(&consumed),
                    "{consumed} of {}",
                    rest.len()
                );
                check(&op);
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
