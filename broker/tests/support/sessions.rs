//! A back end that reads what is told of sessions.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::{Broker, Client, PATIENCE};

/// Settings of a node whose `$sys` topics anybody may read.
pub const OPEN: &[&str] = &[
    "node.name=n",
    "auth.anonymous.subscribe=[\"#\", \"$sys/#\"]",
    "auth.anonymous.publish=[\"#\", \"$sys/#\"]",
];

/// What was told, in the order in which it came.
pub struct Told {
    client: Client,
    pub events: Vec<Value>,
}

impl Told {
    /// Reads everything from the beginning, through a node.
    pub async fn of(broker: &Broker) -> Self {
        let mut client = broker.connect().await;
        let subscribed = client.subscribe("$sys/sessions/+", json!("earliest")).await;
        assert!(subscribed.get("subscribed").is_some(), "{subscribed}");
        Self { client, events: Vec::new() }
    }

    pub async fn next(&mut self) {
        // Signs of life come for ever.
        let delivery = tokio::time::timeout(PATIENCE, self.client.delivery()).await;
        self.events.push(delivery.expect("something is told in time")["data"].clone());
    }

    /// The newest event of a kind; waits for the first.
    pub async fn newest(&mut self, kind: &str) -> Value {
        loop {
            if let Some(event) = self.events.iter().rfind(|event| event["event"] == kind) {
                return event.clone();
            }
            self.next().await;
        }
    }

    /// How many sessions have begun.
    pub fn begun(&self) -> usize {
        self.events.iter().filter(|event| event["event"] == "connected").count()
    }

    /// Waits until so many sessions have begun.
    pub async fn until_begun(&mut self, n_sessions: usize) {
        while self.begun() < n_sessions {
            self.next().await;
        }
    }

    /// Waits until all of these sessions have ended.
    pub async fn until_ended(&mut self, sessions: &[String]) {
        let mut left: BTreeSet<&str> = sessions.iter().map(String::as_str).collect();
        let mut n_seen = 0;
        loop {
            for event in &self.events[n_seen..] {
                if event["event"] == "disconnected" {
                    left.remove(event["session"].as_str().unwrap());
                }
            }
            n_seen = self.events.len();
            if left.is_empty() {
                return;
            }
            self.next().await;
        }
    }

    pub fn of_session(&self, session: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["session"] == session).collect()
    }

    pub fn end_of(&self, session: &str) -> &Value {
        self.of_session(session).last().expect("the session was told of")
    }

    /// Sessions that have begun and not ended.
    pub fn open(&self) -> Vec<String> {
        let mut open = BTreeSet::new();
        for event in &self.events {
            let session = event["session"].as_str().unwrap_or_default().to_owned();
            match event["event"].as_str() {
                Some("connected") => open.insert(session),
                Some("disconnected") => open.remove(&session),
                _ => false,
            };
        }
        open.into_iter().collect()
    }

    /// Each session begins once and first, ends at most once and last, and its events are numbered without a hole.
    pub fn check(&self) {
        let sessions: BTreeSet<&str> =
            self.events.iter().filter_map(|event| event["session"].as_str()).collect();
        for session in sessions {
            let events = self.of_session(session);
            for (place, event) in events.iter().enumerate() {
                assert_eq!(event["seq"], json!(place + 1), "{session}: {events:?}");
                assert_eq!(event["event"] == "connected", place == 0, "{session}: {events:?}");
                let is_last = place + 1 == events.len();
                assert!(event["event"] != "disconnected" || is_last, "{session}: {events:?}");
            }
        }
    }
}
