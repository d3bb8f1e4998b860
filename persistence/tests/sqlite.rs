//! What only the SQLite store has: a file, its owner, its settings, and what can go wrong with them.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bongsu_persistence::sqlite::{SqliteOptions, SqliteStore, Synchronous};
use bongsu_persistence::store::{Append, Appended, Error, Removal, Retention, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::topic::Topic;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bongsu.db");
    (folder, path)
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(SqliteOptions::new(path)).await.unwrap()
}

async fn refused(options: SqliteOptions) -> Error {
    SqliteStore::open(options).await.map(drop).unwrap_err()
}

fn topic() -> Topic {
    Topic::parse("t").unwrap()
}

fn message(payload: impl Into<Vec<u8>>, id: &str) -> Append {
    let message = Message { id: id.to_owned(), ..Message::new(payload.into()) };
    Append {
        message: NewMessage { topic: topic(), message, expect: None },
        publisher: String::new(),
        time: Time(1000),
        idempotency_window: Duration::from_secs(60),
    }
}

async fn all(store: &SqliteStore) -> Page {
    let range = HistoryRange::Forward(Start::Earliest);
    store.read(HistoryQuery { topic: topic(), range, limit: 1000 }).await.unwrap()
}

/// The file as another program sees it.
async fn tool(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

async fn count(path: &Path, table: &str) -> i64 {
    let mut connection = tool(path).await;
    let row = connection.fetch_one(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).await.unwrap();
    connection.close().await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_file_that_is_opened_again_has_everything() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let outcomes = store.append(vec![message("a", "x"), message("b", "")]).await.unwrap();
    let before = all(&store).await;
    store.close().await;
    let store = open(&path).await;
    assert_eq!(all(&store).await, before);
    let Appended::Stored(first) = &outcomes[0] else { panic!("{outcomes:?}") };
    let again = store.append(vec![message("a", "x"), message("c", "")]).await.unwrap();
    assert_eq!(again[0], Appended::Duplicate(first.position.unwrap()));
    assert!(matches!(&again[1], Appended::Stored(delivery) if delivery.position.unwrap().offset.0 == 3));
}

#[tokio::test]
async fn epochs_grow_though_the_file_was_opened_again_and_the_clock_went_back() {
    let (_folder, path) = folder();
    let mut last = 0;
    for time in [1000, 500, 0] {
        let store = open(&path).await;
        store.append(vec![Append { time: Time(time), ..message("a", "") }]).await.unwrap();
        let page = all(&store).await;
        assert!(page.head.epoch.0 > last, "{} after {last}", page.head.epoch.0);
        assert_eq!(page.messages.len(), 1);
        last = page.head.epoch.0;
        store.remove(Removal::Delete { topic: topic() }).await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn a_second_owner_is_refused_while_the_first_lives() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let error = refused(SqliteOptions::new(&path)).await;
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("bongsu.db is in use")), "{error}");
    // Another name of the same file is the same file.
    let link = path.with_file_name("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = refused(SqliteOptions::new(&link)).await;
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("in use")), "{error}");
    store.close().await;
    open(&link).await.close().await;
}

#[tokio::test]
async fn a_closed_store_refuses() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    store.close().await;
    store.close().await;
    let error = store.append(vec![message("a", "")]).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("was closed")), "{error}");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_open_transaction() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    for _ in 0..20 {
        let append = store.append(vec![message("a", ""); 50]);
        // Gone while the work runs, at some point of it.
        let _ = tokio::time::timeout(Duration::from_micros(300), append).await;
    }
    store.append(vec![message("a", "")]).await.unwrap();
    let n_messages = all(&store).await.head.offset.0;
    assert_eq!(n_messages % 50, 1, "each batch was stored wholly or not at all");
}

#[tokio::test]
async fn durability_settings_are_in_effect() {
    let (_folder, path) = folder();
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        // Opening fails unless SQLite itself says that they are; here is what the file says.
        let store =
            SqliteStore::open(SqliteOptions { synchronous, ..SqliteOptions::new(&path) }).await.unwrap();
        store.append(vec![message("a", "")]).await.unwrap();
        let mut connection = tool(&path).await;
        let journal: String = connection.fetch_one("PRAGMA journal_mode").await.unwrap().get(0);
        assert_eq!(journal, "wal");
        assert!(path.with_file_name("bongsu.db-wal").metadata().unwrap().len() > 0);
        connection.close().await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    open(&path).await.close().await;
    let mut connection = tool(&path).await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'newer', 1, x'00', 0)";
    connection.execute(newer).await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = refused(SqliteOptions::new(&path)).await;
    assert!(
        matches!(&error, Error::Corrupt(text) if text.contains("newer version: its schema is 99")),
        "{error}"
    );
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn the_database_of_another_application_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    let mut connection =
        SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await.unwrap();
    connection.execute("CREATE TABLE recipes (name TEXT)").await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = refused(SqliteOptions::new(&path)).await;
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("another application")), "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    let text = "Dear diary, ".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let error = refused(SqliteOptions::new(&path)).await;
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("not an SQLite database")), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_damaged_file_is_told_apart_from_a_busy_one() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    store.append(vec![message(vec![b'x'; 3000], ""); 50]).await.unwrap();
    store.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    // All pages but the first, which has the schema.
    bytes[4096..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let error = match SqliteStore::open(SqliteOptions::new(&path)).await {
        Err(error) => error,
        Ok(store) => store.append(vec![message("a", "")]).await.unwrap_err(),
    };
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("bongsu.db is damaged")), "{error}");
}

#[tokio::test]
async fn a_missing_message_is_corruption_and_no_short_page() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    store.append(vec![message("a", ""); 5]).await.unwrap();
    let mut connection = tool(&path).await;
    connection.execute("DELETE FROM messages WHERE offset = 3").await.unwrap();
    connection.close().await.unwrap();
    let range = HistoryRange::Forward(Start::Earliest);
    let error = store.read(HistoryQuery { topic: topic(), range, limit: 10 }).await.unwrap_err();
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("no message at offset 3")), "{error}");
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_named() {
    let (_folder, path) = folder();
    let error = refused(SqliteOptions::new(path.join("below/bongsu.db"))).await;
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains("below/bongsu.db cannot be opened")),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_disk_fails_appends_until_there_is_room_again() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(SqliteOptions { bytes_max: Some(1 << 20), ..SqliteOptions::new(&path) })
        .await
        .unwrap();
    let batch = || vec![message(vec![b'x'; 10_000], ""); 20];
    let mut n_stored = 0;
    let error = loop {
        match store.append(batch()).await {
            Ok(outcomes) => n_stored += outcomes.len() as u64,
            Err(error) => break error,
        }
        assert!(n_stored < 200, "the bound does not bind");
    };
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("no room left")), "{error}");
    assert_eq!(all(&store).await.head.offset.0, n_stored, "nothing of the failed batch");
    let retention = Retention { count: Some(10), ..Retention::default() };
    store.remove(Removal::Retain { topic: topic(), retention, now: Time(0) }).await.unwrap();
    let outcomes = store.append(batch()).await.unwrap();
    assert!(
        matches!(&outcomes[0], Appended::Stored(delivery) if delivery.position.unwrap().offset.0 == n_stored + 1)
    );
}

#[tokio::test]
async fn somebody_elses_lock_is_waited_for() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    let mut connection = tool(&path).await;
    connection.execute("BEGIN IMMEDIATE").await.unwrap();
    let appended = tokio::join!(store.append(vec![message("a", "")]), async {
        tokio::task::yield_now().await;
        connection.execute("COMMIT").await.unwrap();
    });
    assert!(appended.0.is_ok());
}

#[tokio::test]
async fn an_erased_payload_is_nowhere_in_the_files() {
    let (folder, path) = folder();
    let store = open(&path).await;
    // One within a page, and one that has pages of its own.
    let secrets = ["the small secret ".repeat(3), "the large secret ".repeat(3000)];
    for secret in &secrets {
        store
            .append(vec![message("before", ""), message(secret.as_str(), ""), message("after", "")])
            .await
            .unwrap();
    }
    let find = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let contents: Vec<u8> = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        ["small", "large"].map(|which| {
            let needle = format!("the {which} secret");
            contents.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
    };
    assert_eq!(find(), [true, true]);
    let messages = all(&store).await.messages;
    for index in [1, 4] {
        let position = messages[index].position.unwrap();
        assert_eq!(store.remove(Removal::Erase { topic: topic(), position }).await.unwrap().count, 1);
    }
    assert_eq!(find(), [false, false]);
}

#[tokio::test]
async fn rows_of_deleted_logs_go_by_themselves_also_after_a_restart() {
    let (_folder, path) = folder();
    let store = open(&path).await;
    store.append(vec![message("a", ""); 3000]).await.unwrap();
    store.remove(Removal::Delete { topic: topic() }).await.unwrap();
    // At most a few steps were made until here.
    store.close().await;
    let store = open(&path).await;
    store.append(vec![message("b", "")]).await.unwrap();
    while count(&path, "dead_logs").await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&path, "messages").await, 1);
    assert_eq!(all(&store).await.messages.len(), 1);
}

#[tokio::test]
async fn ids_past_the_room_in_memory_still_guard() {
    let (_folder, path) = folder();
    let options = SqliteOptions { ids_in_memory_max: 10, ..SqliteOptions::new(&path) };
    let store = SqliteStore::open(options.clone()).await.unwrap();
    for n in 0..30 {
        store.append(vec![message("a", &n.to_string())]).await.unwrap();
    }
    assert!(count(&path, "old_ids").await > 0);
    store.close().await;
    let store = SqliteStore::open(options).await.unwrap();
    for n in 0..30 {
        let outcomes = store.append(vec![message("a", &n.to_string())]).await.unwrap();
        assert!(matches!(outcomes[0], Appended::Duplicate(position) if position.offset.0 == n + 1), "{n}");
    }
    while store.remove(Removal::ForgetIds { now: Time(61_000) }).await.unwrap().more {}
    assert_eq!(count(&path, "ids").await + count(&path, "old_ids").await, 0);
}
