//! Connections of clients on all nodes.
//!
//! A node lists its own in the order in which they began. A list of all goes from node to node, by name, and asks only as many as fill the
//! page: it holds a page, however many connections there are.

use std::sync::Arc;

use bongsu_admin_api::Error;
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::connections::{
    Connection, ConnectionDetail, ConnectionPage, Connections, ConnectionsQuery, Reading, Subscription,
    Target, Told, Traffic,
};
use bongsu_protocol::topic::Topic;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::others::{Other, unavailable};
use crate::control::{self, Action, Command, Seen};
use crate::limits::{PEERS_ASKED_AT_ONCE, READINGS_SHOWN_MAX};
use crate::metrics::Transport;
use crate::outbound::{Account, ConnectionId, Outbound};

/// A page of one node's connections, as nodes ask each other for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// After the connection of this number.
    after: Option<u64>,
    limit: usize,
    subject: Option<String>,
    address: Option<std::net::IpAddr>,
    transport: Option<String>,
    topic: Option<String>,
}

impl Connections for Admin {
    fn connections(&self, query: ConnectionsQuery) -> BoxFuture<'_, Result<ConnectionPage, Error>> {
        self.list(query).boxed()
    }

    fn connection(&self, session: String) -> BoxFuture<'_, Result<ConnectionDetail, Error>> {
        self.inspect(session).boxed()
    }

    fn disconnect(&self, issuer: String, target: Target, reason: String) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let target = match target {
                Target::Session(session) => control::Target::Session(session),
                Target::Subject(subject) => control::Target::Subject(subject),
            };
            let command = Command { action: Action::Kick(target), reason };
            let issued = self.node.control().issue(&issuer, &command).await;
            issued.map(drop).map_err(|error| unavailable(&error))
        }
        .boxed()
    }
}

impl Admin {
    async fn list(&self, query: ConnectionsQuery) -> Result<ConnectionPage, Error> {
        let limit = query.limit.unwrap_or_default().get();
        let begin = query.after.as_ref().map(place).transpose()?;
        let wanted = Wanted {
            after: None,
            limit: limit + 1,
            subject: query.subject,
            address: query.address,
            transport: query.transport.map(known_transport).transpose()?,
            topic: query.topic.map(known_topic).transpose()?,
        };
        let mut nodes = self.others();
        nodes.push(self.this());
        nodes.sort_by_key(Other::key);
        let nodes =
            nodes.into_iter().filter(|node| query.node.as_ref().is_none_or(|name| *name == node.name));
        let nodes = nodes.filter(|node| begin.as_ref().is_none_or(|(key, _)| node.key() >= *key));
        let asked = stream::iter(nodes).map(|node| {
            let is_begun = begin.as_ref().filter(|(key, _)| *key == node.key());
            let wanted = Wanted { after: is_begun.map(|(_, after)| *after), ..wanted.clone() };
            async move {
                let answer = self.page_of(&node, &wanted).await;
                (node, answer)
            }
        });
        let mut asked = Box::pin(asked.buffered(PEERS_ASKED_AT_ONCE));
        let mut page = ConnectionPage { connections: Vec::new(), next: None, missing: Vec::new() };
        // The node of the last connection of the page.
        let mut last = None;
        while page.connections.len() <= limit
            && let Some((node, answer)) = asked.next().await
        {
            let Some(mut answer) = answer else {
                page.missing.push(node.name);
                continue;
            };
            let room = limit - page.connections.len();
            if !answer.is_empty() && room > 0 {
                last = Some(node.key());
            }
            let has_more = answer.len() > room;
            answer.truncate(room);
            page.connections.append(&mut answer);
            if has_more {
                let number = page.connections.last().and_then(|connection| number_of(&connection.session));
                page.next = last.zip(number).map(|((name, started), number)| {
                    After::written(&format!("{number:x}/{started:x}/{name}"))
                });
                break;
            }
        }
        Ok(page)
    }

    /// A page of one node's connections; `None` if it does not answer.
    async fn page_of(&self, node: &Other, wanted: &Wanted) -> Option<Vec<Connection>> {
        if node.is_this() {
            return self.own_page(wanted).await;
        }
        let query = serde_urlencoded::to_string(wanted).ok()?;
        self.ask(node, &format!("/$node/connections?{query}")).await
    }

    /// A page of this node's connections; `None` where what is wanted makes no sense, as another version may say it.
    pub(super) async fn own_page(&self, wanted: &Wanted) -> Option<Vec<Connection>> {
        let topic = wanted.topic.as_deref().map(Topic::parse).transpose().ok()?;
        let is_wanted = |seen: &Seen| {
            let holder = &seen.holder;
            let reads = |topic: &Topic| {
                let reads = |outbound: &Arc<Outbound>| {
                    outbound.lock().session().subscriptions().any(|(filter, _)| filter.matches(topic))
                };
                seen.outbound.as_ref().is_some_and(reads)
            };
            wanted.subject.as_ref().is_none_or(|subject| holder.identity.subject() == subject)
                && wanted
                    .address
                    .is_none_or(|address| holder.peer.is_some_and(|peer| peer.ip().to_canonical() == address))
                && wanted.transport.as_ref().is_none_or(|transport| holder.transport.name() == transport)
                && topic.as_ref().is_none_or(reads)
        };
        let page = self.node.sessions().page(wanted.after.map(ConnectionId), wanted.limit, is_wanted).await;
        Some(page.iter().map(|seen| self.shown(seen)).collect())
    }

    async fn inspect(&self, session: String) -> Result<ConnectionDetail, Error> {
        let missing = || Error::NotFound(format!("there is no session {session}"));
        if let Some(detail) = self.own_connection(&session) {
            return Ok(detail);
        }
        // Which node it would be follows from its name.
        let others = self.others();
        let owner = others.iter().find(|other| {
            session
                .strip_prefix(&other.prefix())
                .is_some_and(|number| u64::from_str_radix(number, 16).is_ok())
        });
        let owner = owner.ok_or_else(missing)?;
        let query = serde_urlencoded::to_string([("session", &session)]).map_err(|_| missing())?;
        let answer: Option<Option<ConnectionDetail>> =
            self.ask(owner, &format!("/$node/connection?{query}")).await;
        let answer =
            answer.ok_or_else(|| Error::Unavailable(format!("node {} does not answer", owner.name)))?;
        answer.ok_or_else(missing)
    }

    /// A connection of this node.
    pub(super) fn own_connection(&self, session: &str) -> Option<ConnectionDetail> {
        let seen = self.node.sessions().find(session)?;
        let connection = self.shown(&seen);
        let Some(outbound) = &seen.outbound else {
            return Some(ConnectionDetail {
                connection,
                blocked: false,
                requests_in_flight: 1,
                filters: Vec::new(),
                topics: Vec::new(),
                topics_total: 0,
                last_error: None,
            });
        };
        let state = outbound.lock();
        let session = state.session();
        let mut topics: Vec<_> = session.readings().collect();
        let topics_total = topics.len() as u64;
        topics.sort_by_key(|reading| reading.topic);
        topics.truncate(READINGS_SHOWN_MAX);
        let topics = topics.iter().map(|reading| {
            let lag = reading.known.zip(reading.position).map_or(0, |(known, position)| {
                let is_same = known.epoch == position.epoch;
                known.offset.0.saturating_sub(if is_same { position.offset.0 } else { 0 })
            });
            let (position, head) = (reading.position.map(Into::into), reading.known.map(Into::into));
            Reading { topic: reading.topic.to_string(), position, head, lag }
        });
        let filters = session.subscriptions();
        let filters = filters.map(|(filter, active)| Subscription { filter: filter.to_string(), active });
        Some(ConnectionDetail {
            connection,
            blocked: state.is_blocked(),
            requests_in_flight: session.requests_in_flight() as u64,
            filters: filters.collect(),
            topics: topics.collect(),
            topics_total,
            last_error: told(&state.account),
        })
    }

    /// A connection of this node, as the list shows it.
    fn shown(&self, seen: &Seen) -> Connection {
        let identity = &seen.holder.identity;
        // A request that waits has neither subscriptions nor anything that waits for it.
        let (subscriptions, waiting_bytes, traffic) = match &seen.outbound {
            None => (0, 0, Traffic::default()),
            Some(outbound) => {
                let state = outbound.lock();
                let subscriptions = state.session().subscriptions().count() as u64;
                (subscriptions, state.waiting_bytes() as u64, traffic(&state.account))
            }
        };
        Connection {
            session: self.node.sessions().session_name(seen.id),
            subject: identity.subject().to_owned(),
            node: self.node.name().to_owned(),
            address: seen.holder.peer.map(|peer| peer.to_string()),
            transport: seen.holder.transport.name().to_owned(),
            began: seen.began.into(),
            token_id: identity.token_id.as_deref().map(str::to_owned),
            expires: identity.expires_at.map(Into::into),
            subscriptions,
            waiting_bytes,
            traffic,
        }
    }
}

pub(super) const fn traffic(account: &Account) -> Traffic {
    let &Account { frames_in, bytes_in, frames_out, bytes_out, .. } = account;
    Traffic { frames_in, bytes_in, frames_out, bytes_out }
}

/// The last error that a client was told.
pub(super) fn told(account: &Account) -> Option<Told> {
    let error = account.last_error.as_deref()?;
    Some(Told { code: error.code.as_str().to_owned(), text: error.text.clone() })
}

/// Where a page begins: at which node, after which of its connections.
fn place(after: &After) -> Result<((String, u64), u64), Error> {
    let text = after.text()?;
    let mut parts = text.splitn(3, '/');
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let numbers = number().zip(number());
    let ((number, started), name) = numbers.zip(parts.next()).ok_or_else(After::strange)?;
    Ok(((name.to_owned(), started), number))
}

fn known_transport(name: String) -> Result<String, Error> {
    if Transport::ALL.iter().any(|transport| transport.name() == name) {
        return Ok(name);
    }
    let names = Transport::ALL.map(Transport::name).join(", ");
    Err(Error::invalid("transport", format!("it takes one of {names}")))
}

pub(super) fn known_topic(name: String) -> Result<String, Error> {
    match Topic::parse(&name) {
        Ok(_) => Ok(name),
        Err(error) => Err(Error::invalid("topic", error.to_string())),
    }
}

/// The number of a session among those of its node.
fn number_of(session: &str) -> Option<u64> {
    u64::from_str_radix(session.rsplit('-').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_transport() {
        assert_eq!(Transport::ALL.map(Transport::name), bongsu_admin_api::schema::TRANSPORTS);
    }

    fn after(text: &str) -> After {
        serde_json::from_value(After::written(text).into()).expect("it is one")
    }

    #[test]
    fn places_come_back_as_they_were_written() {
        assert_eq!(place(&after("2f/19a/n/1")), Ok((("n/1".to_owned(), 0x19a), 0x2f)));
        for wrong in ["", "2f", "2f/19a", "x/19a/n1", "2f//n1"] {
            assert_eq!(place(&after(wrong)), Err(After::strange()), "{wrong}");
        }
    }
}
