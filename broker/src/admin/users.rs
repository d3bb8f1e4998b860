//! Subjects that are connected, over all nodes.

use std::collections::BTreeMap;

use bongsu_admin_api::Error;
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::users::{User, UserDetail, UserNode, UserPage, Users, UsersQuery};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join};
use serde::{Deserialize, Serialize};

use super::Admin;

/// Which subjects nodes ask each other for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wanted {
    after: Option<String>,
    limit: usize,
}

/// What a node answers: its name, and subjects with how many connections each has there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Counted {
    node: String,
    subjects: BTreeMap<String, u64>,
}

impl Users for Admin {
    fn users(&self, query: UsersQuery) -> BoxFuture<'_, Result<UserPage, Error>> {
        async move {
            let limit = query.limit.unwrap_or_default().get();
            // The first page has the empty subject too, so a place is told from none.
            let after = query.after.as_ref().map(After::text).transpose()?.map(str::to_owned);
            let wanted = Wanted { after, limit: limit + 1 };
            let path = serde_urlencoded::to_string(&wanted).map_err(|_| After::strange())?;
            let path = format!("/$node/users?{path}");
            let (own, (mut counted, missing)) =
                join(self.own_users(&wanted), self.ask_all::<Counted>(&path)).await;
            counted.push(own);
            counted.sort_by(|a, b| a.node.cmp(&b.node));
            // Each node told its first ones, so the first of all are complete.
            let mut users: BTreeMap<String, User> = BTreeMap::new();
            for Counted { node, subjects } in counted {
                for (subject, connections) in subjects {
                    let none = || User { subject: subject.clone(), connections: 0, nodes: Vec::new() };
                    let user = users.entry(subject.clone()).or_insert_with(none);
                    user.connections += connections;
                    user.nodes.push(node.clone());
                }
            }
            let mut users: Vec<User> = users.into_values().collect();
            let has_more = users.len() > limit;
            users.truncate(limit);
            let last = users.last().filter(|_| has_more);
            let next = last.map(|user| After::written(&user.subject));
            Ok(UserPage { users, next, missing })
        }
        .boxed()
    }

    fn user(&self, subject: String) -> BoxFuture<'_, Result<UserDetail, Error>> {
        async move {
            let query = serde_urlencoded::to_string([("subject", &subject)]).unwrap_or_default();
            let path = format!("/$node/user?{query}");
            let (own, (mut counted, missing)) =
                join(self.own_user(&subject), self.ask_all::<Counted>(&path)).await;
            counted.push(own);
            counted.sort_by(|a, b| a.node.cmp(&b.node));
            let nodes = counted.into_iter().filter_map(|Counted { node, subjects }| {
                let connections = *subjects.get(&subject)?;
                (connections > 0).then_some(UserNode { node, connections })
            });
            let nodes: Vec<UserNode> = nodes.collect();
            if nodes.is_empty() && !missing.is_empty() {
                let names = missing.join(", ");
                return Err(Error::Unavailable(format!(
                    "{subject} is not here, and {names} does not answer"
                )));
            }
            if nodes.is_empty() {
                return Err(Error::NotFound(format!("{subject} is not connected")));
            }
            let connections = nodes.iter().map(|node| node.connections).sum();
            Ok(UserDetail { subject, connections, nodes, missing })
        }
        .boxed()
    }
}

impl Admin {
    pub(super) async fn own_users(&self, wanted: &Wanted) -> Counted {
        let subjects = self.node.sessions().subjects(wanted.after.as_deref(), wanted.limit).await;
        Counted { node: self.node.name().to_owned(), subjects }
    }

    pub(super) async fn own_user(&self, subject: &str) -> Counted {
        let count = self.node.sessions().count_of(subject).await;
        Counted { node: self.node.name().to_owned(), subjects: BTreeMap::from([(subject.to_owned(), count)]) }
    }
}
