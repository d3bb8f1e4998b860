//! What becomes of a session whose requests come and go.

use std::time::Duration;

use bongsu::config::AllowedOrigin;
use serde_json::{Value, json};

use super::server::{PATIENCE, Server};

/// Asks until the answer is another one.
async fn after(server: &Server, path: &str, before: &str) -> String {
    let begun = std::time::Instant::now();
    loop {
        let answer = server.post(path, "").await.body;
        if answer != before {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "always {before}");
    }
}

// SJ-14, SJ-40
#[tokio::test]
async fn after_a_close_every_request_gets_the_same_frame() {
    let server = Server::start();
    let mut first = server.stream("POST", "/close/000/s/xhr_streaming").await;
    first.chunk().await;
    assert_eq!(first.chunk().await, "o\n");
    assert_eq!(first.chunk().await, "c[3000,\"Go away!\"]\n");
    assert_eq!(first.chunk().await, "");
    for _ in 0..2 {
        assert_eq!(server.post("/close/000/s/xhr", "").await.body, "c[3000,\"Go away!\"]\n");
    }
    assert_eq!(server.post("/close/000/s/xhr_send", "[\"a\"]").await.status, 404);
}

// SJ-40
#[tokio::test]
async fn a_second_receiving_request_is_sent_away_and_the_first_stays() {
    let server = Server::start();
    let mut first = server.stream("POST", "/echo/000/s/xhr_streaming").await;
    first.chunk().await;
    assert_eq!(first.chunk().await, "o\n");
    let mut second = server.stream("POST", "/echo/000/s/xhr_streaming").await;
    second.chunk().await;
    assert_eq!(second.chunk().await, "c[2010,\"Another connection still open\"]\n");
    assert_eq!(second.chunk().await, "");
    server.post("/echo/000/s/xhr_send", "[\"a\"]").await;
    assert_eq!(first.chunk().await, "a[\"a\"]\n");
}

// SJ-41
#[tokio::test]
async fn a_request_that_the_network_ends_ends_its_session_whatever_was_written() {
    let server = Server::start();
    let mut stream = server.stream("POST", "/echo/000/stream/xhr_streaming").await;
    stream.chunk().await;
    stream.chunk().await;
    drop(stream);
    let busy = "c[2010,\"Another connection still open\"]\n";
    let interrupted = "c[1002,\"Connection interrupted\"]\n";
    assert_eq!(after(&server, "/echo/000/stream/xhr", busy).await, interrupted);

    server.post("/echo/000/poll/xhr", "").await;
    let mut poll = server.client().await;
    poll.send(&poll.request("1.1", "POST", "/echo/000/poll/xhr", "", "")).await;
    // Nothing shows that it arrived but what others are told.
    let begun = std::time::Instant::now();
    while server.post("/echo/000/poll/xhr_streaming", "").await.body[2049..] != *busy {
        assert!(begun.elapsed() < PATIENCE);
        server.post("/echo/000/poll/xhr_send", "[]").await;
    }
    drop(poll);
    assert_eq!(after(&server, "/echo/000/poll/xhr", busy).await, interrupted);
}

// SJ-41
#[tokio::test]
async fn a_session_without_requests_is_over_after_the_delay() {
    let server = Server::start_with(|settings| {
        settings.http.allowed_origins = vec![AllowedOrigin::Any];
        settings.sockjs.disconnect_delay = Duration::from_millis(50);
    });
    assert_eq!(server.post("/echo/000/s/xhr", "").await.body, "o\n");
    let begun = std::time::Instant::now();
    while server.post("/echo/000/s/xhr_send", "[\"a\"]").await.status != 404 {
        assert!(begun.elapsed() < PATIENCE);
    }
    while server.node.connections() > 0 {
        assert!(begun.elapsed() < PATIENCE, "it gives its place back");
        tokio::task::yield_now().await;
    }
    assert_eq!(server.post("/echo/000/s/xhr", "").await.body, "o\n", "its name is free");
}

// SJ-11
#[tokio::test]
async fn a_silent_session_gets_heartbeats() {
    let server = Server::start_with(|settings| {
        settings.http.allowed_origins = vec![AllowedOrigin::Any];
        settings.sockjs.heartbeat = Duration::from_millis(50);
    });
    assert_eq!(server.post("/echo/000/s/xhr", "").await.body, "o\n");
    assert_eq!(server.post("/echo/000/s/xhr", "").await.body, "h\n");
    let mut stream = server.stream("POST", "/echo/000/t/xhr_streaming").await;
    stream.chunk().await;
    for frame in ["o\n", "h\n", "h\n"] {
        assert_eq!(stream.chunk().await, frame);
    }
}

// SJ-43
#[tokio::test]
async fn a_session_is_found_by_nobody_else() {
    let server = Server::start_with(|settings| {
        let token = |name: &str, digest: &str| format!("{{ name = \"{name}\", sha256 = \"{digest}\" }}");
        let digests = [
            // Of `one` and `two`.
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
            "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
        ];
        let tokens = format!("[{}, {}]", token("a", digests[0]), token("b", digests[1]));
        let flags = ["bongsu", "--set", &format!("auth.tokens={tokens}")];
        settings.auth = parsed(&flags).auth;
    });
    let poll = async |token: &str| server.post(&format!("/echo/0/s/xhr?access_token={token}"), "").await;
    let send = async |query: &str| server.post(&format!("/echo/0/s/xhr_send{query}"), "[\"a\"]").await.status;
    assert_eq!(poll("one").await.body, "o\n");
    assert_eq!(send("?access_token=two").await, 404);
    assert_eq!(send("").await, 404);
    assert_eq!(poll("two").await.status, 404);
    assert_eq!(send("?access_token=one").await, 204);
    assert_eq!(poll("one").await.body, "a[\"a\"]\n");
    // SJ-34: a token that nobody knows is told so where pages see it.
    let unknown = async || server.post("/sockjs/0/t/xhr?access_token=three", "").await.body;
    assert_eq!(unknown().await, "o\n");
    let mut told = String::new();
    while !told.contains("c[4401,") {
        told.push_str(&unknown().await);
    }
    assert!(told.contains("\\\"goodbye\\\""), "{told}");
}

fn parsed(flags: &[&str]) -> bongsu::config::Settings {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        settings: bongsu::config::SettingsArgs,
    }
    bongsu::config::load_with(&Cli::parse_from(flags).settings, []).unwrap().settings
}

/// The texts of a frame.
fn texts(frame: &str) -> Vec<Value> {
    let Some(array) = frame.trim_end().strip_prefix('a') else { return Vec::new() };
    let texts: Vec<String> = serde_json::from_str(array).unwrap();
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn send_body(request: &Value) -> String {
    json!([request.to_string()]).to_string()
}

#[tokio::test]
async fn a_reader_that_does_not_read_for_a_while_loses_nothing() {
    const MESSAGES: u64 = 3000;
    let server = Server::start();
    let subscribe =
        json!({ "id": 1, "subscribe": { "subscriptions": [{ "filter": "t", "from": "earliest" }] } });
    let mut reader = server.stream("POST", "/sockjs/000/reader/xhr_streaming").await;
    assert_eq!(server.post("/sockjs/000/reader/xhr_send", &send_body(&subscribe)).await.status, 204);
    server.post("/sockjs/000/writer/xhr", "").await;
    let data = "x".repeat(2000);
    for first in (0..MESSAGES).step_by(50) {
        let messages: Vec<Value> =
            (first..first + 50).map(|n| json!({ "topic": "t", "data": format!("{n} {data}") })).collect();
        let publish = json!({ "id": first + 1, "publish": { "messages": messages } });
        let sent = server.post("/sockjs/000/writer/xhr_send", &send_body(&publish)).await;
        assert_eq!(sent.status, 204);
        while !server.post("/sockjs/000/writer/xhr", "").await.body.contains("reply") {}
    }
    let mut offsets = 1..=MESSAGES;
    while !offsets.is_empty() {
        let mut chunk = reader.chunk().await;
        if chunk.is_empty() {
            reader = server.stream("POST", "/sockjs/000/reader/xhr_streaming").await;
            chunk = reader.chunk().await;
        }
        for event in texts(&chunk) {
            if let Some(delivery) = event.get("delivery") {
                assert_eq!(delivery["offset"].as_u64(), offsets.next(), "{delivery}");
            }
        }
    }
}

// SJ-46
#[tokio::test]
async fn a_node_that_goes_away_says_so_to_every_session() {
    let server = Server::start_with(|settings| {
        settings.http.allowed_origins = vec![AllowedOrigin::Any];
        settings.drain.spread = Duration::ZERO;
    });
    let mut stream = server.stream("POST", "/sockjs/000/s/xhr_streaming").await;
    stream.chunk().await;
    assert_eq!(stream.chunk().await, "o\n");
    server.node.drain().begin();
    let mut told = String::new();
    loop {
        let chunk = stream.chunk().await;
        if chunk.is_empty() {
            break;
        }
        told.push_str(&chunk);
    }
    assert!(told.contains("going_away") && told.ends_with("c[1012,\"Server restarting\"]\n"), "{told}");
}
