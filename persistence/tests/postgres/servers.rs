//! Servers that die, hang, lag and give their place to others.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::store::{Error, Store};
use bongsu_protocol::command::{HistoryRange, Start};
use bongsu_testkit::Postgres;

use crate::support::{append, count, database, eventually, log, open, read, run, tool};

/// Publishers that go on whatever happens, and what was acknowledged to them.
async fn publish_until(
    store: &Arc<PostgresStore>,
    done: tokio::sync::watch::Receiver<bool>,
) -> Vec<(String, u64, String)> {
    let publishers = (0..4_usize).map(|publisher| {
        let (store, done) = (store.clone(), done.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                if *done.borrow() {
                    break;
                }
                let (topic, payload) = (format!("t{}", (publisher + n) % 3), format!("{publisher}/{n}"));
                match append(&store, &topic, &payload).await {
                    Ok(position) => acknowledged.push((topic, position.offset.0, payload)),
                    Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
            acknowledged
        })
    });
    let mut acknowledged = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        acknowledged.extend(publisher.await.unwrap());
    }
    acknowledged
}

async fn has_all(store: &PostgresStore, acknowledged: &[(String, u64, String)]) {
    for name in ["t0", "t1", "t2"] {
        let log = log(store, name).await;
        for (_, offset, payload) in acknowledged.iter().filter(|(topic, ..)| topic == name) {
            assert_eq!(log.get(offset), Some(payload), "{name} {offset} was acknowledged");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_death_of_the_server_and_the_store_goes_on() {
    let server = Arc::new(Postgres::start());
    let store = Arc::new(open(&server.url()).await);
    let (end, done) = tokio::sync::watch::channel(false);
    let publishing = tokio::spawn({
        let store = store.clone();
        async move { publish_until(&store, done).await }
    });
    for _ in 0..3 {
        let head = async || append(&store, "beat", "x").await.ok().map(|position| position.offset.0);
        let before = eventually("an append", head).await;
        eventually("more appends", async || head().await.filter(|now| *now > before + 5)).await;
        let dying = server.clone();
        tokio::task::spawn_blocking(move || {
            dying.kill();
            dying.start_again();
        })
        .await
        .unwrap();
    }
    eventually("an append", async || append(&store, "beat", "x").await.ok()).await;
    end.send_replace(true);
    let acknowledged = publishing.await.unwrap();
    assert!(acknowledged.len() > 20, "{} were acknowledged", acknowledged.len());
    has_all(&store, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_was_promoted_takes_over_with_everything_that_was_acknowledged() {
    let primary = Postgres::start();
    let standby = primary.standby();
    // The standby stands first, and is not taken while it is one.
    let url =
        format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", standby.port(), primary.port());
    let options = PostgresOptions { deadline: Duration::from_secs(3), ..PostgresOptions::new(url) };
    let store = Arc::new(PostgresStore::open(options).await.unwrap());
    let (end, done) = tokio::sync::watch::channel(false);
    let publishing = tokio::spawn({
        let store = store.clone();
        async move { publish_until(&store, done).await }
    });
    for _ in 0..20 {
        append(&store, "beat", "x").await.unwrap();
    }
    let mark = store.changes(None).await.unwrap().mark;
    let standby = tokio::task::spawn_blocking(move || {
        primary.kill();
        standby.promote();
        // It stood by synchronously for nobody.
        standby.forget_standby();
        (standby, primary)
    })
    .await
    .unwrap();
    eventually("an append to the new primary", async || append(&store, "beat", "x").await.ok()).await;
    end.send_replace(true);
    has_all(&store, &publishing.await.unwrap()).await;
    // The new primary gives numbers anew that the old one may have given to others.
    assert!(!store.changes(Some(mark)).await.unwrap().complete);
    drop(standby);
}

#[tokio::test]
async fn a_server_that_became_read_only_is_asked_anew() {
    let url = database();
    let store = open(&url).await;
    append(&store, "t", "x").await.unwrap();
    let mut tool = tool(&url).await;
    let name = url.rsplit_once('/').unwrap().1;
    let sessions = "select pid::bigint from pg_stat_activity where application_name = 'bongsu' and datname = current_database()";
    let before = count(&mut tool, sessions).await;
    run(&mut tool, &format!("alter database {name} set default_transaction_read_only = on")).await;
    run(&mut tool, &format!("select pg_terminate_backend({before})")).await;
    let refused = eventually("a refusal", async || match append(&store, "t", "x").await {
        Err(Error::Unavailable(text)) if text.contains("read-only") => Some(text),
        _ => None,
    })
    .await;
    assert!(refused.contains("is no primary"), "{refused}");
    run(&mut tool, "set default_transaction_read_only = off").await;
    run(&mut tool, &format!("alter database {name} reset default_transaction_read_only")).await;
    // The session that was refused is gone, or it would be refused for ever.
    append(&store, "t", "x").await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_within_the_deadline_and_found_again() {
    let server = Postgres::start();
    let options = PostgresOptions { deadline: Duration::from_secs(1), ..PostgresOptions::new(server.url()) };
    let store = PostgresStore::open(options).await.unwrap();
    append(&store, "t", "a").await.unwrap();
    server.pause();
    let answer = tokio::time::timeout(Duration::from_secs(60), append(&store, "t", "b")).await;
    assert!(matches!(answer, Ok(Err(Error::Unavailable(_)))), "{answer:?}");
    server.resume();
    eventually("an append", async || append(&store, "t", "c").await.ok()).await;
    log(&store, "t").await;
}

#[tokio::test]
async fn a_lagging_replica_makes_no_page_claim_less_than_there_is() {
    let primary = Postgres::start();
    let replica = primary.standby();
    primary.forget_standby();
    let options = PostgresOptions { replica_url: Some(replica.url()), ..PostgresOptions::new(primary.url()) };
    let store = PostgresStore::open(options).await.unwrap();
    let mut on_replica = tool(&replica.url()).await;
    for n in 1..=10 {
        append(&store, "t", &n.to_string()).await.unwrap();
    }
    eventually("the replica", async || {
        (count(&mut on_replica, "select coalesce(max(head), 0) from bongsu.logs").await == 10).then_some(())
    })
    .await;
    let scans = "select coalesce(sum(idx_scan), 0)::bigint from pg_stat_user_tables where relname like 'messages\\__%'";
    assert_eq!(log(&store, "t").await.len(), 10);
    eventually("a read of the replica", async || (count(&mut on_replica, scans).await > 0).then_some(()))
        .await;
    run(&mut on_replica, "select pg_wal_replay_pause()").await;
    for n in 11..=15 {
        append(&store, "t", &n.to_string()).await.unwrap();
        append(&store, "new", "x").await.unwrap();
        assert_eq!(log(&store, "t").await.len(), n);
        let after = bongsu_protocol::position::Position::new(1000, n as u64 - 1);
        let page = read(&store, "t", HistoryRange::Forward(Start::After(after))).await.unwrap();
        assert_eq!((page.head.offset.0, page.messages.len()), (n as u64, 1));
    }
    assert_eq!(log(&store, "new").await.len(), 5);
    // Without any replica, the primary is enough.
    replica.kill();
    assert_eq!(log(&store, "t").await.len(), 15);
}
