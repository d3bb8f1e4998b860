//! The servers start, do what their methods say, and end with their handle or with the process.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bongsu_testkit::{Postgres, Redis, RedisCluster, RedisSentinel};

#[test]
fn a_redis_serves_restarts_on_its_port_and_ends_with_its_handle() {
    let redis = Redis::start();
    redis.cli(&["SET", "key", "value"]);
    let pid = redis.pid();
    redis.restart();
    assert_ne!(redis.pid(), pid);
    assert_eq!(redis.cli(&["GET", "key"]).trim(), "");
    let pid = redis.pid();
    drop(redis);
    assert!(!is_alive(pid));
}

#[test]
fn a_paused_redis_answers_after_it_was_resumed() {
    let redis = Redis::start();
    redis.pause();
    assert_eq!(state(redis.pid()), Some('T'));
    redis.resume();
    assert_eq!(redis.cli(&["PING"]).trim(), "PONG");
}

#[test]
fn a_redis_with_password_users_or_tls_lets_its_own_tool_in() {
    let redis = Redis::start_with(&["--requirepass", "secret"]);
    assert_eq!(redis.cli(&["PING"]).trim(), "PONG");
    let redis = Redis::start_with_users(&["user default off", "user bongsu on >secret ~* &* +@all"]);
    assert_eq!(redis.cli(&["ACL", "WHOAMI"]).trim(), "bongsu");
    let redis = Redis::start_with_tls();
    assert_eq!(redis.cli(&["PING"]).trim(), "PONG");
    assert!(redis.url().starts_with("rediss://") && redis.tls().unwrap().certificate.exists());
}

#[test]
fn sentinels_make_the_replica_the_primary() {
    let all = RedisSentinel::start();
    assert_eq!(all.sentinel_urls().len(), 3);
    let first = all.primary().port();
    all.failover();
    let second = all.primary().port();
    assert_ne!(first, second);
    all.kill_primary();
    assert_eq!(all.primary().port(), first);
    all.restart_ended();
}

#[test]
fn a_cluster_moves_slots_and_replaces_a_lost_master() {
    let cluster = RedisCluster::start_with_replicas();
    cluster.move_slots(0, 1, 10);
    assert!(cluster.nodes()[1].cli(&["CLUSTER", "NODES"]).contains(" 0-9 "));
    cluster.kill_node(2);
    assert!(cluster.nodes()[5].cli(&["ROLE"]).starts_with("master"));
    cluster.restart_node(2);
}

#[test]
fn a_postgres_keeps_what_it_committed_when_it_is_killed() {
    let postgres = Postgres::start();
    assert!(postgres.database().ends_with("/test_1") && postgres.database().ends_with("/test_2"));
    postgres.sql("create table kept (value int); insert into kept values (7)");
    postgres.kill();
    postgres.start_again();
    assert_eq!(postgres.sql("select value from kept").trim(), "7");
    postgres.pause();
    assert_eq!(state(postgres.pid()), Some('T'));
    postgres.resume();
    postgres.restart();
    assert_eq!(postgres.sql("select value from kept").trim(), "7");
    let pid = postgres.pid();
    drop(postgres);
    assert!(!is_alive(pid));
}

#[test]
fn a_standby_has_what_the_primary_acknowledged_and_takes_its_place() {
    let primary = Postgres::start();
    let standby = primary.standby();
    primary.sql("create table kept (value int); insert into kept values (7)");
    primary.kill();
    standby.promote();
    assert_eq!(standby.sql("insert into kept values (8); select count(*) from kept").trim(), "2");
    primary.follow(&standby);
    standby.sql("insert into kept values (9)");
    standby.kill();
    primary.promote();
    assert_eq!(primary.sql("select count(*) from kept").trim(), "3");
}

/// The environment variable that makes the test below its own victim.
const VICTIM: &str = "TESTKIT_VICTIM";

#[test]
fn servers_end_with_a_process_that_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let redis: &'static Redis = Box::leak(Box::new(Redis::start()));
        eprintln!("{} {}", redis.pid(), redis.cli(&["CONFIG", "GET", "dir"]).lines().nth(1).unwrap());
        // To the whole group, as a terminal or `timeout` does.
        rustix::process::kill_current_process_group(rustix::process::Signal::KILL).unwrap();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.process_group(0).args(["--exact", "servers_end_with_a_process_that_is_killed", "--nocapture"]);
    // Standard error stays open until the last of its processes has ended: that is what `output` waits for.
    let output = again.env(VICTIM, "1").stdout(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let (pid, directory) = said.trim().lines().last().unwrap().split_once(' ').unwrap();
    assert!(!is_alive(pid.parse().unwrap()) && !Path::new(directory).exists(), "{said}");
}

fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The letter that `/proc` has for the process: `T` is stopped, `Z` ended.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
