//! SEND, and the transactions that hold it back.

use std::ops::Deref;

use crate::command::{Command as Request, RequestId};
use crate::limits::{STOMP_TRANSACTION_BYTES_MAX, STOMP_TRANSACTION_FRAMES_MAX, STOMP_TRANSACTIONS_MAX};
use crate::message::{Delivery, Message, NewMessage};
use crate::reason::Error;
use crate::stomp::destination::{self, Dialect};
use crate::stomp::encoder::is_own_header;
use crate::stomp::frame::Frame;
use crate::stomp::refusal::Refusal;

use super::settle::Acknowledgment;
use super::token::TOKEN;
use super::{Conversation, Effect, required, translate};

/// Frames that wait for a COMMIT.
#[derive(Debug)]
pub(super) struct Transaction {
    name: String,
    steps: Vec<Step>,
    bytes: usize,
}

/// One of them.
#[derive(Debug)]
struct Step {
    action: Action,
    receipt: Option<String>,
}

#[derive(Debug)]
enum Action {
    Send(NewMessage),
    Settle(Acknowledgment),
}

impl<D> Conversation<D>
where
    D: Clone + Deref,
    D::Target: AsRef<Delivery>,
{
    pub(super) fn send(&mut self, frame: Frame) -> Result<(), Refusal> {
        if frame.header("message-id").is_some() {
            return Err(Refusal::new("Invalid header", "'message-id' is not allowed on 'SEND'."));
        }
        let destination = required(&frame, "destination", "Missing destination")?;
        if destination == TOKEN {
            return self.refresh_token(&frame);
        }
        let topic = destination::target(destination, self.settings.vocabulary)?;
        let transaction = frame.header("transaction").map(str::to_owned);
        let receipt = frame.header("receipt").map(str::to_owned);
        let mut message = message_of(frame);
        self.open_reply_to(&mut message)?;
        if let Err(invalid) = message.validate() {
            return Err(Refusal::new("Invalid message", invalid.to_string()));
        }
        let message = NewMessage { topic, message, expect: None };
        match transaction {
            Some(name) => self.hold_back(&name, Action::Send(message), receipt),
            None => {
                let id = self.next_request();
                self.receipts.push(id, receipt.as_deref());
                self.request(id, Request::Publish(vec![message]));
                Ok(())
            }
        }
    }

    /// Where a message wants its answers at a `/temp-queue`, that becomes an address that others can send to, read by this session.
    fn open_reply_to(&mut self, message: &mut Message) -> Result<(), Refusal> {
        let Some((_, value)) = message.headers.iter_mut().find(|(name, _)| name == "reply-to") else {
            return Ok(());
        };
        let speaker = destination::Speaker { subject: &self.session.grants().subject, session: &self.name };
        let Some(topic) = destination::reply_topic(value, speaker) else { return Ok(()) };
        let name = std::mem::replace(value, destination::render(&topic, Dialect::Slash));
        self.subscribe_to_replies(&name, topic)
    }

    pub(super) fn begin(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let name = required(frame, "transaction", "Missing transaction")?;
        if self.transactions.iter().any(|transaction| transaction.name == name) {
            let text = format!("A transaction identified by '{name}' is open already.");
            return Err(Refusal::new("Duplicated transaction identifier", text));
        }
        if self.transactions.len() == STOMP_TRANSACTIONS_MAX {
            let text = format!("A connection has at most {STOMP_TRANSACTIONS_MAX} open transactions.");
            return Err(Refusal::new("Too many transactions", text));
        }
        self.transactions.push(Transaction { name: name.to_owned(), steps: Vec::new(), bytes: 0 });
        self.done(frame);
        Ok(())
    }

    pub(super) fn abort(&mut self, frame: &Frame) -> Result<(), Refusal> {
        self.take_transaction(frame)?;
        self.done(frame);
        Ok(())
    }

    /// All of a transaction is asked for at once. Receipts of its frames come with that of the COMMIT.
    pub(super) fn commit(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let transaction = self.take_transaction(frame)?;
        let id = self.next_request();
        let mut messages = Vec::new();
        let mut settled = Vec::new();
        for Step { action, receipt } in transaction.steps {
            match action {
                Action::Send(message) if self.session.grants().may_publish(&message.topic) => {
                    messages.push(message);
                }
                Action::Send(message) => return Err(translate::denied(message.topic.as_str())),
                Action::Settle(acknowledgment) => settled.extend(self.settled_by(&acknowledgment)),
            }
            if let Some(receipt) = receipt {
                self.receipts.push(id, Some(&receipt));
            }
        }
        self.receipts.push(id, frame.header("receipt"));
        if messages.is_empty() && settled.is_empty() {
            self.settle_request(id);
        } else {
            self.effects.push_back(Effect::Commit { id, messages, settled });
        }
        Ok(())
    }

    /// What came of an [`Effect::Commit`]: all of it, or nothing.
    pub fn committed(&mut self, id: RequestId, result: Result<(), Error>) {
        match result {
            Ok(()) => self.settle_request(id),
            Err(error) => self.fail_request(id, &error),
        }
        self.advance();
    }

    /// Keeps an acknowledgment for the COMMIT.
    pub(super) fn hold_back_settlement(
        &mut self,
        name: &str,
        acknowledgment: Acknowledgment,
        receipt: Option<String>,
    ) -> Result<(), Refusal> {
        self.hold_back(name, Action::Settle(acknowledgment), receipt)
    }

    fn hold_back(&mut self, name: &str, action: Action, receipt: Option<String>) -> Result<(), Refusal> {
        let transaction = self.transactions.iter_mut().find(|transaction| transaction.name == name);
        let transaction = transaction.ok_or_else(|| unknown_transaction(name))?;
        transaction.bytes += receipt.as_ref().map_or(0, String::len);
        if let Action::Send(message) = &action {
            transaction.bytes += message.topic.as_str().len() + message.message.size_bytes();
        }
        let is_full = transaction.steps.len() == STOMP_TRANSACTION_FRAMES_MAX
            || transaction.bytes > STOMP_TRANSACTION_BYTES_MAX;
        if is_full {
            let text = format!(
                "A transaction has at most {STOMP_TRANSACTION_FRAMES_MAX} frames of \
                 {STOMP_TRANSACTION_BYTES_MAX} bytes together."
            );
            return Err(Refusal::new("Transaction too large", text));
        }
        transaction.steps.push(Step { action, receipt });
        Ok(())
    }

    fn take_transaction(&mut self, frame: &Frame) -> Result<Transaction, Refusal> {
        let name = required(frame, "transaction", "Missing transaction")?;
        let place = self.transactions.iter().position(|transaction| transaction.name == name);
        Ok(self.transactions.swap_remove(place.ok_or_else(|| unknown_transaction(name))?))
    }
}

fn unknown_transaction(name: &str) -> Refusal {
    Refusal::new("Bad transaction", format!("Invalid transaction identifier: \"{name}\""))
}

/// The message of a SEND: its headers but for those that were for the broker.
fn message_of(frame: Frame) -> Message {
    let mut message = Message { payload: frame.body, ..Message::default() };
    for (name, value) in frame.headers {
        match name.as_str() {
            "content-type" => message.content_type = value,
            "idempotency-key" => message.id = value,
            "receipt" | "transaction" => {}
            name if is_own_header(name) => {}
            _ => message.headers.push((name, value)),
        }
    }
    message
}
