//! Opening: one schema, whoever is first, and nobody else's.

use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::store::{Error, Store};
use futures_util::future::{join_all, try_join_all};

use crate::support::{append, count, database, log, message, open, run, texts, tool};

async fn refused(options: PostgresOptions) -> Error {
    PostgresStore::open(options).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn eight_nodes_that_start_at_once_make_one_schema() {
    let url = database();
    let stores = try_join_all((0..8).map(|_| PostgresStore::open(PostgresOptions::new(&url)))).await.unwrap();
    let appends = join_all(stores.iter().map(|store| append(store, "t", "x"))).await;
    let mut offsets: Vec<u64> = appends.into_iter().map(|position| position.unwrap().offset.0).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=8).collect::<Vec<_>>());
    let mut tool = tool(&url).await;
    let versions = texts(&mut tool, "select version::text from bongsu.migrations order by version").await;
    assert_eq!(versions, ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn a_store_that_is_opened_again_has_everything() {
    let url = database();
    let store = open(&url).await;
    store.append(vec![message("t", "a", "x"), message("t", "b", "")]).await.unwrap();
    store.close().await;
    let store = open(&url).await;
    let again = store.append(vec![message("t", "a", "x")]).await.unwrap();
    assert!(
        matches!(again[0], bongsu_persistence::store::Appended::Duplicate(position) if position.offset.0 == 1)
    );
    assert_eq!(log(&store, "t").await.into_values().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn a_closed_store_refuses() {
    let store = open(&database()).await;
    store.close().await;
    store.close().await;
    let error = append(&store, "t", "x").await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("was closed")), "{error}");
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused_and_left_alone() {
    let url = database();
    open(&url).await.close().await;
    let mut tool = tool(&url).await;
    run(&mut tool, "insert into bongsu.migrations values (99, 'newer', '00')").await;
    let error = refused(PostgresOptions::new(&url)).await;
    assert!(
        matches!(&error, Error::Corrupt(text) if text.contains("newer version: its schema is 99")),
        "{error}"
    );
    assert_eq!(count(&mut tool, "select count(*) from bongsu.migrations").await, 7);
}

#[tokio::test]
async fn a_schema_that_was_changed_is_refused() {
    let url = database();
    open(&url).await.close().await;
    run(&mut tool(&url).await, "update bongsu.migrations set checksum = '00' where version = 2").await;
    let error = refused(PostgresOptions::new(&url)).await;
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("unreleased version")), "{error}");
}

#[tokio::test]
async fn a_schema_of_another_application_is_refused_and_left_alone() {
    let url = database();
    let mut tool = tool(&url).await;
    run(&mut tool, "create schema bongsu; create table bongsu.recipes (name text)").await;
    let error = refused(PostgresOptions::new(&url)).await;
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("another application")), "{error}");
    let tables = texts(&mut tool, "select tablename::text from pg_tables where schemaname = 'bongsu'").await;
    assert_eq!(tables, ["recipes"]);
}

#[tokio::test]
async fn a_database_that_lacks_characters_is_refused() {
    let url = database();
    let mut tool = tool(&url).await;
    run(&mut tool, "create database latin encoding 'LATIN1' template template0").await;
    let (server, _) = url.rsplit_once('/').unwrap();
    let error = refused(PostgresOptions::new(format!("{server}/latin"))).await;
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("encoding is LATIN1")), "{error}");
}

#[tokio::test]
async fn commits_are_on_the_disk_whatever_the_role_says() {
    let url = database();
    let mut tool = tool(&url).await;
    let name = url.rsplit_once('/').unwrap().1;
    run(&mut tool, &format!("alter database {name} set synchronous_commit = off")).await;
    let store = open(&url).await;
    append(&store, "t", "x").await.unwrap();
    // A store that cannot change it for its sessions does not open.
    let error = refused(PostgresOptions { pooler: true, ..PostgresOptions::new(&url) }).await;
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains("synchronous_commit is off")),
        "{error}"
    );
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_without_secrets() {
    let url = database().replace("postgres@", "nobody:secret@");
    for url in [url.as_str(), "postgres://me:secret@127.0.0.1:1/db"] {
        let error = refused(PostgresOptions::new(url)).await;
        assert!(
            matches!(&error, Error::Unavailable(text) if text.contains("127.0.0.1") && !text.contains("secret")),
            "{error}"
        );
    }
}
