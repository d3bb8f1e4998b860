//! Redis behind Sentinel.

use std::fs;
use std::process::Command;

use super::Redis;
use crate::process::{self, Process};
use crate::wait_for;

/// A primary, a replica and three sentinels, which make the replica the primary about two seconds after the primary is gone.
pub struct RedisSentinel {
    /// In the order of their start; which of them is the primary changes.
    servers: Vec<Redis>,
    sentinels: Vec<Process>,
}

impl RedisSentinel {
    /// The name under which the sentinels know the primary.
    pub const NAME: &'static str = "bongsu";

    /// Starts all five and waits until the sentinels know each other and the replica.
    #[must_use]
    pub fn start() -> Self {
        let primary = Redis::start();
        let port = primary.port().to_string();
        let replica = Redis::start_with(&[
            "--replicaof",
            &format!("127.0.0.1 {port}"),
            "--repl-diskless-sync-delay",
            "0",
        ]);
        let sentinels = (0..3).map(|_| sentinel(primary.port())).collect();
        let all = Self { servers: vec![primary, replica], sentinels };
        wait_for("sentinels that know each other", || {
            let ready = (0..all.sentinels.len()).all(|idx| {
                let facts = all.ask(idx, &["SENTINEL", "MASTER", Self::NAME]);
                let is = |name: &str, value: &str| facts.contains(&format!("{name}\n{value}\n"));
                is("num-slaves", "1") && is("num-other-sentinels", "2") && is("flags", "master")
            });
            ready.then_some(())
        });
        all.await_replicas();
        all
    }

    /// `redis://127.0.0.1:port` of each sentinel.
    #[must_use]
    pub fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("redis://127.0.0.1:{}", sentinel.port())).collect()
    }

    /// The ports of the sentinels.
    #[must_use]
    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(Process::port).collect()
    }

    /// The two servers.
    #[must_use]
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// The server that the first sentinel that answers calls the primary.
    #[must_use]
    pub fn primary(&self) -> &Redis {
        let port = self.primary_port();
        self.servers.iter().find(|server| server.port() == port).expect("the primary is one of ours")
    }

    /// Makes the replica the primary in good order, and waits until all sentinels say so.
    pub fn failover(&self) {
        let before = self.primary_port();
        // The sentinels may still be busy with the last one.
        wait_for("a sentinel that starts a failover", || {
            self.ask(0, &["SENTINEL", "FAILOVER", Self::NAME]).starts_with("OK").then_some(())
        });
        self.await_other_primary(before);
        self.await_replicas();
    }

    /// Ends the primary at once and waits until the sentinels have made the replica the primary. The old one stays away until
    /// [`RedisSentinel::restart_ended`].
    pub fn kill_primary(&self) {
        let before = self.primary_port();
        self.primary().kill();
        self.await_other_primary(before);
    }

    /// Starts the servers again that were ended, as replicas.
    pub fn restart_ended(&self) {
        let primary = self.primary_port().to_string();
        for server in self.servers.iter().filter(|server| !server.is_running()) {
            server.start_again();
            // The sentinels would see to it as well, ten seconds later.
            server.cli(&["REPLICAOF", "127.0.0.1", &primary]);
        }
        self.await_replicas();
    }

    fn primary_port(&self) -> u16 {
        wait_for("a sentinel that knows the primary", || {
            (0..self.sentinels.len()).find_map(|idx| {
                let answer = self.ask(idx, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]);
                answer.lines().nth(1)?.parse().ok()
            })
        })
    }

    fn await_other_primary(&self, before: u16) {
        wait_for("another primary", || {
            let agreed = (0..self.sentinels.len()).all(|idx| {
                let answer = self.ask(idx, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]);
                answer
                    .lines()
                    .nth(1)
                    .and_then(|port| port.parse().ok())
                    .is_some_and(|port: u16| port != before)
            });
            agreed.then_some(())
        });
        wait_for("a primary that takes writes", || {
            self.primary().try_cli(&["ROLE"]).is_ok_and(|role| role.starts_with("master")).then_some(())
        });
    }

    /// Waits until all but the primary follow it.
    fn await_replicas(&self) {
        wait_for("replicas that follow the primary", || {
            let role = self.primary().try_cli(&["INFO", "replication"]).unwrap_or_default();
            (role.matches("state=online").count() + 1 == self.servers.len()).then_some(())
        });
    }

    /// What a sentinel answers, one word a line; nothing where it does not.
    fn ask(&self, idx: usize, command: &[&str]) -> String {
        let port = self.sentinels[idx].port().to_string();
        process::run(Command::new("redis-cli").args(["-p", &port]).args(command)).unwrap_or_default()
    }
}

fn sentinel(primary: u16) -> Process {
    Process::launch("sentinel", "+monitor master", |directory, port| {
        let name = RedisSentinel::NAME;
        // A sentinel writes what it learns into its own file.
        let file = directory.join("sentinel.conf");
        let lines = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 3000\n",
            directory.display()
        );
        fs::write(&file, lines).expect("the directory is ours");
        vec!["redis-server".into(), file.into(), "--sentinel".into()]
    })
}
