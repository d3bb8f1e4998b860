//! A message with the frames that its readers share: encoded once per format, compressed once per window.

use std::sync::{Arc, OnceLock};

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::event::Event;
use bongsu_protocol::eventstream::{self, Shape};
use bongsu_protocol::message::Delivery;
use bongsu_protocol::session::Outgoing;
use bongsu_protocol::sockjs::{MESSAGE_BEGIN, MESSAGE_END, Quoted};
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
    /// The message in JSON as SockJS carries it, and in a WebSocket frame of its own; made when the first such reader comes.
    sockjs: OnceLock<Box<(Quoted, OnceLock<Bytes>)>>,
}

/// The part of a STOMP MESSAGE that all readers of a kind share.
#[derive(Debug, Clone)]
pub struct StompTail {
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether they are UTF-8, so that they may go as text.
    pub is_text: bool,
    /// The same as SockJS carries it; made when the first such reader comes.
    quoted: OnceLock<Quoted>,
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
        Arc::new(Self {
            delivery,
            plain: Default::default(),
            compressed: OnceLock::new(),
            events: OnceLock::new(),
            stomp_tails: OnceLock::new(),
            sockjs: OnceLock::new(),
        })
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
            StompTail { bytes: bytes.freeze(), is_text, quoted: OnceLock::new() }
        })
    }

    /// The same for readers whom SockJS reaches, which carries text only: in a payload that is none, U+FFFD stands for what is not UTF-8.
    #[must_use]
    pub fn quoted_stomp_tail(&self, kind: TailKind) -> &Quoted {
        let tail = self.stomp_tail(kind);
        tail.quoted.get_or_init(|| {
            if let Ok(text) = std::str::from_utf8(&tail.bytes) {
                return Quoted::new(text);
            }
            let mut delivery = Delivery::clone(&self.delivery);
            // Before it is encoded, so that the length that it is said to have is the one that it has.
            let payload = String::from_utf8_lossy(&delivery.message.payload).into_owned();
            delivery.message.payload = payload.into();
            let mut bytes = BytesMut::new();
            stomp::encode_message_tail(kind, &delivery, &mut bytes);
            Quoted::new(&String::from_utf8_lossy(&bytes))
        })
    }

    /// The message in JSON, as SockJS carries it.
    #[must_use]
    pub fn quoted_json(&self) -> &Quoted {
        &self.sockjs().0
    }

    /// The complete WebSocket frame of a SockJS frame with this message alone, in JSON.
    #[must_use]
    pub fn sockjs_frame(&self) -> &Bytes {
        let (quoted, frame) = self.sockjs();
        frame.get_or_init(|| {
            let quoted = quoted.bytes();
            let mut builder = frame::Builder::new(MESSAGE_BEGIN.len() + quoted.len() + MESSAGE_END.len());
            for part in [MESSAGE_BEGIN.as_bytes(), quoted, MESSAGE_END.as_bytes()] {
                builder.body().extend_from_slice(part);
            }
            builder.finish(Kind::Text)
        })
    }

    fn sockjs(&self) -> &(Quoted, OnceLock<Bytes>) {
        self.sockjs.get_or_init(|| {
            let mut body = BytesMut::new();
            codec::encode_delivery(Format::Json, &self.delivery, &mut body);
            let text = std::str::from_utf8(&body).expect("JSON is text");
            Box::new((Quoted::new(text), OnceLock::new()))
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
