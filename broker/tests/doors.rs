//! Every way into a node, and who is turned away at which: the contracts WS-1 to WS-7 against the broker as a process.
#![expect(clippy::unwrap_used, reason = "a test fails where one does")]

mod support;

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Broker, Client, PATIENCE, exchange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Message;

const TOKEN: &str = "a.b-c";

/// The setting of a node that knows one token, `TOKEN` of ada, which may do everything under `ada/`.
fn tokens() -> String {
    let digest: String = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
    let filters = "subscribe = [\"ada/#\"], publish = [\"ada/#\"], presence = [\"ada/#\"]";
    format!("auth.tokens=[{{ name = \"ada\", sha256 = \"{digest}\", {filters} }}]")
}

/// What a handshake came to.
struct Door {
    head: String,
    /// What followed the head: a text, or frames.
    rest: Vec<u8>,
    stream: TcpStream,
}

impl Door {
    /// Knocks with a good handshake in which headers are replaced, or left out (empty value).
    async fn knock(broker: &Broker, path: &str, changes: &[(&str, &str)]) -> Self {
        let host = broker.address.to_string();
        let usual = [
            ("host", host.as_str()),
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut request = format!("GET {path} HTTP/1.1\r\n");
        let kept = usual.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        for (name, value) in kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())) {
            request += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let end = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            receive(&mut stream, &mut read).await;
        };
        let rest = read.split_off(end + 4);
        Self { head: String::from_utf8(read).unwrap().to_lowercase(), rest, stream }
    }

    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// A header of the answer.
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// The next frame.
    async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = Frame::take(&mut self.rest) {
                return frame;
            }
            receive(&mut self.stream, &mut self.rest).await;
        }
    }

    /// The next event.
    async fn event(&mut self) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame.opcode, 1, "text");
        serde_json::from_slice(&frame.body()).unwrap()
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.stream.write_all(&masked(opcode, payload)).await.unwrap();
    }
}

async fn receive(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    let read = tokio::time::timeout(PATIENCE, stream.read_buf(bytes)).await.expect("an answer in time");
    assert!(read.unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(bytes));
}

/// A client's frame of less than 126 bytes.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).unwrap();
    // A mask of zeros changes nothing.
    [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A frame of the broker's.
#[derive(Debug)]
struct Frame {
    opcode: u8,
    is_compressed: bool,
    payload: Vec<u8>,
}

impl Frame {
    /// Takes a frame off the front, if it is there as a whole.
    fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let (first, length) = (*bytes.first()?, *bytes.get(1)?);
        let (begin, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
            length => (2, usize::from(length)),
        };
        assert!(length < 1 << 16, "unmasked and not long");
        let payload = bytes.get(begin..begin + length)?.to_vec();
        bytes.drain(..begin + length);
        Some(Self { opcode: first & 0x0f, is_compressed: first & 0x40 != 0, payload })
    }

    /// The payload, inflated by zlib's rules (RFC 7692, 7.2.2) and with nothing of earlier messages.
    fn body(&self) -> Vec<u8> {
        if !self.is_compressed {
            return self.payload.clone();
        }
        let mut body = Vec::with_capacity(64 << 10);
        let compressed = [&self.payload[..], &[0, 0, 0xff, 0xff]].concat();
        Decompress::new(false).decompress_vec(&compressed, &mut body, FlushDecompress::Sync).unwrap();
        body
    }
}

/// The subject that the welcome names; empty for one without a token.
async fn subject(broker: &Broker, path: &str, changes: &[(&str, &str)]) -> String {
    let mut door = Door::knock(broker, path, changes).await;
    assert_eq!(door.status(), 101, "{}", door.head);
    let welcome = door.event().await["welcome"].clone();
    welcome["subject"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_1_a_handshake_that_is_none_is_told_what_is_missing() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let knock = async |changes: &[(&str, &str)]| Door::knock(&broker, "/v1/ws", changes).await;

    let good = knock(&[]).await;
    assert_eq!(good.status(), 101);
    assert_eq!(good.header("sec-websocket-accept"), Some("s3pplmbitxaq9kygzzhzrbk+xoo="), "in lower case");
    for changes in [[("sec-websocket-version", "12")], [("upgrade", "")], [("connection", "keep-alive")]] {
        let door = knock(&changes).await;
        assert_eq!(door.status(), 426, "{changes:?}");
        assert_eq!(door.header("sec-websocket-version"), Some("13"));
        assert_eq!(door.header("upgrade"), Some("websocket"));
    }
    for key in ["", "dG9vIHNob3J0", "not base64"] {
        assert_eq!(knock(&[("sec-websocket-key", key)]).await.status(), 400, "{key}");
    }
    assert_eq!(knock(&[("origin", "https://evil.example")]).await.status(), 403);
    assert_eq!(knock(&[("authorization", "Basic YTpi")]).await.status(), 400);
    let unknown = knock(&[("authorization", "Bearer nobody")]).await;
    assert_eq!(unknown.status(), 401);
    assert_eq!(unknown.header("www-authenticate"), Some("bearer error=\"invalid_token\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_1_a_page_can_see_why_it_was_refused_where_the_node_closes_instead() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[&tokens(), "auth.reject=close"]);
    let mut client =
        Client::connect_with(broker.address, None, &[("authorization", "Bearer nobody")]).await.unwrap();
    let goodbye = client.event().await.unwrap()["goodbye"].clone();
    assert_eq!((&goodbye["reason"], &goodbye["reconnect"]), (&json!("unauthenticated"), &json!("never")));
    let (code, reason) = client.closed().await;
    assert_eq!(code, 4401);
    assert_eq!(reason, "unauthenticated: this token is not known here");
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_2_one_offered_sub_protocol_is_echoed_or_none() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let offers = [
        ("bongsu.v1.json", Some("bongsu.v1.json"), 1),
        ("v9.unknown, bongsu.v1.proto, bongsu.v1.json", Some("bongsu.v1.proto"), 2),
        ("bongsu.v1.json,bongsu.v1.proto", Some("bongsu.v1.json"), 1),
        ("", None, 1),
    ];
    for (offer, echoed, opcode) in offers {
        let mut door = Door::knock(&broker, "/v1/ws", &[("sec-websocket-protocol", offer)]).await;
        assert_eq!((door.status(), door.header("sec-websocket-protocol")), (101, echoed), "{offer}");
        assert_eq!(door.frame().await.opcode, opcode, "the welcome in the format of {offer}");
    }
    let refused = Door::knock(&broker, "/v1/ws", &[("sec-websocket-protocol", "mqtt")]).await;
    assert_eq!((refused.status(), refused.header("sec-websocket-protocol")), (400, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_3_a_token_comes_in_whatever_way_the_client_has() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[&tokens(), "http.allowed_origins=[\"https://app.example\"]"]);
    let own = format!("http://{}", broker.address);
    let cookie = ("cookie", "theme=dark; bongsu_token=a.b-c");

    assert_eq!(subject(&broker, "/v1/ws", &[]).await, "");
    assert_eq!(subject(&broker, "/v1/ws", &[("authorization", "Bearer a.b-c")]).await, "ada");
    assert_eq!(subject(&broker, "/v1/ws?access_token=a.b%2Dc", &[]).await, "ada");
    assert_eq!(subject(&broker, "/v1/ws", &[cookie, ("origin", &own)]).await, "ada");
    assert_eq!(subject(&broker, "/v1/ws", &[cookie, ("origin", "https://app.example")]).await, "ada");
    assert_eq!(
        subject(&broker, "/v1/ws", &[cookie]).await,
        "",
        "without an origin there is no telling whose"
    );
    let stranger = Door::knock(&broker, "/v1/ws", &[cookie, ("origin", "https://evil.example")]).await;
    assert_eq!(stranger.status(), 403);

    let offer = format!("bearer.{}, bongsu.v1.json", URL_SAFE_NO_PAD.encode(TOKEN));
    let mut door = Door::knock(&broker, "/v1/ws", &[("sec-websocket-protocol", &offer)]).await;
    assert_eq!(door.header("sec-websocket-protocol"), Some("bongsu.v1.json"));
    assert!(!door.head.contains("bearer."), "{}", door.head);
    assert_eq!(door.event().await["welcome"]["subject"], json!("ada"));

    let mut client = broker.connect().await;
    let refused = client.ask("publish", json!({ "messages": [{ "topic": "ada/x", "data": 1 }] })).await;
    assert_eq!(refused["published"]["results"][0]["error"]["code"], json!("unauthenticated"), "{refused}");
    let reply = client.ask("authenticate", json!({ "token": TOKEN })).await;
    assert_eq!(reply["authenticated"]["subject"], json!("ada"), "{reply}");
    assert_eq!(client.publish("ada/x", json!(1)).await["offset"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_allows_what_its_filters_say_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[&tokens()]);
    let bearer = [("authorization", "Bearer a.b-c")];
    let mut ada = Client::connect_with(broker.address, None, &bearer).await.unwrap();
    let mut nobody = broker.connect().await;

    assert!(ada.subscribe("ada/#", json!("latest")).await.get("subscribed").is_some());
    assert_eq!(ada.publish("ada/x", json!(1)).await["offset"], json!(1));
    assert!(ada.ask("enter", json!({ "topic": "ada/x" })).await.get("entered").is_some());
    for (client, code) in [(&mut ada, "forbidden"), (&mut nobody, "unauthenticated")] {
        for filter in ["bob/x", "#"] {
            let refused = client.subscribe(filter, json!("latest")).await;
            assert_eq!(refused["error"]["code"], json!(code), "{filter}: {refused}");
        }
        let refused = client.ask("publish", json!({ "messages": [{ "topic": "bob/x", "data": 1 }] })).await;
        assert_eq!(refused["published"]["results"][0]["error"]["code"], json!(code), "{refused}");
        for command in ["enter", "members", "history"] {
            let refused = client.ask(command, json!({ "topic": "bob/x" })).await;
            assert_eq!(refused["error"]["code"], json!(code), "{command}: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_connect_from_their_own_host_and_from_allowed_sites() {
    let data = tempfile::tempdir().unwrap();
    let status = async |broker: &Broker, host: &str, origin: &str| {
        Door::knock(broker, "/v1/ws", &[("host", host), ("origin", origin)]).await.status()
    };
    let listing = Broker::start(data.path(), &["http.allowed_origins=[\"https://app.example\"]"]);
    assert_eq!(status(&listing, "localhost:8080", "https://app.example").await, 101);
    assert_eq!(
        status(&listing, "localhost:8080", "http://localhost:8080").await,
        101,
        "its own beside the listed"
    );
    assert_eq!(status(&listing, "localhost:8080", "https://evil.example").await, 403);
    // DNS rebinding: the name of a stranger's page that was made to point here.
    assert_eq!(status(&listing, "evil.example:8080", "http://evil.example:8080").await, 403);
    drop(listing);
    let guarded = Broker::start(data.path(), &[&tokens()]);
    assert_eq!(
        status(&guarded, "broker.example", "https://broker.example").await,
        101,
        "tokens are the guard"
    );
    drop(guarded);
    let open = Broker::start(data.path(), &["http.allowed_origins=[\"*\"]"]);
    assert_eq!(status(&open, "broker.example", "https://any.example").await, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_5_compressed_deliveries_inflate_to_the_same_text_for_all() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let mut readers = Vec::new();
    for offer in ["permessage-deflate", "permessage-deflate; server_max_window_bits=9", ""] {
        let mut door = Door::knock(&broker, "/v1/ws", &[("sec-websocket-extensions", offer)]).await;
        let agreed = door.header("sec-websocket-extensions").map(str::to_owned);
        assert_eq!(agreed.is_some(), !offer.is_empty());
        let takeover = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert!(agreed.as_ref().is_none_or(|agreed| agreed.starts_with(takeover)), "{agreed:?}");
        assert!(door.event().await.get("welcome").is_some());
        door.send(1, br#"{"id":1,"subscribe":{"subscriptions":[{"filter":"t","from":"earliest"}]}}"#).await;
        assert!(door.event().await["reply"]["subscribed"]["results"][0].get("subscribed").is_some());
        readers.push((door, agreed.is_some()));
    }
    let mut publisher = broker.connect().await;
    for n in 1..=3 {
        publisher.publish("t", json!({ "n": n, "body": "봉수 ".repeat(2000) })).await;
        let mut bodies = Vec::new();
        for (door, agreed) in &mut readers {
            let frame = door.frame().await;
            assert_eq!(frame.is_compressed, *agreed);
            assert!(!*agreed || frame.payload.len() < 1000, "{} bytes", frame.payload.len());
            bodies.push(String::from_utf8(frame.body()).unwrap());
        }
        let delivery: Value = serde_json::from_str(&bodies[0]).unwrap();
        assert_eq!(delivery["delivery"]["data"]["n"], json!(n));
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_see_one_another_come_and_go() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let (mut ada, mut bob, mut watcher) =
        (broker.connect().await, broker.connect().await, broker.connect().await);
    watcher.subscribe("$presence/x", json!("latest")).await;
    ada.ask("enter", json!({ "topic": "x", "info": { "name": "Ada" } })).await;
    bob.ask("enter", json!({ "topic": "x" })).await;
    let members = watcher.ask("members", json!({ "topic": "x" })).await["members"].clone();
    assert_eq!(members["total"], json!(2));
    assert_eq!(members["members"][0]["info"], json!({ "name": "Ada" }));
    for i in 0..2 {
        let delivery = watcher.delivery().await;
        assert_eq!(delivery["topic"], json!("$presence/x"));
        assert_eq!(delivery["data"]["join"], members["members"][i]);
    }
    let left = |delivery: &Value| delivery["data"]["leave"]["session"].clone();
    assert!(ada.ask("leave", json!({ "topic": "x" })).await.get("left").is_some());
    assert_eq!(left(&watcher.delivery().await), members["members"][0]["session"]);
    drop(bob);
    assert_eq!(left(&watcher.delivery().await), members["members"][1]["session"], "by its connection's end");
    assert_eq!(watcher.ask("members", json!({ "topic": "x" })).await["members"]["total"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_7_a_close_is_echoed_with_its_code() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    for (sent, answered) in
        [(&[][..], &[][..]), (&[3, 232, b'b', b'y', b'e'], &[3, 232]), (&[3, 237], &[3, 234])]
    {
        let mut door = Door::knock(&broker, "/v1/ws", &[]).await;
        assert!(door.event().await.get("welcome").is_some());
        door.send(8, sent).await;
        let close = loop {
            let frame = door.frame().await;
            if frame.opcode == 8 {
                break frame.payload;
            }
        };
        assert_eq!(close.get(..2).unwrap_or_default(), answered, "{sent:?}");
    }
}

/// A node that speaks TLS, and the certificate that vouches for it.
fn start_tls(data: &Path) -> (Broker, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (data.join("node.pem"), data.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings =
        [format!("tls.certificate={}", certificate.display()), format!("tls.key={}", key.display())];
    let broker = Broker::start(data, &settings.each_ref().map(String::as_str));
    (broker, made.cert.der().clone())
}

async fn connect_tls(
    broker: &Broker,
    certificate: CertificateDer<'static>,
    protocol: &str,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let stream = TcpStream::connect(broker.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_6_tls_in_process_carries_a_websocket_over_http_1() {
    let data = tempfile::tempdir().unwrap();
    let (broker, certificate) = start_tls(data.path());
    let stream = connect_tls(&broker, certificate, "http/1.1").await;
    let (mut socket, _) = tokio_tungstenite::client_async("wss://localhost/v1/ws", stream).await.unwrap();
    let request = r#"{"id":1,"publish":{"messages":[{"topic":"t","data":1}]}}"#;
    socket.send(Message::text(request)).await.unwrap();
    let mut reply = Value::Null;
    while reply.get("reply").is_none() {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        reply = serde_json::from_str(message.to_text().unwrap()).unwrap();
    }
    assert_eq!(reply["reply"]["published"]["results"][0]["published"]["position"]["offset"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_6_http_2_carries_a_websocket_in_an_extended_connect() {
    let data = tempfile::tempdir().unwrap();
    let (broker, certificate) = start_tls(data.path());
    let stream = connect_tls(&broker, certificate, "h2").await;
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut client = client.ready().await.unwrap();
    // The connection's settings come with its first frames; only then may an extended CONNECT be sent (RFC 8441, 3).
    let settings = std::future::poll_fn(|context| {
        let is_over = std::pin::Pin::new(&mut connection).poll(context).is_ready();
        if client.is_extended_connect_protocol_enabled() || is_over {
            std::task::Poll::Ready(is_over)
        } else {
            std::task::Poll::Pending
        }
    });
    let is_over = tokio::time::timeout(PATIENCE, settings).await.unwrap();
    assert!(!is_over);
    tokio::spawn(connection);

    let request = http::Request::connect("https://localhost/v1/ws")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "bongsu.v1.json")
        .body(())
        .unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    let response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "bongsu.v1.json");
    assert!(response.headers().get("sec-websocket-accept").is_none());
    assert!(response.headers().get("sec-websocket-extensions").is_none());
    let mut body = response.into_body();
    let publish = br#"{"id":1,"publish":{"messages":[{"topic":"t","data":1}]}}"#;
    send.send_data(Bytes::from(masked(1, publish)), false).unwrap();
    let mut read = Vec::new();
    let mut events = Vec::new();
    while events.len() < 2 {
        let data = tokio::time::timeout(PATIENCE, body.data()).await.unwrap().expect("more").unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
        while let Some(frame) = Frame::take(&mut read) {
            assert!(!frame.is_compressed);
            events.push(serde_json::from_slice::<Value>(&frame.body()).unwrap());
        }
    }
    assert!(events[0].get("welcome").is_some(), "{events:?}");
    let position = &events[1]["reply"]["published"]["results"][0]["published"]["position"];
    assert_eq!(position["offset"], json!(1), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_the_page_are_answered() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    for (path, body) in
        [("/healthz", "ok\n"), ("/livez", "alive\n"), ("/readyz", "\"store\":{\"status\":\"ok\"}}\n")]
    {
        let answer = broker.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(body), "{answer}");
    }
    let page = broker.get("/").await.to_lowercase();
    assert!(page.starts_with("http/1.1 200 "), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self';"), "{page}");
    assert!(page.contains("x-content-type-options: nosniff"), "{page}");
    assert!(page.contains("<!doctype html>"), "{page}");
    let missing =
        exchange(broker.address, b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(missing.starts_with(b"HTTP/1.1 404 "));
}
