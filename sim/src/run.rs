//! A run: chaos and calm in turns, all processes in one thread, a millisecond at a time.

use std::cell::Cell;
use std::sync::{Arc, Once};
use std::time::Duration;

use bongsu::chance;
use bongsu_protocol::topic::Topic;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::bus::{BusWeather, Link};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::machine::{Machine, STEP, new_runtime};
use crate::plan::Plan;
use crate::publisher::{Publisher, topic};
use crate::reader::Reader;
use crate::world::{Order, World};

/// How long after the last fault everybody must have caught up.
const RECOVERY: Duration = Duration::from_secs(5);

/// How late a message may be whose frame was lost, while all is well otherwise.
const TAIL: Duration = Duration::from_secs(1);

/// Store calls of one node in a minute of silence: about one a second for each of what changed, commands, removals and all registers together,
/// and what retention asks once a minute.
const QUIET_CALLS_MAX: u64 = 360;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What was not as it should be. The run ends with the first.
    pub violations: Vec<String>,
    /// The lines of the trace that were kept.
    pub trace: String,
    /// Lines of the trace.
    pub n_lines: u64,
    /// A digest of all lines.
    pub digest: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Messages that were acknowledged with a position.
    pub n_acknowledged: u64,
    /// Messages that readers got.
    pub n_delivered: u64,
    /// Connections that were opened.
    pub n_connections: u64,
    /// The most calls of the store that a node made in a minute of silence.
    pub quiet_calls: u64,
    /// The most frames that were published on the bus in a minute of silence.
    pub quiet_frames: u64,
}

/// Runs a plan to its end, or to the first violation.
///
/// Everything that happens follows from the plan: the same one twice makes the same trace, byte for byte.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    watch_panics();
    chance::simulate(Some(plan.seed));
    let mut run = Run::new(plan);
    let _ = run.play();
    let report = run.report();
    chance::simulate(None);
    report
}

/// A violation was found: the rest is of no interest.
struct Stop;

struct Run {
    world: Arc<World>,
    machines: Vec<Machine>,
    /// Where clients run. They never crash all at once.
    outside: Runtime,
    order: Dice,
    n_panics_before: u64,
    quiet_calls: u64,
    quiet_frames: u64,
}

impl Run {
    fn new(plan: &Plan) -> Self {
        let world = World::new(plan.clone());
        let mut machines: Vec<Machine> =
            (0..plan.nodes).map(|number| Machine::new(plan.seed, number)).collect();
        for machine in &mut machines {
            machine.boot(&world);
        }
        let outside = new_runtime();
        for number in 0..plan.readers {
            outside.spawn(Reader::new(&world, number).run());
        }
        for number in 0..plan.publishers {
            outside.spawn(Publisher::new(&world, number).run());
        }
        let order = Dice::of(plan.seed, "order", 0);
        let n_panics_before = PANICS.get();
        Self { world, machines, outside, order, n_panics_before, quiet_calls: 0, quiet_frames: 0 }
    }

    fn play(&mut self) -> Result<(), Stop> {
        for round in 0..self.world.plan.rounds {
            Faults::begin(&self.world);
            self.pass(self.world.plan.chaos)?;
            Faults::end(&self.world);
            self.pass(RECOVERY)?;
            self.check("after the faults")?;
            self.lose_tail(&topic(["a/0", "b/1", "trim/0"][round as usize % 3]))?;
            self.lose_tail(&topic(&format!("made/last-{round}")))?;
            self.mend_links(&topic(["a/1", "b/0", "trim/1"][round as usize % 3]))?;
            self.whisper(&topic("live/0"))?;
            self.be_silent()?;
        }
        Ok(())
    }

    /// A message whose frames are all lost reaches everybody all the same.
    fn lose_tail(&mut self, topic: &Topic) -> Result<(), Stop> {
        let head = |run: &Self| run.world.store.with_ledger(|ledger| ledger.head(topic).offset);
        let before = head(self);
        self.world.trace.note(format_args!("the tail of {topic} is lost"));
        self.world.bus.set_weather(BusWeather { loss: 1.0, ..BusWeather::default() });
        self.world.lock().errand = Some(topic.clone());
        for _ in 0..1000 {
            self.pass(STEP)?;
            if head(self) > before {
                break;
            }
        }
        // As long as the frames of this message take, and no longer: what tells of it later is not lost.
        let gone = Duration::from_millis(50);
        self.pass(gone)?;
        self.world.bus.set_weather(BusWeather::default());
        self.pass(TAIL - gone)?;
        self.check("after the frames of a message were lost")
    }

    /// What was published while all links were dead reaches everybody once they are mended, and the nodes were told so.
    fn mend_links(&mut self, topic: &Topic) -> Result<(), Stop> {
        let set_all = |run: &Self, link| {
            (0..run.world.plan.nodes).for_each(|node| run.world.bus.set_link(node, link));
        };
        set_all(self, Link::Dead);
        self.world.lock().errand = Some(topic.clone());
        // Past the time in which a head is announced, and short of that in which nodes ask the store without being told to.
        self.pass(2 * TAIL)?;
        set_all(self, Link::Whole);
        self.pass(TAIL)?;
        self.check("after the links were mended")
    }

    /// A live message reaches everybody who listens, while all is well.
    fn whisper(&mut self, topic: &Topic) -> Result<(), Stop> {
        let mut state = self.world.lock();
        state.last_live = None;
        state.errand = Some(topic.clone());
        drop(state);
        self.pass(TAIL)?;
        let last = self.world.lock().last_live.clone();
        let Some((topic, session, number)) = last else {
            self.world.violation(&format!("a message to {topic} was not taken though all is well"));
            return Err(Stop);
        };
        let deaf: Vec<usize> = {
            let state = self.world.lock();
            let wants =
                |filters: &[bongsu_protocol::topic::TopicFilter]| filters.iter().any(|f| f.matches(&topic));
            let deaf = state
                .records
                .iter()
                .filter(|(_, record)| wants(record.filters()) && !record.has_live(&topic, &session, number));
            deaf.map(|(reader, _)| *reader).collect()
        };
        for reader in deaf {
            self.world.violation(&format!("reader-{reader} did not hear {topic} {session}-{number}"));
        }
        self.judge()
    }

    /// Nobody says anything: then a node has little to ask.
    fn be_silent(&mut self) -> Result<(), Stop> {
        let (calls, frames) = (self.world.store.n_calls(), self.world.bus.n_frames());
        let silence = self.world.plan.silence;
        self.pass(silence)?;
        self.check("after a silence")?;
        let a_minute = |count: u64| count * 60_000 / u64::try_from(silence.as_millis()).unwrap_or(1).max(1);
        self.quiet_frames = self.quiet_frames.max(a_minute(self.world.bus.n_frames() - frames));
        for (node, n_calls) in self.world.store.n_calls() {
            let n_calls = a_minute(n_calls - calls.get(&node).copied().unwrap_or_default());
            self.quiet_calls = self.quiet_calls.max(n_calls);
            if n_calls > QUIET_CALLS_MAX {
                self.world
                    .violation(&format!("node-{node} asks the store {n_calls} times in a minute of silence"));
            }
        }
        self.judge()
    }

    /// Everybody has everything.
    fn check(&self, when: &str) -> Result<(), Stop> {
        let mut missing: Vec<String> = self.world.store.with_ledger(|ledger| {
            let state = self.world.lock();
            let missing = |(reader, record): (&usize, &crate::record::Record)| {
                Some(format!("reader-{reader} {}", record.missing(ledger)?))
            };
            state.records.iter().filter_map(missing).collect()
        });
        let n_publishing = self.world.lock().n_publishing;
        if n_publishing > 0 {
            missing.push(format!("{n_publishing} publishers wait for an acknowledgment"));
        }
        for missing in missing {
            self.world.violation(&format!("{when}, {missing}"));
        }
        self.judge()
    }

    /// Lets virtual time pass.
    fn pass(&mut self, duration: Duration) -> Result<(), Stop> {
        let steps = duration.as_millis() / STEP.as_millis();
        for _ in 0..steps {
            self.step();
            self.judge()?;
        }
        Ok(())
    }

    fn step(&mut self) {
        let Self { world, machines, outside, .. } = self;
        let now = world.trace.now();
        world.agenda.run_due(now);
        let orders = std::mem::take(&mut world.lock().orders);
        for order in orders {
            match order {
                Order::Crash(node) => machines[node].crash(world),
                Order::Boot(node) => machines[node].boot(world),
            }
        }
        // Who of those that have something to do at the same time comes first is chance, as it is between machines.
        let mut turns: Vec<Option<&Machine>> = machines.iter().map(Some).chain([None]).collect();
        self.order.shuffle(&mut turns);
        for turn in turns {
            match turn {
                Some(machine) => machine.step(),
                None => outside.block_on(async { sleep(STEP).await }),
            }
        }
        world.trace.set_now(now + 1);
    }

    /// Stops at the first violation.
    fn judge(&self) -> Result<(), Stop> {
        for fault in self.world.store.take_faults() {
            self.world.violation(&fault);
        }
        if PANICS.get() > self.n_panics_before {
            self.world.violation("a task panicked");
        }
        if self.world.lock().violations.is_empty() { Ok(()) } else { Err(Stop) }
    }

    fn report(mut self) -> Report {
        for machine in &mut self.machines {
            machine.crash(&self.world);
        }
        drop(self.outside);
        self.world.agenda.clear();
        let (trace, n_lines, digest) = self.world.trace.take();
        let state = self.world.lock();
        Report {
            violations: state.violations.clone(),
            trace,
            n_lines,
            digest,
            virtual_ms: self.world.trace.now(),
            n_acknowledged: state.n_acknowledged,
            n_delivered: state.n_delivered,
            n_connections: state.n_connections,
            quiet_calls: self.quiet_calls,
            quiet_frames: self.quiet_frames,
        }
    }
}

/// Counts the panics of each thread: tokio keeps those of a task from going further.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}
