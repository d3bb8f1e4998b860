//! Retention, purge, erasure and deletion.

use std::time::Duration;

use bongsu_persistence::store::{Appended, REMOVE_STEP_MAX, Removal, Removed, Retention, Store};
use bongsu_protocol::command::HistoryRange::Forward;
use bongsu_protocol::command::Start;
use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::Position;

use crate::support::{
    Build, MINUTE, all, append, bounds, delete, erase, fill, message, offset, offsets, page, purge, remove,
    stored, topic,
};

async fn retain(store: &impl Store, retention: Retention, now: u64) -> Removed {
    remove(store, Removal::Retain { topic: topic("t"), retention, now: Time(now) }).await
}

fn age(milliseconds: u64) -> Retention {
    Retention { age: Some(Duration::from_millis(milliseconds)), ..Retention::default() }
}

fn count(n_messages: u64) -> Retention {
    Retention { count: Some(n_messages), ..Retention::default() }
}

fn bytes(n_bytes: u64) -> Retention {
    Retention { bytes: Some(n_bytes), ..Retention::default() }
}

const fn removed(count: u64) -> Removed {
    Removed { count, more: false }
}

pub(crate) async fn retention_by_age_takes_what_is_older(store: &impl Store) {
    fill(store, 5).await;
    assert_eq!(retain(store, age(500), 1500).await, removed(0), "exactly as old as allowed");
    assert_eq!(retain(store, age(500), 1502).await, removed(2));
    assert_eq!(bounds(&all(store).await), (3, 5, false));
    assert_eq!(retain(store, age(500), 900).await, removed(0), "the clock went back");
    assert_eq!(retain(store, age(500), 9999).await, removed(3), "the newest goes as well");
    assert_eq!(bounds(&all(store).await), (6, 5, false));
    assert_eq!(offset(&append(store, message("x")).await), 6);
}

pub(crate) async fn retention_by_count_keeps_the_newest(store: &impl Store) {
    fill(store, 5).await;
    assert_eq!(retain(store, count(5), 0).await, removed(0));
    assert_eq!(retain(store, count(3), 0).await, removed(2));
    assert_eq!(offsets(&all(store).await), [3, 4, 5]);
    assert_eq!(retain(store, count(0), 0).await, removed(3));
    assert_eq!(bounds(&all(store).await), (6, 5, false));
}

pub(crate) async fn retention_by_bytes_keeps_the_newest_message(store: &impl Store) {
    // Payload, headers, id and content type count: 10 bytes.
    let mut full = message("12").id("345", Duration::ZERO);
    full.message.message.content_type = "67".to_owned();
    full.message.message.headers = vec![("8".to_owned(), "90".to_owned())];
    store.append(vec![full.clone(), full.clone(), full]).await.unwrap();
    assert_eq!(retain(store, bytes(30), 0).await, removed(0));
    assert_eq!(retain(store, bytes(29), 0).await, removed(1));
    assert_eq!(retain(store, bytes(20), 0).await, removed(0));
    assert_eq!(retain(store, bytes(0), 0).await, removed(1));
    assert_eq!(offsets(&all(store).await), [3], "the newest message always stays");
    append(store, message("")).await;
    assert_eq!(retain(store, bytes(0), 0).await, removed(1));
    assert_eq!(offsets(&all(store).await), [4]);
}

pub(crate) async fn the_tightest_bound_of_a_retention_counts(store: &impl Store) {
    // Times 1000 to 1009, payloads of 2 bytes (the last: 3).
    fill(store, 10).await;
    let retention = |age_ms, count, bytes| Retention {
        age: Some(Duration::from_millis(age_ms)),
        count: Some(count),
        bytes: Some(bytes),
    };
    assert_eq!(retain(store, retention(9, 100, 100), 1010).await, removed(1), "age");
    assert_eq!(retain(store, retention(9, 7, 100), 1010).await, removed(2), "count");
    assert_eq!(retain(store, retention(9, 7, 11), 1010).await, removed(2), "bytes");
    assert_eq!(offsets(&all(store).await), [6, 7, 8, 9, 10]);
}

pub(crate) async fn an_unbounded_retention_takes_nothing(store: &impl Store) {
    fill(store, 5).await;
    assert_eq!(retain(store, Retention::default(), u64::MAX).await, removed(0));
    let largest = Retention { age: Some(Duration::MAX), count: Some(u64::MAX), bytes: Some(u64::MAX) };
    assert_eq!(retain(store, largest, u64::MAX).await, removed(0));
    assert_eq!(offsets(&all(store).await), [1, 2, 3, 4, 5]);
}

pub(crate) async fn retention_takes_bounded_steps(store: &impl Store) {
    for retention in [age(100), count(3), bytes(6)] {
        let n_messages = 2 * REMOVE_STEP_MAX + 13;
        let batch =
            (0..n_messages).map(|n| message("ab").at(if n < n_messages - 3 { 1000 } else { 2000 })).collect();
        store.append(batch).await.unwrap();
        let mut steps = Vec::new();
        loop {
            let removed = retain(store, retention, 2050).await;
            steps.push(removed.count);
            let page = page(store, Forward(Start::Earliest), 1).await;
            assert_eq!(page.head.offset.0 + 1 - page.first.offset.0, n_messages - steps.iter().sum::<u64>());
            if !removed.more {
                break;
            }
        }
        assert_eq!(steps, [REMOVE_STEP_MAX, REMOVE_STEP_MAX, 10], "{retention:?}");
        assert_eq!(all(store).await.messages.len(), 3);
        delete(store).await;
    }
}

pub(crate) async fn purge_takes_messages_and_keeps_the_log(store: &impl Store) {
    let epoch = fill(store, 5).await;
    assert_eq!(purge(store, 0).await, removed(0));
    assert_eq!(purge(store, 2).await, removed(2));
    assert_eq!(purge(store, 1).await, removed(0));
    assert_eq!(offsets(&all(store).await), [3, 4, 5]);
    assert_eq!(purge(store, u64::MAX).await, removed(3), "up to the head");
    let page = all(store).await;
    assert_eq!((page.first, page.head), (Position::new(epoch, 6), Position::new(epoch, 5)));
    let next = append(store, message("x")).await;
    assert_eq!(stored(&next).position.unwrap(), Position::new(epoch, 6));
}

pub(crate) async fn purge_takes_bounded_steps(store: &impl Store) {
    fill(store, REMOVE_STEP_MAX + 5).await;
    let first = purge(store, REMOVE_STEP_MAX + 2).await;
    assert_eq!(first, Removed { count: REMOVE_STEP_MAX, more: true });
    assert_eq!(purge(store, REMOVE_STEP_MAX + 2).await, removed(2));
    assert_eq!(all(store).await.messages.len(), 3);
}

pub(crate) async fn an_erased_message_keeps_its_place_time_and_id(store: &impl Store) {
    let mut secret = message("secret").at(1234).id("x", MINUTE);
    secret.message.message.headers = vec![("name".to_owned(), "secret".to_owned())];
    secret.message.message.content_type = "text/secret".to_owned();
    let outcomes = store.append(vec![message("a"), secret, message("b").at(1300)]).await.unwrap();
    let before = stored(&outcomes[1]);
    let position = before.position.unwrap();
    assert_eq!(erase(store, position).await, removed(1));
    let message = Message { id: "x".to_owned(), ..Message::default() };
    let expected = Delivery { message, erased: true, ..Delivery::clone(before) };
    let page = all(store).await;
    assert_eq!(offsets(&page), [1, 2, 3]);
    assert_eq!(*page.messages[1], expected);
    assert_eq!(erase(store, position).await, removed(0), "again");
}

pub(crate) async fn erased_bytes_do_not_count_for_retention(store: &impl Store) {
    let batch = vec![message("12345").id("é", MINUTE), message("12345"), message("12345")];
    let outcomes = store.append(batch).await.unwrap();
    erase(store, stored(&outcomes[0]).position.unwrap()).await;
    erase(store, stored(&outcomes[1]).position.unwrap()).await;
    // The id's two bytes stay.
    assert_eq!(retain(store, bytes(7), 0).await, removed(0));
    assert_eq!(retain(store, bytes(6), 0).await, removed(1));
    assert_eq!(retain(store, bytes(5), 0).await, removed(0));
    assert_eq!(purge(store, 2).await, removed(1));
    append(store, message("12345")).await;
    assert_eq!(retain(store, bytes(10), 0).await, removed(0));
}

pub(crate) async fn only_the_named_message_is_erased(store: &impl Store) {
    let epoch = fill(store, 3).await;
    purge(store, 1).await;
    for position in [
        Position::new(epoch, 0),
        Position::new(epoch, 1),
        Position::new(epoch, 4),
        Position::new(epoch + 1, 2),
        Position::new(epoch - 1, 2),
    ] {
        assert_eq!(erase(store, position).await, removed(0), "{position}");
    }
    assert!(all(store).await.messages.iter().all(|delivery| !delivery.erased));
}

pub(crate) async fn a_deleted_log_is_gone_at_once(store: &impl Store) {
    fill(store, 5).await;
    append(store, message("x").to("other")).await;
    purge(store, 2).await;
    assert_eq!(delete(store).await, removed(3));
    let page = all(store).await;
    assert_eq!((page.messages.len(), page.head), (0, Position::new(0, 0)));
    let anew = append(store, message("new")).await;
    assert_eq!(offset(&anew), 1);
    assert_eq!(all(store).await.messages, [stored(&anew).clone()]);
    assert!(matches!(append(store, message("y").to("other").expect(1)).await, Appended::Stored(_)));
}

pub(crate) async fn removing_again_takes_nothing(store: &impl Store) {
    for round in 0..2 {
        let retention = Retention { age: Some(Duration::ZERO), count: Some(0), bytes: Some(0) };
        assert_eq!(retain(store, retention, 9999).await, removed(0), "round {round}");
        assert_eq!(purge(store, 9).await, removed(0));
        assert_eq!(erase(store, Position::new(0, 0)).await, removed(0));
        assert_eq!(delete(store).await, removed(0));
        assert_eq!(remove(store, Removal::ForgetIds { now: Time(9999) }).await, removed(0));
        if round == 0 {
            append(store, message("a").id("x", MINUTE)).await;
            assert_eq!(retain(store, retention, 9999).await, removed(1));
            assert_eq!(delete(store).await, removed(0), "a log without messages");
        }
    }
}
