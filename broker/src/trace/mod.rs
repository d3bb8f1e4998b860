//! Following what happens on connections, for an operator who looks for a reason.
//!
//! Each connection has a [`Tap`]. While nobody follows anything, a frame costs one relaxed load of a number that nobody writes. While
//! somebody does, frames that it concerns are described and put into a queue of bounded length; what does not fit is counted, and told in its
//! place. Nothing here waits for whoever reads.

mod describe;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu_protocol::message::Time;
use bongsu_protocol::reason::{CloseReason, Error};
use bongsu_protocol::topic::{Topic, TopicFilter};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::clock;
use crate::dialog::{Dialog, Heard, Said};
use crate::limits::{TRACE_EVENTS_MAX, TRACES_MAX};

/// What to follow. What is given must all hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The session of this name.
    pub session: Option<String>,
    /// Sessions of this subject.
    pub subject: Option<String>,
    /// What concerns this topic.
    pub topic: Option<Topic>,
    /// Whether payloads are kept.
    pub payloads: bool,
}

/// Something that happened on a connection.
#[derive(Debug, Clone)]
pub struct Happened {
    /// When.
    pub time: Time,
    /// The number of its connection.
    pub connection: u64,
    /// Whose it is.
    pub subject: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The connection began.
    Opened,
    /// A frame of the client.
    In(Frame),
    /// A frame for the client.
    Out(Frame),
    /// What the client asked for was done.
    Authorized(Frame),
    /// It was not done.
    Refused(Frame, Error),
    /// Messages that the client does not get.
    Lost(Frame, u64),
    /// The connection ended.
    Closed(CloseReason),
}

/// A frame, or a part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// What kind.
    pub kind: String,
    /// Its bytes.
    pub bytes: u64,
    /// The topics and filters that it names, the first few.
    pub topics: Vec<String>,
    /// The beginning of its message.
    pub payload: Option<Bytes>,
}

/// Who follows what on this node.
#[derive(Debug, Default)]
pub struct Tracer {
    /// How many there are: what every frame looks at.
    n_traces: AtomicUsize,
    traces: Mutex<Vec<Arc<Trace>>>,
}

#[derive(Debug)]
struct Trace {
    wanted: Wanted,
    /// The number of the connection of the session that is wanted.
    connection: Option<u64>,
    events: mpsc::Sender<Happened>,
    n_dropped: AtomicU64,
}

/// What somebody follows, until it is dropped.
#[derive(Debug)]
pub struct Followed {
    tracer: Arc<Tracer>,
    trace: Arc<Trace>,
    events: mpsc::Receiver<Happened>,
}

/// A step of what is followed.
#[derive(Debug)]
pub enum Step {
    /// Something happened.
    Happened(Happened),
    /// So many things happened that are not told.
    Dropped(u64),
}

/// Where a connection tells what happens on it.
#[derive(Debug, Clone)]
pub struct Tap {
    tracer: Arc<Tracer>,
    connection: u64,
}

impl Tracer {
    /// Follows something from now on; `None` if too many do already. `connection`: of the session that is wanted, if one is.
    #[must_use]
    pub fn follow(self: &Arc<Self>, wanted: Wanted, connection: Option<u64>) -> Option<Followed> {
        let mut traces = self.lock();
        if traces.len() >= TRACES_MAX {
            return None;
        }
        let (sender, events) = mpsc::channel(TRACE_EVENTS_MAX);
        let trace = Arc::new(Trace { wanted, connection, events: sender, n_dropped: AtomicU64::new(0) });
        traces.push(Arc::clone(&trace));
        self.n_traces.store(traces.len(), Ordering::Relaxed);
        drop(traces);
        Some(Followed { tracer: Arc::clone(self), trace, events })
    }

    /// Where a connection tells what happens on it.
    #[must_use]
    pub fn tap(self: &Arc<Self>, connection: u64) -> Tap {
        Tap { tracer: Arc::clone(self), connection }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Trace>>> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    /// The next step. What was dropped is told before what happened after it, as far as that is known. Cancel safe.
    pub async fn next(&mut self) -> Step {
        let n_dropped = self.trace.n_dropped.swap(0, Ordering::Relaxed);
        if n_dropped > 0 {
            return Step::Dropped(n_dropped);
        }
        match self.events.recv().await {
            Some(happened) => Step::Happened(happened),
            // The sender is in the trace, which this holds.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut traces = self.tracer.lock();
        traces.retain(|trace| !Arc::ptr_eq(trace, &self.trace));
        self.tracer.n_traces.store(traces.len(), Ordering::Relaxed);
    }
}

impl Tap {
    /// Whether anybody follows anything here.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.tracer.n_traces.load(Ordering::Relaxed) != 0
    }

    /// A connection began.
    pub fn opened(&self, subject: &str) {
        if self.is_on() {
            self.tell(subject, || vec![What::Opened]);
        }
    }

    /// A connection ended.
    pub fn closed(&self, subject: &str, reason: CloseReason) {
        if self.is_on() {
            self.tell(subject, || vec![What::Closed(reason)]);
        }
    }

    /// A message of the client came.
    pub fn heard(&self, dialog: &Dialog, heard: &Heard) {
        if self.is_on() {
            self.tell(&dialog.session().grants().subject, || describe::heard(dialog, heard));
        }
    }

    /// Something is sent to the client.
    pub fn said(&self, subject: &str, said: &Said) {
        if self.is_on() {
            self.tell(subject, || describe::said(said));
        }
    }

    /// Tells whoever follows this connection. It is described once, and only for somebody.
    fn tell(&self, subject: &str, describe: impl FnOnce() -> Vec<What>) {
        let of_connection = |trace: &&Arc<Trace>| {
            let wanted = &trace.wanted;
            (wanted.session.is_none() || trace.connection == Some(self.connection))
                && wanted.subject.as_ref().is_none_or(|wanted| wanted == subject)
        };
        let traces: Vec<Arc<Trace>> = self.tracer.lock().iter().filter(of_connection).cloned().collect();
        if traces.is_empty() {
            return;
        }
        let time = clock::wall();
        for what in describe() {
            for trace in traces.iter().filter(|trace| what.concerns(trace.wanted.topic.as_ref())) {
                let what = if trace.wanted.payloads { what.clone() } else { what.without_payload() };
                let subject = subject.to_owned();
                let happened = Happened { time, connection: self.connection, subject, what };
                if trace.events.try_send(happened).is_err() {
                    trace.n_dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

impl What {
    fn frame(&self) -> Option<&Frame> {
        match self {
            Self::In(frame) | Self::Out(frame) | Self::Authorized(frame) => Some(frame),
            Self::Refused(frame, _) | Self::Lost(frame, _) => Some(frame),
            Self::Opened | Self::Closed(_) => None,
        }
    }

    /// Whether it is about a topic, where one is wanted.
    fn concerns(&self, topic: Option<&Topic>) -> bool {
        let Some(topic) = topic else { return true };
        let is_about = |name: &String| {
            let covers = TopicFilter::parse(name).is_ok_and(|filter| filter.matches(topic));
            // A destination of STOMP has the topic behind a prefix.
            covers || name.strip_suffix(topic.as_str()).is_some_and(|prefix| prefix.ends_with('/'))
        };
        self.frame().is_some_and(|frame| frame.topics.iter().any(is_about))
    }

    fn without_payload(&self) -> Self {
        let mut what = self.clone();
        match &mut what {
            Self::In(frame) | Self::Out(frame) | Self::Authorized(frame) => frame.payload = None,
            Self::Refused(frame, _) | Self::Lost(frame, _) => frame.payload = None,
            Self::Opened | Self::Closed(_) => {}
        }
        what
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(subject: &str) -> Wanted {
        Wanted { subject: Some(subject.to_owned()), ..Wanted::default() }
    }

    #[tokio::test]
    async fn what_a_slow_reader_misses_is_counted_and_told() {
        let tracer = Arc::new(Tracer::default());
        let mut followed = tracer.follow(wanted("ada"), None).expect("there is room");
        let tap = tracer.tap(1);
        for _ in 0..TRACE_EVENTS_MAX + 3 {
            tap.opened("ada");
        }
        assert!(matches!(followed.next().await, Step::Dropped(3)));
        for _ in 0..TRACE_EVENTS_MAX {
            assert!(matches!(followed.next().await, Step::Happened(_)));
        }
    }

    #[test]
    fn only_so_many_follow_at_a_time_and_nobody_else_is_followed() {
        let tracer = Arc::new(Tracer::default());
        let tap = tracer.tap(1);
        assert!(!tap.is_on());
        let mut followed: Vec<_> = (0..TRACES_MAX).map(|_| tracer.follow(wanted("ada"), None)).collect();
        assert!(followed.iter().all(Option::is_some) && tracer.follow(wanted("ada"), None).is_none());
        tap.opened("grace");
        let first = followed[0].as_mut().expect("it is there");
        assert!(first.events.try_recv().is_err(), "it is somebody else's");
        drop(followed);
        assert!(!tap.is_on(), "nobody follows");
    }
}
