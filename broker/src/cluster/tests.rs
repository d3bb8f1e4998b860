//! What the scripts promise where nodes rarely get: between two steps of another node that died.

use std::time::{Duration, Instant};

use bongsu_protocol::event::Member;
use bongsu_protocol::message::Time;
use bongsu_protocol::topic::Topic;
use bongsu_testkit::Redis;
use bytes::Bytes;

use super::registry::{Change, Dead, Outcome, Registry};
use super::{Error, Identity, Registration};
use crate::bus;
use crate::config::{ServerUrl, Settings};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const LEASE: Duration = Duration::from_secs(2);

/// A node as far as the registry sees it: it does what the test says, and renews nothing.
struct Peer {
    registry: Registry,
    registration: Registration,
    /// Keeps the way to Redis open.
    _joined: bus::Joined,
}

impl Peer {
    async fn join(name: &str, redis: &Redis) -> Self {
        let mut settings = Settings::default();
        settings.redis.url = ServerUrl::parse(&redis.url());
        let joined = bus::connect(&settings).unwrap().unwrap();
        let registry = Registry::new(joined.commands.clone(), LEASE);
        let identity = Identity {
            name: name.to_owned(),
            started_ms: 1,
            address: "127.0.0.1:1".to_owned(),
            version: "1".to_owned(),
            peer_url: None,
        };
        let begun = Instant::now();
        let registration = loop {
            match registry.register(&identity, None).await {
                Ok(registration) => break registration,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(LEASE / 100).await;
        };
        Self { registry, registration, _joined: joined }
    }

    async fn apply(&self, change: Change) -> Result<Vec<Outcome>, Error> {
        self.registry.apply(&self.registration, &[change], 100).await
    }

    /// Renews until it is given a dead node to take away.
    async fn claim(&self) -> Dead {
        self.claim_beside(&[]).await
    }

    /// As [`claim`](Self::claim), while others live.
    async fn claim_beside(&self, others: &[&Self]) -> Dead {
        let begun = Instant::now();
        loop {
            for peer in others.iter().chain(&[self]) {
                peer.registry.renew(&peer.registration).await.unwrap();
            }
            if let Some(dead) = self.registry.claim(&self.registration).await.unwrap().pop() {
                return dead;
            }
            assert!(begun.elapsed() < PATIENCE, "there is no dead node to take away");
            tokio::time::sleep(LEASE / 20).await;
        }
    }

    async fn members(&self) -> Vec<String> {
        let listing = self.registry.members(&self.registration, &room()).await.unwrap();
        assert_eq!(listing.total, listing.members.len() as u64);
        listing.members.into_iter().map(|member| member.session).collect()
    }
}

fn room() -> Topic {
    Topic::parse("room").unwrap()
}

fn enter(session: &str) -> Change {
    let member = Member {
        session: session.to_owned(),
        subject: "ada".to_owned(),
        info: Bytes::from_static(b"{}"),
        since: Time(1),
    };
    Change::Enter { topic: room(), member, is_promised: false }
}

fn leave(session: &str) -> Change {
    Change::Leave { topic: room(), session: session.to_owned() }
}

#[tokio::test]
async fn each_change_is_news_once() {
    let redis = Redis::start();
    let a = Peer::join("a", &redis).await;
    for (change, outcome) in [
        (enter("s"), Outcome::Joined),
        (enter("s"), Outcome::Same),
        (leave("s"), Outcome::Left),
        (leave("s"), Outcome::Absent),
    ] {
        assert_eq!(a.apply(change).await, Ok(vec![outcome]));
    }
}

#[tokio::test]
async fn node_that_dies_while_it_takes_another_away_is_followed_by_the_next() {
    let redis = Redis::start();
    let (dying, reaper, next) = (
        Peer::join("dying", &redis).await,
        Peer::join("reaper", &redis).await,
        Peer::join("next", &redis).await,
    );
    dying.apply(enter("told")).await.unwrap();
    let left = async |peer: &Peer, dead: &Dead| peer.registry.reap(&peer.registration, dead).await;
    // The first one takes the member away, and dies before it tells of it.
    let dead = reaper.claim_beside(&[&next]).await;
    let leaving = vec![(room(), "told".to_owned())];
    assert_eq!(left(&reaper, &dead).await, Ok(leaving.clone()));
    assert_eq!(next.members().await, Vec::<String>::new());
    assert_eq!(next.registry.claim(&next.registration).await, Ok(vec![]), "it is taken care of");

    let again = loop {
        let claimed = next.claim().await;
        if claimed == dead {
            break claimed;
        }
    };
    assert_eq!(left(&next, &again).await, Ok(leaving.clone()), "it is still to be told");
    assert_eq!(left(&reaper, &dead).await, Ok(leaving.clone()), "which may be said to be so");
    let too_late = reaper.registry.settle(&reaper.registration, &dead, &leaving).await;
    assert_eq!(too_late, Err(Error::Lapsed), "but not done by one that lost its claim");
    assert_eq!(next.registry.settle(&next.registration, &again, &leaving).await, Ok(vec![]));
    assert_eq!(left(&next, &again).await, Ok(vec![]));
    assert_eq!(next.registry.bury(&next.registration, &again).await, Ok(()));
}

#[tokio::test]
async fn member_that_came_back_before_its_leave_was_told_is_named() {
    let redis = Redis::start();
    let (frozen, reaper) = (Peer::join("frozen", &redis).await, Peer::join("reaper", &redis).await);
    frozen.apply(enter("s")).await.unwrap();
    let dead = reaper.claim().await;
    let leaving = reaper.registry.reap(&reaper.registration, &dead).await.unwrap();
    assert_eq!(frozen.apply(leave("s")).await, Err(Error::Lapsed), "a dead node writes nothing");
    let back = Peer::join("frozen", &redis).await;
    assert_eq!(back.apply(enter("s")).await, Ok(vec![Outcome::Joined]));
    let settled = reaper.registry.settle(&reaper.registration, &dead, &leaving).await.unwrap();
    assert_eq!(settled.len(), 1, "its join is to be told after the leave");
    assert_eq!((&settled[0].0, &*settled[0].1.session), (&room(), "s"));
    assert_eq!(reaper.members().await, ["s"]);
}

#[tokio::test]
async fn member_that_was_taken_over_stays() {
    let redis = Redis::start();
    let (frozen, reaper) = (Peer::join("frozen", &redis).await, Peer::join("reaper", &redis).await);
    frozen.apply(enter("s")).await.unwrap();
    let dead = reaper.claim().await;
    let back = Peer::join("frozen", &redis).await;
    assert_eq!(back.apply(enter("s")).await, Ok(vec![Outcome::Same]), "nobody heard that it left");
    assert_eq!(reaper.registry.reap(&reaper.registration, &dead).await, Ok(vec![]));
    assert_eq!(reaper.registry.bury(&reaper.registration, &dead).await, Ok(()));
    assert_eq!(reaper.members().await, ["s"]);
}

#[tokio::test]
async fn write_that_arrives_late_changes_nothing() {
    let redis = Redis::start();
    let a = Peer::join("a", &redis).await;
    // The same registration as it was before the writes below: what it sends was on its way for long.
    let late = Registration::new(a.registration.id.clone(), a.registration.era.clone());
    a.apply(enter("s")).await.unwrap();
    a.apply(leave("s")).await.unwrap();
    let arrived = a.registry.apply(&late, &[enter("s")], 100).await;
    assert!(arrived.is_err(), "{arrived:?}");
    assert_eq!(a.members().await, Vec::<String>::new());
}
