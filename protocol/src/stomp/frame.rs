//! What a frame consists of, and the versions of the protocol.

use bytes::Bytes;

/// A version of STOMP. Later ones are larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// STOMP 1.0: no escapes, blanks around names and values mean nothing.
    V10,
    /// STOMP 1.1: escapes, heart-beats, NACK.
    V11,
    /// STOMP 1.2: lines may end with CR LF, the `ack` header.
    V12,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V10, Self::V11, Self::V12];

    /// Every version, as the `version` header of an ERROR frame names them.
    pub const SUPPORTED: &'static str = "1.0,1.1,1.2";

    /// The version's name in headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    /// The WebSocket sub-protocol that stands for it.
    #[must_use]
    pub const fn sub_protocol(self) -> &'static str {
        match self {
            Self::V10 => "v10.stomp",
            Self::V11 => "v11.stomp",
            Self::V12 => "v12.stomp",
        }
    }

    /// The sub-protocol to answer a WebSocket handshake with: the highest one that was offered. `None`: answer without one, which
    /// is also right for a client that offered only names nobody knows.
    #[must_use]
    pub fn choose_sub_protocol<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
        let known = |name: &str| Self::ALL.into_iter().find(|version| version.sub_protocol() == name.trim());
        offered.into_iter().filter_map(known).max().map(Self::sub_protocol)
    }

    /// The highest version in the list of an `accept-version` header; 1.0 if there is no such header. `None`: no common version.
    #[must_use]
    pub fn negotiate(accept_version: Option<&str>) -> Option<Self> {
        let Some(list) = accept_version else { return Some(Self::V10) };
        let known = |name: &str| Self::ALL.into_iter().find(|version| version.as_str() == name.trim());
        list.split(',').filter_map(known).max()
    }
}

/// What a frame asks or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Opens a session.
    Connect,
    /// The same, by clients that know 1.1.
    Stomp,
    /// Publishes.
    Send,
    /// Begins to read a destination.
    Subscribe,
    /// Ends it.
    Unsubscribe,
    /// Settles messages.
    Ack,
    /// Gives messages back.
    Nack,
    /// Opens a transaction.
    Begin,
    /// Carries one out.
    Commit,
    /// Forgets one.
    Abort,
    /// Says goodbye.
    Disconnect,
    /// The broker opened the session.
    Connected,
    /// A message of a subscription.
    Message,
    /// A frame was carried out.
    Receipt,
    /// What went wrong; the connection closes.
    Error,
}

impl Command {
    /// Every command, those of clients first.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Stomp,
        Self::Send,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Ack,
        Self::Nack,
        Self::Begin,
        Self::Commit,
        Self::Abort,
        Self::Disconnect,
        Self::Connected,
        Self::Message,
        Self::Receipt,
        Self::Error,
    ];

    /// The frame's first line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Stomp => "STOMP",
            Self::Send => "SEND",
            Self::Subscribe => "SUBSCRIBE",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Ack => "ACK",
            Self::Nack => "NACK",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Abort => "ABORT",
            Self::Disconnect => "DISCONNECT",
            Self::Connected => "CONNECTED",
            Self::Message => "MESSAGE",
            Self::Receipt => "RECEIPT",
            Self::Error => "ERROR",
        }
    }

    /// The command of a frame's first line. Upper and lower case differ.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.as_str() == line)
    }

    /// Whether such a frame publishes: by itself, or what a transaction held back.
    #[must_use]
    pub const fn publishes(self) -> bool {
        matches!(self, Self::Send | Self::Commit)
    }

    /// Whether such a frame may have a body.
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether headers of such a frame are escaped in the versions that escape. Those of the handshake never are, since it is what
    /// agrees on a version.
    #[must_use]
    pub const fn is_escaped(self) -> bool {
        !matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }
}

/// One frame, decoded: names and values without escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it asks or tells.
    pub command: Command,
    /// Names and values, each name once: of a repeated header the first one counts.
    pub headers: Vec<(String, String)>,
    /// The body; empty where the command has none.
    pub body: Bytes,
}

impl Frame {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}
