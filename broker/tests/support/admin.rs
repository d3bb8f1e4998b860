//! A broker's port of administrators, as tests ask it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::support::{Broker, PATIENCE, exchange};

/// The SHA-256 digests of `viewer`, `operator` and `admin`, each a token with that role.
pub const TOKENS: &str = "admin.tokens=[\
    { name = 'vera', role = 'viewer', sha256 = 'd35ca5051b82ffc326a3b0b6574a9a3161dee16b9478a199ee39cd803ce5b799' },\
    { name = 'olga', role = 'operator', sha256 = '06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23' },\
    { name = 'ada', role = 'admin', sha256 = '8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918' }]";

pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub async fn ask(admin: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("host:")) {
        request.push_str(&format!("host: {admin}\r\n"));
    }
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(body);
    let answer = exchange(admin, request.as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}: {answer}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

pub async fn get(admin: SocketAddr, path: &str) -> Answer {
    ask(admin, "GET", path, &[], "").await
}

pub fn start(settings: &[&str]) -> (tempfile::TempDir, Broker, SocketAddr) {
    let data = tempfile::tempdir().expect("a directory");
    let broker = Broker::start(data.path(), &[&["admin.listen=127.0.0.1:0"], settings].concat());
    let admin = broker.admin.expect("it says where");
    (data, broker, admin)
}

/// Looks until there is what is wanted.
pub async fn until<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("in time")
}

/// Runs a command of operators: whether it succeeded, and what it said on standard output and standard error.
pub fn bongsu(admin: SocketAddr, arguments: &[&str]) -> (bool, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bongsu"));
    command.args(arguments).args(["--admin-url", &format!("http://{admin}")]);
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// The digest of a token, as settings have it.
pub fn sha256(token: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
