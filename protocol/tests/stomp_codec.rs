//! STOMP frames as bytes, and destinations as topics. Each test names the requirement of `contracts/stomp.md` that it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use bongsu_protocol::limits::{
    PAYLOAD_BYTES_MAX, STOMP_HEADERS_MAX, STOMP_LINE_BYTES_MAX, STOMP_LOGIN_BYTES_MAX,
};
use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::CloseReason;
use bongsu_protocol::stomp::destination::{
    Dialect, Dots, PlainNames, Source, Speaker, Vocabulary, own_filters, render, reply_topic, source, target,
};
use bongsu_protocol::stomp::{
    Command, Decoder, Frame, MessageHead, Refusal, TailKind, Version, encode_frame, encode_message_head,
    encode_message_tail, encode_refusal,
};
use bongsu_protocol::topic::Topic;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

fn decoder(version: Version) -> Decoder {
    let mut decoder = Decoder::new();
    decoder.use_version(version);
    decoder
}

fn decode(version: Version, bytes: &[u8]) -> Result<Vec<Frame>, Refusal> {
    let mut decoder = decoder(version);
    decoder.push(bytes);
    drain(&mut decoder)
}

fn drain(decoder: &mut Decoder) -> Result<Vec<Frame>, Refusal> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn one(version: Version, bytes: &[u8]) -> Frame {
    let mut frames = decode(version, bytes).unwrap();
    assert_eq!(frames.len(), 1, "{:?}", String::from_utf8_lossy(bytes));
    frames.remove(0)
}

fn refused(version: Version, bytes: &[u8]) -> Refusal {
    decode(version, bytes).expect_err(&String::from_utf8_lossy(bytes))
}

// ST-1
#[test]
fn the_highest_offered_sub_protocol_is_chosen() {
    let choose = |offered: &[&str]| Version::choose_sub_protocol(offered.iter().copied());
    assert_eq!(choose(&["v10.stomp", "v12.stomp", "v11.stomp"]), Some("v12.stomp"));
    assert_eq!(choose(&["v10.stomp", "mqtt", " v11.stomp"]), Some("v11.stomp"));
    assert_eq!(choose(&[]), None);
    assert_eq!(choose(&["mqtt"]), None, "accepted without a header");
}

// ST-20
#[test]
fn the_highest_common_version_is_chosen_and_none_named_means_1_0() {
    assert_eq!(Version::negotiate(None), Some(Version::V10));
    assert_eq!(Version::negotiate(Some("1.0,1.1,1.2")), Some(Version::V12));
    assert_eq!(Version::negotiate(Some("1.1, 1.0,2.1")), Some(Version::V11));
    assert_eq!(Version::negotiate(Some("1.3,2.0")), None);
    assert_eq!(Version::negotiate(Some("")), None);
}

// ST-2, ST-4
#[test]
fn frames_come_out_however_the_stream_is_cut() {
    let stream = b"\n\r\n\0SEND\r\ndestination:/topic/a\r\ncontent-length:3\r\n\r\nx\0y\0\n\n\r\n\0\
        SEND\ndestination:/topic/b\n\nno length\0\nDISCONNECT\n\n\0";
    let whole = decode(Version::V12, stream).unwrap();
    assert_eq!(whole.len(), 3);
    assert_eq!(&whole[0].body[..], b"x\0y");
    assert_eq!(&whole[1].body[..], b"no length");
    for size in 1..stream.len() {
        let mut decoder = decoder(Version::V12);
        let mut frames = Vec::new();
        for piece in stream.chunks(size) {
            decoder.push(piece);
            frames.extend(drain(&mut decoder).unwrap());
        }
        assert_eq!(frames, whole, "in pieces of {size}");
        assert_eq!(decoder.buffered_bytes(), 0);
    }
}

// ST-10
#[test]
fn of_a_repeated_header_the_first_counts_and_only_1_0_trims() {
    let bytes = b"SEND\ndestination: /topic/a \nfoo:1\nfoo:2\n\n\0";
    for (version, expected) in
        [(Version::V10, "/topic/a"), (Version::V11, " /topic/a "), (Version::V12, " /topic/a ")]
    {
        let frame = one(version, bytes);
        assert_eq!(frame.header("destination"), Some(expected), "{version:?}");
        assert_eq!(frame.header("foo"), Some("1"));
        assert_eq!(frame.headers.len(), 2);
    }
}

// ST-10
#[test]
fn commands_are_case_sensitive_and_unknown_ones_are_named() {
    let refusal = refused(Version::V12, b"send\ndestination:/topic/a\nreceipt:r\n\n\0");
    assert_eq!(refusal.message, "Bad command");
    assert_eq!(refusal.detail, "Could not interpret command \"send\"\n");
    assert_eq!(refusal.receipt.as_deref(), Some("r"));
    assert_eq!(refused(Version::V12, b"WIBBLE\n\n\0").detail, "Could not interpret command \"WIBBLE\"\n");
}

// ST-11
#[test]
fn escapes_are_those_of_the_version() {
    let bytes = b"SEND\nk\\cey:a\\nb\\\\c\\rd\n\n\0";
    assert_eq!(one(Version::V12, bytes).headers, [("k:ey".to_owned(), "a\nb\\c\rd".to_owned())]);
    assert_eq!(one(Version::V11, bytes).header("k:ey"), Some("a\nb\\c\rd"), "stomp.py and Spring escape CR");
    assert_eq!(one(Version::V10, bytes).headers, [("k\\cey".to_owned(), "a\\nb\\\\c\\rd".to_owned())]);
    for version in [Version::V11, Version::V12] {
        for undefined in [&b"SEND\na:\\t\n\n\0"[..], b"SEND\na:b\\\n\n\0"] {
            assert_eq!(refused(version, undefined).message, "Malformed frame");
        }
    }
}

// ST-11
#[test]
fn the_handshake_is_never_escaped() {
    for version in [Version::V11, Version::V12] {
        assert_eq!(one(version, b"CONNECT\npasscode:a\\b\\n\n\n\0").header("passcode"), Some("a\\b\\n"));
        let mut out = BytesMut::new();
        encode_frame(version, Command::Connected, &[("server", "a:b\\c\nd:e")], b"", &mut out);
        assert_eq!(&out[..], b"CONNECTED\nserver:a:b\\c d:e\n\n\0", "no value becomes a header");
    }
    let mut before = Decoder::new();
    before.push(b"STOMP\npasscode:a\\b\n\n\0");
    assert_eq!(before.next_frame().unwrap().unwrap().header("passcode"), Some("a\\b"));
}

// ST-11: stompjs escapes nothing in 1.1.
#[test]
fn a_colon_in_a_value_needs_no_escape() {
    for version in Version::ALL {
        assert_eq!(one(version, b"SEND\nat:12:30:59\n\n\0").header("at"), Some("12:30:59"));
    }
}

// ST-12
#[test]
fn content_length_counts_octets_and_nonsense_counts_as_absent() {
    for (length, body, expected) in [
        ("5", &b"a\0b\0c\0"[..], &b"a\0b\0c"[..]),
        ("0", b"\0", b""),
        ("x", b"abc\0", b"abc"),
        ("-1", b"abc\0", b"abc"),
        ("", b"abc\0", b"abc"),
        ("+3", b"abc\0", b"abc"),
        ("2", "é\0".as_bytes(), "é".as_bytes()),
    ] {
        let bytes = [format!("SEND\ncontent-length:{length}\n\n").as_bytes(), body].concat();
        assert_eq!(&one(Version::V12, &bytes).body[..], expected, "{length}");
    }
    let refusal = refused(Version::V12, b"SEND\nreceipt:7\ncontent-length:2\n\nabc\0");
    assert_eq!((refusal.message, refusal.receipt.as_deref()), ("Malformed frame", Some("7")));
}

// ST-13
#[test]
fn only_send_carries_a_body() {
    for command in Command::ALL {
        let bytes = format!("{}\nreceipt:q\n\nbody\0", command.as_str());
        match decode(Version::V12, bytes.as_bytes()) {
            Ok(frames) => assert!(command.has_body() && &frames[0].body[..] == b"body", "{command:?}"),
            Err(refusal) => {
                assert!(!command.has_body(), "{command:?}");
                assert_eq!((refusal.message, refusal.receipt.as_deref()), ("Unexpected body", Some("q")));
            }
        }
    }
    for length in [0, 4] {
        let acknowledged = format!("ACK\nid:t\ncontent-length:{length}\n\n\0");
        assert!(decode(Version::V12, acknowledged.as_bytes()).is_ok(), "the headers of a MESSAGE");
    }
}

// ST-5
#[test]
fn every_bound_refuses() {
    let too_large = |version: Option<Version>, bytes: &[u8]| {
        let mut decoder = Decoder::new();
        if let Some(version) = version {
            decoder.use_version(version);
        }
        decoder.push(bytes);
        let refusal = drain(&mut decoder).unwrap_err();
        assert_eq!((refusal.message, refusal.reason), ("Frame too large", CloseReason::TooLarge));
        decoder.push(b"SEND\n\n\0");
        assert_eq!(decoder.next_frame(), Ok(None), "nothing comes after a refusal");
        assert_eq!(decoder.buffered_bytes(), 0);
    };
    let v12 = Some(Version::V12);
    too_large(v12, &[b'A'; 100]);
    too_large(v12, format!("SEND\na:{}\n", "x".repeat(STOMP_LINE_BYTES_MAX)).as_bytes());
    too_large(v12, format!("SEND\na:{}", "x".repeat(STOMP_LINE_BYTES_MAX)).as_bytes());
    let many: String = (0..=STOMP_HEADERS_MAX).map(|n| format!("h{n}:\n")).collect();
    too_large(v12, format!("SEND\n{many}").as_bytes());
    let same = "h:\n".repeat(STOMP_HEADERS_MAX + 1);
    too_large(v12, format!("SEND\n{same}").as_bytes());
    too_large(v12, format!("SEND\ncontent-length:{}\n\n", PAYLOAD_BYTES_MAX + 1).as_bytes());
    too_large(v12, b"SEND\ncontent-length:99999999999999999999999999\n\n");
    too_large(v12, &[b"SEND\n\n", &vec![b'x'; PAYLOAD_BYTES_MAX + 1][..]].concat());
    let login = format!("CONNECT\na:{}\nb:x\n", "x".repeat(STOMP_LOGIN_BYTES_MAX - 4));
    too_large(None, login.as_bytes());
    assert!(decode(Version::V12, login.as_bytes()).is_ok(), "once logged in, more fits");
    too_large(None, format!("SEND\ncontent-length:{}\n\n", STOMP_LOGIN_BYTES_MAX + 1).as_bytes());
    too_large(None, &[b"SEND\n\n", &vec![b'x'; STOMP_LOGIN_BYTES_MAX + 1][..]].concat());
    let whole = [b"SEND\n\n", &vec![b'x'; PAYLOAD_BYTES_MAX][..], b"\0"].concat();
    assert_eq!(one(Version::V12, &whole).body.len(), PAYLOAD_BYTES_MAX);
}

// ST-5, ST-6
#[test]
fn what_is_no_frame_is_refused_with_its_close_reason() {
    for (bytes, reason) in [
        (&b"SEND\nno colon\n\n\0"[..], CloseReason::InvalidPayload),
        (b"SEND\n:value\n\n\0", CloseReason::InvalidPayload),
        (b"SEND\na:b\0", CloseReason::InvalidPayload),
        (b"SEND\0", CloseReason::InvalidPayload),
        (b"SEND\na:\xff\n\n\0", CloseReason::InvalidPayload),
        (b"\xff\n", CloseReason::InvalidPayload),
        (b"GET / HTTP/1.1\r\n\r\n", CloseReason::ProtocolError),
    ] {
        assert_eq!(refused(Version::V12, bytes).reason, reason, "{:?}", String::from_utf8_lossy(bytes));
    }
}

// ST-31
#[test]
fn an_error_names_the_receipt_and_carries_its_detail() {
    let mut out = BytesMut::new();
    let refusal = Refusal::new("Missing destination", "SEND must include a 'destination' header");
    encode_refusal(Version::V12, &refusal.about(Some("r:1")), &mut out);
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "ERROR\nmessage:Missing destination\ncontent-type:text/plain\nreceipt-id:r\\c1\ncontent-length:41\n\n\
         SEND must include a 'destination' header\n\0"
    );
    // ST-20
    out.clear();
    let mismatch = Refusal::new("Version mismatch", "Supported versions are 1.0,1.1,1.2");
    encode_refusal(Version::V10, &mismatch, &mut out);
    let frame = one(Version::V10, &out);
    assert_eq!(frame.header("version"), Some("1.0,1.1,1.2"));
    assert_eq!(&frame.body[..], b"Supported versions are 1.0,1.1,1.2\n");
}

fn delivery() -> Delivery {
    let headers = [("correlation-id", "7"), ("x-a:b", "c:d\\e"), ("größe", "ü"), ("offset", "fake")];
    Delivery {
        topic: Topic::parse("chat/room/42").unwrap(),
        position: Some(Position::new(3, 17)),
        time: Time(1_700_000_000_000),
        publisher: "ann".to_owned(),
        message: Message {
            payload: Bytes::from_static(b"hi\0there"),
            content_type: "text/plain".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            id: "m1".to_owned(),
        },
        erased: false,
    }
}

fn tail(version: Version, dialect: Dialect) -> BytesMut {
    let mut out = BytesMut::new();
    encode_message_tail(TailKind { version, dialect }, &delivery(), &mut out);
    out
}

// ST-26, ST-14, ST-12
#[test]
fn a_message_is_a_head_of_its_subscription_before_a_shared_tail() {
    for version in Version::ALL {
        let mut first = BytesMut::new();
        let head = MessageHead {
            subscription: Some("sub:0"),
            message_id: "s1@1",
            is_acked: version == Version::V12,
            redelivered: Some(false),
            lost: Some(4),
            reset: true,
        };
        encode_message_head(version, &head, &mut first);
        let tail = tail(version, Dialect::Slash);
        assert!(tail.ends_with(b"\n\nhi\0there\0"));
        let mut bytes = first.to_vec();
        bytes.extend_from_slice(&tail);
        let frame = one(version, &bytes);
        assert_eq!(frame.command, Command::Message);
        for (name, value) in [
            ("subscription", Some("sub:0")),
            ("message-id", Some("s1@1")),
            ("ack", (version == Version::V12).then_some("s1@1")),
            ("redelivered", Some("false")),
            ("lost", Some("4")),
            ("reset", Some("true")),
            ("destination", Some("/topic/chat/room/42")),
            ("content-type", Some("text/plain")),
            ("content-length", Some("8")),
            ("epoch", Some("3")),
            ("offset", Some("17")),
            ("timestamp", Some("1700000000000")),
            ("publisher", Some("ann")),
            ("idempotency-key", Some("m1")),
            ("correlation-id", Some("7")),
            ("größe", Some("ü")),
        ] {
            assert_eq!(frame.header(name), value, "{name} in {version:?}");
        }
        let escaped = if version == Version::V10 { ("x-a b", "c:d\\e") } else { ("x-a:b", "c:d\\e") };
        assert_eq!(frame.header(escaped.0), Some(escaped.1));
        assert_eq!(&frame.body[..], b"hi\0there");
    }
    assert!(tail(Version::V12, Dialect::Dot).starts_with(b"destination:/topic/chat.room.42\n"));
    let kinds = Version::ALL.into_iter().flat_map(|version| Dialect::ALL.map(|dialect| (version, dialect)));
    let indices: Vec<_> = kinds.map(|(version, dialect)| TailKind { version, dialect }.index()).collect();
    assert_eq!(indices, (0..TailKind::COUNT).collect::<Vec<_>>());
}

const ANN: Speaker<'_> = Speaker { subject: "ann/1", session: "s1" };

fn vocabulary() -> Vocabulary {
    Vocabulary::default()
}

// The destinations of contracts/stomp.md, and SP-1's.
#[test]
fn destinations_are_topics() {
    for (text, topic, rendered) in [
        ("/topic/chat/room/42", "chat/room/42", "/topic/chat/room/42"),
        ("/topic/chat.room.42", "chat/room/42", "/topic/chat/room/42"),
        ("/topic/v1.2/x", "v1.2/x", "/topic/v1.2/x"),
        ("/queue/orders.eu", "queue/orders.eu", "/queue/orders.eu"),
        ("/amq/queue/orders", "queue/orders", "/queue/orders"),
        ("/queue/new-users", "queue/new-users", "/queue/new-users"),
        ("/queue/pos-user8f3c21d7", "user-queue/pos-user8f3c21d7", "/queue/pos-user8f3c21d7"),
        ("/exchange/amq.topic/a.b", "a/b", "/topic/a/b"),
        ("/exchange/amq.fanout", "exchange/amq.fanout", "/exchange/amq.fanout"),
        ("/exchange/amq.fanout/k", "exchange/amq.fanout", "/exchange/amq.fanout"),
        ("/exchange/amq.direct/k.l", "exchange/amq.direct/k.l", "/exchange/amq.direct/k.l"),
        ("/exchange/mine/a.b", "exchange/mine/a/b", "/exchange/mine/a.b"),
        ("/user/bob/queue/x", "user/bob/queue/x", "/user/queue/x"),
        ("/user/ann%2F1/queue/x", "user/ann%2F1/queue/x", "/user/queue/x"),
        ("/reply-queue/s2/x", "reply/s2/x", "/reply-queue/s2/x"),
        ("/app/chat.addUser", "app/chat.addUser", "/app/chat.addUser"),
    ] {
        let found = target(text, vocabulary()).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        assert_eq!(found.as_str(), topic, "{text}");
        assert_eq!(render(&found, Dialect::Slash), rendered, "{text}");
    }
    assert_eq!(render(&Topic::parse("a/b").unwrap(), Dialect::Dot), "/topic/a.b");
    assert_eq!(render(&Topic::parse("a.b/c").unwrap(), Dialect::Dot), "/topic/a.b/c", "dots would mislead");
    let literal = Vocabulary { dots: Dots::Literal, ..vocabulary() };
    assert_eq!(target("/topic/a.txt", literal).unwrap().as_str(), "a.txt");
    let accept = Vocabulary { plain_names: PlainNames::Accept, ..vocabulary() };
    assert_eq!(target("/chat/room", accept).unwrap().as_str(), "chat/room");
    assert_eq!(target("chat/room", accept).unwrap().as_str(), "chat/room");
}

#[test]
fn wildcards_of_every_dialect_are_filters() {
    for (text, expected) in [
        ("/topic/a.*.c", &["a/+/c"][..]),
        ("/topic/a.#", &["a/#"]),
        ("/topic/#", &["#"]),
        ("/topic/*", &["+"]),
        ("/topic/a/*/c", &["a/+/c"]),
        ("/topic/a/**", &["a/#"]),
        ("/topic/**", &["#"]),
        ("/topic/a/+/#", &["a/+/#"]),
        ("/topic/a/>", &["a/+/#"]),
        ("/topic/a.>", &["a/+/#"]),
        ("/exchange/amq.topic/a.*", &["a/+"]),
        ("/exchange/mine/#", &["exchange/mine/#"]),
        ("/app/**", &["app/#"]),
        ("/user/queue/x", &["user/ann%2F1/queue/x", "user/s1/queue/x"]),
        ("/queue/pos-user8f3c21d7", &["user-queue/pos-user8f3c21d7"]),
    ] {
        let Ok(Source::Topics { filters, .. }) = source(text, vocabulary(), ANN) else { panic!("{text}") };
        let filters: Vec<_> = filters.iter().map(|filter| filter.as_str()).collect();
        assert_eq!(filters, expected, "{text}");
    }
    let queue = source("/queue/orders", vocabulary(), ANN).unwrap();
    assert_eq!(queue, Source::Queue(Topic::parse("queue/orders").unwrap()));
    let dialect = |text| match source(text, vocabulary(), ANN) {
        Ok(Source::Topics { dialect, .. }) => dialect,
        other => panic!("{other:?}"),
    };
    assert_eq!((dialect("/topic/a.b"), dialect("/topic/a/b")), (Dialect::Dot, Dialect::Slash));
}

// The texts that RabbitMQ's tests compare.
#[test]
fn wrong_destinations_are_refused_in_the_words_of_rabbitmq() {
    let check = |text: &str, message: &str, detail: &str| {
        for refusal in
            [target(text, vocabulary()).expect_err(text), source(text, vocabulary(), ANN).expect_err(text)]
        {
            assert_eq!((refusal.message, refusal.detail.as_str()), (message, detail), "{text}");
        }
    };
    check("/queue/bah/baz", "Invalid destination", "'/bah/baz' is not a valid queue destination\n");
    check("/queue", "Invalid destination", "'' is not a valid queue destination\n");
    check("/queue/", "Invalid destination", "'/' is not a valid queue destination\n");
    check("/queue/a*", "Invalid destination", "'/a*' is not a valid queue destination\n");
    check("/topic", "Invalid destination", "'' is not a valid topic destination\n");
    check("/topic/a..b", "Invalid destination", "'/a..b' is not a valid topic destination\n");
    check("/topic/a/**/b", "Invalid destination", "'/a/**/b' is not a valid topic destination\n");
    check("/exchange/a/b/c", "Invalid destination", "'/a/b/c' is not a valid exchange destination\n");
    let unknown = target("/something/interesting", vocabulary()).unwrap_err();
    assert_eq!(unknown.message, "Unknown destination");
    assert!(unknown.detail.starts_with("'/something/interesting' is not a valid destination.\nValid"));
    assert_eq!(target("/topic/a.*", vocabulary()).unwrap_err().message, "Invalid destination");
    assert_eq!(target("/temp-queue/x", vocabulary()).unwrap_err().message, "Invalid destination");
    assert_eq!(source("/reply-queue/s2/x", vocabulary(), ANN).unwrap_err().message, "Invalid destination");
    assert_eq!(source("/topic/a/b*", vocabulary(), ANN).unwrap_err().message, "Invalid destination");
}

#[test]
fn a_name_cannot_reach_into_the_destinations_of_another() {
    for name in ["a/b", "+", "#", "a%2Fb", "*", ">"] {
        let speaker = Speaker { subject: name, session: "s1" };
        let Ok(Source::Topics { filters, .. }) = source("/user/queue/x", vocabulary(), speaker) else {
            panic!("{name}")
        };
        for filter in &filters {
            assert_eq!(filter.as_topic().map(|topic| topic.levels().count()), Some(4), "{filter}");
            assert!(own_filters(speaker).iter().any(|own| own.covers(filter)), "{filter}");
        }
    }
    assert_eq!(reply_topic("/temp-queue/x", ANN).unwrap().as_str(), "reply/s1/x");
    assert_eq!(reply_topic("/temp-queue/x/y", ANN), None);
    assert_eq!(reply_topic("/queue/x", ANN), None);
}

/// Text as a version can say it in names and values.
fn texts(version: Version) -> BoxedStrategy<String> {
    match version {
        Version::V10 => "[^\\x00-\\x20:\\s]{1,9}".boxed(),
        Version::V11 => "[^\\x00\\r]{1,9}".boxed(),
        Version::V12 => "[^\\x00]{1,9}".boxed(),
    }
}

fn frames() -> impl Strategy<Value = (Version, Vec<Frame>)> {
    prop::sample::select(Version::ALL.to_vec()).prop_flat_map(|version| {
        let commands = Command::ALL.into_iter().filter(|command| command.is_escaped()).collect::<Vec<_>>();
        let header = (texts(version), texts(version));
        let frame = (
            prop::sample::select(commands),
            prop::collection::vec(header, 0..5),
            prop::collection::vec(any::<u8>(), 0..40),
        );
        let frame = frame.prop_map(|(command, headers, body)| {
            let mut kept: Vec<(String, String)> = Vec::new();
            for (name, value) in headers {
                if name != "content-length" && !kept.iter().any(|(other, _)| *other == name) {
                    kept.push((name, value));
                }
            }
            let body = if command.has_body() { Bytes::from(body) } else { Bytes::new() };
            Frame { command, headers: kept, body }
        });
        (Just(version), prop::collection::vec(frame, 1..5))
    })
}

fn encoded(version: Version, frames: &[Frame]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for frame in frames {
        let headers: Vec<_> = frame.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        encode_frame(version, frame.command, &headers, &frame.body, &mut out);
        out.extend_from_slice(b"\n");
    }
    out.to_vec()
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_pieces((version, frames) in frames(), cuts in prop::collection::vec(1_usize..30, 1..20)) {
        let bytes = encoded(version, &frames);
        let mut decoder = decoder(version);
        let mut read = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            decoder.push(piece);
            read.extend(drain(&mut decoder).unwrap());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        for frame in &mut read {
            frame.headers.retain(|(name, _)| name != "content-length");
        }
        prop_assert_eq!(read, frames);
        prop_assert_eq!(decoder.buffered_bytes(), 0);
    }

    #[test]
    fn any_bytes_give_frames_or_a_refusal_and_their_pieces_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..9) {
        for version in Version::ALL {
            let whole = decode(version, &bytes);
            let mut decoder = decoder(version);
            let mut pieces = Ok(Vec::new());
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                if let Ok(frames) = &mut pieces {
                    match drain(&mut decoder) {
                        Ok(more) => frames.extend(more),
                        Err(refusal) => pieces = Err(refusal),
                    }
                }
            }
            if let (Ok(whole), Ok(pieces)) = (&whole, &pieces) {
                prop_assert_eq!(whole, pieces);
            }
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        }
    }
}
