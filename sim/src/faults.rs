//! What goes wrong, and when.

use std::sync::{Arc, Mutex, PoisonError};

use crate::bus::{BusWeather, Link};
use crate::dice::Dice;
use crate::store::{Away, StoreWeather};
use crate::world::{Order, World};

/// What goes wrong in one chaos.
#[derive(Debug)]
pub(crate) struct Faults {
    world: Arc<World>,
    dice: Mutex<Dice>,
    n_chaos: u64,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Crash,
    Broken,
    Dead,
    AllBroken,
    Deaf,
    Refuses,
    Hangs,
    Slow,
}

/// Crashes and links go wrong more often than what concerns everybody.
const FAULTS: [Fault; 11] = [
    Fault::Crash,
    Fault::Crash,
    Fault::Broken,
    Fault::Broken,
    Fault::Dead,
    Fault::Dead,
    Fault::AllBroken,
    Fault::Deaf,
    Fault::Refuses,
    Fault::Hangs,
    Fault::Slow,
];

impl Faults {
    /// Lets things go wrong from now on.
    pub(crate) fn begin(world: &Arc<World>) {
        let n_chaos = {
            let mut state = world.lock();
            state.is_calm = false;
            state.n_chaos += 1;
            state.n_chaos
        };
        world.trace.note(format_args!("chaos {n_chaos} begins"));
        let dice = Mutex::new(Dice::of(world.plan.seed, "faults", n_chaos));
        let faults = Arc::new(Self { world: Arc::clone(world), dice, n_chaos });
        faults.weather();
        faults.later(500, Self::next);
    }

    /// Ends all that goes wrong.
    pub(crate) fn end(world: &Arc<World>) {
        let mut state = world.lock();
        state.is_calm = true;
        state.n_chaos += 1;
        drop(state);
        world.trace.note(format_args!("calm"));
        world.bus.set_weather(BusWeather::default());
        world.store.set_weather(StoreWeather::FINE);
        let up = world.nodes_up();
        for node in 0..world.plan.nodes {
            world.bus.set_link(node, Link::Whole);
            if !up.contains(&node) {
                world.lock().orders.push(Order::Boot(node));
            }
        }
    }

    /// What goes wrong all the time.
    fn weather(&self) {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let bus = BusWeather {
            loss: [0.0, 0.02, 0.3][dice.below(3)],
            repetition: 0.05,
            reordering: [0.0, 0.1][dice.below(2)],
            held_back_ms: dice.between(1..=500),
        };
        let store = StoreWeather {
            latency_ms: dice.between(1..=30),
            fails_before: 0.01,
            fails_after: 0.01,
            replica: [0.0, 0.5][dice.below(2)],
            lag_ms: dice.between(0..=500),
            incomplete: 0.02,
            away: Away::No,
        };
        drop(dice);
        self.world.trace.note(format_args!("fault {bus:?} {store:?}"));
        self.world.bus.set_weather(bus);
        self.world.store.set_weather(store);
    }

    fn next(self: &Arc<Self>) {
        let (fault, node, lasts_ms, next_ms) = {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            let fault = FAULTS[dice.below(FAULTS.len())];
            let node = dice.below(self.world.plan.nodes);
            let longest = if dice.chance(0.1) { 12_000 } else { 3000 };
            (fault, node, dice.between(50..=longest), dice.between(100..=3000))
        };
        self.world.trace.note(format_args!("fault {fault:?} node-{node} for {lasts_ms} ms"));
        let world = &self.world;
        match fault {
            Fault::Crash => {
                world.lock().orders.push(Order::Crash(node));
                self.later(lasts_ms, move |faults| faults.world.lock().orders.push(Order::Boot(node)));
            }
            Fault::Broken | Fault::Dead => {
                let link = if fault == Fault::Dead { Link::Dead } else { Link::Broken };
                world.bus.set_link(node, link);
                self.later(lasts_ms, move |faults| faults.world.bus.set_link(node, Link::Whole));
            }
            Fault::AllBroken => {
                (0..world.plan.nodes).for_each(|node| world.bus.set_link(node, Link::Broken));
                self.later(lasts_ms, |faults| {
                    let bus = &faults.world.bus;
                    (0..faults.world.plan.nodes).for_each(|node| bus.set_link(node, Link::Whole));
                });
            }
            Fault::Deaf => {
                world.bus.set_weather(BusWeather { loss: 1.0, ..BusWeather::default() });
                self.later(lasts_ms, |faults| faults.weather());
            }
            Fault::Refuses | Fault::Hangs | Fault::Slow => {
                let weather = world.store.weather();
                let (away, latency_ms) = match fault {
                    Fault::Refuses => (Away::Refuses, weather.latency_ms),
                    Fault::Hangs => (Away::Hangs, weather.latency_ms),
                    _ => (Away::No, lasts_ms.min(2000)),
                };
                world.store.set_weather(StoreWeather { away, latency_ms, ..weather });
                self.later(lasts_ms, |faults| faults.weather());
            }
        }
        self.later(next_ms, Self::next);
    }

    /// Does something after a while, unless this chaos is over.
    fn later(self: &Arc<Self>, after_ms: u64, then: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let faults = Arc::clone(self);
        self.world.agenda.at(self.world.trace.now() + after_ms, move || {
            let over = faults.world.lock().n_chaos != faults.n_chaos;
            if !over {
                then(&faults);
            }
        });
    }
}
