//! Who reads and who publishes in a run: every transport, topics by name and by pattern, those who stay and those who come and go.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::ledger::{Ledger, Number};
use crate::publisher::Publisher;
use crate::reader::{Flaw, Subscriber};
use crate::transport::Transport;
use crate::world::World;

/// A reader.
struct Member {
    transport: Transport,
    filters: &'static [&'static str],
    /// See [`Subscriber`].
    restless: Option<Duration>,
    away: Duration,
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

/// What publishes.
const PUBLISHERS: [Transport; 8] = [
    Transport::Json,
    Transport::Json,
    Transport::Binary,
    Transport::Post,
    Transport::StompWebSocket,
    Transport::StompTcp,
    Transport::SockJsPolling,
    Transport::Sql,
];

/// How many publishers there are where there is a database to publish in.
pub(crate) const N_PUBLISHERS: usize = PUBLISHERS.len();

/// How many readers there are.
pub(crate) const N_READERS: usize = (FILTERS.len() + OTHERS.len()) * 2 + SLEEPY.len();

/// All readers of a run. Where a transport reads one topic at a time, a reader is several.
pub(crate) fn readers(world: &World, ledger: &Arc<Ledger>, random: &mut StdRng) -> Vec<Subscriber> {
    let reader = |Member { transport, filters, restless, away }| {
        let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
        let reader = Subscriber {
            transport,
            ways: vec![world.front_of(transport)],
            number: ledger.subscriber(transport, filters.clone()),
            filters,
            ledger: Arc::clone(ledger),
            seed: random.random(),
            restless,
            away,
            flaw: Flaw::None,
        };
        reader.split()
    };
    members().flat_map(reader).collect()
}

/// One of each stays, one comes and goes.
fn members() -> impl Iterator<Item = Member> {
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

/// All publishers of a run.
pub(crate) fn publishers(world: &World, ledger: &Arc<Ledger>, random: &mut StdRng) -> Vec<Publisher> {
    let possible =
        PUBLISHERS.into_iter().filter(|transport| *transport != Transport::Sql || world.database.is_some());
    let publisher = |(first, transport): (Number, Transport)| Publisher {
        transport,
        way: world.front_of(transport),
        database: world.database.clone(),
        ledger: Arc::clone(ledger),
        first: first * 1_000_000_000,
        seed: random.random(),
        pause: pause_of(transport),
        batch_max: 4,
        topic: None,
    };
    (1..).zip(possible).map(publisher).collect()
}

/// How long a publisher of this kind pauses between two batches. Together they publish about as much as three that pause for 50 ms.
const fn pause_of(transport: Transport) -> Duration {
    match transport {
        Transport::Json => Duration::from_millis(100),
        // A process for each batch.
        Transport::Sql => Duration::from_millis(500),
        _ => Duration::from_millis(200),
    }
}
