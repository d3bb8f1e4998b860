//! One client's conversation in STOMP. Each test names the requirement of `contracts/stomp.md` that it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod chat;
mod queues;
mod workers;

use std::time::Duration;

use bongsu_protocol::command::{HistoryRange, RequestId, Start};
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use bongsu_protocol::session::{self, Grants};
use bongsu_protocol::stomp::conversation::Effect;
use bongsu_protocol::stomp::{Command, Version};
use proptest::prelude::*;

use chat::{Chat, delivery, filters};

// ST-20
#[test]
fn a_session_opens_with_the_highest_version_and_without_a_host() {
    for (accept, version) in [("1.0,1.1,1.2", "1.2"), ("1.1,1.0", "1.1"), ("1.0", "1.0")] {
        let mut chat = Chat::new();
        chat.say(&format!("CONNECT\naccept-version:{accept}\n\n^"));
        let credentials = chat.credentials();
        assert_eq!((credentials.host, credentials.login, credentials.token), (None, None, None));
        chat.conversation
            .verified(Ok(Some(Grants { subject: "ann:1".into(), ..Grants::everything() }.into())));
        let connected = chat.hear_one(Command::Connected);
        assert_eq!(connected.header("version"), Some(version));
        // ST-21
        assert_eq!(connected.header("session"), Some("s1"));
        assert_eq!(connected.header("server"), Some("bongsu/1"));
        assert_eq!(connected.header("heart-beat"), Some("10000,20000"));
        assert_eq!(connected.header("user-name"), Some("ann:1"));
    }
}

// ST-20
#[test]
fn credentials_are_found_wherever_applications_put_them() {
    for (header, expected) in
        [("Authorization:Bearer abc", "abc"), ("authorization:bearer abc", "abc"), ("token:x", "x")]
    {
        let mut chat = Chat::new();
        chat.say(&format!(
            "STOMP\naccept-version:1.2\nhost:tenant\nlogin:ann\npasscode:pw\\n\n{header}\n\n^"
        ));
        let credentials = chat.credentials();
        assert_eq!(credentials.token.unwrap().0, expected);
        assert_eq!(credentials.host.as_deref(), Some("tenant"));
        assert_eq!(
            (credentials.login.as_deref(), credentials.passcode.unwrap().0.as_str()),
            (Some("ann"), "pw\\n")
        );
    }
}

// ST-20
#[test]
fn versions_that_nobody_knows_are_answered_with_those_there_are() {
    let mut chat = Chat::new();
    chat.say("CONNECT\naccept-version:2.0\n\n^");
    let error = chat.refused("Version mismatch", CloseReason::ProtocolError);
    assert_eq!(error.header("version"), Some("1.0,1.1,1.2"));
    assert_eq!(&error.body[..], b"Supported versions are 1.0,1.1,1.2\n");
}

// ST-20
#[test]
fn another_first_frame_and_a_second_connect_are_refused() {
    let mut chat = Chat::new();
    chat.say("SEND\ndestination:/topic/a\nreceipt:9\n\n^");
    let error = chat.refused("Illegal command", CloseReason::ProtocolError);
    assert_eq!(error.header("receipt-id"), Some("9"));
    let mut chat = Chat::open("1.2");
    chat.say("CONNECT\naccept-version:1.2\n\n^");
    chat.refused("Bad CONNECT", CloseReason::ProtocolError);
}

// ST-20
#[test]
fn a_client_that_is_not_who_it_says_is_refused() {
    let mut chat = Chat::new();
    chat.say("CONNECT\nlogin:ann\n\n^");
    chat.credentials();
    chat.conversation.verified(Err(Error::new(ErrorCode::Unauthenticated, "Access refused for user 'ann'")));
    let error = chat.refused("Bad CONNECT", CloseReason::Unauthenticated);
    assert_eq!(&error.body[..], b"Access refused for user 'ann'\n");
}

// ST-22
#[test]
fn heart_beats_are_the_slower_of_both_sides() {
    let beats = |header: &str| {
        let mut chat = Chat::new();
        chat.say(&format!("CONNECT\naccept-version:1.2\n{header}\n\n^"));
        chat.effects().into_iter().find_map(|effect| match effect {
            Effect::Beat { send_after, dead_after } => {
                Some((send_after.map(|d| d.as_millis()), dead_after.map(|d| d.as_millis())))
            }
            _ => None,
        })
    };
    assert_eq!(beats("heart-beat:30000,40000"), Some((Some(36_000), Some(60_000))));
    assert_eq!(beats("heart-beat:1000,1000"), Some((Some(9000), Some(40_000))));
    assert_eq!(beats("heart-beat:0,1000"), Some((Some(9000), None)));
    assert_eq!(beats("heart-beat:1000,0"), Some((None, Some(40_000))));
    for none in ["heart-beat:0,0", "x:y", "heart-beat:a,b", "heart-beat:5"] {
        assert_eq!(beats(none), None, "{none}");
    }
}

// ST-23
#[test]
fn a_receipt_comes_when_the_message_is_kept_and_after_those_before_it() {
    let mut chat = Chat::open("1.2");
    chat.say("SEND\ndestination:/topic/a\n\n1^SEND\ndestination:/topic/b\nreceipt:two\n\n2^");
    let ids = chat.publishes();
    assert_eq!(ids.len(), 2);
    chat.keep(ids[1]);
    assert_eq!(chat.hear(), [], "the message before it is not kept yet");
    chat.keep(ids[0]);
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("two"));
}

// ST-23, ST-31
#[test]
fn a_message_that_cannot_be_kept_is_an_error() {
    let mut chat = Chat::open("1.2");
    chat.say("SEND\ndestination:/topic/a\nreceipt:r1\n\n1^");
    let id = chat.publishes()[0];
    let error = Error::new(ErrorCode::Unavailable, "the store does not answer");
    chat.conversation.session_mut().published(id, 0, Err(error));
    let error = chat.refused("Unavailable", CloseReason::Overloaded);
    assert_eq!(error.header("receipt-id"), Some("r1"));
    assert_eq!(error.header("content-type"), Some("text/plain"));
    assert_eq!(&error.body[..], b"the store does not answer\n");
}

// ST-14
#[test]
fn headers_of_a_message_pass_but_for_those_of_the_protocol() {
    let mut chat = Chat::open("1.2");
    chat.say(
        "SEND\ndestination:/topic/a\ncontent-type:text/plain\ncontent-length:2\nreceipt:r\ncorrelation-id:7\n\
         x-größe:ü\\c\nidempotency-key:k\nreply-to:/queue/x\n\nhi^",
    );
    let message = chat.published_messages().remove(0).message;
    let headers: Vec<_> = message.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(headers, [("correlation-id", "7"), ("x-größe", "ü:"), ("reply-to", "/queue/x")]);
    assert_eq!(
        (message.content_type.as_str(), message.id.as_str(), &message.payload[..]),
        ("text/plain", "k", &b"hi"[..])
    );
}

// ST-14, ST-23
#[test]
fn a_send_that_makes_no_sense_is_refused_in_the_words_of_rabbitmq() {
    for (frame, message, detail) in [
        ("SEND\n\nx^", "Missing destination", "SEND must include a 'destination' header\n"),
        (
            "SEND\ndestination:/queue/a/b\n\nx^",
            "Invalid destination",
            "'/a/b' is not a valid queue destination\n",
        ),
        (
            "SEND\ndestination:/topic/a\nmessage-id:1\n\nx^",
            "Invalid header",
            "'message-id' is not allowed on 'SEND'.\n",
        ),
        (
            "SEND\ndestination:/topic/a\ntransaction:t\n\nx^",
            "Bad transaction",
            "Invalid transaction identifier: \"t\"\n",
        ),
        ("MESSAGE\nmessage-id:1\n\nx^", "Bad command", "Could not interpret command \"MESSAGE\"\n"),
        ("SEND\ndestination:/topic/a\nx:a\\nb\n\nx^", "Invalid message", ""),
        ("SEND\ndestination:/topic/$sys/x\n\nx^", "access_refused", ""),
    ] {
        let mut chat = Chat::open("1.2");
        chat.say(frame);
        let reason =
            if message == "access_refused" { CloseReason::Forbidden } else { CloseReason::ProtocolError };
        let error = chat.refused(message, reason);
        assert!(detail.is_empty() || error.body == detail, "{error:?}");
    }
}

// Destinations: replies.
#[test]
fn a_temporary_queue_becomes_an_address_that_the_sender_reads() {
    let mut chat = Chat::open("1.2");
    chat.say("SEND\ndestination:/queue/rpc\nreply-to:/temp-queue/mine\n\n?^");
    let effects = chat.effects();
    let Effect::Session(session::Effect::Watch { filter }) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(filter.as_str(), "reply/s1/mine", "read before anybody can answer");
    let Effect::Session(session::Effect::Publish { messages, .. }) = &effects[1] else {
        panic!("{effects:?}")
    };
    assert_eq!(messages[0].1.message.headers, [("reply-to".to_owned(), "/reply-queue/s1/mine".to_owned())]);
    chat.make_live("reply/s1/mine");
    chat.offer(&delivery("reply/s1/mine", 1));
    let message = chat.hear_one(Command::Message);
    assert_eq!(message.header("subscription"), Some("/temp-queue/mine"));
    assert_eq!(message.header("destination"), Some("/reply-queue/s1/mine"));
    chat.say("SEND\ndestination:/queue/rpc\nreply-to:/temp-queue/mine\n\n?^");
    assert_eq!(filters(&chat.effects()), Vec::<String>::new(), "it is read once");
}

// ST-24, ST-26
#[test]
fn every_subscription_of_a_topic_gets_its_messages() {
    let mut chat = Chat::open("1.2");
    chat.say("SUBSCRIBE\nid:a:1\ndestination:/topic/chat.*\nack:client\n\n^SUBSCRIBE\nid:b\ndestination:/topic/chat/room\n\n^");
    assert_eq!(filters(&chat.effects()), ["chat/+", "chat/room"]);
    chat.make_live("chat/+");
    chat.make_live("chat/room");
    chat.offer(&delivery("chat/room", 7));
    let mut heard = chat.hear();
    heard.sort_by_key(|message| message.header("subscription").map(str::to_owned));
    let of = |n: usize, name| heard[n].header(name);
    assert_eq!((of(0, "subscription"), of(0, "destination")), (Some("a:1"), Some("/topic/chat.room")));
    assert_eq!((of(1, "subscription"), of(1, "destination")), (Some("b"), Some("/topic/chat/room")));
    assert_eq!((of(0, "ack"), of(1, "ack")), (of(0, "message-id"), None));
    assert_ne!(of(0, "message-id"), of(1, "message-id"));
    assert_eq!((of(0, "offset"), of(0, "epoch")), (Some("7"), Some("3")));
    chat.offer(&delivery("chat/other", 1));
    assert_eq!(chat.hear_one(Command::Message).header("subscription"), Some("a:1"));
}

// ST-25, ST-29
#[test]
fn who_leaves_before_a_subscription_is_made_is_told_nothing_of_it() {
    for (leave, receipts) in
        [("UNSUBSCRIBE\nid:a\nreceipt:2\n\n^", ["1", "2"]), ("DISCONNECT\nreceipt:2\n\n^", ["1", "2"])]
    {
        let mut chat = Chat::open("1.2");
        chat.say(&format!("SUBSCRIBE\nid:a\ndestination:/topic/x\nreceipt:1\n\n^{leave}"));
        chat.effects();
        let heard = chat.hear();
        let ids: Vec<_> = heard.iter().map(|frame| frame.header("receipt-id").unwrap()).collect();
        assert_eq!(ids, receipts, "{heard:?}");
    }
}

// ST-24, ST-25
#[test]
fn every_subscription_of_one_destination_gets_its_messages() {
    let mut chat = Chat::open("1.2");
    chat.say("SUBSCRIBE\nid:a\ndestination:/topic/x\nreceipt:1\n\n^");
    assert_eq!(filters(&chat.effects()), ["x"]);
    chat.make_live("x");
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("1"));
    chat.say("SUBSCRIBE\nid:b\ndestination:/topic/x\nreceipt:2\n\n^");
    assert_eq!(filters(&chat.effects()), Vec::<String>::new(), "it is read once");
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("2"));
    chat.say("UNSUBSCRIBE\nid:a\n\n^");
    assert_eq!(chat.effects(), [], "the other one still reads it");
    chat.offer(&delivery("x", 1));
    assert_eq!(chat.hear_one(Command::Message).header("subscription"), Some("b"));
}

// ST-23, ST-24
#[test]
fn who_subscribes_and_then_publishes_gets_what_it_publishes() {
    let mut chat = Chat::open("1.2");
    chat.say("SUBSCRIBE\nid:a\ndestination:/topic/x\n\n^SEND\ndestination:/topic/x\n\nhello^SEND\ndestination:/topic/x\n\nyou^");
    assert_eq!(filters(&chat.effects()), ["x"], "nothing is published before the topic is read");
    assert!(!chat.conversation.wants_input());
    chat.make_live("x");
    assert_eq!(chat.hear(), []);
    assert!(chat.conversation.wants_input());
    let effects = chat.effects();
    let is_publish = |effect: &Effect| matches!(effect, Effect::Session(session::Effect::Publish { .. }));
    assert_eq!(effects.iter().filter(|effect| is_publish(effect)).count(), 2, "{effects:?}");
}

// ST-24
#[test]
fn a_page_may_subscribe_twice_before_the_first_is_there() {
    let mut chat = Chat::open("1.2");
    chat.say("SUBSCRIBE\nid:a\ndestination:/topic/x\n\n^SUBSCRIBE\nid:b\ndestination:/topic/x\n\n^");
    assert_eq!(filters(&chat.effects()), ["x"]);
    assert_eq!(chat.hear(), [], "no error");
    chat.make_live("x");
    chat.offer(&delivery("x", 1));
    let ids: Vec<_> = chat.hear().iter().map(|f| f.header("subscription").unwrap().to_owned()).collect();
    assert_eq!(ids, ["a", "b"]);
}

// ST-24
#[test]
fn what_the_client_may_not_consume_is_refused() {
    let mut chat = Chat::new();
    chat.say("CONNECT\naccept-version:1.2\n\n^");
    chat.conversation.verified(Ok(Some(Grants::default().into())));
    chat.hear();
    chat.say("SUBSCRIBE\nid:1\ndestination:/queue/jobs\n\n^");
    chat.refused("access_refused", CloseReason::Forbidden);
}

// ST-24, ST-25, ST-26
#[test]
fn in_1_0_the_destination_may_be_the_name() {
    let mut chat = Chat::open("1.0");
    chat.say("SUBSCRIBE\ndestination: /topic/a\n\n^");
    assert_eq!(filters(&chat.effects()), ["a"]);
    chat.make_live("a");
    chat.offer(&delivery("a", 1));
    let message = chat.hear_one(Command::Message);
    assert_eq!((message.header("subscription"), message.header("ack")), (None, None));
    chat.say("UNSUBSCRIBE\ndestination:/topic/a\nreceipt:r\n\n^");
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("r"));
    chat.offer(&delivery("a", 2));
    assert_eq!(chat.hear(), []);
}

// ST-24
#[test]
fn a_subscription_starts_where_its_headers_say() {
    for (header, expected) in [
        ("offset:first", Start::Earliest),
        ("x-stream-offset:last", Start::Last(1)),
        ("offset:timestamp=1700000000", Start::Time(bongsu_protocol::message::Time(1_700_000_000_000))),
        ("rewind:5", Start::Last(5)),
        ("offset:8\nepoch:3", Start::After(Position::new(3, 7))),
    ] {
        let mut chat = Chat::open("1.2");
        chat.say(&format!("SUBSCRIBE\nid:1\ndestination:/topic/a\nreceipt:r\n{header}\n\n^"));
        chat.effects();
        chat.watched("a");
        let ranges = chat.reads();
        assert_eq!(ranges, [HistoryRange::Forward(expected)], "{header}");
    }
}

// ST-24
#[test]
fn a_subscribe_that_makes_no_sense_is_refused() {
    for (headers, message) in [
        ("id:1", "Missing destination"),
        ("destination:/topic/b", "Missing header"),
        ("destination:/topic/b\ndurable:true", "Missing Header"),
        ("id:a\ndestination:/topic/b", "Duplicated subscription identifier"),
        ("id:/temp-queue/x\ndestination:/topic/b", "Invalid id"),
        ("id:1\ndestination:/topic/b\nack:maybe", "Invalid header"),
        ("id:1\ndestination:/topic/b\noffset:soon", "Invalid header"),
        ("id:1\ndestination:/topic/b\noffset:5", "Invalid header"),
        ("id:1\ndestination:/topic/b\nrewind:-1", "Invalid header"),
        ("id:1\ndestination:/topic/b\nprefetch-count:x", "Invalid header"),
        ("id:1\ndestination:/topic/b\nselector:a > 1", "Unsupported header"),
        ("id:1\ndestination:/topic/a\noffset:first", "Conflicting start"),
        ("id:1\ndestination:/topic/*\nrewind:3", "Conflicting start"),
        ("id:1\ndestination:/topic/b.*\ndurable:true", "Invalid destination"),
        ("id:1\ndestination:/elsewhere/b", "Unknown destination"),
    ] {
        let mut chat = Chat::open("1.2");
        chat.say(&format!("SUBSCRIBE\nid:a\ndestination:/topic/a\n\n^SUBSCRIBE\n{headers}\n\n^"));
        chat.refused(message, CloseReason::ProtocolError);
    }
}

// ST-24
#[test]
fn what_the_client_may_not_read_is_refused() {
    let mut chat = Chat::new();
    chat.say("CONNECT\naccept-version:1.2\n\n^");
    chat.conversation.verified(Ok(Some(Grants { subject: "ann".into(), ..Grants::default() }.into())));
    chat.hear();
    chat.say("SUBSCRIBE\nid:1\ndestination:/user/queue/x\n\n^");
    assert_eq!(
        filters(&chat.effects()),
        ["user/ann/queue/x", "user/s1/queue/x"],
        "its own may always be read"
    );
    chat.say("SUBSCRIBE\nid:2\ndestination:/topic/secret\nreceipt:r\n\n^");
    let error = chat.refused("access_refused", CloseReason::Forbidden);
    assert_eq!(error.header("receipt-id"), Some("r"));
}

// ST-25
#[test]
fn an_unsubscribe_of_nothing_is_refused() {
    let mut chat = Chat::open("1.2");
    chat.say("UNSUBSCRIBE\nid:x\n\n^");
    chat.refused("No subscription found", CloseReason::ProtocolError);
    let mut chat = Chat::open("1.2");
    chat.say("UNSUBSCRIBE\nreceipt:r\n\n^");
    chat.refused("Missing destination or id", CloseReason::ProtocolError);
}

// ST-26
#[test]
fn what_was_lost_is_told_with_the_next_message() {
    let mut chat = Chat::open("1.2");
    chat.say("SUBSCRIBE\nid:1\ndestination:/topic/a\noffset:8\nepoch:3\n\n^");
    chat.effects();
    chat.watched("a");
    chat.reads();
    let page = session::LogPage {
        items: vec![(Position::new(3, 11), 10, std::sync::Arc::new(delivery("a", 11)))],
        first: Position::new(3, 11),
        end: Position::new(3, 11),
        head: Position::new(3, 11),
    };
    chat.conversation.session_mut().read_done(Duration::ZERO, Ok(page));
    let message = chat.hear_one(Command::Message);
    assert_eq!((message.header("lost"), message.header("offset")), (Some("3"), Some("11")));
    chat.offer(&delivery("a", 12));
    assert_eq!(chat.hear_one(Command::Message).header("lost"), None, "told once");
}

// ST-29
#[test]
fn a_goodbye_is_answered_once_all_before_it_is_done() {
    let mut chat = Chat::open("1.2");
    chat.say("SUBSCRIBE\nid:1\ndestination:/topic/a\n\n^");
    chat.effects();
    chat.make_live("a");
    assert_eq!(chat.hear(), []);
    chat.say("SEND\ndestination:/topic/a\n\n1^DISCONNECT\nreceipt:bye\n\n^SEND\ndestination:/topic/a\n\n2^");
    let ids = chat.publishes();
    assert_eq!(ids.len(), 1, "frames after it are ignored");
    chat.offer(&delivery("a", 1));
    assert_eq!(chat.hear(), [], "and no message follows");
    chat.keep(ids[0]);
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("bye"));
    assert!(chat.effects().contains(&Effect::Close(CloseReason::Normal)));
    assert!(chat.conversation.is_closed());
}

// ST-31
#[test]
fn an_error_is_the_last_frame_and_does_not_undo_what_was_sent_before() {
    let mut chat = Chat::open("1.2");
    chat.say("SEND\ndestination:/topic/a\n\n1^WIBBLE\n\n^SEND\ndestination:/topic/a\n\n2^");
    let effects = chat.effects();
    assert!(matches!(effects[0], Effect::Session(session::Effect::Publish { .. })), "{effects:?}");
    assert_eq!(effects[1..], [Effect::Close(CloseReason::ProtocolError)]);
    chat.hear_one(Command::Error);
    chat.say("SEND\ndestination:/topic/a\n\n3^");
    assert_eq!((chat.effects(), chat.hear()), (vec![], vec![]));
}

// ST-6
#[test]
fn a_node_that_goes_away_says_so_in_an_error() {
    let mut chat = Chat::open("1.1");
    chat.conversation.close(&Goodbye::new(CloseReason::GoingAway, "deploy"));
    let error = chat.refused("Server shutting down", CloseReason::GoingAway);
    assert_eq!(&error.body[..], b"deploy\n");
}

#[test]
fn receipts_that_nobody_reads_have_a_bound() {
    let mut chat = Chat::open("1.2");
    chat.say(&"BEGIN\ntransaction:t\nreceipt:b\n\n^ABORT\ntransaction:t\nreceipt:a\n\n^".repeat(100));
    assert!(!chat.conversation.wants_input());
    let mut n_heard = 0;
    loop {
        let heard = chat.hear().len();
        assert!(heard <= 10, "no more than the bound at once");
        n_heard += heard;
        chat.conversation.advance();
        if heard == 0 {
            break;
        }
    }
    assert_eq!(n_heard, 200);
}

#[test]
fn requests_in_flight_have_a_bound() {
    let mut chat = Chat::open("1.2");
    chat.say(&"SEND\ndestination:/topic/a\nreceipt:r\n\nx^".repeat(100));
    assert!(!chat.conversation.wants_input());
    let mut n_published = 0;
    loop {
        let ids = chat.publishes();
        if ids.is_empty() {
            break;
        }
        assert!(ids.len() <= 10, "no more than the bound at once");
        n_published += ids.len();
        for id in ids {
            chat.keep(id);
        }
        chat.hear();
    }
    assert_eq!(n_published, 100);
}

proptest! {
    // ST-2, ST-23, ST-30: whatever the pieces and the order of answers.
    #[test]
    fn receipts_come_in_order_and_after_everything_before_them(
        kinds in prop::collection::vec(0..4_u8, 1..30),
        pieces in prop::collection::vec(1..40_usize, 1..10),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        let mut chat = Chat::open("1.2");
        let mut stream = String::new();
        let mut expected = Vec::new();
        for (n, kind) in kinds.iter().enumerate() {
            let receipt = format!("receipt:{n}\n");
            stream.push_str(&match kind {
                0 => format!("SEND\ndestination:/topic/a\n\n{n}^"),
                1 => format!("SEND\ndestination:/topic/a\n{receipt}\n{n}^"),
                2 => format!("SUBSCRIBE\nid:{n}\ndestination:/topic/t{n}\n{receipt}\n^"),
                _ => format!("BEGIN\ntransaction:{n}\n{receipt}\n^COMMIT\ntransaction:{n}\n\n^"),
            });
            if *kind > 0 {
                expected.push(n);
            }
        }
        let mut rest = stream.as_str();
        let mut pieces = pieces.iter().cycle();
        let mut order = order.iter().cycle();
        let mut open: Vec<(RequestId, usize)> = Vec::new();
        let mut heard = Vec::new();
        for _ in 0..2000 {
            let (piece, after) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
            rest = after;
            chat.say(piece);
            for effect in chat.effects() {
                match effect {
                    Effect::Session(session::Effect::Publish { id, messages }) => {
                        let body = String::from_utf8(messages[0].1.message.payload.to_vec()).unwrap();
                        open.push((id, body.parse().unwrap()));
                    }
                    Effect::Session(session::Effect::Watch { filter }) => chat.make_live(filter.as_str()),
                    other => panic!("{other:?}"),
                }
            }
            if !open.is_empty() {
                let (id, _) = open.swap_remove(order.next().unwrap().index(open.len()));
                chat.keep(id);
            }
            for frame in chat.hear() {
                let n: usize = frame.header("receipt-id").unwrap().parse().unwrap();
                prop_assert!(open.iter().all(|(_, earlier)| *earlier > n), "{} before something earlier was kept", n);
                heard.push(n);
            }
        }
        prop_assert_eq!(heard, expected);
        prop_assert_eq!(chat.conversation.version(), Version::V12);
    }
}
