//! Message ids: what refuses a second message, and for how long.

use std::time::Duration;

use bongsu_persistence::store::{Appended, REMOVE_STEP_MAX, Removal, Store};
use bongsu_protocol::message::Time;

use crate::support::{
    Build, MINUTE, all, append, delete, erase, fill, message, offset, offsets, purge, remove, stored,
};

pub(crate) async fn a_second_message_with_an_id_is_answered_with_the_first_position(store: &impl Store) {
    fill(store, 2).await;
    let first = append(store, message("a").id("x", MINUTE)).await;
    let position = stored(&first).position.unwrap();
    append(store, message("between")).await;
    assert_eq!(
        append(store, message("another payload").id("x", MINUTE)).await,
        Appended::Duplicate(position)
    );
    assert_eq!(offsets(&all(store).await), [1, 2, 3, 4]);
}

pub(crate) async fn a_duplicate_within_a_batch_is_found(store: &impl Store) {
    for round in 1..=2 {
        let batch = vec![
            message("a").id(&format!("x{round}"), MINUTE),
            message("b").id(&format!("y{round}"), MINUTE),
            message("a").id(&format!("x{round}"), MINUTE),
        ];
        let outcomes = store.append(batch).await.unwrap();
        assert_eq!(outcomes[2], Appended::Duplicate(stored(&outcomes[0]).position.unwrap()));
        assert_eq!(offset(&outcomes[1]), 2 * round, "the log exists from the second round on");
    }
}

pub(crate) async fn a_duplicate_does_not_keep_the_rest_of_the_batch(store: &impl Store) {
    append(store, message("a").id("x", MINUTE)).await;
    let batch = vec![message("a").id("x", MINUTE), message("b").id("y", MINUTE)];
    let outcomes = store.append(batch).await.unwrap();
    assert!(matches!(outcomes[0], Appended::Duplicate(position) if position.offset.0 == 1));
    assert_eq!(offset(&outcomes[1]), 2);
}

pub(crate) async fn ids_belong_to_their_topic(store: &impl Store) {
    append(store, message("a").id("x", MINUTE)).await;
    let outcome = append(store, message("a").to("other").id("x", MINUTE)).await;
    assert_eq!(offset(&outcome), 1);
}

pub(crate) async fn messages_without_id_are_never_duplicates(store: &impl Store) {
    for expected in 1..=3 {
        assert_eq!(offset(&append(store, message("a").id("", MINUTE)).await), expected);
    }
}

pub(crate) async fn an_id_guards_only_within_its_window(store: &impl Store) {
    append(store, message("a").at(1000).id("x", Duration::from_millis(500))).await;
    let again = |time| message("a").at(time).id("x", Duration::from_millis(500));
    assert!(matches!(append(store, again(1499)).await, Appended::Duplicate(_)));
    assert_eq!(offset(&append(store, again(1500)).await), 2);
}

pub(crate) async fn an_id_guards_anew_after_its_window(store: &impl Store) {
    let window = Duration::from_millis(500);
    append(store, message("a").at(1000).id("x", window)).await;
    let second = append(store, message("a").at(2000).id("x", window)).await;
    let position = stored(&second).position.unwrap();
    assert_eq!(append(store, message("a").at(2499).id("x", window)).await, Appended::Duplicate(position));
    let batch = vec![message("a").at(3000).id("x", window), message("a").at(3001).id("x", window)];
    let outcomes = store.append(batch).await.unwrap();
    assert_eq!(outcomes[1], Appended::Duplicate(stored(&outcomes[0]).position.unwrap()));
}

pub(crate) async fn a_window_of_zero_guards_nothing(store: &impl Store) {
    append(store, message("a").id("x", Duration::ZERO)).await;
    assert_eq!(offset(&append(store, message("a").id("x", MINUTE)).await), 2);
}

pub(crate) async fn the_first_message_decides_how_long_its_id_guards(store: &impl Store) {
    append(store, message("a").at(1000).id("x", MINUTE)).await;
    let again = message("a").at(2000).id("x", Duration::ZERO);
    assert!(matches!(append(store, again).await, Appended::Duplicate(_)));
}

pub(crate) async fn a_retried_conditional_publish_is_a_duplicate_and_no_conflict(store: &impl Store) {
    let publish = message("a").id("x", MINUTE).expect(0);
    let first = append(store, publish.clone()).await;
    assert_eq!(append(store, publish).await, Appended::Duplicate(stored(&first).position.unwrap()));
}

pub(crate) async fn an_id_outlives_its_message(store: &impl Store) {
    let first = append(store, message("a").id("x", MINUTE)).await;
    let second = append(store, message("b").id("y", MINUTE)).await;
    let [first, second] = [first, second].map(|outcome| stored(&outcome).position.unwrap());
    purge(store, 1).await;
    erase(store, second).await;
    assert_eq!(append(store, message("a").id("x", MINUTE)).await, Appended::Duplicate(first));
    assert_eq!(append(store, message("b").id("y", MINUTE)).await, Appended::Duplicate(second));
}

pub(crate) async fn an_id_goes_with_its_log(store: &impl Store) {
    append(store, message("a").id("x", MINUTE)).await;
    delete(store).await;
    assert_eq!(offset(&append(store, message("a").id("x", MINUTE)).await), 1);
}

pub(crate) async fn ids_are_forgotten_in_bounded_steps(store: &impl Store) {
    let n_ids = 2 * REMOVE_STEP_MAX + 10;
    let batch =
        (0..n_ids).map(|n| message("a").to(&format!("t/{}", n % 3)).id(&n.to_string(), MINUTE)).collect();
    store.append(batch).await.unwrap();
    let now = Time(1000 + 60_000);
    let mut steps = Vec::new();
    loop {
        let removed = remove(store, Removal::ForgetIds { now }).await;
        steps.push(removed.count);
        if !removed.more {
            break;
        }
    }
    assert_eq!(steps, [REMOVE_STEP_MAX, REMOVE_STEP_MAX, 10]);
    // By the clock of the message it is still within the window, but it was forgotten.
    assert!(matches!(append(store, message("a").to("t/0").id("0", MINUTE)).await, Appended::Stored(_)));
}

pub(crate) async fn ids_whose_window_has_not_passed_are_kept(store: &impl Store) {
    append(store, message("a").id("x", MINUTE)).await;
    append(store, message("b").id("y", 2 * MINUTE)).await;
    assert_eq!(remove(store, Removal::ForgetIds { now: Time(60_999) }).await.count, 0);
    assert_eq!(remove(store, Removal::ForgetIds { now: Time(61_000) }).await.count, 1);
    assert!(matches!(append(store, message("b").id("y", MINUTE)).await, Appended::Duplicate(_)));
}
