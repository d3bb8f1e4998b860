//! How each transport carries the frames of the session to its client.

use bytes::Bytes;

use crate::limits::SOCKJS_CALLBACK_BYTES_MAX;

use super::frame::quote;
use super::page;

/// Bytes of `h` before the first frame of `xhr_streaming`: some browsers show nothing of a shorter answer.
const PRELUDE_BYTES: usize = 2048;

/// The name of the function in the client's page that takes frames. Letters, digits, `-`, `_` and `.` only, since it is written
/// into a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback(String);

/// Why a request for `jsonp` or `htmlfile` is refused: status 500 with this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallback {
    /// Neither `c` nor `callback`.
    #[error("\"callback\" parameter required")]
    Missing,
    /// Something else than a name, or more than [`SOCKJS_CALLBACK_BYTES_MAX`] bytes of it.
    #[error("invalid \"callback\" parameter")]
    Invalid,
}

impl Callback {
    /// Checks the value of the parameter `c`, or of `callback`, after percent-decoding.
    ///
    /// # Errors
    /// [`InvalidCallback`].
    pub fn parse(value: Option<&str>) -> Result<Self, InvalidCallback> {
        let name = value.filter(|name| !name.is_empty()).ok_or(InvalidCallback::Missing)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.len() > SOCKJS_CALLBACK_BYTES_MAX || !name.bytes().all(is_name) {
            return Err(InvalidCallback::Invalid);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A way for frames to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// One frame per message of a WebSocket.
    WebSocket,
    /// One frame per answer.
    XhrPolling,
    /// Frames as lines of a long answer.
    XhrStreaming,
    /// Frames as events.
    EventSource,
    /// Frames as scripts of a page that never ends.
    HtmlFile(Callback),
    /// One frame per answer, which is a script.
    JsonpPolling(Callback),
}

impl Transport {
    /// The `Content-Type` of its answers; empty for a WebSocket.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::WebSocket => "",
            Self::XhrPolling | Self::XhrStreaming | Self::JsonpPolling(_) => {
                "application/javascript; charset=UTF-8"
            }
            Self::EventSource => "text/event-stream",
            Self::HtmlFile(_) => "text/html; charset=UTF-8",
        }
    }

    /// Whether an answer ends with its first frame.
    #[must_use]
    pub const fn is_polling(&self) -> bool {
        matches!(self, Self::XhrPolling | Self::JsonpPolling(_))
    }

    /// What an answer begins with, before any frame: a write of its own, which does not count towards the answer's limit.
    #[must_use]
    pub fn prelude(&self) -> Bytes {
        match self {
            Self::WebSocket | Self::XhrPolling | Self::JsonpPolling(_) => Bytes::new(),
            Self::XhrStreaming => {
                let mut prelude = vec![b'h'; PRELUDE_BYTES];
                prelude.push(b'\n');
                prelude.into()
            }
            Self::EventSource => Bytes::from_static(b"\r\n"),
            Self::HtmlFile(callback) => page::html_file_head(callback).into(),
        }
    }

    /// A frame for a client that has no session here, in the transport's wrapping.
    #[must_use]
    pub fn frame(&self, frame: &str) -> Bytes {
        self.wrap(frame)
    }

    /// One frame in its wrapping: to be written, and flushed, at once.
    #[must_use]
    pub(super) fn wrap(&self, frame: &str) -> Bytes {
        let wrapped = match self {
            Self::WebSocket => frame.to_owned(),
            Self::XhrPolling | Self::XhrStreaming => format!("{frame}\n"),
            Self::EventSource => format!("data: {}\r\n\r\n", percent_escaped(frame)),
            Self::HtmlFile(_) => {
                let mut text = String::new();
                quote(frame, &mut text);
                // No message may end the script that it stands in.
                format!("<script>\np({});\n</script>\r\n", text.replace('<', "\\u003c"))
            }
            Self::JsonpPolling(callback) => {
                let mut text = String::new();
                quote(frame, &mut text);
                format!("/**/{}({text});\r\n", callback.as_str())
            }
        };
        wrapped.into()
    }
}

/// Escapes what would end an event's line; the client decodes it as a URI.
fn percent_escaped(frame: &str) -> String {
    let mut escaped = String::with_capacity(frame.len());
    for character in frame.chars() {
        match character {
            '%' => escaped.push_str("%25"),
            '\r' => escaped.push_str("%0D"),
            '\n' => escaped.push_str("%0A"),
            '\0' => escaped.push_str("%00"),
            _ => escaped.push(character),
        }
    }
    escaped
}
