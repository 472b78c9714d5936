//! Makes a history smaller while two servers still differ over it.

use crate::history::{History, Op, Step};

/// Rounds of trying everything that is smaller.
const ROUNDS: usize = 40;

/// The smallest history found over which the servers still differ, and how they do. `differ` is asked for many
/// histories at a time.
pub(crate) async fn shrink(
    history: History,
    difference: String,
    mut differ: impl AsyncFnMut(&[History]) -> Vec<Option<String>>,
) -> (History, String) {
    let mut smallest = (history, difference);
    for _ in 0..ROUNDS {
        let candidates = candidates(&smallest.0);
        let differences = differ(&candidates).await;
        let mut found = candidates.into_iter().zip(differences);
        let Some((smaller, Some(difference))) = found.find(|(_, difference)| difference.is_some())
        else {
            break;
        };
        smallest = (smaller, difference);
    }
    smallest
}

/// Everything that is smaller in one way, the smallest first.
fn candidates(history: &History) -> Vec<History> {
    let count = history.steps.len();
    let mut candidates = Vec::new();
    let mut length = count / 2;
    while length > 0 {
        for start in (0..count).rev().step_by(length) {
            let mut smaller = history.clone();
            let end = start + 1;
            smaller.steps.drain(end.saturating_sub(length)..end);
            candidates.push(smaller);
        }
        length /= 2;
    }
    for place in 0..count {
        let Step::Together(ops) = &history.steps[place] else {
            continue;
        };
        for op in (0..ops.len()).filter(|_| ops.len() > 1) {
            let mut smaller = history.clone();
            let mut ops: Vec<Op> = ops.clone();
            ops.remove(op);
            smaller.steps[place] = Step::Together(ops);
            candidates.push(smaller);
        }
    }
    candidates
}
