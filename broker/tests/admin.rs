//! The admin API over real HTTP: who may ask what, and what is answered to requests that make no sense.

#[path = "support/admin.rs"]
mod admin;
mod support;

use std::sync::Arc;

use admin::{TOKENS, ask, get, start};
use bongsu::carrier::Carrier;
use bongsu::config::{Settings, SettingsArgs, load_with};
use bongsu::control::{Holder, Seen};
use bongsu::dialog::{Dialog, Language};
use bongsu::listener::{AdminListener, AdminPort};
use bongsu::metrics::Transport;
use bongsu::node::Node;
use bongsu::outbound::Outbound;
use bongsu_admin_api::Role;
use bongsu_admin_api::resources::{openapi, table};
use bongsu_persistence::memory::MemoryStore;
use bongsu_protocol::codec::Format;
use serde_json::{Value, json};

#[tokio::test]
async fn every_route_asks_for_a_credential_and_its_role() {
    let (_data, _broker, admin) = start(&[TOKENS]);
    for route in table() {
        // A name for each variable segment: what it is matters to nobody who may not ask.
        let path = route.path().replace('{', "a-").replace('}', "");
        let (method, name) = (route.method(), format!("{} {}", route.method(), route.path()));
        assert_eq!(ask(admin, method, &path, &[], "").await.status, 401, "{name} without a credential");
        let wrong = ask(admin, method, &path, &["authorization: Bearer nobody"], "").await;
        assert_eq!(wrong.status, 401, "{name} with an unknown one");
        assert_eq!(wrong.headers["www-authenticate"], "Bearer", "{name}");
        assert_eq!(wrong.json()["code"], "unauthenticated", "{name}");
        for role in Role::ALL {
            if role >= route.role && route.path().ends_with("/tail") {
                // Answered for as long as somebody listens.
                continue;
            }
            let answer = ask(admin, method, &path, &[&format!("authorization: Bearer {role}")], "").await;
            if role < route.role {
                assert_eq!(
                    (answer.status, &answer.json()["code"]),
                    (403, &json!("forbidden")),
                    "{name} as {role}"
                );
            } else {
                let status = answer.status;
                assert!(
                    !matches!(status, 401 | 403 | 404 | 405 | 500..) || status == 404 && path != route.path(),
                    "{name} as {role}: {status} {}",
                    answer.body
                );
            }
        }
    }
}

#[tokio::test]
async fn whoever_shows_a_token_is_told_who_they_are() {
    let (_data, _broker, admin) = start(&[TOKENS]);
    let answer = ask(admin, "GET", "/v1/whoami", &["authorization: Bearer operator"], "").await;
    assert_eq!(answer.json(), json!({ "name": "olga", "role": "operator", "address": "127.0.0.1" }));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn without_a_token_this_machine_administers_under_its_own_name_only() {
    let (_data, _broker, admin) = start(&[]);
    let answer = get(admin, "/v1/whoami").await;
    assert_eq!(answer.json(), json!({ "name": "local", "role": "admin", "address": "127.0.0.1" }));
    for headers in
        [&["host: rebound.example"][..], &["origin: http://evil.example"], &["x-forwarded-for: 10.0.0.7"]]
    {
        let answer = ask(admin, "GET", "/v1/nodes", headers, "").await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("forbidden")), "{headers:?}");
    }
    // Probes and scrapers ask under any name.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(admin, "GET", path, &["host: 10.0.0.7:9090"], "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_node_is_shown_as_it_is() {
    let (_data, broker, admin) = start(&["node.name=n1", "limits.connections=77"]);
    let mut client = broker.connect().await;
    client.subscribe("a", json!("latest")).await;
    let list = get(admin, "/v1/nodes").await.json();
    assert_eq!(list["missing"], json!([]));
    let node = &list["nodes"][0];
    assert_eq!(node["name"], "n1");
    assert_eq!((&node["connections"], &node["connections_max"]), (&json!(1), &json!(77)));
    assert_eq!(
        (&node["store"]["status"], &node["bus"], &node["draining"]),
        (&json!("ok"), &Value::Null, &json!(false))
    );
    assert!(node["started"].as_str().is_some_and(|time| time.ends_with('Z')), "{node}");
    assert!(node["counters"]["bytes_in"].as_u64().is_some_and(|n_bytes| n_bytes > 0), "{node}");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let (_data, _broker, admin) = start(&[]);
    for (method, path, status, code) in [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v2/nodes", 404, "not_found"),
        ("GET", "/$node/status", 404, "not_found"),
        ("POST", "/v1/nodes", 405, "method_not_allowed"),
        ("DELETE", "/v1/whoami", 405, "method_not_allowed"),
        ("GET", "/v1/nodes?colour=red", 400, "bad_request"),
        ("GET", "/v1/nodes?a=%zz", 400, "bad_request"),
        ("GET", "/v1/nodes?a=%00", 400, "bad_request"),
        ("GET", "/v1/%ff", 400, "bad_request"),
        ("GET", "/v1/nodes/%", 400, "bad_request"),
    ] {
        let answer = ask(admin, method, path, &[], "").await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{method} {path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
        if status == 405 {
            assert_eq!(answer.headers["allow"], "GET,HEAD", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_has_every_route() {
    let (_data, _broker, admin) = start(&[]);
    let answer = get(admin, "/v1/openapi.json").await;
    assert_eq!(answer.body, openapi::to_json());
    let document = answer.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")), "{document}");
    for route in table() {
        let operation = &document["paths"][route.path()][route.method().to_lowercase()];
        let name = format!("{} {}", route.method(), route.path());
        assert_eq!(operation["x-role"], route.role.as_str(), "{name}");
        assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{name}");
        for status in ["400", "401", "403", "503"] {
            assert!(operation["responses"][status].is_object(), "{name} may answer {status}");
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}

#[tokio::test]
async fn the_command_line_shows_nodes_as_table_and_json() {
    let (_data, _broker, admin) = start(&["node.name=n1", TOKENS]);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bongsu"));
        command.args(arguments).args(["--admin-url", &format!("http://{admin}")]);
        command.output().expect("it runs")
    };
    let table = run(&["nodes", "--admin-token", "viewer"]);
    let text = String::from_utf8_lossy(&table.stdout);
    assert!(table.status.success() && text.starts_with("NODE ") && text.contains("\nn1 "), "{text}");
    let json = run(&["nodes", "--admin-token", "viewer", "--output", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["nodes"][0]["name"], "n1");
    let refused = run(&["nodes"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("401") && text.contains("token"), "{text}");
}

fn admin_listen(set: &[&str]) -> Option<String> {
    let set = set.iter().map(|flag| (*flag).to_owned()).collect();
    let loaded = load_with(&SettingsArgs { set, ..SettingsArgs::default() }, []).expect("they are valid");
    loaded.settings.admin.listen.map(|address| address.to_string())
}

#[test]
fn the_port_of_administrators_follows_that_of_clients_on_loopback_only() {
    for (set, expected) in [
        (&[][..], Some("127.0.0.1:8081")),
        (&["listen=[::1]:9000"], Some("[::1]:9001")),
        (&["listen=127.0.0.1:0"], Some("127.0.0.1:0")),
        // What the system hands out as free may be anybody's.
        (&["listen=127.0.0.1:40000"], Some("127.0.0.1:0")),
        (&["listen=127.0.0.1:65535"], Some("127.0.0.1:0")),
        (&["listen=0.0.0.0:8080", "auth.anonymous.subscribe=['#']"], None),
        (&["listen=127.0.0.1:0", "admin.listen=0.0.0.0:9090"], Some("0.0.0.0:9090")),
    ] {
        assert_eq!(admin_listen(set).as_deref(), expected, "{set:?}");
    }
}

#[tokio::test]
async fn a_port_that_another_process_has_is_replaced_where_nobody_chose_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut settings = Settings::default();
    settings.admin.listen = Some(taken.local_addr().expect("an address"));
    let node = Node::start(settings, Arc::new(MemoryStore::default()), None);
    assert!(AdminListener::bind(&node, AdminPort::Chosen).is_err(), "it was chosen");
    let derived = AdminListener::bind(&node, AdminPort::Derived).expect("another one does as well");
    assert!(
        derived.is_some_and(|listener| listener.url().is_ok_and(|url| url.starts_with("http://127.0.0.1:")))
    );
}

#[tokio::test]
async fn with_tls_the_port_of_administrators_speaks_nothing_else() {
    let files = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (files.path().join("a.pem"), files.path().join("b.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("it can be written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("it can be written");
    let mut settings = Settings::default();
    settings.admin.listen = Some("127.0.0.1:0".parse().expect("an address"));
    settings.admin.tls = true;
    (settings.tls.certificate, settings.tls.key) = (Some(certificate), Some(key));
    let node = Node::start(settings, Arc::new(MemoryStore::default()), None);
    let listener = AdminListener::bind(&node, AdminPort::Chosen).expect("it is free").expect("it is wanted");
    let url = listener.url().expect("an address");
    let address = url.trim_start_matches("https://").trim_end_matches('/').parse().expect("under https");
    tokio::spawn(listener.serve(node));
    let answer = support::exchange(address, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(!answer.starts_with(b"HTTP/"), "it answers in the clear");
}

#[tokio::test]
async fn a_page_of_many_connections_is_the_first_of_them_however_they_are_scattered() {
    let node = Node::start(Settings::default(), Arc::new(MemoryStore::default()), None);
    let mut places = Vec::new();
    for _ in 0..5000 {
        let dialog =
            Dialog::new(Language::Native(Format::Json), node.bounds(), String::new(), Arc::default());
        let outbound = Outbound::new(node.next_connection(), dialog, Carrier::Bytes, None);
        let holder = Holder { identity: Arc::default(), peer: None, transport: Transport::WebsocketJson };
        places.push((node.sessions().enter(&outbound, holder), outbound));
    }
    let numbers = |page: &[Seen]| page.iter().map(|seen| seen.id.0).collect::<Vec<_>>();
    let first = node.sessions().page(None, 100, |_| true).await;
    assert_eq!(numbers(&first), (0..100).collect::<Vec<_>>());
    let second = node.sessions().page(Some(first[99].id), 100, |seen| seen.id.0 % 2 == 0).await;
    assert_eq!(numbers(&second), (100..300).step_by(2).collect::<Vec<_>>());
    places.truncate(50);
    assert_eq!(numbers(&node.sessions().page(None, 100, |_| true).await), (0..50).collect::<Vec<_>>());
}
