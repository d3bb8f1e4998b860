//! Readers of `/v1/events`: an `EventSource` that resumes by `Last-Event-ID`, and lines of JSON that resume by position.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::timeout;

use super::{Kept, Subscriber};
use crate::transport::Transport;
use crate::wire::http::{Http, encode};
use crate::wire::{Position, REPLY_TIMEOUT, parse};

/// A stream on which nothing came for this long is dead: signs of life come every 15 to 20 s.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// An event that has no end yet (HTML, 9.2.6).
#[derive(Default)]
struct Partial {
    name: String,
    data: String,
    id: Option<String>,
}

impl Subscriber {
    /// One connection, to its end.
    pub(super) async fn read_events(&self, way: SocketAddr, kept: &mut Kept) -> anyhow::Result<Infallible> {
        let topics = self.filters.iter().map(|topic| format!("topic={}&", encode(topic)));
        let mut target = format!("/v1/events?{}from=", topics.collect::<String>());
        let mut headers = vec![("accept", "text/event-stream")];
        let position = self.filters.first().and_then(|topic| kept.positions.get(topic));
        match (self.transport, position) {
            (Transport::Lines, Some(position)) => target.push_str(&position.to_string()),
            _ => target.push_str("earliest"),
        }
        if self.transport == Transport::Lines {
            headers = vec![("accept", "application/x-ndjson")];
        }
        let bookmark = kept.bookmark.clone();
        headers.extend(bookmark.as_deref().map(|bookmark| ("last-event-id", bookmark)));
        let opened = async {
            let mut http = Http::open(way).await?;
            let response = http.request("GET", &target, &headers, b"").await?;
            if response.status != 200 {
                bail!("{}: {}", response.status, String::from_utf8_lossy(&http.body().await?));
            }
            ensure!(response.header("x-resume") != Some("lost"), "{bookmark:?} is none");
            Ok(http)
        };
        let mut http = timeout(REPLY_TIMEOUT, opened).await.context("no answer in time")??;
        self.connected(kept, "");
        let (mut bytes, mut partial) = (Vec::new(), Partial::default());
        loop {
            let part = timeout(SILENCE_MAX, http.part()).await.context("no sign of life")??;
            bytes.extend(part.context("the stream ended")?);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                let line = std::str::from_utf8(&line[..end])?;
                if self.transport != Transport::Lines {
                    self.take_line(line, &mut partial, kept)?;
                } else if !line.is_empty() {
                    for event in parse(line)? {
                        self.handle(event, kept)?;
                    }
                }
            }
        }
    }

    /// A line of server-sent events. An empty one ends an event.
    fn take_line(&self, line: &str, partial: &mut Partial, kept: &mut Kept) -> anyhow::Result<()> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                partial.data.push_str(value);
                partial.data.push('\n');
            }
            "event" => value.clone_into(&mut partial.name),
            "id" => partial.id = Some(value.to_owned()),
            "" if line.is_empty() => {
                let Partial { name, mut data, id } = std::mem::take(partial);
                if id.is_some() {
                    kept.bookmark = id;
                }
                if data.pop().is_some() {
                    self.dispatch(&name, &data, kept)?;
                }
            }
            // Comments, and the pause that the broker wishes for: readers here have their own.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&self, name: &str, data: &str, kept: &mut Kept) -> anyhow::Result<()> {
        if !name.is_empty() || self.transport == Transport::EventsOfSeveral {
            for event in parse(data)? {
                self.handle(event, kept)?;
            }
            return Ok(());
        }
        // In a stream of one topic, a message's bookmark is its position.
        let topic = self.filters.first().context("an event source reads a topic")?;
        let id = kept.bookmark.clone().unwrap_or_default();
        let position = id.split_once(':').and_then(|(epoch, offset)| {
            Some(Position { epoch: epoch.parse().ok()?, offset: offset.parse().ok()? })
        });
        self.came(kept, topic, position.with_context(|| format!("the id {id:?} is no position"))?, data);
        Ok(())
    }
}
