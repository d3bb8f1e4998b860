//! Between the connection's task and the reader of one subscription: items, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bongsu_protocol::event::Subscribed;
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::item::Item;
use crate::limits::MESSAGE_OVERHEAD_BYTES;

/// The items that the broker sent and the application did not take yet.
///
/// It never refuses: the task that fills it stops reading its socket once a mailbox is full, so that at most one frame goes past
/// the bound.
#[derive(Debug)]
pub(crate) struct Mailbox {
    bytes_max: usize,
    content: Mutex<Content>,
    /// Wakes the reader.
    reader: AtomicWaker,
    /// Wakes the task that fills it: there is room again, or nobody reads any more.
    attention: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Content {
    items: VecDeque<Item>,
    n_bytes: usize,
    /// From when the bound was reached until half of it is free.
    full: bool,
    /// Where reading started, once the broker said so.
    started: Option<Subscribed>,
    /// Nothing more will come.
    ended: bool,
    /// Nobody will take anything.
    abandoned: bool,
}

/// How a mailbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    HasRoom,
    Full,
    Abandoned,
}

impl Mailbox {
    pub(crate) fn new(bytes_max: usize, attention: Arc<Notify>) -> Self {
        Self { bytes_max, content: Mutex::default(), reader: AtomicWaker::new(), attention }
    }

    pub(crate) fn push(&self, item: Item) -> Standing {
        let mut content = self.content();
        content.n_bytes += size_bytes(&item);
        content.full |= content.n_bytes >= self.bytes_max;
        content.items.push_back(item);
        let standing = content.standing();
        drop(content);
        self.reader.wake();
        standing
    }

    /// The broker said where reading started.
    pub(crate) fn start(&self, subscribed: Subscribed) {
        self.content().started = Some(subscribed);
        self.reader.wake();
    }

    pub(crate) fn started(&self) -> Option<Subscribed> {
        self.content().started.clone()
    }

    /// Nothing more will come; what is there can still be taken.
    pub(crate) fn end(&self) {
        self.content().ended = true;
        self.reader.wake();
    }

    pub(crate) fn standing(&self) -> Standing {
        self.content().standing()
    }

    /// The next item; `None` within once there will be no more.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        // Registered first: an item that comes in between is seen, or wakes.
        self.reader.register(context.waker());
        match self.take() {
            Some(item) => Poll::Ready(Some(item)),
            None if self.content().ended => Poll::Ready(self.take()),
            None => Poll::Pending,
        }
    }

    /// The next item, if one is there.
    pub(crate) fn take(&self) -> Option<Item> {
        let mut content = self.content();
        let item = content.items.pop_front()?;
        content.n_bytes -= size_bytes(&item);
        if content.full && content.n_bytes <= self.bytes_max / 2 {
            content.full = false;
            drop(content);
            self.attention.notify_one();
        }
        Some(item)
    }

    /// The reader is gone.
    pub(crate) fn abandon(&self) {
        let mut content = self.content();
        content.abandoned = true;
        content.items = VecDeque::new();
        drop(content);
        self.attention.notify_one();
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // A panic of a reader while it held the lock left whole items: every change is one step.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    const fn standing(&self) -> Standing {
        match self {
            Self { abandoned: true, .. } => Standing::Abandoned,
            Self { full: true, .. } => Standing::Full,
            _ => Standing::HasRoom,
        }
    }
}

fn size_bytes(item: &Item) -> usize {
    let message = match item {
        Item::Message(delivery) => delivery.message.size_bytes(),
        Item::Lost(_) | Item::Reset { .. } | Item::Ended(_) => 0,
    };
    message + MESSAGE_OVERHEAD_BYTES
}
