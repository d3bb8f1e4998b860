//! A process of a node: a runtime of its own, in the one thread that all of them share.
//!
//! A crash drops the runtime, and with it everything that the process was about to do, whoever began it.

use std::sync::Arc;
use std::time::Duration;

use bongsu::bus::Bus;
use bongsu::config::{self, Settings, SettingsArgs};
use bongsu::node::Node;
use bongsu::{clock, retention};
use bongsu_persistence::store::Store;
use bongsu_protocol::message::Time;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::dice::Dice;
use crate::plan::WALL_MS;
use crate::world::{Up, World};

/// A step of virtual time: what tokio's timers can tell apart.
pub(crate) const STEP: Duration = Duration::from_millis(1);

/// How far the clocks of two machines are apart at most.
const SKEW_MS: u64 = 400;

/// A machine that runs a node's process, or none.
#[derive(Debug)]
pub(crate) struct Machine {
    number: usize,
    settings: Settings,
    process: Option<Process>,
    n_processes: u64,
    /// What its clock is ahead.
    skew_ms: u64,
}

#[derive(Debug)]
struct Process {
    runtime: Runtime,
    clocks: clock::Simulated,
}

impl Machine {
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        let skew_ms = Dice::of(seed, "skew", number as u64).between(0..=SKEW_MS);
        Self { number, settings: settings(number), process: None, n_processes: 0, skew_ms }
    }

    /// Begins a process, unless there is one.
    pub(crate) fn boot(&mut self, world: &Arc<World>) {
        if self.process.is_some() {
            return;
        }
        self.n_processes += 1;
        world.trace.note(format_args!("node-{} boots", self.number));
        let runtime = new_runtime();
        let wall = Time(WALL_MS + self.skew_ms + world.trace.now());
        let clocks =
            clock::Simulated { start: runtime.block_on(async { tokio::time::Instant::now() }), wall };
        clock::simulate(Some(clocks));
        let store: Arc<dyn Store> = Arc::new(world.store.join(self.number, self.n_processes));
        let (bus, inbox) = world.bus.join(self.number, self.n_processes);
        let bus: Arc<dyn Bus> = Arc::new(bus);
        let settings = self.settings.clone();
        let node = runtime.block_on(async {
            let node = Node::start(settings, Arc::clone(&store), Some((bus, inbox)));
            tokio::spawn(retention::run(store, Arc::clone(node.policies())));
            node
        });
        clock::simulate(None);
        let handle = runtime.handle().clone();
        world.rise(self.number, Up { handle, node, plugs: Vec::new() });
        self.process = Some(Process { runtime, clocks });
    }

    /// Ends the process in the middle of whatever it does, if there is one.
    pub(crate) fn crash(&mut self, world: &Arc<World>) {
        let Some(Process { runtime, clocks }) = self.process.take() else { return };
        world.trace.note(format_args!("node-{} crashes", self.number));
        world.bus.leave(self.number);
        world.store.leave(self.number);
        clock::simulate(Some(clocks));
        world.fall(self.number);
        drop(runtime);
        clock::simulate(None);
    }

    /// Lets the process do what it can do now, and its time go on by one step.
    pub(crate) fn step(&self) {
        let Some(Process { runtime, clocks }) = &self.process else { return };
        clock::simulate(Some(*clocks));
        runtime.block_on(async { sleep(STEP).await });
        clock::simulate(None);
    }
}

/// A runtime whose clock goes on only when everything waits.
pub(crate) fn new_runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without input and output needs nothing of the system")
}

/// Small bounds, so that they are reached, and short times, so that they pass.
fn settings(number: usize) -> Settings {
    let set = [
        format!("node.name=node-{number}"),
        "storage.kind=memory".to_owned(),
        "websocket.ping_interval=5s".to_owned(),
        "websocket.pong_timeout=5s".to_owned(),
        "websocket.write_timeout=10s".to_owned(),
        "websocket.outbound_bytes=16KiB".to_owned(),
        "limits.tail_cache_bytes=1MiB".to_owned(),
        "limits.history_reads=2".to_owned(),
        "topics=[{filter=\"live/#\", kind=\"live\"}, {filter=\"trim/#\", retention={count=30}}]".to_owned(),
    ];
    let args = SettingsArgs { set: set.into(), ..SettingsArgs::default() };
    config::load_with(&args, []).expect("the settings of the simulation are valid").settings
}
