//! Commands to the servers of the bus, for what else nodes keep there: leases, and what hangs on them.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::super::Error;
use super::access::explain;
use super::routes::Routes;

/// Sends commands to the server that a key belongs to, over the connection that publishes. Cheap to clone.
///
/// Every call answers within [`REDIS_DEADLINE`](crate::limits::REDIS_DEADLINE) or errs, and errs at once while the server is away. A call that
/// erred may have been executed all the same.
#[derive(Debug, Clone)]
pub struct Commands {
    routes: Arc<Routes>,
}

impl Commands {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self { routes }
    }

    /// What every key must begin with: the cluster's name and a colon. The bus itself uses `c:` and `p:` behind it.
    ///
    /// In a Redis Cluster, keys that one call uses together must have the same text in their first braces.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.routes.prefix()
    }

    /// Sends one command to the server that `key` belongs to.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the server is away, silent or refuses, [`Error::Full`] where too many calls wait for it. Try again
    /// later.
    pub async fn query(&self, key: &str, command: &Cmd) -> Result<Value, Error> {
        answered(self.routes.link_of_key(key).query(command).await?)
    }

    /// Sends several commands in one round trip to the server that `key` belongs to; an error of one fails the whole, though the
    /// others may have been executed.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn pipeline(&self, key: &str, commands: &Pipeline) -> Result<Vec<Value>, Error> {
        let answers = self.routes.link_of_key(key).pipeline(commands).await?;
        let answers =
            answers.into_iter().map(|answer| answer.extract_error().map_err(|error| unavailable(&error)));
        answers.collect()
    }

    /// Runs a script where its keys are. A server that does not know it is sent all of it.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Panics
    /// Without a key: nobody could tell where to run it.
    pub async fn script(&self, script: &Script, keys: &[&str], arguments: &[&[u8]]) -> Result<Value, Error> {
        let key = keys.first().expect("a script has a key, which tells where it runs");
        let link = self.routes.link_of_key(key);
        let call = |verb: &str, text: &str| {
            let mut command = redis::cmd(verb);
            command.arg(text).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        match link.query(&call("EVALSHA", script.hash())).await? {
            Some(answer) => Ok(answer),
            None => answered(link.query(&call("EVAL", script.text)).await?),
        }
    }
}

/// A Lua script, which Redis executes as a whole. Make it once.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    script: redis::Script,
}

impl Script {
    /// Takes a script's text.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        Self { text, script: redis::Script::new(text) }
    }

    /// The name by which servers that saw it know it.
    fn hash(&self) -> &str {
        self.script.get_hash()
    }
}

/// Only `EVALSHA` can name a script that is not known.
fn answered(answer: Option<Value>) -> Result<Value, Error> {
    answer.ok_or_else(|| Error::Unavailable("the server does not know the script".to_owned()))
}

fn unavailable(error: &redis::RedisError) -> Error {
    Error::Unavailable(explain(error))
}
