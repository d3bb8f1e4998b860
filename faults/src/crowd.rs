//! Who reads and who publishes in a run: every transport, topics by name and by pattern, those who stay and those who come and go.

use std::time::Duration;

use crate::transport::Transport;
use crate::world::Topology;

/// A reader.
pub(crate) struct Member {
    pub(crate) transport: Transport,
    pub(crate) filters: &'static [&'static str],
    /// See [`Subscriber`](crate::reader::Subscriber).
    pub(crate) restless: Option<Duration>,
    pub(crate) away: Duration,
}

/// What readers of native JSON read, besides the probes: by name, by pattern, and both.
const FILTERS: [&[&str]; 10] = [
    &["orders/0", "orders/1", "orders/2", "orders/3", "orders/4", "orders/5", "rooms/probe/chat", "probe"],
    &["orders/0", "short/0", "rooms/probe/chat", "probe"],
    &["rooms/0/chat", "rooms/1/chat", "orders/5", "rooms/probe/chat", "probe"],
    &["rooms/2/deep/er", "orders/3", "rooms/probe/chat", "probe"],
    &["orders/+", "rooms/probe/chat", "probe"],
    &["rooms/#", "probe"],
    &["rooms/+/chat", "probe"],
    &["rooms/+/chat", "rooms/#", "orders/2", "probe"],
    &["#"],
    &["short/+", "rooms/+/deep/#", "rooms/probe/+", "probe"],
];

/// What readers of other transports read. Only the native protocol resumes patterns without repeating anything.
const OTHERS: [(Transport, &[&str]); 12] = [
    (Transport::Binary, &["orders/0", "orders/1", "short/0", "rooms/probe/chat", "probe"]),
    (Transport::Binary, &["#"]),
    (Transport::SockJsWebSocket, &["rooms/+/chat", "probe"]),
    (Transport::SockJsStreaming, &["orders/+", "rooms/probe/chat", "probe"]),
    (Transport::SockJsPolling, &["orders/0", "rooms/#", "probe"]),
    (Transport::StompWebSocket, &["orders/0", "orders/1", "short/0", "rooms/probe/chat", "probe"]),
    (Transport::StompSockJs, &["orders/5", "rooms/2/chat", "rooms/probe/chat", "probe"]),
    (Transport::StompTcp, &["orders/2", "rooms/0/chat", "rooms/1/chat", "rooms/probe/chat", "probe"]),
    (Transport::EventSource, &["orders/0", "short/0", "rooms/probe/chat", "probe"]),
    // A bookmark has room for five topics.
    (Transport::EventsOfSeveral, &["orders/3", "rooms/2/chat", "short/0", "rooms/probe/chat", "probe"]),
    (Transport::Lines, &["orders/4", "rooms/probe/chat", "probe"]),
    (Transport::LongPoll, &["orders/5", "rooms/3/chat", "rooms/probe/chat", "probe"]),
];

/// What readers read that stay away for a while: nobody waits for them, and what was trimmed meanwhile is lost to them.
const SLEEPY: [(Transport, &[&str]); 5] = [
    (Transport::Json, &["short/0", "orders/1"]),
    (Transport::Json, &["short/#", "rooms/+/deep/#"]),
    (Transport::StompTcp, &["short/0", "orders/1"]),
    (Transport::EventSource, &["short/0", "orders/1"]),
    (Transport::LongPoll, &["short/0", "orders/1"]),
];

/// How long a restless reader stays, on average.
const STAY: Duration = Duration::from_secs(5);

/// How long a sleepy one is away, on average.
const AWAY: Duration = Duration::from_secs(6);

/// All readers of a run: one of each stays, one comes and goes.
pub(crate) fn readers() -> impl Iterator<Item = Member> {
    let native = FILTERS.iter().map(|filters| (Transport::Json, *filters));
    let awake = native.chain(OTHERS).flat_map(|(transport, filters)| {
        [None, Some(STAY)].map(|restless| Member { transport, filters, restless, away: Duration::ZERO })
    });
    let sleepy = SLEEPY.iter().map(|(transport, filters)| Member {
        transport: *transport,
        filters,
        restless: Some(STAY),
        away: AWAY,
    });
    awake.chain(sleepy)
}

/// What publishes in a run.
pub(crate) fn publishers(topology: Topology) -> impl Iterator<Item = Transport> {
    let all = [
        Transport::Json,
        Transport::Json,
        Transport::Binary,
        Transport::Post,
        Transport::StompWebSocket,
        Transport::StompTcp,
        Transport::SockJsPolling,
        Transport::Sql,
    ];
    all.into_iter().filter(move |transport| *transport != Transport::Sql || topology != Topology::Alone)
}

/// How long a publisher of this kind pauses between two batches. Together they publish about as much as three that pause for 50 ms.
pub(crate) const fn pause_of(transport: Transport) -> Duration {
    match transport {
        Transport::Json => Duration::from_millis(100),
        // A process for each batch.
        Transport::Sql => Duration::from_millis(500),
        _ => Duration::from_millis(200),
    }
}
