//! Which link a channel or a key goes through.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::super::{Channel, Frame};
use super::address::Server;
use super::cluster::SlotMap;
use super::link::{Common, Link, Waiting};
use super::slots::{SLOTS, slot, tag};

/// The links of a bus. Every node of a cluster finds the same server for a channel.
#[derive(Debug)]
pub(super) struct Routes {
    common: Common,
    /// Held while links are told what they should have, never across a wait: a channel must not be given to a link
    /// while another task takes the channels of that link away.
    plan: RwLock<Plan>,
}

#[derive(Debug)]
struct Plan {
    /// At least one.
    links: Vec<Arc<Link>>,
    /// In a Redis Cluster, the place of each slot's link; the first link is nowhere.
    slots: Option<Vec<usize>>,
}

impl Routes {
    /// Servers that know nothing of each other, at least one.
    pub(super) fn fixed(common: Common, links: Vec<Arc<Link>>) -> Self {
        Self { common, plan: RwLock::new(Plan { links, slots: None }) }
    }

    /// A Redis Cluster of which nothing is known yet.
    pub(super) fn cluster(common: Common) -> Self {
        let links = vec![Arc::new(Link::nowhere(common.clone()))];
        let slots = Some(vec![0; usize::from(SLOTS)]);
        Self { common, plan: RwLock::new(Plan { links, slots }) }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.common.wire.prefix
    }

    /// The link of a key. Keys with the same text in their first braces have the same, as in a Redis Cluster.
    pub(super) fn link_of_key(&self, key: &str) -> Arc<Link> {
        let plan = self.plan();
        Arc::clone(&plan.links[plan.place_of_key(key)])
    }

    /// Wants channels of their servers.
    pub(super) fn want(&self, channels: Vec<Channel>) -> Vec<Waiting> {
        let plan = self.plan();
        let parts = self.split(&plan, channels, |channel| channel);
        parts.into_iter().map(|(place, channels)| plan.links[place].want(channels)).collect()
    }

    pub(super) fn unwant(&self, channels: Vec<Channel>) {
        let plan = self.plan();
        for (place, channels) in self.split(&plan, channels, |channel| channel) {
            plan.links[place].unwant(&channels);
        }
    }

    /// Frames by the link that they go through, in their order.
    pub(super) fn split_frames(&self, frames: Vec<Frame>) -> Vec<(Arc<Link>, Vec<Frame>)> {
        let plan = self.plan();
        let parts = self.split(&plan, frames, |frame| &frame.channel);
        parts.into_iter().map(|(place, frames)| (Arc::clone(&plan.links[place]), frames)).collect()
    }

    /// Whether a server of a Redis Cluster has the slot of a name on the wire.
    pub(super) fn has(&self, server: &Server, name: &str) -> bool {
        let plan = self.plan();
        plan.links[plan.place_of_key(name)].name() == server.to_string()
    }

    /// The slots of a Redis Cluster have these servers from now on. `connect` makes a link to a new one. Channels move to where
    /// their slots are, and the owner of the bus is told that frames of theirs may be lost.
    pub(super) fn remap(&self, map: &SlotMap, connect: impl Fn(&Server) -> Link) {
        let mut plan = self.plan.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut plan.links);
        let known: HashMap<_, _> = before.iter().map(|link| (link.name(), link)).collect();
        plan.links.push(Arc::clone(&before[0]));
        let mut places = HashMap::new();
        for server in map.servers() {
            let link = known
                .get(server.to_string().as_str())
                .map_or_else(|| Arc::new(connect(server)), |link| Arc::clone(link));
            places.insert(server, plan.links.len());
            plan.links.push(link);
        }
        let owner = |slot| map.owner(slot).and_then(|server| places.get(server)).copied().unwrap_or(0);
        plan.slots = Some((0..SLOTS).map(owner).collect());
        let mut has_moved = false;
        for link in &before {
            let is_elsewhere =
                |channel: &Channel| !Arc::ptr_eq(&plan.links[self.place(&plan, channel)], link);
            let moved = link.take_moved(is_elsewhere);
            has_moved |= !moved.is_empty();
            for (place, channels) in self.split(&plan, moved, |channel| channel) {
                plan.links[place].want_moved(&channels);
            }
        }
        drop(plan);
        if has_moved {
            self.common.intake.interrupt();
        }
    }

    fn plan(&self) -> RwLockReadGuard<'_, Plan> {
        self.plan.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn split<T>(
        &self,
        plan: &Plan,
        items: Vec<T>,
        channel: impl Fn(&T) -> &Channel,
    ) -> HashMap<usize, Vec<T>> {
        let mut parts = HashMap::<_, Vec<_>>::new();
        if plan.links.len() == 1 {
            parts.insert(0, items);
            return parts;
        }
        for item in items {
            parts.entry(self.place(plan, channel(&item))).or_default().push(item);
        }
        parts
    }

    fn place(&self, plan: &Plan, channel: &str) -> usize {
        match &plan.slots {
            Some(slots) => slots[usize::from(slot(&self.common.wire.name(channel)))],
            None => plan.best(channel),
        }
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        // Whoever follows the Cluster's map looks, and finds nobody to do it for.
        self.common.remap.notify_one();
    }
}

impl Plan {
    fn place_of_key(&self, key: &str) -> usize {
        match &self.slots {
            Some(slots) => slots[usize::from(slot(key))],
            None => self.best(tag(key)),
        }
    }

    fn best(&self, key: &str) -> usize {
        let score = |link: &Arc<Link>| score(link.name(), key);
        let best = self.links.iter().enumerate().max_by_key(|(_, link)| score(link));
        best.map_or(0, |(place, _)| place)
    }
}

/// Rendezvous hashing: a key belongs to the server that it scores highest with, so a server that comes or goes moves only its
/// own keys. Every node and every version must compute the same: FNV-1a of both names, mixed as in `SplitMix64`.
fn score(server: &str, key: &str) -> u64 {
    let bytes = server.bytes().chain([0]).chain(key.bytes());
    let fnv = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_of<'a>(servers: &[&'a str], key: &str) -> &'a str {
        servers.iter().max_by_key(|server| score(server, key)).unwrap()
    }

    #[test]
    fn keys_spread_over_servers_and_move_only_to_a_new_one() {
        let (three, four) = (["a:1", "b:1", "c:1"], ["a:1", "b:1", "c:1", "d:1"]);
        let mut counts = HashMap::<_, u32>::new();
        for n in 0..9000 {
            let key = format!("room/{n}");
            let before = server_of(&three, &key);
            let after = server_of(&four, &key);
            *counts.entry(before).or_default() += 1;
            assert!(after == before || after == "d:1", "{key} moved between old servers");
        }
        assert!(counts.values().all(|n| (2700..3300).contains(n)), "{counts:?}");
    }

    #[test]
    fn every_version_finds_the_same_server() {
        assert_eq!(score("127.0.0.1:6379", "chat/1"), 3_144_791_790_312_762_097);
    }
}
