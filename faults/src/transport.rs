//! The ways into the broker that the checker takes.

use std::fmt;

/// A way to read from the broker, to publish through it, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Transport {
    /// The native protocol in JSON, over WebSocket.
    Json,
    /// The native protocol in protobuf, over WebSocket.
    Binary,
    /// The native protocol in SockJS, over its WebSocket.
    SockJsWebSocket,
    /// The same, over one streaming answer after another.
    SockJsStreaming,
    /// The same, over one polled answer after another.
    SockJsPolling,
    /// STOMP 1.2 over WebSocket.
    StompWebSocket,
    /// STOMP 1.2 in SockJS, over its WebSocket.
    StompSockJs,
    /// STOMP 1.2 over bare TCP.
    StompTcp,
    /// Server-sent events of one topic, whose data is the payload.
    EventSource,
    /// Server-sent events of several topics, whose data is the delivery.
    EventsOfSeveral,
    /// Lines of JSON.
    Lines,
    /// Long polls of a Durable Stream.
    LongPoll,
    /// `POST /v1/publish`.
    Post,
    /// `bongsu.publish` in the database.
    Sql,
}

impl Transport {
    /// All of them, in the order of a report.
    pub(crate) const ALL: [Self; 14] = [
        Self::Json,
        Self::Binary,
        Self::SockJsWebSocket,
        Self::SockJsStreaming,
        Self::SockJsPolling,
        Self::StompWebSocket,
        Self::StompSockJs,
        Self::StompTcp,
        Self::EventSource,
        Self::EventsOfSeveral,
        Self::Lines,
        Self::LongPoll,
        Self::Post,
        Self::Sql,
    ];

    /// Those that read.
    pub(crate) const READERS: &[Self] = Self::ALL.split_at(12).0;

    /// Whether each topic needs a connection of its own.
    pub(crate) const fn reads_one_topic(self) -> bool {
        matches!(self, Self::EventSource | Self::Lines | Self::LongPoll)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Json => "native JSON",
            Self::Binary => "native binary",
            Self::SockJsWebSocket => "SockJS, websocket",
            Self::SockJsStreaming => "SockJS, xhr-streaming",
            Self::SockJsPolling => "SockJS, xhr-polling",
            Self::StompWebSocket => "STOMP over WebSocket",
            Self::StompSockJs => "STOMP over SockJS",
            Self::StompTcp => "STOMP over TCP",
            Self::EventSource => "EventSource, one topic",
            Self::EventsOfSeveral => "EventSource, several topics",
            Self::Lines => "lines of JSON",
            Self::LongPoll => "long poll",
            Self::Post => "`POST /v1/publish`",
            Self::Sql => "`bongsu.publish` in SQL",
        })
    }
}
