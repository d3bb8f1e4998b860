//! Appending: places, times, conditions.

use bongsu_persistence::store::{Appended, Store};
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::limits::PAYLOAD_BYTES_MAX;
use bongsu_protocol::message::{Message, Time};
use bongsu_protocol::position::Position;
use bytes::Bytes;

use crate::support::{
    Build, all, append, bounds, delete, fill, message, offset, offsets, page, purge, stored, topic,
};

pub(crate) async fn offsets_begin_at_one_and_have_no_holes(store: &impl Store) {
    let outcomes = store.append(vec![message("a"), message("b"), message("c")]).await.unwrap();
    assert_eq!(outcomes.iter().map(offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(offset(&append(store, message("d")).await), 4);
    let page = all(store).await;
    assert_eq!(offsets(&page), [1, 2, 3, 4]);
    assert_eq!(bounds(&page), (1, 4, false));
}

pub(crate) async fn outcomes_come_in_the_order_of_the_batch(store: &impl Store) {
    let batch = vec![
        message("1").to("b"),
        message("2").to("a"),
        message("3").to("b"),
        message("4").to("b").expect(7),
        message("5").to("a"),
    ];
    let outcomes = store.append(batch).await.unwrap();
    let places: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Appended::Stored(delivery) => (delivery.topic.as_str(), delivery.position.unwrap().offset.0),
            Appended::Conflict { head } => ("conflict", head.offset.0),
            Appended::Duplicate(_) => panic!("no ids were given"),
        })
        .collect();
    assert_eq!(places, [("b", 1), ("a", 1), ("b", 2), ("conflict", 2), ("a", 2)]);
}

pub(crate) async fn an_empty_batch_is_nothing(store: &impl Store) {
    assert_eq!(store.append(Vec::new()).await.unwrap(), []);
}

pub(crate) async fn a_log_has_one_epoch_and_it_is_not_before_the_first_message(store: &impl Store) {
    let first = append(store, message("a").at(5000)).await;
    let second = append(store, message("b").at(9000)).await;
    let epoch = stored(&first).position.unwrap().epoch;
    assert!(epoch.0 >= 5000, "{epoch:?}");
    assert_eq!(stored(&second).position.unwrap().epoch, epoch);
    assert_eq!(all(store).await.head.epoch, epoch);
}

pub(crate) async fn a_log_made_anew_has_a_larger_epoch_though_the_clock_went_back(store: &impl Store) {
    let mut last = Position::default();
    for time in [5000, 5000, 4000, 0, 6000] {
        let outcome = append(store, message("a").at(time)).await;
        let position = stored(&outcome).position.unwrap();
        assert!(position.epoch > last.epoch, "{position} after {last} at {time}");
        assert_eq!(position.offset.0, 1);
        assert_eq!(all(store).await.messages.len(), 1);
        last = position;
        assert_eq!(delete(store).await.count, 1);
    }
}

pub(crate) async fn times_never_go_back_within_a_log(store: &impl Store) {
    let batch = vec![message("a").at(2000), message("b").at(1000), message("c").to("other").at(500)];
    let outcomes = store.append(batch).await.unwrap();
    let time = |outcome: &Appended| stored(outcome).time;
    assert_eq!(outcomes.iter().map(time).collect::<Vec<_>>(), [Time(2000), Time(2000), Time(500)]);
    assert_eq!(time(&append(store, message("d").at(1999)).await), Time(2000));
    assert_eq!(time(&append(store, message("e").at(2001)).await), Time(2001));
    purge(store, 5).await;
    assert_eq!(time(&append(store, message("f").at(3)).await), Time(2001), "also where it was trimmed");
}

pub(crate) async fn readers_get_what_was_stored(store: &impl Store) {
    let full = Message {
        payload: Bytes::from((0..=255).collect::<Vec<u8>>()),
        content_type: "application/json".to_owned(),
        headers: vec![
            ("z".to_owned(), "\"quoted\" \\ back".to_owned()),
            ("a".to_owned(), String::new()),
            ("봉수".to_owned(), "烽燧 🔥".to_owned()),
        ],
        id: "id's \"id\"".to_owned(),
    };
    let large = Message { payload: Bytes::from(vec![7; PAYLOAD_BYTES_MAX]), ..full.clone() };
    let mut outcomes = Vec::new();
    for content in [full, Message::default(), large] {
        let mut one = message("");
        one.publisher = if content.id.is_empty() { String::new() } else { "o'brien".to_owned() };
        one.message.message = content.clone();
        let outcome = append(store, one.clone()).await;
        let delivery = stored(&outcome);
        assert_eq!((&delivery.topic, delivery.time), (&topic("t"), Time(1000)));
        assert_eq!(
            (&delivery.publisher, &delivery.message, delivery.erased),
            (&one.publisher, &content, false)
        );
        outcomes.push(outcome);
    }
    for (n_before, outcome) in (0..).zip(&outcomes) {
        let after = Position {
            offset: bongsu_protocol::position::Offset(n_before),
            ..stored(outcome).position.unwrap()
        };
        let page = page(store, HistoryRange::Forward(Start::After(after)), 1).await;
        assert_eq!(page.messages.first(), Some(stored(outcome)));
    }
}

pub(crate) async fn expect_lets_only_the_next_offset_pass(store: &impl Store) {
    assert_eq!(offset(&append(store, message("a").expect(0)).await), 1);
    let head = all(store).await.head;
    for wrong in [0, 2, u64::MAX] {
        assert_eq!(append(store, message("b").expect(wrong)).await, Appended::Conflict { head });
    }
    assert_eq!(offset(&append(store, message("b").expect(1)).await), 2);
    assert_eq!(offsets(&all(store).await), [1, 2]);
}

pub(crate) async fn a_conflict_does_not_make_a_log(store: &impl Store) {
    let outcome = append(store, message("a").expect(1)).await;
    assert_eq!(outcome, Appended::Conflict { head: Position::new(0, 0) });
    assert_eq!(all(store).await.head, Position::new(0, 0));
}

pub(crate) async fn a_conflict_does_not_keep_the_rest_of_the_batch(store: &impl Store) {
    let outcomes = store.append(vec![message("a"), message("b").expect(9), message("c")]).await.unwrap();
    assert_eq!((offset(&outcomes[0]), offset(&outcomes[2])), (1, 2));
    assert_eq!(outcomes[1], Appended::Conflict { head: stored(&outcomes[0]).position.unwrap() });
    assert_eq!(offsets(&all(store).await), [1, 2]);
}

pub(crate) async fn expect_holds_within_a_batch(store: &impl Store) {
    let batch =
        vec![message("a").expect(0), message("b").expect(1), message("c").expect(1), message("d").expect(2)];
    let outcomes = store.append(batch).await.unwrap();
    assert_eq!([offset(&outcomes[0]), offset(&outcomes[1]), offset(&outcomes[3])], [1, 2, 3]);
    assert!(matches!(outcomes[2], Appended::Conflict { head } if head.offset.0 == 2));
}

pub(crate) async fn expect_counts_trimmed_messages(store: &impl Store) {
    fill(store, 3).await;
    purge(store, 3).await;
    assert!(
        matches!(append(store, message("x").expect(0)).await, Appended::Conflict { head } if head.offset.0 == 3)
    );
    assert_eq!(offset(&append(store, message("x").expect(3)).await), 4);
}

pub(crate) async fn a_batch_may_have_many_messages_and_topics(store: &impl Store) {
    const TOPICS: usize = 300;
    let batch = |round: usize| -> Vec<_> {
        (0..5000).map(|n| message(&format!("{round}/{n}")).to(&format!("many/{}", n % TOPICS))).collect()
    };
    for round in 0..2 {
        let outcomes = store.append(batch(round)).await.unwrap();
        assert_eq!(outcomes.len(), 5000);
    }
    for n in [0, 199, 200, TOPICS - 1] {
        let n_per_round = 5000 / TOPICS + usize::from(n < 5000 % TOPICS);
        let query = HistoryQuery {
            topic: topic(&format!("many/{n}")),
            range: HistoryRange::Forward(Start::Earliest),
            limit: 1000,
        };
        let page = store.read(query).await.unwrap();
        let expected: Vec<_> = (0..2 * n_per_round as u64).map(|index| index + 1).collect();
        assert_eq!(offsets(&page), expected);
        let payloads: Vec<_> =
            page.messages.iter().map(|delivery| delivery.message.payload.clone()).collect();
        let expected: Vec<_> = (0..2)
            .flat_map(|round| (0..n_per_round).map(move |index| format!("{round}/{}", index * TOPICS + n)))
            .map(Bytes::from)
            .collect();
        assert_eq!(payloads, expected);
    }
}

pub(crate) async fn appends_at_the_same_time_leave_no_hole(store: &impl Store) {
    let appends = (0..50).map(|n| store.append(vec![message(&n.to_string()), message("again")]));
    let outcomes = futures_util::future::try_join_all(appends).await.unwrap();
    let mut places: Vec<_> = outcomes.iter().flatten().map(offset).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=100).collect::<Vec<_>>());
    for pair in outcomes {
        assert_eq!(offset(&pair[0]) + 1, offset(&pair[1]), "a batch stays together");
    }
}
