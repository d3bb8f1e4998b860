//! Publishing one message.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use bongsu_protocol::event::{Published, Reply};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::Offset;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;

use crate::call::Answer;
use crate::error::Error;
use crate::handle::Handle;

/// A message to be published: `.await` it.
///
/// It resolves when the broker has it: on a topic with history, when it is committed. If the connection breaks in between, the client
/// sends it again with the same id, so that it is stored once.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited or sent"]
pub struct Publish {
    handle: Handle,
    topic: Result<Topic, Error>,
    message: Message,
    expect: Option<Offset>,
}

impl Publish {
    pub(crate) fn new(handle: Handle, topic: &str, payload: Bytes) -> Self {
        let topic = Topic::parse(topic).map_err(Error::from);
        Self { handle, topic, message: Message::new(payload), expect: None }
    }

    /// The media type: readers that use JSON see `application/json` as JSON and `text/…` as text.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.message.content_type = content_type.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.message.headers.push((name.into(), value.into()));
        self
    }

    /// The idempotency key: a second publish with it to the same topic is not stored again and answers with the first one's position.
    /// Give one to be safe across restarts of the application; without it the client makes one, which is safe across reconnects.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.message.id = id.into();
        self
    }

    /// Publishes only if the topic's newest offset is this one (0: if it has none). Otherwise the answer is a
    /// [`Error::Refused`] with the code `conflict`.
    pub const fn expect(mut self, offset: Offset) -> Self {
        self.expect = Some(offset);
        self
    }

    /// Hands the message over and returns at once, for pipelines: what this returns resolves when the broker has it. Waits only while the
    /// window of unacknowledged messages is full (4 MiB unless built otherwise).
    ///
    /// # Errors
    /// The message breaks a limit, or the client is closed.
    pub async fn send(self) -> Result<Acknowledgment, Error> {
        let new = NewMessage { topic: self.topic?, message: self.message, expect: self.expect };
        let answer = self.handle.send_messages(vec![new]).await?;
        Ok(Acknowledgment(answer))
    }
}

impl IntoFuture for Publish {
    type Output = Result<Published, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.send().await?.await })
    }
}

/// What came of a published message: `.await` it. Dropping it does not take the message back.
#[derive(Debug)]
#[must_use = "the message may have failed"]
pub struct Acknowledgment(Answer);

impl Future for Acknowledgment {
    type Output = Result<Published, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|reply| {
            let mut results = published(reply?)?;
            results.pop().ok_or(Error::UnexpectedReply)?
        })
    }
}

/// What came of each message of a batch, in order: `.await` it. Dropping it does not take the messages back.
#[derive(Debug)]
#[must_use = "messages may have failed"]
pub struct Acknowledgments(pub(crate) Answer);

impl Future for Acknowledgments {
    type Output = Result<Vec<Result<Published, Error>>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|reply| published(reply?))
    }
}

fn published(reply: Reply) -> Result<Vec<Result<Published, Error>>, Error> {
    let Reply::Published(results) = reply else { return Err(Error::UnexpectedReply) };
    Ok(results.into_iter().map(|result| result.map_err(Error::from)).collect())
}
