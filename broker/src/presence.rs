//! Who is present where, on this node.
//!
//! One task owns the members. Joins and leaves are published on the live topic `$presence/` + topic; a reader that subscribes there
//! first and then asks for the members misses nobody.

use std::collections::HashMap;
use std::sync::Arc;

use bongsu_protocol::codec;
use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{Member, PresenceChange, Reply};
use bongsu_protocol::limits::MEMBERS_MAX;
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::session::PRESENCE_PREFIX;
use bongsu_protocol::topic::Topic;
use indexmap::IndexMap;
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Policies;
use crate::limits::{PRESENCE_COMMANDS_MAX, PRESENT_TOPICS_MAX};
use crate::outbound::{ConnectionId, Outbound};
use crate::publisher::Publisher;

/// Who is present where. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Presence {
    commands: mpsc::Sender<Command>,
}

/// What to do about presence.
#[derive(Debug)]
pub enum Command {
    /// Make a connection's session a member, or replace its info.
    Enter {
        /// Whose request.
        outbound: Arc<Outbound>,
        /// Which request.
        id: RequestId,
        /// Where.
        topic: Topic,
        /// As whom; its `since` is set here.
        member: Member,
    },
    /// End its membership.
    Leave {
        /// Whose request.
        outbound: Arc<Outbound>,
        /// Which request.
        id: RequestId,
        /// Where.
        topic: Topic,
    },
    /// Say who is present.
    Members {
        /// Whose request.
        outbound: Arc<Outbound>,
        /// Which request.
        id: RequestId,
        /// Where.
        topic: Topic,
    },
    /// End all memberships of a connection that is gone.
    Gone(ConnectionId),
}

impl Presence {
    /// Starts the task that owns the members; at most `members_max` on one topic.
    #[must_use]
    pub fn spawn(publisher: Arc<Publisher>, policies: Arc<Policies>, members_max: usize) -> Self {
        let (commands, mut queue) = mpsc::channel(PRESENCE_COMMANDS_MAX);
        let mut members =
            Members { topics: HashMap::new(), entered: HashMap::new(), publisher, policies, members_max };
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                members.handle(command).await;
            }
        });
        Self { commands }
    }

    /// Has something done; the connection that asked gets its reply. Waits for room in the queue.
    pub async fn send(&self, command: Command) {
        // The task ends only with the process.
        let _ = self.commands.send(command).await;
    }

    /// Whether the task is there.
    #[must_use]
    pub fn runs(&self) -> bool {
        !self.commands.is_closed()
    }
}

struct Members {
    topics: HashMap<Topic, IndexMap<ConnectionId, Member>>,
    /// Where each connection is present.
    entered: HashMap<ConnectionId, Vec<Topic>>,
    publisher: Arc<Publisher>,
    policies: Arc<Policies>,
    members_max: usize,
}

impl Members {
    async fn handle(&mut self, command: Command) {
        match command {
            Command::Enter { outbound, id, topic, member } => {
                let result = self.enter(outbound.id(), topic, member).await.map(|()| Reply::Entered);
                reply(&outbound, id, result);
            }
            Command::Leave { outbound, id, topic } => {
                self.leave(outbound.id(), &topic).await;
                reply(&outbound, id, Ok(Reply::Left));
            }
            Command::Members { outbound, id, topic } => {
                let members = self.topics.get(&topic);
                let named =
                    members.into_iter().flat_map(IndexMap::values).take(MEMBERS_MAX).cloned().collect();
                let total = members.map_or(0, IndexMap::len) as u64;
                reply(&outbound, id, Ok(Reply::Members { members: named, total }));
            }
            Command::Gone(id) => {
                for topic in self.entered.remove(&id).unwrap_or_default() {
                    self.take_away(id, &topic).await;
                }
            }
        }
    }

    async fn enter(&mut self, id: ConnectionId, topic: Topic, mut member: Member) -> Result<(), Error> {
        if !self.policies.for_topic(&topic).presence {
            return Err(Error::new(ErrorCode::NotFound, "this topic shows no presence"));
        }
        let announced = announced_on(&topic)?;
        let entered = self.entered.entry(id).or_default();
        let members = self.topics.entry(topic.clone()).or_default();
        if let Some(present) = members.get(&id) {
            member.since = present.since;
        } else if entered.len() >= PRESENT_TOPICS_MAX || members.len() >= self.members_max {
            if members.is_empty() {
                self.topics.remove(&topic);
            }
            return Err(Error::new(
                ErrorCode::TooMany,
                "no more members here, or this session is present on too many topics",
            ));
        } else {
            member.since = clock::wall();
            entered.push(topic.clone());
        }
        members.insert(id, member.clone());
        self.announce(announced, &PresenceChange::Join(member)).await;
        Ok(())
    }

    async fn leave(&mut self, id: ConnectionId, topic: &Topic) {
        if let Some(entered) = self.entered.get_mut(&id) {
            entered.retain(|entered| entered != topic);
            if entered.is_empty() {
                self.entered.remove(&id);
            }
        }
        self.take_away(id, topic).await;
    }

    async fn take_away(&mut self, id: ConnectionId, topic: &Topic) {
        let Some(members) = self.topics.get_mut(topic) else { return };
        // Keeps the order in which members came, which the list promises.
        let Some(member) = members.shift_remove(&id) else { return };
        if members.is_empty() {
            self.topics.remove(topic);
        }
        if let Ok(announced) = announced_on(topic) {
            self.announce(announced, &PresenceChange::Leave { session: member.session }).await;
        }
    }

    async fn announce(&self, topic: Topic, change: &PresenceChange) {
        let payload = codec::encode_presence(change);
        let message = Message { payload, content_type: "application/json".to_owned(), ..Message::default() };
        self.publisher.announce(NewMessage { topic, message, expect: None }).await;
    }
}

/// The topic on which joins and leaves of another are told.
fn announced_on(topic: &Topic) -> Result<Topic, Error> {
    Topic::parse(&format!("{PRESENCE_PREFIX}{topic}"))
        .map_err(|error| Error::new(ErrorCode::BadRequest, error.to_string()))
}

fn reply(outbound: &Outbound, id: RequestId, result: Result<Reply, Error>) {
    outbound.lock().session.reply(id, result);
    outbound.flush();
}
