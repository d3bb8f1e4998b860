//! Topics and messages over the admin API, by real HTTP on a real node: listed, searched, published, repeated, erased, purged, deleted, exported,
//! imported and followed; on SQLite and on Postgres.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bongsu_testkit::{Postgres, Redis};
use serde_json::{Value, json};
use support::http::{Answer, Exchange, get as get_raw};
use support::{Broker, PATIENCE};

const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

/// A node, with what it needs.
struct Node {
    broker: Broker,
    admin: SocketAddr,
    _data: tempfile::TempDir,
}

impl Node {
    fn start(settings: &[String]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let given = ["admin.listen=127.0.0.1:0"].into_iter().chain(settings.iter().map(String::as_str));
        let broker = Broker::start(data.path(), &given.collect::<Vec<_>>());
        let admin = broker.admin.expect("it says where");
        Self { broker, admin, _data: data }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        support::http::ask(self.admin, method, path, headers, body)
    }

    fn get(&self, path: &str) -> Value {
        let answer = get_raw(self.admin, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        value(&answer)
    }

    fn publish(&self, topic: &str, message: &Value) -> Value {
        let answer = self.ask("POST", &format!("/v1/topics/{topic}/messages"), &[JSON], &message.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        value(&answer)
    }

    fn fill(&self, topic: &str, n_messages: usize) {
        for number in 1..=n_messages {
            self.publish(topic, &json!({ "data": number }));
        }
    }

    /// The status and code of a request that is refused.
    fn refusal(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let headers: &[_] = if body.is_empty() { &[] } else { &[JSON] };
        let answer = self.ask(method, path, headers, body);
        (answer.status, value(&answer)["code"].as_str().expect("a code").to_owned())
    }

    /// The lines of an answer that streams them.
    fn lines(&self, method: &str, path: &str, body: &str) -> Vec<Value> {
        let mut exchange = Exchange::begin(self.admin, method, path, &[LINES], body);
        assert_eq!(exchange.status, 200, "{path}");
        let lines = std::iter::from_fn(|| exchange.line()).filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(&line).expect(&line)).collect()
    }

    fn export(&self, topic: &str) -> Vec<Value> {
        self.lines("GET", &format!("/v1/topics/{topic}/export"), "")
    }

    fn import(&self, topic: &str, lines: &str) -> Value {
        let progress = self.lines("POST", &format!("/v1/topics/{topic}/import"), lines);
        progress.last().expect("it says how it ended").clone()
    }
}

fn value(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn text_of(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The names of a page's topics.
fn names(list: &Value) -> Vec<&str> {
    list["topics"].as_array().expect("a list").iter().filter_map(|topic| topic["topic"].as_str()).collect()
}

fn payloads(list: &Value) -> Vec<Value> {
    list["messages"].as_array().expect("a list").iter().map(|message| message["data"].clone()).collect()
}

/// Runs each test on both stores.
macro_rules! on_both_stores {
    ($($test:ident)+) => {
        mod sqlite {
            $(#[test]
            fn $test() {
                super::$test(&super::Node::start(&[]));
            })+
        }
        mod postgres {
            $(#[test]
            fn $test() {
                let url = format!("postgres.url={}", bongsu_testkit::Postgres::shared().database());
                super::$test(&super::Node::start(&[url]));
            })+
        }
    };
}

on_both_stores! {
    topics_are_listed_with_what_is_kept_of_them
    messages_are_read_from_either_end_and_from_a_time
    messages_are_found_by_any_text_in_bounded_looks
    what_is_published_keeps_its_form_and_its_key
    what_is_refused_says_why
    a_message_is_published_once_more_with_where_it_is_from
    messages_are_erased_purged_and_deleted
    an_export_is_imported_and_importing_again_stores_nothing
    an_import_ends_at_the_first_line_that_is_wrong
    a_tail_brings_what_is_published
}

fn topics_are_listed_with_what_is_kept_of_them(node: &Node) {
    for topic in ["chat%2Froom%2F1", "chat%2Froom%2F2", "news", "chat%2Flobby"] {
        node.fill(topic, 2);
    }
    let list = node.get("/v1/topics?limit=3");
    assert_eq!(names(&list), ["chat/lobby", "chat/room/1", "chat/room/2"], "{list}");
    let next = list["next"].as_str().expect("there is more");
    let rest = node.get(&format!("/v1/topics?limit=3&after={next}"));
    assert_eq!((names(&rest), &rest["next"]), (vec!["news"], &Value::Null));
    let room = &list["topics"][1];
    assert_eq!(
        (&room["kind"], &room["messages"], &room["bytes"]),
        (&json!("durable"), &json!(2), &json!(34)),
        "{room}"
    );
    assert_eq!((&room["first"]["offset"], &room["head"]["offset"]), (&json!(1), &json!(2)));
    assert!(room["published_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{room}");
    assert_eq!(names(&node.get("/v1/topics?filter=chat/%2B/2")), ["chat/room/2"]);
    assert_eq!(names(&node.get("/v1/topics?prefix=chat/r")), ["chat/room/1", "chat/room/2"]);
    assert_eq!(names(&node.get("/v1/topics?prefix=nothing")), [""; 0]);
    assert_eq!(node.get("/v1/topics/chat%2Froom%2F2")["topic"], "chat/room/2");
    assert_eq!(node.refusal("GET", "/v1/topics/nobody", ""), (404, "not_found".to_owned()));
    assert_eq!(node.refusal("GET", "/v1/topics?filter=a%23", ""), (422, "invalid".to_owned()));
    assert_eq!(node.refusal("GET", "/v1/topics?after=%20", ""), (400, "bad_request".to_owned()));
}

fn messages_are_read_from_either_end_and_from_a_time(node: &Node) {
    node.fill("t", 5);
    let page = |query: &str| payloads(&node.get(&format!("/v1/topics/t/messages?{query}")));
    assert_eq!(page("limit=2"), [5, 4]);
    assert_eq!(page("from=latest&limit=2"), [5, 4]);
    assert_eq!(page("from=earliest&limit=2"), [1, 2]);
    assert_eq!(page("from=3"), [3, 4, 5]);
    assert_eq!(page("before=3"), [2, 1]);
    assert_eq!(page("before=99"), [5, 4, 3, 2, 1]);
    for start in ["from=earliest", "from=latest"] {
        let first = node.get(&format!("/v1/topics/t/messages?{start}&limit=3"));
        let next = first["next"].as_str().expect("there is more");
        let rest = node.get(&format!("/v1/topics/t/messages?after={next}"));
        let mut all = [payloads(&first), payloads(&rest)].concat();
        all.sort_by_key(Value::as_u64);
        assert_eq!(
            (all, &rest["next"]),
            (vec![json!(1), json!(2), json!(3), json!(4), json!(5)], &Value::Null)
        );
    }
    let third = node.get("/v1/topics/t/messages/3");
    assert_eq!(third["data"], 3);
    let since = third["time"].as_str().expect("a time");
    assert!(page(&format!("since={since}")).contains(&json!(5)));
    assert_eq!(page("since=2100-01-01T00:00:00Z"), [Value::Null; 0]);
    for query in ["from=earliest&before=2", "from=first", "since=yesterday", "limit=0", "what=1"] {
        let answer = node.ask("GET", &format!("/v1/topics/t/messages?{query}"), &[], "");
        assert!(matches!(answer.status, 400 | 422), "{query}");
    }
    assert_eq!(node.refusal("GET", "/v1/topics/t/messages/6", "").0, 404);
    assert_eq!(node.refusal("GET", "/v1/topics/t/messages/0", "").0, 404);
    assert_eq!(node.refusal("GET", "/v1/topics/none/messages", "").0, 404);
}

fn messages_are_found_by_any_text_in_bounded_looks(node: &Node) {
    node.fill("t", 30);
    node.publish("t", &json!({ "text": "the needle", "headers": { "colour": "blue" }, "id": "pin-1" }));
    for text in ["needle", "blue", "colour", "pin-", "text/plain"] {
        let list = node.get(&format!("/v1/topics/t/messages?search={text}&from=earliest"));
        assert_eq!(list["messages"].as_array().map(Vec::len), Some(1), "{text}: {list}");
        assert_eq!(list["messages"][0]["text"], "the needle");
        assert_eq!((&list["looked_at"], &list["next"]), (&json!(31), &Value::Null));
    }
    let list = node.get("/v1/topics/t/messages?search=haystack");
    assert_eq!((payloads(&list), &list["next"]), (Vec::new(), &Value::Null));
    let first = node.get("/v1/topics/t/messages?search=1&limit=2");
    assert_eq!(first["messages"].as_array().map(Vec::len), Some(2), "pin-1 and 21: {first}");
    assert_eq!(first["messages"][1]["data"], 21);
    let next = first["next"].as_str().expect("there is more");
    let rest = node.get(&format!("/v1/topics/t/messages?search=1&limit=100&after={next}"));
    assert_eq!(payloads(&rest), [19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 1]);
}

fn what_is_published_keeps_its_form_and_its_key(node: &Node) {
    for message in [
        json!({ "data": { "a": [1, null] }, "headers": { "h": "v" } }),
        json!({ "data": null }),
        json!({ "text": "hällo", "type": "text/markdown" }),
        json!({ "bytes": "/wA=", "type": "image/png" }),
    ] {
        let offset = node.publish("t", &message)["position"]["offset"].as_u64().expect("a place");
        let shown = node.get(&format!("/v1/topics/t/messages/{offset}"));
        for (name, part) in message.as_object().expect("an object") {
            assert_eq!(&shown[name], part, "{shown}");
        }
        assert_eq!((&shown["topic"], &shown["publisher"]), (&json!("t"), &json!("local")));
    }
    let publish = |key: &str, body: &str| {
        value(&node.ask("POST", "/v1/topics/t/messages", &[JSON, ("idempotency-key", key)], body))
    };
    let first = publish("order-7", r#"{"data":7}"#);
    assert_eq!(first["duplicate"], false);
    let again = publish("\"order-7\"", r#"{"data":7}"#);
    assert_eq!((&again["position"], &again["duplicate"]), (&first["position"], &json!(true)));
    assert_eq!(publish("order-8", r#"{"data":7,"id":"other"}"#)["code"], "invalid");
    assert_eq!(node.publish("t", &json!({ "data": 7, "id": "order-7" }))["duplicate"], true);
}

fn what_is_refused_says_why(node: &Node) {
    let large = json!({ "text": "x".repeat((1 << 20) + 1) }).to_string();
    assert_eq!(node.refusal("POST", "/v1/topics/t/messages", &large).0, 413);
    for body in [
        "{",
        r#"{"data":1,"text":"x"}"#,
        r#"{"dta":1}"#,
        r#"{"data":1,"topic":"other"}"#,
        r#"{"headers":{"":"x"}}"#,
    ] {
        let (status, _) = node.refusal("POST", "/v1/topics/t/messages", body);
        assert!(matches!(status, 400 | 422), "{body}: {status}");
    }
    assert_eq!(node.ask("POST", "/v1/topics/t/messages", &[], "{}").status, 415);
    for (method, path) in [
        ("POST", "messages"),
        ("DELETE", ""),
        ("POST", "purge"),
        ("DELETE", "messages/1"),
        ("POST", "import"),
    ] {
        let path = format!("/v1/topics/%24control/{path}");
        let answer = node.ask(method, path.trim_end_matches('/'), &[JSON], "{}");
        assert_eq!((answer.status, &value(&answer)["code"]), (409, &json!("conflict")), "{path}");
    }
    assert_eq!(node.refusal("DELETE", "/v1/topics/none", ""), (404, "not_found".to_owned()));
    assert_eq!(node.refusal("POST", "/v1/topics/none/purge", "{}"), (404, "not_found".to_owned()));
    assert_eq!(node.refusal("POST", "/v1/topics/a%2B/messages", "{}"), (422, "invalid".to_owned()));
}

fn a_message_is_published_once_more_with_where_it_is_from(node: &Node) {
    let message = json!({ "data": { "n": 1 }, "headers": { "h": "v" }, "id": "one" });
    let position = node.publish("t", &message)["position"].clone();
    let again = |body: &Value| {
        value(&node.ask("POST", "/v1/topics/t/messages/1/republish", &[JSON], &body.to_string()))
    };
    assert_eq!(
        again(&json!({}))["position"]["offset"],
        2,
        "the first message's id does not stand against it"
    );
    assert_eq!(again(&json!({ "to": "other/", "id": "x" }))["code"], "invalid");
    let to = json!({ "to": "other/place", "id": "two" });
    assert_eq!(again(&to)["duplicate"], false);
    assert_eq!(again(&to)["duplicate"], true);
    let shown = node.get("/v1/topics/other%2Fplace/messages/1");
    assert_eq!(
        (&shown["data"], &shown["id"], &shown["headers"]["h"]),
        (&json!({ "n": 1 }), &json!("two"), &json!("v"))
    );
    let from = format!("t {}:{}", position["epoch"], position["offset"]);
    assert_eq!(shown["headers"]["republished-from"], from);
    node.ask("DELETE", "/v1/topics/t/messages/1", &[], "");
    assert_eq!(again(&json!({}))["code"], "conflict", "it was erased");
}

fn messages_are_erased_purged_and_deleted(node: &Node) {
    node.fill("t", 5);
    let remove = |method: &str, path: &str, body: &str| {
        let answer = node.ask(method, path, if body.is_empty() { &[] } else { &[JSON] }, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        value(&answer)["messages"].clone()
    };
    assert_eq!(remove("DELETE", "/v1/topics/t/messages/2", ""), 1);
    assert_eq!(remove("DELETE", "/v1/topics/t/messages/2", ""), 0, "again");
    let erased = node.get("/v1/topics/t/messages/2");
    assert_eq!((&erased["erased"], erased.get("data")), (&json!(true), None), "{erased}");
    assert_eq!(remove("POST", "/v1/topics/t/purge", r#"{"until":3}"#), 3);
    assert_eq!(payloads(&node.get("/v1/topics/t/messages")), [5, 4]);
    let before = node.get("/v1/topics/t");
    assert_eq!((&before["first"]["offset"], &before["messages"]), (&json!(4), &json!(2)));
    assert_eq!(remove("POST", "/v1/topics/t/purge", "{}"), 2);
    assert_eq!(node.get("/v1/topics/t/messages")["messages"], json!([]));
    assert_eq!(remove("DELETE", "/v1/topics/t", ""), 0);
    assert_eq!(node.refusal("GET", "/v1/topics/t", "").0, 404);
    let anew = node.publish("t", &json!({ "data": 1 }))["position"].clone();
    assert_eq!(anew["offset"], 1);
    assert!(anew["epoch"].as_u64() > before["head"]["epoch"].as_u64(), "{anew}");
}

fn an_export_is_imported_and_importing_again_stores_nothing(node: &Node) {
    node.fill("from", 700);
    node.publish(
        "from",
        &json!({ "bytes": "/wA=", "type": "image/png", "headers": { "h": "v" }, "id": "own" }),
    );
    node.ask("DELETE", "/v1/topics/from/messages/700", &[], "");
    let exported = node.export("from");
    assert_eq!(exported.len(), 702);
    assert_eq!(exported[0]["delivery"]["data"], 1);
    let end = &exported[701]["exported"];
    assert_eq!((&end["messages"], &end["last"]["offset"]), (&json!(701), &json!(701)));
    let done = node.import("to", &text_of(&exported));
    assert_eq!(done, json!({ "lines": 702, "stored": 700, "duplicates": 0, "erased": 1, "done": true }));
    let again = node.import("to", &text_of(&exported[300..]));
    assert_eq!((&again["stored"], &again["duplicates"]), (&json!(0), &json!(400)));
    let last = node.get("/v1/topics/to/messages?limit=1")["messages"][0].clone();
    assert_eq!(
        (&last["bytes"], &last["type"], &last["headers"]["h"], &last["id"]),
        (&json!("/wA="), &json!("image/png"), &json!("v"), &json!("own"))
    );
    let part = node.lines("GET", "/v1/topics/from/export?from=699&until=700", "");
    assert_eq!(part.len(), 3, "{part:?}");
    assert_eq!((&part[0]["delivery"]["offset"], &part[1]["delivery"]["erased"]), (&json!(699), &json!(true)));
    let own = "{\"data\":1}\n{\"data\":1}\n\n{\"text\":\"x\"}";
    assert_eq!(node.import("own", own)["stored"], 3);
    assert_eq!(node.import("own", own)["duplicates"], 3, "lines without ids are known again");
    assert_eq!(node.refusal("GET", "/v1/topics/none/export", "").0, 404);
}

fn an_import_ends_at_the_first_line_that_is_wrong(node: &Node) {
    let good = (1..=600).map(|number| format!("{{\"data\":{number}}}\n")).collect::<String>();
    for (bad, word) in [("{\"data\":}", "no message"), ("{\"dta\":1}", "dta"), ("[]", "no message")] {
        let told = node.import("t", &format!("{good}{bad}\n{{\"data\":7}}\n"));
        assert_eq!(told["lines"], 600, "{told}");
        assert_eq!(told["failed"]["line"], 601);
        assert!(told["failed"]["detail"].as_str().is_some_and(|text| text.contains(word)), "{told}");
        assert_eq!(
            told["stored"].as_u64().zip(told["duplicates"].as_u64()).map(|(one, other)| one + other),
            Some(600)
        );
    }
    assert_eq!(node.get("/v1/topics/t")["messages"], 600, "what stands before is stored, once");
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(4 << 20));
    assert_eq!(node.import("t", &long)["failed"]["line"], 1);
    let large = format!("{{\"data\":0}}\n{{\"text\":\"{}\"}}", "x".repeat((1 << 20) + 1));
    assert_eq!(node.import("t", &large)["failed"]["line"], 2, "no message is larger than its topic's may be");
}

fn a_tail_brings_what_is_published(node: &Node) {
    node.fill("t", 3);
    let mut tail = Exchange::begin(node.admin, "GET", "/v1/topics/t/tail?from=2", &[], "");
    assert_eq!(tail.headers["content-type"], "text/event-stream");
    node.publish("t", &json!({ "data": 4 }));
    for number in 2..=4 {
        let event: Value = serde_json::from_str(&tail.line_after("data: ")).expect("JSON");
        assert_eq!(event["delivery"]["data"], number);
    }
    let began = std::time::Instant::now();
    while node.get("/v1/topics/t")["subscribers"] != 1 {
        assert!(began.elapsed() < PATIENCE, "who tails is a reader");
    }
    let mut live = Exchange::begin(node.admin, "GET", "/v1/topics/new/tail", &[], "");
    while node.ask("GET", "/v1/topics/new", &[], "").status != 200 {
        assert!(began.elapsed() < PATIENCE, "a topic that somebody reads is shown");
    }
    node.publish("new", &json!({ "data": "first" }));
    let event: Value = serde_json::from_str(&live.line_after("data: ")).expect("JSON");
    assert_eq!(event["delivery"]["data"], "first");
}

#[test]
fn an_export_that_nobody_takes_reads_no_further() {
    let node = Node::start(&[]);
    let lines: String = (0..40_000).map(|number| format!("{{\"text\":\"{number:01000}\"}}\n")).collect();
    assert_eq!(node.import("t", &lines)["stored"], 40_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let reads = || runtime.block_on(node.broker.counter("bongsu_store_reads_total"));
    let before = reads();
    let mut export = Exchange::begin(node.admin, "GET", "/v1/topics/t/export", &[], "");
    // Until the sockets are full: nothing more is read from then on.
    let mut last = (before, std::time::Instant::now());
    while last.1.elapsed() < Duration::from_millis(500) {
        let now = reads();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
    }
    let n_pages = 40_000 / 256;
    assert!(last.0 - before < n_pages / 2, "{} of {n_pages} pages were read for nobody", last.0 - before);
    let n_lines =
        std::iter::from_fn(|| export.line()).filter(|line| line.starts_with("{\"delivery\"")).count();
    assert_eq!(n_lines, 40_000, "and all of it comes when it is taken");
}

#[test]
fn readers_of_all_nodes_are_counted() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let start = |name: &str| {
        let settings = [
            format!("node.name={name}"),
            format!("redis.url={}", redis.url()),
            format!("postgres.url={}", postgres.url()),
            "cluster.listen=127.0.0.1:0".to_owned(),
        ];
        Node::start(&settings)
    };
    let (one, other) = (start("one"), start("other"));
    one.publish("a%2Fb", &json!({ "data": 1 }));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut clients = Vec::new();
    for (node, filter) in [(&one, "a/b"), (&other, "a/b"), (&other, "a/#"), (&other, "c")] {
        let mut client = runtime.block_on(node.broker.connect());
        runtime.block_on(client.subscribe(filter, json!("latest")));
        clients.push(client);
    }
    let began = std::time::Instant::now();
    loop {
        let list = one.get("/v1/topics?prefix=a");
        let single = one.get("/v1/topics/a%2Fb");
        if (&list["topics"][0]["subscribers"], &single["subscribers"], &list["missing"])
            == (&json!(3), &json!(3), &json!([]))
        {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{list}");
    }
}

/// What a command prints; it has to succeed.
fn command(node: &Node, arguments: &[&str], input: &str) -> String {
    let (text, is_success) = try_command(node, arguments, input);
    assert!(is_success, "{arguments:?}: {text}");
    text
}

fn try_command(node: &Node, arguments: &[&str], input: &str) -> (String, bool) {
    let mut child = process(node, arguments);
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (String::from_utf8(text).expect("text"), output.status.success())
}

fn process(node: &Node, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bongsu"));
    command.args(arguments).arg(format!("--admin-url=http://{}", node.admin));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

#[test]
fn commands_do_what_the_api_does() {
    let node = Node::start(&[]);
    let json = |arguments: &[&str], input: &str| -> Value {
        let text = command(&node, &[arguments, &["--output=json"]].concat(), input);
        serde_json::from_str(&text).expect("JSON")
    };
    let publish = ["messages", "publish", "a/b", r#"{"n": 1}"#, "--header=h=v", "--id=one"];
    assert_eq!(json(&publish, "")["position"]["offset"], 1);
    assert_eq!(json(&publish, "")["duplicate"], true);
    command(&node, &["messages", "publish", "a/b", "--type=text/x"], "from a pipe");
    assert_eq!(json(&["messages", "show", "a/b", "2"], "")["text"], "from a pipe");
    assert_eq!(node.get("/v1/topics/a%2Fb/messages/1")["data"], json!({ "n": 1 }));
    let table = command(&node, &["messages", "list", "a/b"], "");
    let lines: Vec<_> = table.lines().collect();
    assert!(
        lines[0].starts_with("OFFSET  TIME")
            && lines[1].ends_with("from a pipe")
            && lines[2].ends_with(r#"{"n": 1}"#),
        "{table}"
    );
    let found = json(&["messages", "search", "a/b", "pipe"], "");
    assert_eq!(found["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(json(&["messages", "republish", "a/b", "1", "--to=c"], "")["position"]["offset"], 1);
    let topics = command(&node, &["topics", "list", "--prefix=a"], "");
    assert!(topics.lines().nth(1).is_some_and(|line| line.starts_with("a/b    durable  2")), "{topics}");
    assert_eq!(json(&["topics", "show", "c"], "")["messages"], 1);
    let exported = command(&node, &["topics", "export", "a/b"], "");
    assert_eq!(exported.lines().count(), 3, "{exported}");
    assert_eq!(json(&["topics", "import", "d"], &exported)["stored"], 2);
    assert_eq!(json(&["topics", "import", "d"], &exported)["duplicates"], 2);
    let (problem, is_success) = try_command(&node, &["topics", "import", "d"], "{\"data\":1}\nno\n");
    assert!(!is_success && problem.contains("line 2: it is no message"), "{problem}");
    assert_eq!(json(&["messages", "erase", "a/b", "1"], "")["messages"], 1);
    assert_eq!(json(&["topics", "purge", "a/b", "--until=1"], "")["messages"], 1);
    assert_eq!(json(&["topics", "delete", "a/b"], "")["messages"], 1);
    let (problem, is_success) = try_command(&node, &["topics", "show", "a/b"], "");
    assert!(!is_success && problem.contains("404") && problem.contains("a/b has no log"), "{problem}");
    let mut tail = process(&node, &["messages", "tail", "c", "--from=1"]);
    let mut lines = BufReader::new(tail.stdout.take().expect("it is piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), r#"1  {"n": 1}"#);
    tail.kill().expect("it runs");
    tail.wait().expect("it ends");
}
