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

#[cfg(test)]
mod tests {
    use bongsu_persistence::memory::MemoryStore;
    use bongsu_persistence::store::Store;
    use bongsu_protocol::message::Time;
    use bongsu_protocol::reason::CloseReason;
    use bongsu_protocol::session::Grants;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::access::{Access, Note, Target};
    use crate::bus::Bell;
    use crate::control::{Connections, Holder};
    use crate::metrics::Transport;
    use crate::outbound::ConnectionId;
    use crate::registers::Registers;

    fn node() -> (Access, Arc<Connections>) {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let access = Access::open(&Registers::new(&store, None, &Bell::default()));
        let connections = Connections::new("n", 1, access.clone());
        (access, Arc::new(connections))
    }

    fn ada(expires_at: Option<u64>) -> Holder {
        let grants = Grants { subject: "ada".to_owned(), ..Grants::default() };
        let identity = Identity { expires_at: expires_at.map(Time), ..Identity::of(grants) };
        Holder { identity: Arc::new(identity), peer: None, transport: Transport::LongPoll }
    }

    async fn block(access: &Access) {
        let note = Note { at: clock::wall().0, ..Note::default() };
        access.bar(&Target::Block("ada".to_owned()), &note, None).await.unwrap();
    }

    fn reason(stay: &Stay) -> Option<CloseReason> {
        stay.check().err().map(|goodbye| goodbye.reason)
    }

    #[tokio::test]
    async fn whoever_is_kept_out_by_now_ends_as_they_come() {
        let (access, connections) = node();
        // It was verified, and then it was blocked, and then it comes.
        let holder = ada(None);
        block(&access).await;
        let stay = connections.park(ConnectionId(1), holder);
        assert!(stay.ended().now_or_never().is_some());
        assert_eq!(reason(&stay), Some(CloseReason::Forbidden));
    }

    #[tokio::test]
    async fn nobody_is_answered_between_a_block_and_its_sweep() {
        let (access, connections) = node();
        let stay = connections.park(ConnectionId(1), ada(None));
        assert_eq!(reason(&stay), None);
        block(&access).await;
        assert!(stay.ended().now_or_never().is_none(), "nobody swept yet");
        assert_eq!(reason(&stay), Some(CloseReason::Forbidden));
        assert_eq!((connections.sweep().await, connections.sweep().await), (1, 0));
        assert!(stay.ended().now_or_never().is_some());
        drop(stay);
        assert_eq!(connections.n_waiting(), 0);
    }

    #[tokio::test]
    async fn a_request_waits_no_longer_than_its_token_holds() {
        let (_, connections) = node();
        let far = clock::instant(clock::monotonic() + Duration::from_secs(3600));
        let stay = connections.park(ConnectionId(1), ada(Some(clock::wall().0 + 10_000)));
        let near = clock::instant(clock::monotonic() + Duration::from_secs(11));
        assert!(stay.until(far) < near && reason(&stay).is_none());
        let over = connections.park(ConnectionId(2), ada(Some(clock::wall().0)));
        assert_eq!(reason(&over), Some(CloseReason::Unauthenticated));
        assert_eq!(connections.park(ConnectionId(3), ada(None)).until(far), far);
    }
}
