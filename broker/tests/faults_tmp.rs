//! What users were promised, while things go wrong.
#![expect(clippy::unwrap_used, reason = "a test fails where one does")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Broker, Client};

/// Rounds of publishing, each ended by `kill -9`.
const ROUNDS: u64 = 20;

/// Offset and number of each message that a reader got.
type Record = Vec<(u64, u64)>;

fn entry(delivery: &Value) -> (u64, u64) {
    (delivery["offset"].as_u64().unwrap(), delivery["data"].as_u64().unwrap())
}

/// Reads until the connection is over, or until `last` came.
async fn read(client: &mut Client, record: &mut Record, last: Option<u64>) {
    while last.is_none_or(|last| record.last().is_none_or(|(_, number)| *number != last)) {
        match client.event().await {
            Some(event) if event.get("delivery").is_some() => record.push(entry(&event["delivery"])),
            Some(event) => {
                assert!(event.get("reply").is_some() || event.get("heartbeat").is_some(), "{event}")
            }
            None => return,
        }
    }
}

/// Where a reader goes on.
fn after(epoch: &Value, record: &Record) -> Value {
    match record.last() {
        Some((offset, _)) => json!({ "after": { "epoch": epoch, "offset": offset } }),
        None => json!("earliest"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_messages_survive_kill_9_and_readers_resume() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), &[]);
    let address = broker.address;
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    let mut records: [Record; 2] = Default::default();
    let mut epoch = Value::Null;
    let mut n_published = 0;
    for round in 0..ROUNDS {
        let mut publisher = broker.connect().await;
        let mut readers = Vec::new();
        for record in &mut records {
            let mut reader = broker.connect().await;
            let from = after(&epoch, record);
            let mut record = std::mem::take(record);
            readers.push(tokio::spawn(async move {
                reader
                    .begin("subscribe", json!({ "subscriptions": [{ "filter": "t", "from": from }] }))
                    .await;
                read(&mut reader, &mut record, None).await;
                record
            }));
        }
        // Some are acknowledged, some are under way when the end comes.
        let mut under_way = BTreeMap::new();
        for _ in 0..50 + round {
            n_published += 1;
            let message = json!({ "messages": [{ "topic": "t", "data": n_published }] });
            under_way.insert(publisher.begin("publish", message).await.unwrap(), n_published);
        }
        for _ in 0..20 + round {
            let reply = publisher.event().await.unwrap()["reply"].clone();
            let position = &reply["published"]["results"][0]["published"]["position"];
            let number = under_way.remove(&reply["id"].as_u64().unwrap()).unwrap();
            acknowledged.insert(position["offset"].as_u64().unwrap(), number);
            epoch = position["epoch"].clone();
        }
        broker.kill();
        for (record, reader) in records.iter_mut().zip(readers) {
            *record = reader.await.unwrap();
        }
        broker = Broker::start_on(&address.to_string(), data.path(), &[]);
    }
    let mut publisher = broker.connect().await;
    n_published += 1;
    let last = publisher.publish("t", json!(n_published)).await;
    acknowledged.insert(last["offset"].as_u64().unwrap(), n_published);
    for record in &mut records {
        let mut reader = broker.connect().await;
        let from = after(&epoch, record);
        reader.subscribe("t", from).await;
        read(&mut reader, record, Some(n_published)).await;
        let offsets: Vec<u64> = record.iter().map(|(offset, _)| *offset).collect();
        let expected: Vec<u64> = (1..=last["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets, expected, "offsets without a hole, none twice");
        for (offset, number) in &acknowledged {
            assert_eq!(record[usize::try_from(offset - 1).unwrap()].1, *number, "acknowledged at {offset}");
        }
        let mut numbers: Vec<u64> = record.iter().map(|(_, number)| *number).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), record.len(), "no message was stored twice");
        assert!(numbers.is_sorted(), "in the order of publishing");
    }
}

/// 200 MB in messages of 50 KB, as text so that nothing is encoded.
const SLOW_MESSAGES: u64 = 4000;
const SLOW_MESSAGE_BYTES: usize = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_is_caught_up_and_costs_little_memory() {
    let data = tempfile::tempdir().unwrap();
    let broker =
        Broker::start(data.path(), &["topics=[{ filter = \"t\", retention = { bytes = \"1GiB\" } }]"]);
    let mut slow = Client::connect_with(broker.address, Some(4096), &[]).await.unwrap();
    slow.subscribe("t", json!("latest")).await;
    let mut fast = broker.connect().await;
    fast.subscribe("t", json!("latest")).await;
    // Both paths have run once before memory is looked at.
    let mut publisher = broker.connect().await;
    let body = "x".repeat(SLOW_MESSAGE_BYTES);
    let publish = |n: u64| json!({ "messages": [{ "topic": "t", "text": format!("{n} {body}") }] });
    publisher.ask("publish", publish(0)).await;
    let before_kib = broker.resident_kib();

    let publishing = tokio::spawn(async move {
        let body = "x".repeat(SLOW_MESSAGE_BYTES);
        for n in 1..=SLOW_MESSAGES {
            let message = json!({ "messages": [{ "topic": "t", "text": format!("{n} {body}") }] });
            let reply = publisher.ask("publish", message).await;
            assert!(reply["published"]["results"][0].get("published").is_some(), "{reply}");
        }
    });
    let reading = tokio::spawn(async move {
        for n in 0..=SLOW_MESSAGES {
            assert_eq!(fast.delivery().await["offset"], json!(n + 1), "the other reader does not notice");
        }
    });
    // About 10 KB a second as long as messages are published: one message every five seconds.
    let mut n_read = 0;
    let mut grown_kib = 0;
    let mut pace = tokio::time::interval(Duration::from_secs(5));
    while !publishing.is_finished() {
        pace.tick().await;
        assert_eq!(slow.delivery().await["offset"], json!(n_read + 1));
        n_read += 1;
        grown_kib = grown_kib.max(broker.resident_kib().saturating_sub(before_kib));
    }
    publishing.await.unwrap();
    reading.await.unwrap();
    for n in n_read..=SLOW_MESSAGES {
        let delivery = slow.delivery().await;
        assert_eq!(delivery["offset"], json!(n + 1), "everything, in order");
        assert!(delivery["text"].as_str().unwrap().starts_with(&format!("{n} ")));
        grown_kib = grown_kib.max(broker.resident_kib().saturating_sub(before_kib));
    }
    for line in std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap().lines().filter(|l| l.starts_with("Rss") || l.starts_with("VmHWM")) { println!("{line}"); }
    println!("before {before_kib}; resident memory grew by {grown_kib} KiB");
    assert!(grown_kib < 32 << 10, "grew by {grown_kib} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_away_and_nothing_taken_is_lost_on_sigterm() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), &["drain.spread=100ms"]);
    let mut client = broker.connect().await;
    client.publish("t", json!(1)).await;
    client.begin("publish", json!({ "messages": [{ "topic": "t", "data": 2 }] })).await;
    let mut other = broker.connect().await;
    let ended = tokio::task::spawn_blocking(move || (broker.terminate(), broker));
    let mut goodbye = Value::Null;
    while let Some(event) = other.event().await {
        goodbye = event["goodbye"].clone();
    }
    assert_eq!((&goodbye["reason"], &goodbye["reconnect"]), (&json!("going_away"), &json!("now")));
    while client.event().await.is_some() {}
    drop((client, other));
    let (status, _broker) = ended.await.unwrap();
    assert!(status.success(), "{status}");
    let broker = Broker::start(data.path(), &[]);
    let mut client = broker.connect().await;
    client.subscribe("t", json!("earliest")).await;
    assert_eq!(client.delivery().await["data"], json!(1));
    assert_eq!(client.delivery().await["data"], json!(2));
}
