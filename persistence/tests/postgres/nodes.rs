//! Several nodes at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bongsu_persistence::store::{Appended, Removal, Store};
use futures_util::future::join_all;

use crate::support::{Dice, append, database, log, message, open, topic};

const TOPICS: usize = 8;

fn name(n: usize) -> String {
    format!("t{n}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_append_to_the_same_topics_neither_deadlock_nor_leave_holes() {
    let url = database();
    let mut tasks = Vec::new();
    for node in 0..3_u64 {
        let store = Arc::new(open(&url).await);
        for lane in 0..4_u64 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let mut dice = Dice::new(node * 10 + lane);
                let mut stored = Vec::new();
                for round in 0..40 {
                    let batch = (0..1 + dice.below(12))
                        .map(|n| {
                            // Some with ids of their own, so that ids are written in different orders as well.
                            let payload = format!("{node}/{lane}/{round}/{n}");
                            let id = if dice.below(2) == 0 { payload.clone() } else { String::new() };
                            message(&name(dice.below(TOPICS)), &payload, &id)
                        })
                        .collect();
                    // An error of any kind is none that may happen here: a deadlock would be tried again only so often.
                    stored.extend(store.append(batch).await.unwrap());
                }
                stored
            }));
        }
    }
    let mut expected: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for task in tasks {
        for outcome in task.await.unwrap() {
            let Appended::Stored(delivery) = outcome else { panic!("{outcome:?}") };
            let payload = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
            let log = expected.entry(delivery.topic.as_str().to_owned()).or_default();
            assert!(
                log.insert(delivery.position.unwrap().offset.0, payload).is_none(),
                "an offset was given twice"
            );
        }
    }
    let store = open(&url).await;
    for (topic, expected) in expected {
        assert_eq!(log(&store, &topic).await, expected, "{topic}");
    }
    assert!(!deadlocked(&url), "a deadlock was resolved by the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn logs_that_are_deleted_meanwhile_are_made_anew_by_whoever_appends() {
    let url = database();
    let stores = join_all((0..3).map(|_| open(&url))).await;
    let publish = stores.iter().enumerate().map(|(node, store)| async move {
        let mut dice = Dice::new(node as u64);
        for _ in 0..60 {
            let batch = (0..4).map(|_| message(&name(dice.below(3)), "x", "")).collect();
            store.append(batch).await.unwrap();
        }
    });
    let delete = async {
        for round in 0..60 {
            stores[0].remove(Removal::Delete { topic: topic(&name(round % 3)) }).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    futures_util::future::join(join_all(publish), delete).await;
    for n in 0..3 {
        log(&stores[0], &name(n)).await;
    }
    assert!(!deadlocked(&url), "a deadlock was resolved by the server");
}

#[tokio::test]
async fn an_id_guards_across_nodes() {
    let url = database();
    let (one, other) = (open(&url).await, open(&url).await);
    let batch = || vec![message("t", "a", "x")];
    let outcomes = join_all([one.append(batch()), other.append(batch()), one.append(batch())]).await;
    let n_stored =
        outcomes.iter().filter(|outcome| matches!(outcome.as_ref().unwrap()[0], Appended::Stored(_))).count();
    assert_eq!(n_stored, 1);
}

#[tokio::test]
async fn a_node_finds_out_that_another_deleted_a_log() {
    let url = database();
    let (one, other) = (open(&url).await, open(&url).await);
    let before = append(&one, "t", "a").await.unwrap();
    other.remove(Removal::Delete { topic: topic("t") }).await.unwrap();
    let after = append(&one, "t", "b").await.unwrap();
    assert!(after.epoch > before.epoch);
    assert_eq!(after.offset.0, 1);
}

/// Whether the server says that it ended a transaction of this database to resolve a deadlock.
fn deadlocked(url: &str) -> bool {
    let name = url.rsplit_once('/').unwrap().1;
    let question = format!("select deadlocks from pg_stat_database where datname = '{name}'");
    bongsu_testkit::Postgres::shared().sql(&question).trim() != "0"
}
