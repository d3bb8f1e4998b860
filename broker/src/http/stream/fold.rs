//! What a stream's messages say of it, in the order of the log. Pure.
//!
//! An append carries in its headers what it was to its writer, so that whoever reads the log knows what whoever wrote it knew:
//!
//! | header | says |
//! |---|---|
//! | `stream-producer` | `epoch seq part/parts id`: part of which request of which idempotent producer it is |
//! | `stream-seq` | its writer's `Stream-Seq` |
//! | `stream-closed` | `true`: it is the stream's last message; `only`: it is no message, but the end of the stream |
//!
//! Readers of other kinds see these as headers like any others, and the end as an empty message. What is published after the end by other
//! ways in is in the log, but not in the stream.

use std::collections::BTreeMap;

use bongsu_protocol::message::Message;
use bongsu_protocol::position::Position;
use serde::{Deserialize, Serialize};

use super::offset::number;
use super::record::Checkpoint;
use crate::limits::STREAM_PRODUCERS_MAX;

/// Names the request that a message is part of.
const PRODUCER: &str = "stream-producer";
/// The writer's sequence.
const SEQ: &str = "stream-seq";
/// The end.
const CLOSED: &str = "stream-closed";
/// A message that only ends.
const CLOSED_ONLY: &str = "only";

/// What an idempotent producer last wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Producer {
    /// Its session.
    pub epoch: u64,
    /// Its request.
    pub seq: u64,
    /// How many messages of the request are there.
    pub part: u64,
    /// Of how many.
    pub parts: u64,
    /// The offset of the last of them.
    pub at: u64,
}

/// One request of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub id: String,
    pub epoch: u64,
    pub seq: u64,
}

/// A stream's messages, summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// The newest message's place, whatever it is.
    pub head: Position,
    /// The place of the stream's last message.
    pub tail: Position,
    /// The stream was closed, by this request if it was a producer's.
    pub closed: Option<Option<Tag>>,
    pub producers: BTreeMap<String, Producer>,
    pub seq: Option<String>,
    /// Messages since the checkpoint that all this was begun from.
    pub n_folded: u64,
}

/// What is to become of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it, but for the messages that are there from an earlier try.
    Accept { skip: u64 },
    /// It is there.
    Duplicate(Producer),
    /// The stream takes nothing more.
    Closed,
    /// Another session of the producer has begun: this is its epoch.
    StaleEpoch(u64),
    /// A new session must begin with 0.
    EpochBeginsPastZero,
    /// Requests before it are missing: this one was expected.
    Gap(u64),
    /// Not after the last `Stream-Seq`.
    SeqRegression,
}

impl Log {
    /// The messages up to a checkpoint.
    pub(super) fn from_checkpoint(checkpoint: &Checkpoint) -> Self {
        let at = checkpoint.at();
        let (producers, seq) = (checkpoint.producers.clone(), checkpoint.seq.clone());
        Self { head: at, tail: at, producers, seq, ..Self::default() }
    }

    /// What to begin from next time. Only of an open stream: the end itself is always read from the log.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        let at = (self.tail.epoch.0, self.tail.offset.0);
        Checkpoint { at, producers: self.producers.clone(), seq: self.seq.clone() }
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, position: Position, message: &Message) {
        if position <= self.head {
            return;
        }
        self.head = position;
        self.n_folded += 1;
        if self.closed.is_some() {
            return;
        }
        let tag = header(message, PRODUCER).and_then(parse_tag);
        if let Some((tag, part, parts)) = &tag {
            let (epoch, seq, at) = (tag.epoch, tag.seq, position.offset.0);
            let producer = Producer { epoch, seq, part: *part, parts: *parts, at };
            self.producers.insert(tag.id.clone(), producer);
            self.forget_oldest_producer();
        }
        if let Some(seq) = header(message, SEQ) {
            self.seq = Some(seq.to_owned());
        }
        if !is_end_only(message) {
            self.tail = position;
        } else if self.tail.offset.0 == 0 {
            self.tail = position.previous();
        }
        if header(message, CLOSED).is_some() {
            self.closed = Some(tag.map(|(tag, ..)| tag));
        }
    }

    /// Judges an append by what is known.
    pub(super) fn judge(&self, tag: Option<&Tag>, seq: Option<&str>) -> Verdict {
        let known = tag.and_then(|tag| self.producers.get(&tag.id).copied());
        if let Some(closed_by) = &self.closed {
            return match (closed_by, tag, known) {
                (Some(by), Some(tag), Some(producer)) if by == tag => Verdict::Duplicate(producer),
                _ => Verdict::Closed,
            };
        }
        let mut skip = 0;
        if let Some(tag) = tag {
            match known {
                None if tag.seq > 0 => return Verdict::Gap(0),
                None => {}
                Some(known) if tag.epoch < known.epoch => return Verdict::StaleEpoch(known.epoch),
                Some(known) if tag.epoch > known.epoch && tag.seq > 0 => return Verdict::EpochBeginsPastZero,
                Some(known) if tag.epoch > known.epoch => {}
                Some(known) => match known.judge(tag.seq) {
                    Verdict::Accept { skip: n } => skip = n,
                    verdict => return verdict,
                },
            }
        }
        // A request that was begun took its sequence then.
        if let (Some(seq), Some(last), 0) = (seq, &self.seq, skip)
            && seq.as_bytes() <= last.as_bytes()
        {
            return Verdict::SeqRegression;
        }
        Verdict::Accept { skip }
    }

    /// Keeps the producers bounded: the one that was silent for longest is forgotten.
    fn forget_oldest_producer(&mut self) {
        if self.producers.len() <= STREAM_PRODUCERS_MAX {
            return;
        }
        let oldest = self.producers.iter().min_by_key(|(_, producer)| producer.at);
        if let Some(id) = oldest.map(|(id, _)| id.clone()) {
            self.producers.remove(&id);
        }
    }
}

impl Producer {
    /// Judges a request of the same session.
    const fn judge(self, seq: u64) -> Verdict {
        let is_whole = self.part >= self.parts;
        let next = if is_whole { self.seq + 1 } else { self.seq };
        if seq == next {
            Verdict::Accept { skip: if is_whole { 0 } else { self.part } }
        } else if seq < next {
            Verdict::Duplicate(self)
        } else {
            Verdict::Gap(next)
        }
    }
}

/// Whether a message is the last one of its stream, or no message but its end.
pub(in crate::http) fn is_end(message: &Message) -> bool {
    header(message, CLOSED).is_some()
}

/// Whether a message is no message of the stream, but its end.
pub(super) fn is_end_only(message: &Message) -> bool {
    header(message, CLOSED) == Some(CLOSED_ONLY)
}

/// What a message of an append is to its writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark<'a> {
    pub tag: Option<&'a Tag>,
    pub seq: Option<&'a str>,
    /// Which message of its request, from 1, and of how many.
    pub part: (u64, u64),
    pub end: End,
}

/// Whether a message ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    No,
    /// It is the last one.
    Last,
    /// It is none itself.
    Only,
}

impl Mark<'_> {
    /// The headers that say so.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        let mut push = |name: &str, value: String| headers.push((name.to_owned(), value));
        if let Some(tag) = self.tag {
            let (part, parts) = self.part;
            push(PRODUCER, format!("{} {} {part}/{parts} {}", tag.epoch, tag.seq, tag.id));
        }
        if let Some(seq) = self.seq {
            push(SEQ, seq.to_owned());
        }
        match self.end {
            End::No => {}
            End::Last => push(CLOSED, "true".to_owned()),
            End::Only => push(CLOSED, CLOSED_ONLY.to_owned()),
        }
        headers
    }
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn parse_tag(value: &str) -> Option<(Tag, u64, u64)> {
    let mut words = value.splitn(4, ' ');
    let (epoch, seq) = (number(words.next()?)?, number(words.next()?)?);
    let (part, parts) = words.next()?.split_once('/')?;
    let id = words.next()?.to_owned();
    Some((Tag { id, epoch, seq }, number(part)?, number(parts)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(epoch: u64, seq: u64) -> Tag {
        Tag { id: "p 1".to_owned(), epoch, seq }
    }

    fn append(log: &mut Log, tag: Option<&Tag>, part: (u64, u64), end: End) {
        let headers = Mark { tag, seq: None, part, end }.headers();
        let position = Position::new(1, log.head.offset.0 + 1);
        log.take(position, &Message { headers, ..Message::default() });
    }

    #[test]
    fn requests_of_a_producer_are_taken_once_and_in_order() {
        let mut log = Log::default();
        assert_eq!(log.judge(Some(&tag(0, 1)), None), Verdict::Gap(0));
        append(&mut log, Some(&tag(0, 0)), (1, 1), End::No);
        append(&mut log, Some(&tag(0, 1)), (1, 1), End::No);
        assert!(matches!(log.judge(Some(&tag(0, 0)), None), Verdict::Duplicate(known) if known.seq == 1));
        assert!(matches!(log.judge(Some(&tag(0, 1)), None), Verdict::Duplicate(_)));
        assert_eq!(log.judge(Some(&tag(0, 2)), None), Verdict::Accept { skip: 0 });
        assert_eq!(log.judge(Some(&tag(0, 3)), None), Verdict::Gap(2));
        assert_eq!(log.judge(Some(&tag(1, 1)), None), Verdict::EpochBeginsPastZero);
        append(&mut log, Some(&tag(1, 0)), (1, 1), End::No);
        assert_eq!(log.judge(Some(&tag(0, 2)), None), Verdict::StaleEpoch(1));
    }

    #[test]
    fn request_that_was_written_in_part_is_completed_by_its_retry() {
        let mut log = Log::default();
        append(&mut log, Some(&tag(0, 0)), (1, 3), End::No);
        append(&mut log, Some(&tag(0, 0)), (2, 3), End::No);
        assert_eq!(log.judge(Some(&tag(0, 0)), None), Verdict::Accept { skip: 2 });
        assert_eq!(log.judge(Some(&tag(0, 1)), None), Verdict::Gap(0));
        append(&mut log, Some(&tag(0, 0)), (3, 3), End::No);
        assert!(matches!(log.judge(Some(&tag(0, 0)), None), Verdict::Duplicate(_)));
    }

    #[test]
    fn nothing_counts_after_the_end() {
        let mut log = Log::default();
        append(&mut log, None, (1, 1), End::No);
        append(&mut log, Some(&tag(0, 0)), (1, 1), End::Only);
        append(&mut log, None, (1, 1), End::No);
        assert_eq!((log.tail.offset.0, log.head.offset.0), (1, 3));
        assert_eq!(log.judge(None, None), Verdict::Closed);
        assert!(matches!(log.judge(Some(&tag(0, 0)), None), Verdict::Duplicate(_)));
        assert_eq!(log.judge(Some(&tag(0, 1)), None), Verdict::Closed);
    }

    #[test]
    fn sequences_of_writers_only_grow() {
        let mut log = Log::default();
        assert_eq!(log.judge(None, Some("2")), Verdict::Accept { skip: 0 });
        log.seq = Some("2".to_owned());
        assert_eq!(log.judge(None, Some("2")), Verdict::SeqRegression);
        assert_eq!(log.judge(None, Some("10")), Verdict::SeqRegression, "as text, not as numbers");
        assert_eq!(log.judge(None, Some("20")), Verdict::Accept { skip: 0 });
    }

    #[test]
    fn checkpoint_and_what_follows_are_the_whole_log() {
        let mut whole = Log::default();
        for seq in 0..5 {
            append(&mut whole, Some(&tag(0, seq)), (1, 1), End::No);
        }
        let mut resumed = Log::from_checkpoint(&whole.checkpoint());
        append(&mut whole, Some(&tag(0, 5)), (1, 1), End::Last);
        append(&mut resumed, Some(&tag(0, 5)), (1, 1), End::Last);
        assert_eq!(Log { n_folded: 0, ..whole }, Log { n_folded: 0, ..resumed });
    }

    #[test]
    fn producers_that_were_silent_for_longest_are_forgotten() {
        let mut log = Log::default();
        for n in 0..=STREAM_PRODUCERS_MAX {
            let tag = Tag { id: n.to_string(), epoch: 0, seq: 0 };
            append(&mut log, Some(&tag), (1, 1), End::No);
        }
        assert_eq!(log.producers.len(), STREAM_PRODUCERS_MAX);
        assert!(!log.producers.contains_key("0"));
    }
}
