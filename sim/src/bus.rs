//! A bus that loses, doubles, delays and reorders frames, and whose links break, as a seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu::bus::{Bounds, Bus, Channel, Error, Frame, Health, Inbox, Intake};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::agenda::Agenda;
use crate::dice::Dice;
use crate::trace::{Trace, digest_of};

/// Frames that wait in a node's inbox. Few, so that it overflows now and then.
const INBOX: Bounds = Bounds { frames: 64, bytes: 64 << 10 };

/// How long a call takes to fail on a broken link.
const DEADLINE_MS: u64 = 1000;

/// How frames fare. All chances are per frame and receiver.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BusWeather {
    /// Lost, without anybody being told.
    pub(crate) loss: f64,
    /// Delivered twice.
    pub(crate) repetition: f64,
    /// Held back, so that later ones overtake it.
    pub(crate) reordering: f64,
    /// What a held-back frame takes longer.
    pub(crate) held_back_ms: u64,
}

/// A node's link to the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Whole,
    /// Broken, as the node knows.
    Broken,
    /// Broken, as nobody knows: what is sent vanishes.
    Dead,
}

/// What all nodes share.
#[derive(Debug)]
pub(crate) struct SimBus {
    agenda: Arc<Agenda>,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    weather: BusWeather,
    members: BTreeMap<usize, Member>,
    n_frames: u64,
}

#[derive(Debug)]
struct Member {
    /// Which process of this node: what is under way to an earlier one arrives nowhere.
    incarnation: u64,
    link: Link,
    intake: Intake,
    wanted: BTreeSet<Channel>,
    subscribed: BTreeSet<Channel>,
    /// Frames keep their order on a link, unless one is held back.
    next_at_ms: u64,
}

/// One node's end of the bus.
#[derive(Debug)]
pub(crate) struct NodeBus {
    bus: Arc<SimBus>,
    node: usize,
    incarnation: u64,
}

impl SimBus {
    pub(crate) fn new(seed: u64, agenda: &Arc<Agenda>, trace: &Arc<Trace>) -> Arc<Self> {
        let state = State {
            dice: Dice::of(seed, "bus", 0),
            weather: BusWeather::default(),
            members: BTreeMap::new(),
            n_frames: 0,
        };
        Arc::new(Self { agenda: Arc::clone(agenda), trace: Arc::clone(trace), state: Mutex::new(state) })
    }

    /// The end of a process that begins.
    pub(crate) fn join(self: &Arc<Self>, node: usize, incarnation: u64) -> (NodeBus, Inbox) {
        let (intake, inbox) = Inbox::new(INBOX);
        let member = Member {
            incarnation,
            link: Link::Whole,
            intake,
            wanted: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            next_at_ms: 0,
        };
        self.lock().members.insert(node, member);
        (NodeBus { bus: Arc::clone(self), node, incarnation }, inbox)
    }

    /// Forgets a process that ended.
    pub(crate) fn leave(&self, node: usize) {
        self.lock().members.remove(&node);
    }

    pub(crate) fn set_weather(&self, weather: BusWeather) {
        self.lock().weather = weather;
    }

    /// Frames that were published so far.
    pub(crate) fn n_frames(&self) -> u64 {
        self.lock().n_frames
    }

    /// Breaks or mends a link. One that is mended is subscribed to all that is wanted, and tells of an interruption.
    pub(crate) fn set_link(&self, node: usize, link: Link) {
        let mut state = self.lock();
        let Some(member) = state.members.get_mut(&node) else { return };
        if member.link == link {
            return;
        }
        self.trace.note(format_args!("bus   node-{node} link {link:?}"));
        member.link = link;
        match link {
            Link::Whole => {
                member.subscribed.clone_from(&member.wanted);
                member.intake.set_health(Health::Live);
                member.intake.interrupt();
            }
            Link::Broken => {
                let reason = "the link is broken".to_owned();
                member.intake.set_health(Health::Degraded { reason });
                member.intake.interrupt();
            }
            Link::Dead => {}
        }
    }

    /// Puts a frame under way to everybody who is subscribed.
    fn send(self: &Arc<Self>, from: usize, frame: &Frame) {
        let now = self.trace.now();
        let mut state = self.lock();
        let State { dice, weather, members, n_frames } = &mut *state;
        *n_frames += 1;
        let number = *n_frames;
        let (length, digest) = (frame.payload.len(), digest_of(&frame.payload));
        self.trace.note(format_args!(
            "bus   node-{from} frame {number} on {}: {length} bytes {digest:016x}",
            frame.channel
        ));
        for (&node, member) in members {
            if member.link != Link::Whole || !member.subscribed.contains(&frame.channel) {
                continue;
            }
            if dice.chance(weather.loss) {
                self.trace.note(format_args!("bus   frame {number} is lost on its way to node-{node}"));
                continue;
            }
            let n_times = if dice.chance(weather.repetition) { 2 } else { 1 };
            for _ in 0..n_times {
                member.next_at_ms = member.next_at_ms.max(now + dice.between(1..=3));
                let mut at = member.next_at_ms;
                if dice.chance(weather.reordering) {
                    at += dice.between(1..=weather.held_back_ms.max(1));
                }
                let (bus, frame, incarnation) = (Arc::clone(self), frame.clone(), member.incarnation);
                self.agenda.at(at, move || bus.arrive(node, incarnation, number, frame));
            }
        }
    }

    fn arrive(&self, node: usize, incarnation: u64, number: u64, frame: Frame) {
        let mut state = self.lock();
        let Some(member) = state.members.get_mut(&node) else { return };
        let subscribed = member.subscribed.contains(&frame.channel);
        if member.incarnation != incarnation || member.link != Link::Whole || !subscribed {
            return;
        }
        self.trace.note(format_args!("bus   frame {number} reaches node-{node}"));
        member.intake.offer(frame);
    }

    /// Lets a call be answered at some time, if the process still lives then.
    fn answer(
        self: &Arc<Self>,
        at_ms: u64,
        work: impl FnOnce(&Arc<Self>) -> Result<(), Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let (tell, told) = oneshot::channel();
        let bus = Arc::clone(self);
        self.agenda.at(at_ms, move || {
            let _ = tell.send(work(&bus));
        });
        async move { told.await.unwrap_or_else(|_| Err(Error::Unavailable("the bus is gone".to_owned()))) }
            .boxed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeBus {
    /// The link, if this process is still the node's.
    fn link(&self, state: &State) -> Link {
        let member = state.members.get(&self.node);
        member
            .filter(|member| member.incarnation == self.incarnation)
            .map_or(Link::Broken, |member| member.link)
    }
}

impl Bus for NodeBus {
    fn publish(&self, frames: Vec<Frame>) -> BoxFuture<'_, Result<(), Error>> {
        let now = self.bus.trace.now();
        let link = self.link(&self.bus.lock());
        match link {
            Link::Broken => {
                self.bus.answer(now + 1, |_| Err(Error::Unavailable("the link is broken".to_owned())))
            }
            Link::Dead => self.bus.answer(now + 1, |_| Ok(())),
            Link::Whole => {
                for frame in &frames {
                    self.bus.send(self.node, frame);
                }
                let took = self.bus.lock().dice.between(0..=1);
                self.bus.answer(now + took, |_| Ok(()))
            }
        }
    }

    fn subscribe(&self, channels: Vec<Channel>) -> BoxFuture<'_, Result<(), Error>> {
        let now = self.bus.trace.now();
        let mut state = self.bus.lock();
        let link = self.link(&state);
        self.bus.trace.note(format_args!("bus   node-{} subscribes {channels:?}", self.node));
        let (node, incarnation) = (self.node, self.incarnation);
        if let Some(member) = state.members.get_mut(&node).filter(|member| member.incarnation == incarnation)
        {
            member.wanted.extend(channels.iter().cloned());
        }
        let at = now + state.dice.between(1..=5);
        drop(state);
        if link != Link::Whole {
            let late = || Err(Error::Unavailable("not subscribed within the deadline".to_owned()));
            return self.bus.answer(now + DEADLINE_MS, move |_| late());
        }
        self.bus.answer(at, move |bus| {
            let mut state = bus.lock();
            let member = state.members.get_mut(&node).filter(|member| member.incarnation == incarnation);
            match member {
                Some(member) if member.link == Link::Whole => {
                    let wanted = channels.into_iter().filter(|channel| member.wanted.contains(channel));
                    member.subscribed.extend(wanted);
                    Ok(())
                }
                _ => Err(Error::Unavailable("the link broke".to_owned())),
            }
        })
    }

    fn unsubscribe(&self, channels: Vec<Channel>) {
        self.bus.trace.note(format_args!("bus   node-{} unsubscribes {channels:?}", self.node));
        let mut state = self.bus.lock();
        let (node, incarnation) = (self.node, self.incarnation);
        if let Some(member) = state.members.get_mut(&node).filter(|member| member.incarnation == incarnation)
        {
            for channel in &channels {
                member.wanted.remove(channel);
                member.subscribed.remove(channel);
            }
        }
    }
}
