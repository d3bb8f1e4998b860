//! ACK and NACK.

use std::ops::Deref;

use crate::command::RequestId;
use crate::message::Delivery;
use crate::position::Position;
use crate::queue::Settlement;
use crate::reason::Error;
use crate::stomp::frame::{Frame, Version};
use crate::stomp::refusal::Refusal;

use super::subscribe::{AckMode, SubscriptionKey};
use super::{Conversation, Effect, Settled};

/// A message of a queue that was sent and not settled.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) subscription: SubscriptionKey,
    pub(super) position: Position,
}

/// An ACK or a NACK that was understood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledgment {
    /// The number of the message.
    tag: u64,
    settlement: Settlement,
}

impl<D> Conversation<D>
where
    D: Clone + Deref,
    D::Target: AsRef<Delivery>,
{
    pub(super) fn acknowledge(&mut self, frame: &Frame, settlement: Settlement) -> Result<(), Refusal> {
        let tag = self.tag_of(frame)?;
        let acknowledgment = Acknowledgment { tag, settlement };
        if let Some(name) = frame.header("transaction") {
            let receipt = frame.header("receipt").map(str::to_owned);
            return self.hold_back_settlement(name, acknowledgment, receipt);
        }
        match self.settled_by(&acknowledgment) {
            Some(settled) => {
                let id = self.next_request();
                self.receipts.push(id, frame.header("receipt"));
                self.effects.push_back(Effect::Settle { id, settled });
            }
            None => self.done(frame),
        }
        Ok(())
    }

    /// What came of an [`Effect::Settle`].
    pub fn settled(&mut self, id: RequestId, result: Result<(), Error>) {
        match result {
            Ok(()) => self.settle_request(id),
            Err(error) => self.fail_request(id, &error),
        }
        self.advance();
    }

    /// Which message a frame is about: `id` in 1.2, `message-id` before; Spring and stompjs mix them up. One that was settled before, or
    /// whose subscription has ended, is known; one that was never sent is a mistake.
    fn tag_of(&self, frame: &Frame) -> Result<u64, Refusal> {
        let (own, other) =
            if self.version == Version::V12 { ("id", "message-id") } else { ("message-id", "id") };
        let command = frame.command.as_str();
        let Some(id) = frame.header(own).or_else(|| frame.header(other)) else {
            return Err(Refusal::new("Missing header", format!("{command} must include the '{own}' header")));
        };
        let tag = id.rsplit_once('@').filter(|(session, _)| *session == self.name);
        let tag =
            tag.and_then(|(_, tag)| tag.parse::<u64>().ok()).filter(|tag| (1..=self.last_tag).contains(tag));
        tag.ok_or_else(|| {
            Refusal::new("Invalid header", format!("{command} must include a valid '{own}' header"))
        })
    }

    /// What an acknowledgment settles: the message, and with the mode `client` those before it. `None`: nothing waits for it.
    pub(super) fn settled_by(&mut self, acknowledgment: &Acknowledgment) -> Option<Settled> {
        let Acknowledgment { tag, settlement } = *acknowledgment;
        let key = match self.held.get(&tag) {
            Some(held) => held.subscription,
            None => return None,
        };
        let subscription = self.subscriptions.get(key)?;
        let tags: Vec<u64> = match subscription.ack_mode {
            AckMode::Client => {
                let before = self.held.range(..=tag).filter(|(_, held)| held.subscription == key);
                before.map(|(tag, _)| *tag).collect()
            }
            AckMode::Auto | AckMode::ClientIndividual => vec![tag],
        };
        let positions = tags.iter().filter_map(|tag| self.held.remove(tag)).map(|held| held.position);
        Some(Settled { subscription: key, positions: positions.collect(), settlement })
    }
}
