//! What a queue's task hears of its two logs: that there are messages, and what other nodes appended to the state.
//!
//! A reader like any other: a session that nobody writes to a socket for. While the task is busy the session falls back to the log, and what it
//! gives out is still in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bongsu_protocol::codec::Format;
use bongsu_protocol::command::{Command, Request, RequestId, Start, Subscription};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::Error;
use bongsu_protocol::session::{Bounds, Effect, Grants, LogPage, Outgoing, Session};
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::carrier::Carrier;
use crate::clock;
use crate::delivery::SharedDelivery;
use crate::dialog::Dialog;
use crate::history::History;
use crate::interest::Interest;
use crate::limits::QUEUE_NEWS_BYTES_MAX;
use crate::outbound::{ConnectionId, Outbound};

/// Numbers for readers of the broker's own, far above those of connections.
static NEXT_ID: AtomicU64 = AtomicU64::new(1 << 62);

/// What came.
#[derive(Debug)]
pub(super) enum Heard {
    /// The log has a message here.
    Message(Position),
    /// The state log has this one here.
    State(Position, Bytes),
    /// Something else may have happened: look at both.
    Unsure,
}

/// See the [module](self). Dropping it ends its subscriptions.
pub(super) struct News {
    interest: Interest,
    history: Arc<History>,
    outbound: Arc<Outbound>,
    state_log: Topic,
    /// A page that the session waits for.
    page: Option<BoxFuture<'static, Result<LogPage<SharedDelivery>, Error>>>,
}

impl News {
    /// Begins to listen. What there was before is for whoever asks the store.
    pub(super) fn listen(interest: Interest, history: Arc<History>, topic: &Topic, state_log: Topic) -> Self {
        let filters = vec![topic.clone().into(), state_log.clone().into()];
        let bounds = Bounds {
            outbox_bytes: QUEUE_NEWS_BYTES_MAX,
            subscriptions: filters.len(),
            topics: filters.len(),
            requests_in_flight: filters.len(),
        };
        let grants = Grants { subscribe: filters.clone(), history: filters.clone(), ..Grants::default() };
        let mut session = Session::new(bounds, grants);
        let subscription = |filter| Subscription { filter, from: Start::Latest, seen: Vec::new() };
        let command = Command::Subscribe(filters.into_iter().map(subscription).collect());
        session.handle(clock::wall(), Ok(Request { id: RequestId(1), command }));
        // Nothing is written by this carrier: deliveries are taken as they are.
        let dialog = Dialog::Native { session, format: Format::Json };
        let id = ConnectionId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let outbound = Outbound::new(id, dialog, Carrier::Bytes, None);
        Self { interest, history, outbound, state_log, page: None }
    }

    /// Does what the session asks for. Waits for room in a queue that is served without regard to this one. Not to be dropped while it waits.
    pub(super) async fn carry_out(&mut self) {
        loop {
            let effect = {
                let mut state = self.outbound.lock();
                let session = state.session_mut();
                session.poll(clock::monotonic());
                session.poll_effect()
            };
            match effect {
                None => return,
                Some(Effect::Watch { filter }) => {
                    self.interest.watch(Arc::clone(&self.outbound), filter).await;
                }
                Some(Effect::Unwatch { filter }) => self.interest.unwatch(self.outbound.id(), filter).await,
                Some(Effect::Read { query }) => {
                    let history = Arc::clone(&self.history);
                    self.page = Some(Box::pin(async move { history.catch_up(query).await }));
                }
                // Its one request is to subscribe to two topics.
                Some(_) => {}
            }
        }
    }

    /// The next thing that came. To be asked until there is none, after [`carry_out`](Self::carry_out).
    pub(super) fn take(&mut self) -> Option<Heard> {
        loop {
            let outgoing = self.outbound.lock().session_mut().poll_outgoing()?;
            match outgoing {
                Outgoing::Delivery(shared) => {
                    let delivery = &shared.delivery;
                    let Some(position) = delivery.position else { continue };
                    return Some(if delivery.topic == self.state_log {
                        Heard::State(position, delivery.message.payload.clone())
                    } else {
                        Heard::Message(position)
                    });
                }
                Outgoing::Event(event) => match *event {
                    // Of the state log, only the newest message counts.
                    Event::Lost(lost) if lost.topic == self.state_log => {}
                    // From here on, everything comes here.
                    Event::Reply { result: Ok(Reply::Subscribed(_)), .. }
                    | Event::Lost(_)
                    | Event::Reset { .. } => return Some(Heard::Unsure),
                    event => tracing::warn!(?event, "a queue hears of its logs no more"),
                },
            }
        }
    }

    /// Waits until something may have come. May be dropped at any time.
    pub(super) async fn changed(&mut self) {
        let due = self.outbound.lock().session().poll_timeout().map(clock::instant);
        let Self { outbound, page, .. } = self;
        let paused = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let read = async {
            match page {
                Some(page) => page.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = read => {
                self.page = None;
                self.outbound.lock().session_mut().read_done(clock::monotonic(), result);
            }
            () = outbound.called() => {}
            () = paused => {}
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        let filters = {
            let mut state = self.outbound.lock();
            state.dialog.end();
            state.session().filters()
        };
        let (interest, id) = (self.interest.clone(), self.outbound.id());
        // Whoever drops it cannot wait. Without a runtime the process ends, and everything with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { interest.forget(id, filters).await });
        }
    }
}
