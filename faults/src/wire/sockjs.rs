//! SockJS 0.3.3 as its protocol has it.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::http::Http;
use super::{Event, parse};
use crate::transport::Transport;

/// A session over requests: one that receives at a time, and others that send.
pub(super) struct Session {
    receiver: Http,
    sender: Http,
    path: String,
    /// `xhr` or `xhr_streaming`.
    request: &'static str,
    /// Whether an answer is under way.
    is_receiving: bool,
    /// What came of a frame that has no end yet.
    partial: Vec<u8>,
}

/// Where the native protocol is carried.
pub(super) const NATIVE: &str = "/sockjs";

/// The path of a new session of the service at a prefix.
pub(super) fn session_path(prefix: &str) -> String {
    format!("{prefix}/{:03}/{:016x}", rand::random_range(0..1000), rand::random::<u64>())
}

/// A message as a client sends it: an array of one string.
pub(super) fn messages(text: &str) -> String {
    Value::from(vec![text]).to_string()
}

/// The messages of a frame: `o`, `h` and the prelude have none, and `c` is the end.
pub(super) fn messages_of(frame: &str) -> anyhow::Result<Vec<String>> {
    match frame.as_bytes().first() {
        Some(b'o' | b'h') => Ok(Vec::new()),
        Some(b'a') => Ok(serde_json::from_str(&frame[1..])?),
        _ => bail!("closed: {frame:?}"),
    }
}

/// The events of a frame whose messages are frames of the native protocol.
pub(super) fn events(frame: &str) -> anyhow::Result<Vec<Event>> {
    let mut events = Vec::new();
    for message in messages_of(frame)? {
        events.extend(parse(&message)?);
    }
    Ok(events)
}

impl Session {
    /// Makes a session with its first receiving request.
    pub(super) async fn open(transport: Transport, address: SocketAddr) -> anyhow::Result<Self> {
        let request = if transport == Transport::SockJsPolling { "xhr" } else { "xhr_streaming" };
        let (receiver, sender) = (Http::open(address).await?, Http::open(address).await?);
        let path = session_path(NATIVE);
        let mut session = Self { receiver, sender, path, request, is_receiving: false, partial: Vec::new() };
        loop {
            let first = session.receive().await?;
            // A streaming answer begins with 2048 times `h`.
            if !first.starts_with('h') {
                ensure!(first == "o", "a session begins with {first:?}");
                return Ok(session);
            }
        }
    }

    pub(super) async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let path = format!("{}/xhr_send", self.path);
        let headers = [("content-type", "text/plain")];
        let response = self.sender.request("POST", &path, &headers, messages(text).as_bytes()).await?;
        let body = self.sender.body().await?;
        ensure!(response.status == 204, "xhr_send: {} {}", response.status, String::from_utf8_lossy(&body));
        Ok(())
    }

    /// The next frame.
    pub(super) async fn receive(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                return String::from_utf8(line[..end].to_vec()).context("a frame is text");
            }
            if !self.is_receiving {
                let path = format!("{}/{}", self.path, self.request);
                let response = self.receiver.request("POST", &path, &[], b"").await?;
                ensure!(response.status == 200, "{}: {}", self.request, response.status);
                self.is_receiving = true;
            }
            match self.receiver.part().await? {
                Some(part) => self.partial.extend(part),
                None => self.is_receiving = false,
            }
        }
    }
}
