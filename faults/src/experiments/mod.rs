//! Single questions to a healthy cluster, or to one that lacks one thing.

mod fanout;
mod first;
mod redis_away;
mod storm;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::wire::{Connection, Position};

pub(crate) use fanout::FanOut;
pub(crate) use first::{First, N_TOPICS as FIRST_TOPICS};
pub(crate) use redis_away::RedisAway;
pub(crate) use storm::{N_SUBSCRIBERS, N_TOPICS, Storm};

/// What the experiments found. Those that were not wanted are absent.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) redis_away: Option<RedisAway>,
    pub(crate) storm: Option<Storm>,
    pub(crate) fan_out: Vec<FanOut>,
    pub(crate) first: Option<First>,
}

/// Runs those that are wanted.
///
/// # Errors
/// One could not be made.
pub(crate) async fn run(broker: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    if wanted("redis-away") {
        eprintln!("== Redis away");
        findings.redis_away = Some(redis_away::run(broker).await?);
    }
    if wanted("fan-out") {
        eprintln!("== fan-out across nodes");
        findings.fan_out = fanout::run(broker).await?;
    }
    if wanted("first") {
        eprintln!("== first messages");
        findings.first = Some(first::run(broker).await?);
    }
    if wanted("storm") {
        eprintln!("== reconnect storm");
        findings.storm = Some(storm::run(broker).await?);
    }
    Ok(findings)
}

impl Findings {
    /// Promises of the experiments that were not kept.
    pub(crate) fn failures(&self) -> Vec<String> {
        let redis_away = self.redis_away.iter().flat_map(RedisAway::failures);
        let storm = self.storm.iter().flat_map(Storm::failures);
        let first = self.first.iter().flat_map(First::failures);
        redis_away.chain(storm).chain(first).chain(fanout::failures(&self.fan_out)).collect()
    }
}

/// Publishes numbers as one batch, each to its topic, and returns their positions.
async fn publish(connection: &mut Connection, messages: &[(String, u64)]) -> anyhow::Result<Vec<Position>> {
    let messages: Vec<_> = messages
        .iter()
        .map(|(topic, number)| json!({ "topic": topic, "data": number, "id": number.to_string() }))
        .collect();
    let id = connection.request("publish", json!({ "messages": messages })).await?;
    let reply = connection.reply(id).await?;
    let results = reply.published.with_context(|| format!("{:?}", reply.error))?.results;
    results
        .into_iter()
        .map(|result| Ok(result.published.with_context(|| format!("{:?}", result.error))?.position))
        .collect()
}

/// The value below which this share of the times lies.
fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}
