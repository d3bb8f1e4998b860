//! Questions to the other nodes of the cluster, and the answers to theirs.
//!
//! | path | what is answered |
//! |---|---|
//! | `/$node/status` | how the node is |
//! | `/$node/subscribers?{filter}` | how many of its sessions read topics under a filter, which stands there in base64 |
//! | `/$node/connections`, `/$node/connection` | a page of its connections; one of them |
//! | `/$node/users`, `/$node/user` | how many connections subjects have there |
//! | `/$node/closes` | its connections that ended last |
//! | `/$node/trace` | what happens on its connections, as it does: a line for each event |
//! | `/$node/readers` | how many of its connections read the topics of a page |
//!
//! They come by the port for nodes, signed, and no request of a client is taken for one. An answer is JSON in the types of this version: a node
//! of another one that does not understand it counts as missing.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bongsu_admin_api::Error;
use bongsu_protocol::topic::TopicFilter;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use http::Uri;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::limits::PEERS_ASKED_AT_ONCE;
use crate::node::Node;
use crate::peers::{Body, Destination};

/// A node that is alive, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct Other {
    /// Its name.
    pub name: String,
    /// When its process started.
    started_ms: u64,
    way: Way,
}

/// How a node is asked.
#[derive(Debug, Clone)]
enum Way {
    /// It is this one.
    This,
    /// Over the port for nodes.
    Peer(Destination),
    /// Not at all: it takes no requests of other nodes.
    None,
}

impl Other {
    /// What nodes are ordered by.
    pub(super) fn key(&self) -> (String, u64) {
        (self.name.clone(), self.started_ms)
    }

    /// Whether it is this one.
    pub(super) const fn is_this(&self) -> bool {
        matches!(self.way, Way::This)
    }

    /// What the names of its sessions begin with.
    pub(super) fn prefix(&self) -> String {
        crate::control::session_prefix(&self.name, self.started_ms)
    }
}

/// What a node answers another one.
pub enum Answer {
    /// All of it.
    Whole(Bytes),
    /// Lines, as they come about.
    Lines(BoxStream<'static, Bytes>),
}

/// Answers another node's question; `None` if this version does not know it.
pub async fn answer(node: &Arc<Node>, uri: &Uri) -> Option<Answer> {
    let admin = Admin::new(Arc::clone(node));
    let query = uri.query().unwrap_or_default();
    let whole = match uri.path() {
        "/$node/status" => written(&admin.status().await),
        "/$node/subscribers" => written(&admin.subscribers(&filter_of(uri.query()?)?)),
        "/$node/connections" => written(&admin.own_page(&read(query)?).await?),
        "/$node/connection" => written(&admin.own_connection(&read::<Session>(query)?.session)),
        "/$node/users" => written(&admin.own_users(&read(query)?).await),
        "/$node/user" => written(&admin.own_user(&read::<Subject>(query)?.subject).await),
        "/$node/closes" => written(&admin.own_closes(&read(query)?)),
        "/$node/trace" => return admin.own_trace_lines(&read(query)?).map(Answer::Lines),
        "/$node/readers" => written(&admin.readers(uri.query().unwrap_or_default()).await?),
        _ => None,
    };
    whole.map(Answer::Whole)
}

/// The parameters of a question.
#[derive(Deserialize)]
struct Session {
    session: String,
}

/// Those of another one.
#[derive(Deserialize)]
struct Subject {
    subject: String,
}

/// What another node asks; `None` if this version does not understand it.
fn read<T: DeserializeOwned>(query: &str) -> Option<T> {
    serde_urlencoded::from_str(query).ok()
}

/// Why something that the store should do was not done.
pub(super) fn unavailable(error: &impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
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
                let peer_at = |url: &str| Way::Peer(Destination { incarnation, url: url.into() });
                let way = url.map_or(Way::None, peer_at);
                Other { name: peer.identity.name.clone(), started_ms: peer.identity.started_ms, way }
            })
            .collect()
    }

    /// This node, among the others.
    pub(super) fn this(&self) -> Other {
        Other { name: self.node.name().to_owned(), started_ms: self.node.started_ms(), way: Way::This }
    }

    /// Asks one of them. `None`: it did not answer in time, or not in a way that this version understands.
    pub(super) async fn ask<T: DeserializeOwned>(&self, other: &Other, path_and_query: &str) -> Option<T> {
        let Way::Peer(destination) = &other.way else { return None };
        match self.node.peers().ask(destination, path_and_query).await {
            Ok(answer) => serde_json::from_slice(&answer).ok(),
            Err(error) => {
                tracing::debug!(node = other.name, %error, "another node did not answer an administrator's question");
                None
            }
        }
    }

    /// Asks one of them for lines that come as they come about. `None`: it does not answer in time.
    pub(super) async fn ask_on(&self, other: &Other, path_and_query: &str) -> Option<Body> {
        let Way::Peer(destination) = &other.way else { return None };
        self.node.peers().ask_on(destination, path_and_query).await.ok()
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
