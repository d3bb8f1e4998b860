//! What the client does while its reader is slower than the broker.
//!
//! ```text
//!            full                  for longer than patience
//!   ┌────┐ ───────▶ ┌───────────┐ ─────────────────────────▶ ┌────────┐
//!   │open│          │socket left│                            │paused: │   subscriptions ended at the broker, socket read,
//!   └────┘ ◀─────── │  unread   │ ◀───────────────────────── │        │   so that answers and pings get through
//!          has room └───────────┘                            └────────┘
//!      ▲                                                         │ has room: subscribe again from what was seen
//!      └─────────────────────────────────────────────────────────┘
//! ```

use super::Time;
use crate::limits::{FULL_PATIENCE, FULL_PATIENCE_WITH_CALLS};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) enum Flow {
    #[default]
    Open,
    /// The socket is left unread, since then.
    Full(Time),
    Paused,
}

impl Flow {
    pub(super) const fn wants_input(&self) -> bool {
        !matches!(self, Self::Full(_))
    }

    pub(super) const fn is_paused(&self) -> bool {
        matches!(self, Self::Paused)
    }

    /// Takes whether a buffer is full. True if that ended a pause.
    pub(super) fn handle_full(&mut self, now: Time, full: bool) -> bool {
        match self {
            Self::Open if full => *self = Self::Full(now),
            Self::Full(_) if !full => *self = Self::Open,
            Self::Paused if !full => {
                *self = Self::Open;
                return true;
            }
            Self::Open | Self::Full(_) | Self::Paused => {}
        }
        false
    }

    pub(super) fn pause(&mut self) {
        *self = Self::Paused;
    }

    pub(super) fn is_due(&self, now: Time, calls_wait: bool) -> bool {
        self.poll_timeout(calls_wait).is_some_and(|due| due <= now)
    }

    pub(super) fn poll_timeout(&self, calls_wait: bool) -> Option<Time> {
        let Self::Full(since) = self else { return None };
        Some(*since + if calls_wait { FULL_PATIENCE_WITH_CALLS } else { FULL_PATIENCE })
    }
}
