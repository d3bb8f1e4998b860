//! What `bongsu sub` remembers from one run to the next.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use bongsu_client::{Item, Position, Subscribed, Time, Topic, TopicFilter};
use serde::{Deserialize, Serialize};

/// A small file with the last position of each topic, replaced as a whole.
pub(super) struct Positions {
    path: Option<PathBuf>,
    topics: BTreeMap<Topic, Position>,
    /// For each filter, since when topics without a position are to be read.
    filters: BTreeMap<String, u64>,
    output_bytes: Option<u64>,
    /// Something changed since it was saved.
    dirty: bool,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// Milliseconds since 1970, by filter.
    filters: BTreeMap<String, u64>,
    /// `epoch:offset`, by topic.
    topics: BTreeMap<String, String>,
    /// Bytes of the output that these positions stand for; absent with standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_bytes: Option<u64>,
}

impl Positions {
    /// Reads the file, if one is named and there.
    pub(super) fn load(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut positions =
            Self { path, topics: BTreeMap::new(), filters: BTreeMap::new(), output_bytes: None, dirty: true };
        let Some(path) = &positions.path else { return Ok(positions) };
        let saved: Saved = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is no file of positions", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(positions),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        for (topic, position) in &saved.topics {
            let context = || format!("{}: {topic:?} at {position:?}", path.display());
            let position = position.parse().with_context(context)?;
            positions.topics.insert(Topic::parse(topic).with_context(context)?, position);
        }
        positions.filters = saved.filters;
        positions.output_bytes = saved.output_bytes;
        Ok(positions)
    }

    /// Bytes of the output that the positions stand for.
    pub(super) fn output_bytes(&self) -> u64 {
        self.output_bytes.unwrap_or(0)
    }

    /// Since when topics without a position are to be read, if an earlier run read this filter.
    pub(super) fn since(&self, filter: &str) -> Option<Time> {
        self.filters.get(filter).copied().map(Time)
    }

    pub(super) fn of(&self, topic: &Topic) -> Option<Position> {
        self.topics.get(topic).copied()
    }

    pub(super) fn under(&self, filter: &TopicFilter) -> Vec<(Topic, Position)> {
        let matching = self.topics.iter().filter(|(topic, _)| filter.matches(topic));
        matching.map(|(topic, position)| (topic.clone(), *position)).collect()
    }

    /// Takes where a subscription started: what an earlier run saw holds.
    pub(super) fn start(&mut self, subscribed: &Subscribed) {
        self.filters.entry(subscribed.filter.as_str().to_owned()).or_insert(subscribed.since.0);
        for (topic, position) in &subscribed.positions {
            self.topics.entry(topic.clone()).or_insert(*position);
        }
        self.dirty = true;
    }

    /// Takes what was written.
    pub(super) fn see(&mut self, item: &Item) {
        let (topic, position) = match item {
            Item::Message(delivery) => (&delivery.topic, delivery.position),
            Item::Lost(lost) => {
                (&lost.topic, lost.range.map(|range| Position { epoch: range.epoch, offset: range.until }))
            }
            Item::Reset { topic, epoch } => (topic, Some(Position::new(epoch.0, 0))),
            Item::Ended(_) => return,
        };
        self.dirty = true;
        let Some(position) = position else { return };
        match self.topics.get_mut(topic) {
            Some(known) => *known = position,
            None => {
                self.topics.insert(topic.clone(), position);
            }
        }
    }

    /// Replaces the file. Only after the output was flushed: positions must not run ahead of it.
    pub(super) fn save(&mut self, output_bytes: Option<u64>) -> anyhow::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.dirty) else { return Ok(()) };
        let topics = self.topics.iter().map(|(topic, position)| (topic.to_string(), position.to_string()));
        let saved = Saved { filters: self.filters.clone(), topics: topics.collect(), output_bytes };
        let mut text = serde_json::to_vec_pretty(&saved)?;
        text.push(b'\n');
        // Beside it, so that the rename stays within one file system. A reader sees the old file or the new one.
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let replace = || {
            fs::File::create(&new)?.write_all(&text)?;
            fs::rename(&new, path)
        };
        replace().with_context(|| path.display().to_string())?;
        self.dirty = false;
        Ok(())
    }
}
