//! A consumer: a conversation in STOMP whose effects go to a node's queues, without a socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bongsu::carrier::Carrier;
use bongsu::clock;
use bongsu::dialog::{Dialog, Effect, Heard, Language, Said};
use bongsu::node::Node;
use bongsu::outbound::{ConnectionId, Outbound};
use bongsu::publisher::Completion;
use bongsu::queues::Consume;
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::session::Grants;
use bongsu_protocol::stomp::conversation::{self, Outgoing, Settings};
use bongsu_protocol::stomp::destination::Vocabulary;
use bongsu_protocol::stomp::{Command, Decoder, Frame, Version};
use bongsu_protocol::topic::Topic;
use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Longer than anything takes on a busy machine: a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Worker {
    node: Arc<Node>,
    /// Where the node's tasks run.
    runtime: Handle,
    pub(crate) outbound: Arc<Outbound>,
    decoder: Decoder,
    frames: VecDeque<Frame>,
    n_receipts: u64,
}

impl Worker {
    /// A connection to a node that runs where this is called from.
    pub(crate) fn of(node: &Arc<Node>) -> Self {
        Self::on(node, Handle::current())
    }

    /// A connection of the user `ann`, who may do everything.
    pub(crate) fn on(node: &Arc<Node>, runtime: Handle) -> Self {
        let settings = Settings {
            bounds: node.bounds(),
            vocabulary: Vocabulary::default(),
            server: "bongsu/1".to_owned(),
            beat_every: Duration::ZERO,
            beat_wanted: Duration::ZERO,
            prefetch: 100,
        };
        let id = node.next_connection();
        let grants = Grants { subject: "ann".to_owned(), ..Grants::everything() };
        let language = Language::Stomp(Arc::new(settings));
        let dialog = Dialog::new(language, node.bounds(), format!("s{}", id.0), grants.into());
        let outbound = Outbound::new(id, dialog, Carrier::Bytes, None);
        let (decoder, frames) = (Decoder::new(), VecDeque::new());
        let mut worker = Self { node: Arc::clone(node), runtime, outbound, decoder, frames, n_receipts: 0 };
        worker.say("CONNECT\naccept-version:1.2\n\n^");
        worker.decoder.use_version(Version::V12);
        worker.look();
        assert_eq!(worker.frames.pop_front().map(|frame| frame.command), Some(Command::Connected));
        worker
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.outbound.id()
    }

    /// Sends a frame, with `^` for NUL.
    pub(crate) fn say(&mut self, text: &str) {
        let bytes = text.replace('^', "\0").into_bytes().into();
        self.outbound.lock().dialog.hear(clock::wall(), &Heard::Binary(bytes));
        self.look();
    }

    /// Sends a frame with a receipt, and waits for that.
    pub(crate) async fn ask(&mut self, head: &str) {
        let receipt = self.begin(head);
        self.receipt(receipt).await;
    }

    /// Sends a frame with a receipt. Its number.
    pub(crate) fn begin(&mut self, head: &str) -> u64 {
        self.n_receipts += 1;
        let receipt = self.n_receipts;
        self.say(&format!("{head}\nreceipt:{receipt}\n\n^"));
        receipt
    }

    pub(crate) async fn receipt(&mut self, receipt: u64) {
        let receipt = receipt.to_string();
        let is_it = |frame: &Frame| frame.header("receipt-id") == Some(&receipt);
        let frame = self.wait_for("a receipt", is_it).await;
        assert_eq!(frame.command, Command::Receipt);
    }

    /// Subscribes to a queue, and waits until that is so.
    pub(crate) async fn consume(&mut self, name: &str, queue: &str, headers: &str) {
        self.ask(&format!("SUBSCRIBE\nid:{name}\ndestination:{queue}{headers}")).await;
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Frame {
        self.wait_for("a message", |frame| frame.command == Command::Message).await
    }

    /// The error that ends the conversation.
    pub(crate) async fn error(&mut self) -> Frame {
        self.wait_for("an error", |frame| frame.command == Command::Error).await
    }

    pub(crate) async fn settle(&mut self, command: &str, message: &Frame) {
        let id = message.header("ack").expect("it is to be acknowledged").to_owned();
        self.ask(&format!("{command}\nid:{id}")).await;
    }

    /// Goes without a word.
    pub(crate) fn vanish(self) {
        let _guard = self.runtime.enter();
        self.node.queues().gone(self.id());
    }

    async fn wait_for(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Frame {
        let outbound = Arc::clone(&self.outbound);
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                self.look();
                if let Some(place) = self.frames.iter().position(&is_it) {
                    return self.frames.remove(place).expect("it is there");
                }
                let error = self.frames.iter().find(|frame| frame.command == Command::Error);
                assert!(error.is_none(), "{error:?} instead of {what}");
                outbound.called().await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {what} in time"))
    }

    /// Does what the conversation asks for, and reads what it says.
    pub(crate) fn look(&mut self) {
        let _guard = self.runtime.enter();
        loop {
            while let Some(effect) = self.next_effect() {
                self.carry_out(effect);
            }
            let Some(said) = self.outbound.lock().dialog.poll_outgoing() else { break };
            let mut bytes = BytesMut::new();
            match said {
                Said::Stomp(Outgoing::Frame(frame)) => bytes.extend_from_slice(&frame),
                Said::Stomp(Outgoing::Message { head, tail, delivery }) => {
                    bytes.extend_from_slice(&head);
                    bytes.extend_from_slice(&delivery.stomp_tail(tail).bytes);
                }
                Said::Native(..) | Said::Echo(_) => panic!("in another language: {said:?}"),
            }
            self.decoder.push(&bytes);
            while let Some(frame) = self.decoder.next_frame().expect("frames that can be read") {
                self.frames.push_back(frame);
            }
        }
    }

    fn next_effect(&self) -> Option<Effect> {
        let mut state = self.outbound.lock();
        state.dialog.poll(clock::monotonic());
        state.dialog.poll_effect()
    }

    fn carry_out(&self, effect: Effect) {
        let queues = self.node.queues();
        let outbound = Arc::clone(&self.outbound);
        let Effect::Stomp(effect) = effect else { panic!("unexpected {effect:?}") };
        match effect {
            conversation::Effect::Verify(_) => {
                let mut state = outbound.lock();
                state.dialog.stomp().expect("it speaks STOMP").verified(Ok(None));
            }
            conversation::Effect::Consume { id: request, subscription, topic, group, from, prefetch } => {
                queues.consume(Consume { outbound, request, subscription, topic, group, from, prefetch });
            }
            conversation::Effect::Cancel { subscription, forget } => {
                queues.cancel(outbound.id(), subscription, forget);
            }
            conversation::Effect::Settle { id, settled } => queues.settle(&outbound, id, settled),
            conversation::Effect::Commit { id, messages, settled } => {
                queues.commit(outbound, id, "ann".to_owned(), messages, settled);
            }
            conversation::Effect::Close(_) | conversation::Effect::Beat { .. } => {}
            conversation::Effect::Session(_) => unreachable!("the dialog unpacks these"),
        }
    }
}

/// Publishes a message, and waits until it is kept. Its offset.
pub(crate) async fn publish(node: &Arc<Node>, topic: &str, payload: &str) -> u64 {
    let (caller, answer) = oneshot::channel();
    let message = Message::new(payload.to_owned());
    let message = NewMessage { topic: Topic::parse(topic).expect("a topic"), message, expect: None };
    if let Err(waiting) = node.publisher().publish("bob", message, Completion::Caller(caller)) {
        node.publisher().wait(waiting).await;
    }
    let published = answer.await.expect("an answer").expect("it is kept");
    published.position.expect("a place in the log").offset.0
}

/// What a message says.
pub(crate) fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(&frame.body).into_owned()
}
