use std::time::Duration;

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{Append, Appended, ListQuery, Listing, Removal, Removed};
use bongsu_protocol::message::{Message, NewMessage, Time};
use tokio::sync::Notify;

use super::*;

/// A store whose first answer to a read arrives late.
struct Late {
    store: MemoryStore,
    /// The first read was made.
    read: Notify,
    /// Its answer may arrive.
    arrive: Notify,
    n_reads: Mutex<usize>,
}

impl Store for Late {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, store::Error>> {
        self.store.append(batch)
    }
    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, store::Error>> {
        let read = async move {
            let page = self.store.read(query).await;
            let is_first = {
                let mut n_reads = self.n_reads.lock().unwrap();
                *n_reads += 1;
                *n_reads == 1
            };
            if is_first {
                self.read.notify_one();
                self.arrive.notified().await;
            }
            page
        };
        read.boxed()
    }
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, store::Error>> {
        self.store.list(query)
    }
    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, store::Error>> {
        self.store.changes(since)
    }
    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, store::Error>> {
        self.store.remove(removal)
    }
}

/// Where a reader begins that asks for `from`, when the first message of the log is committed while its question is under way.
async fn start_of(from: Start) -> Position {
    let store = Arc::new(Late {
        store: MemoryStore::default(),
        read: Notify::new(),
        arrive: Notify::new(),
        n_reads: Mutex::new(0),
    });
    let history = History::new(Arc::<Late>::clone(&store), Arc::new(Heard::everything()), 1 << 20, 8);
    let topic = Topic::parse("a").unwrap();
    let query = HistoryQuery { topic: topic.clone(), range: HistoryRange::Forward(from), limit: 10 };
    let asking = Arc::clone(&history);
    let page = tokio::spawn(async move { asking.catch_up(query).await });
    store.read.notified().await;
    let message = Message::new(b"first".to_vec());
    let append = Append {
        message: NewMessage { topic: topic.clone(), message, expect: None },
        publisher: String::new(),
        time: Time(1000),
        idempotency_window: Duration::ZERO,
    };
    let Appended::Stored(delivery) = store.append(vec![append]).await.unwrap().remove(0) else {
        panic!("it was not stored");
    };
    history.remember(&[Shared::new(delivery)]);
    store.arrive.notify_one();
    let page = page.await.unwrap().unwrap();
    // As a session does it.
    let end = if from == Start::Latest { page.head } else { page.end };
    page.items.first().map_or(end, |(position, ..)| position.previous())
}

#[tokio::test]
async fn a_message_that_overtakes_the_question_for_the_beginning_is_read() {
    for from in [Start::Earliest, Start::Last(1), Start::Time(Time(1))] {
        assert_eq!(start_of(from).await.offset.0, 0, "{from:?}");
    }
    // Whoever wants what comes next may or may not have it.
    assert_eq!(start_of(Start::Latest).await.offset.0, 1);
}
