//! How a shard of a cluster's node puts together what came by different ways, and fills the gaps.
//!
//! ```text
//!             first message at offset 1, or nobody here reads by a pattern
//!   ┌─────────┐ ────────────────────────────────────────────────────────▶ ┌────────┐
//!   │ unknown │                                                           │ cursor │ ◀─┐ a gap, a head: after a moment,
//!   └─────────┘ ──────────▶ ┌──────────┐ ───────────────────────────────▶ └────────┘ ──┘ a read of the log
//!        message, head      │ unproven │   the store said what changed
//!                           └──────────┘
//! ```
//!
//! A session that named a topic knows itself what it has seen of it. One that reads by a pattern takes the first message of
//! a topic that it is offered for the next one. So before a topic is offered to a pattern for the first time, the store is asked
//! whether anything came before: that is what *unproven* waits for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::cursor::{self, Cursor, Step};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::reason::{CloseReason, Error, Goodbye};
use bongsu_protocol::session::{LogPage, SlowReader};
use bongsu_protocol::topic::Topic;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::shard::Shard;
use super::{Answer, Fanout, Probe};
use crate::clock;
use crate::delivery::SharedDelivery;
use crate::history::History;
use crate::limits::{REORDER_GRACE, REPAIRS_MAX, UNPROVEN_MESSAGES_MAX};
use crate::metrics::METRICS;
use crate::outbound::{ConnectionId, Outbound};

/// Messages in one page that a gap is filled from: as many as a session's reader asks for, so that equal reads are one.
const READ_MESSAGES: u32 = 128;

/// How far a topic's log was offered to its readers in one shard.
#[derive(Debug, Default)]
pub(super) enum Progress {
    /// Nothing of it came yet.
    #[default]
    Unknown,
    /// Up to where this cursor is.
    At(Box<Cursor<SharedDelivery>>),
}

/// A topic of which it is not known whether something came before what waits here.
#[derive(Debug)]
struct Unproven {
    /// Settled by an answer with a larger number.
    since: u64,
    held: Vec<SharedDelivery>,
    /// The newest position that was heard of, also of what found no room.
    head: Option<Position>,
}

/// What it takes to fill gaps.
#[derive(Debug)]
pub(super) struct Lossy {
    history: Arc<History>,
    probe: Arc<Probe>,
    unproven: HashMap<Topic, Unproven>,
    n_unproven_messages: usize,
    /// Topics to look at again, and when.
    due: BTreeSet<(Duration, Topic)>,
    /// The same by topic: each stands there once.
    due_at: HashMap<Topic, Duration>,
    reads: FuturesUnordered<BoxFuture<'static, Read>>,
}

/// What a read of a log brought.
type Read = (Topic, Result<LogPage<SharedDelivery>, Error>);

/// Something to be done about a gap.
pub(super) enum Repair {
    /// Look at what is due.
    Due,
    /// A read is back.
    Read(Read),
}

impl Lossy {
    pub(super) fn new(history: Arc<History>, probe: Arc<Probe>) -> Self {
        Self {
            history,
            probe,
            unproven: HashMap::new(),
            n_unproven_messages: 0,
            due: BTreeSet::new(),
            due_at: HashMap::new(),
            reads: FuturesUnordered::new(),
        }
    }

    /// Waits for the next thing to do; for ever where nothing can be lost. Dropping the future loses nothing.
    pub(super) async fn next(lossy: &mut Option<Self>) -> Repair {
        let Some(Self { due, reads, .. }) = lossy else { return std::future::pending().await };
        let due = due.first().filter(|_| reads.len() < REPAIRS_MAX).map(|(at, _)| clock::instant(*at));
        let sleep = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(read) = reads.next() => Repair::Read(read),
            () = sleep => Repair::Due,
        }
    }

    /// Looks at a topic at this time, unless that is done earlier anyway.
    fn schedule(&mut self, topic: &Topic, at: Duration) {
        if let Some(earlier) = self.due_at.get(topic) {
            if *earlier <= at {
                return;
            }
            self.due.remove(&(*earlier, topic.clone()));
        }
        self.due_at.insert(topic.clone(), at);
        self.due.insert((at, topic.clone()));
    }

    fn take_due(&mut self, now: Duration) -> Option<Topic> {
        if self.reads.len() >= REPAIRS_MAX || self.due.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        let (_, topic) = self.due.pop_first()?;
        self.due_at.remove(&topic);
        Some(topic)
    }

    fn read(&mut self, topic: Topic, after: Position) {
        METRICS.repairs.add(1);
        let history = Arc::clone(&self.history);
        let range = HistoryRange::Forward(Start::After(after));
        let query = HistoryQuery { topic: topic.clone(), range, limit: READ_MESSAGES };
        self.reads.push(Box::pin(async move { (topic, history.catch_up(query).await) }));
    }

    /// Lets messages or a head wait until it is known what came before.
    fn doubt(&mut self, topic: &Topic, messages: &[Fanout], head: Position) {
        let Self { probe, unproven, n_unproven_messages, .. } = self;
        let unproven = unproven.entry(topic.clone()).or_insert_with(|| Unproven {
            since: probe.want(),
            held: Vec::new(),
            head: None,
        });
        let n_room = UNPROVEN_MESSAGES_MAX.saturating_sub(*n_unproven_messages).min(messages.len());
        unproven.held.extend(messages[..n_room].iter().map(|message| message.shared.clone()));
        *n_unproven_messages += n_room;
        unproven.head = unproven.head.max(Some(head));
    }

    fn settle(&mut self, topic: &Topic) -> Option<Unproven> {
        let unproven = self.unproven.remove(topic)?;
        self.n_unproven_messages -= unproven.held.len();
        Some(unproven)
    }
}

impl Shard {
    /// Takes messages of one topic with history, as they came. What is next in the log is offered, the rest waits.
    pub(super) async fn take_durable(&mut self, run: &[Fanout]) {
        let topic = run[0].shared.delivery.topic.clone();
        if !self.is_read(&topic) {
            return;
        }
        let (Some(lossy), Some(readers)) = (&mut self.lossy, self.topics.get_mut(&topic)) else { return };
        let positions = || run.iter().filter_map(|message| message.shared.delivery.position);
        let (Some(first), Some(last)) = (positions().min(), positions().max()) else { return };
        if matches!(readers.progress, Progress::Unknown) {
            let nothing_before = first.offset == Offset(1) || !readers.has_patterns();
            if lossy.unproven.contains_key(&topic) || !nothing_before {
                return lossy.doubt(&topic, run, last);
            }
            readers.progress = Progress::At(Box::new(Cursor::live(first.previous())));
        }
        self.advance(&topic, run.iter().map(|message| message.shared.clone())).await;
    }

    /// Offers messages to a topic's cursor, and to its readers what comes out of that.
    async fn advance(&mut self, topic: &Topic, messages: impl Iterator<Item = SharedDelivery>) {
        let (Some(lossy), Some(readers)) = (&mut self.lossy, self.topics.get_mut(topic)) else { return };
        let Progress::At(cursor) = &mut readers.progress else { return };
        let mut ready = Vec::new();
        take_steps(cursor, &mut ready);
        for message in messages {
            let Some(position) = message.delivery.position else { continue };
            cursor.offer(position, message);
            take_steps(cursor, &mut ready);
        }
        if !cursor.is_live() {
            // What is missing is probably on its way.
            lossy.schedule(topic, clock::monotonic() + REORDER_GRACE);
        }
        for run in ready.chunks(crate::limits::MESSAGES_PER_RUN_MAX) {
            self.offer(run).await;
        }
    }

    /// There are messages at these positions.
    pub(super) fn take_heads(&mut self, heads: &[(Topic, Position)]) {
        for (topic, head) in heads {
            if !self.is_read(topic) {
                continue;
            }
            let (Some(lossy), Some(readers)) = (&mut self.lossy, self.topics.get_mut(topic)) else { return };
            if matches!(readers.progress, Progress::Unknown) {
                if lossy.unproven.contains_key(topic) || readers.has_patterns() {
                    lossy.doubt(topic, &[], *head);
                    continue;
                }
                readers.progress = Progress::At(Box::new(Cursor::live(head.previous())));
            }
            lossy.expect(topic, &mut readers.progress, *head);
        }
    }

    /// What changed in the store: settles what is unproven, and tells cursors what they miss.
    pub(super) async fn take_changes(&mut self, answer: &Answer) {
        let Some(changed) = &answer.changed else { return self.suspect_everything() };
        for changed in changed {
            if !self.is_read(&changed.topic) {
                continue;
            }
            let (Some(lossy), Some(readers)) = (&mut self.lossy, self.topics.get_mut(&changed.topic)) else {
                return;
            };
            if matches!(readers.progress, Progress::Unknown) {
                readers.progress = Progress::At(Box::new(Cursor::live(changed.before)));
            }
            lossy.expect(&changed.topic, &mut readers.progress, changed.head);
            self.prove(&changed.topic).await;
        }
        let Some(lossy) = &self.lossy else { return };
        let settled = |(_, unproven): &(&Topic, &Unproven)| unproven.since < answer.number;
        let mut settled: Vec<Topic> =
            lossy.unproven.iter().filter(settled).map(|(topic, _)| topic.clone()).collect();
        settled.sort_unstable();
        for topic in settled {
            self.prove(&topic).await;
        }
    }

    /// Nothing came before what waits of a topic, other than its cursor knows of: offers it.
    async fn prove(&mut self, topic: &Topic) {
        let Some(lossy) = &mut self.lossy else { return };
        let Some(Unproven { held, head, .. }) = lossy.settle(topic) else { return };
        let Some(readers) = self.topics.get_mut(topic) else { return };
        if matches!(readers.progress, Progress::Unknown) {
            // Without a message there is only hearsay, and an earlier answer dealt with that.
            let Some(first) = held.iter().filter_map(|message| message.delivery.position).min() else {
                return;
            };
            readers.progress = Progress::At(Box::new(Cursor::live(first.previous())));
        }
        if let Some(head) = head {
            lossy.expect(topic, &mut readers.progress, head);
        }
        self.advance(topic, held.into_iter()).await;
    }

    /// Does what is due, or takes what a read brought.
    pub(super) async fn repair(&mut self, repair: Repair) {
        match repair {
            Repair::Due => self.look_at_due(),
            Repair::Read((topic, result)) => {
                let now = clock::monotonic();
                let Some(readers) = self.topics.get_mut(&topic) else { return };
                let Progress::At(cursor) = &mut readers.progress else { return };
                match result {
                    Ok(page) => cursor.read_done(now, cursor_page(page)),
                    Err(_) => cursor.read_failed(now),
                }
                self.advance(&topic, std::iter::empty()).await;
            }
        }
    }

    fn look_at_due(&mut self) {
        let now = clock::monotonic();
        let Some(lossy) = &mut self.lossy else { return };
        while let Some(topic) = lossy.take_due(now) {
            let Some(readers) = self.topics.get_mut(&topic) else { continue };
            let Progress::At(cursor) = &mut readers.progress else { continue };
            if let Some(after) = cursor.poll_read(now) {
                lossy.read(topic, after);
            } else if let Some(at) = cursor.poll_timeout() {
                lossy.schedule(&topic, at);
            }
        }
    }

    /// Anything may have been missed, and nobody can say what: sessions ask for all they read, and those with patterns, which
    /// cannot, connect again.
    fn suspect_everything(&mut self) {
        if let Some(lossy) = &mut self.lossy {
            lossy.unproven.clear();
            lossy.n_unproven_messages = 0;
        }
        for readers in self.topics.values_mut() {
            readers.progress = Progress::Unknown;
        }
        for outbound in self.all_readers().values() {
            outbound.lock().session_mut().interrupt();
            outbound.call();
        }
        let mut by_pattern = BTreeMap::new();
        self.filters.all(|outbound| {
            by_pattern.insert(outbound.id(), Arc::clone(outbound));
        });
        for outbound in by_pattern.values() {
            let goodbye = Goodbye::new(CloseReason::GoingAway, "this node was cut off: connect again");
            outbound.lock().dialog.close(goodbye);
            outbound.call();
        }
    }

    /// Tells readers of topics without history that something may be missing.
    pub(super) fn tell_live_readers(&mut self) {
        for outbound in self.all_readers().into_values() {
            outbound.lock().session_mut().interrupt_live();
            self.dirty.push(outbound);
        }
    }

    /// Every connection that reads a topic, each once, in an order that is the same when a run is repeated.
    fn all_readers(&self) -> BTreeMap<ConnectionId, Arc<Outbound>> {
        let readers = self.topics.values().flat_map(|readers| &readers.connections);
        readers.map(|(id, reader)| (*id, Arc::clone(&reader.outbound))).collect()
    }
}

impl Lossy {
    /// A topic's log reaches at least to here.
    fn expect(&mut self, topic: &Topic, progress: &mut Progress, head: Position) {
        let Progress::At(cursor) = progress else { return };
        cursor.heads_up(head);
        if !cursor.is_live() {
            self.schedule(topic, clock::monotonic() + REORDER_GRACE);
        }
    }
}

/// Takes what is next in the log. What was lost or begun anew is for each session to find: it knows what it has seen.
fn take_steps(cursor: &mut Cursor<SharedDelivery>, ready: &mut Vec<Fanout>) {
    while let Some(step) = cursor.poll_step() {
        if let Step::Item(_, shared) = step {
            // A topic with history has no policy for slow readers; the value is not looked at.
            ready.push(Fanout { shared, slow_reader: SlowReader::DropOldest });
        }
    }
}

fn cursor_page(page: LogPage<SharedDelivery>) -> cursor::Page<SharedDelivery> {
    let items = page.items.into_iter().map(|(position, _, item)| (position, item)).collect();
    cursor::Page { items, first: page.first, head: page.head }
}
