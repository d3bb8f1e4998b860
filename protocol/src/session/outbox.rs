//! What waits to be sent to one client, in the one order in which it will be sent.

use std::collections::VecDeque;

use crate::event::{Event, Reply};

/// Bytes that an event or a delivery costs besides its payload: an estimate of its fields, headers and queue entry.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// Something to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing<D> {
    /// An event of this session alone.
    Event(Box<Event>),
    /// A message, shared with every other reader of it.
    Delivery(D),
}

/// The queue of what waits to be sent. Bounded in bytes by those who ask [`has_room`](Self::has_room) first; replies are bounded by
/// the number of requests in flight instead.
#[derive(Debug)]
pub(super) struct Outbox<D> {
    queue: VecDeque<(usize, Outgoing<D>)>,
    bytes: usize,
    bytes_max: usize,
}

impl<D> Outbox<D> {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Whether one more delivery may be queued. A single large one may go past the bound; the next then waits.
    pub(super) const fn has_room(&self) -> bool {
        self.bytes < self.bytes_max
    }

    /// Whether a page should be asked for: half of the room is free, so that reads come in useful sizes.
    pub(super) const fn wants_page(&self) -> bool {
        self.bytes < self.bytes_max / 2 + 1
    }

    /// Bytes that wait, with what they cost beside their own.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push_event(&mut self, event: Event) {
        let size = OVERHEAD_BYTES + payload_bytes(&event);
        self.push(size, Outgoing::Event(Box::new(event)));
    }

    pub(super) fn push_delivery(&mut self, size: usize, item: D) {
        self.push(OVERHEAD_BYTES + size, Outgoing::Delivery(item));
    }

    fn push(&mut self, size: usize, outgoing: Outgoing<D>) {
        self.bytes += size;
        self.queue.push_back((size, outgoing));
    }

    /// Drops what waits but for a goodbye.
    pub(super) fn drop_waiting(&mut self) {
        let mut dropped = std::mem::replace(self, Self::new(self.bytes_max));
        while let Some(outgoing) = dropped.pop() {
            if let Outgoing::Event(event) = outgoing
                && let Event::Goodbye(_) = *event
            {
                self.push_event(*event);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing<D>> {
        let (size, outgoing) = self.queue.pop_front()?;
        self.bytes -= size;
        if self.queue.is_empty() && self.queue.capacity() > 4 {
            self.queue = VecDeque::new();
        }
        Some(outgoing)
    }
}

/// Bytes of an event's variable part, where it can be large.
fn payload_bytes(event: &Event) -> usize {
    match event {
        Event::Delivery(delivery) => delivery.message.size_bytes(),
        Event::Reply { result: Ok(Reply::History(page)), .. } => {
            page.messages.iter().map(|delivery| OVERHEAD_BYTES + delivery.message.size_bytes()).sum()
        }
        Event::Reply { result: Ok(Reply::Members { members, .. }), .. } => {
            members.iter().map(|member| OVERHEAD_BYTES + member.info.len()).sum()
        }
        Event::Reply { result: Ok(Reply::Subscribed(results)), .. } => {
            let positions = |result: &Result<crate::event::Subscribed, _>| match result {
                Ok(subscribed) => subscribed.positions.len(),
                Err(_) => 0,
            };
            results.iter().map(|result| OVERHEAD_BYTES * (1 + positions(result))).sum()
        }
        Event::Reply { result: Ok(Reply::Published(results)), .. } => 24 * results.len(),
        Event::Reply { .. }
        | Event::Welcome(_)
        | Event::Lost(_)
        | Event::Reset { .. }
        | Event::Unsubscribed { .. }
        | Event::TokenExpiring(_)
        | Event::Heartbeat
        | Event::Goodbye(_) => 0,
    }
}
