//! Messages that applications publish in SQL.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bongsu_persistence::postgres::{PostgresStore, Route};
use bongsu_persistence::store::Store;
use bongsu_protocol::command::{HistoryRange, Start};
use bongsu_protocol::message::Delivery;
use bongsu_protocol::topic::Topic;
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{Dice, append, count, database, log, message, open, read, run, texts, tool};

const KEEP: Route = Route::Keep { idempotency_window: Duration::from_secs(60) };

/// Moves everything that is there.
async fn sequence(store: &PostgresStore) -> Vec<Arc<Delivery>> {
    let mut deliveries = Vec::new();
    loop {
        let sequenced = store.sequence_outbox(100, &|_| KEEP).await.unwrap();
        deliveries.extend(sequenced.deliveries);
        if !sequenced.more {
            return deliveries;
        }
    }
}

#[tokio::test]
async fn a_message_is_published_with_the_commit_and_never_after_a_rollback() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    run(&mut tool, "begin; select bongsu.publish('orders/42', 'paid')").await;
    assert_eq!(sequence(&store).await, []);
    run(&mut tool, "commit; begin; select bongsu.publish('orders/42', 'never'); rollback").await;
    run(
        &mut tool,
        "select bongsu.publish('orders/42', '{\"a\": 1}'::jsonb, id => 'x', headers => '{\"k\": \"v\"}')",
    )
    .await;
    run(&mut tool, "select bongsu.publish('orders/42', '\\x00ff'::bytea, 'application/octet-stream')").await;
    let deliveries = sequence(&store).await;
    let page = read(&store, "orders/42", HistoryRange::Forward(Start::Earliest)).await.unwrap();
    assert_eq!(page.messages, deliveries, "what is fanned out is what is stored");
    let payloads: Vec<&[u8]> = deliveries.iter().map(|delivery| &*delivery.message.payload).collect();
    assert_eq!(payloads, [b"paid".as_slice(), b"{\"a\": 1}", b"\x00\xff"]);
    let json = &deliveries[1].message;
    assert_eq!((json.content_type.as_str(), json.id.as_str()), ("application/json", "x"));
    assert_eq!(json.headers, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(deliveries[0].publisher, "postgres");
    assert_eq!(count(&mut tool, "select count(*) from bongsu.outbox").await, 0);
}

#[tokio::test]
async fn an_id_is_published_once() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    run(&mut tool, "select bongsu.publish('t', 'a', id => 'x'), bongsu.publish('t', 'a', id => 'x')").await;
    assert_eq!(sequence(&store).await.len(), 1);
    run(&mut tool, "select bongsu.publish('t', 'a', id => 'x')").await;
    assert_eq!(sequence(&store).await, []);
    assert_eq!(log(&store, "t").await.len(), 1);
}

#[tokio::test]
async fn what_another_publishes_after_a_commit_comes_after_it() {
    let url = database();
    let store = open(&url).await;
    let (mut one, mut other) = (tool(&url).await, tool(&url).await);
    run(&mut one, "begin; select bongsu.publish('t', 'begun first, committed last')").await;
    run(&mut other, "select bongsu.publish('t', 'committed')").await;
    let first = sequence(&store).await;
    run(&mut one, "commit").await;
    run(&mut other, "select bongsu.publish('t', 'after both')").await;
    let then = sequence(&store).await;
    let payloads: Vec<_> =
        first.iter().chain(&then).map(|delivery| delivery.message.payload.clone()).collect();
    assert_eq!(payloads, ["committed", "begun first, committed last", "after both"]);
}

#[tokio::test]
async fn a_message_of_a_live_topic_is_passed_on_and_not_kept() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    run(
        &mut tool,
        "select bongsu.publish('live', 'a'), bongsu.publish('kept', 'b'), bongsu.publish('live', 'c')",
    )
    .await;
    let route = |topic: &Topic| if topic.as_str() == "live" { Route::PassOn } else { KEEP };
    let sequenced = store.sequence_outbox(100, &route).await.unwrap();
    let seen: Vec<_> = sequenced
        .deliveries
        .iter()
        .map(|delivery| {
            (delivery.message.payload.clone(), delivery.position.map(|position| position.offset.0))
        })
        .collect();
    assert_eq!(seen, [("a".into(), None), ("b".into(), Some(1)), ("c".into(), None)]);
    assert_eq!(log(&store, "live").await.len(), 0);
}

#[tokio::test]
async fn what_is_no_message_is_refused_by_the_database() {
    let url = database();
    open(&url).await.close().await;
    let mut tool = tool(&url).await;
    for (call, why) in [
        ("'', 'x'", "at least one character"),
        ("'a//b', 'x'", "empty level"),
        ("'/a', 'x'", "empty level"),
        ("'a/#', 'x'", "filters"),
        ("'$sys/a', 'x'", "broker's own"),
        ("E'a\\u0085', 'x'", "control characters"),
        ("repeat('a', 256), 'x'", "255 bytes"),
        ("repeat('a/', 32) || 'a', 'x'", "32 levels"),
        ("'a', repeat('x', 1048577)", "1048576 bytes"),
        ("'a', null::text", "has a payload"),
        ("'a', 'x', 'é'", "content type"),
        ("'a', 'x', id => E'\\n'", "message id"),
        ("'a', 'x', id => repeat('x', 129)", "message id"),
        ("'a', 'x', headers => '{\"a\": 1}'", "header"),
        ("'a', 'x', headers => '[]'", "headers are an object"),
        ("'a', 'x', headers => jsonb_build_object('a', repeat('x', 8192))", "8192 bytes"),
    ] {
        let error = tool.execute(AssertSqlSafe(format!("select bongsu.publish({call})"))).await.unwrap_err();
        assert!(error.to_string().contains(why), "{call}: {error}");
    }
    for call in ["'봉수/烽燧', ''", "repeat('a', 255), repeat('x', 1048576)", "repeat('a/', 31) || 'a', 'x'"]
    {
        run(&mut tool, &format!("select bongsu.publish({call})")).await;
    }
    assert_eq!(count(&mut tool, "select count(*) from bongsu.outbox").await, 3);
}

#[tokio::test]
async fn an_application_needs_three_grants_and_can_do_nothing_else() {
    let url = database();
    let store = open(&url).await;
    let mut owner = tool(&url).await;
    let role = format!("app_{}", url.rsplit_once('/').unwrap().1);
    run(&mut owner, &format!("create role {role} login")).await;
    let mut application = tool(&url.replace("postgres@", &format!("{role}@"))).await;
    let publish = "select bongsu.publish('t', 'x')";
    assert!(application.execute(publish).await.is_err());
    run(
        &mut owner,
        &format!(
            "grant usage on schema bongsu to {role};
             grant execute on function bongsu.publish(text, text, text, text, jsonb) to {role};
             grant execute on function bongsu.position(text) to {role}"
        ),
    )
    .await;
    application.execute(publish).await.unwrap();
    assert_eq!(&*sequence(&store).await[0].publisher, role);
    let position = "select format('%s:%s', epoch > 0, \"offset\") from bongsu.position('t')";
    assert_eq!(texts(&mut application, position).await, ["t:1"]);
    assert_eq!(texts(&mut application, &position.replace("'t'", "'none'")).await, ["f:0"]);
    for forbidden in
        ["select * from bongsu.outbox", "select * from bongsu.messages", "select bongsu.forget_log('t')"]
    {
        let error = application.execute(forbidden).await.unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{forbidden}: {error}");
    }
}

#[tokio::test]
async fn a_position_is_of_the_snapshot_in_which_it_is_read() {
    let url = database();
    let store = open(&url).await;
    append(&store, "t", "1").await.unwrap();
    let mut tool = tool(&url).await;
    run(&mut tool, "begin isolation level repeatable read; select 1 from bongsu.position('t')").await;
    append(&store, "t", "2").await.unwrap();
    let offset = "select \"offset\" from bongsu.position('t')";
    assert_eq!(count(&mut tool, offset).await, 1);
    run(&mut tool, "commit").await;
    assert_eq!(count(&mut tool, offset).await, 2);
}

#[tokio::test]
async fn a_commit_that_published_wakes_whoever_listens() {
    let url = database();
    let store = open(&url).await;
    let mut notifications = store.listen().await.unwrap().unwrap();
    let mut tool = tool(&url).await;
    run(&mut tool, "begin; select bongsu.publish('t', 'x'); rollback").await;
    run(&mut tool, "begin; select bongsu.publish('t', 'y'); select bongsu.publish('t', 'z'); commit").await;
    tokio::time::timeout(Duration::from_secs(60), notifications.next()).await.unwrap().unwrap();
    assert_eq!(sequence(&store).await.len(), 2);
}

/// 16 transactions at a time over 8 topics in random order, some rolled back, against 3 stores that publish to the same topics and move
/// what the transactions publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_and_nodes_in_any_order_neither_deadlock_nor_lose_nor_repeat() {
    const TOPICS: usize = 8;
    let url = database();
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(open(&url).await));
    }
    let n_running = Arc::new(AtomicUsize::new(16));
    let mut applications = Vec::new();
    for application in 0..16_u64 {
        let (mut tool, n_running) = (tool(&url).await, n_running.clone());
        applications.push(tokio::spawn(async move {
            let mut dice = Dice::new(application);
            let mut committed = Vec::new();
            for round in 0..20 {
                let mut published = Vec::new();
                run(&mut tool, "begin").await;
                for n in 0..1 + dice.below(6) {
                    let (topic, payload) =
                        (format!("t{}", dice.below(TOPICS)), format!("sql/{application}/{round}/{n}"));
                    run(&mut tool, &format!("select bongsu.publish('{topic}', '{payload}')")).await;
                    published.push((topic, payload));
                }
                if dice.below(3) == 0 {
                    run(&mut tool, "rollback").await;
                } else {
                    run(&mut tool, "commit").await;
                    committed.extend(published);
                }
            }
            n_running.fetch_sub(1, Ordering::SeqCst);
            committed
        }));
    }
    let mut nodes = Vec::new();
    for (node, store) in stores.iter().enumerate() {
        let (publisher, n_left) = (store.clone(), n_running.clone());
        nodes.push(tokio::spawn(async move {
            let mut dice = Dice::new(100 + node as u64);
            let mut stored = Vec::new();
            for round in 0.. {
                if n_left.load(Ordering::SeqCst) == 0 {
                    break;
                }
                let batch: Vec<_> = (0..1 + dice.below(8))
                    .map(|n| {
                        message(&format!("t{}", dice.below(TOPICS)), &format!("node/{node}/{round}/{n}"), "")
                    })
                    .collect();
                stored.extend(batch.iter().map(|one| {
                    let payload = String::from_utf8(one.message.message.payload.to_vec()).unwrap();
                    (one.message.topic.as_str().to_owned(), payload)
                }));
                publisher.append(batch).await.unwrap();
            }
            stored
        }));
        let (sequencer, n_left) = (store.clone(), n_running.clone());
        nodes.push(tokio::spawn(async move {
            while n_left.load(Ordering::SeqCst) > 0 {
                sequencer.sequence_outbox(50, &|_| KEEP).await.unwrap();
            }
            Vec::new()
        }));
    }
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for task in applications.into_iter().chain(nodes) {
        for (topic, payload) in task.await.unwrap() {
            expected.entry(topic).or_default().push(payload);
        }
    }
    sequence(&stores[0]).await;
    for (topic, mut expected) in expected {
        let log = log(&stores[0], &topic).await;
        check_order(log.values());
        let mut found: Vec<String> = log.into_values().collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{topic}");
    }
    let name = url.rsplit_once('/').unwrap().1;
    let deadlocks = format!("select deadlocks from pg_stat_database where datname = '{name}'");
    assert_eq!(bongsu_testkit::Postgres::shared().sql(&deadlocks).trim(), "0");
}

/// Each publisher's messages are in the order in which it published them.
fn check_order<'a>(payloads: impl Iterator<Item = &'a String>) {
    let mut last: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for payload in payloads {
        let mut parts = payload.split('/');
        let who = format!("{}/{}", parts.next().unwrap(), parts.next().unwrap());
        let place: Vec<usize> = parts.map(|part| part.parse().unwrap()).collect();
        let before = last.insert(who, place.clone());
        assert!(before.is_none_or(|before| before < place), "{payload} came too late");
    }
}
