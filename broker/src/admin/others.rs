//! Questions to the other nodes of the cluster, and the answers to theirs.
//!
//! | path | what is answered |
//! |---|---|
//! | `/$node/status` | how the node is |
//! | `/$node/subscribers?{filter}` | how many of its sessions read topics under a filter, which stands there in base64 |
//!
//! They come by the port for nodes, signed, and no request of a client is taken for one. An answer is JSON in the types of this version: a node
//! of another one that does not understand it counts as missing.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bongsu_protocol::topic::TopicFilter;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Uri;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Admin;
use crate::limits::PEERS_ASKED_AT_ONCE;
use crate::node::Node;
use crate::peers::Destination;

/// Another node that is alive, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct Other {
    /// Its name.
    pub name: String,
    /// Where it can be asked; `None` where it takes no requests of other nodes.
    destination: Option<Destination>,
}

/// Answers another node's question; `None` if this version does not know it.
pub async fn answer(node: &Arc<Node>, uri: &Uri) -> Option<Bytes> {
    let admin = Admin::new(Arc::clone(node));
    match uri.path() {
        "/$node/status" => written(&admin.status().await),
        "/$node/subscribers" => written(&admin.subscribers(&filter_of(uri.query()?)?)),
        _ => None,
    }
}

/// A filter as a question's parameters.
pub(super) fn parameter_of(filter: &TopicFilter) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(filter.as_str())
}

fn filter_of(parameter: &str) -> Option<TopicFilter> {
    let text = BASE64_URL_SAFE_NO_PAD.decode(parameter).ok()?;
    TopicFilter::parse(std::str::from_utf8(&text).ok()?).ok()
}

/// What this node says to another one.
fn written(answer: &impl Serialize) -> Option<Bytes> {
    serde_json::to_vec(answer).ok().map(Bytes::from)
}

impl Admin {
    /// The other nodes that are alive, by name.
    pub(super) fn others(&self) -> Vec<Other> {
        let own = self.node.peers().incarnation();
        let nodes = self.node.cluster().nodes();
        let others = nodes.iter().filter(|peer| peer.identity.incarnation() != own);
        others
            .map(|peer| {
                let url = peer.identity.peer_url.as_deref();
                let incarnation = peer.identity.incarnation().into();
                let destination = url.map(|url| Destination { incarnation, url: url.into() });
                Other { name: peer.identity.name.clone(), destination }
            })
            .collect()
    }

    /// Asks one of them. `None`: it did not answer in time, or not in a way that this version understands.
    pub(super) async fn ask<T: DeserializeOwned>(&self, other: &Other, path_and_query: &str) -> Option<T> {
        let destination = other.destination.as_ref()?;
        match self.node.peers().ask(destination, path_and_query).await {
            Ok(answer) => serde_json::from_slice(&answer).ok(),
            Err(error) => {
                tracing::debug!(node = other.name, %error, "another node did not answer an administrator's question");
                None
            }
        }
    }

    /// Asks all of them: the answers by name, and the names of those that did not answer.
    pub(super) async fn ask_all<T: DeserializeOwned>(&self, path_and_query: &str) -> (Vec<T>, Vec<String>) {
        let asked = stream::iter(self.others()).map(|other| async move {
            let answer = self.ask(&other, path_and_query).await;
            (other, answer)
        });
        let mut asked = asked.buffered(PEERS_ASKED_AT_ONCE);
        let (mut answers, mut missing) = (Vec::new(), Vec::new());
        while let Some((other, answer)) = asked.next().await {
            match answer {
                Some(answer) => answers.push(answer),
                None => missing.push(other.name),
            }
        }
        (answers, missing)
    }
}
