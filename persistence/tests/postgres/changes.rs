//! Which logs were appended to, when transactions of others are in the way.

use bongsu_persistence::store::Store;

use crate::support::{append, count, database, open, run, tool};

#[tokio::test]
async fn a_transaction_of_somebody_else_that_goes_on_neither_hides_nor_repeats_changes() {
    let url = database();
    let store = open(&url).await;
    let mut other = tool(&url).await;
    // It has a number, so that snapshots count it among those that run.
    run(&mut other, "begin; create table pg_temp.mine (); select pg_current_xact_id()").await;
    let mut mark = store.changes(None).await.unwrap().mark;
    for n in 1..=3 {
        append(&store, "t", "x").await.unwrap();
        let changes = store.changes(Some(mark)).await.unwrap();
        assert!(changes.complete);
        let told: Vec<_> =
            changes.changed.iter().map(|changed| (changed.before.offset.0, changed.head.offset.0)).collect();
        assert_eq!(told, [(n - 1, n)]);
        mark = changes.mark;
    }
    run(&mut other, "commit").await;
    assert_eq!(store.changes(Some(mark)).await.unwrap().changed, []);
}

#[tokio::test]
async fn an_append_that_began_before_a_mark_and_committed_after_it_is_told() {
    let url = database();
    let store = open(&url).await;
    append(&store, "slow", "x").await.unwrap();
    append(&store, "fast", "x").await.unwrap();
    let mut other = tool(&url).await;
    let slow = "begin; select bongsu.append(true, false, '{slow}', '{1}', '{1}', '{1000}', '{1000}', '{1}', '{1}', '{1000}', '{1000}',
        '{1}', null, null, null, null, null, null, null, null, '{x}')";
    run(&mut other, slow).await;
    append(&store, "fast", "x").await.unwrap();
    let mark = store.changes(None).await.unwrap().mark;
    run(&mut other, "commit").await;
    let changes = store.changes(Some(mark)).await.unwrap();
    let told: Vec<_> =
        changes.changed.iter().map(|changed| (changed.topic.as_str(), changed.head.offset.0)).collect();
    assert_eq!((told, changes.complete), (vec![("slow", 2)], true));
}

#[tokio::test]
async fn a_mark_from_before_what_was_cleared_is_not_complete() {
    let url = database();
    let store = open(&url).await;
    let old = store.changes(None).await.unwrap().mark;
    append(&store, "t", "x").await.unwrap();
    let mut tool = tool(&url).await;
    let clear = "select bongsu.clear_journal('0 s')";
    // The first notes what the second clears.
    assert_eq!(count(&mut tool, clear).await, 0);
    append(&store, "t", "x").await.unwrap();
    let new = store.changes(None).await.unwrap().mark;
    append(&store, "t", "x").await.unwrap();
    assert_eq!(count(&mut tool, clear).await, 1);
    let changes = store.changes(Some(old)).await.unwrap();
    assert_eq!((changes.complete, changes.changed), (false, Vec::new()));
    let changes = store.changes(Some(new)).await.unwrap();
    assert!(changes.complete);
    assert_eq!(changes.changed[0].before.offset.0, 2);
}
