//! Connections that ended last, over all nodes.

use bongsu_admin_api::Error;
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::closes::{Close, ClosePage, Closes, ClosesQuery};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::connections::{told, traffic};
use crate::control::End;

/// Which ends nodes ask each other for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wanted {
    /// Those before this time, or at it and of a session with a smaller name.
    before: Option<u64>,
    before_session: Option<String>,
    limit: usize,
    subject: Option<String>,
    session: Option<String>,
    reason: Option<String>,
}

impl Closes for Admin {
    fn closes(&self, query: ClosesQuery) -> BoxFuture<'_, Result<ClosePage, Error>> {
        async move {
            let limit = query.limit.unwrap_or_default().get();
            let place = query.after.as_ref().map(place).transpose()?;
            let (before, before_session) = place.unzip();
            let ClosesQuery { subject, session, reason, .. } = query;
            let wanted = Wanted { before, before_session, limit: limit + 1, subject, session, reason };
            let path = serde_urlencoded::to_string(&wanted).map_err(|_| After::strange())?;
            let path = format!("/$node/closes?{path}");
            let (answers, missing) = self.ask_all::<Vec<Close>>(&path).await;
            let mut closes = self.own_closes(&wanted);
            closes.extend(answers.into_iter().flatten());
            closes.sort_by(|a, b| (b.ended, &b.session).cmp(&(a.ended, &a.session)));
            let has_more = closes.len() > limit;
            closes.truncate(limit);
            let last = closes.last().filter(|_| has_more);
            let next = last.map(|close| After::written(&format!("{:x}/{}", close.ended.0.0, close.session)));
            Ok(ClosePage { closes, next, missing })
        }
        .boxed()
    }
}

impl Admin {
    /// What this node remembers of those that are wanted, the newest first.
    pub(super) fn own_closes(&self, wanted: &Wanted) -> Vec<Close> {
        let sessions = self.node.sessions();
        let mut closes: Vec<Close> = Vec::new();
        let ends = sessions.closes().all();
        let is_wanted = |end: &End| {
            wanted.before.is_none_or(|before| end.ended.0 <= before)
                && wanted.subject.as_ref().is_none_or(|subject| end.identity.subject() == subject)
                && wanted.reason.as_ref().is_none_or(|reason| end.reason.as_str() == reason)
        };
        // Clocks may be set back, so what is remembered is not in the order of its times.
        for end in ends.iter().filter(|end| is_wanted(end)) {
            let close = self.close(end);
            let is_earlier = wanted.before.is_none_or(|before| {
                (end.ended.0, Some(close.session.as_str())) < (before, wanted.before_session.as_deref())
            });
            if is_earlier && wanted.session.as_ref().is_none_or(|session| close.session == *session) {
                closes.push(close);
            }
        }
        closes.sort_by(|a, b| (b.ended, &b.session).cmp(&(a.ended, &a.session)));
        closes.truncate(wanted.limit);
        closes
    }

    fn close(&self, end: &End) -> Close {
        let milliseconds =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Close {
            session: self.node.sessions().session_name(end.id),
            subject: end.identity.subject().to_owned(),
            node: self.node.name().to_owned(),
            address: end.peer.map(|peer| peer.to_string()),
            transport: end.transport.name().to_owned(),
            reason: end.reason.as_str().to_owned(),
            text: end.account.farewell.as_deref().unwrap_or_default().to_owned(),
            code: end.reason.websocket_code(),
            began: end.began.into(),
            ended: end.ended.into(),
            subscriptions: end.subscriptions as u64,
            waiting_bytes: end.waiting_bytes as u64,
            traffic: traffic(&end.account),
            silent_ms: milliseconds(end.silent),
            stuck_ms: milliseconds(end.stuck),
            last_error: told(&end.account),
        }
    }
}

/// Where a page begins.
fn place(after: &After) -> Result<(u64, String), Error> {
    let (time, session) = after.text()?.split_once('/').ok_or_else(After::strange)?;
    let time = u64::from_str_radix(time, 16).map_err(|_| After::strange())?;
    Ok((time, session.to_owned()))
}
