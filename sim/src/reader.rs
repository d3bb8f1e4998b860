//! Clients that subscribe, stall, vanish, resume elsewhere, and change their minds.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::command::{Command, Request, RequestId, Start};
use bongsu_protocol::event::{Event, Reply, Subscribed};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::Error;
use bongsu_protocol::topic::TopicFilter;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::dice::Dice;
use crate::plan::WALL_MS;
use crate::publisher::{TOPICS, topic};
use crate::record::Record;
use crate::wire::{Incoming, Wire};
use crate::world::World;

/// What a client waits for an answer before it gives its connection up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Patterns that a reader may subscribe to.
const PATTERNS: [&str; 7] = ["a/#", "b/+", "+/0", "made/#", "trim/#", "live/#", "#"];

/// A client that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    world: Arc<World>,
    number: usize,
    dice: Dice,
    last_request: u64,
}

/// A reply and its request.
type Answer = (RequestId, Result<Reply, Error>);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The node or its link went away.
    Lost,
    /// The client let go of it.
    Vanished,
    /// The client wants something else now.
    Retired,
}

/// What a client does next, apart from reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Stop reading for so long.
    Stall(Duration),
    Vanish,
    Retire,
}

impl Reader {
    pub(crate) fn new(world: &Arc<World>, number: usize) -> Self {
        let dice = Dice::of(world.plan.seed, "reader", number as u64);
        Self { world: Arc::clone(world), number, dice, last_request: 0 }
    }

    /// Reads for ever: one wish after another, each over as many connections as it takes.
    pub(crate) async fn run(mut self) {
        loop {
            let record = self.wish();
            self.note(format_args!("wants {:?}", record.filters()));
            self.world.lock().records.insert(self.number, record);
            loop {
                let name = self.name();
                let Some(mut wire) = self.world.connect(&name, &mut self.dice) else {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let end = self.converse(&mut wire).await;
                drop(wire);
                self.note(format_args!("{end:?}"));
                self.judge(|record, _| {
                    record.disconnect();
                    Ok(())
                });
                match end {
                    End::Retired => break,
                    End::Lost => sleep(Duration::from_millis(self.dice.between(1..=100))).await,
                    End::Vanished => {
                        let away = Duration::from_millis(self.dice.between(0..=5000));
                        self.pause(away).await;
                    }
                }
            }
        }
    }

    /// Something to read.
    fn wish(&mut self) -> Record {
        let now = Time(WALL_MS + self.world.trace.now());
        let ago = self.dice.between(0..=40_000);
        let any =
            [Start::Latest, Start::Latest, Start::Earliest, Start::Time(Time(now.0.saturating_sub(ago)))];
        let from = any[self.dice.below(any.len())];
        if self.dice.chance(0.5) {
            let pattern = PATTERNS[self.dice.below(PATTERNS.len())];
            let filter = TopicFilter::parse(pattern).expect("the patterns are well-formed");
            return Record::new(vec![filter], from);
        }
        let mut topics = TOPICS;
        self.dice.shuffle(&mut topics);
        let n_topics = self.dice.below(3) + 1;
        let topics: Vec<_> = topics.iter().take(n_topics).map(|name| topic(name)).collect();
        let from = match self.dice.below(6) {
            0 => Start::Last(self.dice.between(1..=20)),
            1 if n_topics == 1 => {
                let head = self.world.store.with_ledger(|ledger| ledger.head(&topics[0]));
                Start::After(Position::new(head.epoch.0, self.dice.between(0..=head.offset.0)))
            }
            _ => from,
        };
        let filters = topics.iter().map(|topic| TopicFilter::parse(topic.as_str()));
        Record::new(filters.map(|filter| filter.expect("a topic is a filter")).collect(), from)
    }

    async fn converse(&mut self, wire: &mut Wire) -> End {
        self.last_request = 0;
        if let Err(end) = self.subscribe(wire).await {
            return end;
        }
        loop {
            let act_at = Instant::now() + Duration::from_millis(self.dice.between(200..=6000));
            let act = self.next_act();
            loop {
                let incoming = tokio::select! {
                    biased;
                    () = sleep_until(act_at) => break,
                    incoming = wire.next() => incoming,
                };
                if let Err(end) = self.take(incoming).map(drop) {
                    return end;
                }
            }
            if self.world.is_calm() {
                continue;
            }
            match act {
                Some(Act::Stall(duration)) => {
                    self.note(format_args!("stalls for {} ms", duration.as_millis()));
                    self.pause(duration).await;
                }
                Some(Act::Vanish) => return End::Vanished,
                Some(Act::Retire) => return self.retire(wire).await,
                None => {}
            }
        }
    }

    fn next_act(&mut self) -> Option<Act> {
        match self.dice.below(10) {
            0..3 => Some(Act::Stall(Duration::from_millis(self.dice.between(100..=12_000)))),
            3..5 => Some(Act::Vanish),
            5..7 => Some(Act::Retire),
            _ => None,
        }
    }

    /// Subscribes to what is wished.
    async fn subscribe(&mut self, wire: &mut Wire) -> Result<(), End> {
        let mut wanted = Vec::new();
        self.judge(|record, _| {
            wanted = record.ask();
            Ok(())
        });
        let replies = match self.ask(wire, Command::Subscribe(wanted)).await? {
            Ok(Reply::Subscribed(replies)) => replies,
            other => return self.broken(&format!("a subscribe was answered with {other:?}")),
        };
        let replies: Result<Vec<Subscribed>, Error> = replies.into_iter().collect();
        match replies {
            Ok(replies) => {
                self.note(format_args!("subscribed from {:?}", positions(&replies)));
                self.judge(|record, world| {
                    let now = world.trace.now();
                    world.store.with_ledger(|ledger| record.subscribed(&replies, ledger, now))
                });
                Ok(())
            }
            Err(error) if error.code.is_retryable() => {
                self.note(format_args!("subscribe: {error}"));
                // Of several subscriptions some may have been made: over another connection none is.
                Err(End::Lost)
            }
            Err(error) => self.broken(&format!("a subscribe failed with {error}")),
        }
    }

    /// Ends the subscriptions in order, and the connection most of the time.
    async fn retire(&mut self, wire: &mut Wire) -> End {
        let mut filters = Vec::new();
        self.judge(|record, _| {
            filters = record.filters().to_vec();
            Ok(())
        });
        match self.ask(wire, Command::Unsubscribe(filters)).await {
            Ok(_) => {}
            Err(end) => return end,
        }
        wire.close().await;
        End::Retired
    }

    /// Sends a request and reads until it is answered.
    async fn ask(&mut self, wire: &mut Wire, command: Command) -> Result<Result<Reply, Error>, End> {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let sent = timeout(PATIENCE, wire.send(&[Request { id, command }])).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(End::Lost);
        }
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let incoming = tokio::select! {
                biased;
                () = sleep_until(give_up_at) => return Err(End::Vanished),
                incoming = wire.next() => incoming,
            };
            let replies = self.take(incoming)?;
            if let Some((_, result)) = replies.into_iter().find(|(answered, _)| *answered == id) {
                return Ok(result);
            }
        }
    }

    /// Enters what came into the record; gives the replies that were among it.
    fn take(&mut self, incoming: Incoming) -> Result<Vec<Answer>, End> {
        let events = match incoming {
            Incoming::Events(events) => events,
            Incoming::Gone => return Err(End::Lost),
            Incoming::Broken(text) => return self.broken(&text),
        };
        let mut replies = Vec::new();
        for event in events {
            match event {
                Event::Delivery(delivery) => {
                    self.note(format_args!(
                        "gets {} {:?} {}",
                        delivery.topic,
                        delivery.position.map(|position| position.offset.0),
                        delivery.message.id
                    ));
                    self.judge(|record, world| {
                        world.store.with_ledger(|ledger| record.deliver(&delivery, ledger))
                    });
                    self.world.lock().n_delivered += 1;
                }
                Event::Lost(lost) => {
                    self.note(format_args!("loses {} {:?}", lost.topic, lost.range));
                    self.judge(|record, world| world.store.with_ledger(|ledger| record.lose(&lost, ledger)));
                }
                Event::Reset { topic, epoch } => {
                    let what = format!("{topic} was reset to {epoch:?}, but nobody made it anew");
                    self.judge(|_, _| Err(what));
                }
                Event::Unsubscribed { filter, error } => {
                    let what = format!("{filter} was ended: {error}");
                    self.judge(|_, _| Err(what));
                }
                Event::Reply { id, result } => replies.push((id, result)),
                Event::Goodbye(goodbye) => self.note(format_args!("is told {}", goodbye.reason)),
                Event::Welcome(_) | Event::Heartbeat | Event::TokenExpiring(_) => {}
            }
        }
        Ok(replies)
    }

    fn broken<T>(&self, text: &str) -> Result<T, End> {
        let text = text.to_owned();
        self.judge(|_, _| Err(text));
        Err(End::Lost)
    }

    /// Does nothing for a while, or until all is calm.
    async fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while Instant::now() < until && !self.world.is_calm() {
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn judge(&self, judge: impl FnOnce(&mut Record, &World) -> Result<(), String>) {
        self.world.judge(self.number, judge);
    }

    fn name(&self) -> String {
        format!("reader-{}", self.number)
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace.note(format_args!("reader-{} {what}", self.number));
    }
}

/// Where reading began, for the trace.
fn positions(replies: &[Subscribed]) -> Vec<(&str, u64)> {
    let named = |reply: &Subscribed| reply.positions.len();
    let mut positions = Vec::with_capacity(replies.iter().map(named).sum());
    for reply in replies {
        positions.extend(reply.positions.iter().map(|(topic, position)| (topic.as_str(), position.offset.0)));
    }
    positions
}
