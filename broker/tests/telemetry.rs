//! What a collector gets: a real OTLP/HTTP receiver stands in its place.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bongsu::bus::LocalNetwork;
use bongsu::config::{self, Settings, SettingsArgs};
use bongsu::listener::Listener;
use bongsu::node::Node;
use bongsu::telemetry::{MeasuredStore, Telemetry};
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::Store;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use support::{Broker, Client, PATIENCE};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What came.
#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    /// The newest of each name.
    metrics: Vec<Metric>,
    /// Attributes of whoever sent it last.
    resource: Vec<KeyValue>,
    /// So many requests with spans are answered with 503 before one is taken.
    n_to_refuse: usize,
    n_refused: usize,
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Received>>);

impl Collector {
    /// Listens on a free port.
    async fn start(n_to_refuse: usize) -> (Self, SocketAddr) {
        let collector = Self::default();
        collector.0.lock().expect("no test panics with it").n_to_refuse = n_to_refuse;
        let routes = axum::Router::new()
            .route("/v1/traces", post(take_spans))
            .route("/v1/metrics", post(take_metrics))
            .with_state(collector.clone());
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = tcp.local_addr().expect("its address");
        tokio::spawn(async move { axum::serve(tcp, routes).await });
        (collector, address)
    }

    /// Waits until something has come.
    async fn wait<T>(&self, what: &str, find: impl Fn(&Received) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = find(&self.0.lock().expect("no test panics with it")) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} did not come");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Waits for the spans of these names, in this order.
    async fn spans<const N: usize>(&self, names: [&str; N]) -> [Span; N] {
        let find = |received: &Received| {
            let spans = names.map(|name| received.spans.iter().find(|span| span.name == name).cloned());
            spans.iter().all(Option::is_some).then(|| spans.map(|span| span.expect("all are there")))
        };
        self.wait("a span", find).await
    }
}

async fn take_spans(
    State(Collector(received)): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("spans");
    let mut received = received.lock().expect("no test panics with it");
    if received.n_refused < received.n_to_refuse {
        received.n_refused += 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    for spans in request.resource_spans {
        received.resource = spans.resource.expect("a resource").attributes;
        received.spans.extend(spans.scope_spans.into_iter().flat_map(|spans| spans.spans));
    }
    StatusCode::OK
}

async fn take_metrics(State(Collector(received)): State<Collector>, body: Bytes) -> StatusCode {
    let request = ExportMetricsServiceRequest::decode(body).expect("metrics");
    let mut received = received.lock().expect("no test panics with it");
    let scopes = request.resource_metrics.into_iter().flat_map(|metrics| metrics.scope_metrics);
    received.metrics = scopes.flat_map(|metrics| metrics.metrics).collect();
    StatusCode::OK
}

fn start(collector: SocketAddr, settings: &[&str]) -> (tempfile::TempDir, Broker) {
    let data = tempfile::tempdir().expect("a folder");
    let endpoint = format!("telemetry.otlp_endpoint=http://{collector}/");
    let all = [&[endpoint.as_str(), "telemetry.interval=1s", "node.name=here"], settings].concat();
    let broker = Broker::start(data.path(), &all);
    (data, broker)
}

fn message(headers: &Value) -> Value {
    json!({ "messages": [{ "topic": "orders/1", "data": 1, "headers": headers }] })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == key).expect("an attribute");
    match found.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_is_one_trace_from_its_publisher_to_its_readers() {
    let (collector, address) = Collector::start(0).await;
    let (_data, broker) = start(address, &[]);
    let mut client = broker.connect().await;
    client.subscribe("orders/#", json!("latest")).await;
    let headers = json!({ "traceparent": format!("00-{TRACE}-{PARENT}-01"), "tracestate": "shop=7" });
    client.ask("publish", message(&headers)).await;
    let delivery = client.delivery().await;

    let [publish, append, deliver] = collector.spans(["publish", "store append", "deliver"]).await;
    for span in [&publish, &append, &deliver] {
        assert_eq!(hex(&span.trace_id), TRACE, "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.start_time_unix_nano >= publish.start_time_unix_nano, "{span:?}");
        assert_eq!(span.status, None);
    }
    assert_eq!(hex(&publish.parent_span_id), PARENT);
    assert_eq!(publish.trace_state, "shop=7");
    assert_eq!(attribute(&publish.attributes, "messaging.destination.name"), "orders/1");
    assert_eq!(append.parent_span_id, publish.span_id);
    assert_eq!(deliver.parent_span_id, publish.span_id);
    assert!(append.end_time_unix_nano <= deliver.start_time_unix_nano, "it is kept before it is delivered");
    // Readers continue the trace from the publish.
    let expected = format!("00-{TRACE}-{}-01", hex(&publish.span_id));
    assert_eq!(delivery["headers"]["traceparent"], json!(expected));
    assert_eq!(delivery["headers"]["tracestate"], json!("shop=7"));
    let received = collector.0.lock().unwrap();
    assert_eq!(attribute(&received.resource, "service.name"), "bongsu");
    assert_eq!(attribute(&received.resource, "service.instance.id"), "here");
}

/// A node of this process and where it listens.
fn serve_in(network: &LocalNetwork, store: &Arc<dyn Store>, settings: &Settings) -> (Arc<Node>, SocketAddr) {
    let (bus, inbox) = network.join();
    let node = Node::start(settings.clone(), Arc::clone(store), Some((Arc::new(bus), inbox)));
    let listener = Listener::bind(&node).expect("a free port");
    let url = listener.url().expect("its address");
    let address = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    tokio::spawn(listener.serve(Arc::clone(&node)));
    (node, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_follows_a_message_over_the_bus_to_another_node() {
    let (collector, address) = Collector::start(0).await;
    let endpoint = format!("telemetry.otlp_endpoint=http://{address}");
    let set = [&*endpoint, "telemetry.interval=1s", "listen=127.0.0.1:0", "events.sessions=off"];
    let set = set.map(str::to_owned).to_vec();
    let loaded = config::load_with(&SettingsArgs { set, ..SettingsArgs::default() }, []).expect("they hold");
    let telemetry = Telemetry::start(&loaded.settings, || {}).expect("there is a collector");
    let store: Arc<dyn Store> = Arc::new(MeasuredStore::new(Arc::new(MemoryStore::default())));
    let network = LocalNetwork::default();
    let (_here, here) = serve_in(&network, &store, &loaded.settings);
    let (_there, there) = serve_in(&network, &store, &loaded.settings);
    let mut reader = Client::connect(there).await.expect("it takes connections");
    reader.subscribe("orders/1", json!("latest")).await;
    let mut publisher = Client::connect(here).await.expect("it takes connections");
    let traced = json!({ "traceparent": format!("00-{TRACE}-{PARENT}-01") });
    publisher.ask("publish", message(&traced)).await;
    reader.delivery().await;
    telemetry.flush().await;

    let stages = ["store append", "bus publish", "bus receive"];
    let spans = collector.spans(["publish", stages[0], stages[1], stages[2]]).await;
    for span in &spans[1..] {
        assert_eq!(hex(&span.trace_id), TRACE, "{span:?}");
        assert_eq!(span.parent_span_id, spans[0].span_id, "{span:?}");
    }
    let received = collector.0.lock().unwrap();
    let delivers = received.spans.iter().filter(|span| span.name == "deliver");
    assert_eq!(
        delivers.filter(|span| span.parent_span_id == spans[0].span_id).count(),
        2,
        "once on each node"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn traced_messages_of_one_batch_are_linked() {
    let (collector, address) = Collector::start(0).await;
    let (_data, broker) = start(address, &[]);
    let mut client = broker.connect().await;
    let one = |n: usize| {
        let traceparent = format!("00-{n:032x}-{PARENT}-01");
        json!({ "topic": "orders/1", "data": n, "headers": { "traceparent": traceparent } })
    };
    let messages: Vec<Value> = (1..=50).map(one).collect();
    client.ask("publish", json!({ "messages": messages })).await;
    let find = |received: &Received| {
        let appends = received.spans.iter().filter(|span| span.name == "store append");
        let appends: Vec<Span> = appends.cloned().collect();
        (appends.len() == 50).then_some(appends)
    };
    let appends = collector.wait("a span for each message", find).await;
    let linked: Vec<_> = appends.iter().filter(|span| !span.links.is_empty()).collect();
    // The first message goes alone if it is faster than the second; the others wait for it and go together.
    assert!(linked.len() >= 48, "{} of 50", linked.len());
    for span in linked {
        assert!(span.links.len() <= 16);
        assert!(span.links.iter().all(|link| link.trace_id != span.trace_id), "{span:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_nobody_samples_are_left_as_they_are() {
    let (collector, address) = Collector::start(0).await;
    let (_data, mut broker) = start(address, &[]);
    let mut client = broker.connect().await;
    client.subscribe("orders/#", json!("latest")).await;
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    for headers in [json!({}), json!({ "traceparent": unsampled }), json!({ "traceparent": "nonsense" })] {
        client.ask("publish", message(&headers)).await;
        let delivery = client.delivery().await;
        let expected = headers.as_object().filter(|headers| !headers.is_empty()).map(|_| &headers);
        assert_eq!(delivery.get("headers"), expected, "{delivery}");
    }
    drop(client);
    assert!(broker.terminate().success());
    assert_eq!(collector.0.lock().unwrap().spans, [], "everything was sent before the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_messages_begins_a_trace_that_readers_see() {
    let (collector, address) = Collector::start(0).await;
    let (_data, broker) =
        start(address, &["telemetry.traces_ratio=1", "topics=[{filter=\"orders/#\",kind=\"live\"}]"]);
    let mut client = broker.connect().await;
    client.subscribe("orders/#", json!("latest")).await;
    client.ask("publish", message(&json!({}))).await;
    let delivery = client.delivery().await;
    let [publish, deliver] = collector.spans(["publish", "deliver"]).await;
    assert!(publish.parent_span_id.is_empty(), "it is the first of its trace: {publish:?}");
    assert_eq!((&deliver.trace_id, &deliver.parent_span_id), (&publish.trace_id, &publish.span_id));
    let carried = delivery["headers"]["traceparent"].as_str().expect("a context");
    let expected = format!("00-{}-{}-", hex(&publish.trace_id), hex(&publish.span_id));
    assert!(carried.starts_with(&expected), "{carried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_what_slash_metrics_shows() {
    let (collector, address) = Collector::start(0).await;
    // What is told of sessions would be stored, too.
    let (_data, broker) = start(address, &["events.sessions=off"]);
    let mut client = broker.connect().await;
    client.publish("orders/1", json!(1)).await;
    let metric = |name: &'static str| {
        move |received: &Received| received.metrics.iter().find(|metric| metric.name == name)?.data.clone()
    };
    let stored = |received: &Received| match metric("bongsu_messages_stored_total")(received)? {
        metric::Data::Sum(sum) if sum.is_monotonic => {
            (sum.data_points[0].value == Some(number_data_point::Value::AsInt(1))).then_some(())
        }
        other => panic!("a counter is {other:?}"),
    };
    collector.wait("the stored message", stored).await;
    let received = collector.0.lock().unwrap();
    let Some(metric::Data::Histogram(appends)) = metric("bongsu_store_append_seconds")(&received) else {
        panic!("no histogram");
    };
    let point = &appends.data_points[0];
    assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (1, 1));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!(point.sum.is_some_and(|sum| sum > 0.0 && sum < PATIENCE.as_secs_f64()));
    let Some(metric::Data::Gauge(connections)) = metric("bongsu_connections")(&received) else {
        panic!("no gauge");
    };
    assert_eq!(connections.data_points[0].value, Some(number_data_point::Value::AsInt(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_outlast_a_collector_that_is_away_and_the_last_are_sent_at_the_end() {
    let (collector, address) = Collector::start(1).await;
    let (_data, mut broker) = start(address, &["telemetry.interval=1s"]);
    let mut client = broker.connect().await;
    let traced = json!({ "traceparent": format!("00-{TRACE}-{PARENT}-01") });
    client.ask("publish", message(&traced)).await;
    let first = collector.spans(["publish"]).await;
    assert_eq!(collector.0.lock().unwrap().n_refused, 1, "it was refused once and sent again");
    assert_eq!(broker.counted("bongsu_telemetry_failures_total ", 1).await, 1);
    client.ask("publish", message(&traced)).await;
    drop(client);
    assert!(broker.terminate().success());
    let received = collector.0.lock().unwrap();
    let publishes = received.spans.iter().filter(|span| span.name == "publish");
    assert_eq!(publishes.filter(|span| span.span_id != first[0].span_id).count(), 1, "the last came too");
}
