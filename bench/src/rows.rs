//! The bare loop that durable publishes are held against: the broker's tables, and one prepared statement.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use rusqlite::{Connection, params};

/// The broker's own tables, so that the rows are the same.
const SCHEMA: &str = include_str!("../../persistence/migrations/sqlite/0001_logs.sql");

const INSERT: &str = "INSERT INTO messages (log, offset, time, size, payload) VALUES (?, ?, ?, ?, ?)";

/// A database of messages.
pub(crate) struct Rows {
    connection: Connection,
    /// The newest offset of each log.
    heads: Vec<u64>,
    payload: Vec<u8>,
    /// The log that gets the next row.
    next: usize,
}

impl Rows {
    /// Makes a database in a folder, with the durability that the broker has by default.
    pub(crate) fn open(folder: &Path, n_logs: usize, payload_bytes: usize) -> anyhow::Result<Self> {
        let connection = Connection::open(folder.join("bare.db"))?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        ensure!(mode == "wal" && synchronous == 2, "this file system does not support a write-ahead log");
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection, heads: vec![0; n_logs.max(1)], payload: vec![b'x'; payload_bytes], next: 0 })
    }

    /// Inserts rows in one transaction, in the order of the key as the broker does: an equal share for each log.
    pub(crate) fn insert(&mut self, n_rows: usize) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let time = i64::try_from(now.as_millis())?;
        let transaction = self.connection.transaction()?;
        let mut statement = transaction.prepare_cached(INSERT)?;
        let n_logs = self.heads.len();
        let (share, n_more) = (n_rows / n_logs, n_rows % n_logs);
        for (log, head) in self.heads.iter_mut().enumerate() {
            // Those that get one more take turns.
            let is_next = (log + n_logs - self.next) % n_logs < n_more;
            for _ in 0..share + usize::from(is_next) {
                *head += 1;
                let size = self.payload.len();
                statement.execute(params![log as i64 + 1, *head as i64, time, size as i64, &self.payload])?;
            }
        }
        drop(statement);
        transaction.commit()?;
        self.next = (self.next + n_more) % n_logs;
        Ok(())
    }
}
