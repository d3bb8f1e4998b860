use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{Append, Removal};
use bongsu_protocol::message::{Message, NewMessage};
use serde::Deserialize;

use super::*;
use crate::bus::{Inbox, LocalNetwork, Received};
use crate::limits::{REGISTER_BYTES_MAX, REGISTER_TRIM_EVERY, REGISTER_VERSIONS_KEPT};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    names: BTreeSet<String>,
}

fn with(name: &str) -> impl Fn(&Names) -> Result<Names, Infallible> + Send {
    let name = name.to_owned();
    move |names| {
        let mut names = names.clone();
        names.names.insert(name.clone());
        Ok(names)
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

fn alone(store: &Arc<dyn Store>) -> Register<Names> {
    Registers::new(store, None, &Bell::default()).open("names")
}

/// A node that hears the others.
fn node(store: &Arc<dyn Store>, network: &LocalNetwork) -> (Registers, Register<Names>) {
    let (bus, inbox) = network.join();
    let bus: Arc<dyn Bus> = Arc::new(bus);
    let bell = Bell::default();
    let registers = Registers::new(store, Some(&bus), &bell);
    let Inbox { mut received, .. } = inbox;
    tokio::spawn(async move {
        let mut batch: Vec<Received> = Vec::new();
        while received.recv_many(&mut batch, 16).await > 0 {
            batch.clear();
            bell.ring();
        }
    });
    let register = registers.open("names");
    (registers, register)
}

async fn append(store: &Arc<dyn Store>, payload: &str) -> Position {
    let topic = Topic::parse("$register/names").unwrap();
    let message = Message { payload: payload.to_owned().into(), ..Message::default() };
    let append = Append {
        message: NewMessage { topic, message, expect: None },
        publisher: "somebody".to_owned(),
        time: Time(1),
        idempotency_window: Duration::ZERO,
    };
    match &store.append(vec![append]).await.unwrap()[0] {
        store::Appended::Stored(delivery) => delivery.position.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn names(version: &Versioned<Names>) -> Vec<&str> {
    version.document.names.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_change_holds_at_once_and_says_who_made_it() {
    let store = memory();
    let register = alone(&store);
    assert_eq!(register.current().position, Position::default());
    let version = register.change(None, "ada", with("a")).await.unwrap();
    assert_eq!((names(&register.current()), &*register.current().by), (vec!["a"], "ada"));
    assert_eq!((version.position, version.head), (register.current().position, version.position));
}

#[tokio::test]
async fn a_change_of_a_version_that_is_not_the_newest_is_refused() {
    let store = memory();
    let (register, other) = (alone(&store), alone(&store));
    let nobody = register.current().position;
    let first = register.change(Some(nobody), "ada", with("a")).await.unwrap().position;
    let late = other.change(Some(nobody), "bob", with("b")).await;
    assert!(matches!(late, Err(ChangeError::Conflict { newest }) if newest == first), "{late:?}");
    other.change(Some(first), "bob", with("b")).await.unwrap();
    assert_eq!(names(&register.look().await.unwrap()), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_change_it_at_the_same_time_neither_loses_a_change() {
    const CHANGES: usize = 50;
    let (store, network) = (memory(), LocalNetwork::default());
    let nodes: Vec<_> = (0..2).map(|_| node(&store, &network)).collect();
    let changes = nodes.iter().enumerate().map(|(number, (_, register))| {
        let register = register.clone();
        tokio::spawn(async move {
            for change in 0..CHANGES {
                register.change(None, "", with(&format!("{number}-{change}"))).await.unwrap();
            }
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    for (_, register) in &nodes {
        let version = register.look().await.unwrap();
        assert_eq!(
            (version.document.names.len(), version.position.offset.0),
            (2 * CHANGES, 2 * CHANGES as u64)
        );
    }
}

#[tokio::test]
async fn with_an_expectation_one_of_many_wins() {
    let (store, network) = (memory(), LocalNetwork::default());
    let nodes: Vec<_> = (0..8).map(|_| node(&store, &network)).collect();
    let changes = nodes.iter().map(|(_, register)| register.change(Some(Position::default()), "", with("a")));
    let outcomes = futures_util::future::join_all(changes).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn others_hear_of_a_change_at_once_and_find_it_within_a_second_otherwise() {
    let (store, network) = (memory(), LocalNetwork::default());
    let (_, writer) = node(&store, &network);
    let (registers, hears) = node(&store, &network);
    let deaf = alone(&store);
    registers.caught_up().await;
    deaf.look().await.unwrap();
    let (mut hears, mut deaf) = (hears.watch(), deaf.watch());
    tokio::time::sleep(Duration::from_millis(100)).await;

    let began = tokio::time::Instant::now();
    writer.change(None, "ada", with("a")).await.unwrap();
    hears.changed().await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO, "the bus told it");
    deaf.changed().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(names(&deaf.borrow()), ["a"]);
}

#[tokio::test]
async fn a_node_that_starts_knows_what_held_before() {
    let store = memory();
    alone(&store).change(None, "ada", with("a")).await.unwrap();
    let registers = Registers::new(&store, None, &Bell::default());
    let register: Register<Names> = registers.open("names");
    registers.caught_up().await;
    assert_eq!(names(&register.current()), ["a"]);
}

#[tokio::test]
async fn what_a_later_version_wrote_is_passed_over_and_not_overwritten() {
    let store = memory();
    let register = alone(&store);
    let readable = register.change(None, "ada", with("a")).await.unwrap().position;
    let newest = append(&store, r#"{"names":["b"],"colours":["red"]}"#).await;
    let version = register.look().await.unwrap();
    assert_eq!((names(&version), version.position, version.head), (vec!["a"], readable, newest));
    let changed = register.change(None, "ada", with("c")).await;
    assert!(matches!(changed, Err(ChangeError::Unreadable { head }) if head == newest), "{changed:?}");

    let started = alone(&store);
    assert_eq!(names(&started.look().await.unwrap()), ["a"], "whoever starts looks back");

    append(&store, r#"{"names":["d"]}"#).await;
    assert_eq!(names(&register.look().await.unwrap()), ["d"], "what can be read again holds");
    register.change(None, "ada", with("e")).await.unwrap();
}

#[tokio::test]
async fn one_that_was_deleted_is_as_if_nobody_had_changed_it() {
    let store = memory();
    let register = alone(&store);
    register.change(None, "ada", with("a")).await.unwrap();
    let topic = Topic::parse("$register/names").unwrap();
    store.remove(Removal::Delete { topic }).await.unwrap();
    assert_eq!(names(&register.look().await.unwrap()), Vec::<&str>::new());
    register.change(Some(Position::default()), "ada", with("b")).await.unwrap();
    assert_eq!(names(&register.current()), ["b"]);
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused() {
    let store = memory();
    let register = alone(&store);
    let refused = register.change(None, "ada", with(&"x".repeat(REGISTER_BYTES_MAX))).await;
    assert!(matches!(refused, Err(ChangeError::TooLarge { .. })), "{refused:?}");
    assert_eq!(register.look().await.unwrap().position, Position::default());
}

#[tokio::test]
async fn what_the_change_refuses_changes_nothing() {
    let store = memory();
    let register = alone(&store);
    let refused = register.change(None, "ada", |_| Err::<Names, _>("no")).await;
    assert!(matches!(refused, Err(ChangeError::Refused("no"))), "{refused:?}");
    assert_eq!(register.look().await.unwrap().position, Position::default());
}

#[tokio::test]
async fn versions_are_listed_and_found_and_the_oldest_go() {
    let store = memory();
    let register = alone(&store);
    let n_made = REGISTER_VERSIONS_KEPT + 2 * REGISTER_TRIM_EVERY;
    for number in 0..n_made {
        let only = move |_: &Names| Ok::<_, Infallible>(Names { names: [number.to_string()].into() });
        register.change(None, &format!("by {number}"), only).await.unwrap();
    }
    let versions = register.versions(None, 20).await.unwrap();
    assert_eq!((versions.len(), versions[0].position), (20, register.current().position));
    assert_eq!(
        (&*versions[0].by, versions[0].bytes),
        (&*format!("by {}", n_made - 1), r#"{"names":["1031"]}"#.len())
    );
    let next = register.versions(Some(versions[19].position), 1).await.unwrap();
    assert_eq!(next[0].position, versions[19].position.previous());
    let found = register.version(versions[19].position).await.unwrap().unwrap();
    assert_eq!(names(&found), [(n_made - 20).to_string()]);
    let all = register.versions(None, usize::MAX).await.unwrap();
    let kept = REGISTER_VERSIONS_KEPT..REGISTER_VERSIONS_KEPT + REGISTER_TRIM_EVERY;
    assert!(kept.contains(&(all.len() as u64)), "{}", all.len());
    let gone = all.last().unwrap().position.previous();
    assert!(register.version(gone).await.unwrap().is_none());
}
