//! Readers of a Durable Stream: what is there first, then one long poll after another, each from where the last answer ended.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Kept, Subscriber};
use crate::wire::http::{Http, encode};
use crate::wire::{Lost, Position, REPLY_TIMEOUT};

/// How long a poll may wait: its node's death is noticed by the connection's.
const PATIENCE_SECONDS: u64 = 5;

/// Between two questions for a stream that does not exist yet.
const ABSENT_PAUSE: Duration = Duration::from_millis(50);

impl Subscriber {
    /// One connection, to its end.
    pub(super) async fn read_by_polls(&self, way: SocketAddr, kept: &mut Kept) -> anyhow::Result<Infallible> {
        let topic = self.filters.first().context("a poll reads a topic")?;
        let levels: Vec<String> = topic.split('/').map(encode).collect();
        let path = format!("/v1/stream/{}", levels.join("/"));
        let mut http = timeout(REPLY_TIMEOUT, Http::open(way)).await.context("nobody answers")??;
        let mut is_at_head = false;
        // Retention took what comes after the position that is kept.
        let mut is_trimmed = false;
        loop {
            let known = kept.positions.get(topic).copied().filter(|_| !is_trimmed);
            let offset = known.map_or_else(
                || "-1".to_owned(),
                |Position { epoch, offset }| format!("{epoch:016}_{offset:016}"),
            );
            let wait = if is_at_head {
                format!("&live=long-poll&timeout={PATIENCE_SECONDS}")
            } else {
                String::new()
            };
            let asked = async {
                let response =
                    http.request("GET", &format!("{path}?offset={offset}{wait}"), &[], b"").await?;
                anyhow::Ok((response, http.body().await?))
            };
            let patience = REPLY_TIMEOUT + Duration::from_secs(PATIENCE_SECONDS);
            let (response, body) = timeout(patience, asked).await.context("no answer in time")??;
            match response.status {
                200 => {
                    self.connected(kept, "");
                    let next = response.header("stream-next-offset").and_then(position_of);
                    let next = next.context("an answer says where the next one begins")?;
                    self.take_answer(topic, next, &body, known.is_none(), kept)?;
                    is_trimmed = false;
                    is_at_head = response.header("stream-up-to-date") == Some("true");
                }
                204 => {}
                404 => sleep(ABSENT_PAUSE).await,
                410 => is_trimmed = true,
                other => bail!("{other}: {}", String::from_utf8_lossy(&body)),
            }
            if response.header("connection") == Some("close") {
                bail!("the node goes away");
            }
        }
    }

    /// The messages of an answer. Their offsets are those up to where the next answer begins.
    fn take_answer(
        &self,
        topic: &str,
        next: Position,
        body: &[u8],
        is_from_start: bool,
        kept: &mut Kept,
    ) -> anyhow::Result<()> {
        let messages: Vec<Value> = serde_json::from_slice(body).context("an answer is an array")?;
        ensure!(messages.len() as u64 <= next.offset, "{} messages before {next}", messages.len());
        let first = next.offset - messages.len() as u64 + 1;
        let known = kept.positions.get(topic).copied();
        if let Some(known) = known.filter(|known| is_from_start && known.offset + 1 < first) {
            let (epoch, from) = (next.epoch, known.offset + 1);
            self.lost(kept, &Lost { topic: topic.to_owned(), epoch, from, until: first - 1 });
        }
        for (offset, message) in (first..).zip(messages) {
            let position = Position { epoch: next.epoch, offset };
            // Where it began anew, some of it came before.
            if !(is_from_start && known.is_some_and(|known| position <= known)) {
                self.came(kept, topic, position, &message.to_string());
            }
        }
        Ok(())
    }
}

fn position_of(token: &str) -> Option<Position> {
    let (epoch, offset) = token.split_once('_')?;
    Some(Position { epoch: epoch.parse().ok()?, offset: offset.parse().ok()? })
}
