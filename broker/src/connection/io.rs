//! The socket of a connection, whatever it is made of.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bongsu_protocol::sockjs;
use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::READ_BUFFER_BYTES;
use crate::metrics::METRICS;
use crate::outbound::{Flushed, Outbound};
use crate::relay::Line;
use crate::websocket::decoder::{Decoder, Incoming, Violation};
use crate::websocket::deflate::Agreed;

thread_local! {
    /// What a socket gave, until it was decoded: one buffer per thread, so that an idle connection holds none.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER_BYTES].into());
}

/// Both directions of a stream that is no bare socket.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The socket of a connection.
pub enum Io {
    /// A bare socket, which others may write too.
    Tcp(Arc<TcpStream>),
    /// TLS, or a stream within HTTP/2: only the connection's own task reads and writes it.
    Stream(Box<dyn Duplex>),
    /// Requests that come and go.
    Relay(Line),
}

/// What takes messages out of bytes.
pub(super) enum Input {
    /// WebSocket. Boxed, so that other connections do not pay for it.
    WebSocket(Box<Decoder>),
    /// SockJS within WebSocket.
    SockJs(Box<Decoder>),
    /// Each read is a message: where it begins and ends means nothing.
    Bytes,
    /// Messages come as such.
    Relay,
}

impl Input {
    pub(super) fn web_socket(message_bytes_max: usize, deflate: Option<Agreed>) -> Self {
        Self::WebSocket(Box::new(Decoder::new(message_bytes_max, deflate)))
    }

    pub(super) fn sockjs(message_bytes_max: usize) -> Self {
        Self::SockJs(Box::new(Decoder::new(message_bytes_max, None)))
    }
}

/// What a turn of reading and writing brought.
#[derive(Debug)]
pub(super) enum Turn {
    /// The socket took what waited, which may let something go on.
    Written,
    /// Messages that came; none where a part of one did.
    Incoming(Vec<Incoming>),
    /// The client broke the rules of WebSocket, after these messages.
    Violation(Vec<Incoming>, Violation),
    /// The client broke the rules of SockJS, after these messages.
    BrokenFraming(Vec<Incoming>),
    /// The other side is gone.
    Gone,
}

impl Io {
    /// The socket that others may write, if it is one.
    pub(super) fn shared(&self) -> Option<Arc<TcpStream>> {
        match self {
            Self::Tcp(socket) => Some(Arc::clone(socket)),
            Self::Stream(_) | Self::Relay(_) => None,
        }
    }

    /// Tells the other side that nothing more comes. It may still send, and see what was sent before.
    pub(super) async fn end_output(&mut self) {
        // One that is gone needs no telling.
        let _ = match self {
            Self::Tcp(socket) => SockRef::from(&**socket).shutdown(std::net::Shutdown::Write),
            Self::Relay(_) => Ok(()),
            Self::Stream(stream) => {
                poll_fn(|cx| match Pin::new(&mut *stream).poll_shutdown(cx) {
                    // What does not fit into the socket is not waited for.
                    Poll::Pending => Poll::Ready(Ok(())),
                    ready => ready,
                })
                .await
            }
        };
    }

    /// Writes what waits and reads what came; ready as soon as either brought something the connection must look at.
    ///
    /// What was read is decoded before this returns, so that dropping the future around it loses nothing.
    pub(super) fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        outbound: &Outbound,
        input: &mut Input,
        wants_input: bool,
    ) -> Poll<Turn> {
        if let Self::Relay(line) = self {
            return poll_relay(line, cx, outbound, wants_input);
        }
        match self.poll_flush(cx, outbound) {
            Poll::Ready(Err(_)) => return Poll::Ready(Turn::Gone),
            // The room may let a reader go on, or the close frame was the last that was written.
            Poll::Ready(Ok(flushed)) if flushed == Flushed::Closed || outbound.lock().wants_task() => {
                return Poll::Ready(Turn::Written);
            }
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        if !wants_input {
            return Poll::Pending;
        }
        READ_BUFFER.with_borrow_mut(|buffer| match ready!(self.poll_read(cx, buffer)) {
            Ok(0) | Err(_) => Poll::Ready(Turn::Gone),
            Ok(n_read) => {
                METRICS.bytes_in.add(n_read as u64);
                Poll::Ready(decode(input, &mut buffer[..n_read]))
            }
        })
    }

    /// Writes what waits, if it is for this task to do. Pending where the socket is full or there is nothing to wait for.
    fn poll_flush(&mut self, cx: &mut Context<'_>, outbound: &Outbound) -> Poll<io::Result<Flushed>> {
        match self {
            Self::Tcp(socket) => loop {
                if !outbound.lock().is_blocked() {
                    return Poll::Pending;
                }
                ready!(socket.poll_write_ready(cx))?;
                let flushed = outbound.flush_writable(|slices| socket.try_write_vectored(slices))?;
                if flushed != Flushed::Blocked {
                    return Poll::Ready(Ok(flushed));
                }
            },
            Self::Stream(_) if outbound.lock().is_close_sent() => Poll::Pending,
            Self::Stream(stream) => {
                let flushed = outbound.flush_writable(|slices| {
                    match Pin::new(&mut *stream).poll_write_vectored(cx, slices) {
                        Poll::Ready(result) => result,
                        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                    }
                })?;
                if flushed == Flushed::Blocked {
                    return Poll::Pending;
                }
                ready!(Pin::new(stream).poll_flush(cx))?;
                Poll::Ready(Ok(flushed))
            }
            Self::Relay(_) => Poll::Pending,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => loop {
                ready!(socket.poll_read_ready(cx))?;
                match socket.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            },
            Self::Stream(stream) => {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(stream).poll_read(cx, &mut read))?;
                Poll::Ready(Ok(read.filled().len()))
            }
            Self::Relay(_) => Poll::Pending,
        }
    }
}

/// Hands over what waits, as far as there is room, and takes what requests brought.
fn poll_relay(line: &mut Line, cx: &mut Context<'_>, outbound: &Outbound, wants_input: bool) -> Poll<Turn> {
    let wants_task = {
        let mut state = outbound.lock();
        line.fill(|| state.poll_message());
        if !state.beats() {
            line.stop_heartbeat();
        }
        if let Some(close) = state.poll_close() {
            line.close(String::from_utf8_lossy(&close).into_owned());
        }
        state.wants_task()
    };
    match line.poll_receive(cx, wants_input) {
        Poll::Ready(Some(messages)) => {
            let incoming = messages.into_iter().map(|text| Incoming::Text(text.into()));
            Poll::Ready(Turn::Incoming(incoming.collect()))
        }
        Poll::Ready(None) => Poll::Ready(Turn::Gone),
        // The room may let a reader go on.
        Poll::Pending if wants_task => Poll::Ready(Turn::Written),
        Poll::Pending => Poll::Pending,
    }
}

/// Takes the messages out of what was read.
pub(super) fn decode(input: &mut Input, mut bytes: &mut [u8]) -> Turn {
    let decoder = match input {
        Input::WebSocket(decoder) => decoder,
        Input::SockJs(decoder) => return decode_sockjs(decoder, bytes),
        Input::Bytes | Input::Relay if bytes.is_empty() => return Turn::Incoming(Vec::new()),
        Input::Bytes | Input::Relay => {
            return Turn::Incoming(vec![Incoming::Binary(Bytes::copy_from_slice(bytes))]);
        }
    };
    let mut incoming = Vec::new();
    loop {
        match decoder.poll(&mut bytes) {
            Ok(Some(message)) => incoming.push(message),
            Ok(None) => return Turn::Incoming(incoming),
            Err(violation) => return Turn::Violation(incoming, violation),
        }
    }
}

/// The same where each text is a list of messages.
fn decode_sockjs(decoder: &mut Decoder, mut bytes: &mut [u8]) -> Turn {
    let mut incoming = Vec::new();
    loop {
        match decoder.poll(&mut bytes) {
            Ok(Some(Incoming::Text(text))) => {
                let text = std::str::from_utf8(&text).expect("the decoder checked it");
                match sockjs::parse_websocket(text) {
                    Ok(messages) => {
                        incoming.extend(messages.into_iter().map(|text| Incoming::Text(text.into())));
                    }
                    Err(_) => return Turn::BrokenFraming(incoming),
                }
            }
            Ok(Some(Incoming::Binary(_))) => return Turn::BrokenFraming(incoming),
            Ok(Some(message)) => incoming.push(message),
            Ok(None) => return Turn::Incoming(incoming),
            Err(violation) => return Turn::Violation(incoming, violation),
        }
    }
}
