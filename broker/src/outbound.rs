//! The half of a connection that others may touch: its session, and what waits to be written.
//!
//! Waking a task for each delivery costs more than the delivery. So the side that fans out gives a message to the session itself
//! and, once per batch, writes what piled up to the socket itself, as long as the socket takes it. The connection's
//! own task is woken only where something must wait: a full socket, a page of history, the end.
//!
//! The lock is held for short, bounded, synchronous work and never across an await.

mod account;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bongsu_protocol::codec::Format;
use bongsu_protocol::event::Event;
use bongsu_protocol::message::Time;
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bongsu_protocol::session::{Offer, Outgoing, Session};
use bongsu_protocol::sockjs::{Close, Message};
use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::carrier::{self, Carrier};
use crate::clock;
use crate::delivery::SharedDelivery;
use crate::dialog::{Dialog, Heard, Said};
use crate::limits::FRAMES_PER_WRITE_MAX;
use crate::metrics::METRICS;
use crate::trace::Tap;
use crate::websocket::frame;

pub use account::Account;

/// A connection's number on this node, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The shared half of a connection. See the [module](self).
#[derive(Debug)]
pub struct Outbound {
    id: ConnectionId,
    /// The socket, where whoever fans out may write it; `None` where only the connection's task can (TLS, HTTP/2).
    socket: Option<Arc<TcpStream>>,
    state: Mutex<State>,
    /// Rung when the connection's task has something to do.
    bell: Notify,
}

/// What the lock guards.
#[derive(Debug)]
pub struct State {
    /// What is spoken.
    pub dialog: Dialog,
    carrier: Carrier,
    writer: Writer,
    /// What went over it.
    pub account: Account,
    /// Where what happens here is told, once it has a place among the connections.
    tap: Option<Tap>,
    /// The connection's task does not read until the session wants input again, and must be woken then.
    is_input_stopped: bool,
    /// The carrier's own heartbeats are wanted.
    beats: bool,
}

#[derive(Debug, Default)]
struct Writer {
    /// Frames on their way to the socket; the first may be written in part.
    frames: VecDeque<Bytes>,
    /// The answer to the client's last ping.
    pong: Option<Bytes>,
    /// A ping is due.
    ping: bool,
    /// The close frame was queued: nothing follows it.
    closed: Closed,
    /// The socket took less than it was given: whoever waits for it to be writable goes on.
    is_blocked: bool,
    /// When the socket last took a byte, or had nothing to take.
    progress_at: Duration,
    /// When something was last written.
    written_at: Duration,
    /// When a full socket last took bytes again: the other side reads, however slowly.
    drained_at: Duration,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Closed {
    #[default]
    No,
    /// This frame is the last one, once everything before it was taken.
    With(Bytes),
    Queued,
}

/// How far writing got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything was written.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// Everything was written, and the close frame was the last of it.
    Closed,
}

impl Outbound {
    /// The shared half of a new connection.
    #[must_use]
    pub fn new(
        id: ConnectionId,
        dialog: Dialog,
        carrier: Carrier,
        socket: Option<Arc<TcpStream>>,
    ) -> Arc<Self> {
        let now = clock::monotonic();
        let frames = carrier.open().into_iter().collect();
        let writer = Writer { frames, progress_at: now, written_at: now, ..Writer::default() };
        Arc::new(Self {
            id,
            socket,
            state: Mutex::new(State {
                dialog,
                carrier,
                writer,
                account: Account { heard_at: now, ..Account::default() },
                tap: None,
                is_input_stopped: false,
                beats: true,
            }),
            bell: Notify::new(),
        })
    }

    /// The connection's number.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Locks the state, for short and bounded work. Whoever makes something to send calls [`flush`](Self::flush) afterwards.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock ends that connection's task or the delivery to it; what it left is still a valid queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers messages of one topic, in order. True if there is something to flush that was not there before.
    pub fn offer(&self, offers: &[Offer<'_, SharedDelivery>]) -> bool {
        let mut state = self.lock();
        let before = state.dialog.has_outgoing();
        let session = state.dialog.session_mut();
        for offer in offers {
            session.offer(offer);
        }
        if session.has_effect() || session.wants_poll() {
            self.bell.notify_one();
        }
        !before && state.dialog.has_outgoing() && !state.writer.is_blocked
    }

    /// Writes what waits, as far as the socket takes it. Where only the connection's task can write, it is woken instead.
    pub fn flush(&self) {
        let Some(socket) = &self.socket else { return self.bell.notify_one() };
        let mut state = self.lock();
        // A full socket is waited for by the connection's task; after the close frame there is nothing to write.
        if state.writer.is_blocked || state.is_close_sent() {
            return;
        }
        let flushed = state.write_to(|slices| match slices {
            // The plain call is cheaper, and single messages are what nobody can write together.
            [frame] => socket.try_write(frame),
            _ => socket.try_write_vectored(slices),
        });
        if !matches!(flushed, Ok(Flushed::All)) || state.needs_task() {
            self.bell.notify_one();
        }
    }

    /// Writes what waits, after the socket became writable again.
    ///
    /// # Errors
    /// The socket's own: the connection is over.
    pub fn flush_writable(
        &self,
        write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Flushed> {
        self.lock().write_to(write)
    }

    /// Waits until somebody else gave the connection's task something to do.
    pub async fn called(&self) {
        self.bell.notified().await;
    }

    /// Gives the connection's task something to do: look at the session.
    pub fn call(&self) {
        self.bell.notify_one();
    }
}

impl State {
    /// The session inside, whatever is spoken.
    #[must_use]
    pub const fn session(&self) -> &Session<SharedDelivery> {
        self.dialog.session()
    }

    /// The session inside, for what it hears of topics. What answers a request goes through [`Dialog::tell`].
    pub const fn session_mut(&mut self) -> &mut Session<SharedDelivery> {
        self.dialog.session_mut()
    }

    /// Takes a message of the client.
    pub fn hear(&mut self, wall: Time, heard: &Heard) {
        let (Heard::Text(body) | Heard::Binary(body)) = heard;
        self.account.heard(clock::monotonic(), body.len());
        if let Some(tap) = &self.tap {
            tap.heard(&self.dialog, heard);
        }
        self.dialog.hear(wall, heard);
    }

    /// Says goodbye in the protocol's own words; what waits is sent first.
    pub fn say_goodbye(&mut self, goodbye: Goodbye) {
        if !self.dialog.is_closing() {
            self.account.note_farewell(&goodbye.text);
        }
        self.dialog.close(goodbye);
    }

    /// Tells what happens here from now on.
    pub fn tap(&mut self, tap: Tap) {
        tap.opened(&self.session().grants().subject);
        self.tap = Some(tap);
    }

    /// Tells that it ended.
    pub fn note_closed(&self, reason: CloseReason) {
        if let Some(tap) = &self.tap {
            tap.closed(&self.session().grants().subject, reason);
        }
    }

    /// The next delivery or event, for whoever writes it in a form of its own.
    pub fn take_outgoing(&mut self) -> Option<Outgoing<SharedDelivery>> {
        let outgoing = self.session_mut().poll_outgoing()?;
        self.account.frames_out += 1;
        if let Some(tap) = self.tap.as_ref().filter(|tap| tap.is_on()) {
            tap.said(&self.session().grants().subject, &Said::Native(Format::Json, outgoing.clone()));
        }
        Some(outgoing)
    }

    /// Bytes that wait for the socket, with what they cost beside their own.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.session().waiting_bytes() + self.writer.frames.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there are pings, which the other side answers by itself.
    #[must_use]
    pub const fn has_pings(&self) -> bool {
        self.carrier.has_pings()
    }

    /// Lets the carrier's own goodbye be the last that is written, after everything that waits. The first call counts.
    pub fn close(&mut self, goodbye: &Goodbye) {
        let close = self.carrier.close(goodbye);
        self.close_with(close);
    }

    /// The same with any code and reason, as SockJS has them.
    pub fn close_as(&mut self, close: &Close) {
        let close = self.carrier.close_as(close);
        self.close_with(close);
    }

    /// A sign of life that scripts can see, if the carrier or the dialog has one.
    pub fn heartbeat(&mut self) {
        match self.carrier.heartbeat() {
            Some(heartbeat) if self.beats => self.writer.frames.push_back(heartbeat),
            Some(_) => {}
            None => self.dialog.heartbeat(),
        }
    }

    /// Lets the carrier be silent where the dialog has heartbeats of its own.
    pub const fn stop_heartbeat(&mut self) {
        self.beats = false;
    }

    /// Whether the carrier shows signs of life.
    #[must_use]
    pub const fn beats(&self) -> bool {
        self.beats
    }

    /// The next thing to say, for a client that a relay reaches.
    pub fn poll_message(&mut self) -> Option<Message> {
        let said = self.dialog.poll_outgoing()?;
        self.account.frames_out += 1;
        if let Some(tap) = &self.tap {
            tap.said(&self.session().grants().subject, &said);
        }
        self.writer.note(&self.carrier, &said, &mut self.account);
        self.writer.written_at = clock::monotonic();
        Some(carrier::message_of(&said))
    }

    /// The carrier's goodbye, once everything before it was taken; once.
    pub fn poll_close(&mut self) -> Option<Bytes> {
        self.writer.poll_close(&self.dialog)
    }

    /// Answers a ping. Of several that wait, the last counts (RFC 6455, 5.5.3).
    pub fn pong(&mut self, payload: &[u8]) {
        self.writer.pong = Some(frame::pong(payload));
    }

    /// Sends a ping.
    pub const fn ping(&mut self) {
        self.writer.ping = true;
    }

    /// Lets this close frame be the last one, after everything that waits. The first call counts.
    pub fn close_with(&mut self, close: Bytes) {
        if self.writer.closed == Closed::No {
            self.writer.closed = Closed::With(close);
        }
    }

    /// Whether the socket is waited for.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.writer.is_blocked
    }

    /// Whether the close frame was written, and so everything before it.
    #[must_use]
    pub fn is_close_sent(&self) -> bool {
        self.writer.closed == Closed::Queued && self.writer.frames.is_empty()
    }

    /// When the socket last took a byte or had nothing to take.
    #[must_use]
    pub const fn progress_at(&self) -> Duration {
        self.writer.progress_at
    }

    /// When a full socket last took bytes again.
    #[must_use]
    pub const fn drained_at(&self) -> Duration {
        self.writer.drained_at
    }

    /// When something was last written.
    #[must_use]
    pub const fn written_at(&self) -> Duration {
        self.writer.written_at
    }

    /// Whether the connection's task should read now. If not, it is woken when it should again.
    pub fn wants_input(&mut self) -> bool {
        let wants_input = self.dialog.wants_input();
        self.is_input_stopped = !wants_input;
        wants_input
    }

    /// Whether the connection's task has something to do besides writing: serve readers, or read again.
    #[must_use]
    pub fn wants_task(&self) -> bool {
        // Sending may ask for something too: what it settles, or a frame that waited for room.
        self.session().wants_poll()
            || self.dialog.has_effect()
            || (self.is_input_stopped && self.dialog.wants_input())
    }

    /// Whether only the connection's own task can go on.
    fn needs_task(&self) -> bool {
        self.writer.is_blocked || self.wants_task()
    }

    fn write_to(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Flushed> {
        let Self { dialog, carrier, writer, account, tap, .. } = self;
        loop {
            writer.fill(carrier, dialog, account, tap.as_ref());
            if writer.frames.is_empty() {
                writer.is_blocked = false;
                writer.progress_at = clock::monotonic();
                return Ok(if writer.closed == Closed::Queued { Flushed::Closed } else { Flushed::All });
            }
            match writer.write_once(&mut write, account) {
                Ok(()) if writer.is_blocked => writer.drained_at = writer.progress_at,
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut writer.is_blocked, true) {
                        METRICS.blocked.add(1);
                    }
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The task sees the same when it reads; until then nobody should try again.
                    writer.is_blocked = true;
                    return Err(error);
                }
            }
        }
    }
}

impl Writer {
    /// Takes what waits, up to what one system call writes.
    fn fill(&mut self, carrier: &Carrier, dialog: &mut Dialog, account: &mut Account, tap: Option<&Tap>) {
        if self.closed == Closed::Queued {
            return;
        }
        // Between frames a control frame may stand anywhere, and these two should not wait behind a backlog.
        if let Some(pong) = self.pong.take() {
            self.frames.push_back(pong);
        }
        if std::mem::take(&mut self.ping) {
            self.frames.push_back(frame::ping());
        }
        while self.frames.len() < FRAMES_PER_WRITE_MAX
            && let Some(said) = dialog.poll_outgoing()
        {
            account.frames_out += 1;
            if let Some(tap) = tap {
                tap.said(&dialog.session().grants().subject, &said);
            }
            self.note(carrier, &said, account);
            carrier.put(&said, &mut self.frames);
        }
        if let Some(close) = self.poll_close(dialog)
            && !close.is_empty()
        {
            self.frames.push_back(close);
        }
    }

    /// The last frame, if it is due: everything before it was taken.
    fn poll_close(&mut self, dialog: &Dialog) -> Option<Bytes> {
        if dialog.has_outgoing() {
            return None;
        }
        match std::mem::take(&mut self.closed) {
            Closed::With(close) => {
                self.closed = Closed::Queued;
                Some(close)
            }
            closed => {
                self.closed = closed;
                None
            }
        }
    }

    /// Does what an event means to the connection as a whole.
    fn note(&mut self, carrier: &Carrier, said: &Said, account: &mut Account) {
        let Said::Native(_, Outgoing::Event(event)) = said else { return };
        match &**event {
            Event::Goodbye(goodbye) => {
                account.note_farewell(&goodbye.text);
                if self.closed == Closed::No {
                    self.closed = Closed::With(carrier.close(goodbye));
                }
            }
            Event::Reply { result: Err(error), .. } => {
                METRICS.count_error(error.code);
                account.last_error = Some(Box::new(error.clone()));
            }
            _ => {}
        }
    }

    fn write_once(
        &mut self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
        account: &mut Account,
    ) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE_MAX + 3];
        let n_frames = self.frames.len().min(slices.len());
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(frame);
        }
        let mut n_written = write(&slices[..n_frames])?;
        if n_written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        METRICS.bytes_out.add(n_written as u64);
        account.bytes_out += n_written as u64;
        let now = clock::monotonic();
        (self.progress_at, self.written_at) = (now, now);
        while n_written > 0
            && let Some(first) = self.frames.front_mut()
        {
            if first.len() > n_written {
                first.advance(n_written);
                break;
            }
            n_written -= first.len();
            self.frames.pop_front();
        }
        if self.frames.is_empty() && self.frames.capacity() > 4 {
            self.frames = VecDeque::new();
        }
        Ok(())
    }
}
