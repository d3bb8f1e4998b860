//! A store that is slow, fails before and after the commit, goes away, and whose replica lags, as a seed decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Store, TopicsQuery,
};
use bongsu_protocol::command::HistoryQuery;
use bongsu_protocol::event::Page;
use bongsu_protocol::topic::TopicFilter;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::agenda::Agenda;
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::trace::Trace;

/// How calls fare.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreWeather {
    /// The longest that a call takes in each direction.
    pub(crate) latency_ms: u64,
    /// The chance that a call fails before anything was done.
    pub(crate) fails_before: f64,
    /// The chance that a call fails after it was done: the answer is lost.
    pub(crate) fails_after: f64,
    /// The chance that a page's messages are the replica's.
    pub(crate) replica: f64,
    /// How far the replica is behind at most.
    pub(crate) lag_ms: u64,
    /// The chance that `changes` does not know any more.
    pub(crate) incomplete: f64,
    pub(crate) away: Away,
}

/// Whether the store is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Away {
    No,
    /// It refuses every call.
    Refuses,
    /// It answers nothing until it is back.
    Hangs,
}

impl StoreWeather {
    /// All is well.
    pub(crate) const FINE: Self = Self {
        latency_ms: 3,
        fails_before: 0.0,
        fails_after: 0.0,
        replica: 0.0,
        lag_ms: 0,
        incomplete: 0.0,
        away: Away::No,
    };
}

/// What all nodes share.
#[derive(Debug)]
pub(crate) struct SimStore {
    agenda: Arc<Agenda>,
    trace: Arc<Trace>,
    primary: MemoryStore,
    replica: MemoryStore,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    weather: StoreWeather,
    ledger: Ledger,
    /// What the store itself did wrong.
    faults: Vec<String>,
    /// Calls that hang.
    hanging: Vec<Job>,
    /// When the replica has what was done last.
    replica_at_ms: u64,
    /// Calls, by node.
    n_calls: BTreeMap<usize, u64>,
    /// The process that each node is, while it is one.
    alive: BTreeMap<usize, u64>,
}

/// A call that has arrived.
type Job = Box<dyn FnOnce(&Arc<SimStore>) + Send>;

/// One process's way to the store.
#[derive(Debug)]
pub(crate) struct NodeStore {
    store: Arc<SimStore>,
    node: usize,
    incarnation: u64,
}

/// Something that both copies do.
#[derive(Debug, Clone)]
enum Write {
    Append(Vec<Append>),
    Remove(Removal),
}

impl SimStore {
    pub(crate) fn new(seed: u64, agenda: &Arc<Agenda>, trace: &Arc<Trace>) -> Arc<Self> {
        let state = State {
            dice: Dice::of(seed, "store", 0),
            weather: StoreWeather::FINE,
            ledger: Ledger::default(),
            faults: Vec::new(),
            hanging: Vec::new(),
            replica_at_ms: 0,
            n_calls: BTreeMap::new(),
            alive: BTreeMap::new(),
        };
        Arc::new(Self {
            agenda: Arc::clone(agenda),
            trace: Arc::clone(trace),
            primary: MemoryStore::default(),
            replica: MemoryStore::default(),
            state: Mutex::new(state),
        })
    }

    /// The way of a process that begins.
    pub(crate) fn join(self: &Arc<Self>, node: usize, incarnation: u64) -> NodeStore {
        self.lock().alive.insert(node, incarnation);
        NodeStore { store: Arc::clone(self), node, incarnation }
    }

    /// Forgets a process that ended.
    pub(crate) fn leave(&self, node: usize) {
        self.lock().alive.remove(&node);
    }

    /// Changes how calls fare from now on. Calls that hang go on if the store is back.
    pub(crate) fn set_weather(self: &Arc<Self>, weather: StoreWeather) {
        let mut state = self.lock();
        state.weather = weather;
        let hanging =
            if weather.away == Away::Hangs { Vec::new() } else { std::mem::take(&mut state.hanging) };
        drop(state);
        for job in hanging {
            self.arrive(job);
        }
    }

    pub(crate) fn weather(&self) -> StoreWeather {
        self.lock().weather
    }

    /// Looks at the truth.
    pub(crate) fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.lock().ledger)
    }

    /// What the store itself did wrong.
    pub(crate) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().faults)
    }

    /// Calls that each node made so far.
    pub(crate) fn n_calls(&self) -> BTreeMap<usize, u64> {
        self.lock().n_calls.clone()
    }

    /// A call reaches the store.
    fn arrive(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        if state.weather.away == Away::Hangs {
            return state.hanging.push(job);
        }
        drop(state);
        job(self);
    }

    /// Does a write here, and on the replica later.
    fn write(self: &Arc<Self>, node: usize, write: Write) -> Outcome {
        let outcome = apply(&self.primary, write.clone());
        let now = self.trace.now();
        let mut state = self.lock();
        self.enter(&mut state, node, &write, &outcome);
        let lag = state.weather.lag_ms;
        let at = state.replica_at_ms.max(now + state.dice.between(0..=lag));
        state.replica_at_ms = at;
        let store = Arc::clone(self);
        self.agenda.at(at, move || {
            apply(&store.replica, write);
        });
        outcome
    }

    /// Writes down what was done.
    fn enter(&self, state: &mut State, node: usize, write: &Write, outcome: &Outcome) {
        let State { ledger, faults, .. } = state;
        match outcome {
            Outcome::Appended(outcomes) => {
                for outcome in outcomes {
                    match outcome {
                        Appended::Stored(delivery) => {
                            let position = delivery.position.unwrap_or_default();
                            let (topic, id) = (&delivery.topic, &delivery.message.id);
                            self.trace
                                .note(format_args!("store node-{node} commits {topic} {position} {id}"));
                            faults.extend(ledger.commit(delivery, self.trace.now()).err());
                        }
                        other => self.trace.note(format_args!("store node-{node} gets {other:?}")),
                    }
                }
            }
            Outcome::Removed(removed) => {
                if let (Write::Remove(Removal::Retain { topic, .. }), true) = (write, removed.count > 0) {
                    let filter = TopicFilter::parse(topic.as_str());
                    let query = filter.map(|filter| TopicsQuery { filter, after: None, limit: 1 });
                    let bounds = query.ok().and_then(|query| at_once(self.primary.topics(query)).pop());
                    let first = bounds.map_or(0, |bounds| bounds.first.offset.0);
                    self.trace.note(format_args!("store node-{node} trims {topic} to {first}"));
                    ledger.trimmed(topic, first);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Outcome {
    Appended(Vec<Appended>),
    Removed(Removed),
}

fn apply(store: &MemoryStore, write: Write) -> Outcome {
    match write {
        Write::Append(batch) => Outcome::Appended(at_once(store.append(batch))),
        Write::Remove(removal) => Outcome::Removed(at_once(store.remove(removal))),
    }
}

/// A store in memory answers at once, and never with an error.
fn at_once<T>(answer: BoxFuture<'_, Result<T, Error>>) -> T {
    let answer = answer.now_or_never().expect("a store in memory answers at once");
    answer.expect("a store in memory does not fail")
}

impl NodeStore {
    /// Sends a call on its way; `work` is done when it arrives.
    fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Arc<SimStore>) -> T + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Error>> {
        let (tell, told) = oneshot::channel();
        let (node, incarnation) = (self.node, self.incarnation);
        let mut state = self.store.lock();
        *state.n_calls.entry(node).or_default() += 1;
        let latency = state.weather.latency_ms;
        let at = self.store.trace.now() + state.dice.between(0..=latency);
        drop(state);
        let job = move |store: &Arc<SimStore>| {
            let mut state = store.lock();
            let StoreWeather { fails_before, fails_after, latency_ms, away, .. } = state.weather;
            // What a dead process still had under way either arrived or did not.
            let dead = state.alive.get(&node) != Some(&incarnation) && state.dice.chance(0.5);
            let refused = away == Away::Refuses || state.dice.chance(fails_before);
            let unanswered = state.dice.chance(fails_after);
            let at = store.trace.now() + state.dice.between(0..=latency_ms);
            drop(state);
            let answer = if dead || refused {
                store.trace.note(format_args!("store node-{node} {name}: fails"));
                Err(Error::Unavailable("it is away".to_owned()))
            } else {
                let answer = work(store);
                if unanswered {
                    store.trace.note(format_args!("store node-{node} {name}: the answer is lost"));
                    Err(Error::Unavailable("the connection was lost".to_owned()))
                } else {
                    Ok(answer)
                }
            };
            store.agenda.at(at, move || {
                let _ = tell.send(answer);
            });
        };
        let store = Arc::clone(&self.store);
        self.store.agenda.at(at, move || store.arrive(Box::new(job)));
        async move { told.await.unwrap_or_else(|_| Err(Error::Unavailable("it is gone".to_owned()))) }.boxed()
    }
}

impl Store for NodeStore {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        let node = self.node;
        self.call("append", move |store| match store.write(node, Write::Append(batch)) {
            Outcome::Appended(outcomes) => outcomes,
            Outcome::Removed(_) => Vec::new(),
        })
    }

    /// As the store in Postgres does it: the bounds are the primary's, the messages may be the replica's, if it has them all.
    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        let node = self.node;
        let read = move |store: &Arc<SimStore>, query: HistoryQuery| {
            let (topic, range) = (query.topic.clone(), query.range);
            let page = at_once(store.primary.read(query));
            let (n_messages, first, head) = (page.messages.len(), page.first, page.head);
            store.trace.note(format_args!(
                "store node-{node} reads {topic} {range:?}: {n_messages} of {first} to {head}"
            ));
            page
        };
        async move {
            let copy = query.clone();
            let page = self.call("read", move |store| read(store, copy)).await?;
            let chance = self.store.weather().replica;
            if page.messages.is_empty() || !self.store.lock().dice.chance(chance) {
                return Ok(page);
            }
            self.call("read of the replica", move |store| {
                let copy = at_once(store.replica.read(query.clone()));
                if copy.messages == page.messages { page } else { read(store, query) }
            })
            .await
        }
        .boxed()
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        let node = self.node;
        self.call("list", move |store| {
            let filter = query.filter.clone();
            let listing = at_once(store.primary.list(query));
            let n_logs = listing.logs.len();
            store.trace.note(format_args!("store node-{node} lists {filter:?}: {n_logs}"));
            listing
        })
    }

    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        let node = self.node;
        self.call("changes", move |store| {
            let mut changes = at_once(store.primary.changes(since));
            // In no order means in any, but in the same one when a run is repeated.
            changes.changed.sort_by(|one, other| one.topic.cmp(&other.topic));
            let chance = store.weather().incomplete;
            if store.lock().dice.chance(chance) {
                changes.complete = false;
                changes.changed.clear();
            }
            if !changes.changed.is_empty() || !changes.complete {
                store.trace.note(format_args!(
                    "store node-{node} learns of {} changes, complete: {}",
                    changes.changed.len(),
                    changes.complete
                ));
            }
            changes
        })
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        let node = self.node;
        self.call("remove", move |store| match store.write(node, Write::Remove(removal)) {
            Outcome::Removed(removed) => removed,
            Outcome::Appended(_) => Removed::default(),
        })
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("weather", &self.weather).finish_non_exhaustive()
    }
}
