//! What administrators decide while a node runs, over real HTTP: policies, limits, keys, and the log of who decided what.

mod support;

#[path = "support/receiver.rs"]
mod receiver;

use std::net::SocketAddr;

use receiver::{Does, Receiver};
use serde_json::{Value, json};
use support::{Broker, PATIENCE, http};

/// An answer with its ETag.
struct Answer {
    status: u16,
    tag: String,
    body: Value,
}

fn ask(admin: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut headers = headers.to_vec();
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    let answer = http::ask(admin, method, path, &headers, &body);
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    Answer { status: answer.status, tag: answer.header("etag").to_owned(), body }
}

fn get(admin: SocketAddr, path: &str) -> Value {
    let answer = ask(admin, "GET", path, &[], None);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

fn start(settings: &[&str]) -> (tempfile::TempDir, Broker, SocketAddr) {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &[&["admin.listen=127.0.0.1:0"], settings].concat());
    let admin = broker.admin.expect("it says where");
    (data, broker, admin)
}

async fn off<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

#[tokio::test]
async fn a_policy_holds_at_once_and_until_it_is_taken_back() {
    let (data, broker, admin) = start(&["topics=[{ filter = 'small/#', message_bytes = '10B' }]"]);
    let mut client = broker.connect().await;
    let long = json!("longer than ten bytes");
    assert!(client.publish("small/a", long.clone()).await.is_null());
    let put = off(move || {
        let policy = json!({ "filter": "small/a", "message_bytes": "100B" });
        ask(admin, "PUT", "/v1/policies/roomy", &[], Some(policy))
    });
    let put = put.await;
    assert_eq!((put.status, &put.body["place"]), (200, &json!(0)), "{}", put.body);
    assert!(!client.publish("small/a", long.clone()).await.is_null());
    assert!(client.publish("small/b", long.clone()).await.is_null());

    // It outlives the node.
    let mut broker = broker;
    assert!(broker.terminate().success());
    let broker = Broker::start(
        data.path(),
        &["admin.listen=127.0.0.1:0", "topics=[{ filter = 'small/#', message_bytes = '10B' }]"],
    );
    let mut client = broker.connect().await;
    assert!(!client.publish("small/a", long.clone()).await.is_null());
    let admin = broker.admin.expect("it says where");
    let gone = off(move || ask(admin, "DELETE", "/v1/policies/roomy", &[], None)).await;
    assert_eq!(gone.status, 204);
    assert!(client.publish("small/a", long).await.is_null());
}

#[tokio::test]
async fn policies_are_judged_like_the_settings_and_changed_only_as_they_were_seen() {
    let (_data, _broker, admin) = start(&[]);
    off(move || {
        let list = ask(admin, "GET", "/v1/policies", &[], None);
        assert_eq!((list.status, &*list.tag, &list.body["policies"]), (200, "\"0-0\"", &json!([])));
        let wanted = json!({ "policies": [
            { "name": "a", "filter": "a/#", "retention": { "count": 10 } },
            { "name": "b", "filter": "b/+", "kind": "live" },
        ] });
        let put = |headers: &[(&str, &str)], body: &Value| {
            ask(admin, "PUT", "/v1/policies", headers, Some(body.clone()))
        };
        assert_eq!(put(&[], &wanted).status, 428);
        let made = put(&[("if-match", &list.tag)], &wanted);
        assert_eq!((made.status, &made.body["policies"]), (200, &wanted["policies"]), "{}", made.body);
        let late = put(&[("if-match", &list.tag)], &json!({ "policies": [] }));
        assert_eq!((late.status, &late.body["code"]), (412, &json!("changed")));

        let wrong =
            json!({ "policies": [{ "name": "a", "filter": "a/#", "kind": "sometimes", "colour": 1 }] });
        for (method, path, headers) in [
            ("POST", "/v1/policies/validate", &[][..]),
            ("PUT", "/v1/policies", &[("if-match", made.tag.as_str())][..]),
        ] {
            let refused = ask(admin, method, path, headers, Some(wrong.clone()));
            assert_eq!((refused.status, &refused.body["code"]), (422, &json!("invalid")), "{method} {path}");
            let places: Vec<_> =
                refused.body["errors"].as_array().unwrap().iter().map(|fault| fault["at"].clone()).collect();
            assert_eq!(places.len(), 2, "{}", refused.body);
            assert!(places.contains(&json!("policies[0].kind")), "{places:?}");
        }
        assert_eq!(
            ask(admin, "POST", "/v1/policies/validate", &[], Some(wanted.clone())).body["valid"],
            true
        );

        // A place among the others, and what nobody may say.
        let put = |path: &str, body: Value| ask(admin, "PUT", path, &[], Some(body));
        assert_eq!(put("/v1/policies/c?before=b", json!({ "filter": "c" })).body["place"], 1);
        assert_eq!(put("/v1/policies/a", json!({ "filter": "a" })).body["place"], 0);
        assert_eq!(put("/v1/policies/d?before=z", json!({ "filter": "d" })).status, 422);
        assert_eq!(put("/v1/policies/d", json!({ "name": "e", "filter": "d" })).status, 422);
        assert_eq!(ask(admin, "DELETE", "/v1/policies/z", &[], None).status, 404);
        let names = |list: &Value| -> Vec<Value> {
            list["policies"].as_array().unwrap().iter().map(|policy| policy["name"].clone()).collect()
        };
        assert_eq!(names(&get(admin, "/v1/policies")), ["a", "c", "b"]);

        // Back to the first version.
        let versions = get(admin, "/v1/policies/versions?limit=2");
        assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
        let after = versions["next"].as_str().unwrap();
        let oldest = get(admin, &format!("/v1/policies/versions?after={after}"));
        let first = oldest["versions"][0]["version"].as_str().unwrap();
        assert_eq!(get(admin, &format!("/v1/policies/versions/{first}"))["policies"], wanted["policies"]);
        let body = json!({ "version": first });
        let back = ask(admin, "POST", "/v1/policies/rollback", &[], Some(body));
        assert_eq!((back.status, names(&back.body)), (200, vec![json!("a"), json!("b")]), "{}", back.body);
        let body = json!({ "version": "1-99" });
        assert_eq!(ask(admin, "POST", "/v1/policies/rollback", &[], Some(body)).status, 404);
    })
    .await;
}

#[tokio::test]
async fn history_that_is_kept_is_not_hidden_and_a_filter_says_what_it_hits() {
    let (_data, broker, admin) = start(&[]);
    let mut client = broker.connect().await;
    for topic in ["room/1", "room/1", "room/2", "other"] {
        assert!(!client.publish(topic, json!(1)).await.is_null());
    }
    client.subscribe("room/+", json!("latest")).await;
    off(move || {
        let body = json!({ "filter": "room/#", "limit": 1 });
        let preview = ask(admin, "POST", "/v1/policies/preview", &[], Some(body)).body;
        let expected = json!({
            "filter": "room/#", "topics": 2, "messages": 3, "subscribers": 1, "complete": true, "missing": [],
            "first": [{ "topic": "room/1", "messages": 2, "policy": null, "durable": true }],
        });
        assert_eq!(preview, expected);
        let live = json!({ "filter": "room/#", "kind": "live" });
        let refused = ask(admin, "PUT", "/v1/policies/rooms", &[], Some(live));
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("conflict")));
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("room/1 keeps 2 messages") && detail.contains("delete it first"), "{detail}");
        assert_eq!(get(admin, "/v1/policies")["version"], "0-0");
        let other = json!({ "filter": "tick/#", "kind": "live" });
        assert_eq!(ask(admin, "PUT", "/v1/policies/ticks", &[], Some(other)).status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_limit_holds_for_what_begins_then() {
    let (_data, broker, admin) = start(&["limits.subscriptions_per_connection=3"]);
    off(move || {
        let limits = ask(admin, "GET", "/v1/limits", &[], None);
        assert_eq!(limits.body["effective"]["subscriptions_per_connection"], "3");
        let put = |limits: Value, tag: &str| {
            ask(admin, "PUT", "/v1/limits", &[("if-match", tag)], Some(json!({ "limits": limits })))
        };
        let refused = put(json!({ "history_reads": 3 }), &limits.tag);
        assert_eq!(refused.status, 422);
        assert!(refused.body["detail"].as_str().unwrap().contains("from a node's start"), "{}", refused.body);
        let made = put(json!({ "subscriptions_per_connection": 1 }), &limits.tag);
        assert_eq!(
            (made.status, &made.body["effective"]["subscriptions_per_connection"]),
            (200, &json!("1"))
        );
        assert_eq!(put(json!({}), &limits.tag).status, 412);
    })
    .await;
    let mut client = broker.connect().await;
    client.subscribe("a", json!("latest")).await;
    let second = client.subscribe("b", json!("latest")).await;
    assert!(second.to_string().contains("too_many"), "{second}");
}

#[tokio::test]
async fn a_key_is_shown_once_and_is_none_when_it_was_revoked() {
    let (_data, _broker, admin) = start(&[]);
    off(move || {
        let key = |name: &str, headers: &[(&str, &str)], role: &str| {
            ask(admin, "PUT", &format!("/v1/keys/{name}"), headers, Some(json!({ "role": role })))
        };
        let made = key("root", &[], "admin");
        assert_eq!(made.status, 200, "{}", made.body);
        let root = format!("Bearer {}", made.body["secret"].as_str().unwrap());
        let root = ("authorization", root.as_str());
        assert_eq!(ask(admin, "GET", "/v1/whoami", &[], None).status, 401, "now there is a credential");
        assert_eq!(ask(admin, "GET", "/v1/whoami", &[root], None).body["name"], "root");

        let made = key("deploy", &[root, ("if-none-match", "*")], "operator");
        assert_eq!(made.status, 200, "{}", made.body);
        assert_eq!(key("deploy", &[root, ("if-none-match", "*")], "operator").status, 412);
        let secret = made.body["secret"].as_str().unwrap();
        let deploy = format!("Bearer {secret}");
        let deploy = ("authorization", deploy.as_str());
        assert_eq!(ask(admin, "GET", "/v1/whoami", &[deploy], None).body["role"], "operator");
        assert_eq!(ask(admin, "GET", "/v1/keys", &[deploy], None).status, 403);

        let list = ask(admin, "GET", "/v1/keys", &[root], None).body;
        assert_eq!(list["keys"].as_array().unwrap().len(), 2);
        let audit = ask(admin, "GET", "/v1/audit", &[root], None).body;
        for text in [list.to_string(), audit.to_string()] {
            assert!(!text.contains(secret) && !text.contains(&secret[20..]), "{text}");
        }
        assert_eq!(ask(admin, "DELETE", "/v1/keys/deploy", &[root], None).status, 204);
        assert_eq!(ask(admin, "GET", "/v1/whoami", &[deploy], None).status, 401);
        let past = json!({ "role": "viewer", "expires": "2020-01-01T00:00:00Z" });
        assert_eq!(ask(admin, "PUT", "/v1/keys/old", &[root], Some(past)).status, 422);
    })
    .await;
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_what_it_changed() {
    let (_data, _broker, admin) = start(&["node.name=n1"]);
    off(move || {
        for (filter, status) in [("a", 200), ("b", 200)] {
            let put = ask(admin, "PUT", "/v1/policies/p", &[], Some(json!({ "filter": filter })));
            assert_eq!(put.status, status);
        }
        // What is wrong is refused before anything is written down; what is not there is a failed change.
        assert_eq!(ask(admin, "PUT", "/v1/policies/p", &[], Some(json!({}))).status, 422);
        assert_eq!(ask(admin, "DELETE", "/v1/keys/nobody", &[], None).status, 404);

        let audit = get(admin, "/v1/audit");
        let records = audit["records"].as_array().unwrap();
        let said: Vec<_> =
            records.iter().map(|r| (r["action"].as_str().unwrap(), r["failed"].as_str())).collect();
        let expected = [
            ("keys.delete", Some("not_found")),
            ("keys.delete", None),
            ("policies.put", None),
            ("policies.put", None),
        ];
        assert_eq!(said, expected);
        let newest = &records[2];
        assert_eq!((&newest["actor"], &newest["role"]), (&json!("local"), &json!("admin")));
        assert_eq!((&newest["node"], &newest["address"]), (&json!("n1"), &json!("127.0.0.1")));
        assert_eq!((&newest["target"], &newest["number"]), (&json!("p"), &json!(2)));
        let detail =
            json!({ "before": { "name": "p", "filter": "a" }, "after": { "name": "p", "filter": "b" } });
        assert_eq!(newest["detail"], detail);

        let page = get(admin, "/v1/audit?action=policies&limit=1");
        assert_eq!(page["records"].as_array().unwrap().len(), 1);
        let next = page["next"].as_str().unwrap();
        let page = get(admin, &format!("/v1/audit?action=policies&after={next}"));
        assert_eq!(page["records"][0]["number"], 1);
        assert_eq!((page["records"].as_array().unwrap().len(), &page["next"]), (1, &Value::Null));
        assert_eq!(get(admin, "/v1/audit?actor=nobody")["records"], json!([]));
        assert_eq!(get(admin, "/v1/audit?since=2999-01-01T00:00:00Z")["records"], json!([]));
        assert_eq!(ask(admin, "GET", "/v1/audit?after=eA", &[], None).status, 422);
    })
    .await;
}

#[tokio::test]
async fn how_webhooks_went_is_told_and_dead_letters_go_once_more() {
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = std::sync::Arc::clone(&broken);
    let receiver = Receiver::start(move |_, _| {
        let is_broken = is_broken.load(std::sync::atomic::Ordering::Relaxed);
        if is_broken { Does::Answers(503, "") } else { Does::Takes }
    })
    .await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0").unwrap();
    let webhooks = format!(
        "webhooks=[{{ name = 'billing', url = '{}', topics = ['orders/#'], secret_file = '{}', attempts = 1 }}]",
        receiver.url(),
        secret.path().display()
    );
    let (_data, broker, admin) = start(&["node.name=n1", &webhooks]);
    let mut client = broker.connect().await;
    let began = std::time::Instant::now();
    let given_up = loop {
        // A webhook begins at the moment when it is first known.
        assert!(!client.publish("orders/7", json!({ "n": 1 })).await.is_null());
        let list = off(move || get(admin, "/v1/webhooks/billing/deliveries?failed=true")).await;
        if let Some(delivery) = list["deliveries"].get(0) {
            break delivery.clone();
        }
        assert!(began.elapsed() < PATIENCE, "nothing is told of the delivery");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(given_up["outcome"], "given_up");
    assert_eq!((&given_up["status"], &given_up["attempt"]), (&json!(503), &json!(1)));
    assert_eq!((&given_up["node"], &given_up["topic"]), (&json!("n1"), &json!("orders/7")));

    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    let again = off(move || {
        let webhook = get(admin, "/v1/webhooks/billing");
        assert!(webhook["dead_letters"].as_u64().unwrap() > 0);
        assert!(!webhook["url"].as_str().unwrap().contains("from="), "{webhook}");
        let redeliver = |body: Value| ask(admin, "POST", "/v1/webhooks/billing/redeliver", &[], Some(body));
        assert_eq!(redeliver(json!({ "topic": "orders/7" })).status, 422);
        assert_eq!(redeliver(json!({ "topic": "orders/7", "offset": 9 })).status, 404);
        assert_eq!(redeliver(json!({ "topic": "$audit", "offset": 1 })).status, 422);
        let one = redeliver(json!({ "topic": "orders/7", "offset": 1 })).body;
        let dead = redeliver(json!({ "dead_letters_after": 0 })).body;
        assert_eq!((&one["deliveries"][0]["outcome"], &dead["next"]), (&json!("delivered"), &Value::Null));
        dead["deliveries"].clone()
    })
    .await;
    let again = again.as_array().unwrap();
    assert!(
        !again.is_empty() && again.iter().all(|delivery| delivery["outcome"] == "delivered"),
        "{again:?}"
    );
    assert_eq!(again[0]["attempt"], 0);
    let got = receiver.got();
    let id = again[0]["id"].as_str().unwrap();
    let of_first: Vec<_> = got.iter().filter(|got| got.headers["webhook-id"] == id).collect();
    assert!(of_first.len() > 1, "it is sent under the id that it had");
    assert!(of_first.iter().all(|got| got.body == of_first[0].body), "and as the message that it was");
}
