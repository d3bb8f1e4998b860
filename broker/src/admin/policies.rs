//! Policies that operators change while nodes run.

use std::convert::Infallible;

use bongsu_admin_api::Error;
use bongsu_admin_api::error::Fault;
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::policies::{
    Hit, Policies, Policy, PolicyList, Preview, Version, VersionList,
};
use bongsu_admin_api::time::Timestamp;
use bongsu_persistence::store::{LogBounds, TopicsQuery};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Admin, not_changed, unavailable};
use crate::config::{Errors, LivePolicies, Policies as Effective};
use crate::limits::{KIND_CHECK_LOGS_MAX, PREVIEW_LOGS_MAX, RETENTION_LOGS_PER_STEP};
use crate::registers::Versioned;

impl Policies for Admin {
    fn policies(&self) -> BoxFuture<'_, Result<PolicyList, Error>> {
        async {
            let version = self.node.decisions().live_policies().look().await.map_err(unavailable)?;
            Ok(list(&version))
        }
        .boxed()
    }

    fn put_policies(
        &self,
        by: String,
        expected: Position,
        policies: Vec<Policy>,
    ) -> BoxFuture<'_, Result<PolicyList, Error>> {
        async move {
            let policies = self.judge(policies).await?;
            let change = |_: &LivePolicies| Ok::<_, Infallible>(policies.clone());
            let changed = self.node.decisions().live_policies().change(Some(expected), &by, change).await;
            let version = changed.map_err(|error| not_changed(error, |never| match never {}))?;
            self.node.decisions().heed_policies();
            Ok(list(&version))
        }
        .boxed()
    }

    fn validate_policies(&self, policies: Vec<Policy>) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.judge(policies).await.map(drop) }.boxed()
    }

    fn preview_policies(&self, filter: String, limit: usize) -> BoxFuture<'_, Result<Preview, Error>> {
        async move {
            let filter =
                TopicFilter::parse(&filter).map_err(|error| Error::invalid("filter", error.to_string()))?;
            let mut preview = Preview {
                filter: filter.as_str().to_owned(),
                topics: 0,
                messages: 0,
                subscribers: 0,
                first: Vec::new(),
                complete: true,
                missing: Vec::new(),
            };
            let policies = self.node.policies();
            let mut logs = Logs::under(filter.clone());
            while let Some(page) = logs.next(self).await? {
                for log in page {
                    if preview.topics == PREVIEW_LOGS_MAX as u64 {
                        preview.complete = false;
                        break;
                    }
                    let messages = n_kept(&log);
                    preview.topics += 1;
                    preview.messages += messages;
                    if preview.first.len() < limit {
                        let policy = policies.for_topic(&log.topic);
                        let durable = policy.is_durable();
                        let policy = policy.filter.as_ref().map(|filter| filter.as_str().to_owned());
                        let topic = log.topic.as_str().to_owned();
                        preview.first.push(Hit { topic, messages, policy, durable });
                    }
                }
                if !preview.complete {
                    break;
                }
            }
            let path = format!("/$node/subscribers?{}", super::others::parameter_of(&filter));
            let (others, missing) = self.ask_all::<u64>(&path).await;
            preview.subscribers = self.subscribers(&filter) + others.iter().sum::<u64>();
            preview.missing = missing;
            Ok(preview)
        }
        .boxed()
    }

    fn policy_versions(
        &self,
        after: Option<After>,
        limit: usize,
    ) -> BoxFuture<'_, Result<VersionList, Error>> {
        async move {
            let before = match &after {
                Some(after) => Some(after.text()?.parse().map_err(|_| After::strange())?),
                None => None,
            };
            let found = self.node.decisions().live_policies().versions(before, limit).await;
            let found = found.map_err(unavailable)?;
            let next = found.last().filter(|_| found.len() == limit);
            let next = next.map(|last| After::written(&last.position.to_string()));
            let versions = found.into_iter().map(|version| Version {
                version: text_of(version.position),
                time: version.time.into(),
                by: version.by,
                bytes: version.bytes as u64,
            });
            Ok(VersionList { versions: versions.collect(), next })
        }
        .boxed()
    }

    fn policy_version(&self, version: String) -> BoxFuture<'_, Result<PolicyList, Error>> {
        async move {
            let missing = || {
                Error::NotFound(format!("version {version} is not kept, or none of this broker's version"))
            };
            let position: Position = version.replace('-', ":").parse().map_err(|_| missing())?;
            if position == Position::default() {
                return Ok(list(&Versioned::default()));
            }
            let found = self.node.decisions().live_policies().version(position).await.map_err(unavailable)?;
            found.as_ref().map(list).ok_or_else(missing)
        }
        .boxed()
    }
}

impl Admin {
    /// The policies, if they would be taken.
    async fn judge(&self, policies: Vec<Policy>) -> Result<LivePolicies, Error> {
        let policies = LivePolicies::judge(policies).map_err(|errors| invalid(&errors))?;
        self.check_kinds(&policies).await?;
        Ok(policies)
    }

    /// Refuses policies by which a topic that keeps history now would keep none: what it has kept would be there, and nobody could read
    /// it. Topics that begin to keep some while the change is on its way to all nodes lose nothing that is being read.
    async fn check_kinds(&self, live: &LivePolicies) -> Result<(), Error> {
        let (before, after) = (self.node.policies(), self.node.policies().with(live));
        let mut n_left = KIND_CHECK_LOGS_MAX;
        for policy in after.list().iter().filter(|policy| !policy.is_durable()) {
            let Some(filter) = &policy.filter else { continue };
            let mut logs = Logs::under(filter.clone());
            while let Some(page) = logs.next(self).await? {
                if let Some(log) = page.iter().find(|log| would_lose(log, before, &after)) {
                    let detail = format!(
                        "the topic {} keeps {} messages, and would keep none under {filter}: delete it first, or leave it out of the filter",
                        log.topic,
                        n_kept(log),
                        filter = filter.as_str(),
                    );
                    return Err(Error::Conflict(detail));
                }
                n_left = n_left.saturating_sub(page.len());
                if n_left == 0 {
                    let detail = format!(
                        "more than {KIND_CHECK_LOGS_MAX} topics would have to be looked at for history that would be lost: choose narrower filters"
                    );
                    return Err(Error::TooLarge(detail));
                }
            }
        }
        Ok(())
    }

    /// The sessions of this node with a subscription that could match a topic under a filter.
    pub(super) fn subscribers(&self, filter: &TopicFilter) -> u64 {
        let mut n_subscribers = 0;
        self.node.sessions().each(|outbound| {
            let filters = outbound.lock().session().filters();
            n_subscribers += u64::from(filters.iter().any(|theirs| overlap(theirs, filter)));
        });
        n_subscribers
    }
}

/// Lists the logs under a filter, a step at a time.
struct Logs {
    filter: TopicFilter,
    after: Option<Topic>,
    is_done: bool,
}

impl Logs {
    const fn under(filter: TopicFilter) -> Self {
        Self { filter, after: None, is_done: false }
    }

    async fn next(&mut self, admin: &Admin) -> Result<Option<Vec<LogBounds>>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let (filter, after) = (self.filter.clone(), self.after.take());
        let query = TopicsQuery { filter, after, limit: RETENTION_LOGS_PER_STEP };
        let logs = admin.node.history().topics(query).await;
        let logs = logs.map_err(|error| Error::Unavailable(error.text))?;
        self.after = logs.last().map(|log| log.topic.clone());
        self.is_done = logs.len() < RETENTION_LOGS_PER_STEP;
        Ok(Some(logs))
    }
}

fn n_kept(log: &LogBounds) -> u64 {
    (log.head.offset.0 + 1).saturating_sub(log.first.offset.0)
}

/// Whether a topic keeps something that its readers could not read any more.
fn would_lose(log: &LogBounds, before: &Effective, after: &Effective) -> bool {
    let is_durable = |policies: &Effective| policies.for_topic(&log.topic).is_durable();
    n_kept(log) > 0 && is_durable(before) && !is_durable(after)
}

/// Whether there could be a topic that both filters match.
fn overlap(one: &TopicFilter, other: &TopicFilter) -> bool {
    let is_wild = |filter: &TopicFilter| filter.as_str().starts_with(['+', '#']);
    let is_reserved = |filter: &TopicFilter| filter.as_str().starts_with('$');
    if (is_wild(one) && is_reserved(other)) || (is_reserved(one) && is_wild(other)) {
        return false;
    }
    let (mut ones, mut others) = (one.levels(), other.levels());
    loop {
        match (ones.next(), others.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// What is wrong with what was given.
pub(super) fn invalid(errors: &Errors) -> Error {
    let fault = |error: &crate::config::Error| {
        let text = error.to_string();
        // Each begins with the key that it is about.
        let at = text.split([' ', ':']).next().unwrap_or_default().to_owned();
        Fault::new(at, text)
    };
    Error::Invalid { detail: errors.to_string(), faults: errors.0.iter().map(fault).collect() }
}

/// Who made a version, when, and how it is written.
pub(super) fn made<T>(version: &Versioned<T>) -> (String, Option<Timestamp>, String) {
    let is_made = version.position != Position::default();
    (version.by.clone(), is_made.then(|| version.time.into()), text_of(version.position))
}

fn text_of(position: Position) -> String {
    format!("{}-{}", position.epoch.0, position.offset.0)
}

fn list(version: &Versioned<LivePolicies>) -> PolicyList {
    let (by, time, text) = made(version);
    let policies = version.document.to_json();
    PolicyList { policies, version: text, position: version.position, by, time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_overlap_where_one_topic_could_match_both() {
        let both = |one: &str, other: &str| {
            let (one, other) = (TopicFilter::parse(one).unwrap(), TopicFilter::parse(other).unwrap());
            assert_eq!(overlap(&one, &other), overlap(&other, &one), "{one:?} {other:?}");
            overlap(&one, &other)
        };
        for (one, other) in
            [("a/b", "a/b"), ("a/#", "a"), ("a/+/c", "a/b/+"), ("#", "+/x"), ("$sys/#", "$sys/+")]
        {
            assert!(both(one, other), "{one} {other}");
        }
        for (one, other) in [("a/b", "a"), ("a/+", "a/b/c"), ("#", "$sys/x"), ("a/+/c", "a/b/d"), ("+", "$a")]
        {
            assert!(!both(one, other), "{one} {other}");
        }
    }
}
