//! A session that only reads, driven for a request instead of for a socket.
//!
//! What a WebSocket's own task does for its session, whoever holds a [`Reader`] does by waiting for it. Nothing is read ahead: while
//! nobody takes what came, the session's outbox fills, and its cursors fall back to the log.

use std::sync::Arc;

use bongsu_protocol::codec::Format;
use bongsu_protocol::command::{Command, Request, RequestId, Subscription};
use bongsu_protocol::reason::CloseReason;
use bongsu_protocol::session::{Effect, Grants, Outgoing, Session};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::carrier::Carrier;
use crate::clock;
use crate::connection::answers::{Answer, Answers};
use crate::control::{Holder, Place};
use crate::delivery::SharedDelivery;
use crate::dialog::Dialog;
use crate::drain::Phase;
use crate::events::{Visitor, Witness};
use crate::metrics::METRICS;
use crate::node::Node;
use crate::outbound::Outbound;

/// See the [module](self). Dropping it ends its subscriptions.
pub(super) struct Reader {
    node: Arc<Node>,
    outbound: Arc<Outbound>,
    answers: Answers,
    phase: watch::Receiver<Phase>,
    /// It was said that the node goes away.
    is_draining: bool,
    /// Tells of the session what others may want to know.
    witness: Witness,
    /// Where those who want to end the session find it.
    place: Option<Place>,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something can be taken.
    Outgoing,
    /// The time has come.
    Due,
    /// The node goes away; said once.
    Draining,
}

impl Reader {
    /// Begins to read. What comes of each subscription is the reader's first event.
    pub(super) fn begin(node: &Arc<Node>, grants: Arc<Grants>, subscriptions: Vec<Subscription>) -> Self {
        let mut session = Session::new(node.bounds(), grants);
        let command = Command::Subscribe(subscriptions);
        session.handle(clock::wall(), Ok(Request { id: RequestId(1), command }));
        // Nothing is written by this carrier: deliveries are taken as they are.
        let dialog = Dialog::Native { session, format: Format::Json };
        let outbound = Outbound::new(node.next_connection(), dialog, Carrier::Bytes, None);
        let phase = node.drain().subscribe();
        Self {
            node: Arc::clone(node),
            witness: Witness::silent(outbound.id()),
            outbound,
            answers: Answers::default(),
            phase,
            is_draining: false,
            place: None,
        }
    }

    /// Makes it a session that others hear of, and that operators can end. To be called at its beginning.
    pub(super) fn introduce(&mut self, holder: Holder) {
        let id = self.outbound.id();
        let session = self.node.sessions().session_name(id);
        let subject = holder.identity.subject().to_owned();
        let (peer, transport) = (holder.peer, holder.transport.name());
        self.place = Some(self.node.sessions().enter(&self.outbound, holder));
        self.witness = self.node.events().connected(id, Visitor { session, subject, peer, transport });
    }

    /// Says why the session ends. Without it, its client just went away.
    pub(super) fn ends(&mut self, reason: CloseReason) {
        if let Some(place) = &self.place {
            place.note_end(reason);
        }
        self.witness.disconnected(reason);
    }

    /// The next delivery or event that is there.
    pub(super) fn take(&self) -> Option<Outgoing<SharedDelivery>> {
        self.outbound.lock().take_outgoing()
    }

    /// Whether its client may have nothing any more: the next that can be taken says why.
    pub(super) fn is_expelled(&self) -> bool {
        let reason = self.outbound.lock().session().close_reason();
        matches!(reason, Some(CloseReason::Unauthenticated | CloseReason::Forbidden))
    }

    /// Whether everything that was there when it was looked was taken.
    pub(super) fn is_at_head(&self) -> bool {
        self.outbound.lock().session().is_at_head()
    }

    /// Waits until something can be taken, or the time has come. To be called again once all was taken.
    ///
    /// Not to be dropped while it waits, unless the reader is dropped too: something that the session asked for might be lost.
    pub(super) async fn wait(&mut self, until: Instant) -> Woken {
        loop {
            self.carry_out().await;
            let due = {
                let state = self.outbound.lock();
                if state.session().has_outgoing() {
                    return Woken::Outgoing;
                }
                state.session().poll_timeout().map(clock::instant).map_or(until, |due| due.min(until))
            };
            let Self { outbound, answers, phase, is_draining, .. } = self;
            let draining = async { drop(phase.wait_for(|phase| *phase == Phase::Draining).await) };
            let answer = tokio::select! {
                biased;
                () = draining, if !*is_draining => {
                    *is_draining = true;
                    return Woken::Draining;
                }
                () = tokio::time::sleep_until(due) => {
                    if due == until {
                        return Woken::Due;
                    }
                    None
                }
                answer = answers.next(), if !answers.is_empty() => Some(answer),
                () = outbound.called() => None,
            };
            if let Some(answer) = answer {
                self.take_answer(answer);
            }
        }
    }

    /// Carries out what the session asks for.
    async fn carry_out(&mut self) {
        loop {
            let effect = {
                let mut state = self.outbound.lock();
                state.session_mut().poll(clock::monotonic());
                state.session_mut().poll_effect()
            };
            let Some(effect) = effect else { return };
            let (node, outbound) = (&self.node, &self.outbound);
            match effect {
                Effect::Watch { filter } => {
                    self.witness.subscribed(&filter);
                    node.interest().watch(Arc::clone(outbound), filter).await;
                }
                Effect::Unwatch { filter } => {
                    self.witness.unsubscribed(&filter);
                    node.interest().unwatch(outbound.id(), filter).await;
                }
                Effect::Read { query } => self.answers.catch_up(node, query),
                Effect::List { filter, after } => self.answers.list(node, filter, after),
                // It said goodbye, which is an event like any other.
                Effect::Close => {}
                Effect::Authenticate { .. }
                | Effect::Publish { .. }
                | Effect::History { .. }
                | Effect::Enter { .. }
                | Effect::Leave { .. }
                | Effect::Members { .. } => unreachable!("its one request is a subscription"),
            }
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        let now = clock::monotonic();
        match answer {
            Answer::Page(result) => {
                METRICS.pages.add(1);
                self.outbound.lock().session_mut().read_done(now, result);
            }
            Answer::Listed(filter, result) => self.outbound.lock().session_mut().listed(&filter, result),
            Answer::Room | Answer::Reply(..) | Answer::Identified(..) | Answer::LoggedIn(..) => {}
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.place.take());
        let filters = {
            let mut state = self.outbound.lock();
            state.dialog.end();
            state.session().filters()
        };
        let (node, id) = (Arc::clone(&self.node), self.outbound.id());
        // Whoever drops it cannot wait. Without a runtime the process ends, and everything with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { node.interest().forget(id, filters).await });
        }
    }
}
