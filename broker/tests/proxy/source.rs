//! Who clients are behind a proxy: HAProxy tells it by the PROXY protocol or by headers, and is believed for its address only.
//!
//! Every address of 127.0.0.0/8 is this machine's own: the proxy connects from 127.0.0.9, clients from others.

use std::net::SocketAddr;
use std::time::Instant;

use bongsu_testkit::Process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::sessions::{OPEN, Told};
use super::support::stomp::Stomp;
use super::support::{Broker, PATIENCE};

/// The proxy's own address.
const PROXY: &str = "proxy.trusted=127.0.0.9";

/// HAProxy before one server, with these lines in the `listen` section.
pub(super) fn haproxy(server: SocketAddr, lines: &str, parameters: &str) -> Process {
    let text = format!(
        "defaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout tunnel 60s\nlisten all\n bind 127.0.0.1:PORT\n\
         {lines}\n server node {server} source 127.0.0.9 {parameters}\n"
    );
    Process::launch("haproxy", "Using epoll", move |directory, port| {
        let file = directory.join("haproxy.cfg");
        std::fs::write(&file, text.replace("PORT", &port.to_string())).expect("it is written");
        ["haproxy".into(), "-db".into(), "-V".into(), "-f".into(), file.into_os_string()].into()
    })
}

/// A connection from an address of this machine, as soon as somebody listens.
pub(super) async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from.parse().expect("an address"), 0)).expect("it is this machine's");
        match socket.connect(to).await {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

pub(super) fn at(process: &Process) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], process.port()))
}

/// The address that the node takes a WebSocket for that comes from here, with these headers.
async fn seen_of_web_socket(
    told: &mut Told,
    from: &str,
    to: SocketAddr,
    headers: &[(&'static str, &str)],
) -> String {
    let mut request = format!("ws://{to}/v1/ws").into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().expect("a value"));
    }
    let n_begun = told.begun();
    let stream = connect_from(from, to).await;
    let (_socket, _) = client_async(request, stream).await.expect("a handshake");
    seen(told, n_begun).await
}

async fn seen(told: &mut Told, n_begun: usize) -> String {
    told.until_begun(n_begun + 1).await;
    let event = told.newest("connected").await;
    let peer: SocketAddr = event["peer"].as_str().expect("text").parse().expect("an address");
    peer.ip().to_string()
}

/// What a port answers to bytes from an address, until it closes.
async fn answer_to(from: &str, to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect_from(from, to).await;
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = stream.write_all(bytes).await;
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the broker closes in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn clients_behind_the_proxy_protocol_are_seen_as_themselves_on_every_port() {
    let data = tempfile::tempdir().expect("a folder");
    let ports = "proxy.protocol=clients,stomp,admin";
    let listen = ["stomp.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"];
    let broker = Broker::start(data.path(), &[OPEN, &[PROXY, ports], &listen].concat());
    // Who is no trusted proxy is itself, without any introduction.
    let mut told = Told::of(&broker).await;
    told.until_begun(1).await;
    for parameters in ["send-proxy", "send-proxy-v2"] {
        let clients = haproxy(broker.address, "mode tcp", parameters);
        assert_eq!(seen_of_web_socket(&mut told, "127.0.0.2", at(&clients), &[]).await, "127.0.0.2");
        let stomp = haproxy(broker.stomp[0], "mode tcp", parameters);
        let n_begun = told.begun();
        let mut client = Stomp::over(connect_from("127.0.0.3", at(&stomp)).await);
        client.log_in("1.2", "").await;
        assert_eq!(seen(&mut told, n_begun).await, "127.0.0.3");
        let admin = haproxy(broker.admin.expect("it has one"), "mode tcp", parameters);
        let answer = answer_to(
            "127.0.0.4",
            at(&admin),
            b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn an_introduction_is_taken_from_trusted_addresses_only_and_must_come_from_them() {
    let data = tempfile::tempdir().expect("a folder");
    let ports = "proxy.protocol=clients,stomp,admin";
    let listen = ["stomp.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"];
    let broker = Broker::start(data.path(), &[OPEN, &[PROXY, ports], &listen].concat());
    let introduction = "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let login = "CONNECT\naccept-version:1.2\nhost:a\n\n\0";
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02".to_vec();
    second.extend_from_slice(request.as_bytes());
    let http = [broker.address, broker.admin.expect("it has one")];
    for port in http {
        let answer = answer_to("127.0.0.2", port, format!("{introduction}{request}").as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let answer = answer_to("127.0.0.2", port, &second).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        // A trusted one that does not introduce its client gets no word.
        assert_eq!(answer_to("127.0.0.9", port, request.as_bytes()).await, "");
        // Whose address was told is not this machine, whatever address it is.
        let answer =
            answer_to("127.0.0.9", broker.address, format!("{introduction}{request}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let answer = answer_to("127.0.0.2", broker.stomp[0], format!("{introduction}{login}").as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("ERROR\n"), "{answer}");
    assert_eq!(answer_to("127.0.0.9", broker.stomp[0], login.as_bytes()).await, "");
    broker.counted("bongsu_refused_total{reason=\"proxy_protocol\"}", 3).await;
}

#[tokio::test]
async fn clients_behind_forwarded_headers_are_seen_as_themselves() {
    for (headers, line, spoof) in [
        ("x-forwarded-for", "option forwardfor", ("x-forwarded-for", "192.0.2.1")),
        ("forwarded", "http-request add-header Forwarded for=%[src]", ("forwarded", "for=192.0.2.1")),
    ] {
        let data = tempfile::tempdir().expect("a folder");
        let headers = format!("proxy.headers={headers}");
        let broker = Broker::start(data.path(), &[OPEN, &[PROXY, &headers]].concat());
        let lines = format!("mode http\n {line}\n http-request set-header X-Forwarded-Proto https");
        let proxy = haproxy(broker.address, &lines, "");
        let mut told = Told::of(&broker).await;
        told.until_begun(1).await;
        assert_eq!(seen_of_web_socket(&mut told, "127.0.0.2", at(&proxy), &[]).await, "127.0.0.2");
        // What the client itself says stands before what the proxy says.
        assert_eq!(seen_of_web_socket(&mut told, "127.0.0.2", at(&proxy), &[spoof]).await, "127.0.0.2");
        // Whoever comes past the proxy says nothing.
        assert_eq!(seen_of_web_socket(&mut told, "127.0.0.5", broker.address, &[spoof]).await, "127.0.0.5");
        // Operators' numbers are for this machine, which no client of a proxy is.
        let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = answer_to("127.0.0.1", at(&proxy), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        if headers.ends_with("for") {
            let request = "PUT /v1/stream/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let answer = answer_to("127.0.0.1", at(&proxy), request.as_bytes()).await;
            assert!(
                answer.to_lowercase().contains("\r\nlocation: https://localhost/v1/stream/a\r\n"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_sockjs_session_belongs_to_the_address_that_the_proxy_tells() {
    let data = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(data.path(), &[PROXY, "proxy.headers=x-forwarded-for"]);
    let proxy = haproxy(broker.address, "mode http\n option forwardfor", "");
    let poll = "POST /sockjs/000/abcdefgh/xhr HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let answer = answer_to("127.0.0.2", at(&proxy), poll.as_bytes()).await;
    assert!(answer.ends_with("\r\no\n\r\n0\r\n\r\n") || answer.ends_with("\r\n\r\no\n"), "{answer}");
    let foreign = answer_to("127.0.0.3", at(&proxy), poll.as_bytes()).await;
    assert!(foreign.starts_with("HTTP/1.1 404 "), "{foreign}");
    let own = answer_to("127.0.0.2", at(&proxy), poll.as_bytes()).await;
    assert!(own.starts_with("HTTP/1.1 200 "), "{own}");
}
