//! Pages.

use bongsu_persistence::store::{Removal, Store};
use bongsu_protocol::command::HistoryRange::{Backward, Forward};
use bongsu_protocol::command::{HistoryQuery, Start};
use bongsu_protocol::limits::{PAGE_BYTES_MAX, PAGE_MESSAGES_MAX, PAYLOAD_BYTES_MAX};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::{Offset, Position};
use bytes::Bytes;

use crate::support::{Build, append, bounds, fill, message, offsets, page, purge, topic};

pub(crate) async fn a_topic_without_a_log_has_epoch_zero(store: &impl Store) {
    append(store, message("a").to("other")).await;
    for range in
        [Forward(Start::Earliest), Forward(Start::Last(3)), Forward(Start::Time(Time(0))), Backward(None)]
    {
        let page = page(store, range, 10).await;
        assert_eq!((page.first, page.head), (Position::new(0, 1), Position::new(0, 0)));
        assert_eq!((page.messages.len(), page.more), (0, false));
    }
}

pub(crate) async fn forward_reads_from_every_kind_of_start(store: &impl Store) {
    let epoch = fill(store, 5).await;
    for (start, expected) in [
        (Start::Earliest, vec![1, 2, 3, 4, 5]),
        (Start::Latest, vec![]),
        (Start::Last(0), vec![]),
        (Start::Last(2), vec![4, 5]),
        (Start::Last(5), vec![1, 2, 3, 4, 5]),
        (Start::Last(u64::MAX), vec![1, 2, 3, 4, 5]),
        (Start::After(Position::new(epoch, 0)), vec![1, 2, 3, 4, 5]),
        (Start::After(Position::new(epoch, 3)), vec![4, 5]),
        (Start::After(Position::new(epoch, 5)), vec![]),
        (Start::Time(Time(1003)), vec![4, 5]),
    ] {
        let page = page(store, Forward(start), 10).await;
        assert_eq!(offsets(&page), expected, "{start:?}");
        assert_eq!(bounds(&page), (1, 5, false), "{start:?}");
        assert_eq!(page.head.epoch.0, epoch);
    }
}

pub(crate) async fn starts_before_the_first_kept_message_read_from_it(store: &impl Store) {
    let epoch = fill(store, 5).await;
    purge(store, 3).await;
    for start in [
        Start::Earliest,
        Start::Last(4),
        Start::After(Position::new(epoch, 0)),
        Start::After(Position::new(epoch, 2)),
        Start::Time(Time(1000)),
    ] {
        let page = page(store, Forward(start), 10).await;
        assert_eq!(offsets(&page), [4, 5], "{start:?}");
        assert_eq!(bounds(&page), (4, 5, false), "{start:?}");
    }
    purge(store, 5).await;
    for start in
        [Start::Earliest, Start::Last(4), Start::After(Position::new(epoch, 2)), Start::Time(Time(0))]
    {
        let page = page(store, Forward(start), 10).await;
        assert_eq!(offsets(&page), [0; 0], "{start:?}");
        assert_eq!(bounds(&page), (6, 5, false), "{start:?}");
    }
    assert_eq!(bounds(&page(store, Backward(None), 10).await), (6, 5, false));
}

pub(crate) async fn backward_reads_newest_first(store: &impl Store) {
    let epoch = fill(store, 5).await;
    let before = |offset| Backward(Some(Position::new(epoch, offset)));
    for (range, expected) in [
        (Backward(None), vec![5, 4, 3, 2, 1]),
        (before(6), vec![5, 4, 3, 2, 1]),
        (before(5), vec![4, 3, 2, 1]),
        (before(2), vec![1]),
        (before(1), vec![]),
        (before(0), vec![]),
    ] {
        let page = page(store, range, 10).await;
        assert_eq!(offsets(&page), expected, "{range:?}");
        assert_eq!(bounds(&page), (1, 5, false), "{range:?}");
    }
    purge(store, 2).await;
    assert_eq!(offsets(&page(store, before(5), 10).await), [4, 3]);
    assert_eq!(offsets(&page(store, before(3), 10).await), [0; 0]);
    assert_eq!(offsets(&page(store, before(1), 10).await), [0; 0]);
}

pub(crate) async fn another_epoch_and_past_the_head_are_empty_with_bounds(store: &impl Store) {
    let epoch = fill(store, 5).await;
    for position in [
        Position::new(0, 0),
        Position::new(epoch - 1, 2),
        Position::new(epoch + 1, 2),
        Position::new(epoch, 7),
        Position::new(epoch, u64::MAX),
    ] {
        for range in [Forward(Start::After(position)), Backward(Some(position))] {
            let page = page(store, range, 10).await;
            assert_eq!(offsets(&page), [0; 0], "{range:?}");
            assert_eq!(bounds(&page), (1, 5, false), "{range:?}");
            assert_eq!(page.head, Position::new(epoch, 5));
        }
    }
    assert_eq!(offsets(&page(store, Forward(Start::Time(Time(u64::MAX))), 10).await), [0; 0]);
}

pub(crate) async fn a_page_by_time_starts_with_the_first_message_of_that_time(store: &impl Store) {
    let times = [10, 20, 20, 20, 30, 50, 50];
    store.append(times.iter().map(|time| message("a").at(*time)).collect()).await.unwrap();
    for n_purged in [0, 2, 6] {
        purge(store, n_purged).await;
        for time in [0, 10, 11, 20, 21, 30, 31, 50, 51] {
            let expected: Vec<u64> = (1..)
                .zip(times)
                .filter(|(offset, found)| *found >= time && *offset > n_purged)
                .map(|(offset, _)| offset)
                .collect();
            let page = page(store, Forward(Start::Time(Time(time))), 10).await;
            assert_eq!(offsets(&page), expected, "from {time} with {n_purged} purged");
        }
    }
}

pub(crate) async fn a_page_has_at_most_the_messages_asked_for(store: &impl Store) {
    fill(store, 5).await;
    for (range, limit, expected, more) in [
        (Forward(Start::Earliest), 2, vec![1, 2], true),
        (Forward(Start::Earliest), 5, vec![1, 2, 3, 4, 5], false),
        (Forward(Start::Last(3)), 2, vec![3, 4], true),
        (Forward(Start::Earliest), 0, vec![], true),
        (Forward(Start::Latest), 0, vec![], false),
        (Backward(None), 2, vec![5, 4], true),
        (Backward(None), 5, vec![5, 4, 3, 2, 1], false),
        (Backward(None), 0, vec![], true),
    ] {
        let page = page(store, range, limit).await;
        assert_eq!((offsets(&page), page.more), (expected, more), "{range:?} limit {limit}");
    }
}

pub(crate) async fn a_page_has_at_most_the_messages_of_the_protocol(store: &impl Store) {
    let n_messages = PAGE_MESSAGES_MAX as u64 + 10;
    fill(store, n_messages).await;
    let forward = page(store, Forward(Start::Earliest), u32::MAX).await;
    assert_eq!((forward.messages.len(), forward.more), (PAGE_MESSAGES_MAX, true));
    let backward = page(store, Backward(None), u32::MAX).await;
    assert_eq!((backward.messages.len(), backward.more), (PAGE_MESSAGES_MAX, true));
    assert_eq!(offsets(&backward).first(), Some(&n_messages));
}

pub(crate) async fn a_page_has_at_most_the_bytes_of_the_protocol(store: &impl Store) {
    let quarter = "x".repeat(PAGE_BYTES_MAX / 4);
    // Four fill a page exactly; then one byte too many makes it three.
    for payload in [&quarter, &quarter, &quarter, &quarter, &format!("{quarter}x"), &quarter, &quarter] {
        append(store, message(payload)).await;
    }
    let forward = page(store, Forward(Start::Earliest), 100).await;
    assert_eq!((offsets(&forward), forward.more), (vec![1, 2, 3, 4], true));
    let forward =
        page(store, Forward(Start::After(Position { offset: Offset(1), ..forward.head })), 100).await;
    assert_eq!((offsets(&forward), forward.more), (vec![2, 3, 4], true));
    let backward = page(store, Backward(None), 100).await;
    assert_eq!((offsets(&backward), backward.more), (vec![7, 6, 5], true));
    let backward = page(store, Backward(Some(Position { offset: Offset(5), ..backward.head })), 100).await;
    assert_eq!((offsets(&backward), backward.more), (vec![4, 3, 2, 1], false));
}

pub(crate) async fn a_page_has_one_message_however_large(store: &impl Store) {
    let mut largest = message("");
    largest.message.message.payload = Bytes::from(vec![1; PAYLOAD_BYTES_MAX]);
    // Past what the protocol allows; a page must not get stuck on it.
    let mut larger = message("");
    larger.message.message.payload = Bytes::from(vec![1; PAYLOAD_BYTES_MAX + 1]);
    store.append(vec![message("a"), largest, larger, message("b")]).await.unwrap();
    for (range, expected) in [
        (Forward(Start::Earliest), 1),
        (Forward(Start::Last(3)), 2),
        (Forward(Start::Last(2)), 3),
        (Backward(None), 4),
    ] {
        assert_eq!(offsets(&page(store, range, 10).await), [expected], "{range:?}");
    }
}

pub(crate) async fn pages_put_together_are_the_log(store: &impl Store) {
    let epoch = fill(store, 25).await;
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let mut start = Start::Earliest;
    loop {
        let page = page(store, Forward(start), 4).await;
        forward.extend(offsets(&page));
        start = Start::After(Position::new(epoch, *forward.last().unwrap()));
        if !page.more {
            break;
        }
    }
    let mut before = None;
    loop {
        let page = page(store, Backward(before), 4).await;
        backward.extend(offsets(&page));
        before = Some(Position::new(epoch, *backward.last().unwrap()));
        if !page.more {
            break;
        }
    }
    assert_eq!(forward, (1..=25).collect::<Vec<_>>());
    assert_eq!(backward, (1..=25).rev().collect::<Vec<_>>());
}

pub(crate) async fn a_page_and_its_bounds_are_of_one_moment(store: &impl Store) {
    let write = async {
        for n in 0..100 {
            append(store, message("a")).await;
            append(store, message("b")).await;
            let removal = Removal::Purge { topic: topic("t"), until: Offset(n) };
            store.remove(removal).await.unwrap();
        }
    };
    let read = async {
        for n in 0..200 {
            let range = if n % 2 == 0 { Forward(Start::Earliest) } else { Backward(None) };
            let page = store.read(HistoryQuery { topic: topic("t"), range, limit: 500 }).await.unwrap();
            let mut expected: Vec<_> = (page.first.offset.0..=page.head.offset.0).collect();
            if n % 2 == 1 {
                expected.reverse();
            }
            assert_eq!(offsets(&page), expected);
        }
    };
    tokio::join!(write, read);
}
