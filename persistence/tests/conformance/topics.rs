//! Listings.

use bongsu_persistence::store::{LogBounds, Store, TopicsQuery};
use bongsu_protocol::topic::TopicFilter;

use crate::support::{Build, append, delete, fill, message, purge, topic};

async fn list(store: &impl Store, filter: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let query = TopicsQuery { filter: TopicFilter::parse(filter).unwrap(), after: after.map(topic), limit };
    let logs = store.topics(query).await.unwrap();
    logs.into_iter().map(|log| log.topic.as_str().to_owned()).collect()
}

const NAMES: [&str; 11] = ["$sys/x", "a", "a!", "a-b", "a/b", "a/b/c", "a/é", "a0", "ab", "b", "봉수"];

async fn make_logs(store: &impl Store) {
    let batch = NAMES.iter().rev().map(|name| message("x").to(name)).collect();
    store.append(batch).await.unwrap();
}

pub(crate) async fn logs_are_listed_in_the_order_of_their_names(store: &impl Store) {
    make_logs(store).await;
    let mut sorted = NAMES;
    sorted.sort_unstable();
    assert_eq!(list(store, "#", None, 100).await, sorted[1..], "all but `$sys`");
    assert_eq!(list(store, "$sys/#", None, 100).await, ["$sys/x"]);
}

pub(crate) async fn filters_match_as_everywhere(store: &impl Store) {
    make_logs(store).await;
    for filter in
        ["#", "+", "a", "a/#", "a/+", "a/b", "a/b/#", "+/b", "+/+", "a/+/c", "zzz", "zzz/#", "a/b/c/#", "b/+"]
    {
        let parsed = TopicFilter::parse(filter).unwrap();
        let mut expected: Vec<_> = NAMES.iter().filter(|name| parsed.matches(&topic(name))).collect();
        expected.sort_unstable();
        assert_eq!(list(store, filter, None, 100).await.iter().collect::<Vec<_>>(), expected, "{filter}");
    }
}

pub(crate) async fn a_listing_goes_on_after_a_name(store: &impl Store) {
    make_logs(store).await;
    assert_eq!(list(store, "a/#", None, 2).await, ["a", "a/b"]);
    assert_eq!(list(store, "a/#", Some("a/b"), 2).await, ["a/b/c", "a/é"]);
    assert_eq!(list(store, "a/#", Some("a/é"), 2).await, [""; 0]);
    assert_eq!(list(store, "a/#", Some("a"), 9).await, ["a/b", "a/b/c", "a/é"]);
    assert_eq!(list(store, "a/#", Some("0"), 1).await, ["a"]);
    assert_eq!(list(store, "#", Some("a/no such topic"), 1).await, ["a/é"], "the name needs no log");
    assert_eq!(list(store, "a", Some("a"), 9).await, [""; 0]);
    assert_eq!(list(store, "#", None, 0).await, [""; 0]);
    assert_eq!(list(store, "a", None, 0).await, [""; 0]);
}

pub(crate) async fn many_logs_are_listed_page_by_page(store: &impl Store) {
    let names: Vec<_> =
        (0..2500).map(|n| format!("n/{n:04}/{}", if n % 100 == 0 { "rare" } else { "often" })).collect();
    store.append(names.iter().map(|name| message("x").to(name)).collect()).await.unwrap();
    let mut listed: Vec<String> = Vec::new();
    loop {
        let after = listed.last().cloned();
        let page = list(store, "n/#", after.as_deref(), 1000).await;
        let last = page.len() < 1000;
        listed.extend(page);
        if last {
            break;
        }
    }
    assert_eq!(listed, names);
    let rare: Vec<_> = names.iter().filter(|name| name.ends_with("rare")).collect();
    assert_eq!(list(store, "+/+/rare", None, 1000).await.iter().collect::<Vec<_>>(), rare);
    assert_eq!(list(store, "n/+/rare", None, usize::MAX).await.len(), 25);
}

pub(crate) async fn bounds_tell_what_is_kept(store: &impl Store) {
    fill(store, 5).await;
    append(store, message("x").to("u")).await;
    let bounds = async || {
        let query = TopicsQuery { filter: TopicFilter::parse("t").unwrap(), after: None, limit: 10 };
        let logs = store.topics(query).await.unwrap();
        logs.iter().map(|LogBounds { first, head, .. }| (first.offset.0, head.offset.0)).collect::<Vec<_>>()
    };
    assert_eq!(bounds().await, [(1, 5)]);
    purge(store, 2).await;
    assert_eq!(bounds().await, [(3, 5)]);
    purge(store, 5).await;
    assert_eq!(bounds().await, [(6, 5)]);
    delete(store).await;
    assert_eq!(bounds().await, []);
    assert_eq!(list(store, "#", None, 10).await, ["u"]);
}
