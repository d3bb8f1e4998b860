//! Which logs were appended to.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bongsu_persistence::store::{Appended, ChangeMark, Changes, Store};
use bongsu_protocol::position::Position;
use futures_util::future::{join, join_all};

use crate::support::{Build, MINUTE, append, delete, fill, message};

async fn mark(store: &impl Store) -> ChangeMark {
    store.changes(None).await.unwrap().mark
}

/// What changed, by topic: the place before, and the head.
fn told(changes: &Changes) -> BTreeMap<&str, (Position, Position)> {
    assert!(changes.complete);
    let entry = |changed: &bongsu_persistence::store::Changed| (changed.before, changed.head);
    let told: BTreeMap<_, _> =
        changes.changed.iter().map(|changed| (changed.topic.as_str(), entry(changed))).collect();
    assert_eq!(told.len(), changes.changed.len(), "each log once");
    told
}

fn position(appended: &Appended) -> Position {
    let Appended::Stored(delivery) = appended else { panic!("{appended:?}") };
    delivery.position.unwrap()
}

pub(crate) async fn every_append_is_told_by_one_of_two_answers_in_a_row(store: &impl Store) {
    append(store, message("before").to("old")).await;
    let first = store.changes(None).await.unwrap();
    assert_eq!(told(&first), BTreeMap::new(), "without a mark, nothing is told");
    let at = position(&append(store, message("1").to("a")).await);
    let second = store.changes(Some(first.mark.clone())).await.unwrap();
    assert_eq!(told(&second), BTreeMap::from([("a", (at.previous(), at))]));
    let third = store.changes(Some(second.mark)).await.unwrap();
    assert_eq!(told(&third), BTreeMap::new());
    let again = store.changes(Some(first.mark)).await.unwrap();
    assert_eq!(told(&again), BTreeMap::from([("a", (at.previous(), at))]), "asking again is safe");
}

pub(crate) async fn a_log_is_told_once_with_all_that_was_appended(store: &impl Store) {
    fill(store, 3).await;
    let mark = mark(store).await;
    let first = position(&append(store, message("4")).await);
    let batch = vec![message("5"), message("x").to("u"), message("6")];
    let outcomes = store.append(batch).await.unwrap();
    let (last, other) = (position(&outcomes[2]), position(&outcomes[1]));
    let changes = store.changes(Some(mark)).await.unwrap();
    let expected = BTreeMap::from([("t", (first.previous(), last)), ("u", (other.previous(), other))]);
    assert_eq!(told(&changes), expected);
}

pub(crate) async fn nothing_is_told_of_what_was_not_stored(store: &impl Store) {
    append(store, message("1").id("x", MINUTE)).await;
    let mark = mark(store).await;
    append(store, message("1").id("x", MINUTE)).await;
    append(store, message("2").expect(7)).await;
    assert_eq!(told(&store.changes(Some(mark)).await.unwrap()), BTreeMap::new());
}

pub(crate) async fn a_log_made_anew_is_told_from_its_beginning(store: &impl Store) {
    fill(store, 2).await;
    delete(store).await;
    let mark = mark(store).await;
    let at = position(&append(store, message("anew")).await);
    let changes = store.changes(Some(mark)).await.unwrap();
    assert_eq!(at.offset.0, 1);
    assert_eq!(told(&changes), BTreeMap::from([("t", (Position::new(at.epoch.0, 0), at))]));
}

pub(crate) async fn a_strange_mark_is_answered_with_not_complete(store: &impl Store) {
    append(store, message("1")).await;
    for strange in ["", "-", "no mark", "ffffffffffffffff-0", "7:7:", "1:2:1"] {
        let changes = store.changes(Some(ChangeMark(strange.to_owned()))).await.unwrap();
        assert!(!changes.complete, "{strange:?}");
        assert!(changes.changed.is_empty());
        let next = store.changes(Some(changes.mark)).await.unwrap();
        assert_eq!(told(&next), BTreeMap::new(), "the mark of the answer is a good one");
    }
}

pub(crate) async fn appends_at_the_same_time_are_all_told(store: &impl Store) {
    let start = mark(store).await;
    let publish = |task: usize| async move {
        for number in 0..20 {
            let topics = [(task + number) % 5, (task + number + 1) % 5];
            let batch = topics.map(|topic| message("x").to(&format!("t{topic}"))).into();
            store.append(batch).await.unwrap();
        }
    };
    let done = Cell::new(false);
    let publish_all = async {
        join_all((0..8).map(publish)).await;
        done.set(true);
    };
    let watch = async {
        let (mut mark, mut seen) = (start, BTreeSet::new());
        loop {
            // Looked at before the question: then the last answer has everything.
            let is_last = done.get();
            let changes = store.changes(Some(mark)).await.unwrap();
            for (topic, (before, head)) in told(&changes) {
                for offset in before.offset.0 + 1..=head.offset.0 {
                    assert!(seen.insert((topic.to_owned(), offset)), "{topic} {offset} was told twice");
                }
            }
            mark = changes.mark;
            if is_last {
                return seen.len();
            }
            tokio::task::yield_now().await;
        }
    };
    let ((), n_told) = join(publish_all, watch).await;
    assert_eq!(n_told, 8 * 20 * 2);
}
