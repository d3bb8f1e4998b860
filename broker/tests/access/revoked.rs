//! What is taken back is gone, on every way in.

use bongsu::access::Target;
use bongsu_protocol::command::{Command, Start};
use bongsu_protocol::message::Time;
use bongsu_protocol::reason::CloseReason;
use serde_json::json;

use crate::native::{Native, Way};
use crate::support::http::Exchange;
use crate::support::stomp::Stomp;
use crate::world::{ROOT, Token, World, now};

const BEARER: &str = "Bearer ada";

fn world() -> World {
    World::start(&[Token::all("ada", &["a/#", "queue/#"]), Token::all("bob", &["a/#", "queue/#"])])
}

/// The end of a session and its reason. Where the client has to ask for what comes, it may be told that its session is nobody's.
async fn is_ended(native: &mut Native, way: Way, reason: CloseReason, text: &str) {
    if way == Way::SockJsPolling {
        assert!(native.try_ask(Command::Ping).await.is_none());
        return;
    }
    let goodbye = native.end().await;
    assert_eq!((goodbye.reason, goodbye.text.as_str()), (reason, text), "{way:?}");
}

#[tokio::test]
async fn a_revoked_token_ends_its_sessions_and_begins_no_other() {
    for way in Way::ALL {
        let world = world();
        let mut ada = Native::connect(&world, way, "ada").await;
        let mut bob = Native::connect(&world, way, "bob").await;
        for reader in [&mut ada, &mut bob] {
            reader.subscribe("a/b", Start::Latest).await.unwrap();
        }
        world.revoke("ada").await;
        world.publish("a/b", &json!("after"));
        is_ended(&mut ada, way, CloseReason::Unauthenticated, "this token was revoked: lost phone").await;
        assert!(bob.delivery().await.is_some(), "{way:?}: nobody else is concerned");
        match Native::try_connect(&world, way, "ada").await {
            Err(status) => assert_eq!(status, 401, "{way:?}"),
            Ok(mut again) => {
                assert!(again.try_ask(Command::Ping).await.is_none(), "{way:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_blocked_user_is_told_not_to_come_back() {
    let world = world();
    let mut ada = Native::connect(&world, Way::Json, "ada").await;
    world.block("ada").await;
    is_ended(&mut ada, Way::Json, CloseReason::Forbidden, "you are blocked: spam").await;
    assert_eq!(Native::try_connect(&world, Way::Json, "ada").await.err(), Some(403));
    let answer = world.ask("ada", "POST", "/v1/poll", &[], r#"{"topics":{"a/b":"now"}}"#);
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("you are blocked: spam"), "{answer:?}");
    let target = Target::Block("ada".to_owned());
    world.node.node.control().access().admit(&target, "operator", None).await.unwrap();
    let mut again = Native::connect(&world, Way::Json, "ada").await;
    again.ask(Command::Ping).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_shown_later_in_a_session_is_judged_then() {
    let world = world();
    world.revoke("ada").await;
    let mut guest = Native::connect(&world, Way::Json, "").await;
    let token = |name: &str| Command::Authenticate(bongsu_protocol::command::Token(name.to_owned()));
    let error = guest.ask(token("ada")).await.unwrap_err();
    assert_eq!(error.text, "this token was revoked: lost phone");
    // What it becomes by a token is taken back with that.
    guest.ask(token("bob")).await.unwrap();
    world.revoke("bob").await;
    is_ended(&mut guest, Way::Json, CloseReason::Unauthenticated, "this token was revoked: lost phone").await;
}

#[tokio::test]
async fn tokens_of_a_subject_from_before_a_time_are_revoked_together() {
    let world = world();
    let mut ada = Native::connect(&world, Way::Binary, "ada").await;
    let target = Target::Subject { subject: "ada".to_owned(), issued_before: Time(now().0 - 1000) };
    world.bar(&target, "new password").await;
    // A token that does not say when it was issued is older than any time.
    is_ended(&mut ada, Way::Binary, CloseReason::Unauthenticated, "this token was revoked: new password")
        .await;
}

#[tokio::test]
async fn a_stomp_client_gets_an_error_and_what_it_held_is_others() {
    let world = world();
    for over_tcp in [true, false] {
        let name = if over_tcp { "ada" } else { "bob" };
        let login = async |token: &str| {
            let mut stomp = match over_tcp {
                true => Stomp::silent(world.stomp).await,
                false => Stomp::web_socket(world.address, "/stomp", "").await.0,
            };
            stomp.log_in("1.2", &format!("passcode:{token}\n")).await;
            stomp
        };
        let consume =
            format!("SUBSCRIBE\nid:q\ndestination:/queue/{name}\nack:client-individual\nreceipt:r\n\n^");
        let mut taken_back = login(name).await;
        taken_back.ask(&consume).await;
        world.publish(&format!("queue/{name}"), &json!(7));
        assert_eq!(taken_back.message().await, "7");
        let mut other = login(ROOT).await;
        other.ask(&consume).await;
        world.revoke(name).await;
        let (error, code) = taken_back.refused().await;
        assert_eq!(error.header("message"), Some("Not authenticated"));
        assert_eq!(&error.body[..], b"this token was revoked: lost phone\n");
        assert_eq!(code, (!over_tcp).then_some(4401));
        assert_eq!(other.message().await, "7", "what was not settled goes to others");
        let mut again = Stomp::silent(world.stomp).await;
        again.say(&format!("CONNECT\naccept-version:1.2\nhost:/\npasscode:{name}\n\n^")).await;
        assert_eq!(again.refused().await.0.header("message"), Some("Bad CONNECT"));
    }
}

/// Requests that wait: what is asked, and whether its answer begins at once.
const WAITING: [(&str, &str, &str, &str, bool); 6] = [
    ("POST", "/v1/poll", "", r#"{"topics":{"a/b":"now"},"wait_ms":60000}"#, false),
    ("GET", "/v1/stream/a/b?offset=now&live=long-poll", "", "", false),
    ("GET", "/v1/stream/a/b?offset=now&live=sse", "", "", true),
    ("GET", "/v1/events?topic=a/b", "text/event-stream", "", true),
    ("GET", "/v1/events?topic=a/b&topic=a/c", "application/x-ndjson", "", true),
    ("POST", "/sockjs/000/waits/xhr_streaming", "", "", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_ends_without_what_comes_afterwards() {
    for (blocked, status) in [(false, 401), (true, 403)] {
        let world = world();
        world.publish("a/b", &json!("before"));
        std::thread::scope(|scope| {
            let address = world.address;
            let waiting = WAITING.map(|(method, path, accept, body, begins)| {
                let headers =
                    [("authorization", BEARER), ("accept", if accept.is_empty() { "*/*" } else { accept })];
                if begins {
                    let exchange = Exchange::begin(address, method, path, &headers, body);
                    assert_eq!(exchange.status, 200, "{path}");
                    return (path, Err(exchange));
                }
                let asked =
                    scope.spawn(move || Exchange::begin(address, method, path, &headers, body).finish());
                (path, Ok(asked))
            });
            let parked = || world.node.node.sessions().n_waiting();
            while parked() < 3 {}
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    if blocked { world.block("ada").await } else { world.revoke("ada").await }
                });
            });
            world.publish("a/b", &json!("after"));
            for (path, waiting) in waiting {
                let body = match waiting {
                    Ok(asked) => {
                        let answer = asked.join().unwrap();
                        assert_eq!(answer.status, status, "{path}: {answer:?}");
                        assert!(answer.headers["content-type"].contains("problem+json"), "{path}");
                        answer.body
                    }
                    Err(mut exchange) => {
                        let mut lines = String::new();
                        while let Some(line) = exchange.line() {
                            lines.push_str(&line);
                        }
                        lines
                    }
                };
                assert!(!body.contains("after"), "{path}: {body}");
                let says_why =
                    body.contains(if blocked { "you are blocked" } else { "this token was revoked" });
                assert!(says_why || path.ends_with("live=sse"), "{path}: {body}");
                let headers = [("authorization", BEARER)];
                let again = Exchange::begin(address, "GET", "/v1/stream/a/b?offset=-1", &headers, "");
                assert_eq!(again.status, status);
            }
        });
        assert_eq!(world.node.node.sessions().n_waiting(), 0, "they left their places");
    }
}

#[tokio::test]
async fn a_slow_reader_in_the_middle_of_what_is_kept_gets_nothing_after_the_end() {
    const MESSAGES: usize = 10_000;
    let world = world();
    let text = "x".repeat(1000);
    for batch in (0..MESSAGES).step_by(100) {
        let messages: Vec<_> =
            (batch..batch + 100).map(|n| json!({ "topic": "a/kept", "data": [n, text] })).collect();
        let body = json!({ "messages": messages }).to_string();
        assert_eq!(world.ask(ROOT, "POST", "/v1/publish", &[], &body).status, 200);
    }
    for way in [Way::Binary, Way::Json, Way::SockJsWebSocket] {
        let world = &world;
        world
            .node
            .node
            .control()
            .access()
            .admit(&Target::Token("ada".to_owned()), "operator", None)
            .await
            .ok();
        let mut ada = Native::connect(world, way, "ada").await;
        ada.subscribe("a/kept", Start::Earliest).await.unwrap();
        for _ in 0..10 {
            ada.delivery().await.unwrap();
        }
        world.revoke("ada").await;
        let mut n_after = 0;
        // `Native` itself sees to it that nothing comes after the goodbye.
        while ada.delivery().await.is_some() {
            n_after += 1;
        }
        assert_eq!(ada.goodbye.as_ref().map(|goodbye| goodbye.reason), Some(CloseReason::Unauthenticated));
        // What the kernel had taken before, which is a few MiB on loopback, and no more than that.
        assert!(n_after < MESSAGES - 1000, "{way:?}: {n_after} more messages");
    }
}
