//! What comes in from a bus, between whoever reads the socket and whoever reads the frames.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use super::{Frame, Health, Received};
use crate::limits::{BUS_INBOX_BYTES_MAX, BUS_INBOX_FRAMES_MAX};
use crate::metrics::METRICS;

/// What comes in from a bus. Bounded: when it is full, frames are dropped, and an interruption takes their place.
#[derive(Debug)]
pub struct Inbox {
    /// In the order of arrival.
    pub received: Receiver,
    /// How the bus is.
    pub health: watch::Receiver<Health>,
}

impl Inbox {
    /// An empty inbox and the way into it, for whoever makes a bus.
    #[must_use]
    pub fn new(bounds: Bounds) -> (Intake, Self) {
        let shared = Arc::new(Shared { bounds, queue: Mutex::default(), changed: Notify::new() });
        let (health, watched) = watch::channel(Health::Live);
        let inbox = Self { received: Receiver(Arc::clone(&shared)), health: watched };
        (Intake { shared, health }, inbox)
    }
}

/// How much may wait in an inbox.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Frames, at least one.
    pub frames: usize,
    /// Bytes of frames, their channels' names among them. One frame that is larger than this is taken where nothing else waits.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { frames: BUS_INBOX_FRAMES_MAX, bytes: BUS_INBOX_BYTES_MAX }
    }
}

/// The way into an inbox. Nothing here waits, so whoever reads a socket may call it. The inbox ends with it.
#[derive(Debug)]
pub struct Intake {
    shared: Arc<Shared>,
    health: watch::Sender<Health>,
}

impl Intake {
    /// Puts a frame in, or drops it and puts an interruption in its place. Whoever is told reads it after everything that
    /// came before, and asks the store after the drop, so nothing that was dropped is missed.
    pub fn offer(&self, frame: Frame) {
        let bytes = frame.bytes();
        METRICS.bus_received.add(1);
        METRICS.bus_received_bytes.add(bytes as u64);
        let mut queue = self.shared.lock();
        let bounds = self.shared.bounds;
        let is_full =
            queue.frames >= bounds.frames || (queue.frames > 0 && queue.bytes + bytes > bounds.bytes);
        if is_full {
            METRICS.bus_dropped.add(1);
            queue.interrupt();
        } else {
            queue.frames += 1;
            queue.bytes += bytes;
            queue.items.push_back(Received::Frame(frame));
        }
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Tells that frames may have been lost until now. It always has room: two without a frame between them are one.
    pub fn interrupt(&self) {
        self.shared.lock().interrupt();
        self.shared.changed.notify_one();
    }

    /// Says how the bus is.
    pub fn set_health(&self, health: Health) {
        self.health.send_if_modified(|last| {
            let is_news = *last != health;
            *last = health;
            is_news
        });
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
    }
}

/// The way out of an inbox.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

impl Receiver {
    /// Waits for what came in next; `None` once the bus is gone and everything was taken. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Received> {
        loop {
            {
                let mut queue = self.0.lock();
                if let Some(received) = queue.take() {
                    return Some(received);
                }
                if queue.is_closed {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// Waits until something came in and appends at most `limit` of it; the number tells how much, and 0 that the bus is gone.
    /// Cancel-safe.
    pub async fn recv_many(&mut self, into: &mut Vec<Received>, limit: usize) -> usize {
        let Some(first) = self.recv().await else { return 0 };
        into.push(first);
        let mut queue = self.0.lock();
        let mut n_taken = 1;
        while n_taken < limit
            && let Some(received) = queue.take()
        {
            into.push(received);
            n_taken += 1;
        }
        n_taken
    }

    /// Takes what came in next, if anything did.
    pub fn try_recv(&mut self) -> Option<Received> {
        self.0.lock().take()
    }
}

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    /// Held for a few instructions at a time: a push or some pops.
    queue: Mutex<Queue>,
    /// There is something to take, or the end. One reader waits.
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        // No code that holds it can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// Frames, and between any two of them at most one interruption.
    items: VecDeque<Received>,
    /// How many of the items are frames.
    frames: usize,
    /// Their bytes.
    bytes: usize,
    /// The bus is gone.
    is_closed: bool,
}

impl Queue {
    fn interrupt(&mut self) {
        if self.items.back() != Some(&Received::Interrupted) {
            self.items.push_back(Received::Interrupted);
        }
    }

    fn take(&mut self) -> Option<Received> {
        let received = self.items.pop_front()?;
        if let Received::Frame(frame) = &received {
            self.frames -= 1;
            self.bytes -= frame.bytes();
        }
        if self.items.is_empty() && self.items.capacity() > 1024 {
            // A burst that is over must not keep its memory.
            self.items = VecDeque::new();
        }
        Some(received)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;

    fn frame(payload: &'static str) -> Frame {
        Frame { channel: "c".into(), payload: Bytes::from_static(payload.as_bytes()) }
    }

    fn drain(inbox: &mut Inbox) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(received) = inbox.received.try_recv() {
            taken.push(match received {
                Received::Frame(frame) => String::from_utf8(frame.payload.to_vec()).unwrap(),
                Received::Interrupted => "!".to_owned(),
            });
        }
        taken
    }

    #[test]
    fn a_full_inbox_drops_and_tells_it_once_in_its_place() {
        let (intake, mut inbox) = Inbox::new(Bounds { frames: 2, bytes: 100 });
        for payload in ["a", "b", "c", "d"] {
            intake.offer(frame(payload));
        }
        assert_eq!(inbox.received.try_recv(), Some(Received::Frame(frame("a"))));
        intake.offer(frame("e"));
        intake.offer(frame("f"));
        assert_eq!(drain(&mut inbox), ["b", "!", "e", "!"]);
        intake.offer(frame("g"));
        assert_eq!(drain(&mut inbox), ["g"]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (intake, mut inbox) = Inbox::new(Bounds { frames: 10, bytes: 6 });
        intake.offer(frame("four"));
        intake.offer(frame("x"));
        intake.offer(frame("larger than all that may wait"));
        assert_eq!(drain(&mut inbox), ["four", "!"]);
        intake.offer(frame("larger than all that may wait"));
        assert_eq!(drain(&mut inbox), ["larger than all that may wait"]);
    }

    #[test]
    fn an_interruption_finds_room_in_a_full_inbox_and_is_told_once() {
        let (intake, mut inbox) = Inbox::new(Bounds { frames: 1, bytes: 100 });
        intake.offer(frame("a"));
        intake.interrupt();
        intake.interrupt();
        assert_eq!(drain(&mut inbox), ["a", "!"]);
        intake.interrupt();
        assert_eq!(drain(&mut inbox), ["!"]);
    }

    #[tokio::test]
    async fn the_inbox_ends_with_its_intake_and_not_before() {
        let (intake, mut inbox) = Inbox::new(Bounds::default());
        assert_eq!(inbox.received.recv().now_or_never(), None);
        intake.offer(frame("a"));
        drop(intake);
        let mut taken = Vec::new();
        assert_eq!(inbox.received.recv_many(&mut taken, 10).await, 1);
        assert_eq!(inbox.received.recv().await, None);
        assert_eq!(inbox.received.recv_many(&mut taken, 10).await, 0);
    }
}
