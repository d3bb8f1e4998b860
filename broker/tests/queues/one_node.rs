//! Queues on a node that is alone.

use std::sync::Arc;

use bongsu::config::{Settings, SettingsArgs, load_with};
use bongsu::node::Node;
use bongsu::queues::STATE_PREFIX;
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::{Removal, Store, TopicsQuery};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::position::Offset;
use bongsu_protocol::stomp::Frame;
use bongsu_protocol::topic::{Topic, TopicFilter};

use crate::worker::{PATIENCE, Worker, publish, text};

fn node_on(store: &Arc<dyn Store>) -> Arc<Node> {
    let mut settings = Settings::default();
    settings.queues.tries_max = 3;
    Node::start(settings, Arc::clone(store), None)
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn log(store: &Arc<dyn Store>, topic: &str) -> Vec<Arc<bongsu_protocol::message::Delivery>> {
    let range = HistoryRange::Forward(Start::Earliest);
    let query = HistoryQuery { topic: Topic::parse(topic).unwrap(), range, limit: 1000 };
    store.read(query).await.unwrap().messages
}

fn texts(messages: &[Frame]) -> Vec<String> {
    messages.iter().map(text).collect()
}

// ST-24, ST-26
#[tokio::test]
async fn each_message_goes_to_one_consumer_and_none_is_left() {
    let node = node_on(&memory());
    let (mut one, mut two) = (Worker::of(&node), Worker::of(&node));
    publish(&node, "queue/jobs", "0").await;
    one.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:2").await;
    two.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:2").await;
    for n in 1..20 {
        publish(&node, "queue/jobs", &n.to_string()).await;
    }
    let mut seen = Vec::new();
    for _ in 0..10 {
        for worker in [&mut one, &mut two] {
            let message = worker.message().await;
            assert_eq!(message.header("redelivered"), Some("false"));
            assert_eq!(message.header("destination"), Some("/queue/jobs"));
            seen.push(text(&message).parse::<u32>().unwrap());
            worker.settle("ACK", &message).await;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

// ST-27
#[tokio::test]
async fn what_was_settled_does_not_come_again_after_a_restart_and_the_rest_does() {
    let store = memory();
    let node = node_on(&store);
    let mut worker = Worker::of(&node);
    worker.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:10").await;
    for n in 0..6 {
        publish(&node, "queue/jobs", &n.to_string()).await;
    }
    for n in 0..6 {
        let message = worker.message().await;
        if n % 2 == 0 {
            worker.settle("ACK", &message).await;
        }
    }
    // Another life of the node, which knows the store only; the first one is not asked for anything any more.
    let heir = node_on(&store);
    let mut worker = Worker::of(&heir);
    worker.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:10").await;
    for n in [1, 3, 5] {
        let message = worker.message().await;
        assert_eq!((text(&message), message.header("redelivered")), (n.to_string(), Some("true")));
        worker.settle("ACK", &message).await;
    }
    publish(&heir, "queue/jobs", "last").await;
    assert_eq!(text(&worker.message().await), "last");
}

// ST-25, ST-27
#[tokio::test]
async fn what_a_consumer_leaves_goes_to_another_one() {
    let node = node_on(&memory());
    let (mut one, mut two, mut three) = (Worker::of(&node), Worker::of(&node), Worker::of(&node));
    one.consume("q", "/queue/jobs", "\nack:client\nprefetch-count:2").await;
    two.consume("q", "/queue/jobs", "\nack:client\nprefetch-count:1").await;
    for n in 0..3 {
        publish(&node, "queue/jobs", &n.to_string()).await;
    }
    let taken = [one.message().await, two.message().await, one.message().await];
    assert_eq!(taken.len(), 3);
    three.consume("q", "/queue/jobs", "\nack:client\nprefetch-count:9").await;
    one.ask("UNSUBSCRIBE\nid:q").await;
    let mut seen = vec![three.message().await, three.message().await];
    two.vanish();
    seen.push(three.message().await);
    let mut texts = texts(&seen);
    texts.sort();
    assert_eq!(texts, ["0", "1", "2"]);
    assert!(seen.iter().all(|message| message.header("redelivered") == Some("true")));
    let last = seen.pop().unwrap();
    three.settle("ACK", &last).await;
}

// ST-27
#[tokio::test]
async fn what_nobody_can_do_goes_to_the_dead_letter_topic_and_says_why() {
    let store = memory();
    let node = node_on(&store);
    let mut worker = Worker::of(&node);
    worker.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:1").await;
    publish(&node, "queue/jobs", "poison").await;
    publish(&node, "queue/jobs", "unwanted").await;
    publish(&node, "queue/jobs", "good").await;
    for n in 0..3 {
        let message = worker.message().await;
        assert_eq!(
            (text(&message), message.header("redelivered")),
            ("poison".to_owned(), Some(if n == 0 { "false" } else { "true" }))
        );
        worker.settle("NACK", &message).await;
    }
    let message = worker.message().await;
    assert_eq!(text(&message), "unwanted");
    let id = message.header("ack").unwrap().to_owned();
    worker.ask(&format!("NACK\nid:{id}\nrequeue:false")).await;
    assert_eq!(text(&worker.message().await), "good");
    until("two dead letters", async || log(&store, "dead/queue/jobs").await.len() == 2).await;
    let dead = log(&store, "dead/queue/jobs").await;
    let header = |n: usize, name: &str| {
        let headers = &dead[n].message.headers;
        headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!(&dead[0].message.payload[..], b"poison");
    assert_eq!(header(0, "x-death-reason"), "delivery_limit");
    assert_eq!(header(0, "x-death-count"), "3");
    assert_eq!(header(0, "x-death-topic"), "queue/jobs");
    assert_eq!(header(1, "x-death-reason"), "rejected");
    assert_eq!(header(1, "x-death-offset"), "2");
    // What dies there is dropped, so that the topic can be worked off.
    let mut undertaker = Worker::of(&node);
    let headers = "\nack:client-individual\ndurable:true\noffset:first\nprefetch-count:1";
    undertaker.consume("d", "/topic/dead/queue/jobs", headers).await;
    for wanted in ["poison", "unwanted"] {
        let message = undertaker.message().await;
        assert_eq!(text(&message), wanted);
        let id = message.header("ack").unwrap().to_owned();
        undertaker.ask(&format!("NACK\nid:{id}\nrequeue:false")).await;
    }
    undertaker.vanish();
    worker.vanish();
    until("both queues have ended", async || node.queues().count() == 0).await;
    let query = TopicsQuery { filter: TopicFilter::parse("dead/#").unwrap(), after: None, limit: 9 };
    assert_eq!(store.topics(query).await.unwrap().len(), 1);
}

// ST-24
#[tokio::test]
async fn a_durable_subscription_keeps_its_place_until_it_is_forgotten() {
    let store = memory();
    let node = node_on(&store);
    publish(&node, "news", "before").await;
    let durable = "\nack:client-individual\ndurable:true";
    let mut reader = Worker::of(&node);
    reader.consume("mine", "/topic/news", durable).await;
    publish(&node, "news", "1").await;
    let message = reader.message().await;
    assert_eq!(text(&message), "1", "it begins with what comes next");
    reader.settle("ACK", &message).await;
    reader.vanish();
    publish(&node, "news", "2").await;
    let mut reader = Worker::of(&node);
    reader.consume("mine", "/topic/news", durable).await;
    let message = reader.message().await;
    assert_eq!((text(&message), message.header("redelivered")), ("2".to_owned(), Some("false")));
    reader.ask("UNSUBSCRIBE\nid:mine\ndurable:true").await;
    let query = || TopicsQuery { filter: TopicFilter::parse("$queues/#").unwrap(), after: None, limit: 9 };
    until("the queue is forgotten", async || store.topics(query()).await.unwrap().is_empty()).await;
    publish(&node, "news", "3").await;
    let mut reader = Worker::of(&node);
    reader.consume("mine", "/topic/news", durable).await;
    publish(&node, "news", "4").await;
    assert_eq!(text(&reader.message().await), "4");
}

// ST-28
#[tokio::test]
async fn a_transaction_publishes_and_settles_or_does_neither() {
    let store = memory();
    let node = node_on(&store);
    let mut worker = Worker::of(&node);
    worker.consume("q", "/queue/in", "\nack:client-individual").await;
    publish(&node, "queue/in", "job").await;
    let message = worker.message().await;
    let id = message.header("ack").unwrap().to_owned();
    worker.say("BEGIN\ntransaction:t\n\n^");
    worker.say(&format!("ACK\nid:{id}\ntransaction:t\n\n^"));
    worker.say("SEND\ndestination:/queue/out\ntransaction:t\n\nresult^");
    worker.say("SEND\ndestination:/topic/log\ntransaction:t\n\ndone^");
    assert!(log(&store, "queue/out").await.is_empty());
    worker.ask("COMMIT\ntransaction:t").await;
    assert_eq!((log(&store, "queue/out").await.len(), log(&store, "log").await.len()), (1, 1));
    let heir = node_on(&store);
    let mut other = Worker::of(&heir);
    other.consume("q", "/queue/in", "\nack:client-individual").await;
    publish(&heir, "queue/in", "next").await;
    assert_eq!(text(&other.message().await), "next", "what was settled is");
}

// ST-24
#[tokio::test]
async fn messages_with_the_mode_auto_are_settled_by_being_sent() {
    let store = memory();
    let node = node_on(&store);
    let mut worker = Worker::of(&node);
    worker.consume("q", "/queue/jobs", "\nprefetch-count:3").await;
    for n in 0..50 {
        publish(&node, "queue/jobs", &n.to_string()).await;
    }
    for n in 0..50 {
        assert_eq!(text(&worker.message().await), n.to_string());
    }
    worker.ask("UNSUBSCRIBE\nid:q").await;
    until("the queue has ended", async || node.queues().count() == 0).await;
    let mut other = Worker::of(&node);
    other.consume("q", "/queue/jobs", "").await;
    publish(&node, "queue/jobs", "last").await;
    assert_eq!(text(&other.message().await), "last");
}

#[tokio::test]
async fn what_was_purged_before_it_was_settled_is_passed_over() {
    let store = memory();
    let node = node_on(&store);
    let mut worker = Worker::of(&node);
    worker.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:1").await;
    for n in 1..=9 {
        publish(&node, "queue/jobs", &n.to_string()).await;
    }
    let first = worker.message().await;
    let topic = Topic::parse("queue/jobs").unwrap();
    let removal = Removal::Purge { topic: topic.clone(), until: Offset(7) };
    node.history().remove(&topic, removal).await.unwrap();
    worker.settle("ACK", &first).await;
    assert_eq!(text(&worker.message().await), "8");
}

#[tokio::test]
async fn a_quiet_queue_appends_nothing_and_a_busy_one_keeps_few_states() {
    let store = memory();
    let node = node_on(&store);
    let mut worker = Worker::of(&node);
    worker.consume("q", "/queue/jobs", "\nack:client-individual\nprefetch-count:1").await;
    for n in 0..200 {
        publish(&node, "queue/jobs", &n.to_string()).await;
        let message = worker.message().await;
        worker.settle("ACK", &message).await;
    }
    let state_log = format!("{STATE_PREFIX}shared/queue/jobs");
    until("old states are gone", async || log(&store, &state_log).await.len() <= 128).await;
    let head = async || log(&store, &state_log).await.last().unwrap().position;
    let before = head().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(head().await, before);
}

#[tokio::test]
async fn a_topic_without_history_has_no_queue() {
    let set = vec!["topics=[{filter=\"queue/live\",kind=\"live\"}]".to_owned()];
    let settings = load_with(&SettingsArgs { set, ..SettingsArgs::default() }, []).unwrap().settings;
    let node = Node::start(settings, memory(), None);
    let mut worker = Worker::of(&node);
    worker.say("SUBSCRIBE\nid:q\ndestination:/queue/live\n\n^");
    let error = worker.error().await;
    assert!(text(&error).contains("keeps no history"), "{error:?}");
}
