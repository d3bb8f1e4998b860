//! Which link a channel or a key goes through.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{Channel, Frame};
use super::link::{Link, Waiting};
use super::slots::tag;

/// The links of a bus. Every node of a cluster finds the same server for a channel.
#[derive(Debug)]
pub(super) struct Routes {
    prefix: String,
    links: Vec<Arc<Link>>,
}

impl Routes {
    /// Servers that know nothing of each other, at least one.
    pub(super) fn fixed(prefix: String, links: Vec<Arc<Link>>) -> Self {
        Self { prefix, links }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The link of a key. Keys with the same text in their first braces have the same, as in a Redis Cluster.
    pub(super) fn link_of_key(&self, key: &str) -> Arc<Link> {
        Arc::clone(&self.links[self.place(tag(key))])
    }

    /// Wants channels of their servers.
    pub(super) fn want(&self, channels: Vec<Channel>) -> Vec<Waiting> {
        let parts = self.split(channels, |channel| channel);
        parts.into_iter().map(|(place, channels)| self.links[place].want(channels)).collect()
    }

    pub(super) fn unwant(&self, channels: Vec<Channel>) {
        for (place, channels) in self.split(channels, |channel| channel) {
            self.links[place].unwant(&channels);
        }
    }

    /// Frames by the link that they go through, in their order.
    pub(super) fn split_frames(&self, frames: Vec<Frame>) -> Vec<(Arc<Link>, Vec<Frame>)> {
        let parts = self.split(frames, |frame| &frame.channel);
        parts.into_iter().map(|(place, frames)| (Arc::clone(&self.links[place]), frames)).collect()
    }

    fn split<T>(&self, items: Vec<T>, channel: impl Fn(&T) -> &Channel) -> HashMap<usize, Vec<T>> {
        let mut parts = HashMap::<_, Vec<_>>::new();
        if self.links.len() == 1 {
            parts.insert(0, items);
            return parts;
        }
        for item in items {
            parts.entry(self.place(channel(&item))).or_default().push(item);
        }
        parts
    }

    fn place(&self, key: &str) -> usize {
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
