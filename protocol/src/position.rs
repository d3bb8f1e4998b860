//! Places in a log.

use std::fmt;

use crate::limits::INTEGER_MAX;

/// The incarnation of a log. Ordered: a log that is made anew has a larger epoch than any earlier log of its topic.
///
/// 0 to [`INTEGER_MAX`]; 0 means "no log yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

/// A message's place in its log: 1 for the first, without holes. 0 is the place before the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(pub u64);

/// A place in one incarnation of a topic's log. Ordered by epoch, then by offset.
///
/// "After position p" means: the messages of the same epoch with a larger offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// The log's incarnation.
    pub epoch: Epoch,
    /// The place in it.
    pub offset: Offset,
}

impl Position {
    /// Makes a position from its two numbers.
    #[must_use]
    pub const fn new(epoch: u64, offset: u64) -> Self {
        Self { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    /// The place right after this one, in the same epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, offset: Offset(self.offset.0 + 1) }
    }

    /// The place right before this one, in the same epoch; the place before the first message stays where it is.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self { epoch: self.epoch, offset: Offset(self.offset.0.saturating_sub(1)) }
    }

    /// Whether both numbers are within what every peer can hold.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.epoch.0 <= INTEGER_MAX && self.offset.0 <= INTEGER_MAX
    }
}

impl fmt::Display for Position {
    /// `epoch:offset`, the form that the command line takes and prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch.0, self.offset.0)
    }
}

/// The text is not `epoch:offset` with two numbers up to [`INTEGER_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is `epoch:offset`, two whole numbers of at most {INTEGER_MAX}")]
pub struct InvalidPosition;

impl std::str::FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, offset) = text.split_once(':').ok_or(InvalidPosition)?;
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| InvalidPosition);
        let position = Self::new(number(epoch)?, number(offset)?);
        if position.is_valid() { Ok(position) } else { Err(InvalidPosition) }
    }
}
