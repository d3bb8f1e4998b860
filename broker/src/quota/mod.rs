//! What one address, one user and one connection may take of this node: how many connections, how fast they come, how much they publish.
//!
//! What is counted is counted on this node alone. A cluster of three nodes lets a user have three times as many connections; in return nothing
//! here waits for another machine.
//!
//! Addresses of IPv6 count by their first 64 bits: whoever has one has all addresses behind them. Whoever has no name is no user, and is
//! bound by address and connection only.

mod table;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::auth;
use crate::clock;
use crate::config::settings::Limits;
use crate::limits::QUOTA_RETRY;
use crate::metrics::{METRICS, Refusal};
use crate::pace::Pace;

pub use table::Hold;
use table::{Key, Table};

/// Counts, and says no. One for each node.
#[derive(Debug)]
pub struct Quotas {
    limits: watch::Sender<Limits>,
    table: Arc<Table>,
}

/// Something that one of the limits does not allow now. It was counted by its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// Which limit.
    pub reason: Refusal,
    /// When it may be allowed.
    pub retry_after: Duration,
    text: &'static str,
}

/// The place of a connection on this node, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    _place: OwnedSemaphorePermit,
    /// Among those of its address. `None` where the connection is a proxy's, which carries those of many.
    address: Option<Hold>,
}

/// What a connection published of late.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter {
    messages: Pace,
    bytes: Pace,
}

impl Quotas {
    /// Counts from nothing, with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits: watch::Sender::new(limits), table: Arc::default() }
    }

    /// Lets these limits hold for whatever comes from now on. What is there stays, also where it is more.
    pub fn set(&self, limits: Limits) {
        self.limits.send_replace(limits);
    }

    /// The limits that hold, as they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Limits> {
        self.limits.subscribe()
    }

    /// A connection of this address, as long as the answer is kept.
    ///
    /// # Errors
    /// They come too fast, or there are too many.
    pub fn enter_address(&self, address: IpAddr) -> Result<Hold, Refused> {
        let (rate, n_max) = {
            let limits = self.limits.borrow();
            (limits.connect_rate_per_address, limits.connections_per_address)
        };
        let key = Key::Address(network_of(address));
        if let Some(rate) = rate {
            let pause = self.table.pace(&key, |entry, now| entry.connects.take_amount(1, rate.into(), now));
            if let Err(pause) = pause {
                return Err(refused(
                    Refusal::AddressConnectRate,
                    pause,
                    "connections of this address come too fast",
                ));
            }
        }
        let text = "this address has as many connections as one may have";
        let n_max = n_max.map_or(usize::MAX, |n_max| n_max as usize);
        self.table.hold(key, n_max).ok_or_else(|| refused(Refusal::AddressConnections, QUOTA_RETRY, text))
    }

    /// A session of this user, as long as the answer is kept; `None` for whoever has no name. Of the settings' limit and the credential's
    /// own, the smaller one holds.
    ///
    /// # Errors
    /// There are too many.
    pub fn enter_user(&self, subject: &str, own: &auth::Limits) -> Result<Option<Hold>, Refused> {
        if subject.is_empty() {
            return Ok(None);
        }
        let of_all = self.limits.borrow().connections_per_user.map_or(usize::MAX, |n_max| n_max as usize);
        let n_max = of_all.min(own.connections.unwrap_or(usize::MAX));
        let text = "this user has as many connections as one may have";
        let held = self.table.hold(Key::User(subject.into()), n_max);
        held.map(Some).ok_or_else(|| refused(Refusal::UserConnections, QUOTA_RETRY, text))
    }

    /// A message of this user, whatever it comes by.
    ///
    /// # Errors
    /// The user publishes too fast, by messages or by bytes.
    pub fn publish_by_user(&self, subject: &str, n_bytes: usize) -> Result<(), Refused> {
        let (rate, bytes) = {
            let limits = self.limits.borrow();
            (limits.publish_rate_per_user, limits.publish_bytes_per_user)
        };
        if subject.is_empty() || (rate.is_none() && bytes.is_none()) {
            return Ok(());
        }
        let key = Key::User(subject.into());
        if let Some(rate) = rate {
            let pause = self.table.pace(&key, |entry, now| entry.messages.take_amount(1, rate.into(), now));
            pause.map_err(|pause| {
                refused(Refusal::UserPublishRate, pause, "this user publishes too many messages")
            })?;
        }
        if let Some(bytes) = bytes {
            let amount = n_bytes as u64;
            let pause =
                self.table.pace(&key, |entry, now| entry.bytes.take_amount(amount, bytes.as_u64(), now));
            pause.map_err(|pause| {
                refused(Refusal::UserPublishBytes, pause, "this user publishes too many bytes")
            })?;
        }
        Ok(())
    }

    /// A message on a connection. Of the settings' limits and the credential's own, the smaller ones hold.
    ///
    /// # Errors
    /// The connection publishes too fast, by messages or by bytes, or the message is longer than its credential allows.
    pub fn publish_on(&self, meter: &mut Meter, own: &auth::Limits, n_bytes: usize) -> Result<(), Error> {
        check_size(own, n_bytes)?;
        let (rate, bytes) = {
            let limits = self.limits.borrow();
            let bytes = limits.publish_bytes_per_connection.map(crate::config::ByteSize::as_u64);
            (
                smaller(limits.publish_rate_per_connection, own.publishes_per_second),
                smaller(bytes, own.bytes_per_second),
            )
        };
        let now = clock::monotonic();
        if let Some(rate) = rate {
            let pause = meter.messages.take_amount(1, rate.into(), now);
            pause.map_err(|pause| {
                refused(Refusal::ConnectionPublishRate, pause, "this connection publishes too many messages")
            })?;
        }
        if let Some(bytes) = bytes {
            let pause = meter.bytes.take_amount(n_bytes as u64, bytes, now);
            pause.map_err(|pause| {
                refused(Refusal::ConnectionPublishBytes, pause, "this connection publishes too many bytes")
            })?;
        }
        Ok(())
    }
}

impl Seat {
    /// The place of a connection of which no address is known yet.
    #[must_use]
    pub const fn new(place: OwnedSemaphorePermit) -> Self {
        Self { _place: place, address: None }
    }

    /// The same among the connections of an address, unless it is among those of one already.
    ///
    /// # Errors
    /// As [`Quotas::enter_address`].
    pub fn at(mut self, quotas: &Quotas, address: IpAddr) -> Result<Self, Refused> {
        if self.address.is_none() {
            self.address = Some(quotas.enter_address(address)?);
        }
        Ok(self)
    }
}

/// Refuses a message that is longer than its publisher's credential allows.
///
/// # Errors
/// `too_large`.
pub fn check_size(own: &auth::Limits, n_bytes: usize) -> Result<(), Error> {
    match own.message_bytes {
        Some(max) if n_bytes > max => {
            METRICS.count_refused(Refusal::MessageBytes);
            Err(Error::new(ErrorCode::TooLarge, format!("a message of this token has at most {max} bytes")))
        }
        _ => Ok(()),
    }
}

impl Refused {
    /// Milliseconds until it may be allowed, never none.
    #[must_use]
    pub fn retry_after_ms(&self) -> u64 {
        u64::try_from(self.retry_after.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Why a session ends before it begins.
    #[must_use]
    pub fn goodbye(&self) -> Goodbye {
        let retry_after_ms = Some(self.retry_after_ms());
        Goodbye { retry_after_ms, ..Goodbye::new(CloseReason::Overloaded, self.text) }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let code = match refused.reason {
            Refusal::AddressConnections | Refusal::UserConnections => ErrorCode::TooMany,
            _ => ErrorCode::RateLimited,
        };
        Self::new(code, refused.text).retry_after(refused.retry_after_ms())
    }
}

/// Counts what is refused.
pub(crate) fn refused(reason: Refusal, retry_after: Duration, text: &'static str) -> Refused {
    METRICS.count_refused(reason);
    Refused { reason, retry_after, text }
}

fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What counts as one address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn quotas(change: impl FnOnce(&mut Limits)) -> Quotas {
        let mut limits = Settings::default().limits;
        change(&mut limits);
        Quotas::new(limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn an_address_has_so_many_connections_and_gets_room_as_they_end() {
        let quotas = quotas(|limits| limits.connections_per_address = Some(2));
        let first = quotas.enter_address(ip("192.0.2.1")).expect("there is room");
        let _second = quotas.enter_address(ip("::ffff:192.0.2.1")).expect("there is room");
        let refused = quotas.enter_address(ip("192.0.2.1")).expect_err("it has two");
        assert_eq!(refused.reason, Refusal::AddressConnections);
        assert!(quotas.enter_address(ip("192.0.2.2")).is_ok());
        drop(first);
        let third = quotas.enter_address(ip("192.0.2.1")).expect("one ended");
        // What is there stays where the limit is lowered, and none comes.
        let limits = Limits { connections_per_address: Some(1), ..quotas.watch().borrow().clone() };
        quotas.set(limits);
        drop(third);
        assert!(quotas.enter_address(ip("192.0.2.1")).is_err());
    }

    #[tokio::test]
    async fn addresses_of_ipv6_count_by_their_network() {
        let quotas = quotas(|limits| limits.connections_per_address = Some(1));
        let _one = quotas.enter_address(ip("2001:db8:0:1::1")).expect("there is room");
        assert!(quotas.enter_address(ip("2001:db8:0:1:ffff::2")).is_err());
        assert!(quotas.enter_address(ip("2001:db8:0:2::1")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_an_address_come_at_its_rate() {
        let quotas = quotas(|limits| limits.connect_rate_per_address = Some(3));
        let n_taken = (0..10).filter(|_| quotas.enter_address(ip("192.0.2.1")).is_ok()).count();
        assert_eq!(n_taken, 3);
        assert!(quotas.enter_address(ip("192.0.2.2")).is_ok(), "others are not concerned");
        tokio::time::advance(Duration::from_millis(400)).await;
        assert!(quotas.enter_address(ip("192.0.2.1")).is_ok());
        assert!(quotas.enter_address(ip("192.0.2.1")).is_err());
    }

    #[tokio::test]
    async fn of_two_limits_for_a_user_the_smaller_holds() {
        let quotas = quotas(|limits| limits.connections_per_user = Some(2));
        let own = |connections| auth::Limits { connections, ..auth::Limits::default() };
        let _one = quotas.enter_user("ada", &own(Some(5))).expect("there is room");
        assert!(quotas.enter_user("ada", &own(Some(1))).is_err());
        let _two = quotas.enter_user("ada", &own(None)).expect("there is room");
        assert!(quotas.enter_user("ada", &own(Some(5))).is_err());
        // Nobody is no user.
        let nobody: Vec<_> = (0..5).map(|_| quotas.enter_user("", &own(Some(1)))).collect();
        assert!(nobody.iter().all(|entered| matches!(entered, Ok(None))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_and_a_connection_publish_at_their_rates() {
        let quotas = quotas(|limits| {
            limits.publish_rate_per_user = Some(4);
            limits.publish_rate_per_connection = Some(3);
        });
        let (mut one, mut other) = (Meter::default(), Meter::default());
        let none = auth::Limits::default();
        let n_on = |meter: &mut Meter, own: &auth::Limits| {
            (0..9).filter(|_| quotas.publish_on(meter, own, 1).is_ok()).count()
        };
        assert_eq!(n_on(&mut one, &none), 3);
        assert_eq!(n_on(&mut other, &auth::Limits { publishes_per_second: Some(2), ..none }), 2);
        assert_eq!((0..9).filter(|_| quotas.publish_by_user("ada", 1).is_ok()).count(), 4);
        assert_eq!((0..9).filter(|_| quotas.publish_by_user("bob", 1).is_ok()).count(), 4);
        let error: Error = quotas.publish_by_user("ada", 1).expect_err("it is too fast").into();
        assert_eq!((error.code, error.retry_after_ms), (ErrorCode::RateLimited, Some(250)));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_have_a_rate_and_a_long_message_waits_until_nothing_else_was_sent() {
        let quotas = quotas(|_| {});
        let own = auth::Limits {
            bytes_per_second: Some(1000),
            message_bytes: Some(3000),
            ..auth::Limits::default()
        };
        let mut meter = Meter::default();
        assert!(quotas.publish_on(&mut meter, &own, 600).is_ok());
        assert!(quotas.publish_on(&mut meter, &own, 600).is_err());
        assert!(quotas.publish_on(&mut meter, &own, 400).is_ok());
        let error = quotas.publish_on(&mut meter, &own, 3001).expect_err("it is too long");
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert!(quotas.publish_on(&mut meter, &own, 2500).is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(quotas.publish_on(&mut meter, &own, 2500).is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(quotas.publish_on(&mut meter, &own, 1).is_err());
    }
}
