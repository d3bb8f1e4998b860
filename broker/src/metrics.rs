//! Every counter of the node, in one place.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bongsu_protocol::reason::{CloseReason, ErrorCode};

/// A number that only grows. A level is two of them: what came and what went.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident = $exposed:literal;)+) => {
        /// The node's counters.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $name: Counter,)+
            closes: [Counter; CloseReason::ALL.len()],
            errors: [Counter; ErrorCode::ALL.len()],
        }

        /// The one instance: counters are of the process.
        pub static METRICS: Metrics = Metrics {
            $($name: Counter::new(),)+
            closes: [const { Counter::new() }; CloseReason::ALL.len()],
            errors: [const { Counter::new() }; ErrorCode::ALL.len()],
        };

        impl Metrics {
            /// The counters in Prometheus' text format, version 0.0.4.
            #[must_use]
            pub fn to_prometheus(&self) -> String {
                let mut text = String::new();
                $(
                    let help = [$($help),+].concat();
                    // Writing to a `String` cannot fail.
                    let _ = write!(text, "# HELP {0}{1}\n# TYPE {0} counter\n{0} {2}\n", $exposed, help, self.$name.get());
                )+
                let name = "bongsu_connections_closed_by_reason_total";
                let _ = writeln!(text, "# HELP {name} Connections that ended, by reason.\n# TYPE {name} counter");
                for (reason, counter) in CloseReason::ALL.iter().zip(&self.closes) {
                    let _ = writeln!(text, "{name}{{reason=\"{reason}\"}} {}", counter.get());
                }
                let name = "bongsu_request_errors_total";
                let _ = writeln!(text, "# HELP {name} Requests that were answered with an error, by code.\n# TYPE {name} counter");
                for (code, counter) in ErrorCode::ALL.iter().zip(&self.errors) {
                    let _ = writeln!(text, "{name}{{code=\"{code}\"}} {}", counter.get());
                }
                text
            }
        }
    };
}

metrics! {
    /// Connections that were accepted by the listener.
    accepted = "bongsu_connections_accepted_total";
    /// Connections that the listener turned away: too many, or too fast.
    turned_away = "bongsu_connections_turned_away_total";
    /// Connections that were closed since a request's header did not come in time.
    header_timeouts = "bongsu_header_timeouts_total";
    /// Handshakes that were refused.
    handshakes_refused = "bongsu_handshakes_refused_total";
    /// Sessions that began.
    opened = "bongsu_sessions_opened_total";
    /// Sessions that ended.
    closed = "bongsu_sessions_closed_total";
    /// Requests that clients sent.
    requests = "bongsu_requests_total";
    /// Frames of clients that could not be understood.
    malformed = "bongsu_frames_malformed_total";
    /// Messages that clients wanted to publish.
    published = "bongsu_messages_published_total";
    /// Messages that policy refused.
    publish_refused = "bongsu_messages_refused_total";
    /// Messages that were committed to their log.
    stored = "bongsu_messages_stored_total";
    /// Batches that came back from the store, stored or not: one transaction each.
    batches = "bongsu_store_batches_total";
    /// Pages that were read from the store.
    reads = "bongsu_store_reads_total";
    /// Pages of logs that readers caught up with, from memory or from the store.
    pages = "bongsu_catch_up_pages_total";
    /// Pages that were read from a log since something of it did not come here.
    repairs = "bongsu_hub_repairs_total";
    /// Questions to the store which logs changed.
    changes_polls = "bongsu_changes_polls_total";
    /// Answers to them that could not tell.
    changes_incomplete = "bongsu_changes_incomplete_total";
    /// Times that frames of other nodes may have been lost.
    bus_interruptions = "bongsu_bus_interruptions_total";
    /// Frames of other nodes that could not be understood.
    bus_frames_strange = "bongsu_bus_frames_strange_total";
    /// Times that another node's clock was far from this one's.
    clocks_apart = "bongsu_clocks_apart_total";
    /// Frames that the bus did not take.
    bus_publish_failed = "bongsu_bus_publish_failed_total";
    /// Messages that found no room in the queue to other nodes; they find them by asking the store.
    unannounced = "bongsu_messages_unannounced_total";
    /// Messages that retention took away.
    trimmed = "bongsu_messages_trimmed_total";
    /// Frames that were handed to the bus.
    bus_published = "bongsu_bus_frames_published_total";
    /// Bytes of frames that were handed to the bus.
    bus_published_bytes = "bongsu_bus_bytes_published_total";
    /// Frames that came from the bus, one's own among them.
    bus_received = "bongsu_bus_frames_received_total";
    /// Bytes of frames that came from the bus.
    bus_received_bytes = "bongsu_bus_bytes_received_total";
    /// Frames that came from the bus while the inbox was full. They are repaired from the store.
    bus_dropped = "bongsu_bus_frames_dropped_total";
    /// Connections to a server of the bus that were made, the first ones among them.
    bus_connects = "bongsu_bus_connects_total";
    /// Connections to a server of the bus that failed, and attempts to make one.
    bus_disconnects = "bongsu_bus_connection_failures_total";
}

impl Metrics {
    /// Counts the end of a session.
    pub fn count_close(&self, reason: CloseReason) {
        self.closed.add(1);
        if let Some(place) = CloseReason::ALL.iter().position(|one| *one == reason) {
            self.closes[place].add(1);
        }
    }

    /// Counts a request that was answered with an error.
    pub fn count_error(&self, code: ErrorCode) {
        if let Some(place) = ErrorCode::ALL.iter().position(|one| *one == code) {
            self.errors[place].add(1);
        }
    }

    /// Sessions that are open now.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.opened.get().saturating_sub(self.closed.get())
    }
}
