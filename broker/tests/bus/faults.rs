//! What happens to a bus when Redis fails: it tells of it, and goes on without anybody's help.

use bongsu_testkit::Redis;

use crate::node::Node;
use crate::world::World;

/// Two nodes on a server of their own; the first wants two channels.
async fn two_nodes() -> (Redis, Node, Node) {
    let server = Redis::start();
    let world = World::redis(&[&format!("redis.url={}", server.url())]);
    let (mut node, publisher) = (world.join().await, world.join().await);
    node.subscribe(&["x", "y"]).await;
    node.hears(&publisher, "x").await;
    while node.inbox.received.try_recv().is_some() {}
    (server, node, publisher)
}

/// After a failure: it is told, everything is subscribed again by itself, and that is told too.
async fn recovers(node: &mut Node, publisher: &mut Node) {
    node.interrupted().await;
    tokio::join!(node.recovered(), publisher.recovered());
    node.hears(publisher, "x").await;
    node.hears(publisher, "y").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_told_and_survived() {
    let (server, mut node, mut publisher) = two_nodes().await;
    server.kill();
    node.degraded().await;
    publisher.degraded().await;
    assert!(publisher.try_publish("x", "lost").await.is_err());
    server.start_again();
    recovers(&mut node, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_are_told_and_made_again() {
    let (server, mut node, mut publisher) = two_nodes().await;
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    recovers(&mut node, &mut publisher).await;
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    recovers(&mut node, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_noticed_by_the_probe() {
    let (server, mut node, mut publisher) = two_nodes().await;
    server.pause();
    node.degraded().await;
    publisher.degraded().await;
    // A publish that is on its way ends all the same.
    let _ = publisher.try_publish("x", "perhaps lost").await;
    node.interrupted().await;
    server.resume();
    recovers(&mut node, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushing_the_server_is_harmless() {
    let (server, mut node, publisher) = two_nodes().await;
    server.cli(&["FLUSHALL"]);
    server.cli(&["SCRIPT", "FLUSH"]);
    publisher.publish("x", "still there").await;
    assert_eq!(node.next_payload().await, "still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_but_publishes_nothing_is_noticed() {
    let (server, mut node, mut publisher) = two_nodes().await;
    server.cli(&["CLIENT", "PAUSE", "2500", "WRITE"]);
    node.degraded().await;
    recovers(&mut node, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_the_server_cuts_off_for_being_slow_is_told() {
    let (server, mut node, mut publisher) = two_nodes().await;
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 64kb 0 0"]);
    let payload = "x".repeat(8 << 20);
    let _ = publisher.try_publish("x", &payload).await;
    recovers(&mut node, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_at_the_start_is_found_when_it_comes() {
    let server = Redis::start();
    server.stop();
    let world = World::redis(&[&format!("redis.url={}", server.url())]);
    let joined = bongsu::bus::connect(&world.settings("a")).unwrap().unwrap();
    let mut node = Node::new(joined.bus, joined.inbox, Some(joined.commands));
    node.degraded().await;
    assert!(node.bus.subscribe(crate::node::channels(&["x"])).await.is_err());
    server.start_again();
    node.interrupted().await;
    node.recovered().await;
    let publisher = world.join().await;
    node.hears(&publisher, "x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_becomes_a_replica_is_left() {
    let (server, mut node, mut publisher) = two_nodes().await;
    let other = Redis::start();
    server.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    node.degraded().await;
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    recovers(&mut node, &mut publisher).await;
}
