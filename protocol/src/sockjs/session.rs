//! One session, whose receiving requests come and go.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::limits::{SOCKJS_BATCH_BYTES_MAX, SOCKJS_QUEUE_BYTES_MAX};

use super::frame::{self, Close, Message};
use super::transport::Transport;

/// Time since any fixed moment, as the shell counts it.
type Time = Duration;

/// The times of a service.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A heartbeat is written after as long without anything else; 25 s is usual, and `jsonp` clients give up after 35 s.
    pub heartbeat: Duration,
    /// A session without a receiving request is over after this; 5 s is usual.
    pub disconnect: Duration,
}

/// Something to be written to the receiving request, and flushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes, in the transport's wrapping.
    pub bytes: Bytes,
    /// Whether the request is answered in full: end it. The session waits for the next one, if it is not over.
    pub ends: bool,
}

/// How a receiving request ended before its answer was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// This side ended it: the client comes again.
    ByServer,
    /// The network or the client did: what was written last may be lost, so the session is over.
    ByNetwork,
}

/// One session.
///
/// ```text
///        attach                close, network            disconnect delay
///   New ───────▶ Open ─────────────────────▶ Closing ─────────────────────▶ Closed
///                  └─────────── disconnect delay without a request ────────────▲
/// ```
///
/// Pure: time is an argument. The shell calls [`attach`](Self::attach) for each receiving request, writes what
/// [`poll_chunk`](Self::poll_chunk) gives, and tells when a request ended by itself. At most one request receives at a time.
#[derive(Debug)]
pub struct Session {
    timing: Timing,
    state: State,
    /// Whether heartbeats are sent: not where what runs on top has its own.
    beats: bool,
    receiver: Option<Receiver>,
    /// Messages for the client, in order.
    queue: VecDeque<Message>,
    queued_bytes: usize,
    /// When the next heartbeat is due, or, without a receiver, when the session is over.
    due: Option<Time>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    New,
    Open,
    /// The frame that every receiving request gets.
    Closing(String),
    Closed,
}

#[derive(Debug)]
struct Receiver {
    transport: Transport,
    /// Bytes that this answer still takes; `None`: any number.
    left_bytes: Option<usize>,
    /// The open frame was not written yet.
    owes_open: bool,
    owes_heartbeat: bool,
}

impl Session {
    /// A session that waits for its first request.
    #[must_use]
    pub fn new(now: Time, timing: Timing) -> Self {
        Self {
            timing,
            state: State::New,
            beats: true,
            receiver: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            due: Some(now + timing.disconnect),
        }
    }

    /// A receiving request is there. Its answer takes at most `limit_bytes` of frames before it ends, wrapping included.
    ///
    /// # Errors
    /// What to answer instead, after the transport's prelude: this session has another request. Write it and end the request.
    pub fn attach(
        &mut self,
        now: Time,
        transport: Transport,
        limit_bytes: Option<usize>,
    ) -> Result<(), Chunk> {
        if self.receiver.is_some() {
            let bytes = transport.wrap(&Close::another_connection().frame());
            return Err(Chunk { bytes, ends: true });
        }
        let owes_open = self.state == State::New;
        if owes_open {
            self.state = State::Open;
        }
        self.receiver =
            Some(Receiver { transport, left_bytes: limit_bytes, owes_open, owes_heartbeat: false });
        self.due = self.beats.then_some(now + self.timing.heartbeat);
        Ok(())
    }

    /// The receiving request ended without this session having said so.
    pub fn detach(&mut self, now: Time, ended: Ended) {
        let Some(receiver) = self.receiver.take() else { return };
        if receiver.transport == Transport::WebSocket {
            // It lives as long as its socket.
            self.state = State::Closed;
        } else if ended == Ended::ByNetwork && self.state == State::Open {
            self.forget_queue();
            self.state = State::Closing(Close::interrupted().frame());
        }
        self.due = (self.state != State::Closed).then_some(now + self.timing.disconnect);
    }

    /// Lets the receiving request end with its next frame, or with a heartbeat at once: the client should come again, another way.
    pub fn release(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.left_bytes = Some(0);
            receiver.owes_heartbeat = true;
        }
    }

    /// Queues a message for the client; without effect once the session closes. Ask [`has_room`](Self::has_room) first.
    pub fn send(&mut self, message: Message) {
        if matches!(self.state, State::New | State::Open) {
            self.queued_bytes += message.len();
            self.queue.push_back(message);
        }
    }

    /// Whether another message should be queued: fewer than [`SOCKJS_QUEUE_BYTES_MAX`] bytes wait. One large one may go past it.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.queued_bytes < SOCKJS_QUEUE_BYTES_MAX
    }

    /// Closes: what waits is still written, then every receiving request gets this, until the disconnect delay is over.
    pub fn close(&mut self, close: &Close) {
        self.close_with(close.frame());
    }

    /// The same with the close's frame, as [`Close::frame`] made it.
    pub fn close_with(&mut self, frame: String) {
        if matches!(self.state, State::New | State::Open) {
            self.state = State::Closing(frame);
        }
    }

    /// Sends no heartbeats from here on: what runs on top of the session has its own.
    pub fn stop_heartbeat(&mut self) {
        self.beats = false;
        if let Some(receiver) = &mut self.receiver {
            receiver.owes_heartbeat = false;
            self.due = None;
        }
    }

    /// The next thing to write.
    pub fn poll_chunk(&mut self, now: Time) -> Option<Chunk> {
        let receiver = self.receiver.as_mut()?;
        let (frame, is_last) = if receiver.owes_open {
            receiver.owes_open = false;
            (frame::OPEN.to_owned(), false)
        } else if !self.queue.is_empty() {
            (self.next_batch(), false)
        } else if let State::Closing(frame) = &self.state {
            (frame.clone(), true)
        } else if receiver.owes_heartbeat {
            receiver.owes_heartbeat = false;
            (frame::HEARTBEAT.to_owned(), false)
        } else {
            return None;
        };
        let receiver = self.receiver.as_mut()?;
        receiver.owes_heartbeat = false;
        let bytes = receiver.transport.wrap(&frame);
        let is_full = receiver.left_bytes.as_mut().is_some_and(|left| {
            *left = left.saturating_sub(bytes.len());
            *left == 0
        });
        let ends = is_last || is_full || receiver.transport.is_polling();
        if ends {
            self.detach(now, Ended::ByServer);
        } else {
            self.due = self.beats.then_some(now + self.timing.heartbeat);
        }
        Some(Chunk { bytes, ends })
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) though nothing else happened.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Time> {
        self.due
    }

    /// Time has passed: a heartbeat may be due, or the session be over.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        match &mut self.receiver {
            Some(receiver) => {
                receiver.owes_heartbeat = true;
                self.due = Some(now + self.timing.heartbeat);
            }
            None => {
                self.forget_queue();
                self.state = State::Closed;
                self.due = None;
            }
        }
    }

    /// Whether messages of the client are taken: otherwise a sending request is answered with 404.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether something would be written to a receiving request, if there were one.
    #[must_use]
    pub fn has_chunk(&self) -> bool {
        let owes =
            self.receiver.as_ref().is_some_and(|receiver| receiver.owes_open || receiver.owes_heartbeat);
        owes || !self.queue.is_empty() || matches!(self.state, State::Closing(_))
    }

    /// Whether no request came yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.state == State::New
    }

    /// Whether a request receives.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.receiver.is_some()
    }

    /// Whether the session is over and can be forgotten. A request with its name opens a new one.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Messages for one frame: all that wait, or as many as make a frame of [`SOCKJS_BATCH_BYTES_MAX`].
    fn next_batch(&mut self) -> String {
        let mut n_messages = 0;
        let mut bytes = 0;
        for message in &self.queue {
            if n_messages > 0 && bytes + message.len() > SOCKJS_BATCH_BYTES_MAX {
                break;
            }
            n_messages += 1;
            bytes += message.len();
        }
        self.queued_bytes -= bytes;
        let frame = frame::messages(self.queue.iter().take(n_messages));
        self.queue.drain(..n_messages);
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        frame
    }

    fn forget_queue(&mut self) {
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
    }
}
