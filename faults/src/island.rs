//! A network namespace for one node, so that its cable to Redis can be pulled while the others stay in.
//!
//! A proxy that swallows bytes still acknowledges them: TCP on both sides believes that all is well. Here packets themselves are lost, and
//! the node's kernel finds out as it would on a real network.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use bongsu_testkit::Process;
use rand::Rng as _;

/// A namespace with two cables to the machine: one for the bus, and one for everything else.
///
/// It lasts as long as the process that holds it, which ends with this one. Cables go with the namespace.
pub(crate) struct Island {
    holder: Process,
    bus: Cable,
    rest: Cable,
}

/// A pair of virtual Ethernet interfaces.
struct Cable {
    /// The interface on the machine's side.
    name: String,
    /// First of four addresses: the second is the machine's, the third the island's.
    network: Ipv4Addr,
}

impl Island {
    /// Makes one, where this machine lets us: it takes root, `ip`, `unshare` and `nsenter`.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn make() -> anyhow::Result<Self> {
        // Asked first, since a holder that does not start is a test's failure.
        run("unshare", &["--net", "true"])?;
        let holder = Process::launch("island", "ready", |_, _| {
            ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"].map(Into::into).to_vec()
        });
        let mut random = rand::rng();
        // RFC 2544 keeps 198.18.0.0/15 for tests of networks: nobody's route leads there.
        let (third, number) = (random.random_range(0..=255), random.random_range(0..100_000));
        let fourth = random.random_range(0..32) * 8;
        let cable = |suffix: &str, skip: u8| Cable {
            name: format!("bongsu{number}{suffix}"),
            network: Ipv4Addr::new(198, 18, third, fourth + skip),
        };
        let island = Self { holder, bus: cable("b", 0), rest: cable("r", 4) };
        island.lay(&island.bus)?;
        island.lay(&island.rest)?;
        island.inside(&["ip", "link", "set", "lo", "up"])?;
        Ok(island)
    }

    fn lay(&self, cable: &Cable) -> anyhow::Result<()> {
        let name = cable.name.as_str();
        let (here, there) = (format!("{}/30", cable.address(1)), format!("{}/30", cable.address(2)));
        ip(&["link", "add", name, "type", "veth", "peer", "name", name, "netns", &self.path()])?;
        ip(&["address", "add", &here, "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        self.inside(&["ip", "address", "add", &there, "dev", name])?;
        self.inside(&["ip", "link", "set", name, "up"])?;
        // While the cable is out, what is meant for the island must not leave the machine by another way.
        ip(&["route", "add", "blackhole", &format!("{}/30", cable.network), "metric", "9999"])
    }

    /// The machine's address on the cable for the bus.
    pub(crate) fn bus_gateway(&self) -> IpAddr {
        self.bus.address(1).into()
    }

    /// The machine's address on the other cable.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.rest.address(1).into()
    }

    /// The island's address on that cable, where the machine finds the node.
    pub(crate) fn address(&self) -> IpAddr {
        self.rest.address(2).into()
    }

    /// Words before a command that is to run there.
    pub(crate) fn prefix(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net={}", self.path())]
    }

    /// Pulls the cable for the bus: packets go nowhere, both ways.
    pub(crate) fn unplug(&self) -> anyhow::Result<()> {
        ip(&["link", "set", &self.bus.name, "down"])
    }

    /// Puts it in again.
    pub(crate) fn plug(&self) -> anyhow::Result<()> {
        ip(&["link", "set", &self.bus.name, "up"])
    }

    fn inside(&self, words: &[&str]) -> anyhow::Result<()> {
        let [program, namespace] = self.prefix();
        run(&program, &[&[namespace.as_str()], words].concat())
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        for cable in [&self.bus, &self.rest] {
            // What a run that is killed leaves behind: a route to nowhere, for addresses that are nobody's.
            let _ = ip(&["route", "del", "blackhole", &format!("{}/30", cable.network), "metric", "9999"]);
        }
    }
}

impl Cable {
    const fn address(&self, idx: u8) -> Ipv4Addr {
        let [first, second, third, fourth] = self.network.octets();
        Ipv4Addr::new(first, second, third, fourth + idx)
    }
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    run("ip", words)
}

fn run(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(words).stdin(Stdio::null()).output().context(program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", words.join(" "), said.trim());
    Ok(())
}
