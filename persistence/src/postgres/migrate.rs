//! Bringing the schema up to date, by one node at a time.

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use super::errors::classify;
use crate::store::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The advisory lock under which one node changes the schema while others wait: a number that nobody else is likely to use. It belongs
/// to the transaction, so it also holds through a proxy that pools transactions.
const LOCK: &str = "select pg_advisory_xact_lock(4778914503721118)";

/// What marks the schema as ours, with the versions that were applied.
const TABLE: &str = "create table bongsu.migrations (
    version bigint primary key,
    description text not null,
    checksum text not null,
    applied timestamptz not null default clock_timestamp()
)";

/// Applies what is missing, all of it in one transaction. A schema that is up to date is only looked at, so that a role which may not
/// change it can use it.
///
/// Not by sqlx's own runner: it holds its lock in the session, and prepares statements, and neither works through a proxy that pools
/// transactions.
pub(super) async fn run(connection: &mut PgConnection, server: &str) -> Result<(), Error> {
    let failed = |error: sqlx::Error| classify(server, &error);
    if missing(connection, server).await?.is_empty() {
        return Ok(());
    }
    connection.execute(sqlx::raw_sql("begin isolation level read committed")).await.map_err(failed)?;
    // Others may hold the lock for as long as their migrations take. Both hold for this transaction only.
    let begin =
        format!("set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0; {LOCK}");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(begin))).await.map_err(failed)?;
    // Looked at again: somebody else may have been first.
    for index in missing(connection, server).await? {
        let migration = &MIGRATIONS.migrations[index];
        if index == 0 {
            let schema = format!("create schema if not exists bongsu; {TABLE}");
            connection.execute(sqlx::raw_sql(AssertSqlSafe(schema))).await.map_err(failed)?;
        }
        connection.execute(sqlx::raw_sql(migration.sql.clone())).await.map_err(failed)?;
        let note = format!(
            "insert into bongsu.migrations (version, description, checksum) values ({}, '{}', '{}')",
            migration.version,
            migration.description,
            hex(&migration.checksum)
        );
        connection.execute(sqlx::raw_sql(AssertSqlSafe(note))).await.map_err(failed)?;
    }
    connection.execute(sqlx::raw_sql("commit")).await.map(drop).map_err(failed)
}

/// Which migrations are missing, by their index; an error if the schema is not one of ours, or of a later version.
async fn missing(connection: &mut PgConnection, server: &str) -> Result<Vec<usize>, Error> {
    let failed = |error: sqlx::Error| classify(server, &error);
    let found = "select (to_regnamespace('bongsu') is not null)::text, (to_regclass('bongsu.migrations') is not null)::text,
        (select count(*)::text from pg_class where relnamespace = to_regnamespace('bongsu'))";
    let row = connection.fetch_one(sqlx::raw_sql(found)).await.map_err(failed)?;
    let text = |row: &PgRow, index: usize| row.try_get::<String, _>(index).map_err(failed);
    if text(&row, 1)? != "true" {
        if text(&row, 0)? == "true" && text(&row, 2)? != "0" {
            return Err(Error::Corrupt(format!("{server}: the schema `bongsu` is of another application")));
        }
        return Ok((0..MIGRATIONS.migrations.len()).collect());
    }
    let applied = "select version::text, checksum from bongsu.migrations order by version";
    let rows = connection.fetch_all(sqlx::raw_sql(applied)).await.map_err(failed)?;
    for row in &rows {
        let version = text(row, 0)?;
        let Some(known) = MIGRATIONS.iter().find(|migration| migration.version.to_string() == version) else {
            let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
            return Err(Error::Corrupt(format!(
                "{server} was written by a newer version: its schema is {version}, this version knows up to {newest}"
            )));
        };
        if hex(&known.checksum) != text(row, 1)? {
            return Err(Error::Corrupt(format!(
                "{server} has a schema {version} that differs from this version's; it was made by an unreleased version"
            )));
        }
    }
    Ok((rows.len()..MIGRATIONS.migrations.len()).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
