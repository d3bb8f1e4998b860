//! TLS in process: what is spoken, and certificates that change while connections go on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use support::{Broker, PATIENCE, exchange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// A certificate with its key, as files hold them.
struct Pair {
    certificate: CertificateDer<'static>,
    pem: String,
    key: String,
}

impl Pair {
    fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        Self { certificate, pem: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("tls.crt"), &self.pem).unwrap();
        std::fs::write(folder.join("tls.key"), &self.key).unwrap();
    }
}

/// Secrets as Kubernetes mounts them: files are links into `..data`, which is a link to a folder that is made anew at each change.
struct Secret {
    folder: tempfile::TempDir,
    n_changes: usize,
}

impl Secret {
    fn mount(pair: &Pair) -> Self {
        let mut secret = Self { folder: tempfile::tempdir().unwrap(), n_changes: 0 };
        secret.turn(pair);
        for file in ["tls.crt", "tls.key"] {
            std::os::unix::fs::symlink(Path::new("..data").join(file), secret.folder.path().join(file))
                .unwrap();
        }
        secret
    }

    fn turn(&mut self, pair: &Pair) {
        self.n_changes += 1;
        let (path, name) = (self.folder.path(), format!("..{}", self.n_changes));
        std::fs::create_dir(path.join(&name)).unwrap();
        pair.write(&path.join(&name));
        std::os::unix::fs::symlink(&name, path.join("..data_tmp")).unwrap();
        std::fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    }

    fn settings(&self) -> [String; 2] {
        let path = |file| self.folder.path().join(file).display().to_string();
        [format!("tls.certificate={}", path("tls.crt")), format!("tls.key={}", path("tls.key"))]
    }
}

/// A handshake that takes any of these certificates.
async fn handshake(
    address: SocketAddr,
    pairs: &[&Pair],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        roots.add(pair.certificate.clone()).unwrap();
    }
    // A config of its own, so that no session is resumed.
    let config = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn web_socket(address: SocketAddr, pairs: &[&Pair]) -> WebSocketStream<TlsStream<TcpStream>> {
    let stream = handshake(address, pairs, &[&version::TLS13]).await.unwrap();
    client_async(format!("wss://localhost:{}/v1/ws", address.port()), stream).await.unwrap().0
}

/// Asks for a sign of life on a connection, and gets it.
async fn ping(socket: &mut WebSocketStream<TlsStream<TcpStream>>) {
    socket.send(Message::Ping("there?".into())).await.unwrap();
    loop {
        let message =
            tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().expect("it is open").unwrap();
        if matches!(message, Message::Pong(_)) {
            return;
        }
    }
}

/// Waits until handshakes see this certificate.
async fn until_seen(address: SocketAddr, wanted: &Pair, pairs: &[&Pair]) {
    let begun = Instant::now();
    loop {
        let stream = handshake(address, pairs, &[&version::TLS13]).await.unwrap();
        let seen = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        if seen == wanted.certificate {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "handshakes see another certificate");
    }
}

async fn metric(broker: &Broker, name: &str) -> u64 {
    let admin = support::get(broker.admin.unwrap(), "/metrics").await;
    admin.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
}

fn start(secret: &Secret, data: &Path) -> Broker {
    let [certificate, key] = secret.settings();
    let settings = [&certificate, &key, "admin.listen=127.0.0.1:0", "stomp.tls_listen=127.0.0.1:0"];
    Broker::start(data, &settings)
}

#[tokio::test]
async fn a_new_certificate_is_seen_by_new_handshakes_and_drops_no_connection() {
    let (old, new) = (Pair::make(), Pair::make());
    let mut secret = Secret::mount(&old);
    let data = tempfile::tempdir().unwrap();
    let broker = start(&secret, data.path());
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(web_socket(broker.address, &[&old]).await);
    }
    assert!(metric(&broker, "bongsu_tls_certificate_expires_seconds ").await > 0);
    secret.turn(&new);
    until_seen(broker.address, &new, &[&old, &new]).await;
    // The port of STOMP has the same.
    until_seen(broker.stomp[0], &new, &[&old, &new]).await;
    for socket in &mut sockets {
        ping(socket).await;
    }
    assert_eq!(metric(&broker, "bongsu_tls_reloads_total ").await, 1);
    ping(&mut web_socket(broker.address, &[&new]).await).await;
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_leaves_the_one_before() {
    let (old, new) = (Pair::make(), Pair::make());
    let mut secret = Secret::mount(&old);
    let data = tempfile::tempdir().unwrap();
    let broker = start(&secret, data.path());
    let half = Pair { certificate: new.certificate.clone(), pem: new.pem.clone(), key: old.key.clone() };
    let nonsense =
        Pair { certificate: new.certificate.clone(), pem: "nonsense".to_owned(), key: String::new() };
    for (broken, n_failed) in [(half, 1), (nonsense, 2)] {
        secret.turn(&broken);
        let begun = Instant::now();
        while metric(&broker, "bongsu_tls_reload_failures_total ").await < n_failed {
            assert!(begun.elapsed() < PATIENCE, "nothing is complained of");
        }
        until_seen(broker.address, &old, &[&old]).await;
    }
    secret.turn(&new);
    until_seen(broker.address, &new, &[&old, &new]).await;
    assert_eq!(metric(&broker, "bongsu_tls_reload_failures_total ").await, 2);
}

#[tokio::test]
async fn versions_1_2_and_1_3_are_spoken_and_none_before() {
    let pair = Pair::make();
    let secret = Secret::mount(&pair);
    let data = tempfile::tempdir().unwrap();
    let broker = start(&secret, data.path());
    for (version, expected) in
        [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut stream = handshake(broker.address, &[&pair], &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    for port in [broker.address, broker.stomp[0]] {
        // A hello of TLS 1.1 with a suite of its time, and without extensions.
        let body = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0, 0x2f], &[1, 0]].concat();
        let length = u8::try_from(body.len()).unwrap();
        let hello = [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
        let answer = exchange(port, &hello).await;
        // RFC 8446, 6: an alert, fatal.
        assert_eq!((answer.first(), answer.get(5)), (Some(&0x15), Some(&2)), "{answer:?}");
        // Plain text is no hello.
        let answer = exchange(port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    let begun = Instant::now();
    while metric(&broker, "bongsu_refused_total{reason=\"tls\"} ").await < 4 {
        assert!(begun.elapsed() < PATIENCE, "handshakes that fail are not counted");
    }
}
