//! Blocks and revocations over REST, and by the command line.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::http::{Answer, ask};
use crate::support::{Broker, Client};
use crate::world::{ROOT, Token, flags};

const JSON: (&str, &str) = ("content-type", "application/json");

struct World {
    broker: Broker,
    _data: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let tokens = flags(&[Token::all("ada", &["#"]), Token::all("bob", &["#"])]);
        let broker = Broker::start(data.path(), &[&tokens, "admin.listen=127.0.0.1:0"]);
        Self { broker, _data: data }
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![JSON];
        all.extend_from_slice(headers);
        ask(self.broker.admin.unwrap(), method, path, &all, body)
    }

    fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.ask(method, path, &[], body);
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Whether a token is let in.
    fn status_of(&self, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        ask(self.broker.address, "POST", "/v1/poll", &headers, r#"{"topics":{"t":"now"}}"#).status
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let url = format!("http://{}", self.broker.admin.unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_bongsu"))
            .args(arguments)
            .args(["--admin-url", &url])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_block_is_a_whole_object_that_is_put_where_nobody_changed_it() {
    let world = World::start();
    let put = |headers: &[(&str, &str)], body: &str| world.ask("PUT", "/v1/blocks/ada", headers, body);
    let made = put(&[("if-none-match", "*")], r#"{"reason":"spam"}"#);
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(world.status_of("ada"), 403);
    assert_eq!(world.status_of("bob"), 200);
    let tag = made.header("etag").to_owned();
    // The same once more is the same, and whoever has not seen it changes nothing.
    let again = put(&[], r#"{"reason":"spam"}"#);
    assert_eq!((again.body.as_str(), again.header("etag")), (made.body.as_str(), tag.as_str()));
    assert_eq!(put(&[("if-none-match", "*")], r#"{"reason":"other"}"#).status, 412);
    assert_eq!(put(&[("if-match", "\"1-7\"")], r#"{"reason":"other"}"#).status, 412);
    let changed = put(&[("if-match", &tag)], r#"{"reason":"other","until":"2999-01-01T00:00:00Z"}"#);
    let block: Value = serde_json::from_str(&changed.body).unwrap();
    assert_eq!((&block["reason"], &block["until"]), (&json!("other"), &json!("2999-01-01T00:00:00.000Z")));
    assert_eq!(block["by"], "local");
    let list = world.json("GET", "/v1/blocks?limit=1", "");
    assert_eq!(list, json!({ "blocks": [block], "next": null }));
    for (body, status) in
        [(r#"{"until":"1999-01-01T00:00:00Z"}"#, 422), (r#"{"reason":1}"#, 400), (r#"{"colour":"red"}"#, 400)]
    {
        let refused = put(&[], body);
        assert_eq!(refused.status, status, "{refused:?}");
    }
    assert_eq!(world.ask("DELETE", "/v1/blocks/ada", &[], "").status, 204);
    assert_eq!(world.ask("DELETE", "/v1/blocks/ada", &[], "").status, 404);
    assert_eq!(world.ask("GET", "/v1/blocks/ada", &[], "").status, 404);
    assert_eq!(world.status_of("ada"), 200);
}

#[test]
fn tokens_are_revoked_one_by_one_and_all_of_a_user_at_once() {
    let world = World::start();
    let token = world.json("POST", "/v1/revocations", r#"{"token":"ada","reason":"lost phone"}"#);
    assert_eq!((&token["id"], &token["reason"]), (&json!("token:ada"), &json!("lost phone")));
    assert_eq!(world.status_of("ada"), 401);
    let subject = world.json("POST", "/v1/revocations", r#"{"subject":"bob"}"#);
    assert_eq!(world.status_of("bob"), 401);
    assert_eq!(world.json("POST", "/v1/revocations", r#"{"token":"ada","reason":"lost phone"}"#), token);
    let first = world.json("GET", "/v1/revocations?limit=1", "");
    assert_eq!(first["revocations"], json!([subject]));
    let path = format!("/v1/revocations?after={}", first["next"].as_str().unwrap());
    assert_eq!(world.json("GET", &path, ""), json!({ "revocations": [token], "next": null }));
    for wrong in [
        "{}",
        r#"{"token":"a","subject":"b"}"#,
        r#"{"subject":""}"#,
        r#"{"subject":"a\u0085"}"#,
        r#"{"token":"a","issued_before":"2026-01-01T00:00:00Z"}"#,
    ] {
        let refused = world.ask("POST", "/v1/revocations", &[], wrong);
        assert_eq!(refused.status, 422, "{wrong}: {refused:?}");
    }
    assert_eq!(world.ask("DELETE", "/v1/revocations/token%3Aada", &[], "").status, 204);
    assert_eq!(world.ask("DELETE", "/v1/revocations/nonsense", &[], "").status, 404);
    assert_eq!(world.status_of("ada"), 200);
}

#[test]
fn the_command_line_does_the_same() {
    let world = World::start();
    let put = world.cli(&["blocks", "put", "ada", "--reason", "spam", "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&put).unwrap()["subject"], "ada");
    assert_eq!(world.status_of("ada"), 403);
    assert!(world.cli(&["blocks", "list"]).contains("spam"));
    world.cli(&["blocks", "remove", "ada"]);
    assert_eq!(world.status_of("ada"), 200);
    world.cli(&["revocations", "token", "ada", "--reason", "lost phone"]);
    world.cli(&["revocations", "subject", "bob"]);
    let list = world.cli(&["revocations", "list"]);
    assert!(
        list.contains("token:ada") && list.contains("subject:bob") && list.contains("lost phone"),
        "{list}"
    );
    assert_eq!((world.status_of("ada"), world.status_of("bob")), (401, 401));
    world.cli(&["revocations", "remove", "subject:bob"]);
    assert_eq!(world.status_of("bob"), 200);
}

#[tokio::test]
async fn what_is_told_of_sessions_says_why_they_ended() {
    let world = World::start();
    let connect = async |token: &str| {
        let bearer = format!("Bearer {token}");
        Client::connect_with(world.broker.address, None, &[("authorization", &bearer)]).await.unwrap()
    };
    let mut root = connect(ROOT).await;
    let subscribed = root.subscribe("$sys/sessions/+", json!("earliest")).await;
    assert!(subscribed.get("subscribed").is_some(), "{subscribed}");
    for (token, method, path, body, reason) in [
        ("ada", "PUT", "/v1/blocks/ada", "{}", "forbidden"),
        ("bob", "POST", "/v1/revocations", r#"{"token":"bob"}"#, "unauthenticated"),
    ] {
        let mut client = connect(token).await;
        world.json(method, path, body);
        while client.event().await.is_some() {}
        let told = loop {
            let event = root.delivery().await["data"].clone();
            if event["event"] == "disconnected" && event["subject"] == token {
                break event;
            }
        };
        assert_eq!(told["reason"], reason, "{told}");
    }
}
