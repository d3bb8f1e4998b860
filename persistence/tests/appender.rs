//! What the appender promises, asked of it with a store that waits, fails and hangs on demand.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_persistence::appender::{Appender, AppenderLimits, Failure, MESSAGE_OVERHEAD_BYTES, Submission};
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Store,
};
use bongsu_protocol::command::HistoryQuery;
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Message, NewMessage, Time};
use bongsu_protocol::topic::Topic;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, yield_now};

/// A store whose appends wait for a permit each, and do what they are told.
struct Told {
    memory: MemoryStore,
    /// One permit per append that may go on.
    gate: Semaphore,
    /// What the next appends do, the last one first; afterwards they succeed.
    orders: Mutex<Vec<Order>>,
    /// The payloads of each batch that arrived.
    batches: Mutex<Vec<Vec<String>>>,
}

enum Order {
    Succeed,
    Fail,
    Hang,
    AnswerTooFew,
}

impl Told {
    fn new(n_permits: usize, orders: Vec<Order>) -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryStore::default(),
            gate: Semaphore::new(n_permits),
            orders: Mutex::new(orders),
            batches: Mutex::default(),
        })
    }

    fn batches(&self) -> Vec<Vec<String>> {
        self.batches.lock().unwrap().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches().iter().map(Vec::len).collect()
    }
}

impl Store for Told {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        let payload = |append: &Append| String::from_utf8(append.message.message.payload.to_vec()).unwrap();
        self.batches.lock().unwrap().push(batch.iter().map(payload).collect());
        async move {
            self.gate.acquire().await.unwrap().forget();
            let order = self.orders.lock().unwrap().pop().unwrap_or(Order::Succeed);
            match order {
                Order::Succeed => self.memory.append(batch).await,
                Order::Fail => Err(Error::Unavailable("told so".to_owned())),
                Order::Hang => std::future::pending().await,
                Order::AnswerTooFew => Ok(Vec::new()),
            }
        }
        .boxed()
    }

    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        self.memory.read(query)
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        self.memory.list(query)
    }

    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        self.memory.changes(since)
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        self.memory.remove(removal)
    }
}

/// Outcomes in the order of `on_commit`, each with the payload as its completion.
type Outcomes = mpsc::Receiver<(Result<Appended, Failure>, String)>;

fn start(store: &Arc<Told>, limits: AppenderLimits) -> (Appender<String>, JoinHandle<()>, Outcomes) {
    let (sender, outcomes) = mpsc::channel(100_000);
    let (appender, handle) = Appender::spawn(store.clone(), limits, move |batch: Vec<_>| {
        let sender = sender.clone();
        async move {
            for outcome in batch {
                sender.send(outcome).await.unwrap();
            }
        }
    });
    (appender, handle, outcomes)
}

fn submission(topic: &str, payload: &str) -> Submission<String> {
    let message = NewMessage {
        topic: Topic::parse(topic).unwrap(),
        message: Message::new(payload.to_owned()),
        expect: None,
    };
    let append =
        Append { message, publisher: String::new(), time: Time(1), idempotency_window: Duration::ZERO };
    Submission { append, completion: payload.to_owned() }
}

async fn submit(appender: &Appender<String>, payload: &str) {
    appender.submit(submission("t", payload)).await.unwrap();
}

/// Waits for the next outcome, which is that of a stored message; answers its completion.
async fn stored(outcomes: &mut Outcomes) -> String {
    let (outcome, completion) = outcomes.recv().await.unwrap();
    assert!(matches!(outcome, Ok(Appended::Stored(_))), "{outcome:?}");
    completion
}

/// Lets every task that can run, run.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_message_is_stored_without_waiting_for_a_timer() {
    let store = Told::new(1, Vec::new());
    let (appender, _handle, mut outcomes) = start(&store, AppenderLimits::default());
    let before = tokio::time::Instant::now();
    submit(&appender, "a").await;
    stored(&mut outcomes).await;
    // The paused clock moves only when everything waits for a timer.
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn what_arrives_while_a_batch_runs_is_the_next_batch() {
    let store = Told::new(0, Vec::new());
    let (appender, _handle, mut outcomes) = start(&store, AppenderLimits::default());
    submit(&appender, "first").await;
    settle().await;
    for n in 0..10 {
        submit(&appender, &n.to_string()).await;
    }
    store.gate.add_permits(2);
    for _ in 0..11 {
        stored(&mut outcomes).await;
    }
    assert_eq!(store.sizes(), [1, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_topic_keep_their_order() {
    let store = Told::new(Semaphore::MAX_PERMITS, Vec::new());
    let limits = AppenderLimits {
        lanes: 3,
        batch_messages_max: 7,
        waiting_messages_max: 10,
        ..AppenderLimits::default()
    };
    let (appender, handle, mut outcomes) = start(&store, limits);
    let publishers: Vec<_> = (0..5)
        .map(|publisher| {
            let appender = appender.clone();
            tokio::spawn(async move {
                for n in 0..200 {
                    let payload = format!("{publisher}:{n}");
                    appender.submit(submission("shared", &payload)).await.unwrap();
                    appender.submit(submission(&format!("own/{publisher}"), &payload)).await.unwrap();
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    appender.close().await;
    handle.await.unwrap();

    let mut heads: HashMap<String, u64> = HashMap::new();
    let mut counters: HashMap<(String, String), usize> = HashMap::new();
    while let Some((outcome, payload)) = outcomes.recv().await {
        let Ok(Appended::Stored(delivery)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(delivery.message.payload, payload, "the completion is that of the message");
        let topic = delivery.topic.as_str().to_owned();
        let head = heads.entry(topic.clone()).or_default();
        assert_eq!(delivery.position.unwrap().offset.0, *head + 1, "handed over in the order of offsets");
        *head += 1;
        let (publisher, n) = payload.split_once(':').unwrap();
        let counter = counters.entry((topic, publisher.to_owned())).or_default();
        assert_eq!(n.parse::<usize>().unwrap(), *counter, "stored in the order of submission");
        *counter += 1;
    }
    assert_eq!(heads.values().sum::<u64>(), 2000);
}

#[tokio::test]
async fn the_next_batch_waits_until_outcomes_were_handed_over() {
    let store = Told::new(10, Vec::new());
    let handed_over = Arc::new(Semaphore::new(0));
    let gate = handed_over.clone();
    let (appender, _handle) = Appender::spawn(store.clone(), AppenderLimits::default(), move |_: Vec<_>| {
        let gate = gate.clone();
        async move { gate.acquire().await.unwrap().forget() }
    });
    submit(&appender, "a").await;
    settle().await;
    submit(&appender, "b").await;
    settle().await;
    assert_eq!(store.sizes(), [1]);
    handed_over.add_permits(1);
    settle().await;
    assert_eq!(store.sizes(), [1, 1]);
}

#[tokio::test]
async fn a_lane_that_is_full_of_messages_refuses() {
    let store = Told::new(0, Vec::new());
    let limits =
        AppenderLimits { waiting_messages_max: 4, batch_messages_max: 2, ..AppenderLimits::default() };
    let (appender, _handle, mut outcomes) = start(&store, limits);
    let mut n_taken = 0;
    // Clones share the bound: were each to bring a place of its own, this would not end.
    while appender.clone().try_submit(submission("t", &n_taken.to_string())).is_ok() {
        n_taken += 1;
        assert!(n_taken <= 5, "the bound does not bind");
        settle().await;
    }
    assert_eq!(n_taken, 5, "one is being stored, four wait");
    let mut waiting = Box::pin(appender.submit(submission("t", "last")));
    assert!(waiting.as_mut().now_or_never().is_none(), "publishers wait");
    store.gate.add_permits(10);
    waiting.await.unwrap();
    for _ in 0..=n_taken {
        stored(&mut outcomes).await;
    }
    assert!(store.sizes().iter().all(|size| *size <= 2));
}

#[tokio::test]
async fn a_lane_that_is_full_of_bytes_refuses() {
    let store = Told::new(0, Vec::new());
    let payload = "x".repeat(1000);
    let limits =
        AppenderLimits { bytes_max: 3 * (1000 + MESSAGE_OVERHEAD_BYTES), ..AppenderLimits::default() };
    let (appender, _handle, mut outcomes) = start(&store, limits);
    for expected in [true, true, true, false, false] {
        assert_eq!(appender.clone().try_submit(submission("t", &payload)).is_ok(), expected);
        settle().await;
    }
    let mut waiting = Box::pin(appender.submit(submission("t", &payload)));
    assert!(waiting.as_mut().now_or_never().is_none(), "publishers wait");
    // Bytes count until they are stored and handed over.
    store.gate.add_permits(1);
    waiting.await.unwrap();
    store.gate.add_permits(10);
    for _ in 0..4 {
        stored(&mut outcomes).await;
    }
    for _ in 0..100 {
        submit(&appender, &payload).await;
        stored(&mut outcomes).await;
        store.gate.add_permits(1);
    }
}

#[tokio::test]
async fn a_message_larger_than_the_lane_passes_alone() {
    let store = Told::new(10, Vec::new());
    let limits = AppenderLimits { bytes_max: 1000, batch_bytes_max: 500, ..AppenderLimits::default() };
    let (appender, _handle, mut outcomes) = start(&store, limits);
    for payload in ["a".repeat(5000), "b".to_owned(), "c".repeat(700)] {
        submit(&appender, &payload).await;
        stored(&mut outcomes).await;
    }
}

#[tokio::test]
async fn a_batch_keeps_to_its_bounds() {
    let store = Told::new(0, Vec::new());
    let limits = AppenderLimits {
        batch_messages_max: 4,
        batch_bytes_max: 3 * (100 + MESSAGE_OVERHEAD_BYTES),
        ..AppenderLimits::default()
    };
    let (appender, _handle, mut outcomes) = start(&store, limits);
    submit(&appender, "first").await;
    settle().await;
    let (small, large) = ("s".to_owned(), "l".repeat(100));
    for payload in [&small, &small, &small, &small, &large, &large, &large, &large, &small] {
        submit(&appender, payload).await;
    }
    store.gate.add_permits(10);
    for _ in 0..10 {
        stored(&mut outcomes).await;
    }
    let small_count = (3 * (100 + MESSAGE_OVERHEAD_BYTES)) / (1 + MESSAGE_OVERHEAD_BYTES);
    assert_eq!(small_count, 4, "four small ones fit");
    assert_eq!(store.sizes(), [1, 4, 3, 2]);
}

#[tokio::test]
async fn a_failing_store_fails_its_batch_and_the_next_one_works() {
    let store = Told::new(0, vec![Order::Succeed, Order::AnswerTooFew, Order::Fail]);
    let (appender, _handle, mut outcomes) = start(&store, AppenderLimits::default());
    for batch in [["a", "b"], ["c", "d"], ["e", "f"]] {
        for payload in batch {
            submit(&appender, payload).await;
        }
        settle().await;
    }
    store.gate.add_permits(10);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (outcome, payload) = outcomes.recv().await.unwrap();
        let outcome = match outcome {
            Ok(Appended::Stored(delivery)) => delivery.position.unwrap().offset.0.to_string(),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => failure.to_string(),
        };
        seen.push(format!("{payload}: {outcome}"));
    }
    // One batch of one, one of what came meanwhile.
    assert_eq!(store.batches()[0], ["a", "b"]);
    assert_eq!(seen[..2], ["a: the store is unavailable: told so", "b: the store is unavailable: told so"]);
    assert!(seen[2..].iter().all(|text| text.ends_with("0 outcomes for 4 messages")), "{seen:?}");
    submit(&appender, "g").await;
    stored(&mut outcomes).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_fails_its_batch_after_the_deadline() {
    let store = Told::new(10, vec![Order::Hang]);
    let limits = AppenderLimits { deadline: Duration::from_secs(3), ..AppenderLimits::default() };
    let (appender, _handle, mut outcomes) = start(&store, limits);
    let before = tokio::time::Instant::now();
    submit(&appender, "a").await;
    let (outcome, _) = outcomes.recv().await.unwrap();
    assert!(
        matches!(outcome, Err(Failure::Deadline(deadline)) if deadline == limits.deadline),
        "{outcome:?}"
    );
    assert!(before.elapsed() >= limits.deadline);
    submit(&appender, "b").await;
    stored(&mut outcomes).await;
}

#[tokio::test]
async fn closing_stores_what_was_taken_and_refuses_the_rest() {
    let store = Told::new(0, Vec::new());
    let limits =
        AppenderLimits { waiting_messages_max: 3, batch_messages_max: 2, ..AppenderLimits::default() };
    let (appender, handle, mut outcomes) = start(&store, limits);
    submit(&appender, "0").await;
    settle().await;
    for payload in ["1", "2", "3"] {
        submit(&appender, payload).await;
    }
    let waiting = tokio::spawn({
        let appender = appender.clone();
        async move { appender.submit(submission("t", "waits")).await }
    });
    settle().await;
    let closing = tokio::spawn(appender.clone().close());
    settle().await;
    assert!(!closing.is_finished(), "there is something to store");
    assert!(appender.try_submit(submission("t", "late")).is_err());
    assert_eq!(appender.submit(submission("t", "later")).await.unwrap_err().completion, "later");
    store.gate.add_permits(10);
    closing.await.unwrap();
    handle.await.unwrap();
    let refused = waiting.await.unwrap().is_err();
    let mut stored = Vec::new();
    while let Some((outcome, payload)) = outcomes.recv().await {
        assert!(matches!(outcome, Ok(Appended::Stored(_))));
        stored.push(payload);
    }
    assert!(refused);
    assert_eq!(stored, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn dropping_every_clone_stores_what_was_taken() {
    let store = Told::new(10, Vec::new());
    let (appender, handle, mut outcomes) = start(&store, AppenderLimits::default());
    submit(&appender, "a").await;
    submit(&appender.clone(), "b").await;
    drop(appender);
    handle.await.unwrap();
    assert!(
        outcomes.recv().await.is_some() && outcomes.recv().await.is_some() && outcomes.recv().await.is_none()
    );
}

#[tokio::test]
async fn a_submission_that_is_given_up_takes_no_room() {
    let store = Told::new(0, Vec::new());
    let limits = AppenderLimits { bytes_max: 1 + MESSAGE_OVERHEAD_BYTES, ..AppenderLimits::default() };
    let (appender, _handle, mut outcomes) = start(&store, limits);
    submit(&appender, "a").await;
    for _ in 0..10 {
        assert!(appender.submit(submission("t", "b")).now_or_never().is_none());
    }
    store.gate.add_permits(10);
    stored(&mut outcomes).await;
    submit(&appender, "c").await;
    assert_eq!(stored(&mut outcomes).await, "c");
    assert_eq!(store.batches(), [["a"], ["c"]]);
}

#[tokio::test]
async fn lanes_do_not_wait_for_each_other() {
    let store = Told::new(0, Vec::new());
    let limits = AppenderLimits { lanes: 4, ..AppenderLimits::default() };
    let (appender, _handle, _outcomes) = start(&store, limits);
    for n in 0..100 {
        appender.submit(submission(&format!("t/{n}"), "a")).await.unwrap();
    }
    settle().await;
    assert_eq!(store.batches().len(), 4, "each lane is at its first batch");
}

#[tokio::test]
async fn a_panic_in_on_commit_is_told_and_nobody_waits_for_ever() {
    let store = Told::new(10, Vec::new());
    let limits = AppenderLimits { bytes_max: 1 + MESSAGE_OVERHEAD_BYTES, ..AppenderLimits::default() };
    let (appender, handle) =
        Appender::spawn(store, limits, |_: Vec<(Result<Appended, Failure>, String)>| async {
            panic!("told so");
        });
    submit(&appender, "a").await;
    assert!(appender.submit(submission("t", "b")).await.is_err());
    assert!(handle.await.unwrap_err().is_panic());
}
