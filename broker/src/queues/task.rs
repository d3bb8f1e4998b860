//! The task of one queue on this node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{RequestId, Start};
use bongsu_protocol::position::Position;
use bongsu_protocol::queue::{ConsumerId, Departure, Proposal, Queue, State, Ticket};
use bongsu_protocol::reason::{Error, ErrorCode};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::burial::bury;
use super::handover::{Handover, NOBODY};
use super::ledger::{Ledger, View};
use super::liveness::{Absent, Others};
use super::mailbox::{Asker, Command, Consumer, Mailbox};
use super::news::{Heard, News};
use super::pace::Pace;
use super::{Shared, answered};
use crate::clock;
use crate::cluster::Membership;
use crate::metrics::METRICS;

/// One queue, as long as somebody on this node consumes it, or has something to settle.
pub(super) struct Task {
    shared: Arc<Shared>,
    ledger: Ledger,
    mailbox: Arc<Mailbox>,
    queue: Queue,
    consumers: HashMap<ConsumerId, Consumer>,
    /// Who is to be told when the queue is there.
    joining: Vec<(RequestId, ConsumerId)>,
    /// Who wants to know that settlements are kept.
    askers: HashMap<Ticket, Asker>,
    last_ticket: Ticket,
    /// The place of the newest state that is known; `None` before the queue was opened.
    at: Option<Position>,
    /// A newer one that came while an append was under way.
    newer: Option<(Position, State)>,
    /// What is known may be old: all of it is to be read again.
    is_suspect: bool,
    /// There is a newer state: it is to be read.
    is_behind: bool,
    news: News,
    /// The call to the store that is under way.
    work: Option<BoxFuture<'static, Outcome>>,
    /// When it began.
    work_began: Duration,
    pace: Pace,
    /// A call to the store is due as soon as the pace allows.
    is_paced: bool,
    handover: Handover,
    burials: FuturesUnordered<BoxFuture<'static, Position>>,
    absent: Absent,
    /// When to look for nodes that are gone, besides when there is news of nodes.
    look_at: Option<Duration>,
    /// The queue is not wanted any more once its consumers are gone.
    is_unwanted: bool,
}

/// What came of a call to the store.
enum Outcome {
    Opened(Result<View, Error>),
    Read(Result<Option<(Position, State)>, Error>),
    Appended(Proposal, Result<Position, Error>),
    Forgotten(Result<(), Error>),
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, ledger: Ledger, mailbox: Arc<Mailbox>) -> Self {
        let history = Arc::clone(&shared.history);
        let news =
            News::listen(shared.interest.clone(), Arc::clone(&history), &ledger.topic, ledger.log.clone());
        Self {
            queue: Queue::new(shared.me.clone(), shared.tries_max),
            handover: Handover::new(ledger.topic.clone(), history),
            shared,
            ledger,
            mailbox,
            consumers: HashMap::new(),
            joining: Vec::new(),
            askers: HashMap::new(),
            last_ticket: NOBODY,
            at: None,
            newer: None,
            is_suspect: true,
            is_behind: false,
            news,
            work: None,
            work_began: Duration::ZERO,
            pace: Pace::default(),
            is_paced: false,
            burials: FuturesUnordered::new(),
            absent: Absent::default(),
            look_at: None,
            is_unwanted: false,
        }
    }

    /// Runs until nobody here needs the queue any more. `from`: where it starts if there is none yet.
    pub(super) async fn run(mut self, from: Start) {
        let mut membership = match &self.shared.others {
            Others::Cluster(cluster) => Some(cluster.membership()),
            Others::None | Others::Unknown => None,
        };
        loop {
            for command in self.mailbox.take() {
                self.obey(command);
            }
            self.news.carry_out().await;
            while let Some(heard) = self.news.take() {
                self.hear(heard);
            }
            self.look_for_the_gone();
            self.tell();
            self.handover.go_on(&mut self.queue, &self.consumers);
            while let Some(dead) = self.queue.poll_dead() {
                let (ledger, prefix) = (self.ledger.clone(), self.shared.dead_letter_prefix.clone());
                self.burials.push(Box::pin(bury(ledger, prefix, dead, self.shared.tries_max)));
            }
            self.begin_work(from);
            if self.is_over() && self.shared.retire(&self.ledger.log, &self.mailbox) {
                return;
            }
            self.wait(&mut membership).await;
        }
    }

    /// Waits for whatever comes next.
    async fn wait(&mut self, membership: &mut Option<watch::Receiver<Membership>>) {
        if self.handover.has_more {
            return tokio::task::yield_now().await;
        }
        let due = self.due();
        let paused = async {
            match due {
                Some(due) => tokio::time::sleep_until(clock::instant(due)).await,
                None => std::future::pending().await,
            }
        };
        let Self { mailbox, news, work, handover, burials, queue, .. } = self;
        let worked = async {
            match work {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        let nodes_changed = async {
            match membership {
                Some(membership) => membership.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let mut has_membership = true;
        tokio::select! {
            biased;
            outcome = worked => {
                self.work = None;
                self.finish_work(outcome);
            }
            page = handover.page() => handover.take(page, queue),
            Some(position) = burials.next() => queue.dead_lettered(position),
            () = mailbox.called() => {}
            () = news.changed() => {}
            changed = nodes_changed => has_membership = changed,
            () = paused => {}
        }
        if !has_membership {
            // This node left its cluster, and ends.
            *membership = None;
        }
    }

    /// When to go on though nothing came.
    fn due(&self) -> Option<Duration> {
        let paced = self.is_paced.then_some(self.pace.not_before);
        let waits_to_read = !self.handover.is_reading() && self.queue.peek_dispatch().is_some();
        let read = waits_to_read.then_some(self.handover.not_before);
        [paced, read, self.look_at].into_iter().flatten().min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Consume { request, id, consumer, prefetch } => {
                self.queue.add_consumer(id, prefetch);
                self.consumers.insert(id, consumer);
                self.joining.push((request, id));
                self.is_unwanted = false;
                if self.at.is_some() {
                    self.tell_joined(&Ok(()));
                }
            }
            Command::Leave { id, departure, forget } => {
                self.queue.remove_consumer(id, departure);
                self.consumers.remove(&id);
                self.joining.retain(|(_, joining)| *joining != id);
                self.is_unwanted |= forget;
            }
            Command::Settle { id, positions, settlement, asker } => {
                METRICS.queue_settled.add(positions.len() as u64);
                self.last_ticket.0 += 1;
                self.askers.insert(self.last_ticket, asker);
                self.queue.settle(id, &positions, settlement, self.last_ticket);
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Message(position) => self.queue.set_log(Position::default(), position),
            Heard::Unsure => self.is_suspect = true,
            Heard::State(at, _) if self.at.is_none_or(|known| at <= known) => {}
            Heard::State(at, bytes) => match State::decode(&bytes) {
                // What is under way may have been before it, or be this one.
                Ok(state) if self.work.is_some() => self.newer = Some((at, state)),
                Ok(state) => {
                    self.pace.note_rival(clock::monotonic());
                    self.learn(at, state);
                }
                Err(_) => self.is_suspect = true,
            },
        }
    }

    fn learn(&mut self, at: Position, state: State) {
        self.at = Some(at);
        self.queue.learn(state);
    }

    /// Gives back what nodes hold that are gone.
    fn look_for_the_gone(&mut self) {
        let others = self.queue.others();
        let (gone, due) = self.absent.judge(&self.shared.others, others, clock::monotonic());
        self.look_at = due;
        for holder in gone {
            tracing::info!(topic = %self.ledger.topic, %holder, "a node is gone: what it held goes to others");
            self.queue.note_gone(holder);
        }
    }

    /// Begins the next call to the store, if one is needed and none is under way.
    fn begin_work(&mut self, from: Start) {
        self.is_paced = self.work.is_none() && clock::monotonic() < self.pace.not_before;
        if self.work.is_some() || self.is_paced {
            return;
        }
        self.work_began = clock::monotonic();
        let ledger = self.ledger.clone();
        let is_needed = !self.consumers.is_empty() || self.at.is_some();
        self.work = match self.at {
            _ if self.is_suspect && is_needed && !self.is_finished() => {
                // When the question is asked, not when it is answered: what comes in between is news.
                (self.is_suspect, self.is_behind) = (false, false);
                Some(Box::pin(async move { Outcome::Opened(ledger.open(from).await) }))
            }
            Some(_) if self.is_behind => {
                self.is_behind = false;
                Some(Box::pin(async move { Outcome::Read(ledger.newest().await) }))
            }
            Some(at) => match self.queue.propose() {
                Some(proposal) => Some(Box::pin(async move {
                    let result = ledger.append(&proposal.state, at).await;
                    Outcome::Appended(proposal, result)
                })),
                None if self.is_unwanted && self.is_finished() => {
                    Some(Box::pin(async move { Outcome::Forgotten(ledger.forget().await) }))
                }
                None => None,
            },
            None => None,
        };
    }

    fn finish_work(&mut self, outcome: Outcome) {
        let now = clock::monotonic();
        let (took, n_others) = (now.saturating_sub(self.work_began), self.queue.others().len());
        match outcome {
            Outcome::Opened(Ok(View { at, state, first, head })) => {
                self.pace.note_answer();
                self.queue.set_log(first, head);
                self.learn(at, state);
                self.tell_joined(&Ok(()));
            }
            Outcome::Opened(Err(error)) => {
                self.pace.note_failure(now);
                self.is_suspect = true;
                self.tell_joined(&Err(error));
            }
            Outcome::Read(Ok(Some((at, state)))) => {
                self.pace.note_answer();
                self.learn(at, state);
            }
            // The log is not there any more.
            Outcome::Read(Ok(None)) => self.is_suspect = true,
            Outcome::Read(Err(_)) => {
                self.pace.note_failure(now);
                self.is_behind = true;
            }
            Outcome::Appended(proposal, Ok(at)) => {
                METRICS.queue_appends.add(1);
                self.pace.note_kept(now, took, n_others);
                if proposal.n_lost > 0 {
                    METRICS.queue_lost.add(proposal.n_lost);
                    tracing::warn!(topic = %self.ledger.topic, lost = proposal.n_lost, "messages went before they were settled");
                }
                self.learn(at, proposal.state);
                let ledger = self.ledger.clone();
                tokio::spawn(async move { ledger.tidy(at).await });
            }
            Outcome::Appended(_, Err(error)) if error.code == ErrorCode::Conflict => {
                METRICS.queue_conflicts.add(1);
                self.pace.note_conflict(now, took, n_others);
                let head = error.head.unwrap_or_default();
                // What came meanwhile is the newest, unless even that is old by now.
                self.is_behind = self.newer.as_ref().is_none_or(|(at, _)| *at < head);
            }
            Outcome::Appended(_, Err(_)) => {
                // It may have been kept: the log says so.
                self.pace.note_failure(now);
                self.is_suspect = true;
            }
            Outcome::Forgotten(Ok(())) => {
                (self.is_unwanted, self.at) = (false, None);
                // Who came meanwhile makes it anew.
                self.is_suspect = true;
            }
            Outcome::Forgotten(Err(_)) => self.pace.note_failure(now),
        }
        if let Some((at, state)) = self.newer.take()
            && self.at.is_some_and(|known| at > known)
        {
            self.pace.note_rival(now);
            self.learn(at, state);
        }
    }

    /// Tells who settled that it is kept.
    fn tell(&mut self) {
        while let Some(ticket) = self.queue.poll_settled() {
            if let Some(asker) = self.askers.remove(&ticket) {
                asker.answer(Ok(()));
            }
        }
    }

    /// Tells who wants to consume what came of it. Who cannot is no consumer.
    fn tell_joined(&mut self, result: &Result<(), Error>) {
        for (request, id) in std::mem::take(&mut self.joining) {
            let Some(Consumer { outbound, .. }) = self.consumers.get(&id) else { continue };
            if let Some(conversation) = outbound.lock().dialog.stomp() {
                conversation.consuming(request, result.clone());
            }
            answered(outbound);
            if result.is_err() {
                self.consumers.remove(&id);
                self.queue.remove_consumer(id, Departure::Cancelled);
            }
        }
    }

    /// Whether nobody here needs the queue, and every state says what they did.
    fn is_finished(&self) -> bool {
        self.consumers.is_empty() && self.queue.is_idle() && self.askers.is_empty()
    }

    fn is_over(&self) -> bool {
        self.is_finished() && !self.is_unwanted && self.work.is_none()
    }
}
