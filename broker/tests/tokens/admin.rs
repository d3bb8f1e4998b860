//! Tokens over the admin API: signed to try something out, looked at, and those of administrators.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::issuer::{Key, KeyServer, setting, signed, token};
use super::support::Broker;
use super::support::http::ask;
use super::{bearer, start};

fn post(broker: &Broker, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let all = [&[("content-type", "application/json")], headers].concat();
    let answer = ask(broker.admin.unwrap(), "POST", path, &all, &body.to_string());
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}")))
}

#[tokio::test]
async fn a_token_can_be_signed_and_looked_at() {
    let (_data, broker) = start(&["admin.listen=127.0.0.1:0"]);
    let wish =
        json!({ "subject": "ann", "can": [{ "topics": ["own/{sub}/#"], "do": ["publish", "subscribe"] }] });
    let (status, minted) = post(&broker, "/v1/tokens", &[], &wish);
    assert_eq!(
        (status, &minted["issuer"], &minted["subject"]),
        (201, &json!("app"), &json!("ann")),
        "{minted}"
    );
    let minted_token = minted["token"].as_str().unwrap();
    let body = json!({ "topic": "own/ann/x", "data": 1 }).to_string();
    let published =
        ask(broker.address, "POST", "/v1/publish", &[("authorization", &bearer(minted_token))], &body);
    assert_eq!(published.status, 200);
    let may = |action: &str, topic: &str| {
        let question = json!({ "token": minted_token, "action": action, "topic": topic });
        post(&broker, "/v1/tokens/check", &[], &question).1["allowed"].clone()
    };
    for (action, topic, expected) in [
        ("publish", "own/ann/x", true),
        ("publish", "own/bob/x", false),
        ("subscribe", "own/ann/+", true),
        ("subscribe", "own/+/x", false),
        ("history", "own/ann/x", false),
        ("presence", "own/ann/x", false),
    ] {
        assert_eq!(may(action, topic), json!(expected), "{action} {topic}");
    }
    let (_, known) = post(&broker, "/v1/tokens/check", &[], &json!({ "token": minted_token }));
    assert_eq!((&known["valid"], &known["grants"]["id"]), (&json!(true), &minted["id"]), "{known}");
    for (bad, reason) in [
        (token("ann", -60.0), "expired"),
        (format!("{}=", token("ann", 60.0)), "malformed"),
        (signed("ann", 60.0, &json!("all")), "claims"),
        ("letmein".to_owned(), "unknown"),
        ("ticket-1-1-x".to_owned(), "ticket"),
    ] {
        let (status, answer) = post(&broker, "/v1/tokens/check", &[], &json!({ "token": bad }));
        assert_eq!((status, &answer["reason"]), (200, &json!(reason)), "{answer}");
    }
    for wrong in [
        json!({ "subject": "ann", "lifetime_seconds": 366 * 86_400 }),
        json!({ "subject": "", "can": [] }),
        json!({ "subject": "a/b", "can": [{ "topics": ["{sub}"], "do": ["publish"] }] }),
        json!({ "subject": "ann", "can": [{ "topics": ["a/#/b"], "do": ["publish"] }] }),
    ] {
        assert_eq!(post(&broker, "/v1/tokens", &[], &wrong).0, 422, "{wrong}");
    }
    let nobody = json!({ "subject": "ann", "issuer": "nobody" });
    assert_eq!(post(&broker, "/v1/tokens", &[], &nobody).0, 409);
}

#[tokio::test]
async fn the_command_line_mints_and_checks() {
    let (_data, broker) = start(&["admin.listen=127.0.0.1:0"]);
    let url = format!("http://{}", broker.admin.unwrap());
    let bongsu = |args: &[&str]| -> Output {
        Command::new(env!("CARGO_BIN_EXE_bongsu")).args(args).args(["--admin-url", &url]).output().unwrap()
    };
    let minted = bongsu(&["tokens", "mint", "ann", "--can", "subscribe,history=chat/#", "-o", "json"]);
    assert!(minted.status.success(), "{minted:?}");
    let minted: Value = serde_json::from_slice(&minted.stdout).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), minted["token"].as_str().unwrap()).unwrap();
    let path = file.path().display().to_string();
    let checked = bongsu(&["tokens", "check", &path, "--action", "history", "--topic", "chat/1"]);
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("VALID") && text.contains("ann") && text.contains("chat/#"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("ALLOWED") && line.ends_with("yes")), "{text}");
}

#[tokio::test]
async fn an_issuer_gives_roles_to_administrators() {
    let data = tempfile::tempdir().unwrap();
    let clients = setting(data.path());
    let clients = clients.trim_start_matches("auth.issuers=[").trim_end_matches(']');
    let key = Key::new("one");
    let server = KeyServer::start(&[&key]);
    let staff = format!(
        "{{ name = \"id\", issuer = \"https://id\", jwks_url = \"http://{}/\", jwks_cooldown = \"100ms\", viewers = [\"staff\"], operators = [\"lead\"] }}",
        server.address
    );
    let issuers = format!("auth.issuers=[{clients}, {staff}]");
    let broker = Broker::start(data.path(), &[&issuers, "admin.listen=127.0.0.1:0"]);
    let who = |token: &str| {
        let answer =
            ask(broker.admin.unwrap(), "GET", "/v1/whoami", &[("authorization", &bearer(token))], "");
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    let begun = std::time::Instant::now();
    while who(&key.sign("ann")).0 == 503 {
        assert!(begun.elapsed() < super::support::PATIENCE);
    }
    let (status, actor) = who(&key.sign_with("ann", &json!({ "roles": ["staff"] })));
    assert_eq!(
        (status, &actor["name"], &actor["role"]),
        (200, &json!("id/ann"), &json!("viewer")),
        "{actor}"
    );
    let lead = key.sign_with("ann", &json!({ "roles": ["staff", "lead"] }));
    assert_eq!(who(&lead).1["role"], "operator");
    assert_eq!(who(&key.sign("ann")).0, 403, "without a role");
    assert_eq!(who(&token("ann", 60.0)).0, 403, "of an issuer without roles");
    assert_eq!(who("letmein").0, 401);
    assert_eq!(ask(broker.admin.unwrap(), "GET", "/v1/whoami", &[], "").status, 401, "also on this machine");
    let (status, _) =
        post(&broker, "/v1/tokens", &[("authorization", &bearer(&lead))], &json!({ "subject": "x" }));
    assert_eq!(status, 403, "operators sign no tokens");
}
