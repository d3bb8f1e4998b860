//! What carries messages between nodes.
//!
//! The job: to bring a frame that one node publishes on a channel to every node that is subscribed to it, soon and usually
//! once. Not the job: to be relied on. Frames may be lost, doubled and reordered; whoever receives them repairs that from the
//! store, and is told with [`Received::Interrupted`] when there may be something to repair. The bus knows bytes: neither
//! topics nor messages.

mod bell;
mod health;
mod inbox;
mod local;
pub mod redis;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::config::Settings;

pub use bell::{Bell, CONTROL_CHANNEL, Listener};
pub use inbox::{Bounds, Inbox, Intake, Receiver};
pub use local::{LocalBus, LocalNetwork};

/// A way to the other nodes. All methods may be called at the same time from many tasks.
///
/// Whoever makes a bus gets its [`Inbox`] with it. A bus subscribes again by itself after every failure: the channels that are
/// [wanted](Self::subscribe) are wanted until they no longer are.
pub trait Bus: Send + Sync + 'static {
    /// Sends frames, in order as far as they go to one channel and to the frames of calls that were polled before. Several
    /// frames cost about as much as one.
    ///
    /// Ready means that they were handed over, not that anybody received them.
    ///
    /// # Errors
    /// Some or all were not handed over. Do not repeat them: count them and go on, receivers notice what they miss.
    fn publish(&self, frames: Vec<Frame>) -> BoxFuture<'_, Result<(), Error>>;

    /// Wants channels. Ready means that every frame that is published from now on arrives, or an interruption is told.
    ///
    /// Wanting a channel twice is wanting it once.
    ///
    /// # Errors
    /// Not known to be subscribed within the deadline. They stay wanted; an interruption is told once they are subscribed.
    fn subscribe(&self, channels: Vec<Channel>) -> BoxFuture<'_, Result<(), Error>>;

    /// No longer wants channels. Frames of them may still come for a while.
    fn unsubscribe(&self, channels: Vec<Channel>);
}

/// What frames are published on: any text of at most some hundred bytes. Nodes of other clusters never share it.
pub type Channel = Arc<str>;

/// Bytes for everybody who is subscribed to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where to.
    pub channel: Channel,
    /// What.
    pub payload: Bytes,
}

impl Frame {
    /// What it takes of every bound: the bytes of its payload and of its channel's name.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

/// Something that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A frame of a channel that is wanted, perhaps one's own.
    Frame(Frame),
    /// Frames may have been lost until now: the connection was lost, the inbox overflowed, or all is well again after that.
    Interrupted,
}

/// How a bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Every channel that is wanted is subscribed, and a probe came through lately.
    Live,
    /// Frames do not arrive, or not all. What and since when is logged by the bus.
    Degraded {
        /// What is wrong, for `/readyz` and the operator.
        reason: String,
    },
}

/// Why the bus did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side is away, refused, or did not answer in time.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// Too much waits already.
    #[error("the bus is full")]
    Full,
}

/// What a node has of the way to the others.
pub struct Joined {
    /// The way out, and what is wanted.
    pub bus: Arc<dyn Bus>,
    /// The way in.
    pub inbox: Inbox,
    /// Commands to the servers of the bus, for leases and what hangs on them.
    pub commands: redis::Commands,
}

/// Makes the bus that the settings name: Redis where `redis.url` or `redis.url_file` is given, else none, for the node is
/// alone. Needs a tokio runtime, in which the bus keeps its tasks until it is dropped.
///
/// Never waits for a server: one that is away is tried again until it is there, and [`Health`] tells of it.
///
/// # Errors
/// A setting that can never work, such as a URL of an unknown form or a certificate that cannot be read. The node should
/// not start.
pub fn connect(settings: &Settings) -> Result<Option<Joined>, redis::SettingsError> {
    let Some(servers) = redis::Servers::from_settings(settings)? else {
        return Ok(None);
    };
    let (bus, inbox) = redis::RedisBus::start(servers);
    let commands = bus.commands();
    Ok(Some(Joined { bus: Arc::new(bus), inbox, commands }))
}
