//! Brokers as processes of their own that are killed with `kill -9` while consumers hold messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bongsu_protocol::stomp::{Command, Frame};
use bongsu_testkit::{Postgres, Redis};
use tokio::sync::watch;

use crate::support::stomp::{Came, Stomp};
use crate::support::{Broker, PATIENCE};

/// How often a broker is killed.
const KILLS: usize = 6;

/// Messages that are settled between two kills.
const SETTLED_PER_KILL: usize = 30;

/// Messages that a consumer keeps unsettled on purpose while brokers die.
const KEPT: usize = 4;

/// What consumers know.
#[derive(Default)]
struct Ledger {
    /// Messages whose settlement was confirmed.
    settled: BTreeSet<String>,
    /// Messages that were acknowledged to a broker that died before it said that this is kept: it may be, or they come again.
    unsure: BTreeSet<String>,
    /// How often each was seen.
    seen: BTreeMap<String, usize>,
}

impl Ledger {
    /// Messages that need not come any more.
    fn n_over(&self) -> usize {
        self.settled.union(&self.unsure).count()
    }
}

type Shared = Arc<(Mutex<Ledger>, watch::Sender<usize>)>;

fn saw(shared: &Shared, message: &Frame) -> String {
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    let mut ledger = shared.0.lock().unwrap();
    assert!(!ledger.settled.contains(&text), "{text} was settled, and came again");
    *ledger.seen.entry(text.clone()).or_default() += 1;
    text
}

/// Consumes from a broker that may die, and from the next one in its place, for ever.
async fn consume(
    mut address: watch::Receiver<SocketAddr>,
    mut n_kept: watch::Receiver<usize>,
    shared: Shared,
) {
    loop {
        let at = *address.borrow_and_update();
        if let Ok(socket) = tokio::net::TcpStream::connect(at).await {
            let mut asked = BTreeSet::new();
            consume_until_it_dies(Stomp::over(socket), &mut n_kept, &mut asked, &shared).await;
            let mut ledger = shared.0.lock().unwrap();
            ledger.unsure.append(&mut asked);
            shared.1.send_replace(ledger.n_over());
        }
        // Wherever it is next.
        if address.changed().await.is_err() {
            return;
        }
    }
}

async fn consume_until_it_dies(
    mut stomp: Stomp,
    n_kept: &mut watch::Receiver<usize>,
    asked: &mut BTreeSet<String>,
    shared: &Shared,
) {
    stomp.log_in("1.2", "").await;
    let subscribe = "SUBSCRIBE\nid:q\ndestination:/queue/jobs\nack:client-individual\nprefetch-count:7\n\n\0";
    if !stomp.send(subscribe.as_bytes()).await {
        return;
    }
    let mut kept = VecDeque::new();
    loop {
        let came = tokio::select! {
            came = stomp.hear() => Some(came),
            _ = n_kept.changed() => None,
        };
        let Some(came) = came else {
            // Nothing is kept any more.
            while let Some(ack) = kept.pop_front() {
                if !acknowledge(&mut stomp, ack, asked).await {
                    return;
                }
            }
            continue;
        };
        match came {
            Came::Frame(frame) if frame.command == Command::Message => {
                let text = saw(shared, &frame);
                kept.push_back((frame.header("ack").unwrap().to_owned(), text));
                if kept.len() > *n_kept.borrow()
                    && let Some(ack) = kept.pop_front()
                    && !acknowledge(&mut stomp, ack, asked).await
                {
                    return;
                }
            }
            Came::Frame(frame) if frame.command == Command::Receipt => {
                let (ledger, changed) = &**shared;
                let mut ledger = ledger.lock().unwrap();
                let text = frame.header("receipt-id").unwrap().to_owned();
                asked.remove(&text);
                ledger.settled.insert(text);
                changed.send_replace(ledger.n_over());
            }
            Came::Frame(frame) => panic!("unexpected {frame:?}"),
            Came::End(_) => return,
        }
    }
}

/// Acknowledges a message by the ids of its MESSAGE and its own. False if the broker is gone.
async fn acknowledge(stomp: &mut Stomp, (id, text): (String, String), asked: &mut BTreeSet<String>) -> bool {
    let frame = format!("ACK\nid:{id}\nreceipt:{text}\n\n\0");
    asked.insert(text);
    stomp.send(frame.as_bytes()).await
}

// ST-23, ST-27
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_redelivered_and_nothing_unacknowledged_is_lost_under_kill_9() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let settings = [
            format!("node.name={name}"),
            format!("postgres.url={}", postgres.url()),
            format!("redis.url={}", redis.url()),
            "cluster.lease=2s".to_owned(),
            "stomp.listen=127.0.0.1:0".to_owned(),
            // Nobody is a poison message here, however often brokers die with it.
            "queues.tries_max=1000".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Broker::start(folder.path(), &settings)
    };
    let mut brokers = [start("one"), start("two")];
    let shared: Shared = Arc::new((Mutex::default(), watch::Sender::new(0)));
    let addresses = [0, 1].map(|place| watch::Sender::new(brokers[place].stomp[0]));
    let n_kept = watch::Sender::new(KEPT);
    let consumers: Vec<_> = addresses
        .iter()
        .map(|address| tokio::spawn(consume(address.subscribe(), n_kept.subscribe(), Arc::clone(&shared))))
        .collect();
    let mut settled = shared.1.subscribe();
    let mut n_published = 0;
    for kill in 0..=KILLS {
        // Through the broker that lives on.
        let mut publisher = Stomp::connect(brokers[(kill + 1) % 2].stomp[0], "1.2").await;
        for _ in 0..2 * SETTLED_PER_KILL {
            publisher.ask(&format!("SEND\ndestination:/queue/jobs\nreceipt:r\n\n{n_published}^")).await;
            n_published += 1;
        }
        if kill == KILLS {
            n_kept.send_replace(0);
        }
        // Far fewer than were published, so that consumers have more to hold.
        let wanted = if kill == KILLS { n_published } else { (kill + 1) * SETTLED_PER_KILL };
        let reached = tokio::time::timeout(2 * PATIENCE, settled.wait_for(|n| *n >= wanted)).await;
        assert!(reached.is_ok(), "only {} of {wanted} were settled in time", *shared.1.borrow());
        if kill < KILLS {
            brokers[kill % 2].kill();
            brokers[kill % 2] = start(["one", "two"][kill % 2]);
            addresses[kill % 2].send_replace(brokers[kill % 2].stomp[0]);
        }
    }
    for consumer in consumers {
        assert!(!consumer.is_finished(), "a consumer failed: {:?}", consumer.await);
        consumer.abort();
    }
    let ledger = shared.0.lock().unwrap();
    let n_again = ledger.seen.values().filter(|n_seen| **n_seen > 1).count();
    assert!(n_again > 0, "brokers died while consumers held messages");
    println!(
        "{KILLS} kills, {n_published} messages, {} settled for sure; {n_again} came again unsettled",
        ledger.settled.len()
    );
    assert_eq!((ledger.n_over(), ledger.seen.len()), (n_published, n_published));
}
