//! Several topics in one request, and how event streams begin, resume and end: the contracts LP-5, SSE-4, SSE-5, SSE-7 and SSE-9.

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::Broker;
use support::http::{Exchange, ask, get, publish, text};

const SSE: (&str, &str) = ("accept", "text/event-stream");
const LINES: (&str, &str) = ("accept", "application/x-ndjson");

fn poll(at: SocketAddr, body: &Value) -> Value {
    let answer = ask(at, "POST", "/v1/poll", &[], &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// Topic and data of each message of an answer.
fn messages(answer: &Value) -> Vec<Value> {
    let events = answer["events"].as_array().expect("events");
    events.iter().map(|event| json!([event["delivery"]["topic"], event["delivery"]["data"]])).collect()
}

fn metric(at: SocketAddr, name: &str) -> String {
    let metrics = get(at, "/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
}

/// The last id before the event with this data.
fn id_of(events: &mut Exchange, data: &str) -> String {
    let mut id = String::new();
    loop {
        let line = events.line().expect("an event with the data");
        match line.split_once(": ") {
            Some(("id", text)) => text.clone_into(&mut id),
            Some(("data", text)) if text == data => return id,
            _ => {}
        }
    }
}

fn position(published: &Value) -> String {
    let position = &published["results"][0]["published"]["position"];
    format!("{}:{}", position["epoch"], position["offset"])
}

#[test]
fn lp_5_one_poll_brings_what_is_new_on_several_topics() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &["http.long_poll_timeout=10m"]);
    let at = broker.address;
    publish(at, "a", &json!(1));
    let last = position(&publish(at, "a", &json!(2)));
    publish(at, "b", &json!("x"));
    let first = poll(at, &json!({ "topics": { "a": "earliest", "b": "now", "c": "earliest" } }));
    assert_eq!(messages(&first), [json!(["a", 1]), json!(["a", 2])]);
    assert_eq!((&first["positions"]["a"], &first["more"]), (&json!(last), &json!(false)));

    let reads = metric(at, "bongsu_store_reads_total");
    let asked = json!({ "topics": first["positions"] });
    let plain = ask(at, "POST", "/v1/poll", &[], &asked.to_string());
    assert_eq!(plain.header("x-poll-interval"), "5");
    let nothing: Value = serde_json::from_str(&plain.body).expect("JSON");
    assert_eq!((messages(&nothing), &nothing["positions"]), (Vec::new(), &first["positions"]));
    assert_eq!(metric(at, "bongsu_store_reads_total"), reads, "the store was not asked");

    let waiting = json!({ "topics": nothing["positions"], "wait_ms": 600_000 });
    let waiting = std::thread::spawn(move || poll(at, &waiting));
    while metric(at, "bongsu_polls_begun_total") == "0" {}
    publish(at, "c", &json!("first"));
    let woken = waiting.join().expect("it ends");
    assert_eq!(messages(&woken), [json!(["c", "first"])]);
    assert_eq!(woken["positions"]["a"], first["positions"]["a"]);
}

#[test]
fn lp_5_a_poll_is_bounded_and_says_that_there_is_more() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    let large = "x".repeat(60_000);
    for _ in 0..20 {
        publish(at, "large", &json!(large));
    }
    publish(at, "tail", &json!("end"));
    let mut asked = json!({ "large": "earliest", "tail": "earliest" });
    let (mut n_answers, mut got) = (0, Vec::new());
    loop {
        let answer = poll(at, &json!({ "topics": asked }));
        n_answers += 1;
        got.extend(messages(&answer));
        asked = answer["positions"].clone();
        if answer["more"] == json!(false) {
            break;
        }
    }
    assert!(n_answers > 1, "one answer had everything");
    assert_eq!(got.len(), 21);
    assert_eq!(got[20], json!(["tail", "end"]));
}

#[test]
fn lp_5_a_position_of_an_earlier_log_is_told_as_a_reset() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    publish(broker.address, "r", &json!(1));
    let answer = poll(broker.address, &json!({ "topics": { "r": "7:7" } }));
    assert_eq!(answer["events"][0]["reset"]["topic"], "r", "{answer}");
    assert_eq!(answer["events"][1]["delivery"]["data"], 1);
}

#[test]
fn sse_9_a_body_names_topics_and_where_each_goes_on() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    let first = position(&publish(at, "m/1", &json!(1)));
    publish(at, "m/1", &json!(2));
    publish(at, "m/2", &json!("old"));
    let body = json!({ "topics": ["m/2", "m/+/x"], "positions": { "m/1": first } }).to_string();
    for method in ["POST", "QUERY"] {
        let mut lines = Exchange::begin(at, method, "/v1/events", &[LINES], &body);
        assert_eq!(lines.status, 200);
        let line: Value = serde_json::from_str(&lines.line().expect("a line")).expect("JSON");
        assert_eq!((&line["delivery"]["topic"], &line["delivery"]["data"]), (&json!("m/1"), &json!(2)));
        publish(at, "m/2", &json!("new"));
        let line: Value = serde_json::from_str(&lines.line().expect("a line")).expect("JSON");
        assert_eq!(line["delivery"]["data"], "new");
    }
    // One topic is read from its position as if its bookmark had come.
    let single = json!({ "positions": { "m/1": first } }).to_string();
    let mut events = Exchange::begin(at, "POST", "/v1/events", &[SSE], &single);
    assert_eq!((events.headers["x-resume"].as_str(), &events.headers["x-start"]), ("full", &first));
    assert_eq!(events.line_after("data: "), "2");
}

#[test]
fn sse_4_the_answer_says_whether_all_that_was_missed_is_there() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    let last = position(&publish(at, "s", &json!(1)));
    for (from, resume) in [(last.as_str(), "full"), ("7:1", "lost"), ("nonsense", "lost")] {
        let events = Exchange::begin(at, "GET", "/v1/events?topic=s", &[SSE, ("last-event-id", from)], "");
        assert_eq!(events.headers["x-resume"], resume, "{from}");
    }
    let events = Exchange::begin(at, "GET", "/v1/events?topic=s", &[SSE], "");
    assert!(!events.headers.contains_key("x-resume"), "it missed nothing");
}

#[test]
fn sse_7_a_stream_ends_at_the_age_that_was_asked_for() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    let mut events = Exchange::begin(at, "GET", "/v1/events?topic=age&max_age=1", &[SSE], "");
    assert_eq!(metric(at, "bongsu_sessions{transport=\"event-stream\"}"), "1");
    let mut lines: Vec<String> =
        std::iter::from_fn(|| events.line()).filter(|line| !line.is_empty()).collect();
    assert!(lines.pop().expect("a last line").starts_with("retry: "));
    assert!(!lines.iter().any(|line| line.starts_with("event: ")), "no goodbye: {lines:?}");
    while metric(at, "bongsu_sessions{transport=\"event-stream\"}") != "0" {}
}

#[test]
fn sse_5_whoever_has_all_of_a_closed_stream_is_told_to_stop() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    assert_eq!(text(at, "PUT", "/v1/stream/over", &[], "a").status, 201);
    let mut events = Exchange::begin(at, "GET", "/v1/events?topic=over&from=earliest", &[SSE], "");
    let first = id_of(&mut events, "a");
    assert_eq!(text(at, "POST", "/v1/stream/over", &[("stream-closed", "true")], "z").status, 204);
    let last = id_of(&mut events, "z");
    while events.line().is_some() {}
    let again = |id: &str| ask(at, "GET", "/v1/events?topic=over", &[SSE, ("last-event-id", id)], "");
    assert_eq!(again(&last).status, 204);
    let rest = again(&first);
    assert_eq!(rest.status, 200);
    assert!(rest.body.contains("data: z\n"), "{rest:?}");
}

#[test]
fn lp_6_an_append_with_an_idempotency_key_is_made_once() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    publish(at, "k", &json!(0));
    let headers = [("content-type", "application/json"), ("idempotency-key", "order-7")];
    for _ in 0..2 {
        assert_eq!(ask(at, "POST", "/v1/stream/k", &headers, "[1,2]").status, 204);
    }
    assert_eq!(get(at, "/v1/stream/k").body, "[0,1,2]");
}
