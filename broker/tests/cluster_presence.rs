//! Presence on several nodes with a real Redis: who is present where, and that each change is told once, whatever dies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::Store;
use bongsu_testkit::Redis;
use serde_json::{Value, json};

use nodes::TestNode;
use support::{Client, PATIENCE};

/// Short, so that tests are; long beside the pauses of a busy machine.
const LEASE: Duration = Duration::from_secs(3);

struct Cluster {
    redis: Redis,
    store: Arc<dyn Store>,
}

impl Cluster {
    fn start() -> Self {
        Self { redis: Redis::start(), store: Arc::new(MemoryStore::default()) }
    }

    async fn node(&self, name: &str) -> TestNode {
        let node = TestNode::start(name, &self.redis.url(), LEASE, &self.store);
        node.registered().await;
        node
    }
}

/// A client that hears who comes and goes.
struct Watcher {
    client: Client,
    /// What it heard: `+session` and `-session`.
    heard: Vec<String>,
}

impl Watcher {
    async fn on(node: &TestNode, topic: &str) -> Self {
        let mut client = node.connect().await;
        let subscribed = client.subscribe(&format!("$presence/{topic}"), json!("latest")).await;
        assert!(subscribed.get("subscribed").is_some(), "{subscribed}");
        Self { client, heard: Vec::new() }
    }

    /// Takes what comes until something was heard.
    async fn until(&mut self, wanted: &str) {
        while !self.heard.iter().any(|heard| heard == wanted) {
            self.hear().await;
        }
    }

    async fn hear(&mut self) {
        let event = self.client.event().await.expect("the connection lasts");
        let data = &event["delivery"]["data"];
        if let Some(session) = data["join"]["session"].as_str() {
            self.heard.push(format!("+{session}"));
        } else if let Some(session) = data["leave"]["session"].as_str() {
            self.heard.push(format!("-{session}"));
        }
    }

    /// Everything that was heard so far, up to a message that is published after all of it by a session that enters now.
    async fn all(&mut self, last: &str) -> Vec<String> {
        self.until(last).await;
        self.heard.clone()
    }
}

async fn enter(client: &mut Client, topic: &str, info: Value) {
    let reply = client.ask("enter", json!({ "topic": topic, "info": info })).await;
    assert!(reply.get("entered").is_some(), "{reply}");
}

/// A client that is present, and its session.
async fn present(node: &TestNode, topic: &str) -> (Client, String) {
    let mut client = node.connect().await;
    enter(&mut client, topic, json!({ "on": node.node.name() })).await;
    let members = members(&mut client, topic).await;
    let own = members.iter().rfind(|member| member.1 == node.node.name());
    let session = own.expect("the one that entered last is itself").0.clone();
    (client, session)
}

/// Who is present: session and the node that its info names. Asks again while the answer is `unavailable`.
async fn members(client: &mut Client, topic: &str) -> Vec<(String, String)> {
    loop {
        let reply = client.ask("members", json!({ "topic": topic })).await;
        if let Some(members) = reply["members"]["members"].as_array() {
            let of = |member: &Value| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&member["session"]), text(&member["info"]["on"]))
            };
            assert_eq!(reply["members"]["total"], json!(members.len()));
            return members.iter().map(of).collect();
        }
        assert_eq!(reply["error"]["code"], "unavailable", "{reply}");
        assert!(reply["error"]["retryAfterMs"].as_u64().is_some(), "{reply}");
    }
}

/// Asks until these sessions are present, and no others.
async fn present_are(client: &mut Client, topic: &str, wanted: &[&String]) {
    let mut wanted: Vec<&str> = wanted.iter().map(|session| session.as_str()).collect();
    wanted.sort_unstable();
    let mut found = Vec::new();
    let done = tokio::time::timeout(PATIENCE, async {
        loop {
            found = members(client, topic).await.into_iter().map(|member| member.0).collect();
            found.sort_unstable();
            if found == wanted {
                return;
            }
        }
    });
    let done = done.await;
    assert!(done.is_ok(), "{found:?} are present, not {wanted:?}");
}

/// Waits until only so many registrations are left in Redis, and nothing of dead ones.
async fn nothing_is_left(cluster: &Cluster, n_nodes: usize) {
    let key = |name: &str| format!("bongsu:k:{{registry}}:{name}");
    let count = |command: &[&str]| cluster.redis.cli(command).trim().to_owned();
    let begun = Instant::now();
    loop {
        let counts = [
            count(&["ZCARD", &key("leases")]),
            count(&["HLEN", &key("nodes")]),
            count(&["HLEN", &key("versions")]),
            count(&["ZCARD", &key("dead")]),
            count(&["HLEN", &key("reapers")]),
        ];
        let n_nodes = n_nodes.to_string();
        if counts == [&*n_nodes, &n_nodes, &n_nodes, "0", "0"] {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{counts:?} are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets time pass for what must not happen, in which a connection is served.
async fn pass(time: Duration, client: &mut Client) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let pong = client.ask("ping", json!({})).await;
        assert!(pong.get("pong").is_some(), "{pong}");
    }
}

/// How often something was heard.
fn count(heard: &[String], what: &str) -> usize {
    heard.iter().filter(|heard| *heard == what).count()
}

#[tokio::test]
async fn members_are_seen_on_every_node_and_told_once() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut watchers = [Watcher::on(&a, "room").await, Watcher::on(&b, "room").await];
    let (mut ada, ada_session) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    let on = |session: &String, node: &str| (session.clone(), node.to_owned());
    let both = [on(&ada_session, "a"), on(&bob_session, "b")];
    assert_eq!(members(&mut bob, "room").await, both, "longest present first");
    assert_eq!(members(&mut ada, "room").await, both);

    let left = ada.ask("leave", json!({ "topic": "room" })).await;
    assert!(left.get("left").is_some(), "{left}");
    assert_eq!(members(&mut bob, "room").await, [on(&bob_session, "b")]);
    drop(bob);
    for watcher in &mut watchers {
        let mut heard = watcher.all(&format!("-{bob_session}")).await;
        heard.sort_unstable();
        let mut told = [
            format!("+{ada_session}"),
            format!("+{bob_session}"),
            format!("-{ada_session}"),
            format!("-{bob_session}"),
        ];
        told.sort_unstable();
        assert_eq!(heard, told);
    }
}

#[tokio::test]
async fn members_of_a_killed_node_leave_once_after_its_lease() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let c = cluster.node("c").await;
    let mut watchers = [Watcher::on(&b, "room").await, Watcher::on(&c, "room").await];
    let (_ada, ada) = present(&a, "room").await;
    let (_abe, abe) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    a.kill().await;
    present_are(&mut bob, "room", &[&bob_session]).await;
    let (_carl, carl) = present(&c, "room").await;
    for watcher in &mut watchers {
        watcher.until(&format!("-{ada}")).await;
        watcher.until(&format!("-{abe}")).await;
        let heard = watcher.all(&format!("+{carl}")).await;
        assert_eq!(count(&heard, &format!("-{ada}")), 1, "{heard:?}");
        assert_eq!(count(&heard, &format!("-{abe}")), 1, "{heard:?}");
        assert_eq!(count(&heard, &format!("-{bob_session}")), 0, "{heard:?}");
    }
}

#[tokio::test]
async fn members_of_a_killed_node_leave_once_however_many_they_are() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let c = cluster.node("c").await;
    let mut watchers = [Watcher::on(&b, "bulk/+").await, Watcher::on(&c, "bulk/+").await];
    // More than one step takes away.
    let n_topics = 2 * bongsu::limits::REAP_STEP_MAX - 10;
    let mut ada = a.connect().await;
    for number in 0..n_topics {
        enter(&mut ada, &format!("bulk/{number}"), json!({})).await;
    }
    a.kill().await;
    for watcher in &mut watchers {
        let is_leave = |heard: &&String| heard.starts_with('-');
        while watcher.heard.iter().filter(is_leave).count() < n_topics {
            watcher.hear().await;
        }
    }
    let (_carl, carl) = present(&c, "bulk/last").await;
    for watcher in &mut watchers {
        let heard = watcher.all(&format!("+{carl}")).await;
        assert_eq!(heard.iter().filter(|heard| heard.starts_with('-')).count(), n_topics);
        assert_eq!(heard.iter().filter(|heard| heard.starts_with('+')).count(), n_topics + 1);
    }
    nothing_is_left(&cluster, 2).await;
}

#[tokio::test]
async fn writes_that_redis_forgot_are_made_again_and_nobody_hears_of_it() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut watcher = Watcher::on(&b, "room").await;
    let (mut ada, ada_session) = present(&a, "room").await;
    let (_abe, abe) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    // As after a failover: abe's join is gone, and somebody who left is back.
    let key = |name: &str| format!("bongsu:k:{{registry}}:{name}");
    let versions = cluster.redis.cli(&["HKEYS", &key("versions")]);
    let registration = versions.lines().find(|line| line.starts_with("a/")).unwrap();
    let cli = |command: &[&str]| cluster.redis.cli(command);
    cli(&["HSET", &key("versions"), registration, "1"]);
    cli(&["HDEL", &key("members:room"), &abe]);
    cli(&["ZREM", &key("order:room"), &abe]);
    cli(&["SREM", &key(&format!("held:{registration}")), &format!("room\n{abe}")]);
    cli(&["HSET", &key("members:room"), "ghost", &format!("{registration}\n1\n0\n{{\"on\":\"a\"}}")]);
    cli(&["ZADD", &key("order:room"), "1", "ghost"]);
    cli(&["SADD", &key(&format!("held:{registration}")), "room\nghost"]);

    watcher.until("-ghost").await;
    for client in [&mut ada, &mut bob] {
        present_are(client, "room", &[&ada_session, &abe, &bob_session]).await;
    }
    nothing_is_left(&cluster, 2).await;
    let (_carl, carl) = present(&b, "room").await;
    let heard = watcher.all(&format!("+{carl}")).await;
    assert_eq!(count(&heard, &format!("+{ada_session}")), 1, "{heard:?}");
    assert_eq!(count(&heard, &format!("+{bob_session}")), 1, "{heard:?}");
    assert_eq!(heard.iter().filter(|heard| heard.starts_with('-')).count(), 1, "{heard:?}");
}

#[tokio::test]
async fn members_of_a_frozen_node_leave_once_and_come_back_once() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut watcher = Watcher::on(&b, "room").await;
    let (mut ada, ada_session) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    let thaw = a.freeze().await;
    watcher.until(&format!("-{ada_session}")).await;
    present_are(&mut bob, "room", &[&bob_session]).await;
    drop(thaw);
    present_are(&mut bob, "room", &[&ada_session, &bob_session]).await;
    present_are(&mut ada, "room", &[&ada_session, &bob_session]).await;
    let (_carl, carl) = present(&b, "room").await;
    let heard = watcher.all(&format!("+{carl}")).await;
    assert_eq!(count(&heard, &format!("+{ada_session}")), 2, "{heard:?}");
    assert_eq!(count(&heard, &format!("-{ada_session}")), 1, "{heard:?}");
    assert_eq!(count(&heard, &format!("+{bob_session}")), 1, "{heard:?}");
}

#[tokio::test]
async fn redis_that_lost_everything_is_told_again_and_nobody_leaves() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut watcher = Watcher::on(&b, "room").await;
    let (mut ada, ada_session) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    cluster.redis.cli(&["FLUSHALL"]);
    // Whoever asks meanwhile hears of both or is told to ask again, as `members` checks: never of one alone.
    for _ in 0..50 {
        for client in [&mut ada, &mut bob] {
            let n_members = members(client, "room").await.len();
            assert_eq!(n_members, 2);
        }
    }
    let (_carl, carl) = present(&b, "room").await;
    present_are(&mut ada, "room", &[&ada_session, &bob_session, &carl]).await;
    let heard = watcher.all(&format!("+{carl}")).await;
    assert!(!heard.iter().any(|heard| heard.starts_with('-')), "{heard:?}");
}

#[tokio::test]
async fn members_of_a_drained_node_leave_at_once() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut watcher = Watcher::on(&b, "room").await;
    let (mut ada_client, ada) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    for number in 1..bongsu::limits::PRESENT_TOPICS_MAX {
        enter(&mut ada_client, &format!("bulk/{number}"), json!({})).await;
    }
    a.drain().await;
    let held = cluster.redis.cli(&["KEYS", "*held*"]);
    assert!(held.lines().count() == 1 && held.contains("held:b/"), "only b holds anything: {held}");
    let leases = cluster.redis.cli(&["ZRANGE", "bongsu:k:{registry}:leases", "0", "-1"]);
    assert!(leases.lines().count() == 1 && leases.contains("b/"), "only b has a lease: {leases}");
    // It is in the registry when the node has ended, not a lease later.
    assert_eq!(members(&mut bob, "room").await, [(bob_session, "b".to_owned())]);
    watcher.until(&format!("-{ada}")).await;
    let (_carl, carl) = present(&b, "room").await;
    let heard = watcher.all(&format!("+{carl}")).await;
    assert_eq!(count(&heard, &format!("-{ada}")), 1, "{heard:?}");
}

#[tokio::test]
async fn sessions_come_and_go_while_redis_is_away_and_others_hear_of_it_afterwards() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let (mut ada, ada_session) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    cluster.redis.pause();
    let left = ada.ask("leave", json!({ "topic": "room" })).await;
    assert!(left.get("left").is_some(), "{left}");
    let mut abe = a.connect().await;
    enter(&mut abe, "room", json!({ "on": "abe" })).await;
    let answer = bob.ask("members", json!({ "topic": "room" })).await;
    assert_eq!(answer["error"]["code"], "unavailable", "an answer that lacks somebody must say so: {answer}");
    cluster.redis.resume();
    let done = tokio::time::timeout(PATIENCE, async {
        loop {
            let members = members(&mut bob, "room").await;
            let on: Vec<&str> = members.iter().map(|member| member.1.as_str()).collect();
            if on == ["b", "abe"] {
                return members;
            }
        }
    });
    let members = done.await.expect("what happened meanwhile is told");
    assert_eq!(members[0].0, bob_session);
    assert!(!members.iter().any(|member| member.0 == ada_session));
}

#[tokio::test]
async fn nodes_are_not_taken_for_dead_because_redis_was_away() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut watcher = Watcher::on(&b, "room").await;
    let (_ada, ada) = present(&a, "room").await;
    let (mut bob, bob_session) = present(&b, "room").await;
    // It comes back a little later than the other one.
    let thaw = a.freeze().await;
    cluster.redis.pause();
    pass(LEASE * 2, &mut bob).await;
    cluster.redis.resume();
    let mut membership = b.node.cluster().membership();
    let reached = membership.wait_for(|membership| membership.is_reachable);
    tokio::time::timeout(PATIENCE, reached).await.expect("it is there again").expect("the node lives");
    pass(LEASE / 2, &mut bob).await;
    drop(thaw);
    present_are(&mut bob, "room", &[&ada, &bob_session]).await;
    pass(LEASE, &mut bob).await;
    let (_carl, carl) = present(&b, "room").await;
    let heard = watcher.all(&format!("+{carl}")).await;
    assert!(!heard.iter().any(|heard| heard.starts_with('-')), "{heard:?}");
}

#[tokio::test]
async fn node_that_comes_back_under_its_name_starts_at_once() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut watcher = Watcher::on(&b, "room").await;
    let (_ada, old) = present(&a, "room").await;
    a.kill().await;
    let a = cluster.node("a").await;
    let (mut ada, new) = present(&a, "room").await;
    assert_ne!(old, new);
    present_are(&mut ada, "room", &[&new]).await;
    watcher.until(&format!("-{old}")).await;
    watcher.until(&format!("+{new}")).await;
    assert_eq!(count(&watcher.heard, &format!("-{old}")), 1);
    assert_eq!(count(&watcher.heard, &format!("-{new}")), 0);
    assert_eq!(a.node.cluster().health(), bongsu::bus::Health::Live, "what is left of itself is no rival");
}

#[tokio::test]
async fn two_nodes_of_one_name_are_told_and_work() {
    let cluster = Cluster::start();
    let (one, other) = (cluster.node("twin").await, cluster.node("twin").await);
    let (mut ada, ada_session) = present(&one, "room").await;
    let (mut bob, bob_session) = present(&other, "room").await;
    for client in [&mut ada, &mut bob] {
        present_are(client, "room", &[&ada_session, &bob_session]).await;
    }
    for node in [&one, &other] {
        let mut membership = node.node.cluster().membership();
        let told = membership.wait_for(|membership| {
            let bongsu::bus::Health::Degraded { reason } = &membership.health else { return false };
            reason.contains("is called twin too")
        });
        tokio::time::timeout(PATIENCE, told).await.expect("it is told").expect("the node lives");
    }
}

#[tokio::test]
async fn topic_takes_as_many_members_as_its_limit_says_on_all_nodes_together() {
    let cluster = Cluster::start();
    let start = |name| {
        let mut settings = nodes::settings(name);
        settings.redis.url = bongsu::config::ServerUrl::parse(&cluster.redis.url());
        settings.limits.members_per_topic = 2;
        TestNode::join(settings, Arc::clone(&cluster.store))
    };
    let (a, b) = (start("a"), start("b"));
    a.registered().await;
    b.registered().await;
    let (mut ada, _) = present(&a, "room").await;
    let (_bob, _) = present(&b, "room").await;
    let mut carl = a.connect().await;
    let refused = carl.ask("enter", json!({ "topic": "room", "info": {} })).await;
    assert_eq!(refused["error"]["code"], "too_many", "{refused}");
    let left = ada.ask("leave", json!({ "topic": "room" })).await;
    assert!(left.get("left").is_some(), "{left}");
    enter(&mut carl, "room", json!({ "on": "a" })).await;
    assert_eq!(members(&mut carl, "room").await.len(), 2);
}
