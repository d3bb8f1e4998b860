//! The permissions that `docs/redis.md` says a node needs: they are enough, and that document is where they stand. The conformance
//! suite runs with them too.

use std::process::Command;

use bongsu_testkit::{Redis, RedisCluster, RedisSentinel};

use crate::world::{World, addresses, sentinel_url};

/// The password of the user `bongsu`.
pub(crate) const PASSWORD: &str = "p%40ss:w/rd";

/// Makes the user with the permissions of the document. `cluster` stands in the place of the cluster's name.
pub(crate) fn set_user(server: &Redis, cluster: &str) {
    let line = line("ACL SETUSER bongsu ").replace("~bongsu:", &format!("~{cluster}:"));
    let line = line.replace("&bongsu:", &format!("&{cluster}:"));
    server.cli(&line.split(' ').collect::<Vec<_>>());
}

/// The document's line that begins so, with the password.
fn line(beginning: &str) -> String {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/redis.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with(beginning)).unwrap();
    line.replace("PASSWORD", "p@ss:w/rd")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_are_enough_in_a_cluster() {
    let servers = RedisCluster::start();
    servers.nodes().iter().for_each(|server| set_user(server, "*"));
    let url = format!("redis.url=redis+cluster://bongsu:{PASSWORD}@{}", addresses(servers.nodes()));
    let world = World::redis(&[&url]);
    let mut node = world.join().await;
    node.subscribe(&["x"]).await;
    node.publish("x", "1").await;
    assert_eq!(node.next_payload().await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_are_enough_for_sentinels() {
    let servers = RedisSentinel::start();
    let rule = line("ACL SETUSER watcher ");
    for port in servers.sentinel_ports() {
        let port = port.to_string();
        let output =
            Command::new("redis-cli").args(["-e", "-p", &port]).args(rule.split(' ')).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "p@ss:w/rd\n").unwrap();
    let password = format!("redis.sentinel_password_file={}", file.display());
    let world = World::redis(&[&sentinel_url(&servers), "redis.sentinel_user=watcher", &password]);
    let mut node = world.join().await;
    node.subscribe(&["x"]).await;
    node.publish("x", "1").await;
    assert_eq!(node.next_payload().await, "1");
}
