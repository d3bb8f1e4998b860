//! STOMP over TCP, TLS and WebSocket, against a broker in a process of its own. Each test names the requirement that it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use bongsu_protocol::stomp::Command;
use serde_json::json;
use support::stomp::Stomp;
use support::{Broker, Client};

const TCP: &str = "stomp.listen=127.0.0.1:0";

// ST-20, ST-21, ST-23, ST-24, ST-26
#[tokio::test]
async fn every_version_publishes_and_reads_over_tcp() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    for version in ["1.0", "1.1", "1.2"] {
        let mut stomp = Stomp::silent(broker.stomp[0]).await;
        let connected = stomp.log_in(version, "").await;
        assert_eq!(connected.header("version"), Some(version));
        assert!(connected.header("session").is_some() && connected.header("server").is_some());
        stomp.ask("SUBSCRIBE\nid:a\ndestination:/topic/room\nreceipt:1\n\n^").await;
        let send = "SEND\ndestination:/topic/room\ncontent-type:text/plain\nx-mood:calm\nreceipt:2\n\nhi^";
        let mut came = stomp.ask(send).await;
        let message = match came.pop() {
            Some(message) => message,
            None => stomp.hear_one(Command::Message).await,
        };
        assert_eq!(&message.body[..], b"hi");
        assert_eq!(message.header("subscription"), Some("a"));
        assert_eq!(message.header("destination"), Some("/topic/room"));
        assert_eq!(message.header("content-type"), Some("text/plain"));
        assert_eq!(message.header("x-mood"), Some("calm"));
        assert_eq!(message.header("content-length"), Some("2"));
        assert!(message.header("offset").is_some() && message.header("epoch").is_some());
        stomp.say("DISCONNECT\nreceipt:bye\n\n^").await;
        assert_eq!(stomp.hear_one(Command::Receipt).await.header("receipt-id"), Some("bye"));
    }
}

// ST-1, ST-2, ST-3
#[tokio::test]
async fn a_web_socket_is_a_stream_of_bytes_under_any_sub_protocol() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    for (path, offer, expected) in [
        ("/stomp", "v10.stomp, v12.stomp, v11.stomp", Some("v12.stomp")),
        ("/ws", "v11.stomp", Some("v11.stomp")),
        ("/ws", "", None),
        ("/stomp", "mqtt", None),
        // What is raw in SockJS.
        ("/ws/websocket", "v12.stomp", Some("v12.stomp")),
    ] {
        let (mut stomp, chosen) = Stomp::web_socket(broker.address, path, offer).await;
        assert_eq!(chosen.as_deref(), expected, "{offer}");
        stomp.log_in("1.2", "").await;
        // One frame in three messages, and two in one.
        stomp.say("SUBSCRIBE\nid:a\ndest").await;
        stomp.say("ination:/topic/bytes\nreceipt").await;
        stomp.ask(":1\n\n^").await;
        stomp.say("SEND\ndestination:/topic/bytes\n\none^\nSEND\ndestination:/topic/bytes\n\ntwo^").await;
        assert_eq!([stomp.message().await, stomp.message().await], ["one", "two"]);
        // No UTF-8: it comes, so it came as binary.
        assert!(stomp.send(b"SEND\ndestination:/topic/bytes\n\n\xff\xfe\0").await);
        assert_eq!(&stomp.hear_one(Command::Message).await.body[..], b"\xff\xfe");
        stomp.close().await;
    }
}

// ST-23: what STOMP publishes is in the log that every other transport reads, at the same offsets.
#[tokio::test]
async fn stomp_and_native_clients_read_one_log() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    let mut native = broker.connect().await;
    native.subscribe("chat/+", json!("latest")).await;
    let mut stomp = Stomp::connect(broker.stomp[0], "1.2").await;
    stomp.ask("SUBSCRIBE\nid:a\ndestination:/topic/chat.*\nreceipt:1\n\n^").await;
    let mut came = stomp.ask("SEND\ndestination:/topic/chat.room\nreceipt:2\n\nfrom stomp^").await;
    let delivery = native.delivery().await;
    assert_eq!((&delivery["topic"], &delivery["offset"]), (&json!("chat/room"), &json!(1)));
    native.publish("chat/room", json!("from native")).await;
    while came.len() < 2 {
        came.push(stomp.hear_one(Command::Message).await);
    }
    let place = |n: usize| (came[n].header("destination"), came[n].header("offset"));
    assert_eq!([place(0), place(1)], ["1", "2"].map(|offset| (Some("/topic/chat.room"), Some(offset))));
}

// ST-24: the rest of the log is read from where a client was.
#[tokio::test]
async fn a_subscription_goes_on_where_an_earlier_one_was() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    let mut stomp = Stomp::connect(broker.stomp[0], "1.2").await;
    for n in 1..=5 {
        stomp.ask(&format!("SEND\ndestination:/topic/log\nreceipt:{n}\n\n{n}^")).await;
    }
    let mut read = async |headers: &str, expected: &[&str]| {
        stomp.say(&format!("SUBSCRIBE\nid:a\ndestination:/topic/log\n{headers}\n\n^")).await;
        let mut epoch = String::new();
        for body in expected {
            let message = stomp.hear_one(Command::Message).await;
            assert_eq!(message.body, body.as_bytes(), "{headers}");
            assert_eq!(message.header("offset"), Some(*body));
            epoch = message.header("epoch").unwrap().to_owned();
        }
        stomp.ask("UNSUBSCRIBE\nid:a\nreceipt:u\n\n^").await;
        epoch
    };
    let epoch = read("offset:first", &["1", "2", "3", "4", "5"]).await;
    read("x-stream-offset:last", &["5"]).await;
    read("rewind:2", &["4", "5"]).await;
    read(&format!("offset:3\nepoch:{epoch}"), &["3", "4", "5"]).await;
    read("offset:timestamp=0", &["1", "2", "3", "4", "5"]).await;
    read("offset:next", &[]).await;
}

// ST-6, ST-31
#[tokio::test]
async fn an_error_arrives_before_the_close_and_the_close_says_which_kind() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    for (frame, message, code) in [
        ("SEND\n\n^", "Missing destination", 1002),
        ("SEND\ndestination:/nowhere/x\n\n^", "Unknown destination", 1002),
        ("FLY\n\n^", "Bad command", 1002),
        ("CONNECT\naccept-version:1.2\n\n^", "Bad CONNECT", 1002),
        ("SEND\na\\x:b\n\n^", "Malformed frame", 1007),
        ("SEND\ncontent-length:2000000\n\n", "Frame too large", 1009),
        ("BEGIN\ntransaction:t\n\nbody^", "Unexpected body", 1002),
        ("ACK\nid:never\n\n^", "Invalid header", 1002),
    ] {
        let (mut socket, _) = Stomp::web_socket(broker.address, "/stomp", "v12.stomp").await;
        let mut stream = Stomp::silent(broker.stomp[0]).await;
        for stomp in [&mut socket, &mut stream] {
            stomp.log_in("1.2", "").await;
            stomp.say(frame).await;
        }
        let (error, closed) = socket.refused().await;
        assert_eq!((error.header("message"), closed), (Some(message), Some(code)), "{frame}");
        let (error, _) = stream.refused().await;
        assert_eq!(error.header("message"), Some(message));
        assert_eq!(error.header("content-type"), Some("text/plain"));
        assert!(!error.body.is_empty());
    }
}

// ST-29
#[tokio::test]
async fn after_disconnect_the_client_has_time_to_close_and_is_closed_then() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    let (mut socket, _) = Stomp::web_socket(broker.address, "/stomp", "").await;
    let mut stream = Stomp::silent(broker.stomp[0]).await;
    for stomp in [&mut socket, &mut stream] {
        stomp.log_in("1.2", "").await;
        let after = "SEND\ndestination:/topic/after\n\nx^NONSENSE^";
        stomp.say(&format!("DISCONNECT\nreceipt:1\n\n^{after}")).await;
        stomp.hear_one(Command::Receipt).await;
    }
    assert_eq!(socket.ended().await, Some(1000));
    assert_eq!(stream.ended().await, None);
    let mut native = broker.connect().await;
    assert_eq!(bodies(&mut native, "after").await, [json!(null); 0], "nothing counts after DISCONNECT");
}

// ST-20
#[tokio::test]
async fn tokens_are_taken_from_wherever_clients_put_them() {
    let data = tempfile::tempdir().unwrap();
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let tokens =
        format!("auth.tokens=[{{name=\"ann\",sha256=\"{digest}\",subscribe=[\"room\"],publish=[\"room\"]}}]");
    let broker = Broker::start(data.path(), &[TCP, &tokens, "stomp.hosts=tenant"]);
    let bearer = "Authorization:Bearer test\n";
    for lines in ["login:ann\npasscode:test\n", "passcode:test\n", bearer, "token:test\n"] {
        let mut stomp = Stomp::silent(broker.stomp[0]).await;
        stomp.say(&format!("CONNECT\naccept-version:1.2\nhost:tenant\n{lines}\n^")).await;
        let connected = stomp.hear_one(Command::Connected).await;
        assert_eq!(connected.header("user-name"), Some("ann"), "{lines}");
        stomp.ask("SEND\ndestination:/topic/room\nreceipt:1\n\n1^").await;
        stomp.say("SUBSCRIBE\nid:a\ndestination:/topic/other\n\n^").await;
        assert_eq!(stomp.refused().await.0.header("message"), Some("access_refused"));
    }
    for (lines, expected) in [
        ("host:tenant\nlogin:guest\npasscode:guest\n", "Bad CONNECT"),
        ("host:stranger\npasscode:test\n", "Bad CONNECT"),
    ] {
        let mut stomp = Stomp::silent(broker.stomp[0]).await;
        stomp.say(&format!("CONNECT\naccept-version:1.2\n{lines}\n^")).await;
        assert_eq!(stomp.refused().await.0.header("message"), Some(expected), "{lines}");
    }
    // By the handshake of its WebSocket.
    let (mut stomp, _) = Stomp::web_socket(broker.address, "/stomp", "v12.stomp, bearer.dGVzdA").await;
    stomp.say("CONNECT\naccept-version:1.2\n\n^").await;
    assert_eq!(stomp.hear_one(Command::Connected).await.header("user-name"), Some("ann"));
    // Nobody in particular, who may do nothing.
    let mut stomp = Stomp::silent(broker.stomp[0]).await;
    stomp.say("CONNECT\naccept-version:1.2\n\n^").await;
    assert_eq!(stomp.hear_one(Command::Connected).await.header("user-name"), None);
    stomp.say("SEND\ndestination:/topic/room\n\n1^").await;
    assert_eq!(stomp.refused().await.0.header("message"), Some("access_refused"));
}

// ST-20: what Spring and most examples send where nothing was configured.
#[tokio::test]
async fn where_there_are_no_tokens_guests_are_anybody() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    let mut stomp = Stomp::silent(broker.stomp[0]).await;
    stomp.log_in("1.2", "login:guest\npasscode:guest\n").await;
    stomp.ask("SEND\ndestination:/topic/room\nreceipt:1\n\n1^").await;
}

// ST-22
#[tokio::test]
async fn heart_beats_come_and_a_silent_client_is_sent_away() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP, "stomp.heart_beat=100ms"]);
    let (mut socket, _) = Stomp::web_socket(broker.address, "/stomp", "").await;
    let mut stream = Stomp::silent(broker.stomp[0]).await;
    for stomp in [&mut socket, &mut stream] {
        let connected = stomp.log_in("1.2", "heart-beat:300,100\n").await;
        assert_eq!(connected.header("heart-beat"), Some("100,100"));
    }
    for stomp in [&mut socket, &mut stream] {
        let (error, code) = stomp.refused().await;
        assert_eq!(error.header("message"), Some("Connection closed"));
        assert!(stomp.beats >= 2, "{}", stomp.beats);
        assert!(matches!(code, None | Some(4200)), "{code:?}");
    }
    // One that sends some goes on, whatever they are part of.
    let mut stream = Stomp::silent(broker.stomp[0]).await;
    stream.log_in("1.2", "heart-beat:100,0\n").await;
    let begun = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
    stream.say("SEND\ndestination:/topic/slow\nreceipt:1\n\n").await;
    while begun.elapsed() < std::time::Duration::from_secs(1) {
        ticks.tick().await;
        stream.say("x").await;
    }
    stream.ask("^").await;
}

// ST-20: over TLS, with the node's own certificate.
#[tokio::test]
async fn the_port_with_tls_speaks_the_same() {
    let data = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings = [
        format!("tls.certificate={}", certificate.display()),
        format!("tls.key={}", key.display()),
        "stomp.tls_listen=127.0.0.1:0".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let broker = Broker::start(data.path(), &settings);
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config =
        tokio_rustls::rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = tokio::net::TcpStream::connect(broker.stomp[0]).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let mut stomp = Stomp::over(stream);
    stomp.log_in("1.1", "").await;
    stomp.say("SUBSCRIBE\nid:a\ndestination:/topic/tls\n\n^").await;
    for n in 0..200 {
        stomp.say(&format!("SEND\ndestination:/topic/tls\n\n{n}^")).await;
    }
    for n in 0..200 {
        assert_eq!(stomp.message().await, n.to_string());
    }
    stomp.say("nonsense\n\n^").await;
    assert_eq!(stomp.refused().await.0.header("message"), Some("Bad command"));
}

/// What a topic holds.
async fn bodies(client: &mut Client, topic: &str) -> Vec<serde_json::Value> {
    let reply = client.ask("history", json!({ "topic": topic, "from": "earliest", "limit": 1000 })).await;
    let messages = reply["history"]["messages"].as_array().cloned().unwrap_or_default();
    messages.into_iter().map(|message| message["text"].clone()).collect()
}
