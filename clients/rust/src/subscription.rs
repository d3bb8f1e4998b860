//! Subscribing and reading.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bongsu_protocol::command::Start;
use bongsu_protocol::event::Subscribed;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::Stream;

use crate::error::Error;
use crate::handle::Handle;
use crate::item::Item;
use crate::mailbox::Mailbox;

/// A subscription to be made: `.await` it.
///
/// The subscription is there when this resolves; it fails with what the broker said, or with [`Error::Timeout`] after the request's
/// deadline. It also resolves when the first item is there before the broker's reply.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct Subscribe {
    handle: Handle,
    filter: Result<TopicFilter, Error>,
    from: Start,
    seen: Vec<(Topic, Position)>,
}

impl Subscribe {
    pub(crate) fn new(handle: Handle, filter: &str) -> Self {
        let filter = TopicFilter::parse(filter).map_err(Error::from);
        Self { handle, filter, from: Start::Latest, seen: Vec::new() }
    }

    /// Where reading starts: [`Start::Latest`] (the default: the next message), [`Start::Earliest`], [`Start::Last`],
    /// [`Start::After`] a position (single topics only) or [`Start::Time`].
    pub fn from(mut self, start: Start) -> Self {
        self.from = start;
        self
    }

    /// What an earlier run of the application saw, topic by topic: reading goes on right behind. Topics that are not named here start as
    /// [`from`](Self::from) says; to miss nothing, let that be [`Start::Time`] with the [`since`](Subscribed::since) of that run's first
    /// subscription. Topics that the filter does not match are ignored.
    pub fn seen(mut self, positions: impl IntoIterator<Item = (Topic, Position)>) -> Self {
        self.seen.extend(positions);
        self
    }
}

impl IntoFuture for Subscribe {
    type Output = Result<Subscription, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let filter = self.filter?;
            let mailbox = self.handle.mailbox();
            // Made before the call, so that a call that is dropped ends the subscription.
            let subscription = Subscription {
                filter: filter.clone(),
                mailbox: mailbox.clone(),
                _handle: self.handle.clone(),
            };
            self.handle.subscribe(filter, self.from, self.seen, mailbox).await?;
            Ok(subscription)
        })
    }
}

/// Messages of the topics under one filter, in the order of each topic's log. Dropping it unsubscribes.
///
/// It survives connections: after a reconnect it goes on right behind the last item, without the application doing anything.
///
/// A reader that is slower than the broker loses nothing on topics with history: its buffer is bounded (1 MiB unless built
/// otherwise), and when it is full the client stops reading its socket, for **all** of its subscriptions. The broker's log is the
/// buffer then. If that lasts (a second, or less while a call waits for its answer), the client ends its subscriptions at the
/// broker for the time being and resumes them when the reader has caught up, so calls made from within the reading loop are
/// answered. Subscriptions that must not wait for each other belong to two clients.
#[derive(Debug)]
pub struct Subscription {
    filter: TopicFilter,
    mailbox: Arc<Mailbox>,
    /// Keeps the connection: the client lives as long as any handle to it.
    _handle: Handle,
}

impl Subscription {
    /// The filter, as it was given.
    #[must_use]
    pub const fn topic_filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Where reading started and since when, as the broker said when it made the subscription for the first time. `None` until then, which
    /// may be after the first items. It is for applications that keep positions across restarts: see [`Subscribe::seen`].
    #[must_use]
    pub fn started(&self) -> Option<Subscribed> {
        self.mailbox.started()
    }

    /// Waits for the next item. `None` once there will be no more: after [`Item::Ended`], or after [`Client::close`](crate::Client::close).
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Item> {
        poll_fn(|context| self.mailbox.poll_take(context)).await
    }

    /// The next item if it is there already, without waiting.
    pub fn try_next(&mut self) -> Option<Item> {
        self.mailbox.take()
    }
}

impl Stream for Subscription {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.mailbox.poll_take(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.mailbox.abandon();
    }
}
