//! What the cluster's nodes hold in common, one call at a time.
//!
//! Every call is one script and so one step, has the deadline of a call to Redis, and may fail with its outcome unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::event::Member;
use bongsu_protocol::limits::MEMBERS_MAX;
use bongsu_protocol::topic::Topic;
use redis::{FromRedisValue, Value};

use super::entry::{parse_place, parse_value, place, rest_of};
use super::keys::{Keys, of_topic};
use super::membership::Registration;
use super::{Error, Identity, Peer, scripts};
use crate::bus::{
    self,
    redis::{Commands, Script},
};
use crate::chance;
use crate::limits::{NODES_MAX, REAP_STEP_MAX, REAPED_AT_ONCE_MAX};

/// The registry of a cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(super) commands: Commands,
    pub(super) keys: Arc<Keys>,
    lease: Duration,
}

/// A membership that is to be brought to what this node says.
#[derive(Debug, Clone)]
pub enum Change {
    /// The session is a member.
    Enter {
        /// Where.
        topic: Topic,
        /// As whom.
        member: Member,
        /// It was told already that it is: the bound on members does not hold for it.
        is_promised: bool,
    },
    /// The session is no member.
    Leave {
        /// Where.
        topic: Topic,
        /// Which session.
        session: String,
    },
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was no member and is one.
    Joined,
    /// It shows something else.
    Changed,
    /// It was this member already.
    Same,
    /// The topic has as many members as it may have.
    Full,
    /// It was a member and is none.
    Left,
    /// It was none.
    Absent,
}

/// Who is present on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Those longest present, at most [`MEMBERS_MAX`].
    pub members: Vec<Member>,
    /// How many there are.
    pub total: u64,
}

/// A dead node that this one takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Its registration.
    pub registration: String,
}

impl Registry {
    pub(super) fn new(commands: Commands, lease: Duration) -> Self {
        let keys = Arc::new(Keys::new(commands.prefix()));
        Self { commands, keys, lease }
    }

    /// How long a registration lasts without being renewed.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// Begins a registration that follows on an earlier one of this process, if there is one.
    pub(super) async fn register(
        &self,
        identity: &Identity,
        earlier: Option<&Registration>,
    ) -> Result<Registration, Error> {
        let unique = chance::range(0..=u64::MAX);
        let id = format!("{}/{:x}/{unique:x}", identity.name, identity.started_ms);
        let record = serde_json::to_vec(identity).map_err(|error| unexpected(&error))?;
        let keys = &self.keys;
        let era = self
            .script(
                &scripts::REGISTER,
                &[&keys.leases, &keys.nodes, &keys.versions, &keys.era],
                &[
                    id.as_bytes(),
                    &record,
                    self.lease_ms().as_bytes(),
                    earlier.map_or("", |earlier| &earlier.id).as_bytes(),
                    earlier.map_or("", |earlier| &earlier.era).as_bytes(),
                    format!("{unique:x}").as_bytes(),
                ],
            )
            .await?;
        Ok(Registration::new(id, take(era)?))
    }

    /// Renews the lease.
    pub(super) async fn renew(&self, registration: &Registration) -> Result<(), Error> {
        let written = registration.written().to_string();
        let keys = &self.keys;
        let answer = self
            .script(
                &scripts::RENEW,
                &[&keys.leases, &keys.versions, &keys.era],
                &[registration.id.as_bytes(), self.lease_ms().as_bytes(), written.as_bytes()],
            )
            .await?;
        match take::<String>(answer)?.as_str() {
            "renewed" => Ok(()),
            _ => Err(Error::Lapsed),
        }
    }

    /// Ends the registration.
    pub(super) async fn leave(&self, registration: &Registration) -> Result<(), Error> {
        let held = self.keys.held(&registration.id);
        let keys = &self.keys;
        let keys = [&*keys.leases, &keys.nodes, &keys.versions, &keys.dead, &held];
        self.script(&scripts::LEAVE, &keys, &[registration.id.as_bytes()]).await?;
        Ok(())
    }

    /// The nodes that hold a lease, by name; at most [`NODES_MAX`].
    pub(super) async fn nodes(&self) -> Result<Vec<Peer>, Error> {
        let limit = NODES_MAX.to_string();
        let answer =
            self.script(&scripts::NODES, &[&self.keys.leases, &self.keys.nodes], &[limit.as_bytes()]).await?;
        let rows: Vec<(String, Vec<u8>, i64)> = take(answer)?;
        // A node that registered again has two for a while; the longest lease is the one that it renews.
        let mut nodes: HashMap<(String, u64), Peer> = HashMap::new();
        for (_registration, record, left_ms) in rows {
            // A record of a later version may say more, and one that cannot be read says nothing.
            let Ok(identity) = serde_json::from_slice::<Identity>(&record) else { continue };
            let lease_left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
            let key = (identity.name.clone(), identity.started_ms);
            let peer = nodes.entry(key).or_insert(Peer { identity, lease_left });
            peer.lease_left = peer.lease_left.max(lease_left);
        }
        let mut nodes: Vec<Peer> = nodes.into_values().collect();
        nodes.sort_by(|one, other| {
            let key = |peer: &Peer| (peer.identity.name.clone(), peer.identity.started_ms);
            key(one).cmp(&key(other))
        });
        Ok(nodes)
    }

    /// Brings memberships to what this node says, all in one step, and tells what came of each. To be called by one task only, with
    /// the next changes after the answer to the last ones. `members_max` bounds a topic's members.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some or all may have been done; say them again. [`Error::Lapsed`]: none was.
    pub async fn apply(
        &self,
        registration: &Registration,
        changes: &[Change],
        members_max: usize,
    ) -> Result<Vec<Outcome>, Error> {
        let version = registration.next_version();
        let held = self.keys.held(&registration.id);
        let mut topics = Vec::with_capacity(changes.len() * 2);
        let mut arguments = vec![
            registration.id.clone().into_bytes(),
            registration.written().to_string().into_bytes(),
            version.to_string().into_bytes(),
            members_max.to_string().into_bytes(),
        ];
        for change in changes {
            topics.extend(of_topic(&self.keys, change.topic()));
            arguments.extend(change.arguments());
        }
        let mut keys: Vec<&str> = vec![&self.keys.leases, &self.keys.versions, &held];
        keys.extend(topics.iter().map(String::as_str));
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let answer: Vec<String> = take(self.script(&scripts::APPLY, &keys, &arguments).await?)?;
        let words = match answer.split_first() {
            Some((first, words)) if first == "applied" => words,
            Some((first, _)) if first == "lapsed" || first == "behind" => return Err(Error::Lapsed),
            _ => return Err(unexpected(&format!("{answer:?} was not expected"))),
        };
        registration.note_written(version);
        let outcomes: Vec<Outcome> = words.iter().filter_map(|word| Outcome::parse(word)).collect();
        if outcomes.len() != changes.len() {
            return Err(unexpected(&"as many outcomes as changes were expected"));
        }
        Ok(outcomes)
    }

    /// Who is present on a topic, on whatever node. It names everybody whose node had put it into the registry when this was asked.
    ///
    /// # Errors
    /// Any of [`Error`]: then nothing can be said without leaving somebody out.
    pub async fn members(&self, registration: &Registration, topic: &Topic) -> Result<Listing, Error> {
        let [members, order] = of_topic(&self.keys, topic);
        let answer = self
            .script(
                &scripts::MEMBERS,
                &[&self.keys.leases, &self.keys.era, &members, &order],
                &[registration.id.as_bytes(), MEMBERS_MAX.to_string().as_bytes()],
            )
            .await?;
        let mut parts = take::<Vec<Value>>(answer)?.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        match take::<String>(next())?.as_str() {
            "members" => {
                let total = take(next())?;
                let sessions: Vec<String> = take(next())?;
                let values: Vec<Option<Vec<u8>>> = take(next())?;
                let members = sessions.into_iter().zip(values);
                let members = members.filter_map(|(session, value)| parse_value(session, &value?)).collect();
                Ok(Listing { members, total })
            }
            "restoring" => Err(Error::Restoring(Duration::from_millis(take(next())?))),
            _ => Err(Error::Lapsed),
        }
    }

    /// Takes on dead nodes that nobody else sees to. The caller takes them away with the calls below, and is asked to hurry: after
    /// a lease without a step, another node takes them on.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: ask again later.
    pub async fn claim(&self, registration: &Registration) -> Result<Vec<Dead>, Error> {
        let limit = REAPED_AT_ONCE_MAX.to_string();
        let keys = &self.keys;
        let answer = self
            .script(
                &scripts::CLAIM,
                &[&keys.leases, &keys.dead, &keys.reapers, &keys.era],
                &[registration.id.as_bytes(), self.lease_ms().as_bytes(), limit.as_bytes()],
            )
            .await?;
        let claimed: Vec<String> = take(answer)?;
        Ok(claimed.into_iter().map(|registration| Dead { registration }).collect())
    }

    /// Takes some memberships of a dead node away, and names those whose leave is to be told; none: it holds nothing any more.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: go on later. [`Error::Lapsed`]: another node took this on.
    pub async fn reap(
        &self,
        registration: &Registration,
        dead: &Dead,
    ) -> Result<Vec<(Topic, String)>, Error> {
        let held = self.keys.held(&dead.registration);
        let leaving = self.keys.leaving(&dead.registration);
        loop {
            let places = self.some_of(&held).await?;
            if places.is_empty() {
                return self.some_of(&leaving).await;
            }
            let topics: Vec<String> =
                places.iter().flat_map(|(topic, _)| of_topic(&self.keys, topic)).collect();
            let mut keys: Vec<&str> = vec![&self.keys.dead, &self.keys.reapers, &held, &leaving];
            keys.extend(topics.iter().map(String::as_str));
            let answer = self.step(&scripts::REAP, &keys, registration, dead, &places).await?;
            if take::<i64>(answer)? == 0 {
                return Err(Error::Lapsed);
            }
            let leaving = self.some_of(&leaving).await?;
            // None: all of these were taken over by their node, which says nothing about the rest.
            if !leaving.is_empty() {
                return Ok(leaving);
            }
        }
    }

    /// Notes that leaves were told. Names the members that came back in the meantime: their join is to be told after that leave.
    ///
    /// # Errors
    /// As [`reap`](Self::reap).
    pub async fn settle(
        &self,
        registration: &Registration,
        dead: &Dead,
        told: &[(Topic, String)],
    ) -> Result<Vec<(Topic, Member)>, Error> {
        let leaving = self.keys.leaving(&dead.registration);
        let topics: Vec<String> = told.iter().map(|(topic, _)| self.keys.members(topic.as_str())).collect();
        let mut keys: Vec<&str> = vec![&self.keys.dead, &self.keys.reapers, &leaving];
        keys.extend(topics.iter().map(String::as_str));
        let answer = self.step(&scripts::SETTLE, &keys, registration, dead, told).await?;
        let values: Vec<Vec<u8>> = take(answer)?;
        if values.len() != told.len() {
            return Err(Error::Lapsed);
        }
        let back = told.iter().zip(values).filter_map(|((topic, session), value)| {
            Some((topic.clone(), parse_value(session.clone(), &value)?))
        });
        Ok(back.collect())
    }

    /// Forgets a dead node that holds nothing any more.
    ///
    /// # Errors
    /// As [`reap`](Self::reap).
    pub async fn bury(&self, registration: &Registration, dead: &Dead) -> Result<(), Error> {
        let keys = &self.keys;
        let (held, leaving) = (keys.held(&dead.registration), keys.leaving(&dead.registration));
        let keys = [&*keys.dead, &keys.reapers, &keys.nodes, &keys.versions, &held, &leaving];
        let arguments = [registration.id.as_bytes(), dead.registration.as_bytes()];
        let buried = self.script(&scripts::BURY, &keys, &arguments).await?;
        if take::<i64>(buried)? == 0 { Err(Error::Lapsed) } else { Ok(()) }
    }

    /// Some places of a set, in no order.
    async fn some_of(&self, set: &str) -> Result<Vec<(Topic, String)>, Error> {
        let mut command = redis::cmd("SRANDMEMBER");
        command.arg(set).arg(REAP_STEP_MAX);
        let places: Vec<Vec<u8>> = take(self.commands.query(set, &command).await?)?;
        Ok(places.iter().filter_map(|place| parse_place(place)).collect())
    }

    /// A step of taking a dead node away, with places.
    async fn step(
        &self,
        script: &'static Script,
        keys: &[&str],
        registration: &Registration,
        dead: &Dead,
        places: &[(Topic, String)],
    ) -> Result<Value, Error> {
        let lease_ms = self.lease_ms();
        let joined: Vec<String> = places.iter().map(|(topic, session)| place(topic, session)).collect();
        let mut arguments =
            vec![registration.id.as_bytes(), dead.registration.as_bytes(), lease_ms.as_bytes()];
        for (place, (_, session)) in joined.iter().zip(places) {
            arguments.extend([place.as_bytes(), session.as_bytes()]);
        }
        self.script(script, keys, &arguments).await
    }

    pub(super) async fn script(
        &self,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value, Error> {
        Ok(self.commands.script(script, keys, arguments).await?)
    }

    fn lease_ms(&self) -> String {
        self.lease.as_millis().to_string()
    }
}

impl Change {
    fn topic(&self) -> &Topic {
        match self {
            Self::Enter { topic, .. } | Self::Leave { topic, .. } => topic,
        }
    }

    fn arguments(&self) -> [Vec<u8>; 5] {
        match self {
            Self::Enter { topic, member, is_promised } => [
                if *is_promised { b"keep".to_vec() } else { b"enter".to_vec() },
                place(topic, &member.session).into_bytes(),
                member.session.clone().into_bytes(),
                member.since.0.to_string().into_bytes(),
                rest_of(member),
            ],
            Self::Leave { topic, session } => [
                b"leave".to_vec(),
                place(topic, session).into_bytes(),
                session.clone().into_bytes(),
                Vec::new(),
                Vec::new(),
            ],
        }
    }
}

impl Outcome {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "joined" => Self::Joined,
            "changed" => Self::Changed,
            "same" => Self::Same,
            "full" => Self::Full,
            "left" => Self::Left,
            "absent" => Self::Absent,
            _ => return None,
        })
    }
}

impl From<bus::Error> for Error {
    fn from(error: bus::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// An answer that makes no sense counts as none.
pub(super) fn take<T: FromRedisValue>(value: Value) -> Result<T, Error> {
    redis::from_redis_value(value).map_err(|error| unexpected(&error))
}

pub(super) fn unexpected(error: &impl ToString) -> Error {
    Error::Unavailable(error.to_string())
}
