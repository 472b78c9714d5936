//! The embedded store's floor: the same rows in bare SQLite, every commit on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rusqlite::Connection;

/// Rows of a commit.
const BATCH: i64 = 1000;
/// The table as the embedded store makes it.
const TABLE: &str = "
    CREATE TABLE Messages
        (id INTEGER, seq INTEGER, timestamp INTEGER, size INTEGER, data BLOB,
         PRIMARY KEY (id, seq)) WITHOUT ROWID";
const INSERT: &str =
    "INSERT INTO Messages (id, seq, timestamp, size, data) VALUES (1, ?1, ?2, ?3, ?4)";

/// One connection to a new file.
#[derive(Debug)]
pub(crate) struct BareSqlite {
    connection: Connection,
    written: i64,
}

impl BareSqlite {
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn create(file: &Path) -> anyhow::Result<Self> {
        let connection =
            Connection::open(file).with_context(|| format!("making {}", file.display()))?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        ensure!(synchronous == 2, "SQLite does not synchronise every commit");
        connection.execute_batch(TABLE)?;
        Ok(Self {
            connection,
            written: 0,
        })
    }

    /// Writes rows of `row_bytes` for `length`, a thousand a commit; how many it was.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub(crate) fn write_for(&mut self, row_bytes: usize, length: Duration) -> anyhow::Result<u64> {
        let (data, first, end) = (vec![b'x'; row_bytes], self.written, Instant::now() + length);
        while self.written == first || Instant::now() < end {
            let transaction = self.connection.transaction()?;
            let mut insert = transaction.prepare_cached(INSERT)?;
            for _ in 0..BATCH {
                self.written += 1;
                let timestamp = 1_700_000_000_000_000_000 + self.written;
                insert.execute((self.written, timestamp, row_bytes as i64, &data))?;
            }
            drop(insert);
            transaction.commit()?;
        }
        Ok((self.written - first) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_counted_is_in_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let mut bare = BareSqlite::create(&directory.path().join("bare.db")).unwrap();
        let mut rows = bare.write_for(10, Duration::ZERO).unwrap();
        rows += bare.write_for(10, Duration::ZERO).unwrap();
        let count = "SELECT count(*) FROM Messages";
        let count: i64 = bare
            .connection
            .query_row(count, [], |row| row.get(0))
            .unwrap();
        assert_eq!((rows, count), (2_000, 2_000));
    }
}
