//! What can go wrong, by what the caller does about it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::message::InvalidMessage;
use bongsu_protocol::reason::{self, ErrorCode, Goodbye, Reconnect};
use bongsu_protocol::topic::InvalidTopic;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The broker said no. [`is_retryable`](Self::is_retryable) and [`retry_after`](Self::retry_after) tell what helps.
    #[error(transparent)]
    Refused(Box<reason::Error>),
    /// No answer came before the deadline. A publish may have happened: repeat it with the same message id.
    #[error("no answer came in time")]
    Timeout,
    /// The first attempt to connect failed. Nothing is left of the client.
    #[error("cannot connect: {0}")]
    Connect(Arc<Disconnected>),
    /// The client is closed for good; make a new one. The cause is there unless the application closed it.
    #[error("the client is closed{}", cause_text(.0.as_ref()))]
    Closed(Option<Arc<Disconnected>>),
    /// The text is no topic or filter: correct it.
    #[error(transparent)]
    Topic(#[from] InvalidTopic),
    /// The message breaks a limit: change it.
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    /// This client reads this very filter already: use that subscription, or a second client.
    #[error("this client is subscribed to this filter already")]
    AlreadySubscribed,
    /// The broker answered with something else than was asked for. It is not a broker of this protocol version.
    #[error("the answer does not fit the request")]
    UnexpectedReply,
}

impl Error {
    /// Whether the same call may succeed later without being changed. A repeated publish needs the same message id.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(error) => error.code.is_retryable(),
            Self::Timeout => true,
            Self::Connect(cause) => cause.reconnect(false) != Reconnect::Never,
            Self::Closed(_)
            | Self::Topic(_)
            | Self::Message(_)
            | Self::AlreadySubscribed
            | Self::UnexpectedReply => false,
        }
    }

    /// How long the broker asks to wait before the call is repeated.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Refused(error) = self else { return None };
        error.retry_after_ms.map(Duration::from_millis)
    }

    /// The broker's code, where it was the broker that said no.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        let Self::Refused(error) = self else { return None };
        Some(error.code)
    }
}

impl From<reason::Error> for Error {
    fn from(error: reason::Error) -> Self {
        Self::Refused(Box::new(error))
    }
}

fn cause_text(cause: Option<&Arc<Disconnected>>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Disconnected {
    /// The URL is none that a client can connect to.
    #[error("{0:?} is no URL of a broker: it looks like ws://host:port/v1/ws or wss://host/v1/ws")]
    Url(String),
    /// The URL says `wss`, and this crate was built without a `tls` feature, or without trust roots.
    #[error("wss is not available: {0}")]
    Tls(String),
    /// The network said no, or the connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server answered the handshake with this HTTP status.
    #[error("the server refused the connection with HTTP status {status}{}{text}", if .text.is_empty() { "" } else { ": " })]
    Rejected {
        /// The status.
        status: u16,
        /// The beginning of what it said, if that was text.
        text: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// What is at the other end does not speak `bongsu.v1.proto`, or broke its rules.
    #[error("the server does not follow the protocol: {0}")]
    Protocol(String),
    /// The broker ended the connection and said why.
    #[error("the broker ended the connection: {}", .0.close_text())]
    Goodbye(Goodbye),
    /// The connection was closed with this WebSocket code, without a goodbye.
    #[error("the connection was closed with code {code}{}{reason}", if .reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The code (RFC 6455, 7.4).
        code: u16,
        /// The reason text.
        reason: String,
    },
    /// Nothing came for twice the heartbeat interval.
    #[error("the connection is dead: nothing came for {0:?}")]
    Silent(Duration),
    /// No connection was made in time.
    #[error("no connection was made in time")]
    Timeout,
    /// The application's token callback failed.
    #[error("no token: {0}")]
    Token(String),
    /// A message was missing in a topic. The client connects again and reads on from the last one it has.
    #[error("a message of {0} is missing")]
    Hole(String),
}

impl Disconnected {
    /// Whether and how to connect again. `was_open` tells whether this client ever had a connection: a URL that worked
    /// before may answer with a wrong status for the moment, while one that never worked is probably wrong.
    pub(crate) fn reconnect(&self, was_open: bool) -> Reconnect {
        match self {
            Self::Url(_) | Self::Tls(_) => Reconnect::Never,
            Self::Rejected { status: 401 | 403, .. } => Reconnect::Never,
            Self::Rejected { status: 408 | 429 | 500.., .. } => Reconnect::Backoff,
            Self::Rejected { .. } if !was_open => Reconnect::Never,
            Self::Goodbye(goodbye) => goodbye.reason.reconnect(),
            Self::Closed { code: 1001 | 4200..=4299, .. } | Self::Silent(_) | Self::Hole(_) => Reconnect::Now,
            Self::Closed { code: 1002 | 1003 | 1007 | 1009 | 4400..=4499, .. } => Reconnect::Never,
            Self::Io(_)
            | Self::Rejected { .. }
            | Self::Protocol(_)
            | Self::Closed { .. }
            | Self::Timeout
            | Self::Token(_) => Reconnect::Backoff,
        }
    }

    /// How long the broker asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Goodbye(goodbye) => goodbye.retry_after_ms.map(Duration::from_millis),
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a new token could help: the broker ended a connection that worked because its token ran out.
    pub(crate) fn wants_token(&self) -> bool {
        match self {
            Self::Goodbye(goodbye) => goodbye.reason == reason::CloseReason::Unauthenticated,
            Self::Closed { code, .. } => *code == reason::CloseReason::Unauthenticated.websocket_code(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small() {
        assert!(size_of::<Error>() <= 32, "{}", size_of::<Error>());
    }
}
