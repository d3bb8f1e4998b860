//! What is erased, purged or deleted on one node, as readers of another one see it: by the native protocol, by polls, by event streams and
//! by the Durable Streams protocol.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bongsu::bus::LocalNetwork;
use bongsu::history::Part;
use bongsu::node::Node;
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::Store;
use bongsu_protocol::position::Offset;
use bongsu_protocol::topic::Topic;
use serde_json::{Value, json};

use nodes::TestNode;
use support::http::{Answer, Exchange, ask, get};
use support::{Client, PATIENCE};

/// Two nodes of which one removes and the other has readers.
struct Pair {
    remover: TestNode,
    readers: TestNode,
}

impl Pair {
    fn start() -> Self {
        let network = LocalNetwork::default();
        Self::on(&network, &network)
    }

    /// Neither hears the other.
    fn apart() -> Self {
        Self::on(&LocalNetwork::default(), &LocalNetwork::default())
    }

    fn on(one: &LocalNetwork, other: &LocalNetwork) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let start = |name: &'static str, network: &LocalNetwork| {
            let (network, store) = (network.clone(), Arc::clone(&store));
            TestNode::launch(move || {
                let (bus, inbox) = network.join();
                Node::start(nodes::settings(name), store, Some((Arc::new(bus), inbox)))
            })
        };
        Self { remover: start("remover", one), readers: start("readers", other) }
    }

    async fn remove(&self, part: Part) -> u64 {
        let topic = Topic::parse("t").unwrap();
        self.remover.node.removals().remove("operator", &topic, part).await.unwrap()
    }

    /// Publishes `secret-1`, `secret-2`, … by the node that has the readers, so that it remembers them.
    async fn publish(&self, numbers: std::ops::RangeInclusive<u64>) {
        let mut client = self.readers.connect().await;
        for number in numbers {
            let published = client.publish("t", json!(format!("secret-{number}"))).await;
            assert!(published.get("error").is_none(), "{published}");
        }
    }

    fn get(&self, path: &str) -> Answer {
        get(self.readers.address, path)
    }

    fn poll(&self, from: &str) -> Value {
        let body = json!({ "topics": { "t": from } }).to_string();
        let json = ("content-type", "application/json");
        let answer = ask(self.readers.address, "POST", "/v1/poll", &[json], &body);
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
    }
}

/// Long enough for the second within which it is so, on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks until the answer is right.
async fn until<F: Future<Output = Result<(), String>>>(mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while let Err(found) = is_so().await {
        assert!(began.elapsed() < DEADLINE, "{found}");
        tokio::task::yield_now().await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "reads as what it says where it is called")]
fn is<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

fn delivery(event: &Value) -> String {
    let delivery = &event["delivery"];
    if delivery["erased"] == true {
        "erased".to_owned()
    } else {
        delivery["data"].as_str().unwrap_or("?").to_owned()
    }
}

/// An event of the native protocol's JSON in short.
fn short(event: &Value) -> String {
    if event.get("lost").is_some() {
        return format!("lost {}", event["lost"]["count"]);
    }
    if event.get("reset").is_some() { "reset".to_owned() } else { delivery(event) }
}

/// What a native client is handed first that resumes from before the log's beginning, which is answered from memory where it can be.
async fn resumed(pair: &Pair, epoch: u64, n_events: usize) -> Vec<String> {
    let mut client = pair.readers.connect().await;
    client.subscribe("t", json!({ "after": { "epoch": epoch, "offset": 0 } })).await;
    let mut events = Vec::new();
    while events.len() < n_events {
        events.push(short(&client.event().await.expect("an event")));
    }
    events
}

/// What an event source gets that resumes from before the log's beginning.
fn sourced(pair: &Pair, epoch: u64, n_events: usize) -> Vec<String> {
    let headers = [("accept", "text/event-stream"), ("last-event-id", &*format!("{epoch}:0"))];
    let mut source = Exchange::begin(pair.readers.address, "GET", "/v1/events?topic=t", &headers, "");
    (0..n_events).map(|_| source.line_after("data: ")).collect()
}

fn polled(pair: &Pair, epoch: u64) -> Vec<String> {
    pair.poll(&format!("{epoch}:0"))["events"].as_array().unwrap().iter().map(short).collect()
}

/// A pair whose node with readers remembers `secret-1` to `secret-3`, and has them in an answer of the stream; with the log's epoch and
/// the reader who keeps the topic heard.
async fn remembering(pair: &Pair) -> (u64, Client) {
    let mut live = pair.readers.connect().await;
    live.subscribe("t", json!("latest")).await;
    pair.publish(1..=3).await;
    let first = live.delivery().await;
    let epoch = first["epoch"].as_u64().unwrap();
    for _ in 0..2 {
        live.delivery().await;
    }
    let all = ["secret-1", "secret-2", "secret-3"].map(str::to_owned);
    assert_eq!(resumed(pair, epoch, 3).await, all);
    assert_eq!(polled(pair, epoch), all);
    assert_eq!(pair.get("/v1/stream/t?offset=-1").body, r#"["secret-1","secret-2","secret-3"]"#);
    (epoch, live)
}

async fn an_erased_message_is_erased_for_all(pair: &Pair) {
    let (epoch, mut live) = remembering(pair).await;
    let tag = pair.get("/v1/stream/t?offset=-1").header("etag").to_owned();
    assert_eq!(pair.remove(Part::Message(Offset(2))).await, 1);
    let erased = ["secret-1", "erased", "secret-3"].map(str::to_owned);
    until(async || is(resumed(pair, epoch, 3).await, erased.to_vec())).await;
    until(async || is(polled(pair, epoch), erased.to_vec())).await;
    let lines = ["\"secret-1\"", "", "\"secret-3\""].map(str::to_owned);
    until(async || is(sourced(pair, epoch, 3), lines.to_vec())).await;
    until(async || is(pair.get("/v1/stream/t?offset=-1").body, r#"["secret-1","","secret-3"]"#.to_owned()))
        .await;
    let again = ask(pair.readers.address, "GET", "/v1/stream/t?offset=-1", &[("if-none-match", &tag)], "");
    assert_eq!(again.status, 200, "a cache that has it is told that it is another answer");
    // Whoever had it is not told; it goes on.
    pair.publish(4..=4).await;
    assert_eq!(delivery(&live.event().await.unwrap()), "secret-4");
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_message_is_read_from_no_nodes_memory() {
    an_erased_message_is_erased_for_all(&Pair::start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erased_message_is_read_from_no_nodes_memory_without_the_bus() {
    an_erased_message_is_erased_for_all(&Pair::apart()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_was_frozen_forgets_what_was_erased_meanwhile() {
    let pair = Pair::start();
    let (epoch, _live) = remembering(&pair).await;
    let thaw = pair.readers.freeze().await;
    assert_eq!(pair.remove(Part::Message(Offset(2))).await, 1);
    drop(thaw);
    let erased = ["secret-1", "erased", "secret-3"].map(str::to_owned);
    until(async || is(resumed(&pair, epoch, 3).await, erased.to_vec())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_messages_are_lost_to_readers_who_come_back() {
    let pair = Pair::start();
    let (epoch, mut live) = remembering(&pair).await;
    let offset = pair.get("/v1/stream/t?offset=-1").header("stream-next-offset").to_owned();
    let before = offset.replace("0003", "0001");
    assert_eq!(pair.remove(Part::Until(Offset(2))).await, 2);
    let rest = ["lost 2", "secret-3"].map(str::to_owned);
    until(async || is(resumed(&pair, epoch, 2).await, rest.to_vec())).await;
    until(async || is(polled(&pair, epoch), rest.to_vec())).await;
    until(async || is(pair.get("/v1/stream/t?offset=-1").body, r#"["secret-3"]"#.to_owned())).await;
    let gone = pair.get(&format!("/v1/stream/t?offset={before}"));
    assert_eq!(gone.status, 410, "{gone:?}");
    pair.publish(4..=4).await;
    assert_eq!(delivery(&live.event().await.unwrap()), "secret-4", "who is at the head misses nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_deleted_log_are_told_of_the_next_one() {
    let pair = Pair::start();
    let (epoch, mut live) = remembering(&pair).await;
    assert_eq!(pair.remove(Part::All).await, 3);
    until(async || is(pair.get("/v1/stream/t?offset=-1").status, 404)).await;
    until(async || is(polled(&pair, epoch), Vec::new())).await;
    let mut late = pair.readers.connect().await;
    late.subscribe("t", json!({ "after": { "epoch": epoch, "offset": 3 } })).await;
    let mut new = pair.readers.connect().await;
    new.subscribe("t", json!("earliest")).await;
    pair.publish(4..=4).await;
    for reader in [&mut live, &mut late] {
        let events = [short(&reader.event().await.unwrap()), short(&reader.event().await.unwrap())];
        assert_eq!(events, ["reset", "secret-4"]);
    }
    assert_eq!(short(&new.event().await.unwrap()), "secret-4", "who saw nothing of it needs no reset");
    until(async || is(polled(&pair, epoch), vec!["reset".to_owned(), "secret-4".to_owned()])).await;
    until(async || is(pair.get("/v1/stream/t?offset=-1").body, r#"["secret-4"]"#.to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_poll_of_a_deleted_stream_ends() {
    let pair = Pair::start();
    let (_, _live) = remembering(&pair).await;
    let path = "/v1/stream/t?offset=now&live=long-poll";
    let address = pair.readers.address;
    let parked = tokio::task::spawn_blocking(move || get(address, path));
    until(async || is(pair.readers.node.interest().hub().answers().await, true)).await;
    assert_eq!(pair.remove(Part::All).await, 3);
    let answer = tokio::time::timeout(PATIENCE, parked).await.expect("in time").unwrap();
    assert_eq!(answer.status, 404, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_of_what_is_not_there_takes_nothing() {
    let pair = Pair::start();
    for part in [Part::Message(Offset(1)), Part::Until(Offset(9)), Part::All] {
        assert_eq!(pair.remove(part).await, 0);
    }
    pair.publish(1..=1).await;
    assert_eq!(pair.remove(Part::Message(Offset(2))).await, 0);
    assert_eq!(pair.remove(Part::Message(Offset(1))).await, 1);
    assert_eq!(pair.remove(Part::Message(Offset(1))).await, 0, "again");
}
