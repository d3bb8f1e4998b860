//! Why a request failed and why a connection closed, with what the other side should do about it.

use std::fmt;

use crate::limits::{CLOSE_REASON_BYTES_MAX, TEXT_BYTES_MAX};
use crate::position::Position;

/// Which kind of failure a request met. The name on the wire is the [`Display`](fmt::Display) form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request makes no sense: correct it.
    BadRequest,
    /// Who you are is not known: authenticate, then repeat.
    Unauthenticated,
    /// You may not do this.
    Forbidden,
    /// What was asked for does not exist, or the topic keeps no history.
    NotFound,
    /// The message is larger than this topic takes.
    TooLarge,
    /// A limit on how many subscriptions, members or topics one connection has was reached.
    TooMany,
    /// Faster than this topic or publisher may be: repeat after the time given.
    RateLimited,
    /// `expect` did not hold; the error's `head` has the topic's newest position.
    Conflict,
    /// The store did not answer, or not everybody who is present is known: repeat after the time given, a publish with the same
    /// message id. It may have happened.
    Unavailable,
    /// This broker does not know the command.
    Unsupported,
    /// The broker's own fault, logged there.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the schema.
    pub const ALL: [Self; 11] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::TooLarge,
        Self::TooMany,
        Self::RateLimited,
        Self::Conflict,
        Self::Unavailable,
        Self::Unsupported,
        Self::Internal,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::RateLimited => "rate_limited",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Internal)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Error {
    /// The kind, for programs.
    pub code: ErrorCode,
    /// What happened and what to do, for people. At most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// Milliseconds to wait before repeating; `None` if repeating does not help or any time will do.
    pub retry_after_ms: Option<u64>,
    /// With [`ErrorCode::Conflict`]: the topic's newest position.
    pub head: Option<Position>,
}

impl Error {
    /// An error without further advice; text past the limit is cut.
    #[must_use]
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: cut(text.into(), TEXT_BYTES_MAX), retry_after_ms: None, head: None }
    }

    /// The same with a time to wait.
    #[must_use]
    pub fn retry_after(self, milliseconds: u64) -> Self {
        Self { retry_after_ms: Some(milliseconds), ..self }
    }
}

/// Whether and when a client should connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reconnect {
    /// Not by itself: a person or the application must change something first.
    Never,
    /// At once, spread over a short random time.
    Now,
    /// With growing, jittered pauses.
    Backoff,
}

/// Why a connection closes. One mapping from here to every transport's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client asked for it, or its side ended.
    Normal,
    /// This node is going away; another takes over.
    GoingAway,
    /// The client broke the protocol: frames, order of request ids, unknown structure.
    ProtocolError,
    /// Text where binary was agreed, or the reverse.
    UnsupportedData,
    /// Text that is not UTF-8, or a payload that does not decode.
    InvalidPayload,
    /// A frame past its limit.
    TooLarge,
    /// The broker's own fault.
    Internal,
    /// The node has as many connections as it takes.
    Overloaded,
    /// Neither data nor a pong came in time.
    PingTimeout,
    /// The socket took no byte within the write deadline.
    WriteTimeout,
    /// The policy of a live topic says that its slow readers are disconnected.
    SlowReader,
    /// No valid token where one is needed, or it ran out.
    Unauthenticated,
    /// Known, but not allowed here.
    Forbidden,
    /// Somebody who may ended this session.
    Kicked,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::UnsupportedData,
        Self::InvalidPayload,
        Self::TooLarge,
        Self::Internal,
        Self::Overloaded,
        Self::PingTimeout,
        Self::WriteTimeout,
        Self::SlowReader,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Kicked,
    ];

    /// The name on the wire, in logs and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going_away",
            Self::ProtocolError => "protocol_error",
            Self::UnsupportedData => "unsupported_data",
            Self::InvalidPayload => "invalid_payload",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
            Self::Overloaded => "overloaded",
            Self::PingTimeout => "ping_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::SlowReader => "slow_reader",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Kicked => "kicked",
        }
    }

    /// The WebSocket close code: RFC 6455, 7.4.1, or ours. Ours are grouped by what the client should do:
    /// 4100 to 4199 back off, 4200 to 4299 at once, 4400 to 4499 not before something changed.
    #[must_use]
    pub const fn websocket_code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::UnsupportedData => 1003,
            Self::InvalidPayload => 1007,
            Self::TooLarge => 1009,
            Self::Internal => 1011,
            Self::Overloaded => 1013,
            Self::SlowReader => 4100,
            Self::WriteTimeout => 4101,
            Self::PingTimeout => 4200,
            Self::Unauthenticated => 4401,
            Self::Forbidden => 4403,
            Self::Kicked => 4410,
        }
    }

    /// What the client should do.
    #[must_use]
    pub const fn reconnect(self) -> Reconnect {
        match self {
            Self::GoingAway | Self::PingTimeout => Reconnect::Now,
            Self::Internal | Self::Overloaded | Self::WriteTimeout | Self::SlowReader => Reconnect::Backoff,
            Self::Normal
            | Self::ProtocolError
            | Self::UnsupportedData
            | Self::InvalidPayload
            | Self::TooLarge
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::Kicked => Reconnect::Never,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The last event of a connection: why it closes and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    /// Why.
    pub reason: CloseReason,
    /// What happened, for people. At most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// Milliseconds to wait before connecting again, where the broker has an opinion.
    pub retry_after_ms: Option<u64>,
}

impl Goodbye {
    /// A goodbye without a waiting time; text past the limit is cut.
    #[must_use]
    pub fn new(reason: CloseReason, text: impl Into<String>) -> Self {
        Self { reason, text: cut(text.into(), TEXT_BYTES_MAX), retry_after_ms: None }
    }

    /// The reason text of the WebSocket close frame: `name: text`, cut to what a control frame holds.
    #[must_use]
    pub fn close_text(&self) -> String {
        let text = if self.text.is_empty() {
            self.reason.as_str().to_owned()
        } else {
            format!("{}: {}", self.reason, self.text)
        };
        cut(text, CLOSE_REASON_BYTES_MAX)
    }
}

/// Cuts a text to at most `bytes_max` bytes, at a character boundary.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
    text
}
