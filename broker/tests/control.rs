//! Commands of operators on several nodes: they reach every node, also one that missed them, and mean the same whenever they do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bongsu::bus::LocalNetwork;
use bongsu::control::{Action, Command, Target};
use bongsu::limits::CONTROL_CLOCK_SKEW_MS;
use bongsu::node::Node;
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Store,
};
use bongsu_protocol::command::HistoryQuery;
use bongsu_protocol::event::Page;
use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use serde_json::json;

use nodes::TestNode;
use support::{Client, PATIENCE};

fn start(name: &'static str, network: &LocalNetwork, store: &Arc<dyn Store>) -> TestNode {
    let (network, store) = (network.clone(), Arc::clone(store));
    TestNode::launch(move || {
        let (bus, inbox) = network.join();
        Node::start(nodes::settings(name), store, Some((Arc::new(bus), inbox)))
    })
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

async fn connect(node: &TestNode) -> (Client, String) {
    let mut client = node.connect().await;
    let entered = client.ask("enter", json!({ "topic": "room", "info": {} })).await;
    assert!(entered.get("entered").is_some(), "{entered}");
    // This test has no Redis: each node knows its own members.
    let members = client.ask("members", json!({ "topic": "room" })).await;
    let members = members["members"]["members"].as_array().unwrap();
    (client, members.last().unwrap()["session"].as_str().unwrap().to_owned())
}

/// Has every node end sessions; issued on this one.
async fn kick(node: &TestNode, target: Target, reason: &str) {
    let command = Command { action: Action::Kick(target), reason: reason.to_owned() };
    node.node.control().issue("operator", &command).await.unwrap();
}

fn everybody() -> Target {
    Target::Subject(String::new())
}

/// The connection is ended by the kick with this reason, and by no other.
async fn is_kicked(client: &mut Client, reason: &str) {
    loop {
        let event = client.event().await.expect("a goodbye before the end");
        if let Some(goodbye) = event.get("goodbye") {
            assert_eq!(goodbye, &json!({ "reason": "kicked", "text": reason, "reconnect": "never" }));
            break;
        }
    }
    assert_eq!(client.closed().await, (4410, format!("kicked: {reason}")));
}

/// The connection lasts.
async fn is_there(client: &mut Client) {
    let pong = client.ask("ping", json!({})).await;
    assert!(pong.get("pong").is_some(), "{pong}");
}

#[tokio::test]
async fn session_is_ended_from_another_node_and_no_other_is() {
    let (network, store) = (LocalNetwork::default(), memory());
    let (a, b) = (start("a", &network, &store), start("b", &network, &store));
    let (mut ada, session) = connect(&b).await;
    let (mut bob, _) = connect(&b).await;
    kick(&a, Target::Session(session), "enough").await;
    is_kicked(&mut ada, "enough").await;
    is_there(&mut bob).await;
}

#[tokio::test]
async fn sessions_of_a_subject_are_ended_on_every_node_without_the_bus() {
    let store = memory();
    // Two networks: neither node hears the other.
    let a = start("a", &LocalNetwork::default(), &store);
    let b = start("b", &LocalNetwork::default(), &store);
    let mut clients = [connect(&a).await.0, connect(&b).await.0, connect(&b).await.0];
    kick(&a, everybody(), "enough").await;
    for client in &mut clients {
        is_kicked(client, "enough").await;
    }
}

#[tokio::test]
async fn node_that_starts_later_does_not_end_newer_sessions() {
    let (network, store) = (LocalNetwork::default(), memory());
    let a = start("a", &network, &store);
    kick(&a, everybody(), "enough").await;
    let b = start("b", &network, &store);
    let (mut ada, session) = connect(&b).await;
    let (mut bob, _) = connect(&b).await;
    is_there(&mut ada).await;
    // It does follow the commands: this one comes behind the other.
    kick(&a, Target::Session(session), "again").await;
    is_kicked(&mut ada, "again").await;
    is_there(&mut bob).await;
}

#[tokio::test]
async fn node_that_was_frozen_ends_the_sessions_it_should_have() {
    let (network, store) = (LocalNetwork::default(), memory());
    let (a, b) = (start("a", &network, &store), start("b", &network, &store));
    let (mut ada, session) = connect(&b).await;
    let (mut bob, _) = connect(&b).await;
    let thaw = b.freeze().await;
    kick(&a, Target::Session(session), "enough").await;
    drop(thaw);
    is_kicked(&mut ada, "enough").await;
    is_there(&mut bob).await;
}

#[tokio::test]
async fn node_that_was_cut_off_from_the_store_ends_older_sessions_and_keeps_newer_ones() {
    let (network, store) = (LocalNetwork::default(), memory());
    let a = start("a", &network, &store);
    let gate = Arc::new(Gate { store: Arc::clone(&store), is_shut: AtomicBool::new(false) });
    let gated: Arc<dyn Store> = gate.clone();
    let b = start("b", &network, &gated);
    let (mut older, _) = connect(&b).await;
    gate.is_shut.store(true, Ordering::SeqCst);
    kick(&a, everybody(), "enough").await;
    let issued = Instant::now();
    // Sessions from shortly after are ended as well, since nodes' clocks may differ.
    while issued.elapsed() < 2 * Duration::from_millis(CONTROL_CLOCK_SKEW_MS) {
        is_there(&mut older).await;
    }
    let (mut newer, session) = connect(&b).await;
    gate.is_shut.store(false, Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, is_kicked(&mut older, "enough")).await.unwrap();
    is_there(&mut newer).await;
    kick(&a, Target::Session(session), "again").await;
    is_kicked(&mut newer, "again").await;
}

#[tokio::test]
async fn command_of_a_later_version_is_skipped() {
    use bongsu_protocol::message::{Message, NewMessage, Time};
    use bongsu_protocol::topic::Topic;
    let (network, store) = (LocalNetwork::default(), memory());
    let a = start("a", &network, &store);
    let (mut ada, session) = connect(&a).await;
    let payload = r#"{"freeze":{"everything":true},"reason":"cold"}"#.into();
    let message = Message { payload, ..Message::default() };
    let message = NewMessage { topic: Topic::parse("$control").unwrap(), message, expect: None };
    let append =
        Append { message, publisher: String::new(), time: Time(0), idempotency_window: Duration::ZERO };
    store.append(vec![append]).await.unwrap();
    kick(&a, Target::Session(session), "enough").await;
    is_kicked(&mut ada, "enough").await;
}

#[tokio::test]
async fn clients_read_no_commands() {
    let (network, store) = (LocalNetwork::default(), memory());
    let a = start("a", &network, &store);
    let mut ada = a.connect().await;
    for filter in ["$control", "$control/#"] {
        let result = ada.subscribe(filter, json!("earliest")).await;
        assert_eq!(result["error"]["code"], "forbidden", "{result}");
    }
    let history = ada.ask("history", json!({ "topic": "$control" })).await;
    assert_eq!(history["error"]["code"], "forbidden", "{history}");
}

/// A store that can be away.
struct Gate {
    store: Arc<dyn Store>,
    is_shut: AtomicBool,
}

impl Gate {
    fn pass<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a dyn Store) -> BoxFuture<'a, Result<T, Error>>,
    ) -> BoxFuture<'a, Result<T, Error>> {
        if self.is_shut.load(Ordering::SeqCst) {
            future::ready(Err(Error::Unavailable("the gate is shut".to_owned()))).boxed()
        } else {
            call(&*self.store)
        }
    }
}

impl Store for Gate {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        self.pass(|store| store.append(batch))
    }

    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        self.pass(|store| store.read(query))
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        self.pass(|store| store.list(query))
    }

    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        self.pass(|store| store.changes(since))
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        self.pass(|store| store.remove(removal))
    }
}
