//! Poolers between us and the database that lend its sessions for one transaction or one statement: advisory locks,
//! settings and prepared statements then get lost between sessions.
//!
//! They show by which backend answers: a session of one's own has one for itself, always the same. Poolers that keep a
//! session for as long as its client is connected are as good as none.

use tokio_postgres::error::SqlState;

use super::session::{Failure, Session};

/// Rounds of questions. Each has three transactions, so that a pool that hands two sessions out in turn does not come
/// around to the same ones.
const ROUNDS: usize = 2;

/// What to say to who has configured one.
pub(super) const REFUSAL: &str = "the source leads to a pooler that lends sessions for one transaction, in which locks \
     and prepared statements get lost; name the database itself, or a pool in session mode (pool_mode=session)";

/// Whether two sessions that are both connected share a backend, or are moved between backends.
pub(super) async fn is_pooled(first: &Session, second: &Session) -> Result<bool, Failure> {
    if first.backend <= 0 || second.backend <= 0 {
        // A database without processes for its sessions.
        return Ok(false);
    }
    for _ in 0..ROUNDS {
        // A transaction keeps the second on its backend while the first is asked.
        let inside = match second.ask_backend("BEGIN; SELECT pg_backend_pid()").await {
            Ok(inside) => inside,
            // Where sessions are lent for one statement there are no transactions.
            Err(failure) if failure.is(&SqlState::PROTOCOL_VIOLATION) => return Ok(true),
            Err(failure) => return Err(failure),
        };
        let meanwhile = match inside == first.backend {
            true => Ok(inside),
            false => first.ask_backend("SELECT pg_backend_pid()").await,
        };
        second.batch("ROLLBACK").await?;
        let shared = inside == first.backend || inside != second.backend;
        if shared || meanwhile? != first.backend {
            return Ok(true);
        }
        if first.ask_backend("SELECT pg_backend_pid()").await? != first.backend {
            return Ok(true);
        }
    }
    Ok(false)
}
