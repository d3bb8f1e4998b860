//! Where a connection meets a client that comes by HTTP requests: what the one has in the place of a socket, and the others attach to.
//!
//! Receiving requests pull: what they have not taken yet waits in the [`Session`] within its bound, and behind that in the dialog. One
//! sending request at a time leaves its messages, and the next one waits until the connection took them. So nothing here grows.
//!
//! ```text
//!   receiving request ──[Receiving]──▶ ┌───────┐ ◀──[Line]── connection
//!   sending request ───────send──────▶ │ Relay │
//!                                      └───────┘
//! ```

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bongsu_protocol::sockjs::{Chunk, Close, Ended, Message, Session, Timing, Transport};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::clock;
use crate::limits::SOCKJS_SEND_PATIENCE;
use crate::metrics::METRICS;

/// One session's meeting place. See the [module](self).
#[derive(Debug)]
pub struct Relay {
    state: Mutex<State>,
    /// Rung when messages of a sending request were taken, and at the end.
    taken: Notify,
    /// Rung when a request came or went, after the connection has ended.
    changed: Notify,
    /// A receiving request that takes nothing for this long is taken for gone.
    write_timeout: Duration,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// What a sending request left.
    inbox: Option<Vec<String>>,
    /// Wakes the connection's task.
    line: Option<Waker>,
    /// Wakes the receiving request.
    receiver: Option<Waker>,
    /// Which receiving request is attached: one whose number is another was given up.
    number: u64,
    /// Since when the receiving request could take something and did not.
    untaken_since: Option<Duration>,
}

/// Why messages were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// The session took nothing for a while: it waits for its client, or for the store. Try again.
    #[error("the session takes no messages now")]
    Late,
}

impl Relay {
    /// A session that waits for its first request, and the connection's end of it.
    #[must_use]
    pub fn new(timing: Timing, write_timeout: Duration) -> (Arc<Self>, Line) {
        let relay = Arc::new(Self {
            state: Mutex::new(State {
                session: Session::new(clock::monotonic(), timing),
                inbox: None,
                line: None,
                receiver: None,
                number: 0,
                untaken_since: None,
            }),
            taken: Notify::new(),
            changed: Notify::new(),
            write_timeout,
        });
        let sleep = Box::pin(tokio::time::sleep_until(clock::instant(clock::monotonic())));
        (Arc::clone(&relay), Line { relay, sleep })
    }

    /// Attaches a receiving request, whose answer takes at most `limit_bytes` of frames.
    ///
    /// # Errors
    /// What to write instead, after the transport's prelude: the session has another request.
    pub fn receive(self: &Arc<Self>, transport: Transport, limit_bytes: usize) -> Result<Receiving, Chunk> {
        let mut state = self.lock();
        state.session.attach(clock::monotonic(), transport, Some(limit_bytes))?;
        state.number += 1;
        let number = state.number;
        state.call_line();
        drop(state);
        self.changed.notify_one();
        Ok(Receiving { relay: Arc::clone(self), number, is_over: false })
    }

    /// Leaves messages of a sending request, in order, as soon as those before were taken.
    ///
    /// # Errors
    /// [`Unsent`]: nothing of them was taken.
    pub async fn send(&self, messages: Vec<String>) -> Result<(), Unsent> {
        let leave = async {
            let mut messages = Some(messages);
            loop {
                let taken = self.taken.notified();
                {
                    let mut state = self.lock();
                    if !state.session.is_open() {
                        return Err(Unsent::Closed);
                    }
                    if state.inbox.is_none() {
                        state.inbox = messages.take();
                        state.call_line();
                        return Ok(());
                    }
                }
                taken.await;
            }
        };
        tokio::time::timeout(SOCKJS_SEND_PATIENCE, leave).await.unwrap_or(Err(Unsent::Late))
    }

    /// Whether the session is over and can be forgotten.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().session.is_closed()
    }

    /// Stays until every receiving request has been told of the end, and the time for further ones is over: what is left to do once the
    /// connection has ended. Those who come to a session that was not closed are told that it was interrupted.
    pub async fn linger(&self) {
        self.lock().session.close(&Close::interrupted());
        loop {
            let due = {
                let mut state = self.lock();
                let now = clock::monotonic();
                state.session.handle_timeout(now);
                state.call_receiver();
                if state.session.is_closed() {
                    return;
                }
                let due = state.session.poll_timeout();
                let stuck = state.stuck_at(now, self.write_timeout);
                if stuck.is_some_and(|stuck| now >= stuck) {
                    state.give_up(now);
                    continue;
                }
                due.into_iter().chain(stuck).min()
            };
            self.taken.notify_waiters();
            let changed = self.changed.notified();
            match due {
                Some(due) => drop(tokio::time::timeout_at(clock::instant(due), changed).await),
                None => changed.await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panics under the lock ends one request or this connection; the session is a valid one all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call_line(&mut self) {
        if let Some(line) = self.line.take() {
            line.wake();
        }
    }

    /// Wakes the receiving request if there is something for it.
    fn call_receiver(&mut self) {
        if self.session.has_chunk()
            && let Some(receiver) = self.receiver.take()
        {
            receiver.wake();
        }
    }

    /// When a receiving request that takes nothing is given up; `None` if it has nothing to take.
    fn stuck_at(&mut self, now: Duration, write_timeout: Duration) -> Option<Duration> {
        if !self.session.is_attached() || !self.session.has_chunk() {
            self.untaken_since = None;
            return None;
        }
        Some(*self.untaken_since.get_or_insert(now) + write_timeout)
    }

    /// Ends the receiving request as if the network had.
    fn give_up(&mut self, now: Duration) {
        self.session.detach(now, Ended::ByNetwork);
        self.number += 1;
        self.untaken_since = None;
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }
}

/// A receiving request, attached to its session. Dropped before its answer is complete, it was ended by the network.
#[derive(Debug)]
pub struct Receiving {
    relay: Arc<Relay>,
    number: u64,
    is_over: bool,
}

impl Receiving {
    /// The next bytes of the answer, to be written and flushed at once; `None` at its end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.relay.lock();
        if self.is_over || state.number != self.number {
            self.is_over = true;
            return Poll::Ready(None);
        }
        let Some(Chunk { bytes, ends }) = state.session.poll_chunk(clock::monotonic()) else {
            state.untaken_since = None;
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.untaken_since = None;
        self.is_over = ends;
        METRICS.bytes_out.add(bytes.len() as u64);
        // There is room for more, and another time to wake up at.
        state.call_line();
        drop(state);
        self.relay.changed.notify_one();
        Poll::Ready(Some(bytes))
    }

    /// Lets the answer end with its next frame, which may be a heartbeat, and keeps the session for the next request.
    pub fn release(&mut self) {
        let mut state = self.relay.lock();
        if state.number == self.number {
            state.session.release();
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.relay.lock();
        if state.number == self.number {
            state.session.detach(clock::monotonic(), Ended::ByNetwork);
            state.receiver = None;
            state.call_line();
        }
        drop(state);
        self.relay.changed.notify_one();
    }
}

/// The connection's end.
pub struct Line {
    relay: Arc<Relay>,
    /// Wakes the connection's task when the session has something to do by the clock.
    sleep: Pin<Box<Sleep>>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("relay", &self.relay).finish_non_exhaustive()
    }
}

impl Line {
    /// Gives the session as many messages as it has room for.
    pub fn fill(&self, mut next: impl FnMut() -> Option<Message>) {
        let mut state = self.relay.lock();
        while state.session.has_room()
            && let Some(message) = next()
        {
            state.session.send(message);
        }
        state.call_receiver();
    }

    /// Closes the session with a frame, after everything that it was given.
    pub fn close(&self, frame: String) {
        let mut state = self.relay.lock();
        state.session.close_with(frame);
        state.call_receiver();
    }

    /// Sends no heartbeats from here on.
    pub fn stop_heartbeat(&self) {
        self.relay.lock().session.stop_heartbeat();
    }

    /// Waits for messages of the client, in order; `None`: the session is over. Only taken while input is wanted.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>, wants_input: bool) -> Poll<Option<Vec<String>>> {
        loop {
            let mut state = self.relay.lock();
            let now = clock::monotonic();
            state.session.handle_timeout(now);
            let stuck = state.stuck_at(now, self.relay.write_timeout);
            if stuck.is_some_and(|stuck| now >= stuck) {
                state.give_up(now);
            }
            state.call_receiver();
            if wants_input && let Some(messages) = state.inbox.take() {
                self.relay.taken.notify_one();
                return Poll::Ready(Some(messages));
            }
            if !state.session.is_open() && !state.session.is_new() {
                return Poll::Ready(None);
            }
            state.line = Some(cx.waker().clone());
            let due = state.session.poll_timeout().into_iter().chain(stuck).min();
            drop(state);
            let Some(due) = due else { return Poll::Pending };
            let due = clock::instant(due);
            if self.sleep.deadline() != due {
                self.sleep.as_mut().reset(due);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const TIMING: Timing = Timing { heartbeat: Duration::from_secs(25), disconnect: Duration::from_secs(5) };
    const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

    fn relay() -> (Arc<Relay>, Line) {
        Relay::new(TIMING, WRITE_TIMEOUT)
    }

    async fn next(receiving: &mut Receiving) -> Option<Bytes> {
        poll_fn(|cx| receiving.poll_next(cx)).await
    }

    async fn heard(line: &mut Line) -> Option<Vec<String>> {
        poll_fn(|cx| line.poll_receive(cx, true)).await
    }

    fn streaming(relay: &Arc<Relay>) -> Receiving {
        relay.receive(Transport::XhrStreaming, 1 << 20).unwrap()
    }

    fn texts(n_texts: usize) -> Vec<String> {
        vec!["x".to_owned(); n_texts]
    }

    #[tokio::test(start_paused = true)]
    async fn messages_wait_for_those_before_them_and_not_for_ever() {
        let (relay, mut line) = relay();
        let _receiving = streaming(&relay);
        assert_eq!(relay.send(texts(1)).await, Ok(()));
        let second = tokio::spawn({
            let relay = Arc::clone(&relay);
            async move { relay.send(texts(2)).await }
        });
        assert_eq!(relay.send(texts(3)).await, Err(Unsent::Late));
        assert_eq!(second.await.unwrap(), Err(Unsent::Late));
        let third = tokio::spawn({
            let relay = Arc::clone(&relay);
            async move { relay.send(texts(4)).await }
        });
        assert_eq!(heard(&mut line).await, Some(texts(1)));
        assert_eq!(third.await.unwrap(), Ok(()));
        assert_eq!(heard(&mut line).await, Some(texts(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_session_has_no_room_for_stays_where_it_is() {
        let (relay, line) = relay();
        let mut receiving = streaming(&relay);
        assert_eq!(next(&mut receiving).await.unwrap(), "o\n");
        let text = "x".repeat(1 << 10);
        let mut n_taken = 0;
        line.fill(|| {
            n_taken += 1;
            Some((&*text).into())
        });
        assert_eq!(n_taken, 64);
        next(&mut receiving).await.unwrap();
        line.fill(|| {
            n_taken += 1;
            Some((&*text).into())
        });
        assert_eq!(n_taken, 128);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_nothing_is_given_up() {
        let (relay, mut line) = relay();
        let mut stuck = streaming(&relay);
        let begun = clock::monotonic();
        assert_eq!(heard(&mut line).await, None);
        let waited = clock::monotonic() - begun;
        assert!(waited >= WRITE_TIMEOUT && waited < WRITE_TIMEOUT + Duration::from_secs(1), "{waited:?}");
        assert_eq!(next(&mut stuck).await, None);
        let mut late = relay.receive(Transport::XhrPolling, 1 << 20).unwrap();
        assert_eq!(next(&mut late).await.unwrap(), "c[1002,\"Connection interrupted\"]\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_dropped_ends_the_session_and_its_end_is_told_for_a_while() {
        let (relay, mut line) = relay();
        let mut receiving = streaming(&relay);
        assert_eq!(next(&mut receiving).await.unwrap(), "o\n");
        drop(receiving);
        assert_eq!(heard(&mut line).await, None);
        let begun = clock::monotonic();
        let lingering = tokio::spawn({
            let relay = Arc::clone(&relay);
            async move { relay.linger().await }
        });
        let mut late = relay.receive(Transport::XhrPolling, 1 << 20).unwrap();
        assert_eq!(next(&mut late).await.unwrap(), "c[1002,\"Connection interrupted\"]\n");
        assert_eq!(relay.send(texts(1)).await, Err(Unsent::Closed));
        lingering.await.unwrap();
        assert!(relay.is_closed());
        let waited = clock::monotonic() - begun;
        assert!(waited >= TIMING.disconnect && waited < TIMING.disconnect * 2, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_send_are_told_when_the_session_ends() {
        let (relay, line) = relay();
        let receiving = streaming(&relay);
        assert_eq!(relay.send(texts(1)).await, Ok(()));
        let waiting = tokio::spawn({
            let relay = Arc::clone(&relay);
            async move { relay.send(texts(1)).await }
        });
        tokio::task::yield_now().await;
        drop((line, receiving));
        let _lingering = tokio::spawn({
            let relay = Arc::clone(&relay);
            async move { relay.linger().await }
        });
        assert_eq!(waiting.await.unwrap(), Err(Unsent::Closed));
    }
}
