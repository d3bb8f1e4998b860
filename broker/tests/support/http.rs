//! A client of plain HTTP.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use super::PATIENCE;

/// An answer that came to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A request under way: its status and headers were read.
pub struct Exchange {
    pub status: u16,
    pub headers: HashMap<String, String>,
    reader: BufReader<TcpStream>,
}

impl Exchange {
    pub fn begin(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let mut stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a status");
        let status = line.split(' ').nth(1).expect("a status line").parse().expect("a number");
        let mut headers = HashMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line).expect("a header");
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_owned(), value.to_owned());
        }
        Self { status, headers, reader }
    }

    /// The next line of a chunked body, without the lines of the chunks; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let is_chunk = line.ends_with("\r\n");
            if !is_chunk {
                return Some(line.trim_end_matches('\n').to_owned());
            }
        }
    }

    /// Reads lines until one begins like this, and gives what follows there.
    pub fn line_after(&mut self, prefix: &str) -> String {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("a line {prefix}… before the end"));
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }

    pub fn finish(mut self) -> Answer {
        let mut body = String::new();
        self.reader.read_to_string(&mut body).expect("text");
        Answer { status: self.status, headers: self.headers, body }
    }
}

pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    Exchange::begin(address, method, path, headers, body).finish()
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[], "")
}

pub fn publish(address: SocketAddr, topic: &str, data: &Value) -> Value {
    let answer =
        ask(address, "POST", "/v1/publish", &[], &json!({ "topic": topic, "data": data }).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

pub fn text(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("content-type", "text/plain")];
    all.extend_from_slice(headers);
    ask(address, method, path, &all, body)
}
