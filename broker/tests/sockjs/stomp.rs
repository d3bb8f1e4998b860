//! STOMP over SockJS: one framing around one conversation.

use std::time::Duration;

use bongsu::publisher::Completion;
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::topic::Topic;

use super::server::{Http, Server};

/// The body of a sending request with these texts.
fn body(texts: &[&str]) -> String {
    serde_json::to_string(texts).unwrap()
}

async fn send(server: &Server, session: &str, texts: &[&str]) {
    let sent = server.post(&format!("{session}/xhr_send"), &body(texts)).await;
    assert_eq!(sent.status, 204, "{texts:?}");
}

/// The texts of the next frame.
async fn texts(stream: &mut Http) -> Vec<String> {
    let frame = stream.chunk().await;
    let array = frame.strip_prefix('a').unwrap_or_else(|| panic!("no messages: {frame}"));
    serde_json::from_str(array).unwrap()
}

async fn text(stream: &mut Http) -> String {
    let mut texts = texts(stream).await;
    assert_eq!(texts.len(), 1, "{texts:?}");
    texts.remove(0)
}

async fn connect(server: &Server, session: &str, heart_beat: &str) -> Http {
    let mut stream = server.stream("POST", &format!("{session}/xhr_streaming")).await;
    stream.chunk().await;
    assert_eq!(stream.chunk().await, "o\n");
    // ST-2: a frame may come in pieces.
    let connect = format!("CONNECT\naccept-version:1.2\nheart-beat:{heart_beat}\n");
    send(server, session, &[&connect, "\n\0"]).await;
    let connected = loop {
        let frame = stream.chunk().await;
        // Nothing was agreed on yet.
        if frame != "h\n" {
            break frame;
        }
    };
    let connected: Vec<String> = serde_json::from_str(connected.strip_prefix('a').unwrap()).unwrap();
    let connected = &connected[0];
    assert!(connected.starts_with("CONNECTED\nversion:1.2\n"), "{connected}");
    stream
}

#[tokio::test]
async fn stomp_speaks_over_requests_as_over_sockets() {
    let server = Server::start_own(|_| {});
    for session in ["/stomp/000/a", "/ws/000/b"] {
        let mut stream = connect(&server, session, "0,0").await;
        let subscribe = "SUBSCRIBE\nid:s\ndestination:/topic/t\nreceipt:r\n\n\0";
        send(&server, session, &[subscribe]).await;
        let receipt = text(&mut stream).await;
        assert!(receipt.starts_with("RECEIPT\nreceipt-id:r\n"), "{receipt}");
        send(&server, session, &["SEND\ndestination:/topic/t\n\n한 \u{1f600}\0"]).await;
        let message = text(&mut stream).await;
        assert!(message.starts_with("MESSAGE\n") && message.contains("\nsubscription:s\n"), "{message}");
        assert!(message.ends_with("\n\n한 \u{1f600}\0"), "{message}");
        // What is no text goes as text all the same, and says its length.
        let binary = NewMessage {
            topic: Topic::parse("t").unwrap(),
            message: Message {
                payload: vec![0xff, b'x'].into(),
                content_type: "application/octet-stream".to_owned(),
                headers: Vec::new(),
                id: String::new(),
            },
            expect: None,
        };
        assert!(server.node.publisher().publish("", binary, Completion::Nobody).is_ok());
        let message = text(&mut stream).await;
        assert!(message.ends_with("\n\n\u{fffd}x\0"), "{message}");
        assert!(message.contains("\ncontent-length:4\n"), "{message}");
    }
}

// SJ-12
#[tokio::test]
async fn heart_beats_of_stomp_take_the_place_of_heartbeats() {
    let server = Server::start_own(|settings| {
        settings.sockjs.heartbeat = Duration::from_millis(100);
        settings.stomp.heart_beat = Duration::from_millis(100);
    });
    let mut silent = connect(&server, "/stomp/000/silent", "0,0").await;
    assert_eq!(silent.chunk().await, "h\n");
    let mut beating = connect(&server, "/stomp/000/beating", "0,500").await;
    for _ in 0..3 {
        assert_eq!(beating.chunk().await, "a[\"\\n\"]\n");
    }
}

// SJ-14
#[tokio::test]
async fn an_error_is_told_before_the_close() {
    let server = Server::start_own(|_| {});
    let mut stream = connect(&server, "/stomp/000/s", "0,0").await;
    send(&server, "/stomp/000/s", &["NONSENSE\n\n\0"]).await;
    let error = text(&mut stream).await;
    assert!(error.starts_with("ERROR\n"), "{error}");
    let close = stream.chunk().await;
    assert!(close.starts_with("c[1002,"), "{close}");
    assert_eq!(stream.chunk().await, "");
}

// SJ-1
#[tokio::test]
async fn a_prefix_of_stomp_greets_those_who_want_no_socket() {
    let server = Server::start_own(|_| {});
    for path in ["/stomp", "/ws/", "/sockjs"] {
        assert_eq!(server.get(path).await.body, "Welcome to SockJS!\n", "{path}");
    }
}
