//! What administrators see of connections and do to them, over real HTTP.

#[path = "support/admin.rs"]
mod admin;
mod support;

use admin::{TOKENS, ask, bongsu, get, start, until};
use serde_json::{Value, json};
use support::Client;

fn sessions(list: &Value) -> Vec<&str> {
    let connections = list["connections"].as_array().expect("a list");
    connections.iter().map(|connection| connection["session"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn connections_are_listed_in_the_order_in_which_they_began_page_by_page() {
    let (_data, broker, admin) = start(&["node.name=n1"]);
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..7 {
        let mut client = broker.connect().await;
        client.subscribe("a", json!("latest")).await;
        clients.push(client);
    }
    let all = get(admin, "/v1/connections").await.json();
    let all = sessions(&all);
    assert_eq!(all.len(), 7);
    let (mut seen, mut after) = (Vec::new(), String::new());
    for n_pages in 1.. {
        let page = get(admin, &format!("/v1/connections?limit=3{after}")).await.json();
        seen.extend(sessions(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else {
            assert_eq!(n_pages, 3);
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(seen, all, "each once, in order");
    let beyond = get(admin, "/v1/connections?limit=7").await.json();
    assert_eq!(beyond["next"], Value::Null, "nothing follows a page that has all");
}

#[tokio::test]
async fn connections_are_found_by_what_is_known_of_them() {
    let (_data, broker, admin) = start(&["node.name=n1"]);
    let mut reader = broker.connect().await;
    reader.subscribe("chat/#", json!("latest")).await;
    let mut other = broker.connect().await;
    other.subscribe("news", json!("latest")).await;
    for (query, expected) in [
        ("topic=chat%2F1", 1),
        ("topic=news", 1),
        ("topic=weather", 0),
        ("subject=", 2),
        ("subject=ada", 0),
        ("address=127.0.0.1", 2),
        ("address=10.0.0.7", 0),
        ("transport=websocket-json", 2),
        ("transport=event-stream", 0),
        ("node=n1", 2),
        ("node=n2", 0),
    ] {
        let list = get(admin, &format!("/v1/connections?{query}")).await.json();
        assert_eq!(sessions(&list).len(), expected, "{query}: {list}");
    }
    for query in [
        "transport=pigeon",
        "topic=a%2F%2Fb",
        "address=nowhere",
        "after=AAAA",
        "after=%21",
        "limit=0",
        "limit=1001",
        "limit=99999999999999999999",
        "limit=1&limit=2",
        "colour=red",
    ] {
        let answer = get(admin, &format!("/v1/connections?{query}")).await;
        assert!(matches!(answer.status, 400 | 422), "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_connection_is_shown_with_what_it_reads_and_what_went_over_it() {
    let (_data, broker, admin) = start(&["node.name=n1"]);
    let mut client = broker.connect().await;
    client.subscribe("chat/1", json!("latest")).await;
    client.publish("chat/1", json!("hello")).await;
    client.delivery().await;
    let list = get(admin, "/v1/connections").await.json();
    let path = format!("/v1/connections/{}", sessions(&list)[0]);
    let shown = get(admin, &path).await.json();
    assert_eq!(shown["filters"], json!([{ "filter": "chat/1", "active": true }]));
    assert_eq!((&shown["topics"][0]["topic"], &shown["topics"][0]["lag"]), (&json!("chat/1"), &json!(0)));
    assert_eq!(shown["topics"][0]["position"]["offset"], 1);
    assert_eq!((&shown["traffic"]["frames_in"], &shown["last_error"]), (&json!(2), &Value::Null));
    assert!(shown["traffic"]["bytes_out"].as_u64() > Some(0), "{shown}");
    // What a client was told last stands there, in the words that it got.
    client.ask("subscribe", json!({ "subscriptions": [{ "filter": "a//b", "from": "latest" }] })).await;
    let shown = get(admin, &path).await.json();
    assert!(shown["last_error"]["code"].is_string(), "{shown}");
    for session in ["n1-0-1", "nobody", "n1-zz-1", "%E2%98%83"] {
        assert_eq!(get(admin, &format!("/v1/connections/{session}")).await.status, 404, "{session}");
    }
}

#[tokio::test]
async fn a_connection_that_an_operator_ends_is_told_why_and_remembered() {
    let (_data, broker, admin) = start(&["node.name=n1", TOKENS, "auth.anonymous.subscribe=['#']"]);
    let mut client = broker.connect().await;
    client.subscribe("a", json!("latest")).await;
    let operator = ["authorization: Bearer operator"];
    let list = ask(admin, "GET", "/v1/connections", &operator, "").await.json();
    let path = format!("/v1/connections/{}", sessions(&list)[0]);
    let viewer = ask(admin, "DELETE", &path, &["authorization: Bearer viewer"], "").await;
    assert_eq!(viewer.status, 403);
    let long = format!("{path}?reason={}", "x".repeat(201));
    assert_eq!(ask(admin, "DELETE", &long, &operator, "").await.status, 422);
    let ended = ask(admin, "DELETE", &format!("{path}?reason=spam"), &operator, "").await;
    assert_eq!((ended.status, ended.body.as_str()), (204, ""));
    let (code, text) = client.closed().await;
    assert_eq!((code, text.as_str()), (4410, "kicked: spam"));
    let closes = until(|| async {
        let closes = ask(admin, "GET", "/v1/closes", &operator, "").await.json();
        (closes["closes"][0].is_object()).then_some(closes)
    })
    .await;
    let close = &closes["closes"][0];
    assert_eq!(
        (&close["reason"], &close["text"], &close["code"]),
        (&json!("kicked"), &json!("spam"), &json!(4410))
    );
    assert_eq!((&close["session"], &close["subscriptions"]), (&json!(sessions(&list)[0]), &json!(1)));
    assert_eq!(ask(admin, "DELETE", &path, &operator, "").await.status, 404, "it is gone");
    let none = ask(admin, "GET", "/v1/closes?reason=ping_timeout", &operator, "").await.json();
    assert_eq!(none["closes"], json!([]));
}

#[tokio::test]
async fn users_are_counted_and_ended_together() {
    let digest = admin::sha256("ada-token");
    let tokens =
        format!("auth.tokens=[{{ name = 'ada', subscribe = ['#'], presence = ['#'], sha256 = '{digest}' }}]");
    let (_data, broker, admin) = start(&["node.name=n1", &tokens, "auth.anonymous.subscribe=['#']"]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = broker.connect().await;
        client.ask("authenticate", json!({ "token": "ada-token" })).await;
        clients.push(client);
    }
    let mut anonymous = broker.connect().await;
    anonymous.subscribe("a", json!("latest")).await;
    clients[0].ask("enter", json!({ "topic": "room", "info": {} })).await;
    let users = get(admin, "/v1/users").await.json();
    assert_eq!(
        users["users"],
        json!([{ "subject": "", "connections": 1, "nodes": ["n1"] }, { "subject": "ada", "connections": 3, "nodes": ["n1"] }])
    );
    let first = get(admin, "/v1/users?limit=1").await.json();
    let next = first["next"].as_str().expect("there is another");
    let second = get(admin, &format!("/v1/users?limit=1&after={next}")).await.json();
    assert_eq!((&second["users"][0]["subject"], &second["next"]), (&json!("ada"), &Value::Null));
    let members = get(admin, "/v1/presence/room").await.json();
    assert_eq!((&members["total"], &members["members"][0]["subject"]), (&json!(1), &json!("ada")));
    assert_eq!(get(admin, "/v1/presence/a%2F%2Fb").await.status, 422);
    let user = get(admin, "/v1/users/ada").await.json();
    assert_eq!((&user["connections"], &user["nodes"][0]["node"]), (&json!(3), &json!("n1")));
    assert_eq!(get(admin, "/v1/users/grace").await.status, 404);
    let ended = ask(admin, "POST", "/v1/users/ada/disconnect", &[], r#"{"reason":"holiday"}"#).await;
    assert_eq!(ended.status, 204, "{}", ended.body);
    for client in &mut clients {
        assert_eq!(client.closed().await.1, "kicked: holiday");
    }
    until(|| async { (get(admin, "/v1/users/ada").await.status == 404).then_some(()) }).await;
    anonymous.publish("a", json!(1)).await;
    for (body, status) in [("{", 400), (r#"{"because":"x"}"#, 400), ("[null]", 400), (r#"{"reason":7}"#, 400)]
    {
        assert_eq!(ask(admin, "POST", "/v1/users/ada/disconnect", &[], body).await.status, status, "{body}");
    }
    let bare = ask(admin, "POST", "/v1/users/ada/disconnect", &["content-length: 0"], "").await;
    assert_eq!((bare.status, &bare.json()["code"]), (415, &json!("media_type")));
}

#[tokio::test]
async fn the_command_line_lists_shows_and_ends_connections() {
    let (_data, broker, admin) = start(&["node.name=n1"]);
    let mut client = broker.connect().await;
    client.subscribe("chat/#", json!("latest")).await;
    let list = get(admin, "/v1/connections").await.json();
    let session = sessions(&list)[0];
    let table = bongsu(admin, &["connections", "--topic", "chat/1"]);
    assert!(table.0 && table.1.contains(session), "{table:?}");
    let shown = bongsu(admin, &["connections", "show", session]);
    assert!(shown.0 && shown.1.contains("chat/#"), "{shown:?}");
    let users = bongsu(admin, &["users", "-o", "json"]);
    assert!(users.0 && users.1.contains("\"connections\": 1"), "{users:?}");
    assert!(bongsu(admin, &["connections", "disconnect", session, "--reason", "bye"]).0);
    assert_eq!(client.closed().await.1, "kicked: bye");
    let closes = until(|| async {
        let closes = bongsu(admin, &["closes"]);
        closes.1.contains("kicked (4410)").then_some(closes)
    })
    .await;
    assert!(closes.1.contains("bye"), "{closes:?}");
    let gone = bongsu(admin, &["connections", "disconnect", session]);
    assert!(!gone.0 && gone.2.contains("404"), "{gone:?}");
}
