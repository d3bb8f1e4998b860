//! What one reader was told, compared with the log as it comes.

use std::collections::BTreeMap;

use bongsu_protocol::command::{Start, Subscription};
use bongsu_protocol::event::{Lost, Subscribed};
use bongsu_protocol::message::{Delivery, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};

use crate::ledger::{Ledger, Log};

/// What a reader wants, and what it got since it began to. Outlives its connections.
#[derive(Debug)]
pub(crate) struct Record {
    filters: Vec<TopicFilter>,
    from: Start,
    /// When its subscriptions were first made, and from when on each resumes topics of which it knows nothing.
    made: Option<(u64, Vec<Time>)>,
    tracks: BTreeMap<Topic, Position>,
    /// What this connection got of live topics: the newest number of each publisher's session.
    live: BTreeMap<(Topic, String), u64>,
    /// Where it was when it asked to go on.
    asked: BTreeMap<Topic, Position>,
    /// Whether it has a connection over which its subscriptions were made.
    connected: bool,
}

impl Record {
    pub(crate) fn new(filters: Vec<TopicFilter>, from: Start) -> Self {
        Self {
            filters,
            from,
            made: None,
            tracks: BTreeMap::new(),
            live: BTreeMap::new(),
            asked: BTreeMap::new(),
            connected: false,
        }
    }

    pub(crate) fn filters(&self) -> &[TopicFilter] {
        &self.filters
    }

    /// The connection ended.
    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        self.live.clear();
    }

    /// What to ask a node for: the first time as wished, later from where it got to.
    pub(crate) fn ask(&mut self) -> Vec<Subscription> {
        self.asked.clone_from(&self.tracks);
        let since = self.made.as_ref().map(|(_, since)| since);
        let subscription = |(idx, filter): (usize, &TopicFilter)| {
            let seen = self.tracks.iter().filter(|(topic, _)| filter.matches(topic));
            let from = match since.and_then(|since| since.get(idx)) {
                Some(since) => Start::Time(*since),
                None => self.from,
            };
            let seen = seen.map(|(topic, position)| (topic.clone(), *position)).collect();
            Subscription { filter: filter.clone(), from, seen }
        };
        self.filters.iter().enumerate().map(subscription).collect()
    }

    /// The subscriptions were made.
    pub(crate) fn subscribed(
        &mut self,
        replies: &[Subscribed],
        ledger: &Ledger,
        now_ms: u64,
    ) -> Result<(), String> {
        self.connected = true;
        for reply in replies {
            for (topic, position) in &reply.positions {
                if !reply.filter.matches(topic) {
                    return Err(format!("the reply for {} names {topic}", reply.filter));
                }
                self.begin(topic, *position, ledger)?;
            }
            let durable = reply.filter.as_topic().filter(|topic| !topic.as_str().starts_with("live/"));
            if let Some(topic) =
                durable.filter(|topic| !reply.positions.iter().any(|(named, _)| named == topic))
            {
                return Err(format!("the reply does not say where {topic} begins"));
            }
        }
        if self.made.is_none() {
            self.made = Some((now_ms, replies.iter().map(|reply| reply.since).collect()));
        }
        Ok(())
    }

    /// Reading begins after this position, says the reply.
    fn begin(&mut self, topic: &Topic, position: Position, ledger: &Ledger) -> Result<(), String> {
        if let Some(asked) = self.asked.get(topic) {
            // What came between the question and the reply counts as begun.
            let reached = self.tracks.get(topic).copied().unwrap_or_default();
            let same = *asked == position || (*asked < position && position <= reached);
            let nowhere = asked.offset.0 == 0 && position.offset.0 == 0;
            let goes_on = same || nowhere;
            return goes_on
                .then_some(())
                .ok_or_else(|| format!("{topic} goes on after {position}, not {asked}"));
        }
        if position > ledger.head(topic) {
            return Err(format!("{topic} begins after {position}, but ends at {}", ledger.head(topic)));
        }
        // What was delivered before the reply has its own place already.
        if self.tracks.get(topic).is_some_and(|reached| position <= *reached) {
            return Ok(());
        }
        let is_first = self.made.is_none();
        let first_wanted = ledger.log(topic).filter(|_| is_first).and_then(|log| self.first_wanted(log));
        if let Some(first) = first_wanted.filter(|first| *first <= position.offset.0) {
            return Err(format!("{topic} begins after {position}, but {first} was wanted"));
        }
        match self.tracks.insert(topic.clone(), position) {
            Some(reached) => Err(format!("{topic} begins after {position}, but came to {reached} already")),
            None => Ok(()),
        }
    }

    /// The first message of a log that this reader must get, or be told that it is lost, when it is first subscribed.
    fn first_wanted(&self, log: &Log) -> Option<u64> {
        match self.from {
            // What comes while a subscription is made may be before it.
            Start::Latest | Start::Last(_) => None,
            Start::Earliest => Some(log.first),
            Start::After(position) => Some(position.offset.0 + 1),
            Start::Time(time) => log.find(|entry| entry.time >= time).map(|first| first.max(log.first)),
        }
    }

    /// A message came.
    pub(crate) fn deliver(&mut self, delivery: &Delivery, ledger: &Ledger) -> Result<(), String> {
        let topic = &delivery.topic;
        if !self.filters.iter().any(|filter| filter.matches(topic)) {
            return Err(format!("{topic} was not asked for"));
        }
        let Some(position) = delivery.position else { return self.deliver_live(delivery) };
        if !ledger.holds(delivery) {
            return Err(format!("{topic} {position} is not what the log has there"));
        }
        let missed = match self.tracks.get(topic) {
            Some(last) if last.epoch.0 == 0 => (position.offset.0 > 1).then_some(1),
            Some(last) if position <= *last => {
                return Err(format!("{topic} {position} came again after {last}"));
            }
            Some(last) => (position != last.next()).then_some(last.offset.0 + 1),
            None => {
                let wanted = ledger.log(topic).and_then(|log| match &self.made {
                    Some((made_ms, _)) => log.find(|entry| entry.committed_ms > *made_ms),
                    None => self.first_wanted(log),
                });
                wanted.filter(|first| *first < position.offset.0)
            }
        };
        if let Some(missed) = missed {
            return Err(format!("{topic} {position} came, but {missed} did not"));
        }
        self.tracks.insert(topic.clone(), position);
        Ok(())
    }

    fn deliver_live(&mut self, delivery: &Delivery) -> Result<(), String> {
        let (topic, id) = (&delivery.topic, delivery.message.id.as_str());
        let number = id.rsplit_once('-').and_then(|(session, number)| Some((session, number.parse().ok()?)));
        let Some((session, number)) = number else { return Err(format!("{topic} has a message {id:?}")) };
        let last = self.live.insert((topic.clone(), session.to_owned()), number);
        match last.filter(|last| *last >= number) {
            Some(last) => Err(format!("{topic} {id} came after number {last} of the same session")),
            None => Ok(()),
        }
    }

    /// Messages will not come, says the node.
    pub(crate) fn lose(&mut self, lost: &Lost, ledger: &Ledger) -> Result<(), String> {
        let (topic, Some(range)) = (&lost.topic, lost.range) else { return Ok(()) };
        let last = self.tracks.get(topic).copied().unwrap_or_default();
        let first = ledger.log(topic).map_or(0, |log| log.first);
        let until = Position { epoch: range.epoch, offset: range.until };
        let explained =
            range.from <= range.until && range.until.0 < first && range.from.0 == last.offset.0 + 1;
        if !explained {
            return Err(format!("{lost:?} after {last}, but the log begins at {first}"));
        }
        self.tracks.insert(topic.clone(), until);
        Ok(())
    }

    /// What this reader should have got by now and did not.
    pub(crate) fn missing(&self, ledger: &Ledger) -> Option<String> {
        let Some((made_ms, _)) = self.made.as_ref().filter(|_| self.connected) else {
            return Some("has no subscription".to_owned());
        };
        ledger.logs().find_map(|(topic, log)| {
            if !self.filters.iter().any(|filter| filter.matches(topic)) {
                return None;
            }
            let missing = match self.tracks.get(topic) {
                Some(last) => (last.offset.0 < log.head()).then_some(last.offset.0 + 1),
                None => log.find(|entry| entry.committed_ms > *made_ms),
            };
            missing.map(|missing| format!("lacks {topic} {missing} to {}", log.head()))
        })
    }

    /// Whether it got this live message over this connection, or a later one of the same session.
    pub(crate) fn has_live(&self, topic: &Topic, session: &str, number: u64) -> bool {
        self.live.get(&(topic.clone(), session.to_owned())).is_some_and(|last| *last >= number)
    }
}
