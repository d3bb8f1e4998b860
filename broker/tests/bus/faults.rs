//! What happens to a bus when Redis fails: it tells of it, and goes on without anybody's help.

use bongsu_testkit::{Redis, RedisCluster, RedisSentinel};

use crate::node::{Node, channels};
use crate::world::{World, addresses, sentinel_url};

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
    // Told at once, not only when all is well again.
    node.interrupted().await;
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
    // First it is late, which costs no connection.
    node.unhealthy("a probe did not come back in time").await;
    publisher.degraded().await;
    // A publish that is on its way ends all the same.
    let _ = publisher.try_publish("x", "perhaps lost").await;
    node.interrupted().await;
    node.unhealthy("a probe did not come back within").await;
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
    let mut node = world.begin_to_join("a");
    node.degraded().await;
    assert!(node.bus.subscribe(channels(&["x"])).await.is_err());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_in_good_order_is_followed() {
    let servers = RedisSentinel::start();
    let world = World::redis(&[&sentinel_url(&servers)]);
    let (mut node, mut publisher) = (world.join().await, world.join().await);
    node.subscribe(&["x", "y"]).await;
    servers.failover();
    recovers(&mut node, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_dies_is_replaced() {
    let servers = RedisSentinel::start();
    let world = World::redis(&[&sentinel_url(&servers)]);
    let (mut node, mut publisher) = (world.join().await, world.join().await);
    node.subscribe(&["x", "y"]).await;
    servers.kill_primary();
    recovers(&mut node, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_without_a_majority_of_sentinels_is_not_trusted() {
    let servers = RedisSentinel::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = servers.sentinel_ports()[0];
    let name = RedisSentinel::NAME;
    let url = format!("redis.url=redis+sentinel://127.0.0.1:{port},{silent}/{name}");
    let mut node = World::redis(&[&url]).begin_to_join("a");
    node.unhealthy("fewer than half of them answer").await;
    // It is used all the same: better than nothing.
    while node.bus.subscribe(channels(&["x"])).await.is_err() {}
    node.publish("x", "heard").await;
    node.degraded().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_follow_their_slots() {
    let servers = RedisCluster::start();
    let world = World::redis(&[&format!("redis.url=redis+cluster://{}", addresses(servers.nodes()))]);
    let (mut node, mut publisher) = (world.join().await, world.join().await);
    let names: Vec<_> = (0..60).map(|n| format!("room/{n}")).collect();
    node.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    servers.move_slots(0, 1, 3000);
    node.interrupted().await;
    tokio::join!(node.recovered(), publisher.recovered());
    for name in &names {
        node.hears(&publisher, name).await;
    }
    // And back, to a server that had and lost them.
    servers.move_slots(1, 0, 3000);
    node.interrupted().await;
    for name in &names {
        node.hears(&publisher, name).await;
    }
    tokio::join!(node.recovered(), publisher.recovered());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_that_dies_is_replaced() {
    let servers = RedisCluster::start_with_replicas();
    let world = World::redis(&[&format!("redis.url=redis+cluster://{}", addresses(servers.nodes()))]);
    let (mut node, publisher) = (world.join().await, world.join().await);
    let names: Vec<_> = (0..30).map(|n| format!("room/{n}")).collect();
    node.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    servers.kill_node(0);
    node.interrupted().await;
    for name in &names {
        node.hears(&publisher, name).await;
    }
    node.recovered().await;
    servers.restart_node(0);
    for name in &names {
        node.hears(&publisher, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_servers_that_is_away_harms_only_its_channels() {
    let servers = [Redis::start(), Redis::start()];
    let world = World::redis(&[&format!("redis.url=redis+sharded://{}", addresses(&servers))]);
    let (mut node, publisher) = (world.join().await, world.join().await);
    let names: Vec<_> = (0..20).map(|n| format!("room/{n}")).collect();
    node.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    servers[0].kill();
    node.interrupted().await;
    node.degraded().await;
    let mut n_lost = 0;
    for name in &names {
        match publisher.try_publish(name, "once").await {
            Ok(()) => node.hears(&publisher, name).await,
            Err(_) => n_lost += 1,
        }
    }
    assert!((1..20).contains(&n_lost), "{n_lost} of 20 channels are on the server that is away");
    servers[0].start_again();
    for name in &names {
        node.hears(&publisher, name).await;
    }
    node.recovered().await;
}
