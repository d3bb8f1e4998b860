//! The log, as everyone else sees it.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::HistoryQuery;
use bongsu_protocol::event::Page;
use bongsu_protocol::limits::INTEGER_MAX;
use bongsu_protocol::message::{Delivery, NewMessage, Time};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::future::BoxFuture;

/// Most messages or ids that one removal takes away, so that a large clean-up never holds up publishers for long: 4,096 deletions
/// take some milliseconds. [`Removed::more`] says that there is more.
pub const REMOVE_STEP_MAX: u64 = 4096;

/// Where logs live. The store is the truth: what it does not have was never acknowledged.
///
/// All methods may be called at the same time from many tasks. A call that fails left either everything of it or nothing.
/// Dropping a returned future does not tell whether the work was done.
pub trait Store: Send + Sync + 'static {
    /// Appends messages, in order and in one transaction, and gives each its position.
    ///
    /// Answers one outcome per message, in order, after the commit. A conflict or a duplicate does not keep the other messages
    /// of the batch from being stored. A topic's first message makes its log, with an epoch larger than that of any earlier log of the topic.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: repeat the batch; messages with an id are not stored twice. [`Error::Corrupt`]: give up, tell the operator.
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>>;

    /// Reads one page of one log, with its bounds as of the same moment.
    ///
    /// A topic without a log gives an empty page whose bounds have epoch 0. A start before the first kept message reads from the
    /// first kept message: the caller compares `first` with what it asked for. A start in another epoch, or past the head, gives an
    /// empty page with the log's bounds; the caller sees the difference there.
    ///
    /// # Errors
    /// As [`append`](Self::append); reading again is always safe.
    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>>;

    /// Lists logs, in the order of their names (bytes), as far as a bounded look at the names goes: whoever shows a page to somebody
    /// waits for no more than that, however many names there are and however few of them are wanted.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>>;

    /// Lists logs that match a filter, in the order of their names (bytes), after the name given, however many names that is to look at.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn topics(&self, query: TopicsQuery) -> BoxFuture<'_, Result<Vec<LogBounds>, Error>> {
        Box::pin(async move {
            let mut logs = Vec::new();
            let mut from = query.after.as_ref().map_or_else(String::new, ListQuery::after);
            while logs.len() < query.limit {
                let limit = query.limit - logs.len();
                let part = ListQuery {
                    filter: Some(query.filter.clone()),
                    prefix: String::new(),
                    from,
                    limit,
                    names_max: usize::MAX,
                };
                let listing = self.list(part).await?;
                logs.extend(listing.logs);
                match listing.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            Ok(logs)
        })
    }

    /// Tells which logs were appended to since an earlier answer, by anyone: how a node that may have missed something learns
    /// what. Without a mark it answers only the mark of this moment.
    ///
    /// Every append is told by exactly one of two answers in a row: what was committed when the first was made by none of the
    /// second, what was not, but is when the second is made, by the second, as far as that is [`complete`](Changes::complete).
    ///
    /// # Errors
    /// As [`read`](Self::read); asking again with the same mark is always safe.
    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>>;

    /// Takes messages away: by retention, on command, or a whole log.
    ///
    /// # Errors
    /// As [`read`](Self::read); removing again is always safe.
    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>>;
}

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct Append {
    /// The message and where to.
    pub message: NewMessage,
    /// The subject of the publisher's token.
    pub publisher: String,
    /// When the broker took it. The store raises it to that of the message before it, so that times never go back within a log.
    pub time: Time,
    /// How long the message's id guards against a second one. Zero: not at all.
    pub idempotency_window: Duration,
}

impl Append {
    /// Until when the message's id refuses a second one, if it is stored at this time; `None` if it refuses none.
    ///
    /// A window of less than a millisecond counts as one.
    #[must_use]
    pub fn guarded_until(&self, stored: Time) -> Option<Time> {
        if self.message.message.id.is_empty() || self.idempotency_window.is_zero() {
            return None;
        }
        let window_ms = self.idempotency_window.as_nanos().div_ceil(1_000_000);
        let until = u128::from(stored.0).saturating_add(window_ms).min(u128::from(INTEGER_MAX));
        Some(Time(u64::try_from(until).unwrap_or(INTEGER_MAX)))
    }
}

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// Stored here; this is what readers get.
    Stored(Arc<Delivery>),
    /// A message with this id was stored here before; nothing was stored.
    Duplicate(Position),
    /// `expect` did not hold; nothing was stored.
    Conflict {
        /// The log's newest position; epoch 0 and offset 0 if there is no log.
        head: Position,
    },
}

/// Which logs to list.
#[derive(Debug, Clone)]
pub struct TopicsQuery {
    /// Which names.
    pub filter: TopicFilter,
    /// Names after this one; `None`: from the beginning.
    pub after: Option<Topic>,
    /// At most this many. Fewer than asked for means that there are no more.
    pub limit: usize,
}

/// A page of a listing that somebody looks at.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Which names; `None`: all, also those that begin with `$`.
    pub filter: Option<TopicFilter>,
    /// What the names begin with, besides; may end within a level.
    pub prefix: String,
    /// Names that are not before this text: [`Listing::next`] of the page before, or empty.
    pub from: String,
    /// At most this many logs.
    pub limit: usize,
    /// About how many names to look at, at most; a step to another part of the index counts as some of them. `usize::MAX`: as many as
    /// it takes.
    pub names_max: usize,
}

impl ListQuery {
    /// The smallest text after a topic's name, to list [`from`](Self::from): no name has a control character.
    #[must_use]
    pub fn after(topic: &Topic) -> String {
        format!("{topic}\u{1}")
    }
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// At most as many as were asked for. May be fewer, even none, though there are more: the look ended before.
    pub logs: Vec<LogBounds>,
    /// Where to go on; `None`: there are no more.
    pub next: Option<String>,
}

/// A log and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBounds {
    /// Whose log.
    pub topic: Topic,
    /// The oldest kept message's place; one after `head` if none is kept.
    pub first: Position,
    /// The newest message's place, also where it was trimmed.
    pub head: Position,
    /// The newest message's time, also where it was trimmed.
    pub time: Time,
    /// The bytes of what is kept: payload, headers, id and content type of each message.
    pub bytes: u64,
}

/// Most logs in one answer of [`Store::changes`]: some 10 MiB. When more changed, the answer is not complete.
pub const CHANGED_MAX: usize = 100_000;

/// A moment in the history of all logs. Only the store that gave it can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeMark(pub String);

/// What was appended to since a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Each log once, in no order. Logs that were deleted since may be missing.
    pub changed: Vec<Changed>,
    /// The moment of this answer.
    pub mark: ChangeMark,
    /// False: the mark is of another store or too old, or more than [`CHANGED_MAX`] logs changed. Then anything may have, and
    /// `changed` is empty.
    pub complete: bool,
}

/// A log that was appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Whose log.
    pub topic: Topic,
    /// The place before the first message that was appended; offset 0 if that was the first of its epoch.
    pub before: Position,
    /// The place of the last one.
    pub head: Position,
}

/// What to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// What a topic's retention no longer keeps. Bounded work: at most [`REMOVE_STEP_MAX`] messages a call; see [`Removed::more`].
    Retain {
        /// Whose log.
        topic: Topic,
        /// What to keep.
        retention: Retention,
        /// Now, to judge ages by.
        now: Time,
    },
    /// All messages up to this offset. The log and its epoch stay; bounded work as above.
    Purge {
        /// Whose log.
        topic: Topic,
        /// The last offset to go.
        until: Offset,
    },
    /// One message's content; its offset, time and id stay, marked as erased.
    Erase {
        /// Whose log.
        topic: Topic,
        /// Which message.
        position: Position,
    },
    /// The log as a whole. A later publish makes a new one with a larger epoch.
    Delete {
        /// Whose log.
        topic: Topic,
    },
    /// Message ids whose window has passed, of all topics. Bounded work as above.
    ForgetIds {
        /// Now.
        now: Time,
    },
}

/// How much of a log is kept. A message goes as soon as one of the bounds is passed; `None` bounds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Messages older than this go.
    pub age: Option<Duration>,
    /// At most this many messages stay, the newest.
    pub count: Option<u64>,
    /// At most this many bytes of messages (payload, headers, id, content type) stay, the newest; the newest message always stays.
    pub bytes: Option<u64>,
}

/// What was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Messages or ids.
    pub count: u64,
    /// There is more to take away: call again.
    pub more: bool,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be reached, was busy, or did not answer in time. Repeat later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored makes no sense, or was made by a newer version. Somebody must look.
    #[error("the store holds something unexpected: {0}")]
    Corrupt(String),
}
