//! Plain HTTP: streams, events and publishing, against a broker that runs as a process.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::Broker;
use support::http::{Answer, Exchange, ask, get, publish, text};

#[test]
fn events_go_on_after_a_kill_where_they_were() {
    let data = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::start(data.path(), &[]);
    let address = broker.address;
    for single in [true, false] {
        let path = if single { "/v1/events?topic=e/1" } else { "/v1/events?topic=e/%23&topic=other" };
        let shown = |line: &str| -> Value {
            let event: Value = serde_json::from_str(line).expect("JSON");
            if single { event } else { event["delivery"]["data"].clone() }
        };
        let mut events = Exchange::begin(broker.address, "GET", path, &[("accept", "text/event-stream")], "");
        assert_eq!(events.status, 200);
        assert_eq!(events.headers["content-type"], "text/event-stream");
        let mut bookmark = events.line_after("id: ");
        publish(broker.address, "e/1", &json!(1));
        publish(broker.address, "e/1", &json!(2));
        for expected in [1, 2] {
            bookmark = events.line_after("id: ");
            assert_eq!(shown(&events.line_after("data: ")), json!(expected));
        }
        broker.kill();
        drop(events);
        broker = Broker::start_on(&address.to_string(), data.path(), &[]);
        publish(broker.address, "e/1", &json!(3));
        let mut events = Exchange::begin(broker.address, "GET", path, &[("last-event-id", &bookmark)], "");
        assert_eq!(shown(&events.line_after("data: ")), json!(3), "{bookmark}");
        publish(broker.address, "e/1", &json!(4));
        assert_eq!(shown(&events.line_after("data: ")), json!(4));
    }
}

#[test]
fn lines_of_json_are_the_native_protocols_own() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    publish(broker.address, "n/1", &json!({ "a": [1, "two\n"] }));
    let accept = [("accept", "application/x-ndjson")];
    let mut lines =
        Exchange::begin(broker.address, "GET", "/v1/events?topic=n/%2B&from=earliest", &accept, "");
    let line: Value = serde_json::from_str(&lines.line().expect("a line")).expect("JSON");
    assert_eq!(line["delivery"]["topic"], "n/1");
    assert_eq!(line["delivery"]["offset"], 1);
    assert_eq!(line["delivery"]["data"], json!({ "a": [1, "two\n"] }));
}

#[test]
fn newest_messages_of_each_topic_come_first_where_they_are_asked_for() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    for n in 1..=5 {
        publish(broker.address, "l/1", &json!(n));
        publish(broker.address, "l/2", &json!(10 * n));
    }
    let accept = [("accept", "application/x-ndjson")];
    for (path, expected) in
        [("/v1/events?topic=l/1&from=last:2", [4, 5, 6]), ("/v1/events?topic=l/%2B&from=last:1", [50, 6, 7])]
    {
        let mut events = Exchange::begin(broker.address, "GET", path, &accept, "");
        let mut shown = || {
            let line: Value = serde_json::from_str(&events.line().expect("a line")).expect("JSON");
            line["delivery"]["data"].as_i64().expect("a number")
        };
        let mut newest = [shown(), shown()];
        publish(broker.address, "l/1", &json!(expected[2]));
        // In any order, where they are of two topics.
        newest.sort_by_key(|number| number.to_string());
        assert_eq!([newest[0], newest[1], shown()], expected, "{path}");
    }
}

#[test]
fn bookmark_that_says_nothing_here_is_told_as_a_gap() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let path = "/v1/events?topic=g/1&topic=g/2&from=1:5";
    let mut events = Exchange::begin(broker.address, "GET", path, &[], "");
    assert_eq!(events.headers["x-resume"], "lost");
    assert_eq!(events.line_after("event: "), "gap");
}

#[test]
fn streams_keep_what_they_know_over_a_kill() {
    let data = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    assert_eq!(text(at, "PUT", "/v1/stream/k/1", &[("stream-ttl", "3600")], "a").status, 201);
    let producer = |seq| [("producer-id", "p"), ("producer-epoch", "3"), ("producer-seq", seq)];
    assert_eq!(text(at, "POST", "/v1/stream/k/1", &producer("0"), "b").status, 200);
    assert_eq!(text(at, "PUT", "/v1/stream/k/2", &[("stream-closed", "true")], "all").status, 201);
    broker.kill();
    broker = Broker::start_on(&at.to_string(), data.path(), &[]);
    let at = broker.address;
    let again = text(at, "POST", "/v1/stream/k/1", &producer("0"), "b");
    assert_eq!((again.status, again.header("producer-seq")), (204, "0"), "known from before");
    assert_eq!(text(at, "POST", "/v1/stream/k/1", &producer("2"), "d").header("producer-expected-seq"), "1");
    assert_eq!(text(at, "POST", "/v1/stream/k/1", &producer("1"), "c").status, 200);
    assert_eq!(get(at, "/v1/stream/k/1").body, "abc");
    let head = ask(at, "HEAD", "/v1/stream/k/1", &[], "");
    assert_eq!((head.header("stream-ttl"), head.header("content-type")), ("3600", "text/plain"));
    let closed = get(at, "/v1/stream/k/2");
    assert_eq!((closed.body.as_str(), closed.header("stream-closed")), ("all", "true"));
    assert_eq!(text(at, "POST", "/v1/stream/k/2", &[], "more").status, 409);
}

#[test]
fn topic_that_nobody_created_is_a_stream_of_json_at_the_same_offsets() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let at = broker.address;
    let position = publish(at, "u/1", &json!({ "n": 1 }))["results"][0]["published"]["position"].clone();
    let answer = get(at, "/v1/stream/u/1");
    assert_eq!((answer.body.as_str(), answer.header("content-type")), ("[{\"n\":1}]", "application/json"));
    let offset = format!("{:016}_{:016}", position["epoch"].as_u64().unwrap(), 1);
    assert_eq!(answer.header("stream-next-offset"), offset);
    let json = [("content-type", "application/json")];
    assert_eq!(ask(at, "POST", "/v1/stream/u/1", &json, "[2,[3]]").status, 204);
    assert_eq!(get(at, &format!("/v1/stream/u/1?offset={offset}")).body, "[2,[3]]");
    assert_eq!(ask(at, "DELETE", "/v1/stream/u/1", &[], "").status, 405);
    assert_eq!(get(at, "/v1/stream/u/2").status, 404);
}

#[test]
fn polls_are_woken_by_a_publish_and_answered_from_memory_when_nothing_is_new() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &["http.long_poll_timeout=60s"]);
    let at = broker.address;
    publish(at, "p/1", &json!(1));
    let caught_up = get(at, "/v1/stream/p/1");
    let offset = caught_up.header("stream-next-offset").to_owned();
    let path = format!("/v1/stream/p/1?offset={offset}");
    let reads = get(at, "/metrics")
        .body
        .lines()
        .find(|line| line.starts_with("bongsu_store_reads"))
        .map(str::to_owned);
    let nothing = get(at, &path);
    assert_eq!((nothing.body.as_str(), nothing.header("stream-up-to-date")), ("[]", "true"));
    let known = ask(at, "GET", &path, &[("if-none-match", nothing.header("etag"))], "");
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    let reads_after = get(at, "/metrics")
        .body
        .lines()
        .find(|line| line.starts_with("bongsu_store_reads"))
        .map(str::to_owned);
    assert_eq!(reads, reads_after, "the store was not asked");
    let polls: Vec<_> = (0..4)
        .map(|_| {
            let path = format!("{path}&live=long-poll");
            std::thread::spawn(move || get(at, &path))
        })
        .collect();
    publish(at, "p/1", &json!(2));
    for poll in polls {
        let answer = poll.join().expect("it ends");
        assert_eq!((answer.status, answer.body.as_str()), (200, "[2]"));
        assert!(!answer.header("stream-cursor").is_empty());
    }
}

#[test]
fn requests_that_make_no_sense_get_the_protocols_own_error() {
    let data = tempfile::tempdir().expect("a folder");
    let settings = ["topics=[{filter=\"live/#\",kind=\"live\"}]"];
    let broker = Broker::start(data.path(), &settings);
    let at = broker.address;
    assert_eq!(text(at, "PUT", "/v1/stream/s", &[], "a").status, 201);
    let deep = "[".repeat(100_000);
    for (method, path, headers, body, status) in [
        ("GET", "/v1/stream/", &[][..], "", 404),
        ("GET", "/v1/stream/a%2Fb", &[], "", 400),
        ("GET", "/v1/stream/%ff", &[], "", 400),
        ("GET", "/v1/stream/a/%23", &[], "", 400),
        ("GET", "/v1/stream/$sys/x", &[], "", 403),
        ("GET", "/v1/stream/none", &[], "", 404),
        ("GET", "/v1/stream/live/x", &[], "", 404),
        ("GET", "/v1/stream/s?offset=x", &[], "", 400),
        ("GET", "/v1/stream/s?offset=7_7", &[], "", 410),
        ("GET", "/v1/stream/s?offset=-1&offset=-1", &[], "", 400),
        ("GET", "/v1/stream/s?live=sse", &[], "", 400),
        ("GET", "/v1/stream/s?live=never&offset=-1", &[], "", 400),
        ("GET", "/v1/stream/s?live=long-poll&offset=-1&timeout=-1", &[], "", 400),
        ("PATCH", "/v1/stream/s", &[], "", 405),
        ("POST", "/v1/stream/s", &[], "x", 400),
        ("POST", "/v1/stream/s", &[("content-type", "text/plain")], "", 400),
        ("POST", "/v1/stream/s", &[("content-type", "application/json")], "1", 409),
        ("POST", "/v1/stream/s", &[("content-type", "text/plain"), ("producer-id", "p")], "x", 400),
        ("PUT", "/v1/stream/t", &[("stream-ttl", "01")], "", 400),
        ("PUT", "/v1/stream/t", &[("stream-expires-at", "soon")], "", 400),
        ("PUT", "/v1/stream/t", &[("stream-forked-from", "/elsewhere")], "", 404),
        ("PUT", "/v1/stream/t", &[("stream-fork-offset", "1_1")], "", 400),
        ("PUT", "/v1/stream/j", &[("content-type", "application/json")], deep.as_str(), 400),
        ("PUT", "/v1/stream/j", &[("content-type", "application/json")], "{", 400),
        ("PUT", "/v1/stream/s", &[("content-type", "application/json")], "", 409),
        ("GET", "/v1/events", &[], "", 400),
        ("GET", "/v1/events?topic=a/%23/b", &[], "", 400),
        ("GET", "/v1/events?topic=%24sys/x", &[], "", 403),
        ("GET", "/v1/events?topic=a", &[("accept", "image/png")], "", 406),
        ("PUT", "/v1/events?topic=a", &[], "", 405),
        ("POST", "/v1/events?topic=a", &[], "", 400),
        ("POST", "/v1/events", &[], "{}", 400),
        ("POST", "/v1/events", &[], "{\"positions\":{\"a/#\":\"1:1\"}}", 400),
        ("POST", "/v1/events", &[], "{\"positions\":{\"a\":\"earliest\"}}", 400),
        ("GET", "/v1/events?topic=a&max_age=0", &[], "", 400),
        ("GET", "/v1/poll", &[], "", 405),
        ("POST", "/v1/poll", &[], "{\"topics\":{}}", 400),
        ("POST", "/v1/poll", &[], "{\"topics\":{\"a\":\"soon\"}}", 400),
        ("POST", "/v1/poll", &[], "{\"topics\":{\"a/#\":\"now\"}}", 400),
        ("POST", "/v1/poll", &[], "{\"topics\":{\"$sys/x\":\"now\"}}", 403),
        ("POST", "/v1/poll", &[], "{\"topics\":{\"live/x\":\"now\"}}", 404),
        ("POST", "/v1/publish", &[], "", 400),
        ("POST", "/v1/publish", &[], "[]", 400),
        ("POST", "/v1/publish", &[], "{\"messages\":[]}", 400),
        ("POST", "/v1/publish", &[], "{\"topic\":\"a\"},{\"topic\":\"b\"}", 400),
        ("POST", "/v1/publish", &[], deep.as_str(), 400),
        ("POST", "/v1/publish", &[("idempotency-key", "")], "{\"topic\":\"a\",\"data\":1}", 400),
        ("GET", "/v1/publish", &[], "", 405),
        ("GET", "/v1/stream/s", &[("authorization", "Basic x")], "", 400),
        ("GET", "/v1/stream/s", &[("authorization", "Bearer unknown")], "", 401),
        ("GET", "/v1/stream/s", &[("origin", "https://elsewhere.example")], "", 403),
    ] {
        let answer = ask(at, method, path, headers, body);
        assert_eq!(answer.status, status, "{method} {path} {headers:?}: {answer:?}");
        if path != "/v1/stream/" {
            let problem: Value = serde_json::from_str(&answer.body).expect("a problem is JSON");
            assert_eq!(problem["status"], status, "{method} {path}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        }
    }
    assert_eq!(get(at, "/v1/stream/s").body, "a", "none of it did anything");
}

#[test]
fn host_that_a_stranger_pointed_here_reads_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    publish(broker.address, "h/1", &json!(1));
    let request = "GET /v1/stream/h/1 HTTP/1.1\r\nhost: stranger.example\r\nconnection: close\r\n\r\n";
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answer = runtime.block_on(support::exchange(broker.address, request.as_bytes()));
    assert!(answer.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn idempotency_key_publishes_once() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let key = [("idempotency-key", "\"order-7\"")];
    let publish = || ask(broker.address, "POST", "/v1/publish", &key, "{\"topic\":\"i/1\",\"data\":1}");
    let results =
        |answer: &Answer| serde_json::from_str::<Value>(&answer.body).expect("JSON")["results"][0].clone();
    let (first, second) = (publish(), publish());
    assert_eq!(results(&first)["published"]["position"], results(&second)["published"]["position"]);
    assert_eq!(results(&second)["published"]["duplicate"], true);
    assert_eq!(get(broker.address, "/v1/stream/i/1").body, "[1]");
}

#[test]
fn node_that_goes_away_ends_polls_and_events_in_their_own_words() {
    let data = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::start(data.path(), &["drain.spread=0s", "http.long_poll_timeout=10m"]);
    let at = broker.address;
    publish(at, "d/1", &json!(1));
    // First, so that it is parked by the time that the others, which came later, were answered.
    let mut poll = TcpStream::connect(at).expect("a connection");
    let request = format!("GET /v1/stream/d/1?offset=now&live=long-poll HTTP/1.1\r\nhost: {at}\r\n\r\n");
    poll.write_all(request.as_bytes()).expect("it reads");
    let mut events = Exchange::begin(at, "GET", "/v1/events?topic=d/1", &[], "");
    events.line_after("id: ");
    let mut source = Exchange::begin(at, "GET", "/v1/stream/d/1?offset=now&live=sse", &[], "");
    source.line_after("event: control");
    let ended = std::thread::spawn(move || {
        let mut answer = String::new();
        poll.read_to_string(&mut answer).expect("text");
        answer
    });
    assert!(broker.terminate().success());
    assert_eq!(events.line_after("event: "), "goodbye");
    while let Some(line) = source.line() {
        assert!(!line.starts_with("event: data"), "nothing was written: {line}");
    }
    let answer = ended.join().expect("it ends");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 204"), "{answer}");
}
