//! Which channels one server should send and which it does: what to ask it for next.
//!
//! Pure: what the owner wants and what the server confirmed go in, commands come out.

use std::collections::{BTreeMap, HashMap};

use super::super::Channel;

/// The channels of one server.
///
/// For each channel at most one command is on its way, so whatever the server confirms answers that one. What the owner
/// changed meanwhile is asked for after the answer. That makes the last word of the owner hold, in any interleaving:
///
/// ```text
///             wanted                       confirmed
///   Absent ------------> Subscribing ------------------> Subscribed
///      ^                                                     |
///      |  confirmed                            not wanted    |
///      +--------------- Unsubscribing <----------------------+
///
///   lost connection: from anywhere to Absent
/// ```
///
/// A channel is *late* if frames of it may have been missed since it was wanted. Once it is subscribed, the owner must be told.
///
/// `W` is what a waiter is told with.
#[derive(Debug)]
pub(super) struct Subscriptions<W> {
    /// Those that are wanted or not absent.
    channels: HashMap<Channel, Entry>,
    due: Due,
    waiters: HashMap<WaiterId, Waiter<W>>,
    next_waiter: u64,
    /// Waiters that have everything, until somebody takes them.
    ready: Vec<W>,
    /// How many channels are late.
    late: usize,
    /// A late channel was subscribed since somebody asked.
    has_recovered: bool,
}

/// One call that waits for its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WaiterId(u64);

/// What to ask the server for. The order does not matter: no channel is in both.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) subscribe: Vec<Channel>,
    pub(super) unsubscribe: Vec<Channel>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

#[derive(Debug)]
struct Waiter<W> {
    /// Every channel of the call.
    channels: Vec<Channel>,
    /// How many of them are still to come.
    missing: usize,
    tell: W,
}

#[derive(Debug)]
struct Entry {
    is_wanted: bool,
    server: Server,
    is_late: bool,
    /// Its place among those that are due, if it is.
    due: Option<u64>,
    /// Who waits for it to be subscribed.
    waiters: Vec<WaiterId>,
}

/// Channels that may need a command, in the order in which they came to. Each stands here once, and goes when it is given up:
/// nobody takes from here while the server is away.
#[derive(Debug, Default)]
struct Due {
    places: BTreeMap<u64, Channel>,
    next: u64,
}

impl Due {
    fn add(&mut self, entry: &mut Entry, channel: &Channel) {
        if entry.due.is_none() {
            entry.due = Some(self.next);
            self.places.insert(self.next, channel.clone());
            self.next += 1;
        }
    }

    fn remove(&mut self, entry: &mut Entry) {
        if let Some(place) = entry.due.take() {
            self.places.remove(&place);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Absent,
    Subscribing,
    Subscribed,
    Unsubscribing,
}

impl<W> Subscriptions<W> {
    pub(super) fn new() -> Self {
        Self {
            channels: HashMap::new(),
            due: Due::default(),
            waiters: HashMap::new(),
            next_waiter: 0,
            ready: Vec::new(),
            late: 0,
            has_recovered: false,
        }
    }

    /// Wants channels, and to be told once all of them are subscribed.
    pub(super) fn want(&mut self, mut channels: Vec<Channel>, tell: W) -> WaiterId {
        channels.sort_unstable();
        channels.dedup();
        let id = WaiterId(self.next_waiter);
        self.next_waiter += 1;
        let mut missing = 0;
        for channel in &channels {
            let entry = self.channels.entry(channel.clone()).or_insert_with(Entry::absent);
            entry.is_wanted = true;
            if entry.server != Server::Subscribed {
                entry.waiters.push(id);
                missing += 1;
                self.due.add(entry, channel);
            }
        }
        if missing == 0 {
            self.ready.push(tell);
        } else {
            self.waiters.insert(id, Waiter { channels, missing, tell });
        }
        id
    }

    /// Wants a channel that another server had until now. It is late.
    pub(super) fn want_moved(&mut self, channel: &Channel) {
        let entry = self.channels.entry(channel.clone()).or_insert_with(Entry::absent);
        entry.is_wanted = true;
        if entry.server != Server::Subscribed {
            entry.make_late(&mut self.late);
            self.due.add(entry, channel);
        }
    }

    /// Gives up waiting. What did not come yet is late: it stays wanted, and who gave up must be told when it comes.
    pub(super) fn forget(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiters.remove(&id) else { return };
        for channel in waiter.channels {
            let Some(entry) = self.channels.get_mut(&channel) else { continue };
            let before = entry.waiters.len();
            entry.waiters.retain(|waiting| *waiting != id);
            if entry.waiters.len() < before {
                entry.make_late(&mut self.late);
            }
        }
    }

    /// No longer wants channels. Who waits for one of them waits for it no longer.
    pub(super) fn unwant(&mut self, channels: &[Channel]) {
        for channel in channels {
            let Some(entry) = self.channels.get_mut(channel) else { continue };
            entry.is_wanted = false;
            entry.make_punctual(&mut self.late);
            let waiters = std::mem::take(&mut entry.waiters);
            match entry.server {
                Server::Absent => {
                    self.due.remove(entry);
                    self.channels.remove(channel);
                }
                Server::Subscribed => self.due.add(entry, channel),
                Server::Subscribing | Server::Unsubscribing => {}
            }
            self.came(waiters);
        }
    }

    /// The next commands, of at most `max` channels. The server answers each channel with [`Self::subscribed`] or
    /// [`Self::unsubscribed`].
    pub(super) fn next_batch(&mut self, max: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.subscribe.len() + batch.unsubscribe.len() < max {
            let Some((_, channel)) = self.due.places.pop_first() else { break };
            let entry = self.channels.get_mut(&channel).expect("a channel that goes leaves its place");
            entry.due = None;
            match (entry.is_wanted, entry.server) {
                (true, Server::Absent) => {
                    entry.server = Server::Subscribing;
                    batch.subscribe.push(channel);
                }
                (false, Server::Subscribed) => {
                    entry.server = Server::Unsubscribing;
                    batch.unsubscribe.push(channel);
                }
                _ => {}
            }
        }
        batch
    }

    /// The server confirmed a subscription. It answers in order, so it sends the channel from then on, also where nobody waits for this
    /// answer any more.
    pub(super) fn subscribed(&mut self, channel: &str) {
        if !self.channels.contains_key(channel) {
            self.channels.insert(channel.into(), Entry::absent());
        }
        let entry = self.channels.get_mut(channel).expect("it is there or was put there");
        if !matches!(entry.server, Server::Subscribing | Server::Absent) {
            return;
        }
        entry.server = Server::Subscribed;
        if entry.is_late {
            entry.make_punctual(&mut self.late);
            self.has_recovered = true;
        }
        let waiters = std::mem::take(&mut entry.waiters);
        self.came(waiters);
        self.look_again(channel);
    }

    /// The server says that it no longer sends a channel; whether nobody asked it to, so that the owner must be told.
    pub(super) fn unsubscribed(&mut self, channel: &str) -> bool {
        let Some(entry) = self.channels.get_mut(channel) else { return false };
        let is_lost = match entry.server {
            Server::Unsubscribing => false,
            Server::Subscribed => true,
            // The server answers in order, so this is an answer from before the subscription that is on its way: a server
            // that gave a slot away says so unasked and again where it is asked.
            Server::Absent | Server::Subscribing => return false,
        };
        entry.server = Server::Absent;
        let is_lost = is_lost && entry.is_wanted;
        if is_lost {
            entry.make_late(&mut self.late);
        }
        if !entry.is_wanted {
            self.due.remove(entry);
            self.channels.remove(channel);
        }
        self.look_again(channel);
        is_lost
    }

    /// The server refused a batch because it does not have some of the channels any more. What it did not confirm is asked for again, here
    /// or where it goes.
    pub(super) fn refused(&mut self, batch: &Batch) {
        for channel in &batch.unsubscribe {
            self.unsubscribed(channel);
        }
        for channel in &batch.subscribe {
            let Some(entry) = self.channels.get_mut(channel) else { continue };
            if entry.server != Server::Subscribing {
                continue;
            }
            entry.server = Server::Absent;
            if entry.is_wanted {
                entry.make_late(&mut self.late);
                self.due.add(entry, channel);
            } else {
                self.due.remove(entry);
                self.channels.remove(channel);
            }
        }
    }

    /// The connection is lost, and with it all that the server knew. What is wanted is late.
    pub(super) fn lost(&mut self) {
        self.channels.retain(|_, entry| entry.is_wanted);
        self.due.places.clear();
        for (channel, entry) in &mut self.channels {
            // A channel that never was subscribed, and whose waiter still waits, has missed nothing that anybody promised.
            if entry.waiters.is_empty() {
                entry.make_late(&mut self.late);
            }
            entry.server = Server::Absent;
            entry.due = None;
            self.due.add(entry, channel);
        }
    }

    /// Takes away channels that another server has from now on, with those that wait for them. They wait no longer:
    /// what moves is late there, and the owner is told of that.
    pub(super) fn take_moved(&mut self, is_moved: impl Fn(&Channel) -> bool) -> Vec<Channel> {
        let wanted = self.channels.iter().filter(|(_, entry)| entry.is_wanted);
        let moved: Vec<_> =
            wanted.map(|(channel, _)| channel).filter(|channel| is_moved(channel)).cloned().collect();
        self.unwant(&moved);
        moved
    }

    /// The channel as its owner named it, if it is wanted.
    pub(super) fn wanted(&self, channel: &str) -> Option<&Channel> {
        let (name, entry) = self.channels.get_key_value(channel)?;
        entry.is_wanted.then_some(name)
    }

    /// How many channels are wanted and late.
    pub(super) fn late(&self) -> usize {
        self.late
    }

    /// Whether a late channel was subscribed since this was asked last.
    pub(super) fn take_recovered(&mut self) -> bool {
        std::mem::take(&mut self.has_recovered)
    }

    /// Who has everything that was waited for.
    pub(super) fn take_ready(&mut self) -> Vec<W> {
        std::mem::take(&mut self.ready)
    }

    /// Whether there may be commands.
    pub(super) fn has_due(&self) -> bool {
        !self.due.places.is_empty()
    }

    /// Waiters got one of their channels each.
    fn came(&mut self, waiters: Vec<WaiterId>) {
        for id in waiters {
            let Some(waiter) = self.waiters.get_mut(&id) else { continue };
            waiter.missing -= 1;
            if waiter.missing == 0
                && let Some(waiter) = self.waiters.remove(&id)
            {
                self.ready.push(waiter.tell);
            }
        }
    }

    /// The server's answer may not be what is wanted any more.
    fn look_again(&mut self, channel: &str) {
        let Some((name, _)) = self.channels.get_key_value(channel) else { return };
        let name = name.clone();
        if let Some(entry) = self.channels.get_mut(channel)
            && entry.is_wanted != (entry.server == Server::Subscribed)
        {
            self.due.add(entry, &name);
        }
    }
}

impl Entry {
    fn absent() -> Self {
        Self { is_wanted: false, server: Server::Absent, is_late: false, due: None, waiters: Vec::new() }
    }

    fn make_late(&mut self, late: &mut usize) {
        *late += usize::from(!std::mem::replace(&mut self.is_late, true));
    }

    fn make_punctual(&mut self, late: &mut usize) {
        *late -= usize::from(std::mem::replace(&mut self.is_late, false));
    }
}
