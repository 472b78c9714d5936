//! Input of a peer that arrives in two parts gives the operations of the whole, and the same error after them.

use broker_proto::{
    parser::Limits,
    route::{RouteConnect, RouteInfo, RouteOp, parse},
};

use crate::cut::same_in_two_parts;

/// The first byte chooses the limits, the second where the input is cut.
pub(crate) fn run(input: &[u8]) {
    let [choice, cut, input @ ..] = input else {
        return;
    };
    let limits = Limits {
        max_control_line: if choice & 1 == 0 { 4096 } else { 2 },
        max_payload: if choice & 2 == 0 { 1 << 20 } else { 12 },
        headers: true,
    };
    same_in_two_parts(
        input,
        *cut,
        |input| parse(input, &limits),
        |op| check(op, &limits),
    );
}

/// What everybody who gets an operation relies on.
fn check(op: &RouteOp<'_>, limits: &Limits) {
    match op {
        // Refused or not, they are read without harm; what is understood can be said again.
        RouteOp::Connect(json) => {
            if let Ok(connect) = RouteConnect::from_json(json) {
                let line = connect.to_line();
                let again = line.strip_prefix(b"CONNECT ").map(RouteConnect::from_json);
                assert!(matches!(again, Some(Ok(_))), "{}", line.escape_ascii());
            }
        }
        RouteOp::Info(json) => {
            if let Ok(info) = RouteInfo::from_json(json) {
                let line = info.to_line();
                let again = line.strip_prefix(b"INFO ").map(RouteInfo::from_json);
                assert!(matches!(again, Some(Ok(_))), "{}", line.escape_ascii());
            }
        }
        RouteOp::Message(message) => {
            assert!(!message.account.is_empty() && !message.publication.subject.is_empty());
            assert!(message.publication.body().len() <= limits.max_payload);
            assert!(message.queue_groups.iter().all(|group| !group.is_empty()));
        }
        RouteOp::Interest {
            account, subject, ..
        }
        | RouteOp::NoInterest {
            account, subject, ..
        } => {
            assert!(!account.is_empty() && !subject.is_empty());
        }
        RouteOp::Ping | RouteOp::Pong | RouteOp::Ignored | RouteOp::Error(_) => {}
    }
}
