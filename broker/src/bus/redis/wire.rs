//! What channels and commands are called on the wire.

use redis::{Cmd, Pipeline};

use super::super::Frame;
use super::address::encode;

/// Which of Redis' two kinds of channels is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `PUBLISH` and `SUBSCRIBE`: channels of one server.
    Plain,
    /// `SPUBLISH` and `SSUBSCRIBE`: channels of a Cluster, each in one slot.
    Sharded,
}

/// The names of one cluster of nodes.
///
/// Everything begins with the cluster's name, encoded so that no name can be the beginning of another one's channels:
/// `<name>:c:<channel>` for frames and `<name>:p:<random>` for probes.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) dialect: Dialect,
    /// `<name>:`
    pub(super) prefix: String,
    /// What frames' channels begin with.
    frames: String,
}

impl Wire {
    pub(super) fn new(cluster: &str, dialect: Dialect) -> Self {
        let prefix = format!("{}:", encode(cluster));
        // A Cluster places a channel by what stands in its first braces, unless that is empty. These are, so the whole name
        // counts, and braces in the names of topics do not bring all of them to one server.
        let braces = if dialect == Dialect::Sharded { "{}" } else { "" };
        Self { dialect, frames: format!("{prefix}c:{braces}"), prefix }
    }

    /// A frame's channel on the wire.
    pub(super) fn name(&self, channel: &str) -> String {
        format!("{}{channel}", self.frames)
    }

    /// The channel of a frame with this name on the wire, if it is one.
    pub(super) fn channel<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(name).ok()?.strip_prefix(&self.frames)
    }

    /// The name of a probe's channel.
    pub(super) fn probe(&self, nonce: u64) -> String {
        format!("{}p:{nonce:016x}", self.prefix)
    }

    pub(super) fn publish(&self, frame: &Frame) -> Cmd {
        let mut command = Cmd::with_capacity(3, self.frames.len() + frame.bytes() + 8);
        command
            .arg(self.verb("PUBLISH", "SPUBLISH"))
            .arg(self.name(&frame.channel))
            .arg(frame.payload.as_ref());
        command
    }

    pub(super) fn publish_probe(&self, channel: &str, number: u64) -> Cmd {
        let mut command = redis::cmd(self.verb("PUBLISH", "SPUBLISH"));
        command.arg(channel).arg(number).set_no_response(true);
        command
    }

    /// Subscribes to names on the wire with a command for each: a Cluster takes only channels of one slot in one command.
    pub(super) fn ssubscribe<'a>(names: impl Iterator<Item = &'a str>) -> Pipeline {
        each("SSUBSCRIBE", names)
    }

    /// The opposite.
    pub(super) fn sunsubscribe<'a>(names: impl Iterator<Item = &'a str>) -> Pipeline {
        each("SUNSUBSCRIBE", names)
    }

    fn verb(&self, plain: &'static str, sharded: &'static str) -> &'static str {
        match self.dialect {
            Dialect::Plain => plain,
            Dialect::Sharded => sharded,
        }
    }
}

fn each<'a>(verb: &str, names: impl Iterator<Item = &'a str>) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for name in names {
        pipeline.cmd(verb).arg(name);
    }
    pipeline
}
