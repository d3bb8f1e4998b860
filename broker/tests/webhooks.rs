//! Webhooks: each message at least once, in the order of its topic, whatever the receiver does and whoever dies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "support/receiver.rs"]
mod receiver;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bongsu_testkit::{Postgres, Redis};
use serde_json::{Value, json};

use receiver::{Does, Receiver};
use support::{Broker, Client, PATIENCE};

/// The specification's example.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A file with the secret, and a setting with one webhook.
fn webhook(data: &Path, url: &str, more: &str) -> String {
    let secret: PathBuf = data.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let secret = secret.display();
    format!(
        "webhooks=[{{name=\"hook\", url=\"{url}\", topics=[\"orders/#\"], secret_file=\"{secret}\", timeout=\"500ms\"{more}}}]"
    )
}

const OPEN: [&str; 3] =
    ["node.name=n", "auth.anonymous.subscribe=[\"#\", \"$sys/#\"]", "auth.anonymous.publish=[\"#\"]"];

fn start(data: &Path, url: &str, more: &str) -> Broker {
    let webhook = webhook(data, url, more);
    Broker::start(data, &[&OPEN[..], &[&webhook]].concat())
}

async fn publish(client: &mut Client, topic: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        client.publish(topic, json!(number)).await;
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(|number| json!(number)).collect()
}

/// A message that only tells that the webhook delivers: it begins at the moment when it is first known.
async fn begun(broker: &Broker, receiver: &Receiver) {
    let mut client = broker.connect().await;
    let begun = std::time::Instant::now();
    while receiver.got().is_empty() {
        client.publish("orders/begin", json!("begin")).await;
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was taken of a topic, each message once, in the order in which it came first.
fn taken_of(receiver: &Receiver, topic: &str) -> Vec<Value> {
    let mut taken = Vec::new();
    for got in receiver.got() {
        if got.did == "took" && got.body["topic"] == topic && !taken.contains(&got.body["data"]) {
            taken.push(got.body["data"].clone());
        }
    }
    taken
}

async fn until_taken(receiver: &Receiver, topic: &str, n_messages: u64) {
    let wanted = numbers(0..n_messages);
    receiver.until("taken in order", |receiver| taken_of(receiver, topic).len() >= wanted.len()).await;
    assert_eq!(taken_of(receiver, topic), wanted);
}

#[tokio::test]
async fn messages_are_posted_signed_and_in_order_from_now_on() {
    let data = tempfile::tempdir().unwrap();
    let before = Broker::start(data.path(), &OPEN);
    before.connect().await.publish("orders/1", json!("before")).await;
    drop(before);
    let receiver = Receiver::start(|_, _| Does::Takes).await;
    let broker = start(data.path(), &receiver.url(), "");
    begun(&broker, &receiver).await;
    let mut client = broker.connect().await;
    publish(&mut client, "orders/1", 0..40).await;
    publish(&mut client, "other", 0..1).await;
    until_taken(&receiver, "orders/1", 40).await;
    let got = receiver.got();
    assert!(got.iter().all(|got| got.body["data"] != "before" && got.body["topic"] != "other"));
    let one = got.iter().find(|got| got.body["topic"] == "orders/1").unwrap();
    assert_eq!(one.headers["content-type"], "application/json");
    assert!(one.headers["webhook-id"].starts_with("msg_") && !one.headers["webhook-id"].contains('.'));
    assert!(one.headers["webhook-timestamp"].parse::<u64>().unwrap() > 1_600_000_000);
    assert!(one.headers["webhook-signature"].starts_with("v1,"));
    assert!(one.body["offset"].is_u64() && one.body["time"].is_u64(), "{}", one.text);
    let mut ids: Vec<_> = got.iter().map(|got| got.headers["webhook-id"].clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), got.len(), "each message has its own id");
}

#[tokio::test]
async fn receiver_that_fails_in_every_way_gets_each_message_in_order_at_last() {
    let data = tempfile::tempdir().unwrap();
    let script = |n_before: usize, _: &Value| match n_before {
        1 => Does::Answers(500, ""),
        2 => Does::Hangs,
        3 => Does::Breaks,
        4 => Does::Answers(302, "location: http://127.0.0.1:1/\r\n"),
        5 => Does::Answers(429, "retry-after: 2\r\n"),
        _ => Does::Takes,
    };
    let receiver = Receiver::start(script).await;
    let broker = start(data.path(), &receiver.url(), ", retry_max=\"200ms\"");
    begun(&broker, &receiver).await;
    let mut client = broker.connect().await;
    publish(&mut client, "orders/1", 0..5).await;
    until_taken(&receiver, "orders/1", 5).await;
    let got = receiver.got();
    // Those attempts and the one that was taken are of one message, whose id stays.
    let (first, last) = (&got[1], got.iter().skip(6).find(|later| later.text == got[1].text).unwrap());
    assert_eq!(first.headers["webhook-id"], last.headers["webhook-id"]);
    // It was asked not to come again before that.
    let asked = got.iter().rposition(|got| got.did == "failed").unwrap();
    let next = got[asked + 1..].iter().find(|later| later.text == got[asked].text).unwrap();
    assert!(next.at - got[asked].at >= Duration::from_secs(2));
    assert!(broker.counter("bongsu_webhook_failures_total ").await >= 5);
    assert_eq!(broker.counter("bongsu_webhook_dead_letters_total ").await, 0);
}

#[tokio::test]
async fn message_that_nobody_takes_becomes_a_dead_letter_and_the_next_is_delivered() {
    let data = tempfile::tempdir().unwrap();
    let script = |_: usize, body: &Value| match body["data"].as_u64() {
        Some(1) => Does::Answers(400, ""),
        _ => Does::Takes,
    };
    let receiver = Receiver::start(script).await;
    let broker = start(data.path(), &receiver.url(), ", attempts=3, retry_max=\"100ms\"");
    begun(&broker, &receiver).await;
    let mut reader = broker.connect().await;
    let subscribed = reader.subscribe("$sys/webhooks/+/dead", json!("earliest")).await;
    assert!(subscribed.get("subscribed").is_some(), "{subscribed}");
    let mut client = broker.connect().await;
    publish(&mut client, "orders/1", 0..3).await;
    let letter = tokio::time::timeout(PATIENCE, reader.delivery()).await.unwrap();
    assert_eq!((&letter["topic"], &letter["data"]), (&json!("$sys/webhooks/hook/dead"), &json!(1)));
    let headers = &letter["headers"];
    assert_eq!(headers["webhook-topic"], "orders/1");
    assert_eq!(headers["webhook-attempts"], "3");
    assert_eq!(headers["webhook-status"], "400");
    assert_eq!(headers["webhook-reason"], "the receiver answered 400");
    assert!(headers["webhook-position"].as_str().unwrap().ends_with(":2"), "{headers}");
    receiver.until("the next one", |receiver| receiver.taken().contains(&json!(2))).await;
    assert_eq!(taken_of(&receiver, "orders/1"), [json!(0), json!(2)]);
}

#[tokio::test]
async fn receiver_that_says_it_is_gone_is_asked_no_more() {
    let data = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|n_before, _| match n_before {
        0 => Does::Takes,
        _ => Does::Answers(410, ""),
    });
    let receiver = receiver.await;
    let mut broker = start(data.path(), &receiver.url(), ", concurrency=1");
    begun(&broker, &receiver).await;
    let mut client = broker.connect().await;
    publish(&mut client, "orders/1", 0..1).await;
    receiver.until("gone", |receiver| receiver.got().iter().any(|got| got.did == "failed")).await;
    let n_asked = receiver.got().len();
    publish(&mut client, "orders/1", 1..5).await;
    broker.kill();
    // Neither is it after a restart; but at another address, everything that was kept is told.
    let broker = start(data.path(), &receiver.url(), "");
    publish(&mut broker.connect().await, "orders/1", 5..6).await;
    drop(broker);
    assert_eq!(receiver.got().len(), n_asked);
    let other = Receiver::start(|_, _| Does::Takes).await;
    let _broker = start(data.path(), &other.url(), "");
    until_taken(&other, "orders/1", 6).await;
}

#[tokio::test]
async fn what_is_published_while_nobody_listens_is_delivered_after_kill_9() {
    let data = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| Does::Takes).await;
    let (url, address) = (receiver.url(), receiver.address.to_string());
    let mut broker = start(data.path(), &url, ", retry_max=\"200ms\"");
    begun(&broker, &receiver).await;
    receiver.stop();
    let mut client = broker.connect().await;
    publish(&mut client, "orders/1", 0..50).await;
    publish(&mut client, "orders/2", 0..3).await;
    broker.kill();
    let broker = start(data.path(), &url, ", retry_max=\"200ms\"");
    let receiver = Receiver::start_on(&address, |_, _| Does::Takes).await;
    publish(&mut broker.connect().await, "orders/1", 50..60).await;
    until_taken(&receiver, "orders/1", 60).await;
    until_taken(&receiver, "orders/2", 3).await;
}

#[tokio::test]
async fn another_node_delivers_when_the_one_that_did_is_killed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let data = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, _| Does::Takes).await;
    let webhook = webhook(data.path(), &receiver.url(), "");
    let [redis, postgres] =
        [format!("redis.url={}", redis.url()), format!("postgres.url={}", postgres.url())];
    let node = |name: &str| {
        let name = format!("node.name={name}");
        let own = [&*name, &redis, &postgres, "postgres.connections=6", &webhook];
        Broker::start(data.path(), &[&OPEN[1..], &own].concat())
    };
    let (mut a, mut b) = (node("a"), node("b"));
    begun(&a, &receiver).await;
    let does_a = a.counter("bongsu_webhook_requests_total ").await > 0;
    assert_ne!(does_a, b.counter("bongsu_webhook_requests_total ").await > 0, "one of them does");
    let (first, second) = if does_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
    let mut client = second.connect().await;
    publish(&mut client, "orders/1", 0..30).await;
    first.kill();
    publish(&mut client, "orders/1", 30..40).await;
    until_taken(&receiver, "orders/1", 40).await;
    assert!(second.counter("bongsu_webhook_messages_delivered_total ").await >= 10);
}
