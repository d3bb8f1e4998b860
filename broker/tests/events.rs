//! What a back end learns of sessions by reading `$sys/…` (SP-2), on one node.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "support/sessions.rs"]
mod sessions;
mod support;

use serde_json::json;

use sessions::{OPEN, Told};
use support::{Broker, Client};

#[tokio::test]
async fn back_end_reads_what_happens_to_sessions_in_order() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), OPEN);
    let mut told = Told::of(&broker).await;
    let mut ada = broker.connect().await;
    ada.subscribe("chat/1", json!("latest")).await;
    ada.ask("unsubscribe", json!({ "filters": ["chat/1"] })).await;
    let session = told.newest("unsubscribed").await["session"].as_str().unwrap().to_owned();
    drop(ada);
    told.until_ended(std::slice::from_ref(&session)).await;
    let events = told.of_session(&session);
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["connected", "subscribed", "unsubscribed", "disconnected"]);
    for (event, seq) in events.iter().zip(1..) {
        assert_eq!(event["seq"], json!(seq), "{event}");
        assert_eq!(event["node"], json!("n"), "{event}");
        assert_eq!(event["subject"], json!(""), "{event}");
        assert_eq!(event["transport"], "websocket-json");
        assert!(event["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{event}");
    }
    assert_eq!(events[1]["topics"], json!(["chat/1"]));
    assert_eq!(events[3]["reason"], "normal");
}

#[tokio::test]
async fn wildcards_do_not_reach_what_is_told_and_nobody_else_tells() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), OPEN);
    let mut told = Told::of(&broker).await;
    let mut all = broker.connect().await;
    all.subscribe("#", json!("earliest")).await;
    all.subscribe("+/sessions/+", json!("earliest")).await;
    let reply = all
        .ask("publish", json!({ "messages": [{ "topic": "$sys/sessions/n", "data": { "event": "lost" } }] }))
        .await;
    assert_eq!(reply["error"]["code"], "bad_request", "{reply}");
    told.newest("subscribed").await;
    all.publish("last", json!(1)).await;
    // What was told before has not come.
    assert_eq!(all.delivery().await["topic"], "last");
    assert!(told.events.iter().all(|event| event["event"] != "lost"));
}

#[tokio::test]
async fn reading_what_is_told_takes_a_grant() {
    let data = tempfile::tempdir().unwrap();
    // On loopback without `auth` everybody may read `#`, which is not that.
    let broker = Broker::start(data.path(), &["node.name=n"]);
    let mut client = broker.connect().await;
    for filter in ["$sys/sessions/+", "$sys/sessions/n", "$sys/#", "$events/n"] {
        let result = client.subscribe(filter, json!("earliest")).await;
        assert_eq!(result["error"]["code"], "forbidden", "{filter}: {result}");
    }
    let history = client.ask("history", json!({ "topic": "$sys/sessions/n" })).await;
    assert_eq!(history["error"]["code"], "forbidden", "{history}");
}

#[tokio::test]
async fn a_node_s_own_topic_is_read_from_its_beginning_like_any_other() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), OPEN);
    let mut told = Told::of(&broker).await;
    drop(broker.connect().await);
    let session = told.newest("disconnected").await["session"].clone();
    let mut reader = broker.connect().await;
    let subscribed = reader.subscribe("$sys/sessions/n", json!("earliest")).await;
    assert!(subscribed["subscribed"]["positions"].is_array(), "{subscribed}");
    let delivery = reader.delivery().await;
    assert_eq!((&delivery["offset"], &delivery["data"]["event"]), (&json!(1), &json!("connected")));
    let id = delivery["id"].as_str().unwrap();
    assert_eq!(id, format!("{}/connected", delivery["data"]["session"].as_str().unwrap()));
    assert!(session.is_string());
}

#[tokio::test]
async fn event_sources_are_sessions_too() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), OPEN);
    let mut told = Told::of(&broker).await;
    let mut stream = tokio::net::TcpStream::connect(broker.address).await.unwrap();
    let request = format!("GET /v1/events?topic=chat/%23 HTTP/1.1\r\nhost: {}\r\n\r\n", broker.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
    loop {
        let subscribed = told.newest("subscribed").await;
        if subscribed["transport"] == "event-stream" {
            assert_eq!(subscribed["topics"], json!(["chat/#"]));
            assert!(subscribed["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{subscribed}");
            drop(stream);
            told.until_ended(&[subscribed["session"].as_str().unwrap().to_owned()]).await;
            return;
        }
        told.next().await;
    }
}

#[tokio::test]
async fn sessions_of_a_lone_node_are_told_to_have_ended_after_kill_9() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), OPEN);
    let mut told = Told::of(&broker).await;
    let clients = connect_many(&broker, 20).await;
    told.until_begun(21).await;
    // One of them ends in time.
    let mut clients = clients.into_iter();
    drop(clients.next());
    told.newest("disconnected").await;
    let open = told.open();
    assert_eq!(open.len(), 20);
    broker.kill();
    drop(clients);
    for _ in 0..2 {
        let mut again = Broker::start(data.path(), OPEN);
        let mut later = Told::of(&again).await;
        later.until_ended(&open).await;
        later.check();
        let ended: Vec<_> = open.iter().map(|session| later.end_of(session)).collect();
        assert!(ended.iter().all(|end| end["reason"] == "node_lost"), "{ended:?}");
        assert!(ended.iter().all(|end| end["peer"].is_string()), "{ended:?}");
        // A third process finds nothing left to tell of those.
        again.kill();
    }
}

#[tokio::test]
async fn drained_node_leaves_no_session_open() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), &[OPEN, &["drain.spread=0s"]].concat());
    let mut told = Told::of(&broker).await;
    let clients = connect_many(&broker, 5).await;
    told.until_begun(6).await;
    let open = told.open();
    assert!(broker.terminate().success());
    drop(clients);
    let again = Broker::start(data.path(), OPEN);
    let mut later = Told::of(&again).await;
    later.until_ended(&open).await;
    later.check();
    for session in &open {
        assert_eq!(later.end_of(session)["reason"], "going_away");
    }
}

#[tokio::test]
async fn only_connections_are_told_where_nobody_wants_more() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[OPEN, &["events.sessions=connections"]].concat());
    let mut told = Told::of(&broker).await;
    let mut ada = broker.connect().await;
    ada.subscribe("chat/1", json!("latest")).await;
    drop(ada);
    told.newest("disconnected").await;
    told.check();
    assert!(told.events.iter().all(|event| event["event"] != "subscribed"), "{:?}", told.events);
}

async fn connect_many(broker: &Broker, n_clients: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..n_clients {
        clients.push(broker.connect().await);
    }
    clients
}
