//! The place of a request that waits: a long poll, an event source of a stream.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bongsu_protocol::reason::Goodbye;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connections::Place;
use crate::auth::Identity;
use crate::clock;

/// What others may touch of a request that waits.
#[derive(Debug)]
pub(super) struct Parked {
    identity: Arc<Identity>,
    /// Why it ended before its time; set once.
    ended: OnceLock<Box<Goodbye>>,
    /// Rung when it did.
    bell: Notify,
}

/// A request's place among the connections, which it leaves when this is dropped. Some 200 bytes.
///
/// It ends nothing by itself: whoever waits asks it how long it may, is told when somebody ends it, and [checks](Self::check) before
/// anything is given out.
#[derive(Debug)]
pub struct Stay {
    place: Place,
    parked: Arc<Parked>,
}

impl Parked {
    pub(super) const fn new(identity: Arc<Identity>) -> Self {
        Self { identity, ended: OnceLock::new(), bell: Notify::const_new() }
    }

    /// Ends the request; false if somebody did before.
    pub(super) fn end(&self, goodbye: Goodbye) -> bool {
        let is_first = self.ended.set(Box::new(goodbye)).is_ok();
        self.bell.notify_one();
        is_first
    }
}

impl Stay {
    pub(super) const fn new(place: Place, parked: Arc<Parked>) -> Self {
        Self { place, parked }
    }

    /// Waits until somebody ends the request. For one who waits.
    pub async fn ended(&self) {
        while self.parked.ended.get().is_none() {
            self.parked.bell.notified().await;
        }
    }

    /// Whether the request may still be answered: nobody ended it, and who sent it is still entitled. To be asked right before anything
    /// is given out.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), Goodbye> {
        match self.parked.ended.get() {
            Some(goodbye) => Err(Goodbye::clone(goodbye)),
            None => self.place.check(&self.parked.identity),
        }
    }

    /// Until when it may wait at most: until its time, or until its credential runs out.
    #[must_use]
    pub fn until(&self, time: Instant) -> Instant {
        let Some(expires_at) = self.parked.identity.expires_at else { return time };
        let left = Duration::from_millis(expires_at.0.saturating_sub(clock::wall().0));
        // Rather a moment late than woken before it ran out.
        time.min(clock::instant(clock::monotonic() + left + Duration::from_millis(1)))
    }
}
