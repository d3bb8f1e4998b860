//! How what is said on a connection becomes bytes: the framing around a [`Dialog`](crate::dialog::Dialog).
//!
//! The one place that knows which framings there are, and which bytes of a delivery all readers of a kind share.

use std::collections::VecDeque;

use bongsu_protocol::reason::Goodbye;
use bongsu_protocol::stomp::conversation::Outgoing;
use bytes::Bytes;

use crate::delivery::Wire;
use crate::dialog::Said;
use crate::websocket::deflate::Window;
use crate::websocket::frame::{self, Kind};

/// How one connection is written to: agreed on in its handshake.
#[derive(Debug)]
pub enum Carrier {
    /// A frame per message, compressed where a window was agreed on.
    WebSocket {
        /// With permessage-deflate, the window.
        window: Option<Window>,
    },
    /// A stream of bytes without any framing: STOMP over TCP.
    Bytes,
}

impl Carrier {
    /// Appends what is written to the socket for something that was said.
    pub fn put(&self, said: &Said, frames: &mut VecDeque<Bytes>) {
        match (self, said) {
            (Self::WebSocket { window }, Said::Native(format, outgoing)) => {
                frames.push_back(Wire { format: *format, window: *window }.encode(outgoing));
            }
            (Self::WebSocket { .. }, Said::Stomp(Outgoing::Frame(bytes))) => {
                frames.push_back(frame::message(kind_of(std::str::from_utf8(bytes).is_ok()), bytes));
            }
            (Self::WebSocket { .. }, Said::Stomp(Outgoing::Message { head, tail, delivery })) => {
                let tail = delivery.stomp_tail(*tail);
                frames.push_back(frame::begin_message(kind_of(tail.is_text), head, tail.bytes.len()));
                frames.push_back(tail.bytes.clone());
            }
            (Self::Bytes, Said::Stomp(Outgoing::Frame(bytes))) => frames.push_back(bytes.clone()),
            (Self::Bytes, Said::Stomp(Outgoing::Message { head, tail, delivery })) => {
                frames.push_back(head.clone());
                frames.push_back(delivery.stomp_tail(*tail).bytes.clone());
            }
            // No listener offers the native protocol without WebSocket's framing; its own delimits nothing.
            (Self::Bytes, Said::Native(..)) => {}
        }
    }

    /// What is written last; nothing where the end of the stream says all.
    #[must_use]
    pub fn close(&self, goodbye: &Goodbye) -> Bytes {
        match self {
            Self::WebSocket { .. } => frame::close(goodbye),
            Self::Bytes => Bytes::new(),
        }
    }

    /// Whether there are pings, which the other side answers by itself.
    #[must_use]
    pub const fn has_pings(&self) -> bool {
        matches!(self, Self::WebSocket { .. })
    }
}

const fn kind_of(is_text: bool) -> Kind {
    if is_text { Kind::Text } else { Kind::Binary }
}
