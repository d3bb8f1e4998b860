//! Sentinels: which server is the master.

use std::collections::HashMap;

use futures_util::future;
use redis::Value;
use redis::aio::MultiplexedConnection;

use super::super::health::Board;
use super::access::{Access, explain};
use super::address::Server;
use crate::limits::{REDIS_SENTINEL_DEADLINE, REDIS_SENTINEL_INTERVAL};

/// The part of the bus that is in trouble where too few sentinels answer.
const PART: &str = "sentinels";

/// The sentinels of one master. All are asked each time: one that is cut off from the others may still name an old master, so
/// the answer with the newest configuration counts.
pub(super) struct Sentinels {
    /// How to connect to them.
    access: Access,
    /// What they call the master.
    master: String,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    server: Server,
    connection: Option<MultiplexedConnection>,
}

/// What a sentinel says of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    /// Grows with every failover.
    epoch: u64,
    server: Server,
}

impl Sentinels {
    pub(super) fn new(access: Access, master: String, servers: Vec<Server>) -> Self {
        let sentinels = servers.into_iter().map(|server| Sentinel { server, connection: None }).collect();
        Self { access, master, sentinels }
    }

    /// The master, as far as those know who answer. Fewer than a majority may all be cut off from the true one, which `board` is told.
    ///
    /// # Errors
    /// Nobody answers, or nobody knows a master of this name.
    pub(super) async fn locate(&mut self, board: &Board) -> Result<Server, String> {
        let (access, master) = (&self.access, &self.master);
        let asked = self.sentinels.iter_mut().map(|sentinel| sentinel.ask(access, master));
        let mut answers = Vec::new();
        let mut reasons = Vec::new();
        for answer in future::join_all(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(reason) => reasons.push(reason),
            }
        }
        let reasons = reasons.join("; ");
        let is_majority = answers.len() > self.sentinels.len() / 2;
        let trouble = (!is_majority).then(|| format!("fewer than half of them answer: {reasons}"));
        if board.set(PART, trouble.as_deref())
            && let Some(trouble) = trouble
        {
            tracing::warn!(trouble, "it is not certain which Redis is the master");
        }
        let newest = answers.into_iter().max_by_key(|answer| answer.epoch);
        newest.map(|answer| answer.server).ok_or_else(|| format!("no sentinel knows the master: {reasons}"))
    }

    /// Waits until the sentinels name another master, and says so.
    pub(super) async fn moved(&mut self, server: &Server, board: &Board) -> String {
        loop {
            tokio::time::sleep(REDIS_SENTINEL_INTERVAL).await;
            if let Ok(master) = self.locate(board).await
                && master != *server
            {
                return format!("sentinels made {master} the master in the place of {server}");
            }
        }
    }
}

impl Sentinel {
    async fn ask(&mut self, access: &Access, master: &str) -> Result<Answer, String> {
        let server = self.server.clone();
        let result = tokio::time::timeout(REDIS_SENTINEL_DEADLINE, self.ask_patiently(access, master)).await;
        let answer = result.unwrap_or_else(|_| Err(format!("no answer within {REDIS_SENTINEL_DEADLINE:?}")));
        answer.map_err(|reason| {
            self.connection = None;
            format!("{server}: {reason}")
        })
    }

    async fn ask_patiently(&mut self, access: &Access, master: &str) -> Result<Answer, String> {
        let mut connection = match self.connection.clone() {
            Some(connection) => connection,
            None => access.connect(&self.server, |_| {}).await.map_err(|error| explain(&error))?,
        };
        let facts: Value = redis::cmd("SENTINEL")
            .arg("MASTER")
            .arg(master)
            .query_async(&mut connection)
            .await
            .map_err(|error| explain(&error))?;
        self.connection = Some(connection);
        Answer::parse(facts).ok_or_else(|| "its answer cannot be read".to_owned())
    }
}

impl Answer {
    fn parse(facts: Value) -> Option<Self> {
        let facts: HashMap<String, String> = redis::from_redis_value(facts).ok()?;
        let server = Server { host: facts.get("ip")?.clone(), port: facts.get("port")?.parse().ok()? };
        Some(Self { epoch: facts.get("config-epoch")?.parse().ok()?, server })
    }
}
