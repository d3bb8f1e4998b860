//! What holds for every bus.

use bongsu::bus::{Channel, Error, Frame, Received};
use bytes::Bytes;
use futures_util::future;

use crate::node::{PATIENCE, channels, frame};
use crate::world::World;

pub(crate) async fn frames_arrive_at_every_node_that_wants_their_channel(world: World) {
    let (publisher, mut one, mut two) = (world.join().await, world.join().await, world.join().await);
    one.subscribe(&["x", "y"]).await;
    two.subscribe(&["y"]).await;
    publisher.publish_all(vec![frame("x", "1"), frame("y", "2")]).await.unwrap();
    let mut heard = vec![one.next().await, one.next().await];
    // Between channels there is no order.
    heard.sort_by_key(|received| format!("{received:?}"));
    assert_eq!(heard, [Received::Frame(frame("x", "1")), Received::Frame(frame("y", "2"))]);
    assert_eq!(two.next().await, Received::Frame(frame("y", "2")));
}

pub(crate) async fn nothing_arrives_of_a_channel_that_is_not_wanted(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    node.subscribe(&["x"]).await;
    publisher.publish("y", "not for us").await;
    publisher.publish("x", "1").await;
    assert_eq!(node.next_payload().await, "1");
}

pub(crate) async fn own_frames_come_back(world: World) {
    let mut node = world.join().await;
    node.subscribe(&["x"]).await;
    node.publish("x", "mine").await;
    assert_eq!(node.next_payload().await, "mine");
}

pub(crate) async fn order_holds_on_a_channel_from_one_publisher(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    node.subscribe(&["x", "y"]).await;
    for first in (0..500).step_by(10) {
        let frames = (first..first + 10).flat_map(|n| [frame("x", &n.to_string()), frame("y", "between")]);
        publisher.publish_all(frames.collect()).await.unwrap();
    }
    let mut expected = 0;
    while expected < 500 {
        if let Received::Frame(frame) = node.next().await
            && &*frame.channel == "x"
        {
            assert_eq!(frame.payload, expected.to_string());
            expected += 1;
        }
    }
}

pub(crate) async fn calls_that_begin_one_after_another_keep_their_order(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    node.subscribe(&["x"]).await;
    let calls = (0..200).map(|n| publisher.try_publish("x", Box::leak(n.to_string().into_boxed_str())));
    assert!(future::join_all(calls).await.iter().all(Result::is_ok));
    for n in 0..200 {
        assert_eq!(node.next_payload().await, n.to_string());
    }
}

pub(crate) async fn what_is_published_after_subscribe_is_ready_arrives(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    for n in 0..100 {
        let name = format!("c{n}");
        node.subscribe(&[&name]).await;
        publisher.publish(&name, &name).await;
        assert_eq!(node.next_payload().await, name);
    }
}

pub(crate) async fn a_channel_that_is_no_longer_wanted_falls_silent(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    node.subscribe(&["x", "y"]).await;
    node.unsubscribe(&["x"]);
    // Frames may come for a while; as soon as one of two that are published in turn is missing, the other must not be.
    let heard = async {
        loop {
            publisher.publish_all(vec![frame("x", "old"), frame("y", "new")]).await.unwrap();
            let mut is_silent = true;
            while node.next_payload().await == "old" {
                is_silent = false;
            }
            if is_silent {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the channel falls silent");
}

pub(crate) async fn wanting_twice_is_wanting_once(world: World) {
    let mut node = world.join().await;
    node.subscribe(&["x", "x"]).await;
    node.subscribe(&["x"]).await;
    node.publish_all(vec![frame("x", "once"), frame("x", "end")]).await.unwrap();
    assert_eq!((node.next_payload().await.as_str(), node.next_payload().await.as_str()), ("once", "end"));
    node.unsubscribe(&["x"]);
    node.subscribe(&["y"]).await;
    let heard = async {
        loop {
            node.publish_all(vec![frame("x", "old"), frame("y", "new")]).await.unwrap();
            if node.next_payload().await == "new" {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("one unsubscribe is enough");
}

pub(crate) async fn the_last_word_on_a_channel_holds(world: World) {
    let mut node = world.join().await;
    for n in 0..200 {
        let name = format!("c{}", n % 7);
        let pending = node.bus.subscribe(channels(&[&name]));
        if n % 3 == 0 {
            // A call that is given up wants its channel all the same.
            drop(pending);
        } else {
            tokio::select! {
                biased;
                result = pending => result.unwrap(),
                () = turns(n % 20) => {}
            }
            node.unsubscribe(&[&name]);
        }
        node.unsubscribe(&[&name]);
        drop(node.bus.subscribe(channels(&[&name])));
        if n % 2 == 0 {
            node.unsubscribe(&[&name]);
        }
        node.subscribe(&[&name]).await;
        while node.inbox.received.try_recv().is_some() {}
        node.publish(&name, "heard").await;
        while node.next().await != Received::Frame(frame(&name, "heard")) {}
    }
}

/// Lets others work for a while.
async fn turns(n: u64) {
    for _ in 0..n {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn payloads_are_any_bytes_of_any_size(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    node.subscribe(&["x"]).await;
    let mut bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    bytes.extend(b"\r\n$-1\r\n>3\r\n");
    for payload in [Bytes::new(), Bytes::from(bytes), Bytes::from_static(b"\r\n\0*")] {
        let frame = Frame { channel: "x".into(), payload };
        publisher.publish_all(vec![frame.clone()]).await.unwrap();
        assert!(node.next().await == Received::Frame(frame), "the same bytes arrive");
    }
}

pub(crate) async fn channels_are_any_text(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    let long = "x".repeat(900);
    for name in [
        "",
        " ",
        "a b",
        "*",
        "{}",
        "{a}b",
        "b{a}",
        "}{",
        "chat/{room}/1",
        "한글/ü",
        "a:b",
        "c:",
        "\r\n",
        "\0",
        &long,
    ] {
        node.subscribe(&[name]).await;
        publisher.publish(name, name).await;
        assert_eq!(node.next().await, Received::Frame(frame(name, name)));
    }
}

pub(crate) async fn ten_thousand_channels_are_subscribed_together(world: World) {
    let (publisher, mut node) = (world.join().await, world.join().await);
    let names: Vec<_> = (0..10_000).map(|n| format!("room/{n}")).collect();
    let wanted: Vec<Channel> = names.iter().map(|name| Channel::from(name.as_str())).collect();
    tokio::time::timeout(PATIENCE, node.bus.subscribe(wanted)).await.expect("it ends").unwrap();
    for some in names.chunks(500) {
        publisher.publish_all(some.iter().map(|name| frame(name, name)).collect()).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < names.len() {
        heard.push(node.next_payload().await);
    }
    let mut expected = names.clone();
    expected.sort();
    heard.sort();
    assert!(heard == expected, "a frame of each channel arrives once");
}

pub(crate) async fn a_full_inbox_tells_one_interruption_and_goes_on(world: World) {
    let (publisher, mut node, mut witness) = (world.join().await, world.join().await, world.join().await);
    // One channel of one server, so that whoever has the last frame has had all others.
    node.subscribe(&["x"]).await;
    witness.subscribe(&["x"]).await;
    let payload = "x".repeat(1 << 20);
    for _ in 0..40 {
        publisher.publish("x", &payload).await;
        witness.next_payload().await;
    }
    let mut frames = 0;
    while node.next().await != Received::Interrupted {
        frames += 1;
    }
    assert!((16..40).contains(&frames), "{frames} frames were kept");
    publisher.publish("x", "after").await;
    // What was under way to the full inbox still comes, without another interruption.
    while node.next_payload().await != "after" {}
}

pub(crate) async fn clusters_do_not_hear_each_other(world: World) {
    let names = ["a", "a:c", "a:c:a", "A", "{a}", "a*", "ä"];
    let mut nodes = Vec::new();
    for name in names {
        let node = world.join_cluster(name).await;
        node.subscribe(&["a", "c:a", "a:c:a"]).await;
        nodes.push(node);
    }
    for (node, name) in nodes.iter().zip(names) {
        node.publish("a", name).await;
        node.publish("c:a", name).await;
    }
    for (node, name) in nodes.iter_mut().zip(names) {
        node.publish("a:c:a", "end").await;
        let mut heard = [node.next_payload().await, node.next_payload().await, node.next_payload().await];
        heard.sort();
        let mut expected = [name, name, "end"];
        expected.sort_unstable();
        assert_eq!(heard, expected);
    }
}

pub(crate) async fn a_bus_without_its_server_errs_and_does_not_hang(world: World) {
    let Some(mut node) = world.join_nowhere() else { return };
    node.degraded().await;
    assert!(matches!(node.try_publish("x", "lost").await, Err(Error::Unavailable(_))));
    let subscribed = tokio::time::timeout(PATIENCE, node.bus.subscribe(channels(&["x"]))).await;
    assert!(matches!(subscribed, Ok(Err(Error::Unavailable(_)))), "{subscribed:?}");
    node.unsubscribe(&["x"]);
}

pub(crate) async fn the_inbox_ends_with_the_bus(world: World) {
    let node = world.join().await;
    node.subscribe(&["x"]).await;
    let mut inbox = node.inbox;
    drop((node.bus, node.commands));
    let ended = async { while inbox.received.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the inbox ends");
}
