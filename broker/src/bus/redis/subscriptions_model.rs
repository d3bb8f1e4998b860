//! [`Subscriptions`] against a model of the owner, of the server and of what lies between them, in random interleavings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::super::Channel;
use super::subscriptions::{Batch, Subscriptions, WaiterId};

const CHANNELS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Want(BTreeSet<usize>),
    Unwant(BTreeSet<usize>),
    /// The waiter that is this far from the oldest gives up.
    GiveUp(usize),
    /// The link asks for commands of at most this many channels, if none is on its way.
    Send(usize),
    /// The server works on the oldest command's next channel.
    Serve,
    /// The link hears the server's oldest answer.
    Hear,
    /// The server stops sending a channel by itself, as when its slot moved.
    Withdraw(usize),
    /// The server refuses what it did not work on yet, since it does not have those channels any more.
    Refuse,
    Disconnect,
    /// The link tells the owner where something recovered.
    Tell,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::btree_set(0..CHANNELS, 1..=CHANNELS);
    let step = prop_oneof![
        3 => some().prop_map(Step::Want),
        3 => some().prop_map(Step::Unwant),
        1 => (0..3usize).prop_map(Step::GiveUp),
        5 => (1..=CHANNELS).prop_map(Step::Send),
        6 => Just(Step::Serve),
        6 => Just(Step::Hear),
        1 => (0..CHANNELS).prop_map(Step::Withdraw),
        1 => Just(Step::Refuse),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Tell),
    ];
    prop::collection::vec(step, 0..80)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verb {
    Subscribe,
    Unsubscribe,
    /// Only as an answer, to nothing.
    Withdraw,
}

#[derive(Debug)]
struct Waiting {
    id: WaiterId,
    /// Those of its channels that were wanted without a break since.
    channels: BTreeSet<usize>,
    /// Those that the link knew or heard to be subscribed. If they are lost before the others come, the owner hears of that.
    heard: BTreeSet<usize>,
}

struct Model {
    names: Vec<Channel>,
    subject: Subscriptions<u32>,
    wanted: BTreeSet<usize>,
    /// Calls that wait, by what they are told with.
    waiting: BTreeMap<u32, Waiting>,
    next_call: u32,
    /// What the server sends.
    sent: BTreeSet<usize>,
    /// What the link heard that the server sends.
    heard: BTreeSet<usize>,
    /// What the link asked for last.
    batch: Batch,
    commands: VecDeque<(Verb, usize)>,
    answers: VecDeque<(Verb, usize)>,
    /// Channels that the owner was told are subscribed, or of which it was told that it would hear.
    promised: BTreeSet<usize>,
    /// Channels of which a promised frame may be missing, and the owner was not told since.
    owed: BTreeSet<usize>,
}

impl Model {
    fn new() -> Self {
        let names = (0..CHANNELS).map(|n| Channel::from(format!("c{n}"))).collect();
        Self {
            names,
            subject: Subscriptions::new(),
            wanted: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_call: 0,
            sent: BTreeSet::new(),
            heard: BTreeSet::new(),
            batch: Batch::default(),
            commands: VecDeque::new(),
            answers: VecDeque::new(),
            promised: BTreeSet::new(),
            owed: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Want(channels) => self.want(&channels),
            Step::Unwant(channels) => self.unwant(&channels),
            Step::GiveUp(place) => self.give_up(place),
            Step::Send(max) => self.send(max),
            Step::Serve => self.serve(),
            Step::Hear => self.hear(),
            Step::Withdraw(channel) => self.withdraw(channel),
            Step::Refuse => self.refuse(),
            Step::Disconnect => self.disconnect(),
            Step::Tell => self.tell(),
        }
        self.check_ready();
        let late = self.subject.late();
        assert!(late <= self.wanted.len(), "only what is wanted is late");
    }

    fn want(&mut self, channels: &BTreeSet<usize>) {
        let call = self.next_call;
        self.next_call += 1;
        self.wanted.extend(channels);
        let names = channels.iter().map(|n| self.names[*n].clone()).collect();
        let id = self.subject.want(names, call);
        let is_leaving = |n: &usize| {
            self.commands.contains(&(Verb::Unsubscribe, *n))
                || self.answers.contains(&(Verb::Unsubscribe, *n))
        };
        let heard = channels.intersection(&self.heard).copied().filter(|n| !is_leaving(n)).collect();
        self.waiting.insert(call, Waiting { id, channels: channels.clone(), heard });
    }

    fn unwant(&mut self, channels: &BTreeSet<usize>) {
        let names: Vec<_> = channels.iter().map(|n| self.names[*n].clone()).collect();
        self.subject.unwant(&names);
        for channel in channels {
            self.wanted.remove(channel);
            self.promised.remove(channel);
            self.owed.remove(channel);
            for waiting in self.waiting.values_mut() {
                waiting.channels.remove(channel);
            }
        }
    }

    fn give_up(&mut self, place: usize) {
        let Some(call) = self.waiting.keys().nth(place).copied() else { return };
        let Waiting { id, channels, .. } = self.waiting.remove(&call).unwrap();
        self.subject.forget(id);
        // Those that the server sends already were promised by their confirmation, heard or on its way.
        for channel in channels {
            self.promised.insert(channel);
            if !self.sent.contains(&channel) {
                self.owed.insert(channel);
            }
        }
    }

    fn send(&mut self, max: usize) {
        if !self.commands.is_empty() {
            return;
        }
        let batch = self.subject.next_batch(max);
        assert!(batch.subscribe.len() + batch.unsubscribe.len() <= max);
        let number = |name: &Channel| self.names.iter().position(|one| one == name).unwrap();
        let subscribe = batch.subscribe.iter().map(|name| (Verb::Subscribe, number(name)));
        self.commands.extend(subscribe.collect::<Vec<_>>());
        let unsubscribe = batch.unsubscribe.iter().map(|name| (Verb::Unsubscribe, number(name)));
        self.commands.extend(unsubscribe.collect::<Vec<_>>());
        let channels: BTreeSet<_> = self.commands.iter().map(|(_, channel)| channel).collect();
        assert_eq!(channels.len(), self.commands.len(), "one command for a channel at a time");
        self.batch = batch;
    }

    fn serve(&mut self) {
        let Some((verb, channel)) = self.commands.pop_front() else { return };
        match verb {
            Verb::Subscribe => self.sent.insert(channel),
            Verb::Unsubscribe => {
                if self.promised.contains(&channel) {
                    self.owed.insert(channel);
                }
                self.sent.remove(&channel)
            }
            Verb::Withdraw => unreachable!("nobody asks for it"),
        };
        self.answers.push_back((verb, channel));
    }

    fn hear(&mut self) {
        match self.answers.pop_front() {
            Some((Verb::Subscribe, channel)) => {
                self.heard.insert(channel);
                self.waiting.values_mut().for_each(|waiting| {
                    waiting.heard.insert(channel);
                });
                self.subject.subscribed(&self.names[channel]);
            }
            Some((Verb::Unsubscribe | Verb::Withdraw, channel)) => {
                self.heard.remove(&channel);
                self.subject.unsubscribed(&self.names[channel]);
            }
            None => {}
        }
    }

    fn withdraw(&mut self, channel: usize) {
        if self.sent.remove(&channel) {
            self.answers.push_back((Verb::Withdraw, channel));
            if self.promised.contains(&channel) {
                self.owed.insert(channel);
            }
        }
    }

    fn refuse(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        // Where it has a channel no more, it also said so unasked.
        for (verb, channel) in std::mem::take(&mut self.commands) {
            if verb == Verb::Unsubscribe {
                self.withdraw(channel);
            }
        }
        self.subject.refused(&self.batch);
    }

    fn disconnect(&mut self) {
        self.subject.lost();
        self.sent.clear();
        self.heard.clear();
        self.commands.clear();
        self.answers.clear();
        self.owed.extend(&self.promised);
    }

    fn tell(&mut self) {
        if self.subject.take_recovered() {
            let sent = &self.sent;
            self.owed.retain(|channel| !sent.contains(channel));
        }
    }

    /// Whoever is told that everything is subscribed is told the truth, or what was true and of whose end the owner hears.
    fn check_ready(&mut self) {
        for call in self.subject.take_ready() {
            let waiting = self.waiting.remove(&call).expect("told once, and not after giving up");
            for channel in waiting.channels {
                let is_sent = self.sent.contains(&channel);
                // An answer to a command that was refused in part may cross with the next command. What it takes away is late then, so
                // that the owner hears of it.
                let is_told = waiting.heard.contains(&channel) || self.subject.late() > 0;
                assert!(is_sent || is_told, "{channel} was never subscribed");
                self.promised.insert(channel);
                if !is_sent {
                    self.owed.insert(channel);
                }
            }
        }
    }

    /// Without further changes everything comes to rest within a bounded number of commands, and then is as wanted.
    fn come_to_rest(&mut self) {
        let mut n_commands = 0;
        for _ in 0..4 {
            while !self.commands.is_empty() || !self.answers.is_empty() {
                self.step(Step::Serve);
                self.step(Step::Hear);
            }
            self.step(Step::Send(CHANNELS));
            n_commands += self.commands.len();
        }
        assert!(self.commands.is_empty(), "still asks for something: {:?}", self.commands);
        assert!(n_commands <= 3 * CHANNELS, "{n_commands} commands to come to rest");
        self.tell();
        assert!(!self.subject.has_due());
        assert_eq!(self.sent, self.wanted, "what the server sends is what is wanted");
        assert!(self.waiting.is_empty(), "somebody still waits: {:?}", self.waiting);
        assert_eq!(self.subject.late(), 0);
        assert!(self.owed.is_empty(), "the owner was not told that it may have missed {:?}", self.owed);
        for (channel, name) in self.names.iter().enumerate() {
            assert_eq!(self.subject.wanted(name).is_some(), self.wanted.contains(&channel));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_last_word_of_the_owner_holds_and_it_is_told_of_every_loss(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.come_to_rest();
    }
}

#[test]
fn what_is_given_up_while_the_server_is_away_takes_no_room() {
    let mut subject = Subscriptions::<u32>::new();
    let keep = Channel::from("keep");
    subject.want(vec![keep.clone()], 0);
    for n in 0..1000 {
        let channel = Channel::from(format!("c{n}"));
        let id = subject.want(vec![channel.clone()], n);
        subject.forget(id);
        subject.unwant(&[channel]);
    }
    assert_eq!(subject.next_batch(10).subscribe, [keep]);
    assert!(!subject.has_due());
}

#[test]
fn moved_channels_are_late_where_they_go() {
    let mut from = Subscriptions::<u32>::new();
    let mut to = Subscriptions::<u32>::new();
    let channel = Channel::from("c");
    from.want(vec![channel.clone()], 7);
    let moved = from.take_moved(|_| true);
    assert_eq!((&moved, from.take_ready()), (&vec![channel], vec![7]));
    to.want_moved(&moved[0]);
    assert_eq!(to.late(), 1);
    assert_eq!(to.next_batch(1).subscribe, moved);
    to.subscribed("c");
    assert!(to.take_recovered() && to.late() == 0);
}
