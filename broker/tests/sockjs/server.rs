//! A node with the services that tests need, and a client that shows each chunk of an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bongsu::config::{AllowedOrigin, Settings};
use bongsu::dialog::Language;
use bongsu::listener::Listener;
use bongsu::listener::sockjs::Service;
use bongsu::node::Node;
use bongsu_persistence::memory::MemoryStore;
use bongsu_protocol::codec::Format;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than anything takes on a busy machine: a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) node: Arc<Node>,
}

impl Server {
    /// The services of the public suite, for pages of every site, and `/sockjs` with the native protocol.
    pub(crate) fn start() -> Self {
        Self::start_with(|settings| settings.http.allowed_origins = vec![AllowedOrigin::Any])
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let settings = settings(change);
        let service =
            |prefix, language| Service { response_bytes: 4096, ..Service::new(prefix, language, &settings) };
        let services = vec![
            service("/echo", Language::Echo),
            Service { websocket: false, ..service("/disabled_websocket_echo", Language::Echo) },
            Service { cookie_needed: true, ..service("/cookie_needed_echo", Language::Echo) },
            service("/close", Language::Farewell),
            service("/sockjs", Language::Native(Format::Json)),
        ];
        let node = Node::start(settings, Arc::new(MemoryStore::default()), None);
        let listener = Listener::bind(&node).unwrap().with_services(services);
        Self::serve(node, listener)
    }

    /// The services that settings have.
    pub(crate) fn start_own(change: impl FnOnce(&mut Settings)) -> Self {
        let node = Node::start(settings(change), Arc::new(MemoryStore::default()), None);
        let listener = Listener::bind(&node).unwrap();
        Self::serve(node, listener)
    }

    fn serve(node: Arc<Node>, listener: Listener) -> Self {
        let url: http::Uri = listener.url().unwrap().parse().unwrap();
        tokio::spawn(listener.serve(Arc::clone(&node)));
        Self { address: url.authority().unwrap().as_str().parse().unwrap(), node }
    }

    /// A request on a connection of its own, and everything of its answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, lines: &str, body: &str) -> Answer {
        let mut client = self.client().await;
        client.ask(method, path, lines, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "", body).await
    }

    /// A request whose answer goes on.
    pub(crate) async fn stream(&self, method: &str, path: &str) -> Http {
        let mut client = self.client().await;
        client.send(&client.request("1.1", method, path, "", "")).await;
        client.head().await;
        client
    }

    pub(crate) async fn client(&self) -> Http {
        Http::connect(self.address).await
    }
}

/// A request to wherever a node is.
pub(crate) async fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    Http::connect(address).await.ask("POST", path, "", body).await
}

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings { listen: "127.0.0.1:0".parse().unwrap(), ..Settings::default() };
    change(&mut settings);
    settings
}

/// An answer's beginning, and its body where that was waited for.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map_or("", |(_, value)| value.as_str())
    }
}

/// One HTTP connection.
pub(crate) struct Http {
    pub(crate) stream: TcpStream,
    address: SocketAddr,
    read: Vec<u8>,
}

impl Http {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, address, read: Vec::new() }
    }

    pub(crate) fn request(&self, version: &str, method: &str, path: &str, lines: &str, body: &str) -> String {
        // Without a body there is no length, as some clients have it.
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        format!("{method} {path} HTTP/{version}\r\nhost: {}\r\n{length}{lines}\r\n{body}", self.address)
    }

    pub(crate) async fn send(&mut self, request: &str) {
        tokio::time::timeout(PATIENCE, self.stream.write_all(request.as_bytes())).await.unwrap().unwrap();
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, lines: &str, body: &str) -> Answer {
        self.send(&self.request("1.1", method, path, lines, body)).await;
        let head = self.head().await;
        let body = self.body(&head).await;
        Answer { body, ..head }
    }

    pub(crate) async fn head(&mut self) -> Answer {
        let text = self.until(b"\r\n\r\n").await;
        let mut lines = text.lines();
        let (_version, status) = lines.next().unwrap().split_once(' ').unwrap();
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Answer { status: status[..3].parse().unwrap(), headers: headers.collect(), body: String::new() }
    }

    async fn body(&mut self, head: &Answer) -> String {
        if head.header("transfer-encoding") == "chunked" {
            let mut body = String::new();
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    return body;
                }
                body.push_str(&chunk);
            }
        }
        let length = head.header("content-length").parse().unwrap_or(0);
        self.take(length).await
    }

    /// The next chunk of an answer; empty at its end.
    pub(crate) async fn chunk(&mut self) -> String {
        let size = self.until(b"\r\n").await;
        let bytes = usize::from_str_radix(size.trim(), 16).unwrap();
        let chunk = self.take(bytes + 2).await;
        chunk[..bytes].to_owned()
    }

    pub(crate) async fn take(&mut self, bytes: usize) -> String {
        while self.read.len() < bytes {
            assert!(self.receive().await, "the answer goes on: {}", String::from_utf8_lossy(&self.read));
        }
        String::from_utf8(self.read.drain(..bytes).collect()).unwrap()
    }

    /// Everything until the node closes.
    pub(crate) async fn rest(&mut self) -> String {
        while self.receive().await {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|bytes| bytes == end) {
                return self.take(at + end.len()).await;
            }
            assert!(self.receive().await, "the answer goes on: {}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn receive(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        read.expect("something comes in time").is_ok_and(|n_read| n_read > 0)
    }
}
