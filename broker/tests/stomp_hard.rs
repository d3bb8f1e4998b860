//! STOMP where things go wrong: frames that are none, clients that do not read, brokers that are killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use bongsu_protocol::stomp::Command;
use support::Broker;
use support::stomp::{Came, Stomp};

const TCP: &str = "stomp.listen=127.0.0.1:0";

// ST-5, ST-10 to ST-13
#[tokio::test]
async fn what_is_no_frame_ends_its_own_connection_only() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    let mut other = Stomp::connect(broker.stomp[0], "1.2").await;
    let long = "x".repeat(40_000);
    let many: String = (0..200).map(|n| format!("h{n}:v\n")).collect();
    for (bytes, message) in [
        (b"SEND\ndestination:/topic/a\ncontent-length:3\n\nfour\0".to_vec(), "Malformed frame"),
        (b"SEND\nnothing\n\n\0".to_vec(), "Malformed frame"),
        (b"SEND\na:\\t\n\n\0".to_vec(), "Malformed frame"),
        (b"SEND\na:\xff\xfe\n\n\0".to_vec(), "Malformed frame"),
        (b"SEND\na:b\0\n\n\0".to_vec(), "Malformed frame"),
        (format!("SEND\na:{long}\n\n\0").into_bytes(), "Frame too large"),
        (format!("SEND\n{many}\n\0").into_bytes(), "Frame too large"),
        (b"SEND\ncontent-length:18446744073709551616\n\n".to_vec(), "Frame too large"),
        ([b"SEND\n\n".to_vec(), vec![b'x'; (1 << 20) + 1]].concat(), "Frame too large"),
        (vec![0xff; 100], "Frame too large"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), "Bad command"),
        (b"MESSAGE\n\n\0".to_vec(), "Bad command"),
    ] {
        let mut stomp = Stomp::connect(broker.stomp[0], "1.2").await;
        // The broker may close before it has read all of it.
        stomp.send(&bytes).await;
        let (error, _) = stomp.refused().await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert_eq!(error.header("message"), Some(message), "{shown}");
    }
    // Heart-beats and NULs between frames are nothing.
    assert!(other.send(b"\n\r\n\0\0\n").await);
    other.ask("SEND\ndestination:/topic/a\nreceipt:1\n\nstill here^\n\n").await;
}

// ST-2
#[tokio::test]
async fn frames_may_be_cut_anywhere() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    let login = "CONNECT\naccept-version:1.2\nhost:/\n\n\0\n";
    let rest = "SUBSCRIBE\nid:a\r\ndestination:/topic/cut\n\n\0\r\nSEND\ndestination:/topic/cut\ncontent-length:5\n\na\0b\n\n\0\
                DISCONNECT\nreceipt:bye\n\n\0";
    let text = format!("{login}{rest}");
    for cut in 1..text.len() {
        let (mut socket, _) = Stomp::web_socket(broker.address, "/stomp", "").await;
        assert!(socket.send(&text.as_bytes()[..cut]).await);
        assert!(socket.send(&text.as_bytes()[cut..]).await);
        socket.hear_one(Command::Connected).await;
        // The message may be there before or after the goodbye is done.
        loop {
            match socket.hear().await {
                Came::Frame(frame) if frame.command == Command::Message => {
                    assert_eq!(&frame.body[..], b"a\0b\n\n", "{cut}");
                }
                Came::Frame(frame) if frame.command == Command::Receipt => break,
                other => panic!("{other:?} after a cut at {cut}"),
            }
        }
        socket.close().await;
    }
}

// ST-5
#[tokio::test]
async fn a_stranger_costs_little_and_is_sent_away() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[TCP]);
    let mut stomp = Stomp::silent(broker.stomp[0]).await;
    stomp.say(&format!("CONNECT\npasscode:{}\n\n^", "x".repeat(13_000))).await;
    assert_eq!(stomp.refused().await.0.header("message"), Some("Frame too large"));
    let mut stomp = Stomp::silent(broker.stomp[0]).await;
    stomp.send(&[b"SEND\n\n".to_vec(), vec![b'x'; 20_000]].concat()).await;
    assert_eq!(stomp.refused().await.0.header("message"), Some("Frame too large"));
    // Says nothing at all.
    let mut silent = Stomp::silent(broker.stomp[0]).await;
    let (error, _) = silent.refused().await;
    assert_eq!(&error.body[..], b"no CONNECT came in time\n");
}

// SP-5: 200 MB wait for a client that does not read. It costs what its outbound may, and gets all of it.
#[tokio::test]
async fn a_client_that_does_not_read_is_not_cut_off_and_costs_little() {
    const N_MESSAGES: usize = 1000;
    const BYTES: usize = 200_000;
    let data = tempfile::tempdir().unwrap();
    let settings = [TCP, "storage.synchronous=normal", "limits.connections=100"];
    let broker = Broker::start(data.path(), &settings);
    let mut slow = Stomp::connect(broker.stomp[0], "1.2").await;
    slow.ask("SUBSCRIBE\nid:a\ndestination:/topic/flood\nreceipt:1\n\n^").await;
    let mut writer = Stomp::connect(broker.stomp[0], "1.2").await;
    let before = broker.resident_kib();
    let padding = "x".repeat(BYTES);
    for n in 0..N_MESSAGES {
        let send = format!("SEND\ndestination:/topic/flood\nreceipt:{n}\n\n{n} {padding}^");
        writer.ask(&send).await;
    }
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 60_000, "{grown} KiB more for a client that does not read");
    for n in 0..N_MESSAGES {
        let message = slow.message().await;
        assert!(message.starts_with(&format!("{n} ")), "message {n} is {}", &message[..20]);
        assert_eq!(message.len(), format!("{n} ").len() + BYTES);
    }
    slow.ask("SEND\ndestination:/topic/alive\nreceipt:2\n\nyes^").await;
}

// ST-24
#[tokio::test]
async fn ten_thousand_subscriptions_of_one_client_each_get_their_own() {
    const N: usize = 10_000;
    let data = tempfile::tempdir().unwrap();
    let settings = [
        TCP,
        "limits.subscriptions_per_connection=10001",
        "limits.topics_per_connection=10001",
        "topics=[{filter=\"many/#\",kind=\"live\"}]",
    ];
    let broker = Broker::start(data.path(), &settings);
    let mut stomp = Stomp::connect(broker.stomp[0], "1.2").await;
    let mut subscribes = String::new();
    for n in 0..N {
        subscribes.push_str(&format!("SUBSCRIBE\nid:s{n}\ndestination:/topic/many/{n}\n\n^"));
    }
    stomp.say(&subscribes).await;
    stomp.ask("SUBSCRIBE\nid:last\ndestination:/queue/last\nreceipt:all\n\n^").await.clear();
    let mut other = Stomp::connect(broker.stomp[0], "1.2").await;
    for n in [0, 1, N / 2, N - 1] {
        other.say(&format!("SEND\ndestination:/topic/many/{n}\n\n{n}^")).await;
        let message = stomp.hear_one(Command::Message).await;
        assert_eq!(message.header("subscription"), Some(&*format!("s{n}")));
        assert_eq!(message.body, n.to_string().as_bytes());
    }
    stomp.say("SUBSCRIBE\nid:more\ndestination:/topic/more\n\n^").await;
    assert_eq!(stomp.refused().await.0.header("message"), Some("Too many subscriptions"));
}

// ST-23, ST-30: whatever has a receipt is in the log after a power cut, as far as a process can have one.
#[tokio::test]
async fn what_has_a_receipt_survives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), &[TCP]);
    let mut stomp = Stomp::connect(broker.stomp[0], "1.2").await;
    let mut confirmed = 0;
    let sends: String =
        (0..2000).map(|n| format!("SEND\ndestination:/topic/log\nreceipt:{n}\n\n{n}^")).collect();
    // In the middle of it the broker is killed.
    let bytes = sends.replace('^', "\0").into_bytes();
    for chunk in bytes.chunks(8 << 10) {
        if !stomp.send(chunk).await {
            break;
        }
        while confirmed < 300 {
            match stomp.hear().await {
                Came::Frame(frame) if frame.command == Command::Receipt => {
                    assert_eq!(frame.header("receipt-id"), Some(&*confirmed.to_string()));
                    confirmed += 1;
                }
                Came::End(_) => break,
                Came::Frame(other) => panic!("{other:?}"),
            }
            if confirmed % 100 == 0 {
                break;
            }
        }
        if confirmed == 300 {
            break;
        }
    }
    broker.kill();
    while let Came::Frame(frame) = stomp.hear().await {
        assert_eq!(frame.header("receipt-id"), Some(&*confirmed.to_string()));
        confirmed += 1;
    }
    let broker = Broker::start(data.path(), &[TCP]);
    let mut reader = Stomp::connect(broker.stomp[0], "1.2").await;
    reader.say("SUBSCRIBE\nid:a\ndestination:/topic/log\noffset:first\n\n^").await;
    for n in 0..confirmed {
        assert_eq!(reader.message().await, n.to_string());
    }
    assert!(confirmed >= 300);
}

// ST-27: what was acknowledged with a receipt does not come again, and all else does.
#[tokio::test]
async fn after_a_kill_nothing_acknowledged_comes_again_and_nothing_else_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), &[TCP]);
    let mut stomp = Stomp::connect(broker.stomp[0], "1.2").await;
    for n in 0..60 {
        stomp.ask(&format!("SEND\ndestination:/queue/work\nreceipt:{n}\n\n{n}^")).await;
    }
    stomp
        .say("SUBSCRIBE\nid:a\ndestination:/queue/work\nack:client-individual\nprefetch-count:40\n\n^")
        .await;
    let mut acknowledged = Vec::new();
    let mut held = Vec::new();
    for n in 0..40 {
        let message = stomp.hear_one(Command::Message).await;
        let body = String::from_utf8(message.body.to_vec()).unwrap();
        let ack = message.header("ack").unwrap().to_owned();
        if n % 2 == 0 { acknowledged.push((body, ack)) } else { held.push(body) }
    }
    for (_, ack) in &acknowledged {
        // With every receipt there is room for another message.
        stomp.ask(&format!("ACK\nid:{ack}\nreceipt:{ack}\n\n^")).await;
    }
    broker.kill();
    let broker = Broker::start(data.path(), &[TCP]);
    let mut stomp = Stomp::connect(broker.stomp[0], "1.2").await;
    stomp.say("SUBSCRIBE\nid:a\ndestination:/queue/work\nack:client-individual\n\n^").await;
    let mut came = Vec::new();
    for _ in 0..40 {
        came.push(stomp.message().await);
    }
    came.sort_by_key(|body| body.parse::<u32>().unwrap());
    let done: Vec<&str> = acknowledged.iter().map(|(body, _)| body.as_str()).collect();
    let expected: Vec<String> =
        (0..60).map(|n| n.to_string()).filter(|body| !done.contains(&&**body)).collect();
    assert_eq!(came, expected);
    assert!(held.iter().all(|body| came.contains(body)));
}
