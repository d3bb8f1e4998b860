//! What a reader comes back with.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::command::{Start, Subscription};
use crate::limits::{BOOKMARK_BYTES_MAX, INTEGER_MAX};
use crate::message::Time;
use crate::position::Position;
use crate::topic::{Topic, TopicFilter};

/// Places that a tracker keeps: as many as the shortest ones fit into a text (`b.` and 9 digits, then 12 bytes each).
const PLACES_MAX: usize = (BOOKMARK_BYTES_MAX - 11) / 12;

/// Bytes of a topic's digest: 48 bits. Of ten thousand topics and nine places, two are taken for one another once in 3 billion streams.
const DIGEST_BYTES: usize = 6;

/// Milliseconds after which a message of unknown time is taken to be before a checkpoint; if it was not, it comes twice to a reader that
/// reconnects.
const UNKNOWN_AGE_MS: u64 = 10_000;

/// Digits of numbers and digests, all of them safe in a header of a cross-origin request.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Where a reader of an event stream goes on, as the text of an event's `id` and of `Last-Event-ID`. Any node understands it.
///
/// | text | means |
/// |---|---|
/// | `earliest`, `-1` | all that is kept |
/// | `now`, `$` | what comes from here on |
/// | `last:50` | the newest 50 of each topic, and what comes |
/// | `7:42` | after this position, in a stream of one topic |
/// | `b.`… | several topics: a time, and places of the topics that moved since |
///
/// At most [`BOOKMARK_BYTES_MAX`] bytes of letters, digits and `.,-_:$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bookmark {
    /// All that is kept.
    Earliest,
    /// What comes from here on.
    Latest,
    /// The newest messages of each topic, at most so many, and what comes from here on. A reader of several topics that is cut off before
    /// the first message of one of them begins with all that is kept of that one: its bookmark has no place there yet.
    Last(u64),
    /// After this position of the one topic.
    At(Position),
    /// Several topics, or topics under a pattern.
    Several {
        /// Everything before this time was seen.
        since: Time,
        /// What else was seen, oldest first.
        places: Vec<Place>,
    },
}

/// What was seen of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    digest: TopicDigest,
    position: Position,
}

/// A topic's name in a few bytes. A cryptographic digest, so that nobody finds a topic that is taken for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TopicDigest(u64);

impl TopicDigest {
    fn of(topic: &Topic) -> Self {
        let digest = Sha256::digest(topic.as_str());
        Self(digest.iter().take(DIGEST_BYTES).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// The text is no bookmark. Answer as if the place were lost: begin with what comes, and say so in a `gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bookmark is the id of an earlier event, a position, `earliest` or `now`")]
pub struct InvalidBookmark;

impl Bookmark {
    /// What to subscribe to. [`Tracker::pass`] leaves out what it brings twice.
    ///
    /// # Errors
    /// [`InvalidBookmark`]: a position, and the stream is not of one topic.
    pub fn subscriptions(&self, filters: &[TopicFilter]) -> Result<Vec<Subscription>, InvalidBookmark> {
        let start_of = |filter: &TopicFilter| match self {
            Self::Earliest => Ok(Start::Earliest),
            Self::Latest => Ok(Start::Latest),
            Self::Last(count) => Ok(Start::Last(*count)),
            Self::At(position) if filters.len() == 1 && filter.as_topic().is_some() => {
                Ok(Start::After(*position))
            }
            Self::At(_) => Err(InvalidBookmark),
            Self::Several { since, places } => {
                let digest = filter.as_topic().map(|topic| TopicDigest::of(&topic));
                let place = places.iter().find(|place| Some(place.digest) == digest);
                Ok(place.map_or(Start::Time(*since), |place| Start::After(place.position)))
            }
        };
        let subscription = |filter: &TopicFilter| {
            Ok(Subscription { filter: filter.clone(), from: start_of(filter)?, seen: Vec::new() })
        };
        filters.iter().map(subscription).collect()
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("now"),
            Self::Last(count) => write!(f, "last:{count}"),
            Self::At(position) => position.fmt(f),
            Self::Several { since, places } => {
                let mut text = String::from("b.");
                put_number(since.0, &mut text);
                let place = |place: &Place| {
                    let mut text = String::from(",");
                    for shift in (0..DIGEST_BYTES * 8 / 6).rev() {
                        text.push(digit(place.digest.0 >> (6 * shift)));
                    }
                    put_number(place.position.epoch.0, &mut text);
                    text.push('.');
                    put_number(place.position.offset.0, &mut text);
                    text
                };
                // Those that moved last go in first: the next checkpoint makes the others superfluous sooner.
                let mut kept: Vec<String> = Vec::new();
                let mut bytes = text.len();
                for text in places.iter().rev().map(place) {
                    if bytes + text.len() > BOOKMARK_BYTES_MAX {
                        break;
                    }
                    bytes += text.len();
                    kept.push(text);
                }
                f.write_str(&text)?;
                kept.iter().rev().try_for_each(|text| f.write_str(text))
            }
        }
    }
}

impl FromStr for Bookmark {
    type Err = InvalidBookmark;

    fn from_str(text: &str) -> Result<Self, InvalidBookmark> {
        match text {
            "earliest" | "-1" => return Ok(Self::Earliest),
            "now" | "$" => return Ok(Self::Latest),
            _ if text.len() > BOOKMARK_BYTES_MAX => return Err(InvalidBookmark),
            _ => {}
        }
        if let Some(count) = text.strip_prefix("last:") {
            return count.parse().map(Self::Last).map_err(|_| InvalidBookmark);
        }
        let Some(text) = text.strip_prefix("b.") else {
            return text.parse().map(Self::At).map_err(|_| InvalidBookmark);
        };
        let mut parts = text.split(',');
        let since = Time(number(parts.next().unwrap_or_default())?);
        let place = |text: &str| {
            let (digest, rest) = text.split_at_checked(DIGEST_BYTES * 8 / 6).ok_or(InvalidBookmark)?;
            let digest = TopicDigest(digest_number(digest)?);
            let (epoch, offset) = rest.split_once('.').ok_or(InvalidBookmark)?;
            Ok(Place { digest, position: Position::new(number(epoch)?, number(offset)?) })
        };
        Ok(Self::Several { since, places: parts.map(place).collect::<Result<_, _>>()? })
    }
}

/// Keeps a reader's bookmark while its stream goes on.
///
/// What it promises: a reader that comes back with a bookmark misses nothing. It gets nothing twice either, but where more topics moved
/// within one interval between [`checkpoint`](Self::checkpoint)s than a bookmark has room for (five, with the numbers of today): of those
/// that moved first, the messages of the interval come again.
#[derive(Debug)]
pub struct Tracker {
    /// Where the stream is of one topic, what was seen of it; then nothing else is kept.
    single: Option<Option<Position>>,
    since: Time,
    /// By when they moved, oldest first, each with its last message's time.
    places: VecDeque<(Place, Time)>,
    /// What the bookmark that the reader came with says was seen; forgotten at the first checkpoint.
    resumed: Vec<Place>,
}

impl Tracker {
    /// A stream of these filters that begins at this bookmark. `since`: no message that is not in the log yet will be before it; the
    /// smallest [`Subscribed::since`](crate::event::Subscribed::since).
    #[must_use]
    pub fn new(filters: &[TopicFilter], bookmark: &Bookmark, since: Time) -> Self {
        let is_single = matches!(filters, [filter] if filter.as_topic().is_some());
        let (single, since, resumed) = match bookmark {
            Bookmark::At(position) => (Some(*position), since, &[][..]),
            // Until all that was asked for was written, nothing says where to go on but the places.
            Bookmark::Earliest | Bookmark::Last(_) => (None, Time(0), &[][..]),
            Bookmark::Latest => (None, since, &[][..]),
            Bookmark::Several { since: seen_before, places } => (None, since.min(*seen_before), &places[..]),
        };
        Self {
            single: is_single.then_some(single),
            since,
            // Whether their messages are old is not known.
            places: resumed.iter().map(|place| (*place, Time(INTEGER_MAX))).take(PLACES_MAX).collect(),
            resumed: resumed.to_vec(),
        }
    }

    /// A message is about to be written. False: the reader has it already, so leave it out.
    pub fn pass(&mut self, topic: &Topic, position: Option<Position>, time: Time) -> bool {
        let Some(position) = position else { return true };
        if let Some(seen) = &mut self.single {
            let is_new = seen.is_none_or(|seen| seen < position);
            *seen = Some(position);
            return is_new;
        }
        let digest = TopicDigest::of(topic);
        if self.resumed.iter().any(|place| place.digest == digest && position <= place.position) {
            return false;
        }
        self.note(Place { digest, position }, time);
        true
    }

    /// Messages up to this position will not come; the reader is told in a `gap`.
    pub fn skip(&mut self, topic: &Topic, until: Position) {
        match &mut self.single {
            Some(seen) => *seen = Some(until),
            None => self.note(Place { digest: TopicDigest::of(topic), position: until }, Time(INTEGER_MAX)),
        }
    }

    fn note(&mut self, place: Place, time: Time) {
        self.places.retain(|(other, _)| other.digest != place.digest);
        if self.places.len() == PLACES_MAX {
            self.places.pop_front();
        }
        self.places.push_back((place, time));
    }

    /// Every message before this time was written, whatever its topic: all readers of the session are at the head, and no message that is
    /// on its way is older. To be called with each heartbeat; then write [`bookmark`](Self::bookmark) on a line of its own.
    pub fn checkpoint(&mut self, before: Time) {
        if before <= self.since {
            return;
        }
        self.since = before;
        self.resumed = Vec::new();
        self.places.retain(|(_, time)| *time >= before);
        // By the next one, messages of an unknown time are old, too.
        for (_, time) in &mut self.places {
            if *time == Time(INTEGER_MAX) {
                *time = Time(before.0 + UNKNOWN_AGE_MS);
            }
        }
    }

    /// Where the reader would go on. `None`: in a stream of one topic, nothing came yet. Write it at the beginning, too, so that a reader
    /// that is cut off before the first message has one.
    #[must_use]
    pub fn bookmark(&self) -> Option<Bookmark> {
        match self.single {
            Some(seen) => seen.map(Bookmark::At),
            None => {
                let places = self.places.iter().map(|(place, _)| *place).collect();
                Some(Bookmark::Several { since: self.since, places })
            }
        }
    }
}

fn digit(number: u64) -> char {
    char::from(DIGITS[usize::try_from(number % 64).expect("a number below 64 is a usize")])
}

fn put_number(number: u64, text: &mut String) {
    let n_digits = (64 - number.leading_zeros()).div_ceil(6).max(1);
    for place in (0..n_digits).rev() {
        text.push(digit(number >> (6 * place)));
    }
}

fn number(text: &str) -> Result<u64, InvalidBookmark> {
    // Nine digits hold 54 bits.
    if text.is_empty() || text.len() > 9 {
        return Err(InvalidBookmark);
    }
    let number = digest_number(text)?;
    if number > INTEGER_MAX { Err(InvalidBookmark) } else { Ok(number) }
}

fn digest_number(text: &str) -> Result<u64, InvalidBookmark> {
    text.bytes().try_fold(0, |number, byte| {
        let value = DIGITS.iter().position(|digit| *digit == byte).ok_or(InvalidBookmark)?;
        Ok(number << 6 | value as u64)
    })
}
