//! A broker as a process, and a client of the tests' own.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod http;
pub mod raw;
pub mod stomp;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Longer than anything takes on a busy machine: a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that runs in a process of its own; it is killed when this is dropped.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    /// The administrators' port, if the settings ask for one.
    pub admin: Option<SocketAddr>,
    /// The ports of STOMP over TCP and over TLS, as far as the settings ask for them.
    pub stomp: Vec<SocketAddr>,
}

impl Broker {
    /// Starts on a free port, with its logs in `data`.
    pub fn start(data: &Path, settings: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", data, settings)
    }

    /// Starts where an earlier one was.
    pub fn start_on(listen: &str, data: &Path, settings: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bongsu"));
        command.args(["serve", "--listen", listen, "--data"]).arg(data);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the broker starts");
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut lines = output.lines();
        let mut address = |words: &str| {
            let line = lines.by_ref().map(|line| line.expect("as text")).find(|line| line.contains(words));
            let line = line.expect("it says where it listens");
            let (_, address) = line.split_once("://").expect("as a URL");
            address.trim_end_matches('/').parse().expect("with an address")
        };
        let count = |keys: &[&str]| {
            let is_set = |setting: &&&str| keys.iter().any(|key| setting.starts_with(key));
            settings.iter().filter(is_set).count()
        };
        let main = address(" on http");
        let admin = (count(&["admin.listen="]) > 0).then(|| address(" on http"));
        let n_stomp = count(&["stomp.listen=", "stomp.tls_listen="]);
        let stomp = (0..n_stomp).map(|_| address(" to stomp")).collect();
        // What it says further must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: main, admin, stomp }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would, as far as the process sees it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, and says how it did.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let done = Command::new("kill").arg(self.pid().to_string()).status().expect("kill runs");
        assert!(done.success());
        self.child.wait().expect("it ends")
    }

    /// Resident memory in KiB, without the pages of the program's own file, which a debug build has many of.
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await.expect("the broker takes connections")
    }

    /// One counter of `/metrics`, as it stands there.
    pub async fn counter(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("no {name} in {text}"));
        line.trim().parse().expect("a number")
    }

    /// Waits until a counter stands at least where it is wanted, and says where it stands then.
    pub async fn counted(&self, name: &str, wanted: u64) -> u64 {
        let begun = std::time::Instant::now();
        loop {
            let text = self.get("/metrics").await;
            // No number: the broker had no room for the question.
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let count = line.map(|line| line.trim().parse().expect("a number"));
            if let Some(count) = count.filter(|count| *count >= wanted) {
                return count;
            }
            assert!(begun.elapsed() < PATIENCE, "{name} is {count:?}, not {wanted}");
        }
    }

    /// The answer to a GET, headers and all.
    pub async fn get(&self, path: &str) -> String {
        get(self.address, path).await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer to a GET, headers and all.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    String::from_utf8_lossy(&exchange(address, request.as_bytes()).await).into_owned()
}

/// Sends bytes on a connection of their own and takes everything that comes until it closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.expect("the broker takes connections");
    stream.write_all(request).await.expect("it reads");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset after the answer is an end too.
    let _ = read.expect("the broker closes");
    answer
}

/// A WebSocket that speaks JSON.
pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    next_id: u64,
    /// Events that came while something else was waited for.
    kept: std::collections::VecDeque<Value>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self, tungstenite::Error> {
        Self::connect_with(address, None, &[]).await
    }

    /// Connects with a small receive buffer, so that what it does not read is felt at once, and with headers.
    pub async fn connect_with(
        address: SocketAddr,
        receive_buffer: Option<u32>,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address).await?;
        let mut request = format!("ws://{address}/v1/ws").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let config = tungstenite::protocol::WebSocketConfig::default().read_buffer_size(16 << 10);
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
        let mut client = Self { socket, next_id: 0, kept: std::collections::VecDeque::new() };
        let welcome = client.event().await.expect("a welcome");
        assert!(welcome.get("welcome").is_some(), "{welcome}");
        Ok(client)
    }

    /// On a WebSocket that is open, from which nothing was read.
    pub fn over(socket: WebSocketStream<TcpStream>) -> Self {
        Self { socket, next_id: 0, kept: std::collections::VecDeque::new() }
    }

    /// The next event; `None` once the connection is over.
    pub async fn event(&mut self) -> Option<Value> {
        if let Some(event) = self.kept.pop_front() {
            return Some(event);
        }
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("something comes in time")?
            {
                Ok(Message::Text(text)) => {
                    return Some(serde_json::from_str(&text).expect("events are JSON"));
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The close frame's code and reason, after whatever comes before.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the broker closes in time")
            {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("no close frame but {other:?}"),
            }
        }
    }

    pub async fn send(&mut self, value: &Value) {
        self.socket.send(Message::text(value.to_string())).await.expect("the broker reads");
    }

    /// Sends a command and waits for its reply; other events are kept.
    pub async fn ask(&mut self, command: &str, body: Value) -> Value {
        let id = self.begin(command, body).await.expect("the broker reads");
        let mut passed = Vec::new();
        loop {
            let event = self.event().await.expect("a reply before the end");
            if event["reply"]["id"] == json!(id) {
                self.kept.extend(passed);
                return event["reply"].clone();
            }
            passed.push(event);
        }
    }

    /// Sends a command without waiting; its id, or `None` if the connection is over.
    pub async fn begin(&mut self, command: &str, body: Value) -> Option<u64> {
        self.next_id += 1;
        let request = json!({ "id": self.next_id, command: body });
        self.socket.send(Message::text(request.to_string())).await.ok().map(|()| self.next_id)
    }

    pub async fn subscribe(&mut self, filter: &str, from: Value) -> Value {
        let reply =
            self.ask("subscribe", json!({ "subscriptions": [{ "filter": filter, "from": from }] })).await;
        reply["subscribed"]["results"][0].clone()
    }

    /// Publishes and waits; the position.
    pub async fn publish(&mut self, topic: &str, data: Value) -> Value {
        let reply = self.ask("publish", json!({ "messages": [{ "topic": topic, "data": data }] })).await;
        reply["published"]["results"][0]["published"]["position"].clone()
    }

    /// The next delivery; anything else but signs of life is a failure.
    pub async fn delivery(&mut self) -> Value {
        loop {
            let event = self.event().await.expect("a delivery before the end");
            if let Some(delivery) = event.get("delivery") {
                return delivery.clone();
            }
            assert!(event.get("heartbeat").is_some(), "no delivery but {event}");
        }
    }
}
