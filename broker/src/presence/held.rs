//! The members of this node: what it knows best, whatever the registry says.

use std::collections::HashMap;

use bongsu_protocol::event::Member;
use bongsu_protocol::limits::MEMBERS_MAX;
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::topic::Topic;
use indexmap::IndexMap;

use crate::cluster::Listing;
use crate::limits::PRESENT_TOPICS_MAX;
use crate::outbound::ConnectionId;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Held {
    topics: HashMap<Topic, IndexMap<ConnectionId, Member>>,
    /// Where each connection is present.
    entered: HashMap<ConnectionId, Vec<Topic>>,
    members_max: usize,
}

impl Held {
    pub(super) fn new(members_max: usize) -> Self {
        Self { topics: HashMap::new(), entered: HashMap::new(), members_max }
    }

    /// Makes a connection a member, or lets it show something else; `since` stays that of the first time.
    pub(super) fn enter(
        &mut self,
        id: ConnectionId,
        topic: &Topic,
        mut member: Member,
    ) -> Result<Member, Error> {
        let present = self.topics.get(topic);
        if let Some(before) = present.and_then(|members| members.get(&id)) {
            member.since = before.since;
        } else {
            let n_entered = self.entered.get(&id).map_or(0, Vec::len);
            if n_entered >= PRESENT_TOPICS_MAX || present.map_or(0, IndexMap::len) >= self.members_max {
                return Err(too_many());
            }
            self.entered.entry(id).or_default().push(topic.clone());
        }
        self.topics.entry(topic.clone()).or_default().insert(id, member.clone());
        Ok(member)
    }

    /// Ends a membership; `None` if there was none.
    pub(super) fn leave(&mut self, id: ConnectionId, topic: &Topic) -> Option<Member> {
        if let Some(entered) = self.entered.get_mut(&id) {
            entered.retain(|entered| entered != topic);
            if entered.is_empty() {
                self.entered.remove(&id);
            }
        }
        let members = self.topics.get_mut(topic)?;
        // Keeps the order in which members came, which the list promises.
        let member = members.shift_remove(&id)?;
        if members.is_empty() {
            self.topics.remove(topic);
        }
        Some(member)
    }

    /// Where a connection is present.
    pub(super) fn entered(&self, id: ConnectionId) -> Vec<Topic> {
        self.entered.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn get(&self, id: ConnectionId, topic: &Topic) -> Option<&Member> {
        self.topics.get(topic)?.get(&id)
    }

    /// All memberships.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Topic, ConnectionId, &Member)> {
        let of_topic = |(topic, members)| std::iter::repeat(topic).zip(members);
        let all = self.topics.iter().flat_map(of_topic);
        all.map(|(topic, (id, member)): (&Topic, (&ConnectionId, &Member))| (topic, *id, member))
    }

    /// Who is present on a topic, on this node.
    pub(super) fn list(&self, topic: &Topic) -> Listing {
        let members = self.topics.get(topic);
        Listing {
            members: members.into_iter().flat_map(IndexMap::values).take(MEMBERS_MAX).cloned().collect(),
            total: members.map_or(0, IndexMap::len) as u64,
        }
    }
}

/// The answer to one who cannot be a member as well.
pub(super) fn too_many() -> Error {
    Error::new(ErrorCode::TooMany, "no more members here, or this session is present on too many topics")
}
