//! Opening the file: one owner, the right settings, the schema of this version.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use super::errors::classify;
use super::{SqliteOptions, Synchronous};
use crate::store::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Marks the file as ours (`PRAGMA application_id`): "BONG" in ASCII. A file of another application is refused.
const APPLICATION_ID: i64 = 0x424f_4e47;

/// How long SQLite itself waits for a lock. Nobody else opens the file for writing, except a person with the `sqlite3` tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps other processes from opening the file as a store, for as long as it lives.
///
/// The lock is on a file beside the database: closing any descriptor of the database file would take away SQLite's own locks.
/// The operating system drops it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the database at a canonical path.
    fn take(path: &Path) -> Result<Self, Error> {
        let lock_path = beside(path, "-lock");
        let failed = |error: std::io::Error| {
            Error::Unavailable(format!("{} cannot be opened: {error}", lock_path.display()))
        };
        let file =
            File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
                "{} is in use by another process; one node owns it",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// Takes the lock and opens the connection that writes, with the schema up to date. Also answers the canonical path.
pub(super) async fn open(options: &SqliteOptions) -> Result<(Lock, PathBuf, SqliteConnection), Error> {
    let unavailable =
        |error| Error::Unavailable(format!("{} cannot be opened: {error}", options.path.display()));
    // Two names of one file must meet in one lock, and only a file that exists has a canonical name.
    if !options.path.exists() {
        File::options().create(true).truncate(false).write(true).open(&options.path).map_err(unavailable)?;
    }
    let path = options.path.canonicalize().map_err(unavailable)?;
    let lock = Lock::take(&path)?;
    let failed = |error: sqlx::Error| classify(&path, &error);
    // Before anything is written: opening for writing turns a file into one with a write-ahead log.
    check_owner(&path).await?;
    let mut connection = writer_options(&path, options.synchronous).connect().await.map_err(failed)?;
    check_settings(&mut connection, &path, options.synchronous).await?;
    if pragma(&mut connection, "application_id").await.map_err(failed)? != APPLICATION_ID {
        let mark = AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}"));
        connection.execute(mark).await.map_err(failed)?;
    }
    migrate(&mut connection, &path).await?;
    if let Some(bytes_max) = options.bytes_max {
        let page_bytes = pragma(&mut connection, "page_size").await.map_err(failed)?.max(1);
        let pages_max = i64::try_from(bytes_max).unwrap_or(i64::MAX) / page_bytes;
        // SQLite's own largest value is 2^32 - 2.
        let pages_max = pages_max.clamp(1, i64::from(u32::MAX) - 1);
        connection
            .execute(AssertSqlSafe(format!("PRAGMA max_page_count = {pages_max}")))
            .await
            .map_err(failed)?;
    }
    Ok((lock, path, connection))
}

/// What all connections have in common.
fn common_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false)
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

/// The settings of the connection that writes.
pub(super) fn writer_options(path: &Path, synchronous: Synchronous) -> SqliteConnectOptions {
    let synchronous = match synchronous {
        Synchronous::Full => SqliteSynchronous::Full,
        Synchronous::Normal => SqliteSynchronous::Normal,
    };
    common_options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        // Negative: KiB. 4 MiB hold the tails of a thousand logs, so that an append seldom reads.
        .pragma("cache_size", "-4096")
}

/// The settings of the connections that read.
pub(super) fn reader_options(path: &Path) -> SqliteConnectOptions {
    common_options(path).read_only(true).pragma("cache_size", "-1024")
}

async fn pragma(connection: &mut SqliteConnection, name: &str) -> Result<i64, sqlx::Error> {
    connection.fetch_one(AssertSqlSafe(format!("PRAGMA {name}"))).await?.try_get(0)
}

/// Asks SQLite whether the settings that durability rests on are in effect. They are not where a file system lacks what a
/// write-ahead log needs; then nothing may be acknowledged.
async fn check_settings(
    connection: &mut SqliteConnection,
    path: &Path,
    synchronous: Synchronous,
) -> Result<(), Error> {
    let failed = |error: sqlx::Error| classify(path, &error);
    let journal: String =
        connection.fetch_one("PRAGMA journal_mode").await.and_then(|row| row.try_get(0)).map_err(failed)?;
    let found = pragma(connection, "synchronous").await.map_err(failed)?;
    let wanted = match synchronous {
        Synchronous::Normal => 1,
        Synchronous::Full => 2,
    };
    if journal != "wal" || found != wanted {
        return Err(Error::Unavailable(format!(
            "{}: the file system does not support what durability needs (journal_mode is {journal} instead of wal, \
             synchronous is {found} instead of {wanted})",
            path.display()
        )));
    }
    Ok(())
}

/// Refuses the database of another application, by reading only. An empty one may become ours.
async fn check_owner(path: &Path) -> Result<(), Error> {
    let failed = |error: sqlx::Error| classify(path, &error);
    let mut connection = reader_options(path).connect().await.map_err(failed)?;
    let found = pragma(&mut connection, "application_id").await.map_err(failed)?;
    let row = connection.fetch_one("SELECT count(*) FROM sqlite_schema").await.map_err(failed)?;
    let n_tables: i64 = row.try_get(0).map_err(failed)?;
    connection.close().await.map_err(failed)?;
    if found == APPLICATION_ID || (found == 0 && n_tables == 0) {
        return Ok(());
    }
    Err(Error::Corrupt(format!("{} is the database of another application", path.display())))
}

async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let file = path.display();
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => {
            let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
            Error::Corrupt(format!(
                "{file} was written by a newer version: its schema is {version}, this version knows up to {newest}"
            ))
        }
        MigrateError::VersionMismatch(version) => Error::Corrupt(format!(
            "{file} has a schema {version} that differs from this version's; it was made by an unreleased version"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => classify(path, &error),
        other => Error::Corrupt(format!("{file}: its schema cannot be brought up to date: {other}")),
    })
}

/// The path with something appended to the file's name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
