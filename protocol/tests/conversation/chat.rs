//! A client and a shell around one conversation, for tests.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{HistoryRange, RequestId};
use bongsu_protocol::event::Published;
use bongsu_protocol::message::{Delivery, Message, NewMessage, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::CloseReason;
use bongsu_protocol::session::{self, Bounds, Grants, Offer, SlowReader, TopicKind};
use bongsu_protocol::stomp::conversation::{Credentials, Effect, Outgoing, Settings};
use bongsu_protocol::stomp::destination::Vocabulary;
use bongsu_protocol::stomp::{Command, Conversation, Decoder, Frame, encode_message_tail};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::BytesMut;

/// See the [module](self).
pub(crate) struct Chat {
    pub(crate) conversation: Conversation<Arc<Delivery>>,
    /// What the client reads with.
    decoder: Decoder,
}

impl Chat {
    /// A connection on which nothing was said.
    pub(crate) fn new() -> Self {
        let bounds = Bounds { outbox_bytes: 10_000, subscriptions: 40, topics: 40, requests_in_flight: 10 };
        let settings = Settings {
            bounds,
            vocabulary: Vocabulary::default(),
            server: "bongsu/1".to_owned(),
            beat_every: Duration::from_secs(10),
            beat_wanted: Duration::from_secs(20),
            prefetch: 100,
        };
        Self {
            conversation: Conversation::new(Arc::new(settings), "s1".to_owned(), None),
            decoder: Decoder::new(),
        }
    }

    /// A connection of the user `ann`, who may do everything.
    pub(crate) fn open(version: &str) -> Self {
        let mut chat = Self::new();
        chat.say(&format!("CONNECT\naccept-version:{version}\n\n^"));
        chat.credentials();
        chat.conversation.verified(Ok(Some(Grants { subject: "ann".into(), ..Grants::everything() }.into())));
        chat.hear_one(Command::Connected);
        chat
    }

    /// The client sends this, with `^` for NUL.
    pub(crate) fn say(&mut self, text: &str) {
        self.conversation.handle_bytes(text.replace('^', "\0").as_bytes());
    }

    /// What the client reads.
    pub(crate) fn hear(&mut self) -> Vec<Frame> {
        let mut bytes = BytesMut::new();
        while let Some(outgoing) = self.conversation.poll_outgoing() {
            match outgoing {
                Outgoing::Frame(frame) => bytes.extend_from_slice(&frame),
                Outgoing::Message { head, tail, delivery } => {
                    bytes.extend_from_slice(&head);
                    encode_message_tail(tail, &delivery, &mut bytes);
                }
            }
        }
        self.decoder.use_version(self.conversation.version());
        self.decoder.push(&bytes);
        let mut frames = Vec::new();
        while let Some(frame) = self.decoder.next_frame().unwrap() {
            frames.push(frame);
        }
        frames
    }

    /// The one frame that the client reads.
    pub(crate) fn hear_one(&mut self, command: Command) -> Frame {
        let mut frames = self.hear();
        assert_eq!(frames.iter().map(|frame| frame.command).collect::<Vec<_>>(), [command], "{frames:?}");
        frames.remove(0)
    }

    /// The client reads an error as the last frame, and the connection closes like this.
    pub(crate) fn refused(&mut self, message: &str, reason: CloseReason) -> Frame {
        let error = self.hear().pop().expect("an error");
        assert_eq!(error.command, Command::Error, "{error:?}");
        assert_eq!(error.header("message"), Some(message), "{error:?}");
        assert_eq!(self.effects().last(), Some(&Effect::Close(reason)));
        assert!(self.conversation.is_closed());
        error
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        self.conversation.advance();
        std::iter::from_fn(|| self.conversation.poll_effect()).collect()
    }

    pub(crate) fn credentials(&mut self) -> Credentials {
        let find = |effect| if let Effect::Verify(credentials) = effect { Some(credentials) } else { None };
        self.effects().into_iter().find_map(find).expect("credentials to verify")
    }

    pub(crate) fn publishes(&mut self) -> Vec<RequestId> {
        let id = |effect| match effect {
            Effect::Session(session::Effect::Publish { id, .. }) => Some(id),
            _ => None,
        };
        self.effects().into_iter().filter_map(id).collect()
    }

    pub(crate) fn published_messages(&mut self) -> Vec<NewMessage> {
        let messages = |effect| match effect {
            Effect::Session(session::Effect::Publish { messages, .. }) => Some(messages),
            _ => None,
        };
        self.effects().into_iter().filter_map(messages).flatten().map(|(_, message)| message).collect()
    }

    /// The store kept the message of this request.
    pub(crate) fn keep(&mut self, id: RequestId) {
        let published = Published { position: Some(Position::new(3, 1)), duplicate: false };
        self.conversation.session_mut().published(id, 0, Ok(published));
    }

    /// The feed of a durable filter is there.
    pub(crate) fn watched(&mut self, filter: &str) {
        let filter = TopicFilter::parse(filter).unwrap();
        self.conversation.session_mut().watched(&filter, TopicKind::Durable, Time(1));
    }

    /// The feed of a filter of live topics is there.
    pub(crate) fn make_live(&mut self, filter: &str) {
        let filter = TopicFilter::parse(filter).unwrap();
        self.conversation.session_mut().watched(&filter, TopicKind::Live, Time(1));
    }

    /// The pages that are asked for.
    pub(crate) fn reads(&mut self) -> Vec<HistoryRange> {
        self.conversation.session_mut().poll(Duration::ZERO);
        let range = |effect| match effect {
            Effect::Session(session::Effect::Read { query }) => Some(query.range),
            _ => None,
        };
        self.effects().into_iter().filter_map(range).collect()
    }

    /// The feed brings a message, as one of a live topic or right behind what was read.
    pub(crate) fn offer(&mut self, delivery: &Delivery) {
        let item = Arc::new(delivery.clone());
        let topic = &delivery.topic;
        let session = self.conversation.session_mut();
        let is_read = session.filters().iter().any(|filter| filter.matches(topic));
        let (position, slow_reader) = (delivery.position, SlowReader::DropOldest);
        if is_read {
            session.offer(&Offer { topic, position, slow_reader, bytes: 10, item: &item });
        }
        // A reader of a live topic that gets history asks for what it may have missed; here that is nothing.
        session.poll(Duration::ZERO);
        let asked =
            self.effects().into_iter().any(|e| matches!(e, Effect::Session(session::Effect::Read { .. })));
        if let (true, Some(position)) = (asked, position) {
            let items = vec![(position, 10, item)];
            let page = session::LogPage { items, first: position, end: position, head: position };
            self.conversation.session_mut().read_done(Duration::ZERO, Ok(page));
        }
    }
}

/// A message at an offset of a topic.
pub(crate) fn delivery(topic: &str, offset: u64) -> Delivery {
    Delivery {
        topic: Topic::parse(topic).unwrap(),
        position: Some(Position::new(3, offset)),
        time: Time(1),
        publisher: String::new(),
        message: Message::new("x"),
        erased: false,
    }
}

/// The filters that are to be watched.
pub(crate) fn filters(effects: &[Effect]) -> Vec<String> {
    let filter = |effect: &Effect| match effect {
        Effect::Session(session::Effect::Watch { filter }) => Some(filter.as_str().to_owned()),
        _ => None,
    };
    effects.iter().filter_map(filter).collect()
}
