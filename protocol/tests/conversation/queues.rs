//! Consumers of queues, and transactions.

use bongsu_protocol::command::{RequestId, Start};
use bongsu_protocol::limits::{STOMP_TRANSACTION_FRAMES_MAX, STOMP_TRANSACTIONS_MAX};
use bongsu_protocol::position::Position;
use bongsu_protocol::queue::Settlement;
use bongsu_protocol::reason::CloseReason;
use bongsu_protocol::stomp::Command;
use bongsu_protocol::stomp::conversation::{Effect, Group, Settled, SubscriptionKey};

use crate::chat::{Chat, delivery};

fn consumer(chat: &mut Chat, headers: &str) -> SubscriptionKey {
    chat.say(&format!("SUBSCRIBE\nid:q\ndestination:/queue/jobs\n{headers}\n\n^"));
    let effects = chat.effects();
    let [Effect::Consume { id, subscription, topic, group: Group::Shared, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(topic.as_str(), "queue/jobs");
    chat.conversation.consuming(*id, Ok(()));
    *subscription
}

fn at(offset: u64) -> Position {
    Position::new(3, offset)
}

fn deliver(chat: &mut Chat, key: SubscriptionKey, offsets: &[u64]) -> Vec<String> {
    for offset in offsets {
        assert!(chat.conversation.deliver(key, at(*offset), false, &delivery("queue/jobs", *offset).into()));
    }
    let heard = chat.hear();
    heard.iter().map(|message| message.header("message-id").unwrap().to_owned()).collect()
}

fn settled(chat: &mut Chat) -> Vec<(RequestId, Settled)> {
    let effects = chat.effects().into_iter();
    effects
        .filter_map(
            |effect| if let Effect::Settle { id, settled } = effect { Some((id, settled)) } else { None },
        )
        .collect()
}

// ST-27
#[test]
fn the_mode_client_settles_all_up_to_a_message_and_client_individual_one() {
    for (mode, expected) in [("client", &[1, 2][..]), ("client-individual", &[2])] {
        let mut chat = Chat::open("1.2");
        let key = consumer(&mut chat, &format!("ack:{mode}"));
        let ids = deliver(&mut chat, key, &[1, 2, 3]);
        chat.say(&format!("ACK\nid:{}\nreceipt:r\n\n^", ids[1]));
        let settled = settled(&mut chat);
        assert_eq!(settled[0].1.positions, expected.iter().map(|offset| at(*offset)).collect::<Vec<_>>());
        assert_eq!((settled[0].1.subscription, settled[0].1.settlement), (key, Settlement::Done));
        assert_eq!(chat.hear(), [], "not before it is kept");
        chat.conversation.settled(settled[0].0, Ok(()));
        assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("r"));
    }
}

// ST-27
#[test]
fn every_version_and_library_names_messages_in_its_own_way() {
    for (version, name) in
        [("1.2", "id"), ("1.2", "message-id"), ("1.1", "message-id"), ("1.1", "id"), ("1.0", "message-id")]
    {
        let mut chat = Chat::open(version);
        let key = consumer(&mut chat, "ack:client");
        let ids = deliver(&mut chat, key, &[1]);
        chat.say(&format!("ACK\n{name}:{}\nsubscription:q\n\n^", ids[0]));
        assert_eq!(settled(&mut chat).len(), 1, "{version} {name}");
        chat.say(&format!("ACK\n{name}:{}\nreceipt:again\n\n^", ids[0]));
        assert_eq!(settled(&mut chat).len(), 0, "once");
    }
}

// ST-27
#[test]
fn a_nack_gives_back_or_drops() {
    for (header, expected) in [
        ("x:y", Settlement::Requeue),
        ("requeue:true", Settlement::Requeue),
        ("requeue:false", Settlement::Reject),
    ] {
        let mut chat = Chat::open("1.2");
        let key = consumer(&mut chat, "ack:client-individual");
        let ids = deliver(&mut chat, key, &[1]);
        chat.say(&format!("NACK\nid:{}\n{header}\n\n^", ids[0]));
        assert_eq!(settled(&mut chat)[0].1.settlement, expected);
    }
}

// ST-27
#[test]
fn a_message_that_was_never_sent_cannot_be_acknowledged() {
    for (id, message) in [
        ("id:s1@2", "Invalid header"),
        ("id:s2@1", "Invalid header"),
        ("id:s1@0", "Invalid header"),
        ("id:", "Invalid header"),
        ("x:y", "Missing header"),
    ] {
        let mut chat = Chat::open("1.2");
        let key = consumer(&mut chat, "ack:client");
        deliver(&mut chat, key, &[1]);
        chat.say(&format!("ACK\n{id}\n\n^"));
        chat.refused(message, CloseReason::ProtocolError);
    }
}

// ST-24, ST-26
#[test]
fn with_the_mode_auto_sending_settles() {
    let mut chat = Chat::open("1.2");
    let key = consumer(&mut chat, "prefetch-count:5");
    chat.conversation.deliver(key, at(1), true, &delivery("queue/jobs", 1).into());
    assert_eq!(settled(&mut chat).len(), 0, "not before the connection takes it");
    let message = chat.hear_one(Command::Message);
    assert_eq!((message.header("redelivered"), message.header("ack")), (Some("true"), None));
    assert_eq!(settled(&mut chat)[0].1.positions, [at(1)]);
}

// ST-31
#[test]
fn an_answer_that_comes_after_an_error_says_nothing() {
    let mut chat = Chat::open("1.2");
    let key = consumer(&mut chat, "ack:client");
    let ids = deliver(&mut chat, key, &[1]);
    chat.say(&format!("ACK\nid:{}\nreceipt:r\n\n^WIBBLE\n\n^", ids[0]));
    let settled = settled(&mut chat);
    assert_eq!(settled.len(), 1, "what was said before the error counts");
    chat.hear_one(Command::Error);
    chat.conversation.settled(settled[0].0, Ok(()));
    assert_eq!(chat.hear(), []);
}

// ST-25
#[test]
fn a_consumer_that_ends_holds_nothing() {
    let mut chat = Chat::open("1.2");
    let key = consumer(&mut chat, "ack:client");
    let ids = deliver(&mut chat, key, &[1]);
    chat.say(&format!("UNSUBSCRIBE\nid:q\n\n^ACK\nid:{}\n\n^", ids[0]));
    assert_eq!(
        chat.effects(),
        [Effect::Cancel { subscription: key, forget: false }],
        "a late ACK is no mistake"
    );
    assert!(!chat.conversation.deliver(key, at(2), false, &delivery("queue/jobs", 2).into()));
    assert_eq!(chat.hear(), []);
}

// Destinations: durable subscriptions.
#[test]
fn a_durable_subscription_is_a_queue_of_its_user_and_id() {
    let mut chat = Chat::open("1.2");
    chat.say("SUBSCRIBE\nid:news\ndestination:/topic/a\ndurable:true\nack:client\noffset:first\nprefetch-count:7\n\n^");
    let effects = chat.effects();
    let [Effect::Consume { subscription, topic, group, from, prefetch, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((topic.as_str(), *from, *prefetch), ("a", Start::Earliest, 7));
    assert_eq!(*group, Group::Durable { subject: "ann".into(), name: "news".into() });
    chat.say("UNSUBSCRIBE\nid:news\ndurable:true\n\n^");
    assert_eq!(chat.effects(), [Effect::Cancel { subscription: *subscription, forget: true }]);
}

// ST-28
#[test]
fn a_transaction_is_one_request_and_its_receipts_come_after_it() {
    let mut chat = Chat::open("1.2");
    let key = consumer(&mut chat, "ack:client-individual");
    let ids = deliver(&mut chat, key, &[1]);
    chat.say("BEGIN\ntransaction:t\nreceipt:b\n\n^");
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("b"));
    chat.say("SEND\ndestination:/topic/a\ntransaction:t\nreceipt:in\n\n1^");
    chat.say(&format!("ACK\nid:{}\ntransaction:t\nreceipt:ack\n\n^", ids[0]));
    assert_eq!(chat.effects(), [], "nothing before the COMMIT");
    chat.say("SEND\ndestination:/topic/a\nreceipt:out\n\n2^");
    let publish = chat.publishes()[0];
    chat.keep(publish);
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("out"), "receipts of others pass");
    chat.say("SEND\ndestination:/topic/b\ntransaction:t\n\n3^COMMIT\ntransaction:t\nreceipt:c\n\n^");
    let effects = chat.effects();
    let [Effect::Commit { id, messages, settled }] = &effects[..] else { panic!("{effects:?}") };
    let topics: Vec<_> = messages.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!((topics, settled.len()), (vec!["a", "b"], 1));
    assert_eq!(chat.hear(), []);
    chat.conversation.committed(*id, Ok(()));
    let receipts: Vec<_> =
        chat.hear().iter().map(|frame| frame.header("receipt-id").unwrap().to_owned()).collect();
    assert_eq!(receipts, ["in", "ack", "c"]);
}

// ST-28
#[test]
fn an_aborted_transaction_leaves_nothing_behind() {
    let mut chat = Chat::open("1.2");
    chat.say("BEGIN\ntransaction:t\n\n^SEND\ndestination:/topic/a\ntransaction:t\nreceipt:r\n\n1^ABORT\ntransaction:t\nreceipt:a\n\n^");
    assert_eq!(chat.effects(), []);
    assert_eq!(chat.hear_one(Command::Receipt).header("receipt-id"), Some("a"));
    chat.say(
        "BEGIN\ntransaction:t\n\n^SEND\ndestination:/topic/a\ntransaction:t\n\n1^DISCONNECT\nreceipt:d\n\n^",
    );
    assert_eq!(chat.effects(), [Effect::Close(CloseReason::Normal)], "nor does one that is open at the end");
}

// ST-28
#[test]
fn transactions_have_names_and_bounds() {
    let many: String = (0..=STOMP_TRANSACTIONS_MAX).map(|n| format!("BEGIN\ntransaction:{n}\n\n^")).collect();
    let large = "SEND\ndestination:/topic/a\ntransaction:t\n\nx^".repeat(STOMP_TRANSACTION_FRAMES_MAX + 1);
    for (frames, message) in [
        ("BEGIN\n\n^".to_owned(), "Missing transaction"),
        (
            "BEGIN\ntransaction:t\n\n^BEGIN\ntransaction:t\n\n^".to_owned(),
            "Duplicated transaction identifier",
        ),
        ("COMMIT\ntransaction:t\n\n^".to_owned(), "Bad transaction"),
        ("ABORT\ntransaction:t\n\n^".to_owned(), "Bad transaction"),
        (many, "Too many transactions"),
        (format!("BEGIN\ntransaction:t\n\n^{large}"), "Transaction too large"),
    ] {
        let mut chat = Chat::open("1.2");
        chat.say(&frames);
        chat.refused(message, CloseReason::ProtocolError);
    }
}

// ST-28
#[test]
fn a_transaction_publishes_only_what_its_client_may() {
    let mut chat = Chat::open("1.2");
    chat.say("BEGIN\ntransaction:t\n\n^SEND\ndestination:/topic/$sys/x\ntransaction:t\n\nx^COMMIT\ntransaction:t\n\n^");
    chat.refused("access_refused", CloseReason::Forbidden);
}
