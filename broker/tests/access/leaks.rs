//! What nobody may learn by the way.

use bongsu_protocol::command::{Command, HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Event;
use bongsu_protocol::reason::ErrorCode;
use bytes::Bytes;
use serde_json::json;

use crate::native::{Native, Way};
use crate::support::http::ask;
use crate::ways::topic;
use crate::world::{ROOT, Token, World};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Knows every topic, and nobody on it.
fn reader() -> Token {
    Token { presence: Vec::new(), ..Token::all("reader", &["#"]) }
}

#[tokio::test]
async fn whoever_may_not_see_presence_learns_of_nobody() {
    let world = World::start(&[reader(), Token::all("ada", &["#"])]);
    let mut reader = Native::connect(&world, Way::Json, "reader").await;
    for filter in ["$presence/room", "$presence/+", "$presence/#"] {
        for start in [Start::Latest, Start::Earliest] {
            let error = reader.subscribe(filter, start).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::Forbidden, "{filter}");
        }
        let path = format!("/v1/events?topic={}", filter.replace('$', "%24").replace('#', "%23"));
        assert_eq!(world.ask("reader", "GET", &path, &[], "").status, 403, "{path}");
    }
    for wide in ["#", "+/#", "+/room"] {
        reader.subscribe(wide, Start::Earliest).await.unwrap();
    }
    let range = HistoryRange::Forward(Start::Earliest);
    let query = HistoryQuery { topic: topic("$presence/room"), range, limit: 10 };
    let asked = [
        Command::Members { topic: topic("room") },
        Command::Enter { topic: topic("room"), info: Bytes::new() },
        Command::History(query),
    ];
    for command in asked {
        let error = reader.ask(command.clone()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Forbidden, "{command:?}");
    }

    let mut watcher = Native::connect(&world, Way::Json, "ada").await;
    watcher.subscribe("$presence/room", Start::Latest).await.unwrap();
    let mut ada = Native::connect(&world, Way::Json, "ada").await;
    ada.ask(Command::Enter { topic: topic("room"), info: Bytes::from_static(b"1") }).await.unwrap();
    assert!(watcher.delivery().await.is_some(), "whoever may see it is told");
    ada.ask(Command::Leave { topic: topic("room") }).await.unwrap();
    assert!(watcher.delivery().await.is_some());

    // What is published after it comes; what it would have been told of came before.
    world.publish("room", &json!(1));
    let first = reader.delivery().await.unwrap();
    assert_eq!(first.topic.as_str(), "room", "{first:?}");
}

#[tokio::test]
async fn whoever_is_taken_back_leaves_and_is_told_of_no_one() {
    let world = World::start(&[Token::all("ada", &["#"]), Token::all("bob", &["#"])]);
    let mut bob = Native::connect(&world, Way::Binary, "bob").await;
    bob.subscribe("$presence/room", Start::Latest).await.unwrap();
    let mut ada = Native::connect(&world, Way::Binary, "ada").await;
    ada.subscribe("$presence/room", Start::Latest).await.unwrap();
    ada.ask(Command::Enter { topic: topic("room"), info: Bytes::new() }).await.unwrap();
    assert!(bob.delivery().await.is_some(), "ada came");
    world.block("ada").await;
    assert!(bob.delivery().await.is_some(), "ada left");
    bob.ask(Command::Enter { topic: topic("room"), info: Bytes::new() }).await.unwrap();
    assert!(bob.delivery().await.is_some(), "bob came");
    let mut told = Vec::new();
    while let Some(event) = ada.event().await {
        told.extend(match event {
            Event::Delivery(delivery) => Some(delivery.message.payload.clone()),
            _ => None,
        });
    }
    let of_bob = told.iter().filter(|payload| payload.windows(5).any(|bytes| bytes == b"\"bob\""));
    assert_eq!(of_bob.count(), 0, "{told:?}");
}

#[tokio::test]
async fn a_fork_takes_what_its_maker_may_read_and_is_read_by_whoever_may_read_the_fork() {
    let token = |name: &str, history: &[&str], publish: &[&str]| Token {
        history: history.iter().map(|filter| (*filter).to_owned()).collect(),
        publish: publish.iter().map(|filter| (*filter).to_owned()).collect(),
        ..Token { name: name.to_owned(), ..Token::default() }
    };
    let world = World::start(&[
        token("maker", &["source"], &["source", "fork"]),
        token("writer", &[], &["source", "fork", "stolen"]),
        token("guest", &["source"], &["stolen"]),
        token("reader", &["fork"], &[]),
    ]);
    let put = |who: &str, path: &str, source: &str| {
        let from = [JSON, ("stream-forked-from", source)];
        world.ask(who, "PUT", path, if source.is_empty() { &from[..1] } else { &from }, "").status
    };
    assert_eq!(put(ROOT, "/v1/stream/source", ""), 201);
    assert_eq!(world.ask(ROOT, "POST", "/v1/stream/source", &[JSON], "[\"secret\"]").status, 204);
    let read = |who: &str, path: &str| world.ask(who, "GET", path, &[], "");
    // Who may write and not read gets it no other way; nor whoever may read, by writing nothing of the source.
    assert_eq!(put("writer", "/v1/stream/stolen", "/v1/stream/source"), 403);
    assert_eq!(put("guest", "/v1/stream/stolen", "/v1/stream/source"), 403);
    assert_eq!(read(ROOT, "/v1/stream/stolen").status, 404, "nothing was made of it");
    assert_eq!(put("maker", "/v1/stream/fork", "/v1/stream/source"), 201);
    assert_eq!(read("reader", "/v1/stream/fork").body, "[\"secret\"]");
    assert_eq!(read("reader", "/v1/stream/source").status, 403);
    assert_eq!(read("writer", "/v1/stream/fork").status, 403);
    // Who made it may not read it therefore, and whoever lost their token makes none.
    assert_eq!(read("maker", "/v1/stream/fork").status, 403);
    world.revoke("maker").await;
    assert_eq!(put("maker", "/v1/stream/fork", "/v1/stream/source"), 401);
    let nobody = ask(world.address, "GET", "/v1/stream/fork", &[], "");
    assert_eq!(nobody.status, 401, "{nobody:?}");
}
