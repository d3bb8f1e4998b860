//! `bongsu selftest`: nothing to find behind HAProxy, and everything behind a proxy that does all that harms.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::source::{at, connect_from, haproxy};
use super::support::Broker;

/// Runs the command, and takes what it says.
async fn selftest(address: SocketAddr, wait: &str) -> (bool, Value) {
    let arguments =
        ["selftest", &format!("http://{address}"), "--output", "json", "--wait", wait].map(str::to_owned);
    let run = move || Command::new(env!("CARGO_BIN_EXE_bongsu")).args(arguments).output().expect("it runs");
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.expect("it ends");
    let said = serde_json::from_slice(&stdout);
    (status.success(), said.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr))))
}

fn codes(said: &Value) -> Vec<&str> {
    let findings = said["findings"].as_array().expect("a list");
    findings.iter().map(|finding| finding["code"].as_str().expect("a code")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_does_no_harm_once_it_is_believed() {
    let data = tempfile::tempdir().expect("a folder");
    let (believed, strange) = (data.path().join("1"), data.path().join("2"));
    let trusting = Broker::start(&believed, &["proxy.trusted=127.0.0.9", "proxy.headers=x-forwarded-for"]);
    let proxy = haproxy(trusting.address, "mode http\n option forwardfor", "");
    drop(connect_from("127.0.0.1", at(&proxy)).await);
    let (is_well, said) = selftest(at(&proxy), "1").await;
    assert!(is_well && codes(&said).is_empty(), "{said}");
    assert_eq!((&said["seen"]["client"], &said["seen"]["told"]), (&"127.0.0.1".into(), &true.into()));
    // The same proxy before a node that was told nothing of it.
    let other = Broker::start(&strange, &[]);
    let proxy = haproxy(other.address, "mode http\n option forwardfor", "");
    drop(connect_from("127.0.0.1", at(&proxy)).await);
    let (is_well, said) = selftest(at(&proxy), "1").await;
    assert!(!is_well);
    assert_eq!(codes(&said), ["forwarded_not_believed"], "{said}");
    assert!(said["findings"][0]["haproxy"].as_str().expect("advice").contains("proxy.trusted"), "{said}");
}

/// Takes one request of each connection, drops what a careless configuration drops, speaks HTTP/1.0 to the node, keeps the answer until it
/// is whole, and gives up after a second and a half.
async fn careless_proxy(node: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, node));
        }
    });
    address
}

async fn pass(mut client: TcpStream, node: SocketAddr) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await.ok()?);
    }
    let request = String::from_utf8(request).ok()?;
    let dropped = ["connection:", "upgrade:", "last-event-id:", "idempotency-key:"];
    let kept =
        request.lines().filter(|line| !dropped.iter().any(|name| line.to_lowercase().starts_with(name)));
    let kept: String = kept.map(|line| line.replace("HTTP/1.1", "HTTP/1.0") + "\r\n").collect();
    let mut server = TcpStream::connect(node).await.ok()?;
    server.write_all(kept.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let whole =
        tokio::time::timeout(std::time::Duration::from_millis(1500), server.read_to_end(&mut answer)).await;
    if whole.is_err() {
        answer = b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let kept = head.lines().filter(|line| !line.to_lowercase().starts_with("x-resume:"));
    let mut head: String = kept.map(|line| line.to_owned() + "\r\n").collect();
    head.push_str("content-encoding: identity\r\nconnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.ok()?;
    client.write_all(&answer[end + 4..]).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_careless_proxy_does_is_found_with_its_mending() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let proxy = careless_proxy(broker.address).await;
    let (is_well, said) = selftest(proxy, "3").await;
    assert!(!is_well);
    let mut codes = codes(&said);
    codes.sort_unstable();
    let expected = [
        "answer_headers_lost",
        "buffering",
        "compression",
        "cut_off",
        "http_1_0",
        "no_upgrade",
        "request_headers_lost",
    ];
    assert_eq!(codes, expected, "{said}");
    let finding = |code: &str| {
        let findings = said["findings"].as_array().expect("a list");
        findings.iter().find(|finding| finding["code"] == code).expect("it is there").clone()
    };
    assert_eq!(finding("request_headers_lost")["detail"], "last-event-id, idempotency-key");
    assert_eq!(finding("answer_headers_lost")["detail"], "x-resume");
    assert!(finding("buffering")["nginx"].as_str().expect("advice").contains("proxy_buffering off"));
}

#[tokio::test]
async fn a_self_test_tells_nobody_what_headers_say() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let request = "GET /v1/selftest HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer geheim\r\nconnection: close\r\n\r\n";
    let answer = super::support::exchange(broker.address, request.as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("\"authorization\"") && !answer.contains("geheim"), "{answer}");
    let answer = broker.get("/v1/selftest/wait?seconds=100000").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
