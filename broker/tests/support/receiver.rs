//! A receiver of webhooks that behaves as a test wants.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::support::PATIENCE;

/// What it does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    /// Takes it.
    Takes,
    /// Answers with this status, and this further header line.
    Answers(u16, &'static str),
    /// Answers nothing.
    Hangs,
    /// Ends the connection in the middle of its answer.
    Breaks,
}

/// What it got.
#[derive(Debug, Clone)]
pub struct Got {
    pub headers: BTreeMap<String, String>,
    pub text: String,
    pub body: Value,
    pub did: &'static str,
    pub at: Instant,
}

pub struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    listening: tokio::task::JoinHandle<()>,
}

type Script = Arc<dyn Fn(usize, &Value) -> Does + Send + Sync>;

impl Receiver {
    /// `script` says what it does with its n-th request, from 0, by that and the body.
    pub async fn start(script: impl Fn(usize, &Value) -> Does + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0", script).await
    }

    pub async fn start_on(
        address: &str,
        script: impl Fn(usize, &Value) -> Does + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let (script, all): (Script, _) = (Arc::new(script), Arc::clone(&got));
        let listening = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&all)));
            }
        });
        Self { address, got, listening }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?from=bongsu", self.address)
    }

    /// Goes away, and leaves its address to another.
    pub fn stop(self) {
        self.listening.abort();
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// What it took, by what `data` says.
    pub fn taken(&self) -> Vec<Value> {
        self.got().iter().filter(|got| got.did == "took").map(|got| got.body["data"].clone()).collect()
    }

    /// Waits until what it got is as wanted.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:#?}", self.got());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

async fn serve(mut stream: TcpStream, script: Script, all: Arc<Mutex<Vec<Got>>>) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        assert_eq!(lines.next(), Some("POST /hook?from=bongsu HTTP/1.1"));
        let lines = lines.filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<_, _> =
            lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let length: usize = headers["content-length"].parse().unwrap();
        while read.len() < end + 4 + length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let text = String::from_utf8(read[end + 4..end + 4 + length].to_vec()).unwrap();
        read.drain(..end + 4 + length);
        let body: Value = serde_json::from_str(&text).unwrap();
        let body = body["delivery"].clone();
        let does = {
            let mut all = all.lock().unwrap();
            let does = script(all.len(), &body);
            let did = if matches!(does, Does::Takes) { "took" } else { "failed" };
            all.push(Got { headers, text, body, did, at: Instant::now() });
            does
        };
        let answer = match does {
            Does::Takes => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Does::Answers(status, line) => {
                format!("HTTP/1.1 {status} Whatever\r\n{line}content-length: 2\r\n\r\nno")
            }
            Does::Hangs => {
                let _ = stream.read_buf(&mut read).await;
                return;
            }
            Does::Breaks => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        if matches!(does, Does::Breaks) {
            return;
        }
    }
}
