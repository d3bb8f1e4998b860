//! Reading a page of a topic's log.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bongsu_protocol::command::{Command, HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::{Page, Reply};
use bongsu_protocol::limits::{PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;

use crate::error::Error;
use crate::handle::Handle;

/// A page to be read: `.await` it. Unless told otherwise, the newest 100 messages, newest first.
///
/// The broker may send fewer than asked for (a page has about 1 MiB at most); [`Page::more`] tells whether the log goes on.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct History {
    handle: Handle,
    topic: Result<Topic, Error>,
    range: HistoryRange,
    limit: u32,
    /// The page is turned round, so that it reads oldest first.
    turned: bool,
}

impl History {
    pub(crate) fn new(handle: Handle, topic: &str) -> Self {
        let topic = Topic::parse(topic).map_err(Error::from);
        let range = HistoryRange::Backward(None);
        // At most 1,024.
        let limit = PAGE_MESSAGES_DEFAULT as u32;
        Self { handle, topic, range, limit, turned: false }
    }

    /// The newest `n` messages, oldest first: what a chat window shows when it opens.
    pub const fn last(mut self, n: u32) -> Self {
        self.range = HistoryRange::Backward(None);
        self.turned = true;
        self.limit(n)
    }

    /// Oldest first, from here.
    pub const fn from(mut self, start: Start) -> Self {
        self.range = HistoryRange::Forward(start);
        self.turned = false;
        self
    }

    /// Newest first, from before this position: the page before the one that began there.
    pub const fn before(mut self, position: Position) -> Self {
        self.range = HistoryRange::Backward(Some(position));
        self
    }

    /// At most this many messages, 1 to 1,024.
    pub const fn limit(mut self, n: u32) -> Self {
        let n_max = PAGE_MESSAGES_MAX as u32;
        self.limit = if n == 0 {
            1
        } else if n > n_max {
            n_max
        } else {
            n
        };
        self
    }
}

impl IntoFuture for History {
    type Output = Result<Page, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let query = HistoryQuery { topic: self.topic?, range: self.range, limit: self.limit };
            match self.handle.call(Command::History(query)).await? {
                Reply::History(mut page) => {
                    if self.turned {
                        page.messages.reverse();
                    }
                    Ok(page)
                }
                _ => Err(Error::UnexpectedReply),
            }
        })
    }
}
