//! A node's end of a client's socket, which can be pulled out from outside.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// A node's end of a client's socket.
///
/// When a process ends, all of its sockets end in the order in which they were opened. That of its tasks would not do: tokio drops
/// those by their ids, which it counts for all runtimes of the real process together.
#[derive(Debug)]
pub(crate) struct Socket(Arc<Mutex<Option<DuplexStream>>>);

/// What pulls a socket out.
#[derive(Debug)]
pub(crate) struct Plug(Arc<Mutex<Option<DuplexStream>>>);

impl Socket {
    pub(crate) fn new(stream: DuplexStream) -> (Self, Plug) {
        let shared = Arc::new(Mutex::new(Some(stream)));
        (Self(Arc::clone(&shared)), Plug(shared))
    }

    fn lock(&self) -> MutexGuard<'_, Option<DuplexStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(self.lock().take());
    }
}

impl Plug {
    /// Ends the socket, for both sides.
    pub(crate) fn pull(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether the node let go of the socket itself.
    pub(crate) fn is_loose(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self.lock() {
            Some(stream) => Pin::new(stream).poll_read(cx, buf),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.lock() {
            Some(stream) => Pin::new(stream).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.lock() {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.lock() {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
