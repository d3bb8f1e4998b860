//! What the session inside and the queues give out, as frames.

use std::ops::Deref;

use bytes::BytesMut;

use crate::event::{Event, Lost, Reply};
use crate::message::Delivery;
use crate::position::Position;
use crate::queue::Settlement;
use crate::reason::{CloseReason, Error, ErrorCode};
use crate::session;
use crate::stomp::encoder::{MessageHead, TailKind, encode_message_head};
use crate::stomp::frame::Version;
use crate::stomp::refusal::Refusal;

use super::settle::Held;
use super::subscribe::{AckMode, Reads, Subscription, SubscriptionKey};
use super::{Conversation, Dialect, Outgoing, Ready, Settled, State};

/// What the next message of a topic tells besides itself: STOMP has no frame for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Note {
    lost: Option<u64>,
    reset: bool,
}

impl<D> Conversation<D>
where
    D: Clone + Deref,
    D::Target: AsRef<Delivery>,
{
    /// Turns one thing that the session gives out into frames that are ready.
    pub(super) fn translate(&mut self, outgoing: session::Outgoing<D>) {
        match outgoing {
            session::Outgoing::Delivery(delivery) => self.fan_out(&delivery),
            session::Outgoing::Event(event) => match *event {
                Event::Reply { id, result: Ok(reply) } => {
                    let error = match reply {
                        Reply::Published(results) => results.into_iter().find_map(Result::err),
                        // Who left before it was made does not ask what came of it.
                        Reply::Subscribed(results) if self.awaited.remove(&id).is_some() => {
                            results.into_iter().find_map(Result::err)
                        }
                        _ => None,
                    };
                    match error {
                        Some(error) => self.fail_request(id, &error),
                        None => self.settle_request(id),
                    }
                    self.advance();
                }
                Event::Reply { id, result: Err(error) } => self.fail_request(id, &error),
                Event::Lost(Lost { topic, count, .. }) => {
                    let note = self.notes.entry(topic).or_default();
                    note.lost = Some(note.lost.unwrap_or(0) + count);
                }
                Event::Reset { topic, .. } => self.notes.entry(topic).or_default().reset = true,
                Event::Unsubscribed { filter, error } => {
                    let text = format!("No more messages will be delivered for '{filter}': {}", error.text);
                    self.refuse(&Refusal::closing(reason(&error), "Server cancelled subscription", text));
                }
                Event::Goodbye(goodbye) => self.close(&goodbye),
                Event::TokenExpiring(expiring) => self.warn_of_token(expiring),
                Event::Welcome(_) | Event::Delivery(_) | Event::Heartbeat => {}
            },
        }
    }

    /// One MESSAGE for each subscription that the message is for.
    fn fan_out(&mut self, delivery: &D) {
        if self.state != State::Open {
            return;
        }
        let message: &Delivery = delivery.as_ref();
        let note = self.notes.remove(&message.topic).unwrap_or_default();
        // Put back below: what is sent changes the rest of the conversation, and no subscription.
        let subscriptions = std::mem::take(&mut self.subscriptions);
        for subscription in subscriptions.matching(&message.topic) {
            self.push_message(subscription, delivery, note, None);
        }
        self.subscriptions = subscriptions;
    }

    /// A message of a queue for one of its consumers. False if that is one no longer: the queue heard, or will hear, that it was cancelled.
    pub fn deliver(
        &mut self,
        subscription: SubscriptionKey,
        position: Position,
        is_redelivered: bool,
        delivery: &D,
    ) -> bool {
        let subscriptions = std::mem::take(&mut self.subscriptions);
        let consumer = subscriptions.get(subscription).filter(|_| self.state == State::Open);
        let ack_mode = consumer.map(|consumer| {
            self.push_message(consumer, delivery, Note::default(), Some(is_redelivered));
            consumer.ack_mode
        });
        self.subscriptions = subscriptions;
        let Some(ack_mode) = ack_mode else { return false };
        if ack_mode == AckMode::Auto {
            let settled = Settled { subscription, positions: vec![position], settlement: Settlement::Done };
            if let Some(ready) = self.ready.back_mut() {
                ready.settles = Some(settled);
            }
        } else {
            self.held.insert(self.last_tag, Held { subscription, position });
        }
        true
    }

    fn push_message(
        &mut self,
        subscription: &Subscription,
        delivery: &D,
        note: Note,
        redelivered: Option<bool>,
    ) {
        self.last_tag += 1;
        let message_id = format!("{}@{}", self.name, self.last_tag);
        let head = MessageHead {
            subscription: subscription.is_named.then_some(subscription.name.as_str()),
            message_id: &message_id,
            is_acked: self.version == Version::V12 && subscription.ack_mode != AckMode::Auto,
            redelivered,
            lost: note.lost,
            reset: note.reset,
        };
        let mut out = BytesMut::with_capacity(64 + subscription.name.len() + 2 * message_id.len());
        encode_message_head(self.version, &head, &mut out);
        let dialect = match &subscription.reads {
            Reads::Topics { dialect, .. } => *dialect,
            Reads::Queue => Dialect::Slash,
        };
        let tail = TailKind { version: self.version, dialect };
        let outgoing = Outgoing::Message { head: out.freeze(), tail, delivery: delivery.clone() };
        self.ready.push_back(Ready { outgoing, settles: None });
    }
}

/// What an ERROR says about a request that failed.
pub(super) fn refusal(error: &Error) -> Refusal {
    let message = match error.code {
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => "access_refused",
        ErrorCode::NotFound => "not_found",
        ErrorCode::TooLarge => "Message too large",
        ErrorCode::TooMany => "Too many subscriptions",
        ErrorCode::RateLimited => "Rate limited",
        ErrorCode::Unavailable => "Unavailable",
        ErrorCode::BadRequest | ErrorCode::Conflict | ErrorCode::Unsupported => "Bad request",
        ErrorCode::Internal => "Internal error",
    };
    Refusal::closing(reason(error), message, error.text.clone())
}

/// The refusal of something on a topic that the client's grants do not have.
pub(super) fn denied(topic: &str) -> Refusal {
    let text = format!("This token does not allow that on '{topic}'.");
    Refusal::closing(CloseReason::Forbidden, "access_refused", text)
}

const fn reason(error: &Error) -> CloseReason {
    match error.code {
        ErrorCode::Unauthenticated => CloseReason::Unauthenticated,
        ErrorCode::Forbidden => CloseReason::Forbidden,
        ErrorCode::TooLarge => CloseReason::TooLarge,
        ErrorCode::RateLimited | ErrorCode::Unavailable => CloseReason::Overloaded,
        ErrorCode::Internal => CloseReason::Internal,
        ErrorCode::BadRequest
        | ErrorCode::NotFound
        | ErrorCode::TooMany
        | ErrorCode::Conflict
        | ErrorCode::Unsupported => CloseReason::ProtocolError,
    }
}
