//! The state log of a queue: reading its newest message, making it, and appending to it on a condition.

use std::sync::Arc;
use std::time::Duration;

use bongsu_persistence::store::Removal;
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::Position;
use bongsu_protocol::queue::State;
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::topic::Topic;
use bytes::BytesMut;

use crate::history::History;
use crate::limits::QUEUE_STATES_KEPT;
use crate::publisher::Publisher;

/// What the messages of state logs are.
const CONTENT_TYPE: &str = "application/vnd.bongsu.queue";

/// The two logs of a queue. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ledger {
    pub(super) topic: Topic,
    pub(super) log: Topic,
    pub(super) history: Arc<History>,
    pub(super) publisher: Arc<Publisher>,
}

/// Everything that there is to know of a queue at some moment.
#[derive(Debug)]
pub(super) struct View {
    /// The place of the state in its log.
    pub(super) at: Position,
    pub(super) state: State,
    /// The first kept message of the queue's own log, and the newest.
    pub(super) first: Position,
    pub(super) head: Position,
}

impl Ledger {
    /// Reads everything, and makes the queue if there is none yet, to start where it is wanted.
    ///
    /// # Errors
    /// `unavailable`, with a time to wait; `internal` where what is kept makes no sense: somebody must look.
    pub(super) async fn open(&self, from: Start) -> Result<View, Error> {
        loop {
            let (first, head) = self.bounds().await?;
            if let Some((at, state)) = self.newest().await? {
                return Ok(View { at, state, first, head });
            }
            let floor = self.floor(from, first, head).await?;
            let state = State::starting(head.epoch, floor);
            match self.append(&state, Position::default()).await {
                Ok(at) => return Ok(View { at, state, first, head }),
                // Another node made it.
                Err(error) if error.code == ErrorCode::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends a state, if the newest is at this place. Where it is then.
    ///
    /// # Errors
    /// `conflict` if another is the newest; `unavailable`: it may have been kept all the same.
    pub(super) async fn append(&self, state: &State, after: Position) -> Result<Position, Error> {
        let mut payload = BytesMut::new();
        state.encode(&mut payload);
        let message = Message {
            payload: payload.freeze(),
            content_type: CONTENT_TYPE.to_owned(),
            ..Message::default()
        };
        let message = NewMessage { topic: self.log.clone(), message, expect: Some(after.offset) };
        let published = self.publisher.keep(message, Duration::ZERO).await?;
        published.position.ok_or_else(|| damaged(&self.log))
    }

    /// Takes away what nobody needs once this is the newest, from time to time.
    pub(super) async fn tidy(&self, newest: Position) {
        if newest.offset.0.is_multiple_of(QUEUE_STATES_KEPT) {
            let removal = Removal::Purge { topic: self.log.clone(), until: newest.previous().offset };
            // What is left, the next time takes.
            let _ = self.history.remove(&self.log, removal).await;
        }
    }

    /// Forgets the queue.
    ///
    /// # Errors
    /// `unavailable`, with a time to wait; forgetting again is safe.
    pub(super) async fn forget(&self) -> Result<(), Error> {
        self.history.remove(&self.log, Removal::Delete { topic: self.log.clone() }).await
    }

    /// The newest state, and its place; `None` if there is no queue.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) async fn newest(&self) -> Result<Option<(Position, State)>, Error> {
        let range = HistoryRange::Forward(Start::Last(1));
        let page = self.history.page(HistoryQuery { topic: self.log.clone(), range, limit: 1 }).await?;
        let Some(message) = page.messages.last() else {
            return if page.head.offset.0 == 0 { Ok(None) } else { Err(damaged(&self.log)) };
        };
        let state = State::decode(&message.message.payload).map_err(|_| damaged(&self.log))?;
        Ok(Some((message.position.unwrap_or_default(), state)))
    }

    /// The first kept message of the queue's own log, and the newest.
    async fn bounds(&self) -> Result<(Position, Position), Error> {
        let range = HistoryRange::Forward(Start::Last(1));
        let page = self.history.page(HistoryQuery { topic: self.topic.clone(), range, limit: 1 }).await?;
        Ok((page.first, page.head))
    }

    /// The offset before the first message that a new queue gives out.
    async fn floor(&self, from: Start, first: Position, head: Position) -> Result<u64, Error> {
        match from {
            Start::Latest => Ok(head.offset.0),
            Start::Last(count) => Ok(head.offset.0.saturating_sub(count)),
            Start::Earliest => Ok(first.previous().offset.0),
            Start::After(position) if position.epoch == head.epoch => {
                Ok(position.offset.0.min(head.offset.0))
            }
            // Of another log: nothing of this one was seen.
            Start::After(_) => Ok(0),
            Start::Time(_) => {
                let range = HistoryRange::Forward(from);
                let query = HistoryQuery { topic: self.topic.clone(), range, limit: 1 };
                let page = self.history.page(query).await?;
                let first = page.messages.first().and_then(|message| message.position);
                Ok(first.map_or(head.offset.0, |first| first.previous().offset.0))
            }
        }
    }
}

fn damaged(log: &Topic) -> Error {
    tracing::error!(%log, "what a queue knows cannot be read: move the log away to begin anew, with every kept message undone");
    Error::new(ErrorCode::Internal, "this queue's state cannot be read")
}
