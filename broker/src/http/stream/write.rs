//! Publishing for a request: one message and its answer, and the register's compare-and-set.

use std::sync::Arc;

use bongsu_persistence::store::Removal;
use bongsu_protocol::event::Published;
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::Streams;
use super::record::{JSON, Life, Record};
use super::view::View;
use crate::chance;
use crate::clock;
use crate::history;
use crate::http::problem::Problem;
use crate::limits::STREAM_APPEND_TRIES;
use crate::node::Node;
use crate::publisher::Completion;

/// Every so many messages of a register the older ones go.
const REGISTER_PURGE_MESSAGES: u64 = 16;

/// What comes of a message that was handed to the publisher.
pub(super) struct Pending(oneshot::Receiver<Result<Published, Error>>);

impl Pending {
    /// Waits for its place in the log.
    pub(super) async fn position(self) -> Result<Position, Error> {
        let published = self.0.await.unwrap_or_else(|_| Err(history::unavailable()))?;
        published.position.ok_or_else(|| Error::new(ErrorCode::NotFound, "this topic keeps no history"))
    }
}

/// Hands a message to the publisher. Waits for room in its queues only.
pub(super) async fn publish(node: &Arc<Node>, subject: &str, message: NewMessage) -> Pending {
    let (caller, answer) = oneshot::channel();
    if let Err(waiting) = node.publisher().publish(subject, message, Completion::Caller(caller)) {
        node.publisher().wait(waiting).await;
    }
    Pending(answer)
}

impl Streams {
    /// Changes the register, from what it says to what `change` makes of it; `None` leaves it. Whoever calls it holds the view's writer.
    ///
    /// # Errors
    /// Those of `change`, and 503 where the store does not answer or others are always faster.
    pub(super) async fn change_record(
        &self,
        view: &View,
        mut change: impl FnMut(Option<&Record>) -> Result<Option<Record>, Problem>,
    ) -> Result<(), Problem> {
        for _ in 0..STREAM_APPEND_TRIES {
            let (at, record) = {
                let state = view.state();
                (state.record_at, change(state.record.as_ref())?)
            };
            let Some(record) = record else { return Ok(()) };
            match self.write_record(&view.register, at.offset, &record).await {
                Ok(at) => {
                    let record = Some(record).filter(|record| record.life != Life::Gone);
                    view.update(|state| state.set_record(at, record));
                    if at.offset.0.is_multiple_of(REGISTER_PURGE_MESSAGES) {
                        let until = at.previous().offset;
                        let topic = view.register.clone();
                        self.node().history().remove(&view.register, Removal::Purge { topic, until }).await?;
                    }
                    return Ok(());
                }
                Err(error) if error.code == ErrorCode::Conflict => view.refresh_record(self.node()).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::busy("this stream is being changed by many at once"))
    }

    async fn write_record(
        &self,
        register: &Topic,
        expect: Offset,
        record: &Record,
    ) -> Result<Position, Error> {
        let payload = serde_json::to_vec(record)
            .map_err(|_| Error::new(ErrorCode::Internal, "a stream's register cannot be written"))?;
        let message =
            Message { payload: Bytes::from(payload), content_type: JSON.to_owned(), ..Message::default() };
        let message = NewMessage { topic: register.clone(), message, expect: Some(expect) };
        publish(self.node(), "", message).await.position().await
    }

    /// A number that tells a new stream from an earlier one of its name.
    pub(super) fn new_incarnation() -> u64 {
        // Below 2^53, so that JSON readers see it whole: 41 bits of time until 2039, 12 of chance.
        (clock::wall().0 << 12) | chance::range(0..1_u64 << 12)
    }

    /// Writes down that the stream was read or written, where that is worth it.
    pub(super) fn note_touch(self: &Arc<Self>, view: &Arc<View>) {
        let now = clock::wall().0;
        view.touch();
        let is_worth_it = {
            let state = view.state();
            let record = state.record.as_ref().filter(|record| record.life == Life::Open);
            record.is_some_and(|record| {
                // An eighth of the time to live is as exact as it is on other nodes and after a restart.
                record
                    .ttl
                    .is_some_and(|ttl| now.saturating_sub(record.touched) >= ttl.saturating_mul(1000) / 8)
            })
        };
        if !is_worth_it {
            return;
        }
        let (streams, view) = (Arc::clone(self), Arc::clone(view));
        tokio::spawn(async move {
            // Whoever writes meanwhile touches it, too.
            let Ok(_writer) = view.writer.try_lock() else { return };
            let touched = view.touched();
            let touch = |record: Option<&Record>| {
                let open = record.filter(|record| record.life == Life::Open && record.touched < touched);
                Ok(open.map(|record| Record { touched, ..record.clone() }))
            };
            if let Err(problem) = streams.change_record(&view, touch).await {
                tracing::debug!(topic = %view.topic, status = %problem.status(), "a stream's touch was not kept");
            }
        });
    }
}
