//! One client's conversation in STOMP, between its bytes and a [`Session`].
//!
//! ```text
//!   bytes ──── handle_bytes ──▶ ┌──────────────┐ ── poll_effect ───▶ verify, publish, watch, read, consume, settle, commit
//!   feed ───── session_mut ───▶ │ Conversation │
//!   queues ─── deliver ───────▶ └──────────────┘ ── poll_outgoing ─▶ frames, and heads of messages with what all readers share
//! ```
//!
//! Pure, like the session in it, which brings readers to the head of their logs and judges what they may do. This side knows what STOMP
//! has and the session has not: versions, receipts, transactions, subscriptions with names, acknowledgments.
//!
//! What is sent again and what is not: a subscription to a topic reads its log, so nothing of it waits for an acknowledgment, and a
//! client resumes with the `offset` and `epoch` that it saw. Messages of work queues and durable subscriptions wait for one.
//!
//! `D` is a delivery as the shell shares it: cheap to clone, and a message behind it.

mod connect;
mod effect;
mod publish;
mod receipts;
mod settle;
mod subscribe;
mod subscriptions;
mod token;
mod translate;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::command::{Command as Request, Request as Numbered, RequestId, Token};
use crate::message::{Delivery, Time};
use crate::queue::Settlement;
use crate::reason::{CloseReason, Error, Goodbye};
use crate::session::{self, Bounds, Grants, Session};
use crate::topic::Topic;

use super::destination::{Dialect, Speaker, Vocabulary};
use super::encoder::{encode_frame, encode_refusal};
use super::frame::{Command, Frame, Version};
use super::refusal::Refusal;
use super::{Decoder, HEART_BEAT};

pub use connect::Credentials;
pub use effect::{Effect, Outgoing, Settled};
pub use subscribe::{Group, SubscriptionKey};

use publish::Transaction;
use receipts::Receipts;
use settle::Held;
use subscriptions::Subscriptions;
use translate::Note;

/// What holds for all conversations of a listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds of the session inside.
    pub bounds: Bounds,
    /// How destinations are read.
    pub vocabulary: Vocabulary,
    /// The `server` header: name, slash, version.
    pub server: String,
    /// The broker can send a heart-beat this often; zero: it sends none.
    pub beat_every: Duration,
    /// The broker would like to hear from clients this often; zero: it does not care.
    pub beat_wanted: Duration,
    /// Messages of a work queue that a consumer may have without having settled them, where it does not say.
    pub prefetch: u32,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Conversation<D> {
    settings: Arc<Settings>,
    /// The session's name, unique among all nodes.
    name: String,
    /// Who the client is by its handshake, as far as that said so.
    known: Option<Arc<Grants>>,
    state: State,
    version: Version,
    decoder: Decoder,
    /// What publishes, and waits until every topic that was subscribed to before it is read.
    held_back: Option<Frame>,
    session: Session<D>,
    last_request: RequestId,
    receipts: Receipts,
    /// SUBSCRIBEs that were not answered, and whose subscription is still wanted.
    awaited: HashMap<RequestId, SubscriptionKey>,
    subscriptions: Subscriptions,
    last_key: SubscriptionKey,
    /// The number of the newest MESSAGE: what its `message-id` ends with.
    last_tag: u64,
    /// Messages of queues that were sent and not settled, by their numbers.
    held: BTreeMap<u64, Held>,
    transactions: Vec<Transaction>,
    /// What the next message of a topic must tell besides itself.
    notes: HashMap<Topic, Note>,
    ready: VecDeque<Ready<D>>,
    /// Whole frames in it: receipts for the most part, of which a client that never reads could ask for any number.
    n_frames: usize,
    effects: VecDeque<Effect>,
    /// The subscription that is told when the client's token ends soon.
    token_watch: Option<String>,
    /// When the token of the first frame ends.
    token_expires: Option<Time>,
    /// Why it ends, once it does.
    close_reason: Option<CloseReason>,
}

/// What waits to be asked for.
#[derive(Debug)]
struct Ready<D> {
    outgoing: Outgoing<D>,
    /// What its being sent settles: a slow client with the mode `auto` gets no more of a queue than it takes.
    settles: Option<Settled>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first frame is awaited.
    Greeting,
    /// The shell finds out who the client is.
    Verifying,
    Open,
    /// The client said goodbye: nothing more is read, and messages are not sent any more.
    Leaving,
    /// Nothing follows what waits to be sent.
    Closed,
}

impl<D> Conversation<D>
where
    D: Clone + Deref,
    D::Target: AsRef<Delivery>,
{
    /// A conversation that waits for its first frame. `known`: what the handshake of the carrier said about the client, which counts where
    /// the frame says nothing.
    #[must_use]
    pub fn new(settings: Arc<Settings>, name: String, known: Option<Arc<Grants>>) -> Self {
        Self {
            session: Session::new(settings.bounds, Grants::default()),
            settings,
            name,
            known,
            state: State::Greeting,
            version: Version::V10,
            decoder: Decoder::new(),
            held_back: None,
            last_request: RequestId(0),
            receipts: Receipts::default(),
            awaited: HashMap::new(),
            subscriptions: Subscriptions::default(),
            last_key: SubscriptionKey(0),
            last_tag: 0,
            held: BTreeMap::new(),
            transactions: Vec::new(),
            notes: HashMap::new(),
            ready: VecDeque::new(),
            n_frames: 0,
            effects: VecDeque::new(),
            token_watch: None,
            token_expires: None,
            close_reason: None,
        }
    }

    /// The session inside, for what its own effects and the feed say. Call [`advance`](Self::advance) afterwards.
    pub const fn session_mut(&mut self) -> &mut Session<D> {
        &mut self.session
    }

    /// The session inside.
    #[must_use]
    pub const fn session(&self) -> &Session<D> {
        &self.session
    }

    /// What was agreed on; 1.0 before that.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Takes what the client sent. Nothing once the conversation ends.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Greeting | State::Verifying | State::Open) {
            self.decoder.push(bytes);
        }
        self.advance();
    }

    /// Handles frames that are there, as far as there is room for what they bring: to be called after answers and when output drained.
    pub fn advance(&mut self) {
        while self.wants_input() {
            let next = match self.held_back.take() {
                None => self.decoder.next_frame(),
                held_back => Ok(held_back),
            };
            match next {
                // Who subscribes and then publishes gets what it publishes.
                Ok(Some(frame)) if frame.command.publishes() && self.begins_to_read() => {
                    self.held_back = Some(frame);
                    return;
                }
                Ok(Some(frame)) => {
                    let receipt = frame.header("receipt").map(str::to_owned);
                    if let Err(refusal) = self.handle(frame) {
                        self.refuse(&refusal.about(receipt.as_deref()));
                    }
                }
                Ok(None) => return,
                Err(refusal) => return self.refuse(&refusal),
            }
        }
    }

    /// Whether more should be read from the client: nobody finds out who it is, and what it asked before was answered for the most part.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        let has_room = self.receipts.len() + self.n_frames < self.settings.bounds.requests_in_flight;
        match self.state {
            State::Greeting => true,
            State::Open if self.held_back.is_some() && self.begins_to_read() => false,
            State::Open => has_room && self.session.wants_input(),
            State::Verifying | State::Leaving | State::Closed => false,
        }
    }

    /// Whether there is a topic that the client subscribed to and that is not read yet.
    fn begins_to_read(&self) -> bool {
        let reads_topics = |key: &SubscriptionKey| {
            self.subscriptions.get(*key).is_some_and(|subscription| !subscription.filters().is_empty())
        };
        self.awaited.values().any(reads_topics)
    }

    /// Whether the conversation is over, but for what waits to be sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether it ends: nothing more is read.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.state, State::Leaving | State::Closed)
    }

    /// Why it ends, once that is settled; [`CloseReason::Normal`] if it ended without a goodbye.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason
    }

    /// Ends without a goodbye: what waited to be sent is dropped, and nothing follows.
    pub fn end(&mut self) {
        self.close_reason.get_or_insert(CloseReason::Normal);
        self.state = State::Closed;
        self.ready = VecDeque::new();
        self.n_frames = 0;
        self.effects = VecDeque::new();
        self.session.end();
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.ready.is_empty() || (self.state != State::Closed && self.session.has_outgoing())
    }

    /// Whether the shell is asked for something.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        !self.effects.is_empty() || self.session.has_effect()
    }

    /// The next thing to do for the conversation.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        loop {
            match self.session.poll_effect()? {
                // Its goodbye becomes an ERROR, which closes by itself.
                session::Effect::Close => {}
                effect => return Some(Effect::Session(effect)),
            }
        }
    }

    /// The next thing to send. To be asked only while the connection takes more: what is not asked for stays in its log.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing<D>> {
        loop {
            if let Some(Ready { outgoing, settles }) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.ready = VecDeque::new();
                }
                if matches!(outgoing, Outgoing::Frame(_)) {
                    self.n_frames -= 1;
                }
                if let Some(settled) = settles {
                    let id = self.next_request();
                    self.effects.push_back(Effect::Settle { id, settled });
                }
                return Some(outgoing);
            }
            if self.state == State::Closed {
                return None;
            }
            let outgoing = self.session.poll_outgoing()?;
            self.translate(outgoing);
        }
    }

    /// Sends a heart-beat, if nothing waits to be sent that is one as well.
    pub fn beat(&mut self) {
        if self.state == State::Open && !self.has_outgoing() {
            self.n_frames += 1;
            let outgoing = Outgoing::Frame(Bytes::from_static(HEART_BEAT));
            self.ready.push_back(Ready { outgoing, settles: None });
        }
    }

    /// The same to a client that may have nothing any more: what waits is dropped, of what it asked for nothing more is done, and
    /// messages of queues that it was not sent are others'.
    pub fn expel(&mut self, goodbye: &Goodbye) {
        // After an ERROR there is nothing else.
        let error = if self.state == State::Closed { self.ready.pop_back() } else { None };
        self.n_frames = error.iter().len();
        self.ready = error.into_iter().collect();
        if self.state != State::Closed {
            self.effects = VecDeque::new();
        }
        self.close(goodbye);
    }

    /// Says goodbye with an ERROR frame and closes.
    pub fn close(&mut self, goodbye: &Goodbye) {
        let message = match goodbye.reason {
            CloseReason::GoingAway => "Server shutting down",
            CloseReason::SlowReader => "Too slow",
            CloseReason::Overloaded => "Overloaded",
            CloseReason::Unauthenticated => "Not authenticated",
            CloseReason::Forbidden => "Forbidden",
            _ => "Connection closed",
        };
        self.refuse(&Refusal::closing(goodbye.reason, message, goodbye.text.clone()));
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Refusal> {
        if self.state == State::Greeting {
            return self.connect(&frame);
        }
        match frame.command {
            Command::Send => self.send(frame),
            Command::Subscribe => self.subscribe(&frame),
            Command::Unsubscribe => self.unsubscribe(&frame),
            Command::Ack => self.acknowledge(&frame, Settlement::Done),
            Command::Nack => {
                let is_dropped = frame.header("requeue") == Some("false");
                self.acknowledge(&frame, if is_dropped { Settlement::Reject } else { Settlement::Requeue })
            }
            Command::Begin => self.begin(&frame),
            Command::Commit => self.commit(&frame),
            Command::Abort => self.abort(&frame),
            Command::Disconnect => {
                self.leave(&frame);
                Ok(())
            }
            Command::Connect | Command::Stomp => {
                Err(Refusal::new("Bad CONNECT", "this connection has a session already"))
            }
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                Err(Refusal::bad_command(frame.command.as_str()))
            }
        }
    }

    /// A DISCONNECT: its receipt comes once everything before it was carried out.
    fn leave(&mut self, frame: &Frame) {
        self.state = State::Leaving;
        self.transactions.clear();
        for subscription in self.subscriptions.take() {
            self.cancel(&subscription, false);
        }
        let id = self.next_request();
        self.receipts.push(id, frame.header("receipt"));
        self.settle_request(id);
    }

    /// Sends an ERROR and closes.
    fn refuse(&mut self, refusal: &Refusal) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.close_reason = Some(refusal.reason);
        let mut out = BytesMut::new();
        encode_refusal(self.version, refusal, &mut out);
        self.n_frames += 1;
        self.ready.push_back(Ready { outgoing: Outgoing::Frame(out.freeze()), settles: None });
        self.effects.push_back(Effect::Close(refusal.reason));
        self.session.end();
    }

    /// A request was carried out: receipts that waited for it are sent, in the order of their frames.
    fn settle_request(&mut self, id: RequestId) {
        if self.state == State::Closed {
            // An ERROR is the last frame.
            return;
        }
        self.receipts.settle(id);
        while let Some(receipt) = self.receipts.pop_done() {
            if let Some(receipt) = receipt {
                self.push_frame(Command::Receipt, &[("receipt-id", &receipt)]);
            }
        }
        if self.state == State::Leaving && self.receipts.len() == 0 {
            self.state = State::Closed;
            self.close_reason = Some(CloseReason::Normal);
            self.effects.push_back(Effect::Close(CloseReason::Normal));
            self.session.end();
        }
    }

    /// A request failed: that is an error, and errors end a conversation.
    fn fail_request(&mut self, id: RequestId, error: &Error) {
        let receipt = self.receipts.receipt_of(id).map(str::to_owned);
        self.refuse(&translate::refusal(error).about(receipt.as_deref()));
    }

    /// A frame that needs no answer of the shell was carried out.
    fn done(&mut self, frame: &Frame) {
        if let Some(receipt) = frame.header("receipt") {
            let id = self.next_request();
            self.receipts.push(id, Some(receipt));
            self.settle_request(id);
        }
    }

    fn push_frame(&mut self, command: Command, headers: &[(&str, &str)]) {
        let mut out = BytesMut::new();
        encode_frame(self.version, command, headers, b"", &mut out);
        self.n_frames += 1;
        self.ready.push_back(Ready { outgoing: Outgoing::Frame(out.freeze()), settles: None });
    }

    /// Asks the session inside; its reply has this id.
    fn request(&mut self, id: RequestId, command: Request) {
        // The time is for pings, which STOMP does not have.
        self.session.handle(Time(0), Ok(Numbered { id, command }));
        // At once, so that what is asked of the shell has the order of the frames.
        while let Some(effect) = self.session.poll_effect() {
            self.effects.push_back(Effect::Session(effect));
        }
    }

    const fn next_request(&mut self) -> RequestId {
        self.last_request.0 += 1;
        self.last_request
    }

    fn speaker(&self) -> Speaker<'_> {
        Speaker { subject: &self.session.grants().subject, session: &self.name }
    }
}

/// The value of a header that must be there.
fn required<'a>(frame: &'a Frame, name: &str, message: &'static str) -> Result<&'a str, Refusal> {
    frame.header(name).ok_or_else(|| {
        Refusal::new(message, format!("{} must include a '{name}' header", frame.command.as_str()))
    })
}

/// A token that is not shown in logs.
fn secret(text: &str) -> Token {
    Token(text.to_owned())
}
