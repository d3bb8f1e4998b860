//! Listings.

use std::time::Duration;

use bongsu_persistence::store::{ListQuery, LogBounds, Store, TopicsQuery};
use bongsu_protocol::message::Time;
use bongsu_protocol::topic::TopicFilter;

use crate::support::{Build, append, delete, erase, fill, message, purge, stored, topic};

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

fn look_at(filter: Option<&str>, prefix: &str, limit: usize) -> ListQuery {
    let filter = filter.map(|filter| TopicFilter::parse(filter).unwrap());
    ListQuery { filter, prefix: prefix.to_owned(), from: String::new(), limit, names_max: 256 }
}

/// All that a look finds, page by page, and how many pages that took.
async fn look(store: &impl Store, mut query: ListQuery) -> (Vec<String>, usize) {
    let (mut names, mut n_pages) = (Vec::new(), 0);
    loop {
        let listing = store.list(query.clone()).await.unwrap();
        assert!(listing.logs.len() <= query.limit);
        n_pages += 1;
        names.extend(listing.logs.into_iter().map(|log| log.topic.as_str().to_owned()));
        match listing.next {
            Some(next) => query.from = next,
            None => return (names, n_pages),
        }
    }
}

pub(crate) async fn a_listing_tells_bytes_and_the_newest_time(store: &impl Store) {
    let log = async || store.list(look_at(None, "t", 10)).await.unwrap().logs.pop().unwrap();
    // Payload, headers, id and content type count: 10 bytes.
    let mut full = message("12").id("345", Duration::from_secs(60)).at(1234);
    full.message.message.content_type = "67".to_owned();
    full.message.message.headers = vec![("8".to_owned(), "90".to_owned())];
    let outcome = append(store, full).await;
    append(store, message("abcd").at(1000)).await;
    let found = log().await;
    assert_eq!((found.bytes, found.time), (14, Time(1234)), "times never go back");
    erase(store, stored(&outcome).position.unwrap()).await;
    assert_eq!(log().await.bytes, 7, "the id stays");
    purge(store, 1).await;
    assert_eq!(log().await.bytes, 4);
    purge(store, 2).await;
    let found = log().await;
    assert_eq!((found.bytes, found.time), (0, Time(1234)), "of the newest message, also where it is gone");
}

pub(crate) async fn a_look_at_names_goes_on_where_it_ended(store: &impl Store) {
    let name = |n| format!("n/{n:04}/{}", if n % 500 == 7 { "rare" } else { "often" });
    let names: Vec<_> = (0..3000).map(name).collect();
    store.append(names.iter().map(|name| message("x").to(name)).collect()).await.unwrap();
    let rare: Vec<_> = names.iter().filter(|name| name.ends_with("rare")).cloned().collect();
    assert_eq!(look(store, look_at(Some("n/+/rare"), "", 100)).await.0, rare);
    assert_eq!(look(store, look_at(Some("+/+/rare"), "", 1)).await.0, rare);
    assert_eq!(look(store, look_at(Some("n/+"), "", 100)).await.0, [""; 0]);
    let (all, n_pages) = look(store, look_at(None, "", 100)).await;
    assert_eq!((all, n_pages), (names, 30), "the last page says that it is the last");
}

pub(crate) async fn a_prefix_may_end_within_a_level(store: &impl Store) {
    make_logs(store).await;
    let mut below_a: Vec<_> = NAMES.into_iter().filter(|name| name.starts_with('a')).collect();
    below_a.sort_unstable();
    assert_eq!(look(store, look_at(None, "a", 2)).await.0, below_a);
    assert_eq!(look(store, look_at(None, "a/é", 2)).await.0, ["a/é"]);
    assert_eq!(
        look(store, look_at(None, "$s", 2)).await.0,
        ["$sys/x"],
        "without a filter, the broker's own too"
    );
    assert_eq!(look(store, look_at(Some("a/+"), "a/b", 2)).await.0, ["a/b"]);
    assert_eq!(look(store, look_at(Some("+"), "봉", 2)).await.0, ["봉수"]);
    assert_eq!(look(store, look_at(None, "zz", 2)).await.0, [""; 0]);
}
