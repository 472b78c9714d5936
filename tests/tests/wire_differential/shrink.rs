//! Makes a session smaller while two servers still differ over it.

use crate::session::Session;

/// Sessions that a shrink tries at most.
const ATTEMPTS: usize = 400;

/// The smallest session found over which the servers still differ, and how they do.
pub(crate) async fn shrink(
    session: Session,
    difference: String,
    mut differ: impl AsyncFnMut(&Session) -> Option<String>,
) -> (Session, String) {
    let mut smallest = (session, difference);
    let mut attempts = 0;
    loop {
        let mut smaller = None;
        for candidate in candidates(&smallest.0).collect::<Vec<_>>() {
            attempts += 1;
            if attempts > ATTEMPTS {
                return smallest;
            }
            if let Some(difference) = differ(&candidate).await {
                smaller = Some((candidate, difference));
                break;
            }
        }
        match smaller {
            Some(found) => smallest = found,
            None => return smallest,
        }
    }
}

/// Everything that is one step smaller, the large steps first.
fn candidates(session: &Session) -> impl Iterator<Item = Session> {
    let turns = (0..session.turns.len()).rev();
    let without_turn = turns.clone().map(|turn| {
        let mut smaller = session.clone();
        smaller.turns.remove(turn);
        smaller
    });
    let without_cuts = turns
        .clone()
        .filter(|&turn| !session.turns[turn].cuts.is_empty());
    let without_cuts = without_cuts.map(|turn| {
        let mut smaller = session.clone();
        smaller.turns[turn].cuts.clear();
        smaller
    });
    let ops = turns.flat_map(|turn| (0..session.turns[turn].ops.len()).map(move |op| (turn, op)));
    let without_op = ops.map(|(turn, op)| {
        let mut smaller = session.clone();
        smaller.turns[turn].ops.remove(op);
        smaller
    });
    let last = session.connections - 1;
    let unused = last > 0 && session.turns.iter().all(|turn| turn.connection != last);
    let without_connection = unused.then(|| Session {
        connections: last,
        ..session.clone()
    });
    without_connection
        .into_iter()
        .chain(without_turn)
        .chain(without_op)
        .chain(without_cuts)
}
