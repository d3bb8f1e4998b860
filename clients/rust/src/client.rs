//! The handle that applications hold.

use bongsu_protocol::command::{Command, Token};
use bongsu_protocol::event::{Member, Reply};
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use tokio::sync::watch;

use crate::builder::Builder;
use crate::error::Error;
use crate::handle::Handle;
use crate::history::History;
use crate::publish::{Acknowledgments, Publish};
use crate::state::State;
use crate::subscription::Subscribe;

/// A connection to a broker that is made again whenever it breaks. Cheap to clone: clones share it.
///
/// It closes with [`close`](Self::close), or when the last clone and the last subscription are dropped.
#[derive(Debug, Clone)]
pub struct Client(Handle);

/// Who is present on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// At most 1,000 of them, longest present first.
    pub members: Vec<Member>,
    /// How many there are.
    pub total: u64,
}

impl Client {
    /// Connects to a broker with the default options, and returns once the connection is there.
    ///
    /// The URL is `ws://host:port/v1/ws`, or `wss://…` for TLS. `http` and `https` mean the same, and without a path it is `/v1/ws`, so that
    /// the address that the broker prints works as well.
    ///
    /// # Errors
    /// [`Error::Connect`] if the attempt fails. From then on, the client connects again by itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// The options of a client to be.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url)
    }

    /// Where the client stands, and every change of it.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state()
    }

    /// Subscribes to a topic (`chat/room/42`), or to all topics under a filter: `+` stands for one level, a last `#` for the level before it
    /// and everything below. Await it, perhaps after [`from`](Subscribe::from).
    ///
    /// A client reads each topic once: where subscriptions overlap, each message goes to all that match, and the first to reach a topic
    /// decides where reading starts. Two independent readers of a topic are two clients.
    pub fn subscribe(&self, filter: &str) -> Subscribe {
        Subscribe::new(self.0.clone(), filter)
    }

    /// Publishes a message. Await it for the acknowledgment, or [`send`](Publish::send) it to have many under way.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Publish {
        Publish::new(self.0.clone(), topic, payload.into())
    }

    /// Publishes messages in order, and returns as soon as they are handed over: what this returns resolves to one result for each, once all
    /// are known. Waits only while the window of unacknowledged messages is full (4 MiB unless built otherwise). Messages without an id get one.
    ///
    /// # Errors
    /// [`Error::Message`] if one of them breaks a limit: none is published. [`Error::Closed`].
    pub async fn publish_batch(&self, messages: Vec<NewMessage>) -> Result<Acknowledgments, Error> {
        self.0.send_messages(messages).await.map(Acknowledgments)
    }

    /// Reads a page of a topic's log. It needs no subscription.
    pub fn history(&self, topic: &str) -> History {
        History::new(self.0.clone(), topic)
    }

    /// Makes this client a member of the topic, or replaces what it shows of itself: JSON of at most 1 KiB. It is entered again after each
    /// reconnect, until [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`Error`]: the broker refused, or no answer came.
    pub async fn enter(&self, topic: &str, info: impl Into<Bytes>) -> Result<(), Error> {
        let command = Command::Enter { topic: Topic::parse(topic)?, info: info.into() };
        match self.0.call(command).await? {
            Reply::Entered => Ok(()),
            _ => Err(Error::UnexpectedReply),
        }
    }

    /// Ends this client's membership of the topic. No error if it is no member.
    ///
    /// # Errors
    /// [`Error`]: the broker refused, or no answer came.
    pub async fn leave(&self, topic: &str) -> Result<(), Error> {
        match self.0.call(Command::Leave { topic: Topic::parse(topic)? }).await? {
            Reply::Left => Ok(()),
            _ => Err(Error::UnexpectedReply),
        }
    }

    /// Asks who is present on the topic. Joins and leaves come on the topic `$presence/` + topic.
    ///
    /// # Errors
    /// [`Error`]: the broker refused, or no answer came.
    pub async fn members(&self, topic: &str) -> Result<Members, Error> {
        match self.0.call(Command::Members { topic: Topic::parse(topic)? }).await? {
            Reply::Members { members, total } => Ok(Members { members, total }),
            _ => Err(Error::UnexpectedReply),
        }
    }

    /// Shows the broker a new token before the old one runs out, and returns the subject that it names. Not needed with
    /// [`Builder::token`], which brings a new token with each connection; this one spares the reconnect.
    ///
    /// # Errors
    /// [`Error::Refused`] if the token is not good; the old one still holds.
    pub async fn authenticate(&self, token: impl Into<String>) -> Result<String, Error> {
        match self.0.call(Command::Authenticate(Token(token.into()))).await? {
            Reply::Authenticated { subject } => Ok(subject),
            _ => Err(Error::UnexpectedReply),
        }
    }

    /// Closes the client and all of its clones: waits for outstanding acknowledgments (5 seconds at most), tells the broker goodbye, and ends
    /// every subscription. Calls that still wait fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl Builder {
    /// Connects, and returns once the connection is there.
    ///
    /// # Errors
    /// [`Error::Connect`] if the first attempt fails: see its cause. From then on, the client connects again by itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.start();
        let mut state = client.state();
        let cause = loop {
            match &*state.borrow_and_update() {
                State::Connecting => {}
                State::Open(_) => break None,
                State::Waiting { cause, .. } => break Some(cause.clone()),
                State::Closed(cause) => break cause.clone(),
            }
            if state.changed().await.is_err() {
                return Err(Error::Closed(None));
            }
        };
        match cause {
            None => Ok(client),
            Some(cause) => Err(Error::Connect(cause)),
        }
    }

    /// Begins to connect and returns at once: calls wait until there is a connection, or until their deadline. The client keeps trying
    /// unless the broker says that it makes no sense; [`Client::state`] tells.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(self) -> Client {
        Client(Handle::spawn(self))
    }
}
