//! How a node tells operators and probes how it is.

mod support;

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bongsu::config::Settings;
use bongsu::node::Node;
use bongsu_persistence::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Store,
};
use bongsu_protocol::command::{HistoryQuery, HistoryRange};
use bongsu_protocol::event::Page;
use bongsu_protocol::topic::Topic;
use bongsu_testkit::{Postgres, Redis};
use futures_util::future::{BoxFuture, pending, ready};
use serde_json::{Value, json};
use support::{Broker, Client, PATIENCE, get};

const ADMIN: &str = "admin.listen=127.0.0.1:0";

fn bongsu_health(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bongsu"));
    command.arg("health").args(arguments).output().expect("it runs")
}

fn report(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrators_port_tells_how_the_node_is_and_takes_no_clients() {
    let data = tempfile::tempdir().unwrap();
    // What is told of sessions is stored as well.
    let broker = Broker::start(data.path(), &[ADMIN, "node.name=here", "events.sessions=off"]);
    let admin = broker.admin.expect("it says where");
    assert!(get(admin, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(get(admin, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let ready = get(admin, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    assert_eq!(report(&ready)["node"], json!("here"));
    let mut client = broker.connect().await;
    client.publish("a", json!(1)).await;
    let metrics = get(admin, "/metrics").await;
    for line in [
        "\nbongsu_connections 1\n",
        "\nbongsu_sessions{transport=\"websocket-json\"} 1\n",
        "\nbongsu_sessions{transport=\"websocket-binary\"} 0\n",
        "\nbongsu_messages_stored_total 1\n",
        "\nbongsu_bus_live 1\n",
        "\nbongsu_draining 0\n",
    ] {
        assert!(metrics.contains(line), "no {line:?} in {metrics}");
    }
    for path in ["/v1/ws", "/v1/publish", "/sockjs/info"] {
        assert!(get(admin, path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert!(Client::connect(admin).await.is_err(), "it took a client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_room_for_clients_still_tells_how_it_is() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[ADMIN, "limits.connections=1"]);
    let admin = broker.admin.expect("it says where");
    let _client = broker.connect().await;
    assert!(broker.get("/readyz").await.starts_with("HTTP/1.1 503 "), "it has no room");
    assert!(get(admin, "/readyz").await.starts_with("HTTP/1.1 200 "));
    assert!(get(admin, "/metrics").await.contains("\nbongsu_connections_max 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_is_alive_and_not_ready() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[ADMIN, "drain.spread=30s"]);
    let admin = broker.admin.expect("it says where");
    let _client = broker.connect().await;
    let done = Command::new("kill").arg(broker.pid().to_string()).status().expect("kill runs");
    assert!(done.success());
    let begun = Instant::now();
    let ready = loop {
        let ready = get(admin, "/readyz").await;
        if ready.starts_with("HTTP/1.1 503 ") {
            break ready;
        }
        assert!(begun.elapsed() < PATIENCE, "{ready}");
    };
    let expected = json!({ "draining": true, "ready": false, "status": "unavailable" });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&report(&ready)[key], value, "{ready}");
    }
    assert!(get(admin, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(get(admin, "/metrics").await.contains("\nbongsu_draining 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_command_ends_with_0_for_a_node_that_is_well_and_with_1_for_any_other() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), &[ADMIN]);
    let admin = broker.admin.expect("it says where");
    let setting = format!("admin.listen={admin}");
    let ready = bongsu_health(&["--set", &setting]);
    assert!(ready.status.success(), "{ready:?}");
    let text = String::from_utf8(ready.stdout).expect("text");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON")["ready"], json!(true));
    let alive = bongsu_health(&["--live", "--set", &setting]);
    assert_eq!((alive.status.code(), alive.stdout.as_slice()), (Some(0), b"alive\n".as_slice()));
    let by_url = bongsu_health(&["--url", &format!("http://{}/readyz", broker.address)]);
    assert!(by_url.status.success(), "{by_url:?}");
    let wrong = bongsu_health(&["--url", &format!("http://{admin}/nothing")]);
    assert_eq!(wrong.status.code(), Some(1));
    broker.kill();
    let gone = bongsu_health(&["--set", &setting]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("cannot connect"), "{gone:?}");
}

/// A store that never answers, but for its list of logs where it is told to.
#[derive(Default)]
struct Stuck {
    lists: bool,
    n_asked: AtomicUsize,
}

impl Store for Stuck {
    fn append(&self, _: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        Box::pin(pending())
    }
    fn read(&self, _: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        Box::pin(pending())
    }
    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        // The broker's own documents are looked for whatever somebody asks.
        let is_own = query.filter.is_some_and(|filter| filter.as_str().starts_with("$register/"));
        self.n_asked.fetch_add(usize::from(!is_own), Ordering::Relaxed);
        if self.lists {
            Box::pin(ready(Ok(Listing { logs: Vec::new(), next: None })))
        } else {
            Box::pin(pending())
        }
    }
    fn changes(&self, _: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        Box::pin(pending())
    }
    fn remove(&self, _: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        Box::pin(pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_noticed_and_the_node_is_alive_all_the_same() {
    let store = Arc::new(Stuck::default());
    let node = Node::start(Settings::default(), Arc::<Stuck>::clone(&store), None);
    let (first, second) = tokio::join!(node.store_health(), node.store_health());
    assert_eq!(first, Err("it did not answer within 5s".to_owned()));
    assert_eq!(second, first);
    assert_eq!(store.n_asked.load(Ordering::Relaxed), 1, "who asks at the same time gets the same answer");
    assert!(node.is_alive().await);
}

#[tokio::test(start_paused = true)]
async fn readers_that_wait_for_a_slow_store_do_not_make_it_look_dead() {
    let store = Arc::new(Stuck { lists: true, ..Stuck::default() });
    let mut settings = Settings::default();
    settings.limits.history_reads = 1;
    let node = Node::start(settings, store, None);
    let topic = Topic::parse("a").expect("a topic");
    let query = HistoryQuery { topic, range: HistoryRange::Backward(None), limit: 1 };
    let mut read = Box::pin(node.history().page(query));
    assert!(futures_util::FutureExt::now_or_never(&mut read).is_none(), "it has the only place");
    assert_eq!(node.store_health().await, Ok(()));
}

/// Waits until a node says this of itself, and gives out its answer.
async fn wait_until(admin: std::net::SocketAddr, status: &str) -> String {
    let begun = Instant::now();
    loop {
        let answer = get(admin, "/readyz").await;
        if report(&answer)["status"] == json!(status) {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "not {status}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_told_until_it_is_back_and_only_the_store_makes_a_node_unready() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let data = tempfile::tempdir().unwrap();
    let settings = [format!("redis.url={}", redis.url()), format!("postgres.url={}", postgres.url())];
    let broker = Broker::start(data.path(), &[ADMIN, &settings[0], &settings[1]]);
    let admin = broker.admin.expect("it says where");
    wait_until(admin, "ok").await;

    redis.kill();
    let degraded = wait_until(admin, "degraded").await;
    assert!(degraded.starts_with("HTTP/1.1 200 "), "{degraded}");
    assert!(report(&degraded)["bus"]["reason"].is_string(), "{degraded}");
    assert!(get(admin, "/metrics").await.contains("\nbongsu_bus_live 0\n"));
    let mut client = broker.connect().await;
    assert_eq!(client.publish("a", json!(1)).await["offset"], json!(1), "publishing goes on");
    redis.start_again();
    wait_until(admin, "ok").await;

    postgres.stop();
    let unavailable = wait_until(admin, "unavailable").await;
    assert!(unavailable.starts_with("HTTP/1.1 503 "), "{unavailable}");
    assert!(report(&unavailable)["store"]["reason"].is_string(), "{unavailable}");
    assert!(get(admin, "/livez").await.starts_with("HTTP/1.1 200 "), "nobody restarts it for that");
    postgres.start_again();
    wait_until(admin, "ok").await;
    assert_eq!(client.publish("a", json!(2)).await["offset"], json!(2));
}
