//! Readers of STOMP, which resume each subscription by the `epoch` and `offset` of its last MESSAGE.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};

use super::{Kept, Subscriber};
use crate::wire::stomp::{Frame, Stomp};
use crate::wire::{Lost, Position};

impl Subscriber {
    /// One connection, to its end.
    pub(super) async fn read_stomp(&self, way: SocketAddr, kept: &mut Kept) -> anyhow::Result<Infallible> {
        let mut stomp = Stomp::open(self.transport, way).await?;
        for (idx, topic) in self.filters.iter().enumerate() {
            let (id, destination) = (idx.to_string(), format!("/topic/{topic}"));
            let mut headers = vec![("id", id.as_str()), ("destination", &destination), ("receipt", &id)];
            let (offset, epoch);
            match kept.positions.get(topic) {
                None => headers.push(("offset", "first")),
                // The offset to begin with, not the one before.
                Some(position) => {
                    (offset, epoch) = ((position.offset + 1).to_string(), position.epoch.to_string());
                    headers.extend([("offset", offset.as_str()), ("epoch", epoch.as_str())]);
                }
            }
            stomp.send("SUBSCRIBE", &headers, b"").await?;
        }
        let mut n_receipts = 0;
        loop {
            let frame = stomp.frame().await?;
            match frame.command.as_str() {
                "MESSAGE" => self.take_message(&frame, kept)?,
                "RECEIPT" => {
                    n_receipts += 1;
                    if n_receipts == self.filters.len() {
                        self.connected(kept, "");
                    }
                }
                other => anyhow::bail!("what is {other}?"),
            }
        }
    }

    fn take_message(&self, frame: &Frame, kept: &mut Kept) -> anyhow::Result<()> {
        let subscription = usize::try_from(frame.number("subscription")?)?;
        let topic = self.filters.get(subscription).context("a subscription that nobody made")?;
        let destination = frame.header("destination");
        ensure!(destination == Some(&format!("/topic/{topic}")), "{frame:?} is not for {topic}");
        let position = Position { epoch: frame.number("epoch")?, offset: frame.number("offset")? };
        if frame.header("lost").is_some() {
            // That many before this one: the checker wants them named, and to follow what came.
            let from = position.offset.saturating_sub(frame.number("lost")?);
            let lost = Lost { topic: topic.clone(), epoch: position.epoch, from, until: position.offset - 1 };
            self.lost(kept, &lost);
        }
        let payload = String::from_utf8_lossy(&frame.body);
        self.came(kept, topic, position, &payload);
        Ok(())
    }
}
