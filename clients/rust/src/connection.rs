//! One connection: the socket, the handshakes, frames in and out.

use std::future::poll_fn;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::event::{Event, Welcome};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use crate::builder::Builder;
use crate::error::Disconnected;
use crate::limits::{
    CLOSE_PATIENCE, READ_BUFFER_BYTES, SERVER_FRAME_BYTES_MAX, WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES_MAX,
};

/// A byte stream: TCP, or TLS over it.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// An open connection that the broker has welcomed.
pub(crate) struct Connection {
    socket: WebSocketStream<Box<dyn Io>>,
    /// Goes out next; `None` while nothing waits.
    outgoing: Option<Bytes>,
    /// Something was handed to the socket and not flushed yet.
    flushing: bool,
    /// When it was opened.
    pub(crate) since: Instant,
    /// When something last came.
    heard: Instant,
    /// Without a sign of life for this long, the connection is dead.
    silence_max: Duration,
}

/// What happened on a connection.
pub(crate) enum Happened {
    /// A frame came.
    Frame(Vec<Event>),
    /// The frame that waited was written.
    Written,
}

/// Connects, and waits for the broker's welcome. With what else came in the same frame.
///
/// # Errors
/// [`Disconnected`], with what it says about trying again.
pub(crate) async fn open(options: &Builder) -> Result<(Box<Connection>, Welcome, Vec<Event>), Disconnected> {
    timeout(options.connect_deadline, open_in_time(options)).await.map_err(|_| Disconnected::Timeout)?
}

async fn open_in_time(options: &Builder) -> Result<(Box<Connection>, Welcome, Vec<Event>), Disconnected> {
    let address = Address::parse(&options.url)?;
    let mut request = address.request()?;
    if let Some(source) = &options.token {
        let token = (source.0)().await.map_err(Disconnected::Token)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Disconnected::Token("it has characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
    // Frames are as large as they should be when they are written; waiting for more would only add latency.
    socket.set_nodelay(true)?;
    let socket = address.secure(socket, options).await?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(SERVER_FRAME_BYTES_MAX))
        .max_frame_size(Some(SERVER_FRAME_BYTES_MAX));
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, socket, Some(config)).await?;
    loop {
        let message = socket.next().await.ok_or_else(ended)??;
        let Some(events) = decode(message)? else { continue };
        let mut events = events.into_iter();
        let welcome = match events.next() {
            Some(Event::Welcome(welcome)) => welcome,
            Some(Event::Goodbye(goodbye)) => return Err(Disconnected::Goodbye(goodbye)),
            _ => return Err(Disconnected::Protocol("it did not begin with a welcome".to_owned())),
        };
        let now = Instant::now();
        let silence_max = Duration::from_millis(welcome.heartbeat_ms.saturating_mul(2).max(1));
        let connection =
            Connection { socket, outgoing: None, flushing: false, since: now, heard: now, silence_max };
        return Ok((Box::new(connection), welcome, events.collect()));
    }
}

/// Where a URL leads.
struct Address {
    tls: bool,
    /// As a name to be looked up: an IPv6 address without its brackets.
    host: String,
    port: u16,
    uri: Uri,
}

impl Address {
    fn parse(url: &str) -> Result<Self, Disconnected> {
        let invalid = || Disconnected::Url(url.to_owned());
        let given = Uri::from_str(url).map_err(|_| invalid())?;
        let tls = match given.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(invalid()),
        };
        let host = given.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let authority = given.authority().map(ToString::to_string).ok_or_else(invalid)?;
        let path = match given.path_and_query().map(|path| path.as_str()) {
            None | Some("" | "/") => "/v1/ws",
            Some(path) => path,
        };
        let scheme = if tls { "wss" } else { "ws" };
        let uri = Uri::from_str(&format!("{scheme}://{authority}{path}")).map_err(|_| invalid())?;
        Ok(Self { tls, host, port: given.port_u16().unwrap_or(if tls { 443 } else { 80 }), uri })
    }

    fn request(&self) -> Result<Request, Disconnected> {
        let mut request = self.uri.clone().into_client_request()?;
        let protocol = HeaderValue::from_static(Format::Binary.sub_protocol());
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(request)
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, socket: TcpStream, options: &Builder) -> Result<Box<dyn Io>, Disconnected> {
        if !self.tls {
            return Ok(Box::new(socket));
        }
        Ok(Box::new(crate::tls::handshake(socket, &self.host, options.tls.clone()).await?))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "it waits where TLS is built in")]
    async fn secure(&self, socket: TcpStream, _: &Builder) -> Result<Box<dyn Io>, Disconnected> {
        if self.tls {
            return Err(Disconnected::Tls("this program was built without it".to_owned()));
        }
        Ok(Box::new(socket))
    }
}

impl Connection {
    /// Whether a frame can be taken.
    pub(crate) const fn is_idle(&self) -> bool {
        self.outgoing.is_none() && !self.flushing
    }

    /// Takes a frame to be written. Only while [idle](Self::is_idle).
    pub(crate) fn send(&mut self, frame: Bytes) {
        self.outgoing = Some(frame);
    }

    /// When the connection is dead if nothing comes until then.
    pub(crate) fn dead_at(&self) -> Instant {
        self.heard + self.silence_max
    }

    /// Nothing came, but nobody listened either.
    pub(crate) fn forgive_silence(&mut self) {
        self.heard = Instant::now();
    }

    pub(crate) fn silent(&self) -> Disconnected {
        Disconnected::Silent(self.silence_max)
    }

    /// Waits until a frame came, unless `reads` says that none is wanted, or until the frame that waits was written. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// The connection is over.
    pub(crate) async fn next(&mut self, reads: bool) -> Result<Happened, Disconnected> {
        poll_fn(|context| {
            if !self.is_idle()
                && let Poll::Ready(written) = self.poll_write(context)
            {
                return Poll::Ready(written.map(|()| Happened::Written));
            }
            // Frames without events are passed over here, a few at a time so that a flood of pings holds up nobody.
            for _ in 0..16 {
                if !reads {
                    return Poll::Pending;
                }
                let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(context) else {
                    return Poll::Pending;
                };
                self.heard = Instant::now();
                let message = match message {
                    None => return Poll::Ready(Err(ended())),
                    Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    Some(Ok(message)) => message,
                };
                if let Some(events) = decode(message)? {
                    return Poll::Ready(Ok(Happened::Frame(events)));
                }
            }
            Poll::Ready(Ok(Happened::Frame(Vec::new())))
        })
        .await
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Disconnected>> {
        if self.outgoing.is_some() {
            std::task::ready!(Pin::new(&mut self.socket).poll_ready(context))?;
        }
        if let Some(frame) = self.outgoing.take() {
            self.flushing = true;
            Pin::new(&mut self.socket).start_send(Message::Binary(frame))?;
        }
        std::task::ready!(Pin::new(&mut self.socket).poll_flush(context))?;
        self.flushing = false;
        Poll::Ready(Ok(()))
    }

    /// Says goodbye and waits a while for the broker to do the same.
    pub(crate) async fn close(mut self) {
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let handshake = async {
            self.socket.send(Message::Close(Some(close))).await?;
            // What came before the broker's side of the handshake has no reader any more.
            while self.socket.next().await.transpose()?.is_some_and(|message| !message.is_close()) {}
            Ok::<_, WebSocketError>(())
        };
        // It is over either way; the broker notices by itself.
        let _ = timeout(CLOSE_PATIENCE, handshake).await;
    }
}

/// The events of a WebSocket message, if it is one that may hold any.
fn decode(message: Message) -> Result<Option<Vec<Event>>, Disconnected> {
    match message {
        Message::Binary(frame) => match codec::decode_events(Format::Binary, &frame) {
            Ok(events) => Ok(Some(events)),
            Err(malformed) => Err(Disconnected::Protocol(malformed.to_string())),
        },
        Message::Text(_) => Err(Disconnected::Protocol("text where binary was agreed".to_owned())),
        Message::Close(Some(CloseFrame { code, reason })) => {
            Err(Disconnected::Closed { code: code.into(), reason: reason.to_string() })
        }
        Message::Close(None) => Err(Disconnected::Closed { code: 1005, reason: String::new() }),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
    }
}

fn ended() -> Disconnected {
    Disconnected::Io(std::io::ErrorKind::UnexpectedEof.into())
}

impl From<WebSocketError> for Disconnected {
    fn from(error: WebSocketError) -> Self {
        match error {
            WebSocketError::Io(error) => Self::Io(error),
            WebSocketError::ConnectionClosed | WebSocketError::AlreadyClosed => ended(),
            WebSocketError::Http(response) => Self::Rejected {
                status: response.status().as_u16(),
                text: beginning(response.body().as_deref().unwrap_or_default()),
                retry_after: retry_after(response.headers()),
            },
            WebSocketError::Url(error) => Self::Url(error.to_string()),
            error => Self::Protocol(error.to_string()),
        }
    }
}

/// What an HTTP error says, if it is short text.
fn beginning(body: &[u8]) -> String {
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = std::str::from_utf8(line).unwrap_or_default().trim();
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

/// RFC 9110, 10.2.3, in its form of seconds; a date is left to the client's own pauses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<(bool, String, u16, String), String> {
        let address = Address::parse(url).map_err(|error| error.to_string())?;
        Ok((address.tls, address.host, address.port, address.uri.to_string()))
    }

    #[test]
    fn urls_are_understood_as_people_write_them() {
        for (url, tls, host, port, uri) in [
            ("ws://localhost:8080/v1/ws", false, "localhost", 8080, "ws://localhost:8080/v1/ws"),
            ("http://127.0.0.1:8080/", false, "127.0.0.1", 8080, "ws://127.0.0.1:8080/v1/ws"),
            ("wss://example.org", true, "example.org", 443, "wss://example.org/v1/ws"),
            ("https://example.org/bongsu?x=1", true, "example.org", 443, "wss://example.org/bongsu?x=1"),
            ("ws://[::1]:9/v1/ws", false, "::1", 9, "ws://[::1]:9/v1/ws"),
        ] {
            assert_eq!(parsed(url), Ok((tls, host.to_owned(), port, uri.to_owned())), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_broker_is_named() {
        for url in ["", "localhost", "ftp://example.org/", "ws://", "ws:///v1/ws", "/v1/ws"] {
            assert!(parsed(url).is_err_and(|error| error.contains(url)), "{url}");
        }
    }
}
