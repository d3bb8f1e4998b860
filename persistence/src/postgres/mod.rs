//! A store in a Postgres database, for any number of nodes.
//!
//! What has to hold together happens in functions of the schema `bongsu`, one call and one transaction each: a batch is one round trip,
//! a page is one snapshot, and a proxy that pools transactions may stand between. `docs/postgres.md` is for those who run it.
//!
//! | module | what it holds |
//! |---|---|
//! | `hosts` | which server to speak to |
//! | `pool` | connections, and when one is of no more use |
//! | `migrate` | the schema |
//! | `append`, `read`, `remove`, `upkeep` | what the store does |
//! | `outbox` | what was published in SQL, on its way into the logs |
//! | `errors`, `rows` | what the server's answers mean |

mod append;
mod errors;
mod hosts;
mod migrate;
mod outbox;
mod pool;
mod read;
mod remove;
mod rows;
mod upkeep;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bongsu_protocol::command::HistoryQuery;
use bongsu_protocol::event::Page;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::store::{
    Append, Appended, ChangeMark, Changes, Error, ListQuery, Listing, Removal, Removed, Store,
};
use append::{Batch, KnownTopics};
use errors::{NO_LOG, code, is_worth_another_try};
use hosts::{Hosts, Role, Terms};
pub use outbox::{Notifications, Route, Sequenced};
use pool::Pool;
pub use upkeep::Upkept;

/// How often a batch is tried that lost against somebody else's transaction, or whose topics turned out to have no log.
const APPEND_TRIES: usize = 5;

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Its address, with several hosts if one of them may take the place of another:
    /// `postgres://user:password@one:5432,two:5432/database?sslmode=verify-full`. The one that is a primary is used.
    pub url: String,
    /// The address of a copy that messages of pages are read from, which may lag. By default none. Whatever it does not have is read from the
    /// primary.
    pub replica_url: Option<String>,
    /// Connections to the primary, and as many to the replica. By default 16; at least 1. When all are in use, callers wait.
    pub connections: usize,
    /// How long a statement may run, and how long a connection is waited for or may take to come about. By default 8 seconds: less than what
    /// publishers wait for, so that they hear what became of their messages.
    pub deadline: Duration,
    /// Whether a proxy that pools transactions, such as PgBouncer, may stand between. By default not. Then each statement costs more round trips.
    pub pooler: bool,
    /// How much time a partition of the messages is for. By default a day; at least a second. What is removed for its age leaves the disk
    /// a partition at a time. A change holds from the next partition on.
    pub partition: Duration,
}

impl PostgresOptions {
    /// The defaults, for an address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            replica_url: None,
            connections: 16,
            deadline: Duration::from_secs(8),
            pooler: false,
            partition: Duration::from_secs(86_400),
        }
    }
}

impl std::fmt::Debug for PostgresOptions {
    /// Without the addresses, which may have passwords in them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("connections", &self.connections)
            .field("deadline", &self.deadline)
            .field("pooler", &self.pooler)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

/// Keeps logs in a Postgres database, which other nodes may use at the same time.
///
/// A server that goes away makes calls fail with [`Error::Unavailable`] until it, or another host of the address, is a primary again;
/// nothing has to be opened anew.
#[derive(Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

/// What the store and its upkeep have in common.
#[derive(Debug)]
struct Shared {
    primary: Pool,
    replica: Option<Pool>,
    known: KnownTopics,
    /// How far the walk through the ids has come, while it goes on: a place in the table.
    forgotten: Mutex<Option<String>>,
    partition: Duration,
}

impl PostgresStore {
    /// Connects, and brings the schema `bongsu` up to date; several nodes may do so at the same time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no host of the address is a primary that can be reached, or the role may not do what is needed.
    /// [`Error::Corrupt`] if the schema is not ours, or was made by a newer version; it is left as it was.
    pub async fn open(options: PostgresOptions) -> Result<Self, Error> {
        let terms = Terms { role: Role::Primary, pooled: options.pooler, deadline: options.deadline };
        let primary = Pool::new(Hosts::parse(&options.url, terms)?, options.connections);
        let replica = match &options.replica_url {
            None => None,
            Some(url) => {
                let hosts = Hosts::parse(url, Terms { role: Role::Any, ..terms })?;
                Some(Pool::new(hosts, options.connections))
            }
        };
        let mut connection = primary.hosts().connect().await?;
        migrate::run(&mut connection, primary.name()).await?;
        drop(connection);
        upkeep::make_partitions(&primary, options.partition).await?;
        let shared = Arc::new(Shared {
            primary,
            replica,
            known: KnownTopics::default(),
            forgotten: Mutex::default(),
            partition: options.partition,
        });
        tokio::spawn(upkeep::run(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Refuses further calls and closes the connections that are not in use; the others are closed when their calls are done.
    pub async fn close(&self) {
        self.shared.primary.close().await;
        if let Some(replica) = &self.shared.replica {
            replica.close().await;
        }
    }
}

impl Shared {
    async fn append_batch(&self, batch: Vec<Append>) -> Result<Vec<Appended>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::new(batch);
        let mut known = self.known.has_all(&batch.topics);
        let mut tries = 0;
        loop {
            tries += 1;
            let mut lease = self.primary.lease().await?;
            let stored = match batch.statement(known) {
                Ok(statement) => lease.fetch_one(statement).await,
                Err(error) => Err(error),
            };
            match stored {
                Ok(row) => {
                    let topics = batch.topics.clone();
                    let outcomes = batch.outcomes(&row).map_err(|error| lease.classify(&error))?;
                    self.known.add(&topics);
                    return Ok(outcomes);
                }
                Err(error) if tries < APPEND_TRIES && code(&error).as_deref() == Some(NO_LOG) => {
                    self.known.forget(&batch.topics);
                    known = false;
                }
                Err(error) if tries < APPEND_TRIES && is_worth_another_try(&error) => {}
                Err(error) => return Err(lease.classify(&error)),
            }
        }
    }
}

impl Store for PostgresStore {
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        self.shared.append_batch(batch).boxed()
    }

    fn read(&self, query: HistoryQuery) -> BoxFuture<'_, Result<Page, Error>> {
        async move { self.shared.page(&query).await }.boxed()
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Result<Listing, Error>> {
        async move { self.shared.list(&query).await }.boxed()
    }

    fn changes(&self, since: Option<ChangeMark>) -> BoxFuture<'_, Result<Changes, Error>> {
        self.shared.changed_since(since).boxed()
    }

    fn remove(&self, removal: Removal) -> BoxFuture<'_, Result<Removed, Error>> {
        async move { self.shared.take_away(&removal).await }.boxed()
    }
}
