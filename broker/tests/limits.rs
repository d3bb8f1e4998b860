//! What one address, one user and one connection may take, and what those are told that want more.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::net::SocketAddr;

use bongsu_protocol::stomp::Command;
use serde_json::json;
use support::stomp::Stomp;
use support::{Broker, Client, PATIENCE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};

/// The token `ada`, of a subject of that name that may do everything.
const ADA: &str =
    "auth.tokens=[{ name = \"ada\", sha256 = \"SHA\", subscribe = [\"#\"], publish = [\"#\"] }]";

fn ada() -> String {
    use sha2::Digest as _;
    let digest: String = sha2::Sha256::digest(b"ada").iter().map(|byte| format!("{byte:02x}")).collect();
    ADA.replace("SHA", &digest)
}

/// A connection from an address of this machine, each of 127.0.0.0/8 being one.
async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

async fn web_socket(
    stream: TcpStream,
    to: SocketAddr,
    header: Option<(&'static str, &str)>,
) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let mut request = format!("ws://{to}/v1/ws").into_client_request().unwrap();
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    Ok(client_async(request, stream).await?.0)
}

/// Everything that a port says to a request, until it closes.
async fn answer(mut stream: TcpStream, request: &str) -> String {
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it closes in time");
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn an_address_has_so_many_connections_and_others_are_not_concerned() {
    let data = tempfile::tempdir().unwrap();
    let settings =
        ["limits.connections_per_address=3", "stomp.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"];
    let broker = Broker::start(data.path(), &settings);
    let (clients, stomp) = (broker.address, broker.stomp[0]);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(web_socket(connect_from("127.0.0.2", clients).await, clients, None).await.unwrap());
    }
    let request = "GET /v1/poll?topic=a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let refused = answer(connect_from("127.0.0.2", clients).await, request).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("\r\nretry-after: ") && refused.contains("\"too_many\""), "{refused}");
    let refused = answer(connect_from("127.0.0.2", stomp).await, "").await;
    assert!(refused.starts_with("ERROR\n") && refused.contains("this address"), "{refused}");
    // Another address has its own.
    assert!(answer(connect_from("127.0.0.3", clients).await, GET).await.starts_with("HTTP/1.1 200 "));
    held.pop();
    let begun = std::time::Instant::now();
    while web_socket(connect_from("127.0.0.2", clients).await, clients, None).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "there is no room though one ended");
    }
    let metrics = support::get(broker.admin.unwrap(), "/metrics").await;
    assert!(!metrics.contains("bongsu_refused_total{reason=\"address_connections\"} 0\n"), "{metrics}");
}

#[tokio::test]
async fn clients_of_a_proxy_have_the_limits_of_their_own_addresses() {
    let data = tempfile::tempdir().unwrap();
    let proxy = ["proxy.trusted=127.0.0.9", "proxy.headers=x-forwarded-for"];
    let broker = Broker::start(data.path(), &[&proxy[..], &["limits.connections_per_address=1"]].concat());
    let mut held = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        let header = Some(("x-forwarded-for", client));
        let stream = connect_from("127.0.0.9", broker.address).await;
        held.push(web_socket(stream, broker.address, header).await.unwrap());
        let network = client.replace("::1", "::ffff:2");
        let stream = connect_from("127.0.0.9", broker.address).await;
        let error =
            web_socket(stream, broker.address, Some(("x-forwarded-for", &network))).await.unwrap_err();
        let tungstenite::Error::Http(response) = error else { panic!("{error}") };
        assert_eq!(response.status(), 429);
        assert!(response.headers().contains_key("retry-after"));
    }
}

#[tokio::test]
async fn connections_of_an_address_come_at_its_rate() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["limits.connect_rate_per_address=5"]);
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(answer(connect_from("127.0.0.2", broker.address).await, GET).await);
    }
    // Health is answered to everybody.
    let ask = "GET /v1/poll?topic=a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let begun = std::time::Instant::now();
    loop {
        let answer = answer(connect_from("127.0.0.2", broker.address).await, ask).await;
        if answer.starts_with("HTTP/1.1 429 ") && answer.contains("\"rate_limited\"") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer}");
    }
    assert!(answer(connect_from("127.0.0.3", broker.address).await, GET).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_user_has_so_many_sessions_whatever_carries_them() {
    let data = tempfile::tempdir().unwrap();
    let (token, listen) = (ada(), "stomp.listen=127.0.0.1:0");
    let broker = Broker::start(data.path(), &["limits.connections_per_user=2", &token, listen]);
    let bearer = [("authorization", "Bearer ada")];
    let first = Client::connect_with(broker.address, None, &bearer).await.unwrap();
    let mut second = Stomp::silent(broker.stomp[0]).await;
    second.log_in("1.2", "passcode:ada\n").await;
    // The third is told so by each protocol in its words.
    let stream = connect_from("127.0.0.1", broker.address).await;
    let header = Some(("authorization", "Bearer ada"));
    let mut third = Client::over(web_socket(stream, broker.address, header).await.unwrap());
    let (code, _) = third.closed().await;
    assert_eq!(code, 1013, "try again later");
    let mut third = Stomp::silent(broker.stomp[0]).await;
    third.say("CONNECT\naccept-version:1.2\nhost:/\npasscode:ada\n\n^").await;
    let error = third.hear_one(Command::Error).await;
    assert!(format!("{error:?}").contains("as many connections"), "{error:?}");
    let request = "GET /v1/events?topic=a HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ada\r\nconnection: close\r\n";
    let refused = support::exchange(broker.address, format!("{request}\r\n").as_bytes()).await;
    let refused = String::from_utf8_lossy(&refused).into_owned();
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after"), "{refused}");
    // An `EventSource` takes nothing but 200 for a reason to come back.
    let refused =
        support::exchange(broker.address, format!("{request}accept: text/event-stream\r\n\r\n").as_bytes())
            .await;
    let refused = String::from_utf8_lossy(&refused).into_owned();
    assert!(refused.starts_with("HTTP/1.1 200 ") && refused.contains("retry: "), "{refused}");
    // On a connection that is open the request is refused, and the connection stays.
    let mut nobody = broker.connect().await;
    let reply = nobody.ask("authenticate", json!({ "token": "ada" })).await;
    assert_eq!(reply["error"]["code"], "too_many", "{reply}");
    assert!(reply["error"]["retryAfterMs"].as_u64().unwrap() > 0, "{reply}");
    drop(first);
    let begun = std::time::Instant::now();
    while nobody.ask("authenticate", json!({ "token": "ada" })).await.get("error").is_some() {
        assert!(begun.elapsed() < PATIENCE, "there is no room though one ended");
    }
}

#[tokio::test]
async fn who_publishes_too_fast_is_told_when_to_go_on() {
    let data = tempfile::tempdir().unwrap();
    let token = ada();
    let limits = [
        "limits.publish_rate_per_connection=3",
        "limits.publish_rate_per_user=4",
        "stomp.listen=127.0.0.1:0",
    ];
    let broker = Broker::start(data.path(), &[&limits[..], &[&token]].concat());
    let mut client =
        Client::connect_with(broker.address, None, &[("authorization", "Bearer ada")]).await.unwrap();
    let messages: Vec<_> = (0..20).map(|n| json!({ "topic": "t", "data": n })).collect();
    let reply = client.ask("publish", json!({ "messages": messages })).await;
    let Some(results) = reply["published"]["results"].as_array() else { panic!("{reply}") };
    let errors: Vec<_> = results.iter().filter(|result| result.get("error").is_some()).collect();
    assert!(errors.len() >= 12 && errors.len() < 20, "{reply}");
    for error in errors {
        assert_eq!(error["error"]["code"], "rate_limited", "{error}");
        assert!(error["error"]["retryAfterMs"].as_u64().unwrap() > 0, "{error}");
    }
    // The same user by HTTP.
    let body = "{\"topic\":\"t\",\"data\":1}";
    let headers = [("authorization", "Bearer ada"), ("content-type", "application/json")];
    let address = broker.address;
    let refused = tokio::task::spawn_blocking(move || {
        let begun = std::time::Instant::now();
        loop {
            let answer = support::http::ask(address, "POST", "/v1/publish", &headers, body);
            if answer.status == 429 {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{answer:?}");
        }
    });
    let refused = refused.await.unwrap();
    assert!(
        !refused.header("retry-after").is_empty() && refused.body.contains("rate_limited"),
        "{refused:?}"
    );
    // And by STOMP: an ERROR, with the receipt that was asked for.
    let mut stomp = Stomp::silent(broker.stomp[0]).await;
    stomp.log_in("1.2", "passcode:ada\n").await;
    for n in 0..20 {
        let frame = format!("SEND\ndestination:/topic/t\nreceipt:{n}\n\n{n}^");
        if !stomp.send(frame.replace('^', "\0").as_bytes()).await {
            break;
        }
    }
    let (error, _) = stomp.refused().await;
    assert!(format!("{error:?}").contains("too many messages"), "{error:?}");
    let metrics = support::get(broker.address, "/metrics").await;
    for reason in ["connection_publish_rate", "user_publish_rate"] {
        assert!(!metrics.contains(&format!("bongsu_refused_total{{reason=\"{reason}\"}} 0\n")), "{reason}");
    }
}

#[tokio::test]
async fn limits_that_an_operator_changes_hold_for_what_comes_then() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["admin.listen=127.0.0.1:0"]);
    let (clients, admin) = (broker.address, broker.admin.unwrap());
    let _first = web_socket(connect_from("127.0.0.2", clients).await, clients, None).await.unwrap();
    let put = move || {
        let limits = support::http::get(admin, "/v1/limits");
        let version = limits.header("etag").to_owned();
        let headers = [("if-match", version.as_str()), ("content-type", "application/json")];
        let body = r#"{"limits":{"connections_per_address":1}}"#;
        support::http::ask(admin, "PUT", "/v1/limits", &headers, body)
    };
    let answer = tokio::task::spawn_blocking(put).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let begun = std::time::Instant::now();
    while web_socket(connect_from("127.0.0.2", clients).await, clients, None).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "the limit does not hold");
    }
}
