//! Every metric of the node, in one place: `/metrics` shows them and OTLP carries them, under the same names.

mod kind;
mod refusal;
mod text;
mod token;

use bongsu_protocol::reason::{CloseReason, ErrorCode};

pub use kind::{Counter, Gauge, Histogram, Recorded, Unit};
pub use refusal::Refusal;
pub use token::TokenRefusal;

/// One metric as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Its name, the same wherever it is shown.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub help: String,
    /// How it stands.
    pub value: Value,
}

/// How a metric stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Numbers that only grow.
    Counter(Vec<Point>),
    /// Levels.
    Gauge(Vec<Point>),
    /// How often which sizes occurred.
    Histogram(Recorded),
}

impl Value {
    /// The kind of metric as Prometheus calls it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One number, with the label that tells it from others of the same metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Name and value of the label, where the metric has one.
    pub label: Option<(&'static str, String)>,
    /// The number.
    pub value: u64,
}

impl Point {
    fn alone(value: u64) -> Vec<Self> {
        vec![Self { label: None, value }]
    }
}

/// How a session's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket with JSON frames.
    WebsocketJson,
    /// A WebSocket with binary frames.
    WebsocketBinary,
    /// STOMP over a WebSocket.
    WebsocketStomp,
    /// STOMP over TCP.
    TcpStomp,
    /// Server-sent events.
    EventStream,
    /// Lines or a sequence of JSON.
    JsonStream,
    /// SockJS over a WebSocket, whatever is spoken.
    SockjsWebsocket,
    /// SockJS over long answers to XMLHttpRequests.
    SockjsXhrStreaming,
    /// SockJS over one XMLHttpRequest per frame.
    SockjsXhrPolling,
    /// SockJS over event sources.
    SockjsEventSource,
    /// SockJS over pages that never end.
    SockjsHtmlFile,
    /// SockJS over one script per frame.
    SockjsJsonpPolling,
    /// A long poll: no session, and counted by itself.
    LongPoll,
    /// An event source of one stream: no session.
    StreamEvents,
}

impl Transport {
    /// Those that carry sessions, which come before all others.
    pub const ALL: [Self; 12] = [
        Self::WebsocketJson,
        Self::WebsocketBinary,
        Self::WebsocketStomp,
        Self::TcpStomp,
        Self::EventStream,
        Self::JsonStream,
        Self::SockjsWebsocket,
        Self::SockjsXhrStreaming,
        Self::SockjsXhrPolling,
        Self::SockjsEventSource,
        Self::SockjsHtmlFile,
        Self::SockjsJsonpPolling,
    ];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebsocketJson => "websocket-json",
            Self::WebsocketBinary => "websocket-binary",
            Self::WebsocketStomp => "websocket-stomp",
            Self::TcpStomp => "tcp-stomp",
            Self::EventStream => "event-stream",
            Self::JsonStream => "json-stream",
            Self::SockjsWebsocket => "sockjs-websocket",
            Self::SockjsXhrStreaming => "sockjs-xhr-streaming",
            Self::SockjsXhrPolling => "sockjs-xhr-polling",
            Self::SockjsEventSource => "sockjs-eventsource",
            Self::SockjsHtmlFile => "sockjs-htmlfile",
            Self::SockjsJsonpPolling => "sockjs-jsonp-polling",
            Self::LongPoll => "long-poll",
            Self::StreamEvents => "stream-events",
        }
    }
}

macro_rules! metrics {
    (
        $($(#[doc = $help:literal])+ $name:ident = $exposed:literal;)+
        gauges { $($(#[doc = $gauge_help:literal])+ $gauge:ident = $gauge_exposed:literal;)+ }
        histograms { $($(#[doc = $histogram_help:literal])+ $histogram:ident: $unit:ident = $histogram_exposed:literal;)+ }
    ) => {
        /// The node's metrics.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $name: Counter,)+
            $($(#[doc = $gauge_help])+ pub $gauge: Gauge,)+
            $($(#[doc = $histogram_help])+ pub $histogram: Histogram,)+
            closes: [Counter; CloseReason::ALL.len()],
            errors: [Counter; ErrorCode::ALL.len()],
            refused: [Counter; Refusal::ALL.len()],
            opened_by: [Counter; Transport::ALL.len()],
            closed_by: [Counter; Transport::ALL.len()],
            tokens_refused: [Counter; TokenRefusal::ALL.len()],
        }

        /// The one instance: metrics are of the process.
        pub static METRICS: Metrics = Metrics {
            $($name: Counter::new(),)+
            $($gauge: Gauge::new(),)+
            $($histogram: Histogram::new(Unit::$unit),)+
            closes: [const { Counter::new() }; CloseReason::ALL.len()],
            errors: [const { Counter::new() }; ErrorCode::ALL.len()],
            refused: [const { Counter::new() }; Refusal::ALL.len()],
            opened_by: [const { Counter::new() }; Transport::ALL.len()],
            closed_by: [const { Counter::new() }; Transport::ALL.len()],
            tokens_refused: [const { Counter::new() }; TokenRefusal::ALL.len()],
        };

        impl Metrics {
            /// All metrics as they stand now, in the order of their declaration. Gauges stand as whoever asks has set them before.
            #[must_use]
            pub fn snapshot(&self) -> Vec<Metric> {
                let metric = |name, help: &[&str], value| {
                    Metric { name, help: help.concat().trim().to_owned(), value }
                };
                let mut metrics = vec![
                    $(metric($exposed, &[$($help),+], Value::Counter(Point::alone(self.$name.get()))),)+
                    $(metric($gauge_exposed, &[$($gauge_help),+], Value::Gauge(Point::alone(self.$gauge.get()))),)+
                    $(metric($histogram_exposed, &[$($histogram_help),+], Value::Histogram(self.$histogram.get())),)+
                ];
                metrics.extend(self.labelled());
                metrics
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
    /// Long polls that began to wait.
    polls_begun = "bongsu_polls_begun_total";
    /// Long polls that waited and ended: answered, or given up by their clients.
    polls_ended = "bongsu_polls_ended_total";
    /// Requests that clients sent.
    requests = "bongsu_requests_total";
    /// Frames of clients that could not be understood.
    malformed = "bongsu_frames_malformed_total";
    /// Bytes that the sockets of sessions brought.
    bytes_in = "bongsu_received_bytes_total";
    /// Bytes that the sockets of sessions took.
    bytes_out = "bongsu_sent_bytes_total";
    /// Messages that clients wanted to publish.
    published = "bongsu_messages_published_total";
    /// Messages that policy refused.
    publish_refused = "bongsu_messages_refused_total";
    /// Messages that were committed to their log.
    stored = "bongsu_messages_stored_total";
    /// Messages whose publishers were told that the store did not take them. They may be stored all the same.
    publish_failed = "bongsu_messages_failed_total";
    /// Messages that were offered to sessions: one for each message and each session that reads its topic.
    offered = "bongsu_messages_offered_total";
    /// Batches that came back from the store, stored or not: one transaction each.
    batches = "bongsu_store_batches_total";
    /// Pages that were read from the store.
    reads = "bongsu_store_reads_total";
    /// Calls to the store that failed or took too long.
    store_failures = "bongsu_store_failures_total";
    /// Pages of logs that readers asked for since they were behind.
    pages_asked = "bongsu_catch_up_pages_asked_total";
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
    /// Frames with messages of topics without history that came again, or after later ones.
    bus_frames_late = "bongsu_bus_frames_late_total";
    /// Times that another node's clock was far from this one's.
    clocks_apart = "bongsu_clocks_apart_total";
    /// Frames that the bus did not take.
    bus_publish_failed = "bongsu_bus_publish_failed_total";
    /// Messages that found no room in the queue to other nodes; they find them by asking the store.
    unannounced = "bongsu_messages_unannounced_total";
    /// Sockets that took no more for a moment, so that what followed waited.
    blocked = "bongsu_sockets_blocked_total";
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
    /// Spans that the collector took.
    spans_sent = "bongsu_spans_sent_total";
    /// Spans that were dropped: the collector did not take them, or not in time.
    spans_dropped = "bongsu_spans_dropped_total";
    /// Times that metrics or spans could not be sent to the collector.
    telemetry_failures = "bongsu_telemetry_failures_total";
    /// Joins and new infos of members that this node told of.
    joins = "bongsu_presence_joins_total";
    /// Leaves of members that this node told of.
    leaves = "bongsu_presence_leaves_total";
    /// Times that this node registered in its cluster: once, and again whenever its registration lapsed.
    registrations = "bongsu_cluster_registrations_total";
    /// Dead nodes whose members this node took away.
    nodes_reaped = "bongsu_cluster_nodes_reaped_total";
    /// Commands of operators that this node carried out.
    controlled = "bongsu_control_commands_total";
    /// Versions of the broker's own documents that this node took up, its own among them.
    register_versions = "bongsu_register_versions_total";
    /// Those that it could not read, and passed over: a later version of the broker wrote them.
    registers_unreadable = "bongsu_register_versions_unreadable_total";
    /// Records of the audit log that this node wrote.
    audited = "bongsu_audit_records_total";
    /// Records that could not be kept, so that what they tell of was not done.
    audit_failed = "bongsu_audit_records_failed_total";
    /// Sessions that an operator's command ended on this node.
    kicked = "bongsu_sessions_kicked_total";
    /// Sessions and waiting requests that were ended since their tokens were revoked or their users blocked.
    barred = "bongsu_barred_total";
    /// Requests of clients that this node had another one answer.
    forwarded = "bongsu_requests_forwarded_total";
    /// Those of them that got no answer.
    forward_failed = "bongsu_requests_forward_failed_total";
    /// Requests on the port for nodes that were no node's, or not certainly.
    peer_requests_refused = "bongsu_peer_requests_refused_total";
    /// Messages of work queues that were handed to consumers on this node.
    queue_delivered = "bongsu_queue_messages_delivered_total";
    /// Of those, messages that may have been handed to somebody before.
    queue_redelivered = "bongsu_queue_messages_redelivered_total";
    /// Messages of work queues that consumers on this node settled, in whatever way.
    queue_settled = "bongsu_queue_messages_settled_total";
    /// Messages that this node moved to a dead-letter topic.
    queue_dead = "bongsu_queue_messages_dead_lettered_total";
    /// Messages of dead-letter topics that died again, and were dropped.
    queue_dropped = "bongsu_queue_messages_dropped_total";
    /// Messages that went from their log before any consumer of a queue had settled them: by retention, or purged.
    queue_lost = "bongsu_queue_messages_lost_total";
    /// States of work queues that this node appended.
    queue_appends = "bongsu_queue_appends_total";
    /// Appends of such states that another node's came before.
    queue_conflicts = "bongsu_queue_append_conflicts_total";
    /// Events of sessions that this node told.
    events_told = "bongsu_session_events_told_total";
    /// Events of sessions that were not told one by one, since the store was away for too long.
    events_lost = "bongsu_session_events_lost_total";
    /// Sessions of dead nodes, and of earlier processes of this one, whose end this node told.
    sessions_lost = "bongsu_sessions_lost_total";
    /// Sessions that this node ended since others had taken it for dead.
    sessions_dismissed = "bongsu_sessions_dismissed_total";
    /// Requests that webhooks made.
    webhook_requests = "bongsu_webhook_requests_total";
    /// Messages that receivers of webhooks took.
    webhook_delivered = "bongsu_webhook_messages_delivered_total";
    /// Requests of webhooks that failed, or whose answer was no success.
    webhook_failures = "bongsu_webhook_failures_total";
    /// Messages that webhooks gave up, which are dead letters.
    webhook_dead = "bongsu_webhook_dead_letters_total";
    /// Messages that were removed before webhooks delivered them.
    webhook_lost = "bongsu_webhook_messages_lost_total";
    /// Sets of an issuer's public keys that were fetched.
    jwks_fetched = "bongsu_jwks_fetched_total";
    /// Fetches of such a set that failed, or brought none that can be taken.
    jwks_failures = "bongsu_jwks_failures_total";
    /// Keys in such sets that were left out: secrets, private keys, and what is too weak or makes no sense.
    jwks_keys_refused = "bongsu_jwks_keys_refused_total";
    /// Sessions that ended since their token did.
    tokens_expired = "bongsu_tokens_expired_total";
    /// Connect tickets that were made.
    tickets_made = "bongsu_tickets_made_total";
    /// Times that a new TLS certificate took the place of the one before.
    tls_reloads = "bongsu_tls_reloads_total";
    /// Times that the files of the TLS certificate changed to what cannot be used, so that the one before stayed.
    tls_reload_failures = "bongsu_tls_reload_failures_total";
    gauges {
        /// When the TLS certificate that new handshakes see ends, in seconds since 1970; 0 without TLS.
        tls_certificate_expires = "bongsu_tls_certificate_expires_seconds";
        /// Work queues that clients of this node consume now.
        queues = "bongsu_queues";
        /// Connections that hold a place now.
        connections = "bongsu_connections";
        /// Places for connections: `limits.connections`.
        connections_max = "bongsu_connections_max";
        /// Readers that wait for a page of a log now, since they are behind.
        readers_behind = "bongsu_readers_behind";
        /// Bytes of messages that wait for their commit now, with what they cost beside their own.
        publish_bytes = "bongsu_publish_bytes_in_flight";
        /// Messages of topics without history that wait to be fanned out now.
        live_waiting = "bongsu_live_messages_waiting";
        /// Batches and other commands that wait for the fullest of the node's shards now.
        shard_waiting = "bongsu_shard_commands_waiting";
        /// Pages that are read from the store now; `limits.history_reads` at most.
        reads_under_way = "bongsu_store_reads_under_way";
        /// Bytes of newest messages that are kept in memory now.
        tail_bytes = "bongsu_tail_cache_bytes";
        /// Bytes of events of sessions that wait to be told now.
        events_waiting_bytes = "bongsu_session_events_waiting_bytes";
        /// Topics that a webhook of this node has something to deliver of, as it looked last.
        webhooks_waiting = "bongsu_webhook_topics_waiting";
        /// 1 while the bus is live, 0 while frames of other nodes do not arrive, or not all.
        bus_live = "bongsu_bus_live";
        /// 1 while the node sends its clients away.
        draining = "bongsu_draining";
    }
    histograms {
        /// From taking a message of a topic with history to acknowledging it.
        publish_seconds: Seconds = "bongsu_publish_seconds";
        /// From taking a message of a topic without history to acknowledging it.
        live_publish_seconds: Seconds = "bongsu_live_publish_seconds";
        /// What the store took for a batch, stored or not.
        append_seconds: Seconds = "bongsu_store_append_seconds";
        /// Messages in one batch for the store.
        append_messages: Count = "bongsu_store_append_messages";
        /// What the store took for a page of a log.
        read_seconds: Seconds = "bongsu_store_read_seconds";
        /// What the store took to tell which logs changed.
        changes_seconds: Seconds = "bongsu_store_changes_seconds";
        /// What the bus took to take frames, or to refuse them.
        bus_publish_seconds: Seconds = "bongsu_bus_publish_seconds";
        /// From handing messages to the shards until the last reader was offered them.
        fan_out_seconds: Seconds = "bongsu_fan_out_seconds";
        /// Messages that were fanned out together.
        fan_out_messages: Count = "bongsu_fan_out_messages";
    }
}

impl Metrics {
    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        text::write(&self.snapshot())
    }

    /// Metrics with a label.
    fn labelled(&self) -> [Metric; 5] {
        let point = |key, word: String, value| Point { label: Some((key, word)), value };
        let closes = CloseReason::ALL.iter().zip(&self.closes);
        let closes = closes.map(|(reason, counter)| point("reason", reason.to_string(), counter.get()));
        let errors = ErrorCode::ALL.iter().zip(&self.errors);
        let errors = errors.map(|(code, counter)| point("code", code.to_string(), counter.get()));
        let refused = Refusal::ALL.iter().zip(&self.refused);
        let refused =
            refused.map(|(reason, counter)| point("reason", reason.name().to_owned(), counter.get()));
        let sessions = Transport::ALL.iter().zip(self.opened_by.iter().zip(&self.closed_by));
        let sessions = sessions.map(|(transport, (opened, closed))| {
            point("transport", transport.name().to_owned(), opened.get().saturating_sub(closed.get()))
        });
        let tokens = TokenRefusal::ALL.iter().zip(&self.tokens_refused);
        let tokens = tokens.map(|(why, counter)| point("reason", why.name().to_owned(), counter.get()));
        let metric = |name, help: &str, value| Metric { name, help: help.to_owned(), value };
        [
            metric(
                "bongsu_tokens_refused_total",
                "Tokens that were refused, by reason.",
                Value::Counter(tokens.collect()),
            ),
            metric(
                "bongsu_connections_closed_by_reason_total",
                "Connections that ended, by reason.",
                Value::Counter(closes.collect()),
            ),
            metric(
                "bongsu_request_errors_total",
                "Requests that were answered with an error, by code.",
                Value::Counter(errors.collect()),
            ),
            metric(
                "bongsu_refused_total",
                "Connections, sessions, messages and handshakes that were refused by a limit or a rule, by reason.",
                Value::Counter(refused.collect()),
            ),
            metric(
                "bongsu_sessions",
                "Sessions that are open now, by what carries them.",
                Value::Gauge(sessions.collect()),
            ),
        ]
    }

    /// Counts the beginning of a session.
    pub fn count_open(&self, transport: Transport) {
        self.opened.add(1);
        self.opened_by[transport as usize].add(1);
    }

    /// Counts the end of a session.
    pub fn count_close(&self, transport: Transport, reason: CloseReason) {
        self.closed.add(1);
        self.closed_by[transport as usize].add(1);
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

    /// Counts something that was refused.
    pub fn count_refused(&self, reason: Refusal) {
        self.refused[reason as usize].add(1);
    }

    /// Counts a token that was refused.
    pub fn count_token_refused(&self, why: TokenRefusal) {
        self.tokens_refused[why as usize].add(1);
    }

    /// Sessions that are open now.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.opened.get().saturating_sub(self.closed.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_given_once_and_says_its_kind() {
        let metrics = METRICS.snapshot();
        let mut names: Vec<_> = metrics.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), metrics.len(), "a name stands twice");
        for metric in &metrics {
            assert!(metric.name.starts_with("bongsu_") && metric.help.ends_with('.'), "{metric:?}");
            assert_eq!(metric.name.ends_with("_total"), metric.value.kind() == "counter", "{metric:?}");
            if let Value::Histogram(recorded) = &metric.value {
                assert_eq!(metric.name.ends_with("_seconds"), recorded.unit == Unit::Seconds, "{metric:?}");
            }
        }
    }

    #[test]
    fn the_document_for_operators_lists_every_metric_and_no_other() {
        let document = include_str!("../../docs/operations.md");
        let row =
            |metric: &Metric| format!("| `{}` | {} | {} |", metric.name, metric.value.kind(), metric.help);
        let rows: Vec<_> = METRICS.snapshot().iter().map(row).collect();
        for row in &rows {
            assert!(document.lines().any(|line| line == row), "docs/operations.md lacks this row: {row}");
        }
        // The table of what to be woken up for has two columns, that of metrics has three.
        let is_row = |line: &&str| line.starts_with("| `bongsu_") && line.matches(" | ").count() == 2;
        let listed = document.lines().filter(is_row);
        let unknown: Vec<_> = listed.filter(|line| !rows.iter().any(|row| row == line)).collect();
        assert_eq!(unknown, [""; 0], "docs/operations.md lists what is not there");
    }
}
