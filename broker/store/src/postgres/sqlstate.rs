//! What the SQLSTATEs that a database answers with mean to the store: one table for writing, reading, the lock,
//! the looks before a start and recovery.
//!
//! Names and codes: appendix A of PostgreSQL's manual. A code without a line of its own means what its class does.

use tokio_postgres::error::SqlState;

/// What a failure says about the statement and about a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection is of no more use; nothing is known about the statement.
    Lost,
    /// Nothing was done; the same statement may work at once: it has met another one.
    Again,
    /// Nothing was done; the same statement may work when the database has what it lacks.
    Wait,
    /// Nothing was done, because a row with one of the keys exists.
    Duplicate,
    /// Nothing was done, and a repetition cannot help.
    Refused,
}

/// One line of the table.
#[derive(Debug)]
struct Meaning {
    state: SqlState,
    verdict: Verdict,
    /// What an operator can do, where the database's own words do not tell.
    advice: &'static str,
}

const fn meaning(state: SqlState, verdict: Verdict, advice: &'static str) -> Meaning {
    Meaning {
        state,
        verdict,
        advice,
    }
}

/// What comes of a pooler that lends sessions for one transaction.
const POOLED: &str =
    "name the database itself in the source, or a pool in session mode (pool_mode=session)";
const RIGHTS: &str = "`stanchion-broker store init ROLE`, run as one who may, makes the tables and grants what a broker needs";
const TABLES: &str =
    "the tables are not those of the store; `stanchion-broker store check` says what is missing";
const CAPACITY: &str = "work goes on by itself when there is room again";
const DAMAGE: &str =
    "the database's files are damaged; rebuild the index (REINDEX) or restore a backup";

static MEANINGS: [Meaning; 47] = [
    // 08: the way to the database. A pooler reports its own troubles as protocol violations.
    meaning(SqlState::CONNECTION_EXCEPTION, Verdict::Lost, ""),
    meaning(
        SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
        Verdict::Lost,
        "",
    ),
    meaning(SqlState::CONNECTION_DOES_NOT_EXIST, Verdict::Lost, ""),
    meaning(
        SqlState::SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION,
        Verdict::Lost,
        "",
    ),
    meaning(SqlState::CONNECTION_FAILURE, Verdict::Lost, ""),
    meaning(SqlState::TRANSACTION_RESOLUTION_UNKNOWN, Verdict::Lost, ""),
    meaning(SqlState::PROTOCOL_VIOLATION, Verdict::Lost, ""),
    // 0A: a statement was prepared before somebody changed a table; a new session prepares it anew.
    meaning(SqlState::FEATURE_NOT_SUPPORTED, Verdict::Lost, ""),
    // 22: a value that its column does not take.
    meaning(
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
        Verdict::Refused,
        "the store's columns take names of up to 1024 characters",
    ),
    meaning(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        Verdict::Refused,
        "the store needs a database with encoding UTF8",
    ),
    meaning(
        SqlState::UNTRANSLATABLE_CHARACTER,
        Verdict::Refused,
        "the store needs a database with encoding UTF8",
    ),
    meaning(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        Verdict::Refused,
        TABLES,
    ),
    // 23: a row is in the way. Its other codes come of constraints that the store's tables do not have.
    meaning(SqlState::UNIQUE_VIOLATION, Verdict::Duplicate, ""),
    // 25: after a fail-over a session can be one of a standby.
    meaning(
        SqlState::READ_ONLY_SQL_TRANSACTION,
        Verdict::Lost,
        "name the primary in the source (target_session_attrs=read-write chooses among several hosts), \
         or end default_transaction_read_only",
    ),
    meaning(SqlState::IN_FAILED_SQL_TRANSACTION, Verdict::Lost, ""),
    meaning(
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        Verdict::Lost,
        "",
    ),
    // 26, 42P05: a prepared statement of ours is in another session.
    meaning(SqlState::INVALID_SQL_STATEMENT_NAME, Verdict::Lost, POOLED),
    meaning(SqlState::DUPLICATE_PSTATEMENT, Verdict::Lost, POOLED),
    // 28, 3D: logging in. What is wrong can be put right without a restart.
    meaning(
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        Verdict::Lost,
        "let the role log in (ALTER ROLE ... LOGIN, pg_hba.conf), or name another one in the source",
    ),
    meaning(
        SqlState::INVALID_PASSWORD,
        Verdict::Lost,
        "correct the password in the source or its passfile; a reload takes it over",
    ),
    meaning(
        SqlState::INVALID_CATALOG_NAME,
        Verdict::Lost,
        "make the database, or name the right one in the source (dbname)",
    ),
    // 3F, 42: not the tables or rights that a start has found.
    meaning(SqlState::INVALID_SCHEMA_NAME, Verdict::Refused, TABLES),
    meaning(SqlState::INSUFFICIENT_PRIVILEGE, Verdict::Refused, RIGHTS),
    meaning(SqlState::UNDEFINED_TABLE, Verdict::Refused, TABLES),
    meaning(SqlState::UNDEFINED_COLUMN, Verdict::Refused, TABLES),
    meaning(SqlState::DATATYPE_MISMATCH, Verdict::Refused, TABLES),
    // 40: two transactions have met. Of the third it is not known whether it was committed.
    meaning(SqlState::T_R_SERIALIZATION_FAILURE, Verdict::Again, ""),
    meaning(SqlState::T_R_DEADLOCK_DETECTED, Verdict::Again, ""),
    meaning(
        SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
        Verdict::Lost,
        "",
    ),
    // 53: too little of something.
    meaning(SqlState::DISK_FULL, Verdict::Wait, CAPACITY),
    meaning(SqlState::OUT_OF_MEMORY, Verdict::Wait, CAPACITY),
    meaning(
        SqlState::TOO_MANY_CONNECTIONS,
        Verdict::Wait,
        "raise max_connections or the role's CONNECTION LIMIT, or end other sessions",
    ),
    meaning(
        SqlState::CONFIGURATION_LIMIT_EXCEEDED,
        Verdict::Wait,
        CAPACITY,
    ),
    // 55: something is in use, or not yet as it should be.
    meaning(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        Verdict::Wait,
        "",
    ),
    meaning(SqlState::OBJECT_IN_USE, Verdict::Wait, ""),
    meaning(
        SqlState::LOCK_NOT_AVAILABLE,
        Verdict::Wait,
        "another session locks the table; pg_locks shows which",
    ),
    // 57: somebody has intervened.
    meaning(
        SqlState::QUERY_CANCELED,
        Verdict::Wait,
        "cancelled, or longer than the statement_timeout of the role or database",
    ),
    meaning(SqlState::ADMIN_SHUTDOWN, Verdict::Lost, ""),
    meaning(SqlState::CRASH_SHUTDOWN, Verdict::Lost, ""),
    meaning(SqlState::CANNOT_CONNECT_NOW, Verdict::Lost, ""),
    meaning(SqlState::DATABASE_DROPPED, Verdict::Lost, ""),
    meaning(SqlState::IDLE_SESSION_TIMEOUT, Verdict::Lost, ""),
    // 58: outside of the database.
    meaning(SqlState::SYSTEM_ERROR, Verdict::Lost, ""),
    meaning(
        SqlState::IO_ERROR,
        Verdict::Lost,
        "look at the database's disk and log",
    ),
    // XX: inside of it.
    meaning(
        SqlState::INTERNAL_ERROR,
        Verdict::Refused,
        "the database's log says more",
    ),
    meaning(SqlState::DATA_CORRUPTED, Verdict::Refused, DAMAGE),
    meaning(SqlState::INDEX_CORRUPTED, Verdict::Refused, DAMAGE),
];

/// What a database's answer means for the statement and a repetition.
pub(super) fn verdict(state: &SqlState) -> Verdict {
    if let Some(meaning) = find(state) {
        return meaning.verdict;
    }
    match state.code().get(..2) {
        Some("08" | "25" | "28" | "3D" | "57" | "58") => Verdict::Lost,
        Some("53" | "55") => Verdict::Wait,
        // 40002 too is a constraint that the store's tables do not have.
        Some("40") if *state != SqlState::T_R_INTEGRITY_CONSTRAINT_VIOLATION => Verdict::Again,
        _ => Verdict::Refused,
    }
}

/// What an operator can do about it, where there is something to say.
pub(super) fn advice(state: &SqlState) -> Option<&'static str> {
    let advice = find(state)?.advice;
    (!advice.is_empty()).then_some(advice)
}

fn find(state: &SqlState) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|meaning| meaning.state == *state)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn verdicts(codes: &[&str]) -> BTreeSet<String> {
        let verdict = |code: &&str| format!("{:?}", verdict(&SqlState::from_code(code)));
        codes.iter().map(verdict).collect()
    }

    #[test]
    fn each_code_has_one_line() {
        let codes: BTreeSet<_> = MEANINGS.iter().map(|line| line.state.code()).collect();
        assert_eq!(codes.len(), MEANINGS.len());
    }

    #[test]
    fn what_only_a_repetition_can_answer_is_never_refused() {
        assert_eq!(
            verdicts(&["40001", "40P01", "40000"]),
            BTreeSet::from(["Again".to_owned()])
        );
        let lacking = [
            "53000", "53100", "53200", "53300", "53400", "55000", "55P03", "57014",
        ];
        assert_eq!(verdicts(&lacking), BTreeSet::from(["Wait".to_owned()]));
    }

    #[test]
    fn what_says_nothing_about_the_statement_is_looked_up() {
        let lost = [
            "08000", "08006", "08P01", "08007", "25006", "25P02", "26000", "28000", "28P01",
            "3D000", "40003", "57P01", "57P02", "57P03", "57P04", "57P05", "58000", "58030",
            "58P01",
        ];
        assert_eq!(verdicts(&lost), BTreeSet::from(["Lost".to_owned()]));
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_word_on_what_to_do() {
        let refused = [
            "22001", "22021", "3F000", "42501", "42703", "42P01", "XX000", "XX001", "XX002",
        ];
        assert_eq!(verdicts(&refused), BTreeSet::from(["Refused".to_owned()]));
        for code in refused {
            assert!(advice(&SqlState::from_code(code)).is_some(), "{code}");
        }
        // Of whose meaning nothing is known: a trigger's, another product's.
        assert_eq!(
            verdicts(&["P0001", "23514", "40002", "ZZ999"]),
            BTreeSet::from(["Refused".to_owned()])
        );
    }
}
