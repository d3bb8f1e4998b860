//! A store in one SQLite file, for one node.
//!
//! One task owns the connection that writes and takes one job after another, so that appends need no lock and a caller that
//! goes away cannot leave a transaction open; a few connections read, each page from one snapshot, without waiting for the writer.

mod append;
mod errors;
mod ids;
mod open;
mod read;
mod remove;
mod rows;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use bongsu_protocol::command::HistoryQuery;
use bongsu_protocol::event::Page;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};

use crate::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Store,
};
use writer::{Job, Jobs};

/// When a commit reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Before it is acknowledged: what was acknowledged outlives a power failure.
    #[default]
    Full,
    /// Later, at a checkpoint: what was acknowledged outlives the death of the process, but the newest messages may be lost in a power
    /// failure. The file stays consistent.
    Normal,
}

/// Where the file is and how it is used.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file. It is made if it does not exist; its folder must exist. `-wal`, `-shm` and `-lock` files stand beside it.
    pub path: PathBuf,
    /// When a commit reaches the disk. By default before it is acknowledged.
    pub synchronous: Synchronous,
    /// Connections that read at the same time, at least 1. By default 2; each costs a thread and up to 1 MiB of cache.
    pub readers: u32,
    /// The largest size of the file in bytes; past it, appends fail as on a full disk until something is removed.
    /// By default none. Counted in whole pages of 4 KiB, without the write-ahead log of some MiB.
    pub bytes_max: Option<u64>,
    /// Message ids, within their windows, that are found in memory. By default 917,504: that many take at most 35 MB (33 bytes in a table
    /// of 2^20 places, which holds 7/8 of them), and are enough for 7,600 messages with ids per second and a window of two minutes. More
    /// still work, and cost an index on disk.
    pub ids_in_memory_max: usize,
}

impl SqliteOptions {
    /// The defaults, for a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            synchronous: Synchronous::default(),
            readers: 2,
            bytes_max: None,
            ids_in_memory_max: (1 << 20) / 8 * 7,
        }
    }
}

/// Keeps logs in one SQLite file.
///
/// Dropping it finishes the work that was begun, in the background; [`close`](Self::close) waits for it.
#[derive(Debug)]
pub struct SqliteStore {
    path: Arc<PathBuf>,
    jobs: Jobs,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it if it does not exist, and brings its schema up to date.
    ///
    /// Until the store is closed or the process ends, no other store can open the same file.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the file cannot be opened or written, or another process uses it. [`Error::Corrupt`] if it is damaged,
    /// is not ours, or was written by a newer version; it is left as it was.
    pub async fn open(options: SqliteOptions) -> Result<Self, Error> {
        let (lock, path, connection) = open::open(&options).await?;
        let path = Arc::new(path);
        let jobs = writer::spawn(connection, path.clone(), lock, options.ids_in_memory_max).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .acquire_timeout(read::ACQUIRE_TIMEOUT)
            // SQLite runs in this process: a connection does not go away by itself.
            .test_before_acquire(false)
            .connect_lazy_with(open::reader_options(&path));
        Ok(Self { path, jobs, readers })
    }

    /// Finishes the jobs that were begun, refuses further ones, and closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.jobs.close().await;
    }
}

impl Store for SqliteStore {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        self.jobs.run(|reply| Job::Append { batch, reply }).boxed()
    }

    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        async move {
            read::page(&self.readers, &query).await.map_err(|error| errors::classify(&self.path, &error))
        }
        .boxed()
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        async move {
            read::list(&self.readers, &query).await.map_err(|error| errors::classify(&self.path, &error))
        }
        .boxed()
    }

    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        std::future::ready(Ok(self.jobs.changes(since.as_ref()))).boxed()
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        self.jobs.run(|reply| Job::Remove { removal, reply }).boxed()
    }
}
