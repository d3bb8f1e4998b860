//! What a link's task does: connects, subscribes, probes, and begins again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::super::Channel;
use super::super::health::Board;
use super::access::{Access, explain};
use super::address::Server;
use super::link::Shared;
use super::routes::Routes;
use super::sentinel::Sentinels;
use super::wire::{Dialect, Wire};
use crate::chance;
use crate::clock;
use crate::limits::{
    BUS_PROBE_DEADLINE, BUS_PROBE_INTERVAL, BUS_PROBE_LATE, REDIS_MAP_PAUSE, REDIS_PROBE_NAMES_MAX,
    REDIS_RETRY_MAX, REDIS_RETRY_MIN, REDIS_ROLE_INTERVAL,
};

/// Which server to connect to.
pub(super) enum Source {
    /// Always the same.
    Fixed {
        /// How.
        access: Access,
        /// Where.
        server: Server,
    },
    /// The one that sentinels call the master.
    Sentinel {
        /// How to connect to the server.
        access: Access,
        /// Who know where it is.
        sentinels: Sentinels,
    },
    /// One of a Redis Cluster.
    Member {
        /// How.
        access: Access,
        /// Where.
        server: Server,
        /// Which slots it has.
        routes: Weak<Routes>,
    },
}

impl Source {
    fn access(&self) -> Access {
        match self {
            Self::Fixed { access, .. } | Self::Sentinel { access, .. } | Self::Member { access, .. } => {
                access.clone()
            }
        }
    }

    /// Finds the server.
    async fn locate(&mut self, board: &Board) -> Result<Server, String> {
        match self {
            Self::Fixed { server, .. } | Self::Member { server, .. } => Ok(server.clone()),
            Self::Sentinel { sentinels, .. } => sentinels.locate(board).await,
        }
    }

    /// Waits until the server is not the right one any more, and says why.
    async fn moved(&mut self, server: &Server, board: &Board) -> String {
        match self {
            // A member that is none any more loses its link.
            Self::Fixed { .. } | Self::Member { .. } => std::future::pending().await,
            Self::Sentinel { sentinels, .. } => sentinels.moved(server, board).await,
        }
    }

    /// A channel of one's own that the server has.
    fn probe(&self, wire: &Wire) -> Result<String, String> {
        let probe = || wire.probe(chance::range(0..=u64::MAX));
        let Self::Member { server, routes, .. } = self else { return Ok(probe()) };
        let routes = routes.upgrade().ok_or("the bus is gone")?;
        let probes = std::iter::repeat_with(probe).take(REDIS_PROBE_NAMES_MAX);
        probes
            .into_iter()
            .find(|name| routes.has(server, name))
            .ok_or_else(|| "the server has no slots".to_owned())
    }
}

/// Connects for ever.
pub(super) async fn run(shared: Arc<Shared>, mut source: Source) {
    let mut pause = REDIS_RETRY_MIN;
    loop {
        let began = clock::monotonic();
        let Err(reason) = connect_and_serve(&shared, &mut source).await;
        shared.lost(&reason);
        if clock::monotonic() - began > REDIS_RETRY_MAX {
            pause = REDIS_RETRY_MIN;
        }
        tokio::time::sleep(pause.mul_f64(chance::range(0.5..1.0))).await;
        pause = (pause * 2).min(REDIS_RETRY_MAX);
    }
}

/// One pair of connections from beginning to end; the error is what ended it.
async fn connect_and_serve(shared: &Arc<Shared>, source: &mut Source) -> Result<Infallible, String> {
    let board = &shared.common.board;
    let server = source.locate(board).await?;
    let probe = source.probe(&shared.common.wire)?;
    let ended = Arc::new(Notify::new());
    let generation = shared.next_generation();
    let subscriber = {
        let (shared, probe, ended) = (Arc::clone(shared), probe.clone(), Arc::clone(&ended));
        move |push: PushInfo| {
            // A server that gives the probe's slot away is probed with another one, on new connections.
            if push.kind == PushKind::Disconnection || is_withdrawn(&push, &probe) {
                ended.notify_one();
            }
            shared.pushed(generation, &probe, push);
        }
    };
    let access = source.access();
    let mut subscriber = access.connect(&server, subscriber).await.map_err(|error| explain(&error))?;
    let publisher = {
        let ended = Arc::clone(&ended);
        move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                ended.notify_one();
            }
        }
    };
    let mut publisher = access.connect(&server, publisher).await.map_err(|error| explain(&error))?;
    check_role(&mut publisher).await?;
    ask(shared, &mut subscriber, Verb::Subscribe, std::slice::from_ref(&probe))
        .await
        .map_err(|error| explain(&error))?;
    shared.connected(publisher.clone(), &server);
    let reason = tokio::select! {
        biased;
        () = ended.notified() => "the server ended the connection".to_owned(),
        reason = source.moved(&server, board) => reason,
        Err(reason) = probe_always(shared, publisher.clone(), &probe) => reason,
        Err(reason) = check_role_always(&mut publisher) => reason,
        Err(reason) = reconcile_always(shared, &mut subscriber) => reason,
    };
    Err(reason)
}

/// Whether the server says that it no longer sends this channel.
fn is_withdrawn(push: &PushInfo, channel: &str) -> bool {
    let name = push.data.first();
    push.kind == PushKind::SUnsubscribe
        && matches!(name, Some(Value::BulkString(name)) if name == channel.as_bytes())
}

/// Brings what the server sends to what is wanted, for ever. What comes to be wanted while a batch is on its way goes
/// with the next one.
async fn reconcile_always(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
) -> Result<Infallible, String> {
    loop {
        let batch = shared.next_batch();
        if batch.is_empty() {
            shared.due.notified().await;
            continue;
        }
        let names = |channels: &[Channel]| -> Vec<_> {
            channels.iter().map(|channel| shared.common.wire.name(channel)).collect()
        };
        let mut asked = ask(shared, connection, Verb::Unsubscribe, &names(&batch.unsubscribe)).await;
        if asked.is_ok() {
            asked = ask(shared, connection, Verb::Subscribe, &names(&batch.subscribe)).await;
        }
        match asked {
            Ok(()) => {}
            Err(error) if error.is_cluster_error() => {
                tracing::debug!(server = shared.name, %error, "channels are elsewhere");
                shared.refused(&batch);
                tokio::time::sleep(REDIS_MAP_PAUSE).await;
            }
            Err(error) => return Err(explain(&error)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Subscribe,
    Unsubscribe,
}

/// Sends commands for channels and waits until the server confirmed every one. The confirmations themselves come as pushes
/// and are counted there; here only refusals and silence matter.
async fn ask(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    verb: Verb,
    names: &[String],
) -> Result<(), RedisError> {
    if names.is_empty() {
        return Ok(());
    }
    match (shared.common.wire.dialect, verb) {
        (Dialect::Plain, Verb::Subscribe) => connection.subscribe(names).await,
        (Dialect::Plain, Verb::Unsubscribe) => connection.unsubscribe(names).await,
        (Dialect::Sharded, _) => {
            let names = names.iter().map(String::as_str);
            let pipeline = match verb {
                Verb::Subscribe => Wire::ssubscribe(names),
                Verb::Unsubscribe => Wire::sunsubscribe(names),
            };
            let answers = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
            answers.into_iter().try_for_each(|answer| answer.extract_error().map(drop))
        }
    }
}

/// Publishes numbers to itself, and ends when one does not come back.
async fn probe_always(
    shared: &Shared,
    mut connection: MultiplexedConnection,
    channel: &str,
) -> Result<Infallible, String> {
    let mut ticks = tokio::time::interval(BUS_PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Numbers and when they were sent: at most as many as there are intervals in the deadline.
    let mut sent = VecDeque::new();
    let mut number = shared.probe_seen.load(Ordering::Relaxed);
    loop {
        let now = tokio::select! {
            biased;
            () = shared.probe_came.notified() => clock::monotonic(),
            _ = ticks.tick() => {
                number += 1;
                let now = clock::monotonic();
                sent.push_back((number, now));
                let command = shared.common.wire.publish_probe(channel, number);
                // Where the connection takes nothing at once, the probe counts as sent and late: that is what it measures.
                let _ = connection.send_packed_command(&command).now_or_never();
                shared.tell_recovered();
                now
            }
        };
        let seen = shared.probe_seen.load(Ordering::Relaxed);
        while sent.front().is_some_and(|(number, _)| *number <= seen) {
            sent.pop_front();
        }
        let age = sent.front().map_or(Duration::ZERO, |(_, at)| now.saturating_sub(*at));
        if age >= BUS_PROBE_DEADLINE {
            return Err(format!("a probe did not come back within {BUS_PROBE_DEADLINE:?}"));
        }
        shared.set_silent(age >= BUS_PROBE_LATE);
    }
}

/// Asks the server for its role, and ends when it is no master.
async fn check_role_always(connection: &mut MultiplexedConnection) -> Result<Infallible, String> {
    loop {
        tokio::time::sleep(REDIS_ROLE_INTERVAL).await;
        check_role(connection).await?;
    }
}

async fn check_role(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let answer: Value = redis::cmd("ROLE").query_async(connection).await.map_err(|error| explain(&error))?;
    let role = match &answer {
        Value::Array(parts) => match parts.first() {
            Some(Value::BulkString(role)) => String::from_utf8_lossy(role).into_owned(),
            _ => String::new(),
        },
        _ => String::new(),
    };
    if role == "master" { Ok(()) } else { Err(format!("the server is no master but `{role}`")) }
}
