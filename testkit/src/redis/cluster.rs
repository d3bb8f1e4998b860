//! A Redis Cluster.

use std::ops::Range;
use std::process::Command;

use super::Redis;
use crate::ports::free_port;
use crate::{process, wait_for};

/// A Redis Cluster of three masters, with a replica each or none. A master that is gone is noticed after about a second.
pub struct RedisCluster {
    /// The first three begin as masters, the others as their replicas.
    nodes: Vec<Redis>,
}

/// Every key belongs to one of these (Redis Cluster specification, "Key distribution model").
const SLOTS: usize = 16_384;

const MASTERS: usize = 3;

impl RedisCluster {
    /// Starts three masters.
    #[must_use]
    pub fn start() -> Self {
        Self::with_nodes(MASTERS)
    }

    /// Starts three masters with a replica each, which takes its master's place when that is gone.
    #[must_use]
    pub fn start_with_replicas() -> Self {
        Self::with_nodes(MASTERS * 2)
    }

    /// All nodes, the first three masters first.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// `redis://127.0.0.1:port` of each node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// Places in [`RedisCluster::nodes`] of the living masters that serve slots.
    #[must_use]
    pub fn masters(&self) -> Vec<usize> {
        let views = view(self.living()).unwrap_or_default();
        let serves = |idx: &usize| {
            let id = self.id(*idx);
            views.iter().any(|line| line.starts_with(&id))
        };
        (0..self.nodes.len()).filter(|idx| self.nodes[*idx].is_running()).filter(serves).collect()
    }

    /// Moves this many slots, with their keys, from one master to another, and waits until all nodes know.
    pub fn move_slots(&self, from: usize, to: usize, n_slots: usize) {
        let [from, to] = [from, to].map(|idx| self.id(idx));
        let via = format!("127.0.0.1:{}", self.living().port());
        let n_slots = n_slots.to_string();
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "reshard", &via, "--cluster-from", &from, "--cluster-to", &to]);
        command.args(["--cluster-slots", &n_slots, "--cluster-yes"]);
        // The nodes may not have agreed on the last change yet.
        wait_for("a resharding", || process::run(&mut command).ok());
        self.await_agreement();
    }

    /// Ends a node at once. Where it was a master with a replica, waits until that has its place.
    pub fn kill_node(&self, idx: usize) {
        let id = self.id(idx);
        self.nodes[idx].kill();
        if self.nodes.len() > MASTERS {
            self.await_agreement_without(&id);
        }
    }

    /// Starts the node again after [`RedisCluster::kill_node`], and waits until all nodes agree again.
    pub fn restart_node(&self, idx: usize) {
        self.nodes[idx].start_again();
        self.await_agreement();
    }

    /// Waits until every living node says that all slots are served and all say the same about who serves them.
    fn await_agreement(&self) {
        self.await_agreement_without("nobody");
    }

    /// The same, and none of them says that this node serves any.
    fn await_agreement_without(&self, id: &str) {
        wait_for("nodes that agree", || {
            let mut views = self.nodes.iter().filter(|node| node.is_running()).map(view);
            let first = views.next()??;
            let without = first.iter().all(|line| !line.starts_with(id));
            (without && views.all(|view| view.as_ref() == Some(&first))).then_some(())
        });
    }

    fn with_nodes(n_nodes: usize) -> Self {
        let nodes: Vec<(Redis, u16)> = (0..n_nodes).map(|_| node()).collect();
        for (idx, (node, _)) in nodes.iter().enumerate().take(MASTERS) {
            let Range { start, end } = SLOTS * idx / MASTERS..SLOTS * (idx + 1) / MASTERS;
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", &start.to_string(), &(end - 1).to_string()]);
            // Nodes with the same number would have to agree on new ones first.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(idx + 1).to_string()]);
        }
        for (node, bus_port) in &nodes[1..] {
            let port = node.port().to_string();
            nodes[0].0.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port.to_string()]);
        }
        let all = Self { nodes: nodes.into_iter().map(|(node, _)| node).collect() };
        for idx in MASTERS..n_nodes {
            let master = all.id(idx - MASTERS);
            wait_for("a node that knows its master", || {
                all.nodes[idx].try_cli(&["CLUSTER", "REPLICATE", &master]).ok()
            });
        }
        all.await_agreement();
        wait_for("replicas that follow their masters", || {
            let mut replicas = all.nodes[MASTERS..].iter();
            replicas.all(|node| node.cli(&["ROLE"]).contains("connected")).then_some(())
        });
        all
    }

    fn id(&self, idx: usize) -> String {
        self.nodes[idx].cli(&["CLUSTER", "MYID"]).trim().to_owned()
    }

    fn living(&self) -> &Redis {
        self.nodes.iter().find(|node| node.is_running()).expect("one node lives")
    }
}

/// Who serves which slots, as this node sees it; nothing unless it sees all slots served.
fn view(node: &Redis) -> Option<Vec<String>> {
    let info = node.try_cli(&["CLUSTER", "INFO"]).ok()?;
    if !info.contains("cluster_state:ok") || !info.contains("cluster_slots_ok:16384") {
        return None;
    }
    // `id address flags master ping pong epoch link slots…`
    let nodes = node.try_cli(&["CLUSTER", "NODES"]).ok()?;
    let mut masters: Vec<String> = nodes
        .lines()
        .filter(|line| line.split(' ').nth(8).is_some())
        .map(|line| {
            line.split(' ')
                .enumerate()
                .filter(|(at, _)| *at == 0 || *at > 7)
                .map(|(_, word)| word)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    masters.sort();
    Some(masters)
}

/// A node with its two ports: the usual second one, 10,000 above the first, may belong to somebody else or not exist.
fn node() -> (Redis, u16) {
    let bus_port = free_port();
    let text = bus_port.to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &text];
    let more = ["--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0"];
    (Redis::start_with(&[options.as_slice(), &more].concat()), bus_port)
}
