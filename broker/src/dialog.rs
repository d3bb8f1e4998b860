//! What is spoken on a connection: the native protocol, or STOMP around the same session.
//!
//! The one place that knows both. Whoever reads topics, publishes or ends connections deals with the [`Session`] inside, and does not
//! see which of them its client speaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{Event, TokenExpiring, Welcome};
use bongsu_protocol::message::Time;
use bongsu_protocol::reason::{CloseReason, Error, Goodbye};
use bongsu_protocol::session::{self, Bounds, Grants, Session};
use bongsu_protocol::stomp::{self, Conversation};
use bytes::Bytes;

use crate::delivery::SharedDelivery;
use crate::metrics::METRICS;

/// Which protocol a client speaks: settled by where it connected, and its handshake.
#[derive(Debug, Clone)]
pub enum Language {
    /// The native protocol in one of its formats.
    Native(Format),
    /// STOMP, whose first frame settles the version.
    Stomp(Arc<stomp::conversation::Settings>),
    /// What the public suite of SockJS wants of a server: says what it hears.
    Echo,
    /// The same suite's other wish: says goodbye at once.
    Farewell,
}

/// One client's conversation in its own protocol, around the session that all protocols share.
#[derive(Debug)]
pub enum Dialog {
    /// The native protocol: the session itself, and how its events are written.
    Native {
        /// The session.
        session: Session<SharedDelivery>,
        /// Its encoding.
        format: Format,
    },
    /// STOMP. Boxed, so that native connections do not pay for it.
    Stomp(Box<Conversation<SharedDelivery>>),
    /// What it heard, it says.
    Echo {
        /// A session that nobody asks for anything.
        session: Session<SharedDelivery>,
        /// What was not said yet.
        echoes: VecDeque<Bytes>,
    },
}

/// Something to be sent, before it is framed.
#[derive(Debug)]
pub enum Said {
    /// An event or a delivery of the native protocol.
    Native(Format, session::Outgoing<SharedDelivery>),
    /// A frame or a message of STOMP.
    Stomp(stomp::conversation::Outgoing<SharedDelivery>),
    /// What was heard.
    Echo(Bytes),
}

/// What a dialog asks of its connection.
#[derive(Debug)]
pub enum Effect {
    /// What the session inside asks for, whatever is spoken.
    Session(session::Effect),
    /// What only STOMP asks for.
    Stomp(stomp::conversation::Effect),
}

/// One message of the client, as its carrier delimits them.
#[derive(Debug)]
pub enum Heard {
    /// Text: UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl Dialog {
    /// A new dialog with a client that may do so much. `name`: the session's, unique among all nodes.
    #[must_use]
    pub fn new(language: Language, bounds: Bounds, name: String, grants: Arc<Grants>) -> Self {
        match language {
            Language::Native(format) => Self::Native { session: Session::new(bounds, grants), format },
            Language::Stomp(settings) => {
                Self::Stomp(Box::new(Conversation::new(settings, name, Some(grants))))
            }
            Language::Echo | Language::Farewell => {
                Self::Echo { session: Session::new(bounds, grants), echoes: VecDeque::new() }
            }
        }
    }

    /// The session inside.
    #[must_use]
    pub const fn session(&self) -> &Session<SharedDelivery> {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session,
            Self::Stomp(conversation) => conversation.session(),
        }
    }

    /// The session inside, for what it hears of topics. What answers a request goes through [`tell`](Self::tell).
    pub const fn session_mut(&mut self) -> &mut Session<SharedDelivery> {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session,
            Self::Stomp(conversation) => conversation.session_mut(),
        }
    }

    /// Tells the session the answer to something, which may let the dialog go on.
    pub fn tell<R>(&mut self, tell: impl FnOnce(&mut Session<SharedDelivery>) -> R) -> R {
        let told = tell(self.session_mut());
        if let Self::Stomp(conversation) = self {
            conversation.advance();
        }
        told
    }

    /// The conversation, where STOMP is spoken.
    pub fn stomp(&mut self) -> Option<&mut Conversation<SharedDelivery>> {
        match self {
            Self::Native { .. } | Self::Echo { .. } => None,
            Self::Stomp(conversation) => Some(conversation),
        }
    }

    /// Says who is there, where the protocol has the broker speak first.
    pub fn greet(&mut self, welcome: impl FnOnce(&Grants) -> Welcome) {
        if let Self::Native { session, .. } = self {
            let welcome = welcome(session.grants());
            session.push_event(Event::Welcome(welcome));
        }
    }

    /// Takes a message of the client.
    pub fn hear(&mut self, wall: Time, heard: &Heard) {
        match (self, heard) {
            (Self::Native { session, format: format @ Format::Json }, Heard::Text(body))
            | (Self::Native { session, format: format @ Format::Binary }, Heard::Binary(body)) => {
                hear_native(session, *format, wall, body)
            }
            (Self::Native { session, .. }, heard) => {
                let text = match heard {
                    Heard::Text(_) => "this sub-protocol is binary, not text",
                    Heard::Binary(_) => "this sub-protocol is text, not binary",
                };
                session.close(Goodbye::new(CloseReason::UnsupportedData, text));
            }
            (Self::Echo { echoes, .. }, Heard::Text(body) | Heard::Binary(body)) => {
                echoes.push_back(body.clone())
            }
            // Where its messages begin and end means nothing in STOMP.
            (Self::Stomp(conversation), Heard::Text(body) | Heard::Binary(body)) => {
                conversation.handle_bytes(body);
            }
        }
    }

    /// What came of a token that the client showed; whether the session is its bearer's now.
    pub fn authenticated(&mut self, id: RequestId, result: Result<Arc<Grants>, Error>) -> bool {
        let subject = result.as_ref().ok().map(|grants| grants.subject.clone());
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session.authenticated(id, result),
            Self::Stomp(conversation) => conversation.authenticated(id, result),
        }
        subject.is_some_and(|subject| self.session().grants().subject == subject)
    }

    /// Warns the client of the end of its token, where it can be told.
    pub fn warn_of_token(&mut self, expiring: TokenExpiring) {
        self.session_mut().push_event(Event::TokenExpiring(expiring));
    }

    /// A sign of life that scripts can see, where the protocol has one that the broker may send at any time.
    pub fn heartbeat(&mut self) {
        if let Self::Native { session, .. } = self {
            session.push_event(Event::Heartbeat);
        }
    }

    /// Says goodbye in the protocol's own words; what waits is sent first.
    pub fn close(&mut self, goodbye: Goodbye) {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session.close(goodbye),
            Self::Stomp(conversation) => conversation.close(&goodbye),
        }
    }

    /// Says goodbye to a client that may have nothing any more: what waits is dropped, and nothing follows.
    pub fn expel(&mut self, goodbye: Goodbye) {
        match self {
            Self::Native { session, .. } => session.expel(goodbye),
            Self::Echo { session, echoes } => {
                echoes.clear();
                session.expel(goodbye);
            }
            Self::Stomp(conversation) => conversation.expel(&goodbye),
        }
    }

    /// Ends without a goodbye.
    pub fn end(&mut self) {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session.end(),
            Self::Stomp(conversation) => conversation.end(),
        }
    }

    /// Whether a goodbye was said, or the client left.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session.is_closing(),
            Self::Stomp(conversation) => conversation.is_closing(),
        }
    }

    /// Why the dialog ends, once it does.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session.close_reason(),
            Self::Stomp(conversation) => conversation.close_reason(),
        }
    }

    /// Whether more should be read from the client.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match self {
            Self::Native { session, .. } => session.wants_input(),
            Self::Echo { echoes, .. } => echoes.is_empty(),
            Self::Stomp(conversation) => conversation.wants_input(),
        }
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        match self {
            Self::Native { session, .. } => session.has_outgoing(),
            Self::Echo { session, echoes } => !echoes.is_empty() || session.has_outgoing(),
            Self::Stomp(conversation) => conversation.has_outgoing(),
        }
    }

    /// Whether the connection's task is asked for something.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => session.has_effect(),
            Self::Stomp(conversation) => conversation.has_effect(),
        }
    }

    /// Lets readers that fell behind ask for what they miss, and a client that waited for room go on.
    pub fn poll(&mut self, now: Duration) {
        self.tell(|session| session.poll(now));
    }

    /// The next thing to do for the dialog.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        match self {
            Self::Native { session, .. } | Self::Echo { session, .. } => {
                session.poll_effect().map(Effect::Session)
            }
            Self::Stomp(conversation) => Some(match conversation.poll_effect()? {
                stomp::conversation::Effect::Session(effect) => Effect::Session(effect),
                effect => Effect::Stomp(effect),
            }),
        }
    }

    /// The next thing to send. To be asked only while the connection takes more.
    pub fn poll_outgoing(&mut self) -> Option<Said> {
        match self {
            Self::Native { session, format } => Some(Said::Native(*format, session.poll_outgoing()?)),
            Self::Stomp(conversation) => conversation.poll_outgoing().map(Said::Stomp),
            Self::Echo { session, echoes } => {
                let outgoing = || Some(Said::Native(Format::Json, session.poll_outgoing()?));
                echoes.pop_front().map(Said::Echo).or_else(outgoing)
            }
        }
    }
}

fn hear_native(session: &mut Session<SharedDelivery>, format: Format, wall: Time, body: &Bytes) {
    match codec::decode_requests(format, body) {
        Ok(requests) => {
            METRICS.requests.add(requests.len() as u64);
            for request in requests {
                session.handle(wall, request.map_err(|refused| (refused.id, refused.error)));
            }
        }
        Err(malformed) => {
            METRICS.malformed.add(1);
            session.close(Goodbye::from(malformed));
        }
    }
}
