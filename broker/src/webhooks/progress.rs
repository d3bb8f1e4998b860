//! How far a webhook came, and who delivers: what its register says, `$webhook/{name}`.
//!
//! Entries are appended one at a time, each only if nothing else was appended since its writer looked. So there is one that moves on,
//! and one that was taken for dead finds out before it moves again.

use std::collections::BTreeMap;

use bongsu_protocol::command::Start;
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One message of a register.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Which process wrote it, and delivers from now on; empty if it leaves that to others.
    pub(super) owner: String,
    /// Its number there: a writer that does not know whether an entry was taken knows it by that.
    pub(super) number: u64,
    /// The positions are all that there are: entries before this one say nothing any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) whole: bool,
    /// Everything before this time was delivered, of topics of which nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) floor: Option<u64>,
    /// Topics, each with how far it was delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) moved: Vec<Moved>,
    /// The address that said it is gone (410), and is asked no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gone: Option<String>,
}

/// How far a topic was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    pub(super) topic: String,
    pub(super) epoch: u64,
    pub(super) offset: u64,
    /// The time of the message there.
    pub(super) time: u64,
}

/// See the [module](self). Pure: it is told what the log holds, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// How far the register was read.
    pub(super) head: Position,
    /// Who wrote last, and that entry's number.
    pub(super) owner: String,
    pub(super) number: u64,
    pub(super) floor: Time,
    pub(super) positions: BTreeMap<Topic, (Position, Time)>,
    pub(super) gone: Option<String>,
    /// Where the newest whole entry is.
    pub(super) whole: Option<Position>,
    /// Bytes of the entries since.
    pub(super) bytes_since: usize,
}

impl Entry {
    pub(super) fn encode(&self) -> Bytes {
        // A struct of texts and numbers always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl Progress {
    /// Takes the next message of the register.
    pub(super) fn take(&mut self, position: Position, payload: &[u8]) {
        self.head = position;
        self.bytes_since += payload.len();
        let Ok(entry) = serde_json::from_slice::<Entry>(payload) else {
            tracing::warn!(?position, "this version does not know an entry about a webhook, and skips it");
            return;
        };
        (self.owner, self.number) = (entry.owner, entry.number);
        if entry.whole {
            self.positions.clear();
            (self.whole, self.bytes_since) = (Some(position), 0);
            self.gone = None;
        }
        if entry.gone.is_some() {
            self.gone = entry.gone;
        }
        for moved in entry.moved {
            let Ok(topic) = Topic::parse(&moved.topic) else { continue };
            let position = Position::new(moved.epoch, moved.offset);
            self.positions.insert(topic, (position, Time(moved.time)));
        }
        if let Some(floor) = entry.floor {
            self.floor = Time(floor);
            self.positions.retain(|_, (_, time)| *time >= self.floor);
        }
    }

    /// Where a topic goes on.
    pub(super) fn start_of(&self, topic: &Topic) -> Start {
        self.positions.get(topic).map_or(Start::Time(self.floor), |(position, _)| Start::After(*position))
    }

    /// All that is known, in one entry.
    pub(super) fn to_entry(&self) -> Entry {
        let moved = self.positions.iter().map(|(topic, (position, time))| Moved::of(topic, *position, *time));
        Entry {
            whole: true,
            floor: Some(self.floor.0),
            moved: moved.collect(),
            gone: self.gone.clone(),
            ..Entry::default()
        }
    }
}

impl Moved {
    pub(super) fn of(topic: &Topic, position: Position, time: Time) -> Self {
        Self {
            topic: topic.as_str().to_owned(),
            epoch: position.epoch.0,
            offset: position.offset.0,
            time: time.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(topic: &str, offset: u64, time: u64) -> Moved {
        Moved::of(&Topic::parse(topic).unwrap(), Position::new(1, offset), Time(time))
    }

    fn take(progress: &mut Progress, offset: u64, entry: &Entry) {
        progress.take(Position::new(1, offset), &entry.encode());
    }

    #[test]
    fn topics_go_on_where_they_were_and_others_at_the_floor() {
        let mut progress = Progress::default();
        take(&mut progress, 1, &Entry { floor: Some(10), ..Entry::default() });
        take(
            &mut progress,
            2,
            &Entry { moved: vec![moved("a", 3, 11), moved("b", 1, 25)], ..Entry::default() },
        );
        let start = |progress: &Progress, topic| progress.start_of(&Topic::parse(topic).unwrap());
        assert_eq!(start(&progress, "a"), Start::After(Position::new(1, 3)));
        assert_eq!(start(&progress, "c"), Start::Time(Time(10)));
        // What is before the new floor needs no position any more: nothing of it is after the floor.
        take(&mut progress, 3, &Entry { floor: Some(20), ..Entry::default() });
        assert_eq!(start(&progress, "a"), Start::Time(Time(20)));
        assert_eq!(start(&progress, "b"), Start::After(Position::new(1, 1)));
    }

    #[test]
    fn whole_entry_stands_for_all_before_it() {
        let mut progress = Progress::default();
        take(&mut progress, 1, &Entry { floor: Some(10), ..Entry::default() });
        take(
            &mut progress,
            2,
            &Entry { moved: vec![moved("a", 3, 11)], gone: Some("x".to_owned()), ..Entry::default() },
        );
        let whole = Entry { owner: "n".to_owned(), number: 7, ..progress.to_entry() };
        let mut late = Progress::default();
        take(&mut late, 3, &whole);
        assert_eq!(
            (late.floor, &late.positions, &late.gone),
            (progress.floor, &progress.positions, &progress.gone)
        );
        assert_eq!((late.whole, &*late.owner, late.number), (Some(Position::new(1, 3)), "n", 7));
    }
}
