//! A Redis Cluster: which server has which slots, and what to do when that changes.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::access::{Access, explain};
use super::address::Server;
use super::link::{Common, Link};
use super::routes::Routes;
use super::session::Source;
use super::slots::SLOTS;
use crate::chance;
use crate::limits::{REDIS_MAP_INTERVAL, REDIS_MAP_PAUSE, REDIS_MAP_RETRY};

/// Which server has which slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotMap {
    owners: Vec<Option<Server>>,
}

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS`. A server that does not know its own name is where it was `asked`.
    fn parse(answer: &Value, asked: &Server) -> Option<Self> {
        let mut owners = vec![None; usize::from(SLOTS)];
        let Value::Array(ranges) = answer else { return None };
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else {
                return None;
            };
            let [host, Value::Int(port), ..] = &master[..] else { return None };
            let host = match host {
                Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
                Value::BulkString(_) | Value::Nil => asked.host.clone(),
                _ => return None,
            };
            // A server whose address nobody knows.
            if host == "?" {
                continue;
            }
            let server = Server { host, port: u16::try_from(*port).ok()? };
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            owners.get_mut(first..=last)?.fill(Some(server));
        }
        Some(Self { owners })
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Server> {
        self.owners.get(usize::from(slot))?.as_ref()
    }

    /// Every server that has slots.
    pub(super) fn servers(&self) -> BTreeSet<&Server> {
        self.owners.iter().flatten().collect()
    }

    /// How many slots nobody has.
    fn missing(&self) -> usize {
        self.owners.iter().filter(|owner| owner.is_none()).count()
    }
}

/// Keeps the routes of a bus as the Cluster's map, until the bus is gone.
struct Follower {
    routes: Weak<Routes>,
    access: Access,
    /// What the settings name. Asked as well as those that the map names.
    seeds: Vec<Server>,
    common: Common,
}

/// What is known of the Cluster.
#[derive(Default)]
struct Knowledge {
    map: Option<SlotMap>,
    /// The newest configuration that a server told of. Those that know only older ones are behind.
    epoch: u64,
    /// Who is asked.
    guide: Option<(Server, MultiplexedConnection)>,
}

impl Follower {
    /// Looks at the map now and then, and where something shows that it changed.
    async fn run(self) {
        let mut known = Knowledge::default();
        while self.routes.strong_count() > 0 {
            let pause = match self.look(&mut known).await {
                Ok(map) => {
                    let missing = map.missing();
                    let trouble = (missing > 0).then(|| format!("{missing} slots have no server"));
                    // Links to new servers say that they do not connect yet, before this part says that it is well.
                    self.apply(&mut known, map);
                    self.common.board.set("cluster", trouble.as_deref());
                    if missing > 0 { REDIS_MAP_RETRY } else { REDIS_MAP_INTERVAL }
                }
                Err(reason) => {
                    if self.common.board.set("cluster", Some(&reason)) {
                        tracing::warn!(reason, "no map of the Redis Cluster");
                    }
                    REDIS_MAP_RETRY
                }
            };
            tokio::time::sleep(REDIS_MAP_PAUSE).await;
            let changed = tokio::time::timeout(pause, self.common.remap.notified()).await;
            if changed.is_ok() {
                // Somebody else may know better than who told the last map.
                known.guide = None;
            }
        }
    }

    fn apply(&self, known: &mut Knowledge, map: SlotMap) {
        let Some(routes) = self.routes.upgrade() else { return };
        if known.map.as_ref() == Some(&map) {
            return;
        }
        tracing::info!(
            servers = map.servers().len(),
            epoch = known.epoch,
            "the map of the Redis Cluster changed"
        );
        routes.remap(&map, |server| {
            let routes = Weak::clone(&self.routes);
            let source = Source::Member { access: self.access.clone(), server: server.clone(), routes };
            Link::start(server.to_string(), source, self.common.clone())
        });
        known.map = Some(map);
    }

    /// Asks one server after the other for the map.
    async fn look(&self, known: &mut Knowledge) -> Result<SlotMap, String> {
        if let Some((server, mut connection)) = known.guide.take()
            && let Ok(map) = ask(&server, &mut connection, &mut known.epoch).await
        {
            known.guide = Some((server, connection));
            return Ok(map);
        }
        let mut servers: BTreeSet<Server> = self.seeds.iter().cloned().collect();
        servers.extend(known.map.iter().flat_map(SlotMap::servers).cloned());
        let mut servers: Vec<_> = servers.into_iter().collect();
        // Any of them first, so that one that is behind is not asked first each time.
        let first = chance::range(0..servers.len().max(1));
        servers.rotate_left(first);
        let mut reasons = Vec::new();
        for server in servers {
            let asked = async {
                let mut connection =
                    self.access.connect(&server, |_| {}).await.map_err(|error| explain(&error))?;
                let map = ask(&server, &mut connection, &mut known.epoch).await?;
                Ok::<_, String>((map, connection))
            };
            match asked.await {
                Ok((map, connection)) => {
                    known.guide = Some((server, connection));
                    return Ok(map);
                }
                Err(reason) => reasons.push(format!("{server}: {reason}")),
            }
        }
        // Where nobody knows as much as somebody once did, it was another Cluster at the same addresses.
        known.epoch = 0;
        Err(reasons.join("; "))
    }
}

/// Asks a server for the map, unless it is cut off or behind.
async fn ask(
    server: &Server,
    connection: &mut MultiplexedConnection,
    epoch: &mut u64,
) -> Result<SlotMap, String> {
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let (info, slots): (String, Value) =
        questions.query_async(connection).await.map_err(|error| explain(&error))?;
    let fact = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let its_epoch = fact("cluster_current_epoch").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    if its_epoch < *epoch {
        return Err("it knows less of the cluster than others".to_owned());
    }
    // Where slots are missing the others are still served, unless the Cluster is set to refuse everything then, which each
    // command would tell. A server that is cut off from the others says `fail` too, and its map is old.
    if fact("cluster_state").is_none_or(|state| state.trim() != "ok") {
        return Err("it says that the cluster is down".to_owned());
    }
    *epoch = its_epoch;
    SlotMap::parse(&slots, server).ok_or_else(|| "its map cannot be read".to_owned())
}

/// Routes that follow a Cluster, for as long as somebody has them.
pub(super) fn start(access: Access, seeds: Vec<Server>, common: &Common) -> Arc<Routes> {
    common.board.set("cluster", Some("no map yet"));
    let routes = Arc::new(Routes::cluster(common.clone()));
    let follower = Follower { routes: Arc::downgrade(&routes), access, seeds, common: common.clone() };
    tokio::spawn(follower.run());
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Server {
        Server { host: host.to_owned(), port }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let id = Value::BulkString(b"id".to_vec());
        let replica = Value::Array(vec![Value::BulkString(b"r".to_vec()), Value::Int(9), id.clone()]);
        let master = Value::Array(vec![host, Value::Int(port), id, Value::Array(Vec::new())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
    }

    #[test]
    fn a_map_names_the_master_of_each_slot() {
        let name = |name: &str| Value::BulkString(name.as_bytes().to_vec());
        let answer = Value::Array(vec![
            range(0, 99, name("a"), 1),
            range(101, 16_383, Value::Nil, 2),
            range(100, 100, name("?"), 3),
        ]);
        let map = SlotMap::parse(&answer, &at("asked", 7)).unwrap();
        assert_eq!(map.owner(99), Some(&at("a", 1)));
        assert_eq!(map.owner(100), None);
        assert_eq!(map.owner(16_383), Some(&at("asked", 2)));
        assert_eq!((map.missing(), map.servers().len()), (1, 2));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for answer in [
            Value::Okay,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, Value::Nil, 1)]),
            Value::Array(vec![range(5, 1, Value::Nil, 1)]),
            Value::Array(vec![range(-1, 1, Value::Nil, 1)]),
            Value::Array(vec![range(0, 1, Value::Nil, 70_000)]),
        ] {
            assert_eq!(SlotMap::parse(&answer, &at("asked", 7)), None, "{answer:?}");
        }
    }
}
