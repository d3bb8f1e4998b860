//! What clients should not send, and what they get for it: a reason, while others do not notice.
#![expect(clippy::unwrap_used, reason = "a test fails where one does")]

mod support;

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use support::raw::{End, PING, Raw, TEXT, frame, handshake, header};
use support::{Broker, Client, exchange};

/// What bad input may cost in resident memory, in KiB: generous, and far below what the tests send.
const GROWTH_KIB_MAX: u64 = 48 << 10;

/// The header line of a client that speaks protobuf.
const BINARY: &str = "sec-websocket-protocol: bongsu.v1.proto\r\n";

/// Two clients that do everything right, on a broker of their own.
struct Chat {
    broker: Broker,
    _data: tempfile::TempDir,
    writer: Client,
    reader: Client,
    n_messages: u64,
    before_kib: u64,
}

impl Chat {
    async fn start(settings: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let broker = Broker::start(data.path(), settings);
        let (writer, mut reader) = (broker.connect().await, broker.connect().await);
        reader.subscribe("chat", json!("latest")).await;
        let mut chat = Self { broker, _data: data, writer, reader, n_messages: 0, before_kib: 0 };
        chat.talk().await;
        chat.before_kib = chat.broker.resident_kib();
        chat
    }

    /// One message gets through, and none was lost before it.
    async fn talk(&mut self) {
        self.n_messages += 1;
        let n = json!(self.n_messages);
        // Both at once, since a client answers pings only while it is asked for something.
        let (position, delivery) =
            tokio::join!(self.writer.publish("chat", n.clone()), self.reader.delivery());
        assert_eq!(position["offset"], n, "only the chat's messages are in its log");
        assert_eq!((&delivery["data"], &delivery["offset"]), (&n, &n));
    }

    /// Talks on until something else is over.
    async fn talk_while<T: Send + 'static>(&mut self, other: impl Future<Output = T> + Send + 'static) -> T {
        let other = tokio::spawn(other);
        while !other.is_finished() {
            self.talk().await;
        }
        other.await.unwrap()
    }

    /// Nobody was harmed: the chat goes on, memory is where it was, and only these two and who asks are connected.
    async fn ends_well(mut self) {
        self.talk().await;
        let grown_kib = self.broker.resident_kib().saturating_sub(self.before_kib);
        println!("resident memory grew by {grown_kib} KiB");
        assert!(grown_kib < GROWTH_KIB_MAX, "grew by {grown_kib} KiB");
        let opened = self.broker.counted("bongsu_sessions_opened_total ", 2).await;
        let closed = self.broker.counted("bongsu_sessions_closed_total ", opened - 2).await;
        assert_eq!(closed, opened - 2, "every session but these two has ended");
    }
}

fn closes(reason: &str) -> String {
    format!("bongsu_connections_closed_by_reason_total{{reason=\"{reason}\"}} ")
}

fn errors(code: &str) -> String {
    format!("bongsu_request_errors_total{{code=\"{code}\"}} ")
}

/// A message of one text frame.
fn text(body: impl AsRef<[u8]>) -> Vec<u8> {
    frame(TEXT, body.as_ref())
}

/// Sends each on a connection of its own and checks how that ends; how many there were.
async fn each_closes(chat: &Chat, lines: &str, code: u16, reason: &str, cases: Vec<(Vec<u8>, &str)>) -> u64 {
    let n_cases = cases.len() as u64;
    for (bytes, why) in cases {
        let mut raw = Raw::connect(chat.broker.address, lines).await;
        raw.send(&bytes).await;
        let End { code: closed_with, text, goodbye } = raw.end().await;
        assert_eq!(closed_with, code, "{why}: {text}");
        assert!(text.starts_with(&format!("{reason}: ")) && text.contains(why), "{why}: {text}");
        if lines == BINARY {
            continue;
        }
        let goodbye = goodbye.unwrap_or_else(|| panic!("{why}: no goodbye"));
        assert_eq!((&goodbye["reason"], &goodbye["reconnect"]), (&json!(reason), &json!("never")), "{why}");
        assert!(goodbye["text"].as_str().unwrap().contains(why), "{goodbye}");
    }
    chat.broker.counted(&closes(reason), n_cases).await;
    n_cases
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_websocket_are_told_why_the_connection_closes() {
    let chat = Chat::start(&[]).await;
    let mut cases = Vec::new();
    let mut unmasked = text("{}");
    unmasked[1] &= 0x7f;
    cases.push((unmasked, "not masked"));
    for bit in [0x40, 0x20, 0x10] {
        cases.push((frame(TEXT | bit, b"{}"), "reserved bit"));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push((frame(0x80 | opcode, b"{}"), "unknown opcode"));
    }
    cases.push((frame(PING, &[0; 126]), "longer than 125 bytes"));
    cases.push((header(PING, 1 << 63), "longer than 125 bytes"));
    cases.push((frame(PING & 0x7f, b"half a ping"), "fragmented control frame"));
    cases.push((frame(0x80, b"the rest"), "continuation of nothing"));
    cases.push(([frame(1, b"half "), text("{}")].concat(), "within a fragmented message"));
    cases.push((b"\x81\xfe\0\x02mask{}".to_vec(), "shortest form"));
    cases.push((frame(0x88, &[3]), "half a code"));
    cases.push((frame(0x88, &1005_u16.to_be_bytes()), "may not be sent"));
    let n_protocol = each_closes(&chat, "", 1002, "protocol_error", cases).await;

    let mut cases: Vec<_> =
        [1 << 63, u64::MAX, 1 << 32, (2 << 20) + 1].map(|length| (header(TEXT, length), "longer")).into();
    // In fragments, each of them short enough.
    let mut fragments = frame(1, &vec![b' '; 1 << 20]);
    fragments.extend(frame(0, &vec![b' '; 1 << 20]));
    fragments.extend(frame(0x80, b" "));
    cases.push((fragments, "longer"));
    let n_too_large = each_closes(&chat, "", 1009, "too_large", cases).await;

    let cases = [&b"\xff"[..], b"\"\xed\xa0\x80\"", b"\"\xc3"].map(|body| (text(body), "not UTF-8")).into();
    let n_payload = each_closes(&chat, "", 1007, "invalid_payload", cases).await;
    let total = n_protocol + n_too_large + n_payload;
    assert_eq!(chat.broker.counter("bongsu_frames_malformed_total ").await, total, "each was counted once");

    let cases = vec![(frame(0x82, b"{}"), "text, not binary")];
    each_closes(&chat, "", 1003, "unsupported_data", cases).await;
    let cases = vec![(text("{}"), "binary, not text")];
    each_closes(&chat, BINARY, 1003, "unsupported_data", cases).await;
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_requests_are_told_why_the_connection_closes() {
    let chat = Chat::start(&[]).await;
    let bodies = ["", "{", "nonsense", "{\"id\":1,\"ping\":{}", "{\"id\":1,\"ping\":{}}}", "{'id':1}"];
    let n_bodies = bodies.len() as u64;
    let payload = each_closes(&chat, "", 1007, "invalid_payload", bodies.map(|body| (text(body), "")).into());
    assert_eq!(payload.await, n_bodies);
    let ping = |id: u64| json!({ "id": id, "ping": {} });
    let many: Vec<Value> = (1..=1025).map(ping).collect();
    let cases = [
        (json!([]), "at least one request"),
        (json!(many), "1024"),
        (json!(7), "a request"),
        (json!([1]), "a request"),
        (json!({ "ping": {} }), "id from 1"),
        (json!({ "id": 0, "ping": {} }), "id from 1"),
        (json!({ "id": 1_u64 << 53, "ping": {} }), "id from 1"),
        (json!({ "id": -1, "ping": {} }), ""),
        (json!({ "id": "1", "ping": {} }), ""),
        (json!({ "id": 1.5, "ping": {} }), ""),
        (json!([ping(2), ping(1)]), "request id 1 does not follow 2"),
        (json!([ping(7), ping(7)]), "request id 7 does not follow 7"),
        (json!([ping(9), { "id": 8, "nonsense": {} }]), "request id 8 does not follow 9"),
    ];
    let mut cases: Vec<_> = cases.map(|(value, why)| (text(value.to_string()), why)).into();
    cases.push((text("[".repeat(1 << 20)), "a request"));
    each_closes(&chat, "", 1002, "protocol_error", cases).await;
    let cases = vec![(frame(0x82, &[0xff; 64]), "")];
    each_closes(&chat, BINARY, 1007, "invalid_payload", cases).await;
    chat.ends_well().await;
}

/// Offers permessage-deflate.
const DEFLATE: &str = "sec-websocket-extensions: permessage-deflate\r\n";

fn deflated(n_bytes: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let blanks = [b' '; 1 << 16];
    for length in std::iter::repeat_n(blanks.len(), n_bytes / blanks.len()).chain([n_bytes % blanks.len()]) {
        encoder.write_all(&blanks[..length]).unwrap();
    }
    frame(TEXT | 0x40, &encoder.finish().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bombs_are_refused_before_they_cost_memory() {
    let chat = Chat::start(&[]).await;
    let bomb = deflated(64 << 20);
    assert!(bomb.len() < 80 << 10, "a thousandth of what it stands for");
    let cases = vec![(bomb, "longer"), (deflated((2 << 20) + 1), "longer")];
    each_closes(&chat, DEFLATE, 1009, "too_large", cases).await;
    let corrupt = vec![(frame(TEXT | 0x40, &[0xff; 64]), "corrupt")];
    each_closes(&chat, DEFLATE, 1007, "invalid_payload", corrupt).await;
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_in_the_middle_leave_nothing_behind() {
    let mut chat = Chat::start(&[]).await;
    let address = chat.broker.address;
    let publish = json!({ "id": 1, "publish": { "messages": [{ "topic": "chat", "data": "half" }] } });
    let message = text(publish.to_string());
    let mut vanishing = Vec::new();
    for end in 0..message.len() {
        let part = message[..end].to_vec();
        vanishing.push(async move {
            let mut raw = Raw::connect(address, "").await;
            raw.send(&part).await;
            if end % 2 == 0 {
                raw.reset();
            }
        });
    }
    let n_frames = vanishing.len() as u64;
    join_all(vanishing).await;
    let handshake = handshake("");
    for end in (0..handshake.len()).step_by(7) {
        Raw::silent(address).await.send(&handshake.as_bytes()[..end]).await;
    }
    // A full-size frame that is announced, begun and never finished, by many at once.
    let mut unfinished = Vec::new();
    for _ in 0..100 {
        let mut raw = Raw::connect(address, "").await;
        raw.send(&[header(TEXT, 2 << 20), b"\x4f\x43".to_vec()].concat()).await;
        unfinished.push(raw);
    }
    chat.talk().await;
    drop(unfinished);
    chat.broker.counted(&closes("normal"), n_frames + 100).await;
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_wrong_are_answered_with_what_is_wrong() {
    let chat = Chat::start(&[]).await;
    let publish = |message: Value| ("publish", json!({ "messages": [message] }));
    let filter = |filter: &str| ("subscribe", json!({ "subscriptions": [{ "filter": filter }] }));
    let headers = |n: usize, bytes: usize| {
        let headers = (0..n).map(|n| (n.to_string(), json!("x".repeat(bytes))));
        headers.collect::<serde_json::Map<_, _>>()
    };
    let (long, deep) = ("a".repeat(1 << 20), vec!["a"; 10_000].join("/"));
    let (deep_but_short, large) = (vec!["a"; 33].join("/"), "x".repeat((1 << 20) + 1));
    let bad = "bad_request";
    let cases = [
        (publish(json!({ "topic": long, "data": 1 })), bad, "at most 255 bytes, this one has 1048576"),
        (publish(json!({ "topic": deep, "data": 1 })), bad, "at most 255 bytes, this one has 19999"),
        (publish(json!({ "topic": "", "data": 1 })), bad, "at least one character"),
        (publish(json!({ "topic": "a//b", "data": 1 })), bad, "no empty level"),
        (publish(json!({ "topic": "a/+", "data": 1 })), bad, "belong in filters"),
        (publish(json!({ "topic": "a\u{0}", "data": 1 })), bad, "control characters"),
        (publish(json!({ "topic": "$presence/a", "data": 1 })), bad, "the broker's own"),
        (publish(json!({ "topic": 7, "data": 1 })), bad, "expected a string"),
        (publish(json!({ "topic": "a" })), bad, "one of `data`, `text` and `bytes`"),
        (publish(json!({ "topic": "a", "data": 1, "text": "1" })), bad, "one of `data`, `text` and `bytes`"),
        (publish(json!({ "topic": "a", "bytes": "?" })), bad, "no base64"),
        (publish(json!({ "topic": "a", "text": large })), "too_large", "has at most 1048576 bytes"),
        (publish(json!({ "topic": "a", "data": 1, "colour": 1 })), bad, "unknown field `colour`"),
        (publish(json!({ "topic": "a", "data": 1, "id": "x".repeat(129) })), bad, "at most 128 bytes"),
        (publish(json!({ "topic": "a", "data": 1, "type": "x".repeat(256) })), bad, "at most 255 bytes"),
        (publish(json!({ "topic": "a", "data": 1, "headers": headers(33, 1) })), bad, "32"),
        (publish(json!({ "topic": "a", "data": 1, "headers": headers(2, 4096) })), bad, "8192 bytes"),
        (publish(json!({ "topic": "a", "data": 1, "expect": 1_u64 << 53 })), bad, "largest integer"),
        (("publish", json!({ "messages": [] })), bad, "1 to 1024"),
        (("publish", json!({ "messages": vec![json!({ "topic": "a", "data": 1 }); 1025] })), bad, "1024"),
        (filter(&long), bad, "at most 255 bytes"),
        (filter(&deep), bad, "at most 255 bytes, this one has 19999"),
        (filter(&deep_but_short), bad, "at most 32 levels"),
        (filter("a/#/b"), bad, "only in the last one"),
        (("subscribe", json!({ "subscriptions": [] })), bad, "1 to 1024"),
        (
            ("subscribe", json!({ "subscriptions": [{ "filter": "a", "from": "newest" }] })),
            bad,
            "expected \"latest\"",
        ),
        (("unsubscribe", json!({ "filters": [] })), bad, "1 to 1024"),
        (("history", json!({ "topic": "a", "limit": -1 })), bad, "history: expected"),
        (("members", json!(null)), bad, "members"),
        (("enter", json!({ "topic": "a", "info": "x".repeat(1024) })), "too_large", "at most 1024 bytes"),
        (("authenticate", json!({ "token": "x".repeat(8193) })), bad, "at most 8192 bytes"),
        (("ping", json!({ "loud": true })), bad, "unknown field `loud`"),
        (("publsih", json!({})), "unsupported", "unknown command `publsih`"),
    ];
    let n_cases = cases.len() as u64;
    let mut client = chat.broker.connect().await;
    for ((command, body), code, why) in cases {
        let reply = client.ask(command, body).await;
        assert_eq!(reply["error"]["code"], json!(code), "{command}, {why}: {reply}");
        assert!(reply["error"]["text"].as_str().unwrap().contains(why), "{command}, {why}: {reply}");
    }
    let n_answers = join_all(["bad_request", "too_large", "unsupported"].map(|code| {
        let broker = &chat.broker;
        async move { broker.counter(&errors(code)).await }
    }));
    assert_eq!(n_answers.await.iter().sum::<u64>(), n_cases, "each was counted");
    assert!(client.ask("ping", json!({})).await.get("pong").is_some(), "the connection is as good as before");
    drop(client);
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_flood_and_never_read_are_closed() {
    let settings = ["websocket.write_timeout=1s", "websocket.send_buffer_bytes=4KiB"];
    let mut chat = Chat::start(&settings).await;
    let address = chat.broker.address;
    let flood = |client: Client, requests: bool| async move {
        let mut stream = client.socket.into_inner();
        let pings = frame(PING, &[7; 125]).repeat(500);
        for id in 1.. {
            let mut bytes = pings.clone();
            if requests {
                bytes.extend(text(json!({ "id": id, "history": { "topic": "chat" } }).to_string()));
            }
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let mut floods = Vec::new();
    for requests in [true, false] {
        floods.push(flood(Client::connect_with(address, Some(4096), &[]).await.unwrap(), requests));
    }
    chat.talk_while(join_all(floods)).await;
    assert_eq!(chat.broker.counted(&closes("write_timeout"), 2).await, 2);
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_answer_no_ping_are_closed() {
    // Time enough for those that answer, also on a busy machine.
    let mut chat = Chat::start(&["websocket.ping_interval=1s", "websocket.pong_timeout=5s"]).await;
    let mut raw = Raw::connect(chat.broker.address, "").await;
    let end = chat.talk_while(async move { raw.end().await }).await;
    let why = "neither data nor a pong came in time";
    let goodbye = json!({ "reason": "ping_timeout", "text": why, "reconnect": "now" });
    let expected = End { code: 4200, text: format!("ping_timeout: {why}"), goodbye: Some(goodbye) };
    assert_eq!(end, expected);
    assert_eq!(chat.broker.counted(&closes("ping_timeout"), 1).await, 1);
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_end_are_hung_up_on() {
    let mut chat = Chat::start(&["http.header_timeout=1s"]).await;
    let address = chat.broker.address;
    let beginnings =
        ["", "G", "PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /v1/ws HTTP/1.1\r\nhost: broker\r\n"];
    let silent = beginnings.into_iter().cycle().take(200).map(|beginning| async move {
        let mut raw = Raw::silent(address).await;
        raw.send(beginning.as_bytes()).await;
        raw.hung_up().await;
    });
    let slow = async move {
        let mut raw = Raw::silent(address).await;
        raw.send(b"GET / HTTP/1.1\r\n").await;
        // A line now and then, for ever.
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        while raw.send(b"x: y\r\n").await {
            pace.tick().await;
        }
    };
    let silent: Vec<_> = silent.collect();
    chat.talk_while(async move { tokio::join!(join_all(silent), slow) }).await;
    assert_eq!(chat.broker.counted("bongsu_header_timeouts_total ", 201).await, 201);
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(64 << 10));
    let answer = String::from_utf8(exchange(address, long.as_bytes()).await).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_wrong_are_refused_with_the_reason() {
    let chat = Chat::start(&[]).await;
    let good = handshake("");
    let cases = [
        (handshake("sec-websocket-protocol: mqtt\r\n"), "400", "bongsu.v1.json"),
        (good.replace("AAAAAAAA", "AAAA"), "400", "the base64 of 16 bytes"),
        (good.replace("version: 13", "version: 8"), "426", "version 13"),
    ];
    for (request, status, why) in cases {
        let request = request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        let answer = String::from_utf8(exchange(chat.broker.address, request.as_bytes()).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(why), "{answer}");
    }
    assert_eq!(chat.broker.counter("bongsu_handshakes_refused_total ").await, 3);
    chat.ends_well().await;
}

/// Connections of the burst, and how many of them are open at the same time.
const BURST: usize = 3000;
const BURST_AT_ONCE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn connects_past_the_rate_are_turned_away_and_counted() {
    let mut chat = Chat::start(&["limits.connect_rate=100"]).await;
    let address = chat.broker.address;
    let burst = join_all((0..BURST_AT_ONCE).map(|_| async move {
        let mut n_turned_away = 0;
        for _ in 0..BURST / BURST_AT_ONCE {
            let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
            let answer = String::from_utf8(exchange(address, request).await).unwrap();
            if answer.starts_with("HTTP/1.1 200 ") {
                continue;
            }
            n_turned_away += 1;
            // Nothing at all: the reset came before the answer was read.
            let is_told = answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1");
            assert!(answer.is_empty() || is_told, "{answer}");
        }
        n_turned_away
    }));
    let n_turned_away: u64 = chat.talk_while(burst).await.into_iter().sum();
    println!("{n_turned_away} of {BURST} were turned away");
    assert!(n_turned_away > 0, "a hundred a second were let in");
    chat.broker.counted("bongsu_connections_turned_away_total ", n_turned_away).await;
    chat.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_past_the_limit_are_told_to_come_back() {
    let mut chat = Chat::start(&["limits.connections=8"]).await;
    // How many there were before is nothing that a client waits for: places of the past are given back one by one.
    let mut clients = Vec::new();
    while clients.len() < 6 {
        clients.extend(Client::connect(chat.broker.address).await);
    }
    let answer = chat.broker.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    chat.talk().await;
    for client in &mut clients {
        assert!(client.ask("ping", json!({})).await.get("pong").is_some(), "who is in stays in");
    }
    drop(clients);
    chat.broker.counted("bongsu_connections_turned_away_total ", 1).await;
    chat.ends_well().await;
}
