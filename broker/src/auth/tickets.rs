//! One-time connect tickets: what a client puts into a URL in the place of its token, which others could read there and use for longer.
//!
//! ```text
//!   mint ─────▶ append to $tickets: identity, digest of a secret, end      ticket = place in the log, secret
//!   redeem ───▶ read that place, compare the secret
//!          └──▶ append "used", with an id made of the place: the store takes an id once ──▶ the first is let in, all others are not
//! ```
//!
//! Which of two nodes comes first is decided by the store, as it decides it of any two messages with the same id; so a ticket is good once
//! in the whole cluster, whatever store that has, and nothing has to be elected, locked or told.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_persistence::store::{Append, Appended, Error as StoreError, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::session::Grants;
use bongsu_protocol::topic::{Topic, TopicFilter};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::refused::Refused;
use super::{Identity, Limits};
use crate::limits::{STORE_DEADLINE, TICKET_GUARD, TICKET_LIFETIME, TICKETS_REDEEMED_MAX};
use crate::metrics::{METRICS, TokenRefusal};
use crate::{chance, clock};

/// The log of tickets. Nobody reads it but this module: a subscription to it needs a grant that names it.
static LOG: LazyLock<Topic> =
    LazyLock::new(|| Topic::parse("$tickets").expect("it has no character that a topic lacks"));

/// What every ticket begins with.
const PREFIX: &str = "ticket-";

/// Makes tickets, and lets each be used once.
pub(super) struct Tickets {
    store: Arc<dyn Store>,
    /// Who redeems: each asks the store twice, and whoever guesses tickets must not keep it from others.
    places: Semaphore,
}

/// A ticket that was made.
#[derive(Debug)]
pub struct Ticket {
    /// What the client shows.
    pub text: String,
    /// Until when, by the node's clock.
    pub expires_at: Time,
}

/// What is kept of a ticket.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// SHA-256 of the secret, base64url.
    digest: String,
    until: u64,
    subject: String,
    subscribe: Vec<String>,
    history: Vec<String>,
    publish: Vec<String>,
    presence: Vec<String>,
    token_id: Option<String>,
    issued_at: Option<u64>,
    expires_at: Option<u64>,
    connections: Option<usize>,
    subscriptions: Option<usize>,
    publishes_per_second: Option<u32>,
    bytes_per_second: Option<u64>,
    message_bytes: Option<usize>,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// Whether a token is a ticket, or wants to be one.
pub(super) fn is_meant(token: &str) -> bool {
    token.starts_with(PREFIX)
}

impl Tickets {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, places: Semaphore::new(TICKETS_REDEEMED_MAX) }
    }

    /// Makes a ticket for somebody.
    pub(super) async fn mint(&self, identity: &Identity) -> Result<Ticket, Refused> {
        let secret = URL_SAFE_NO_PAD.encode(chance::secret());
        let expires_at = Time(clock::wall().0 + TICKET_LIFETIME.as_millis() as u64);
        let payload = serde_json::to_vec(&Kept::new(identity, &secret, expires_at));
        let payload = payload.map_err(|_| unavailable())?.into();
        let message = Message { payload, content_type: "application/json".to_owned(), ..Message::default() };
        match self.append(message).await? {
            Appended::Stored(delivery) => {
                let Position { epoch, offset } = delivery.position.unwrap_or_default();
                METRICS.tickets_made.add(1);
                let text = format!("{PREFIX}{:x}-{:x}-{secret}", epoch.0, offset.0);
                Ok(Ticket { text, expires_at })
            }
            Appended::Duplicate(_) | Appended::Conflict { .. } => Err(unavailable()),
        }
    }

    /// Whose ticket it is, to the first who asks.
    pub(super) async fn redeem(&self, ticket: &str) -> Result<Identity, Refused> {
        let (place, secret) = parse(ticket).ok_or_else(unknown)?;
        let Ok(_place) = self.places.acquire().await else { return Err(unavailable()) };
        let kept = self.read(place).await?.ok_or_else(unknown)?;
        if !bool::from(kept.digest.as_bytes().ct_eq(digest(secret).as_bytes())) {
            return Err(unknown());
        }
        if kept.until <= clock::wall().0 {
            return Err(refused("this ticket has expired: get a new one"));
        }
        let id = format!("used-{:x}-{:x}", place.epoch.0, place.offset.0);
        let used = Message { id, content_type: "text/plain".to_owned(), ..Message::default() };
        match self.append(used).await? {
            Appended::Stored(_) => kept.identity().ok_or_else(unknown),
            Appended::Duplicate(_) => Err(refused("this ticket was used before: get a new one")),
            Appended::Conflict { .. } => Err(unavailable()),
        }
    }

    async fn read(&self, place: Position) -> Result<Option<Kept>, Refused> {
        let before = Position { offset: Offset(place.offset.0.saturating_sub(1)), ..place };
        let range = HistoryRange::Forward(Start::After(before));
        let read = self.store.read(HistoryQuery { topic: LOG.clone(), range, limit: 1 });
        let page = in_time(read).await?;
        let found = page.messages.first().filter(|delivery| delivery.position == Some(place));
        Ok(found.and_then(|delivery| serde_json::from_slice(&delivery.message.payload).ok()))
    }

    async fn append(&self, message: Message) -> Result<Appended, Refused> {
        let append = Append {
            message: NewMessage { topic: LOG.clone(), message, expect: None },
            publisher: String::new(),
            time: clock::wall(),
            idempotency_window: TICKET_GUARD,
        };
        in_time(self.store.append(vec![append])).await?.pop().ok_or_else(unavailable)
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refused> {
    match tokio::time::timeout(STORE_DEADLINE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(unavailable()),
    }
}

/// The place and the secret that a ticket says.
fn parse(ticket: &str) -> Option<(Position, &str)> {
    // The secret is base64url, which has the separator in it.
    let mut parts = ticket.strip_prefix(PREFIX)?.splitn(3, '-');
    let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|number| *number > 0);
    let (epoch, offset) = (number(parts.next()?)?, number(parts.next()?)?);
    Some((Position { epoch: Epoch(epoch), offset: Offset(offset) }, parts.next()?))
}

fn digest(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret))
}

fn refused(text: &'static str) -> Refused {
    Refused::new(TokenRefusal::Ticket, text)
}

fn unknown() -> Refused {
    refused("this ticket is not known here")
}

fn unavailable() -> Refused {
    Refused::new(TokenRefusal::KeysUnavailable, "tickets cannot be looked up just now")
}

impl Kept {
    fn new(identity: &Identity, secret: &str, until: Time) -> Self {
        let texts =
            |filters: &[TopicFilter]| filters.iter().map(|filter| filter.as_str().to_owned()).collect();
        let Grants { subject, subscribe, history, publish, presence } = &*identity.grants;
        let Limits { connections, subscriptions, publishes_per_second, bytes_per_second, message_bytes } =
            identity.limits;
        Self {
            digest: digest(secret),
            until: until.0,
            subject: subject.clone(),
            subscribe: texts(subscribe),
            history: texts(history),
            publish: texts(publish),
            presence: texts(presence),
            token_id: identity.token_id.as_deref().map(str::to_owned),
            issued_at: identity.issued_at.map(|time| time.0),
            expires_at: identity.expires_at.map(|time| time.0),
            connections,
            subscriptions,
            publishes_per_second,
            bytes_per_second,
            message_bytes,
        }
    }

    /// `None`: a later version of the broker wrote it.
    fn identity(self) -> Option<Identity> {
        let filters = |texts: Vec<String>| {
            texts.iter().map(|text| TopicFilter::parse(text).ok()).collect::<Option<Vec<_>>>()
        };
        let grants = Grants {
            subject: self.subject,
            subscribe: filters(self.subscribe)?,
            history: filters(self.history)?,
            publish: filters(self.publish)?,
            presence: filters(self.presence)?,
        };
        Some(Identity {
            grants: Arc::new(grants),
            token_id: self.token_id.map(Arc::from),
            issued_at: self.issued_at.map(Time),
            expires_at: self.expires_at.map(Time),
            limits: Limits {
                connections: self.connections,
                subscriptions: self.subscriptions,
                publishes_per_second: self.publishes_per_second,
                bytes_per_second: self.bytes_per_second,
                message_bytes: self.message_bytes,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use bongsu_persistence::memory::MemoryStore;

    use super::*;

    fn ann() -> Identity {
        let filter = |text: &str| TopicFilter::parse(text).into_iter().collect::<Vec<_>>();
        let grants = Grants {
            subject: "ann".to_owned(),
            subscribe: filter("a/#"),
            history: filter("b/+"),
            publish: filter("c"),
            presence: filter("d"),
        };
        let limits = Limits { publishes_per_second: Some(7), ..Limits::default() };
        let (issued_at, expires_at) = (Some(Time(1)), Some(Time(2)));
        Identity { grants: Arc::new(grants), token_id: Some("t".into()), issued_at, expires_at, limits }
    }

    /// Two nodes over one store.
    fn nodes() -> (Tickets, Tickets) {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        (Tickets::new(Arc::clone(&store)), Tickets::new(store))
    }

    #[tokio::test]
    async fn a_ticket_is_good_once_on_any_node() {
        let (here, there) = nodes();
        let ticket = here.mint(&ann()).await.expect("a ticket").text;
        assert_eq!(there.redeem(&ticket).await, Ok(ann()), "everything of the identity is kept");
        for node in [&here, &there] {
            assert_eq!(node.redeem(&ticket).await.map_err(|refused| refused.why), Err(TokenRefusal::Ticket));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_who_use_a_ticket_at_the_same_time_exactly_one_is_let_in() {
        let (here, there) = nodes();
        let nodes = [Arc::new(here), Arc::new(there)];
        for _ in 0..50 {
            let ticket = nodes[0].mint(&ann()).await.expect("a ticket").text;
            let redeem = |idx: usize| {
                let (node, ticket) = (Arc::clone(&nodes[idx % 2]), ticket.clone());
                tokio::spawn(async move { node.redeem(&ticket).await.is_ok() })
            };
            let attempts: Vec<_> = (0..8).map(redeem).collect();
            let mut n_let_in = 0;
            for attempt in attempts {
                n_let_in += usize::from(attempt.await.expect("it ends"));
            }
            assert_eq!(n_let_in, 1);
        }
    }

    #[tokio::test]
    async fn what_is_no_ticket_is_refused() {
        let (node, _) = nodes();
        let ticket = node.mint(&ann()).await.expect("a ticket").text;
        let (head, secret) = ticket.split_at(ticket.len() - 43);
        let other = node.mint(&ann()).await.expect("a ticket").text;
        for bad in [
            format!("{head}{}", "A".repeat(43)),
            head.to_owned(),
            format!("{PREFIX}{secret}"),
            format!("{PREFIX}0-0-{secret}"),
            format!("{PREFIX}1-ffffffffffffffff-{secret}"),
            format!("{}{secret}", &other[..other.len() - 43]),
            PREFIX.to_owned(),
        ] {
            assert_eq!(
                node.redeem(&bad).await.map_err(|refused| refused.why),
                Err(TokenRefusal::Ticket),
                "{bad}"
            );
        }
        // What says that a ticket was used is none.
        assert!(node.redeem(&ticket).await.is_ok());
        let used = format!("{PREFIX}1-3-{secret}");
        assert!(node.redeem(&used).await.is_err());
    }
}
