//! When a token ends, and when its bearer is told that it will.

use std::time::Duration;

use bongsu_protocol::event::TokenExpiring;
use bongsu_protocol::message::Time;
use bongsu_protocol::reason::{CloseReason, Goodbye};

use super::Identity;
use crate::clock;
use crate::limits::TOKEN_WARNING;
use crate::metrics::METRICS;

/// The end of a token that something lives by, and the warning before it. Pure, but for the clock at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    token: TokenExpiring,
    /// By the clock that never goes back; `None` once it was told.
    warn_at: Option<Duration>,
    ends_at: Duration,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// To warn.
    Warning(TokenExpiring),
    /// To end.
    End,
}

impl Expiry {
    /// That of an identity; `None` if it has no end. The warning comes [`TOKEN_WARNING`] before it, and where less is left than three times that,
    /// when two thirds of it are over.
    #[must_use]
    pub fn of(identity: &Identity) -> Option<Self> {
        let expires_at = identity.expires_at?;
        let left = Duration::from_millis(expires_at.0.saturating_sub(clock::wall().0));
        let lead = TOKEN_WARNING.min(left / 3);
        let now = clock::monotonic();
        let in_ms = u64::try_from(lead.as_millis()).unwrap_or(u64::MAX);
        let token = TokenExpiring { expires_at, in_ms };
        Some(Self { token, warn_at: Some(now + (left - lead)), ends_at: now + left })
    }

    /// The end, by the node's clock.
    #[must_use]
    pub const fn expires_at(&self) -> Time {
        self.token.expires_at
    }

    /// The end, by the clock that never goes back.
    #[must_use]
    pub const fn ends_at(&self) -> Duration {
        self.ends_at
    }

    /// When to look again.
    #[must_use]
    pub fn next_due(&self) -> Duration {
        self.warn_at.map_or(self.ends_at, |at| at.min(self.ends_at))
    }

    /// What is due at this time. Each warning once.
    pub fn take_due(&mut self, now: Duration) -> Option<Due> {
        if now >= self.ends_at {
            return Some(Due::End);
        }
        self.warn_at.take_if(|at| now >= *at).map(|_| Due::Warning(self.token))
    }
}

/// What somebody is told whose token has ended. Counts it.
#[must_use]
pub fn farewell() -> Goodbye {
    METRICS.tokens_expired.add(1);
    Goodbye::new(CloseReason::Unauthenticated, "the token has expired: come back with a new one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(in_ms: u64) -> Expiry {
        let expires_at = Some(Time(clock::wall().0 + in_ms));
        Expiry::of(&Identity { expires_at, ..Identity::default() }).expect("it ends")
    }

    #[tokio::test(start_paused = true)]
    async fn the_warning_comes_once_and_the_end_after_it() {
        for (left_ms, warning_ms) in [(3_600_000, 60_000), (90_000, 30_000), (3, 1)] {
            let mut expiry = expiry(left_ms);
            let warn_at = expiry.next_due();
            assert_eq!(expiry.take_due(warn_at - Duration::from_nanos(1)), None);
            let Some(Due::Warning(token)) = expiry.take_due(warn_at) else { panic!("no warning") };
            // The wall's clock goes on between two looks at it.
            assert!(token.in_ms.abs_diff(warning_ms) <= 1, "{token:?}");
            assert_eq!(expiry.take_due(warn_at), None);
            assert_eq!(expiry.take_due(expiry.next_due()), Some(Due::End));
        }
        assert_eq!(expiry(0).take_due(clock::monotonic()), Some(Due::End), "one that has ended ends at once");
        assert_eq!(Expiry::of(&Identity::default()), None);
    }
}
