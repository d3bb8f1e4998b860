//! The way of a dead message to its dead-letter topic.

use std::sync::Arc;

use bongsu_protocol::limits::{HEADER_BYTES_MAX, HEADERS_MAX};
use bongsu_protocol::message::{Delivery, Message, NewMessage};
use bongsu_protocol::position::Position;
use bongsu_protocol::queue::Dead;
use bongsu_protocol::reason::Error;
use bongsu_protocol::topic::Topic;
use sha2::{Digest, Sha256};

use super::handover::read;
use super::ledger::Ledger;
use super::names;
use super::pace::retry_pause;
use crate::limits::DEAD_LETTER_WINDOW;
use crate::metrics::METRICS;

/// Publishes a dead message where its kind goes, as often as it takes. Its place, when the store has it there.
pub(super) async fn bury(ledger: Ledger, prefix: Topic, dead: Dead, tries_max: u32) -> Position {
    let mut n_failures = 0;
    while let Err(error) = try_bury(&ledger, &prefix, dead, tries_max).await {
        tracing::debug!(topic = %ledger.topic, %error.text, "a dead message is not moved yet");
        tokio::time::sleep(retry_pause(n_failures)).await;
        n_failures += 1;
    }
    dead.position
}

async fn try_bury(ledger: &Ledger, prefix: &Topic, dead: Dead, tries_max: u32) -> Result<(), Error> {
    let page = read(&ledger.history, ledger.topic.clone(), dead.position).await?;
    // One that retention took, or that was erased, is not worth a letter.
    let message = page.into_asked().filter(|message| !message.delivery.erased);
    let Some(message) = message else { return Ok(()) };
    let Some(topic) = names::dead_letters(prefix, &ledger.topic) else {
        tracing::info!(topic = %ledger.topic, position = %dead.position, "a dead letter died again: it is dropped");
        METRICS.queue_dropped.add(1);
        return Ok(());
    };
    let reason = if dead.tries >= tries_max { "delivery_limit" } else { "rejected" };
    let message = letter(&ledger.log, &message.delivery, dead, reason);
    ledger.publisher.keep(NewMessage { topic, message, expect: None }, DEAD_LETTER_WINDOW).await?;
    METRICS.queue_dead.add(1);
    Ok(())
}

/// The message as it is kept: with headers that say where it is from and why, and of its own as many as there is room for.
fn letter(log: &Topic, delivery: &Arc<Delivery>, dead: Dead, reason: &str) -> Message {
    let Dead { position, tries } = dead;
    let mut headers: Vec<(String, String)> = [
        ("x-death-queue", log.to_string()),
        ("x-death-reason", reason.to_owned()),
        ("x-death-count", tries.to_string()),
        ("x-death-topic", delivery.topic.to_string()),
        ("x-death-epoch", position.epoch.0.to_string()),
        ("x-death-offset", position.offset.0.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let size = |headers: &[(String, String)]| -> usize {
        headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    };
    for header in &delivery.message.headers {
        let has_room = headers.len() < HEADERS_MAX
            && size(&headers) + header.0.len() + header.1.len() <= HEADER_BYTES_MAX;
        if has_room && !headers.iter().any(|(name, _)| *name == header.0) {
            headers.push(header.clone());
        }
    }
    // One per queue and message, so that it is kept once whoever tries it again.
    let digest = Sha256::digest(log.as_str());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Message {
        payload: delivery.message.payload.clone(),
        content_type: delivery.message.content_type.clone(),
        headers,
        id: format!("dead-{digest}-{}-{}", position.epoch.0, position.offset.0),
    }
}
