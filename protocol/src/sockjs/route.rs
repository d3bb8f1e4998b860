//! Which path below a service's prefix is what.

/// An HTTP method that some path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Sends, or polls.
    Post,
    /// Asks what is allowed.
    Options,
}

/// What a path below the prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// The prefix itself.
    Greeting,
    /// What the service can do.
    Info,
    /// The page for iframes, in any version.
    Iframe,
    /// A WebSocket without any framing.
    RawWebSocket,
    /// One end of a session.
    Session {
        /// The session's name, still percent-encoded. The server's name before it in the path means nothing here.
        session: &'a str,
        /// Which end.
        path: SessionPath,
    },
}

/// The ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionPath {
    /// Both directions.
    WebSocket,
    /// Receives one frame.
    Xhr,
    /// Receives many.
    XhrStreaming,
    /// Sends.
    XhrSend,
    /// Receives many, as events.
    EventSource,
    /// Receives many, as scripts.
    HtmlFile,
    /// Receives one, as a script.
    Jsonp,
    /// Sends, from a form.
    JsonpSend,
}

impl SessionPath {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "websocket" => Self::WebSocket,
            "xhr" => Self::Xhr,
            "xhr_streaming" => Self::XhrStreaming,
            "xhr_send" => Self::XhrSend,
            "eventsource" => Self::EventSource,
            "htmlfile" => Self::HtmlFile,
            "jsonp" => Self::Jsonp,
            "jsonp_send" => Self::JsonpSend,
            _ => return None,
        })
    }
}

impl<'a> Route<'a> {
    /// Reads what follows the prefix in a request's path, without the query. One slash at the end may be there or not. `None`: 404.
    #[must_use]
    pub fn parse(rest: &'a str) -> Option<Self> {
        if rest.is_empty() || rest == "/" {
            return Some(Self::Greeting);
        }
        let rest = rest.strip_prefix('/')?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        match rest {
            "info" => return Some(Self::Info),
            "websocket" => return Some(Self::RawWebSocket),
            _ if is_iframe(rest) => return Some(Self::Iframe),
            _ => {}
        }
        let mut parts = rest.split('/');
        let (server, session, end) = (parts.next()?, parts.next()?, parts.next()?);
        let is_name = |name: &str| !name.is_empty() && !name.contains('.');
        if parts.next().is_some() || !is_name(server) || !is_name(session) {
            return None;
        }
        Some(Self::Session { session, path: SessionPath::parse(end)? })
    }

    /// The methods that the path takes; any other one is answered with 405 and these as `Allow`.
    #[must_use]
    pub const fn methods(self) -> &'static [Method] {
        match self {
            Self::Info => &[Method::Options, Method::Get],
            Self::Greeting | Self::Iframe | Self::RawWebSocket => &[Method::Get],
            Self::Session { path, .. } => match path {
                SessionPath::WebSocket | SessionPath::EventSource => &[Method::Get],
                SessionPath::HtmlFile | SessionPath::Jsonp => &[Method::Get],
                SessionPath::JsonpSend => &[Method::Post],
                SessionPath::Xhr | SessionPath::XhrStreaming | SessionPath::XhrSend => {
                    &[Method::Options, Method::Post]
                }
            },
        }
    }
}

fn is_iframe(name: &str) -> bool {
    let version = name.strip_prefix("iframe").and_then(|rest| rest.strip_suffix(".html"));
    let is_version = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'.' | b'_');
    version.is_some_and(|version| version.bytes().all(is_version))
}
