//! Partitions: made ahead, read as one log, dropped whole.

use std::time::Duration;

use bongsu_persistence::postgres::PostgresStore;
use bongsu_persistence::store::{Append, Removal, Retention, Store};
use bongsu_protocol::command::{HistoryRange, Start};
use bongsu_protocol::message::Time;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{
    append, count, database, eventually, log, message, open, read, run, texts, tool, topic,
};

/// Lets a day go by.
async fn a_day_later(store: &PostgresStore, tool: &mut PgConnection) {
    run(tool, "update bongsu.partitions set starts = starts - interval '1 day'").await;
    store.upkeep().await.unwrap();
}

async fn append_at(store: &PostgresStore, name: &str, time: u64) {
    store.append(vec![Append { time: Time(time), ..message(name, &time.to_string(), "") }]).await.unwrap();
}

async fn retain(store: &PostgresStore, name: &str, age_ms: u64, now: u64) -> u64 {
    let retention = Retention { age: Some(Duration::from_millis(age_ms)), ..Retention::default() };
    store.remove(Removal::Retain { topic: topic(name), retention, now: Time(now) }).await.unwrap().count
}

/// The partitions that are there.
async fn tables(tool: &mut PgConnection) -> Vec<String> {
    let sql =
        "select tablename::text from pg_tables where schemaname = 'bongsu' and tablename like 'messages\\__%'
        order by length(tablename), tablename";
    texts(tool, sql).await
}

/// The partition of a log's newest message.
async fn partition(tool: &mut PgConnection, name: &str) -> i64 {
    count(tool, &format!("select partition::bigint from bongsu.logs where topic = '{name}'")).await
}

#[tokio::test]
async fn partitions_are_there_before_their_time() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    let ahead = "select count(*) from bongsu.partitions where starts > now()";
    assert_eq!(count(&mut tool, ahead).await, 2);
    a_day_later(&store, &mut tool).await;
    assert_eq!(count(&mut tool, ahead).await, 2);
}

#[tokio::test]
async fn a_log_reads_as_one_across_partitions() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    let mut partitions = Vec::new();
    for day in 0..4 {
        for n in 0..3 {
            append_at(&store, "t", 1000 + day * 10 + n).await;
        }
        partitions.push(partition(&mut tool, "t").await);
        a_day_later(&store, &mut tool).await;
    }
    assert!(partitions.is_sorted_by(|a, b| a < b), "{partitions:?}");
    assert_eq!(log(&store, "t").await.len(), 12);
    let newest_first = read(&store, "t", HistoryRange::Backward(None)).await.unwrap();
    let times: Vec<u64> = newest_first.messages.iter().map(|delivery| delivery.time.0).collect();
    assert_eq!(times, [1032, 1031, 1030, 1022, 1021, 1020, 1012, 1011, 1010, 1002, 1001, 1000]);
    for (time, offset) in
        [(0, 1), (1000, 1), (1002, 3), (1003, 4), (1010, 4), (1021, 8), (1032, 12), (1033, 13)]
    {
        let page = read(&store, "t", HistoryRange::Forward(Start::Time(Time(time)))).await.unwrap();
        let first = page.messages.first().map_or(13, |delivery| delivery.position.unwrap().offset.0);
        assert_eq!(first, offset, "from {time}");
    }
}

#[tokio::test]
async fn retention_by_age_drops_partitions_and_deletes_no_row() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    for n in 0..50 {
        append_at(&store, "a", 1000 + n).await;
        append_at(&store, "b", 1000 + n).await;
    }
    let old = format!("messages_{}", partition(&mut tool, "a").await);
    a_day_later(&store, &mut tool).await;
    append_at(&store, "a", 2000).await;
    append_at(&store, "b", 2000).await;
    assert_eq!(retain(&store, "a", 100, 2010).await, 50);
    // The other log still needs it.
    assert_eq!(store.upkeep().await.unwrap().partitions_dropped, 0);
    assert_eq!(retain(&store, "b", 100, 2010).await, 50);
    let rows = format!("select count(*) from bongsu.{old}");
    assert_eq!(count(&mut tool, &rows).await, 100, "no row was deleted");
    let upkept = store.upkeep().await.unwrap();
    assert_eq!((upkept.partitions_dropped, upkept.rows_swept), (1, 0));
    assert!(!tables(&mut tool).await.contains(&old));
    for name in ["a", "b"] {
        assert_eq!(log(&store, name).await.into_iter().collect::<Vec<_>>(), [(51, "2000".to_owned())]);
    }
}

#[tokio::test]
async fn a_log_that_ran_empty_keeps_no_partition() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    append_at(&store, "once", 1000).await;
    let old = format!("messages_{}", partition(&mut tool, "once").await);
    a_day_later(&store, &mut tool).await;
    assert_eq!(retain(&store, "once", 100, 5000).await, 1);
    store.upkeep().await.unwrap();
    assert!(!tables(&mut tool).await.contains(&old));
    assert_eq!(append(&store, "once", "x").await.unwrap().offset.0, 2);
}

#[tokio::test]
async fn rows_that_nobody_needs_are_deleted_in_time_where_others_keep_the_partition() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    append_at(&store, "kept", 1000).await;
    for n in 0..50 {
        append_at(&store, "old", 1000 + n).await;
    }
    append_at(&store, "deleted", 1000).await;
    let partition = partition(&mut tool, "kept").await;
    let rows = format!("select count(*) from bongsu.messages_{partition}");
    a_day_later(&store, &mut tool).await;
    append_at(&store, "old", 2000).await;
    retain(&store, "old", 100, 2010).await;
    store.remove(Removal::Delete { topic: topic("deleted") }).await.unwrap();
    assert_eq!(store.upkeep().await.unwrap().rows_swept, 1, "of the deleted log, at once");
    assert_eq!(count(&mut tool, &rows).await, 51);
    run(&mut tool, "update bongsu.dead set due = due - interval '1 day'").await;
    assert_eq!(store.upkeep().await.unwrap().rows_swept, 50);
    assert_eq!(count(&mut tool, &rows).await, 1);
    assert_eq!(log(&store, "kept").await.len(), 1);
}

#[tokio::test]
async fn a_partition_is_not_dropped_under_an_append_that_began_before() {
    let url = database();
    let store = open(&url).await;
    let mut slow = tool(&url).await;
    let append = "begin; select bongsu.append(false, false, '{slow}', '{1}', '{1}', '{1000}', '{1000}', '{1}', '{1}', '{1000}', '{1000}',
        '{1}', null, null, null, null, null, null, null, null, '{x}')";
    run(&mut slow, append).await;
    let mut tool = tool(&url).await;
    run(&mut tool, "update bongsu.partitions set starts = starts - interval '1 day'").await;
    // Whoever drops it waits for the append, which commits meanwhile.
    let waiting =
        "select count(*) from pg_locks where not granted and relation = 'bongsu.messages_2'::regclass";
    let commit = async {
        eventually("a lock that is waited for", async || (count(&mut tool, waiting).await > 0).then_some(()))
            .await;
        run(&mut slow, "commit").await;
    };
    let (upkept, ()) = futures_util::future::join(store.upkeep(), commit).await;
    assert_eq!(upkept.unwrap().partitions_dropped, 1, "the first one, which was always empty");
    assert_eq!(log(&store, "slow").await.len(), 1);
}

#[tokio::test]
async fn a_page_is_one_range_of_one_index() {
    let url = database();
    let store = open(&url).await;
    let mut tool = tool(&url).await;
    for name in ["a", "b", "c"] {
        store.append((0..2000).map(|n| message(name, &n.to_string(), "")).collect()).await.unwrap();
    }
    let partition = partition(&mut tool, "b").await;
    run(&mut tool, "analyze").await;
    // The plan is that of the function, which has settings of its own.
    let settings = "select 'set ' || setting from pg_proc, unnest(proconfig) setting where oid = 'bongsu.range'::regproc";
    for setting in texts(&mut tool, settings).await {
        run(&mut tool, &setting).await;
    }
    for backward in [false, true] {
        let statement =
            texts(&mut tool, &format!("select format(bongsu.range_statement({backward}), {partition})"))
                .await
                .remove(0);
        let prepare = format!("prepare page (bigint, bigint, bigint, bigint) as {statement}");
        run(&mut tool, &prepare).await;
        let plan = tool
            .fetch_all(AssertSqlSafe(
                "explain (analyze, costs off, timing off, summary off) execute page (2, 1500, 1599, 1048576)",
            ))
            .await
            .unwrap();
        let plan: Vec<String> = plan.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        let plan = plan.join("\n");
        let scan = if backward { "Index Scan Backward using" } else { "Index Scan using" };
        assert!(plan.contains(&format!("{scan} messages_{partition}_pkey")), "{plan}");
        assert_eq!(plan.matches("rows=100 ").count(), 3, "it reads what it gives: {plan}");
        assert_eq!(plan.matches(" on messages_").count(), 1, "{plan}");
        assert!(!plan.contains("Sort") && !plan.contains("Bitmap"), "{plan}");
        run(&mut tool, "deallocate page").await;
    }
}
