//! The task that owns the connection that writes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bongsu_protocol::topic::Topic;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor, Row};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::errors::classify;
use super::ids::Ids;
use super::open::Lock;
use super::rows::{Log, column, number};
use super::{append, remove};
use crate::journal::Journal;
use crate::store::{Append, Appended, ChangeMark, Changes, Error, Removal, Removed};

/// Jobs that wait for the writer: few, since whoever has many messages sends them in one batch. When full, callers wait.
const JOBS_MAX: usize = 16;

/// Logs whose heads the writer keeps in memory: about 10 MiB with names of 64 bytes. When full, all are forgotten and read again
/// as they are needed, which costs one statement per batch.
const LOGS_CACHED_MAX: usize = 65_536;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Append {
        batch: Vec<Append>,
        reply: oneshot::Sender<Result<Vec<Appended>, Error>>,
    },
    Remove {
        removal: Removal,
        reply: oneshot::Sender<Result<Removed, Error>>,
    },
    /// Nothing comes after this.
    Close,
}

/// The writer, as seen by those who have work for it.
#[derive(Debug)]
pub(super) struct Jobs {
    sender: mpsc::Sender<Job>,
    path: Arc<PathBuf>,
    journal: Arc<Mutex<Journal>>,
}

impl Jobs {
    /// Which logs the writer appended to since a mark.
    pub(super) fn changes(&self, since: Option<&ChangeMark>) -> Changes {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).since(since)
    }

    /// Hands a job over and waits for its result. Dropping the future does not stop a job that was handed over.
    pub(super) async fn run<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job,
    ) -> Result<T, Error> {
        let closed = || Error::Unavailable(format!("{} was closed", self.path.display()));
        let (reply, result) = oneshot::channel();
        self.sender.send(job(reply)).await.map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }

    /// Waits until the jobs that were handed over are done and the file is closed.
    pub(super) async fn close(&self) {
        // An error means that the writer has ended already.
        let _ = self.sender.send(Job::Close).await;
        self.sender.closed().await;
    }
}

/// The connection that writes, and what it knows by heart.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) path: Arc<PathBuf>,
    /// Logs as the tables hold them. A topic that is not here may have a log.
    pub(super) logs: HashMap<Topic, Log>,
    /// As the table `counters` and the largest log number say; kept in step with them.
    pub(super) floors: Floors,
    pub(super) ids: Ids,
    journal: Arc<Mutex<Journal>>,
    /// Whether `dead_logs` may have rows.
    pub(super) dead: bool,
}

/// What a new log's number and epoch must be larger than.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floors {
    pub(super) log: i64,
    pub(super) epoch: u64,
}

/// Starts the task. It ends when all [`Jobs`] are dropped or closed, and then closes the file and releases the lock.
pub(super) async fn spawn(
    mut connection: SqliteConnection,
    path: Arc<PathBuf>,
    lock: Lock,
    ids_in_memory_max: usize,
) -> Result<Jobs, Error> {
    let failed = |error: sqlx::Error| classify(&path, &error);
    let floors = floors(&mut connection).await.map_err(failed)?;
    let ids = Ids::load(&mut connection, ids_in_memory_max).await.map_err(failed)?;
    let journal = Arc::new(Mutex::new(Journal::new(incarnation(&mut connection).await.map_err(failed)?)));
    let writer = Writer {
        connection,
        path: path.clone(),
        logs: HashMap::new(),
        floors,
        ids,
        journal: journal.clone(),
        dead: true,
    };
    let (sender, receiver) = mpsc::channel(JOBS_MAX);
    tokio::spawn(writer.run(receiver, lock));
    Ok(Jobs { sender, path, journal })
}

async fn floors(connection: &mut SqliteConnection) -> Result<Floors, sqlx::Error> {
    let row = connection
        .fetch_one(
            "SELECT max(log_floor, (SELECT coalesce(max(id), 0) FROM logs)), epoch_floor FROM counters",
        )
        .await?;
    Ok(Floors { log: row.try_get(0)?, epoch: number(&row, 1)? })
}

/// What sets this opening of the file apart from others.
async fn incarnation(connection: &mut SqliteConnection) -> Result<u128, sqlx::Error> {
    let random: i64 = connection.fetch_one("SELECT random()").await?.try_get(0)?;
    Ok(u128::from(random.cast_unsigned()))
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>, lock: Lock) {
        loop {
            // What deleted logs leave behind is taken away between jobs, and step by step while there are none.
            let job = if self.dead { jobs.try_recv().ok() } else { jobs.recv().await };
            match job {
                Some(Job::Append { batch, reply }) => {
                    let result = append::append(&mut self, batch).await;
                    if let Ok(outcomes) = &result {
                        self.journal.lock().unwrap_or_else(PoisonError::into_inner).note(outcomes);
                    }
                    // Nobody waits any more: the job is done all the same.
                    let _ = reply.send(self.settle(result).await);
                }
                Some(Job::Remove { removal, reply }) => {
                    let result = remove::remove(&mut self, removal).await;
                    let _ = reply.send(self.settle(result).await);
                }
                Some(Job::Close) => break,
                None if jobs.is_closed() && jobs.is_empty() => break,
                None => {}
            }
            if self.dead {
                self.sweep().await;
            }
            self.logs_bounded();
        }
        if let Err(error) = self.connection.close().await {
            warn!(path = %self.path.display(), %error, "closing the store failed");
        }
        drop(lock);
    }

    /// After a failure: ends the transaction, and forgets what may not be so.
    async fn settle<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, Error> {
        let failure = match result {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        // It fails if SQLite has rolled back already, and then there is nothing to do.
        let _ = self.connection.execute("ROLLBACK").await;
        self.logs.clear();
        match floors(&mut self.connection).await {
            Ok(floors) => self.floors = floors,
            // The floors in memory are at least those in the file: new logs get larger numbers than they need.
            Err(error) => {
                warn!(path = %self.path.display(), %error, "reading the counters after a failure failed")
            }
        }
        Err(classify(&self.path, &failure))
    }

    /// Takes some of what deleted logs left behind away.
    async fn sweep(&mut self) {
        let result = remove::sweep(self).await;
        if let Err(failure) = self.settle(result).await {
            // The next deletion and the next start try again.
            self.dead = false;
            error!(%failure, "clearing deleted logs failed");
        }
    }

    fn logs_bounded(&mut self) {
        if self.logs.len() > LOGS_CACHED_MAX {
            self.logs.clear();
        }
    }

    /// The log of a topic, if it has one.
    pub(super) async fn log(&mut self, topic: &Topic) -> Result<Option<Log>, sqlx::Error> {
        append::load(self, std::iter::once(topic)).await?;
        Ok(self.logs.get(topic).copied())
    }

    /// Begins a transaction; [`settle`](Self::settle) ends one that fails.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("BEGIN IMMEDIATE").await.map(drop)
    }

    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("COMMIT").await.map(drop)
    }

    pub(super) async fn write_floors(&mut self, floors: Floors) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE counters SET log_floor = ?1, epoch_floor = ?2")
            .bind(floors.log)
            .bind(column(floors.epoch))
            .execute(&mut self.connection)
            .await
            .map(drop)
    }
}
