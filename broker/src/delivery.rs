//! A message with the frames that its readers share: encoded once per format, compressed once per window.

use std::sync::{Arc, OnceLock};

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::event::Event;
use bongsu_protocol::eventstream::{self, Shape};
use bongsu_protocol::message::Delivery;
use bongsu_protocol::session::Outgoing;
use bongsu_protocol::stomp::{self, TailKind};
use bytes::{Bytes, BytesMut};

use crate::websocket::deflate::{self, Window};
use crate::websocket::frame::{self, Kind};

/// A message as every reader on this node shares it.
pub type SharedDelivery = Arc<Shared>;

/// See [`SharedDelivery`].
#[derive(Debug)]
pub struct Shared {
    /// The message.
    pub delivery: Arc<Delivery>,
    /// Complete WebSocket frames, one per format, made when the first reader wants one.
    plain: [OnceLock<Bytes>; Format::ALL.len()],
    /// The same compressed, per format and window; made when the first reader that negotiated compression comes.
    compressed: OnceLock<Box<[[OnceLock<Bytes>; Window::ALL.len()]; Format::ALL.len()]>>,
    /// The same as events of HTTP streams, per shape, without and with its position; made when the first such reader comes.
    events: OnceLock<Box<[[OnceLock<Bytes>; 2]; Shape::ALL.len()]>>,
    /// What follows each reader's own head of a MESSAGE, per kind; made when the first STOMP reader comes.
    stomp_tails: OnceLock<Box<[OnceLock<StompTail>; TailKind::COUNT]>>,
}

/// The part of a STOMP MESSAGE that all readers of a kind share.
#[derive(Debug, Clone)]
pub struct StompTail {
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether they are UTF-8, so that they may go as text.
    pub is_text: bool,
}

impl AsRef<Delivery> for Shared {
    fn as_ref(&self) -> &Delivery {
        &self.delivery
    }
}

impl Shared {
    /// Shares a message.
    #[must_use]
    pub fn new(delivery: Arc<Delivery>) -> SharedDelivery {
        let (compressed, events, stomp_tails) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { delivery, plain: Default::default(), compressed, events, stomp_tails })
    }

    /// Bytes of the message, for budgets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.delivery.message.size_bytes() + self.delivery.topic.as_str().len()
    }

    /// The complete frame of `bongsu.v1.proto`: what nodes hand to each other.
    #[must_use]
    pub fn binary_frame(&self) -> Bytes {
        self.frame(Wire { format: Format::Binary, window: None })
    }

    /// Takes a message from the front of such frames, and keeps its frame for readers to share. `None` if there is none.
    #[must_use]
    pub fn take_binary_frame(frames: &mut Bytes) -> Option<SharedDelivery> {
        let (frame, body) = frame::take_binary(frames)?;
        let mut events = codec::decode_events(Format::Binary, &body).ok()?;
        let (Some(Event::Delivery(delivery)), true) = (events.pop(), events.is_empty()) else { return None };
        let shared = Self::new(delivery);
        // It was made a moment ago, so there is no frame yet.
        let _ = shared.plain[Format::Binary as usize].set(frame);
        Some(shared)
    }

    /// The message as an event of a stream of its topic alone: its position is the bookmark of all readers.
    #[must_use]
    pub fn event(&self, shape: Shape) -> Bytes {
        self.event_by(shape, 1, eventstream::encode_message)
    }

    /// The message as an event of a stream of several topics, behind each reader's own bookmark.
    #[must_use]
    pub fn event_line(&self, shape: Shape) -> Bytes {
        self.event_by(shape, 0, eventstream::encode_message_line)
    }

    fn event_by(&self, shape: Shape, slot: usize, encode: fn(Shape, &Delivery, &mut BytesMut)) -> Bytes {
        let slot = &self.events.get_or_init(Default::default)[shape as usize][slot];
        let make = || {
            let mut event = BytesMut::new();
            encode(shape, &self.delivery, &mut event);
            event.freeze()
        };
        slot.get_or_init(make).clone()
    }

    /// What follows the head of a STOMP MESSAGE of each reader.
    #[must_use]
    pub fn stomp_tail(&self, kind: TailKind) -> &StompTail {
        let tails = self.stomp_tails.get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        tails[kind.index()].get_or_init(|| {
            let mut bytes = BytesMut::new();
            stomp::encode_message_tail(kind, &self.delivery, &mut bytes);
            let is_text = std::str::from_utf8(&bytes).is_ok();
            StompTail { bytes: bytes.freeze(), is_text }
        })
    }

    /// The complete frame for a wire. The same bytes for everyone who asks alike.
    fn frame(&self, wire: Wire) -> Bytes {
        let plain = self.plain[wire.format as usize]
            .get_or_init(|| frame::message(wire.kind(), &wire.body(&self.delivery)));
        let Some(window) = wire.window else { return plain.clone() };
        let compressed = self.compressed.get_or_init(Default::default);
        let slot = &compressed[wire.format as usize][window as usize];
        slot.get_or_init(|| {
            wire.compress(&wire.body(&self.delivery), window).unwrap_or_else(|| plain.clone())
        })
        .clone()
    }
}

/// How the native protocol stands in WebSocket frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// Which encoding.
    pub format: Format,
    /// With permessage-deflate, the window.
    pub window: Option<Window>,
}

impl Wire {
    /// The complete frame of something to be sent.
    #[must_use]
    pub fn encode(self, outgoing: &Outgoing<SharedDelivery>) -> Bytes {
        match outgoing {
            Outgoing::Delivery(shared) => shared.frame(self),
            Outgoing::Event(event) => self.encode_event(event),
        }
    }

    fn encode_event(self, event: &Event) -> Bytes {
        let mut body = BytesMut::new();
        codec::encode_event(self.format, event, &mut body);
        let compressed = self.window.and_then(|window| self.compress(&body, window));
        compressed.unwrap_or_else(|| frame::message(self.kind(), &body))
    }

    fn body(self, delivery: &Delivery) -> BytesMut {
        let mut body = BytesMut::with_capacity(delivery.message.size_bytes() + 128);
        codec::encode_delivery(self.format, delivery, &mut body);
        body
    }

    fn compress(self, body: &[u8], window: Window) -> Option<Bytes> {
        deflate::compress(self.kind(), body, window)
    }

    const fn kind(self) -> Kind {
        match self.format {
            Format::Json => Kind::Text,
            Format::Binary => Kind::Binary,
        }
    }
}
