//! How what is said on a connection becomes bytes: the framing around a [`Dialog`](crate::dialog::Dialog).
//!
//! The one place that knows which framings there are, and which bytes of a delivery all readers of a kind share.

use std::collections::VecDeque;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bongsu_protocol::session;
use bongsu_protocol::sockjs::{self, Close, MESSAGE_BEGIN, MESSAGE_END, Message, Quoted};
use bongsu_protocol::stomp::conversation::Outgoing;
use bytes::{Bytes, BytesMut};

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
    /// SockJS within a WebSocket: a message of the one is a frame of the other.
    SockJs,
    /// SockJS whose frames are made for each request that comes for them: see [`message_of`].
    Relay,
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
            (Self::WebSocket { .. }, Said::Echo(text)) => frames.push_back(frame::message(Kind::Text, text)),
            (Self::SockJs, Said::Native(_, session::Outgoing::Delivery(shared))) => {
                frames.push_back(shared.sockjs_frame().clone());
            }
            (Self::SockJs, said) => put_sockjs(&message_of(said), frames),
            // No listener offers the native protocol without WebSocket's framing; its own delimits nothing. And messages for a relay
            // are taken one by one.
            (Self::Bytes, Said::Native(..) | Said::Echo(_)) | (Self::Relay, _) => {}
        }
    }

    /// What is written before anything is said.
    #[must_use]
    pub fn open(&self) -> Option<Bytes> {
        match self {
            Self::SockJs => Some(frame::message(Kind::Text, sockjs::OPEN.as_bytes())),
            Self::WebSocket { .. } | Self::Bytes | Self::Relay => None,
        }
    }

    /// A sign of life that scripts can see, where the carrier has its own.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Bytes> {
        match self {
            Self::SockJs => Some(frame::message(Kind::Text, sockjs::HEARTBEAT.as_bytes())),
            Self::WebSocket { .. } | Self::Bytes | Self::Relay => None,
        }
    }

    /// What is written last; nothing where the end of the stream says all.
    #[must_use]
    pub fn close(&self, goodbye: &Goodbye) -> Bytes {
        match self {
            Self::WebSocket { .. } => frame::close(goodbye),
            Self::Bytes => Bytes::new(),
            Self::SockJs | Self::Relay if goodbye.reason == CloseReason::GoingAway => {
                self.close_as(&Close::restarting())
            }
            Self::SockJs | Self::Relay => {
                self.close_as(&Close::new(goodbye.reason.websocket_code(), goodbye.close_text()))
            }
        }
    }

    /// The same with any code and reason, as SockJS has them.
    #[must_use]
    pub fn close_as(&self, close: &Close) -> Bytes {
        match self {
            Self::WebSocket { .. } => frame::close_with(close.code, &close.reason),
            Self::Bytes => Bytes::new(),
            Self::SockJs => {
                let told = frame::message(Kind::Text, close.frame().as_bytes());
                [told, frame::close_with(close.code, &close.reason)].concat().into()
            }
            Self::Relay => close.frame().into(),
        }
    }

    /// Whether there are pings, which the other side answers by itself.
    #[must_use]
    pub const fn has_pings(&self) -> bool {
        matches!(self, Self::WebSocket { .. } | Self::SockJs)
    }
}

/// What was said, as a message of SockJS; what many readers are told is quoted once for all of them.
#[must_use]
pub fn message_of(said: &Said) -> Message {
    let shared = |tail: &Quoted| Message { head: Quoted::default(), tail: tail.clone() };
    match said {
        Said::Native(_, session::Outgoing::Delivery(delivery)) => shared(delivery.quoted_json()),
        Said::Native(_, session::Outgoing::Event(event)) => {
            let mut body = BytesMut::new();
            codec::encode_event(Format::Json, event, &mut body);
            text_of(&body)
        }
        Said::Stomp(Outgoing::Frame(bytes)) | Said::Echo(bytes) => text_of(bytes),
        Said::Stomp(Outgoing::Message { head, tail, delivery }) => Message {
            head: Quoted::new(&String::from_utf8_lossy(head)),
            tail: delivery.quoted_stomp_tail(*tail).clone(),
        },
    }
}

fn text_of(bytes: &[u8]) -> Message {
    Message::from(&*String::from_utf8_lossy(bytes))
}

/// Appends a SockJS frame with one message, in a WebSocket frame.
fn put_sockjs(message: &Message, frames: &mut VecDeque<Bytes>) {
    let first = [MESSAGE_BEGIN.as_bytes(), message.head.bytes()].concat();
    let tail = message.tail.bytes();
    frames.push_back(frame::begin_message(Kind::Text, &first, tail.len() + MESSAGE_END.len()));
    if !tail.is_empty() {
        frames.push_back(tail.clone());
    }
    frames.push_back(Bytes::from_static(MESSAGE_END.as_bytes()));
}

const fn kind_of(is_text: bool) -> Kind {
    if is_text { Kind::Text } else { Kind::Binary }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bongsu_protocol::message::{Delivery, Message, Time};
    use bongsu_protocol::topic::Topic;

    use super::*;
    use crate::delivery::Shared;

    #[test]
    fn sockjs_readers_share_what_was_quoted_once() {
        let message = Message {
            payload: Bytes::from_static(b"\"text\""),
            content_type: "application/json".to_owned(),
            headers: Vec::new(),
            id: String::new(),
        };
        let delivery = Shared::new(Arc::new(Delivery {
            topic: Topic::parse("t").unwrap(),
            position: None,
            time: Time(0),
            publisher: String::new(),
            message,
            erased: false,
        }));
        let said = || Said::Native(Format::Json, session::Outgoing::Delivery(Arc::clone(&delivery)));
        let frame = || {
            let mut frames = VecDeque::new();
            Carrier::SockJs.put(&said(), &mut frames);
            assert_eq!(frames.len(), 1);
            frames.pop_front().unwrap()
        };
        assert_eq!(frame().as_ptr(), frame().as_ptr(), "over WebSocket, whole frames");
        let quoted = || message_of(&said()).tail.bytes().clone();
        assert_eq!(quoted().as_ptr(), quoted().as_ptr(), "over requests, what stands between the quotes");
        assert!(frame().ends_with(&[MESSAGE_BEGIN.as_bytes(), &quoted(), MESSAGE_END.as_bytes()].concat()));
    }
}
