//! DELETE, and the end of streams whose time has come.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bongsu_persistence::store::{Removal, TopicsQuery};
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::Error;
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::future::{BoxFuture, FutureExt as _};
use http::StatusCode;

use super::Streams;
use super::fold::Log;
use super::record::{Life, REGISTERS, Record, topic_of};
use super::view::View;
use crate::clock;
use crate::http::problem::Problem;
use crate::limits::{RETENTION_LOGS_PER_STEP, STREAM_REAP_INTERVAL};

impl Streams {
    /// DELETE.
    pub(super) async fn delete(self: &Arc<Self>, topic: &Topic) -> Result<Response, Problem> {
        let view = self.existing(topic).await?;
        {
            let state = view.state();
            if state.record.as_ref().is_none_or(|record| record.is_adopted) {
                let text = "this topic was not created as a stream, and is not deleted like one";
                return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "unsupported", text));
            }
        }
        self.end(&view).await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// Ends a stream whose time has come, unless it was prolonged meanwhile.
    pub(super) async fn expire(self: &Arc<Self>, view: &Arc<View>) -> Result<(), Problem> {
        view.refresh(self.node()).await?;
        if view.is_expired() { self.end(view).await } else { Ok(()) }
    }

    /// Ends a stream: all of it goes, unless forks need it.
    fn end<'a>(self: &'a Arc<Self>, view: &'a Arc<View>) -> BoxFuture<'a, Result<(), Problem>> {
        // Boxed, since the last fork takes its source with it.
        async move {
            let source = {
                let _writer = view.writer.lock().await;
                let (mut is_needed, mut source) = (false, None);
                self.change_record(view, |record| {
                    let Some(record) = record.filter(|record| record.life == Life::Open) else {
                        return Ok(None);
                    };
                    is_needed = !record.forks.is_empty();
                    source = record.fork.as_ref().map(|fork| fork.source.clone());
                    let life = if is_needed { Life::Deleted } else { Life::Gone };
                    Ok(Some(Record { life, ..record.clone() }))
                })
                .await?;
                if is_needed {
                    return Ok(());
                }
                self.remove_logs(view).await?;
                source
            };
            match source {
                Some(source) => self.release(&source, &view.topic).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    /// Takes a fork off its source's list, and the source with it if it was deleted and this was the last.
    pub(super) async fn release(self: &Arc<Self>, source: &str, fork: &Topic) -> Result<(), Problem> {
        let Ok(source) = Topic::parse(source) else { return Ok(()) };
        let view = self.find(&source)?;
        view.ready().await?;
        let is_unneeded = {
            let _writer = view.writer.lock().await;
            let mut is_unneeded = false;
            self.change_record(&view, |record| {
                let Some(mut record) = record.filter(|record| record.forks.contains(fork.as_str())).cloned()
                else {
                    return Ok(None);
                };
                record.forks.remove(fork.as_str());
                is_unneeded = record.life == Life::Deleted && record.forks.is_empty();
                // It is ended below like any other.
                record.life = if is_unneeded { Life::Open } else { record.life };
                Ok(Some(record))
            })
            .await?;
            is_unneeded
        };
        if is_unneeded { self.end(&view).await } else { Ok(()) }
    }

    /// Removes a stream that was never there for anybody. Whoever calls it holds the view's writer.
    pub(super) async fn remove_all(&self, view: &View) -> Result<(), Problem> {
        self.change_record(view, |record| {
            Ok(record.map(|record| Record { life: Life::Gone, ..record.clone() }))
        })
        .await?;
        self.remove_logs(view).await
    }

    /// Removes both logs, after the register said so to everybody.
    async fn remove_logs(&self, view: &View) -> Result<(), Problem> {
        let history = self.node().history();
        for topic in [&view.topic, &view.register] {
            history.remove(topic, Removal::Delete { topic: topic.clone() }).await?;
        }
        view.update(|state| {
            state.log = Log::default();
            state.set_record(Position::default(), None);
        });
        Ok(())
    }

    /// Makes a stream of a topic that nobody created as one. Whoever calls it holds the view's writer.
    pub(super) async fn adopt(&self, view: &View) -> Result<(), Problem> {
        let unmade = {
            let state = view.state();
            state.is_unmade().then(|| {
                let record =
                    Record::new(state.content_type().to_owned(), state.incarnation(), clock::wall().0);
                Record { checkpoint: state.log.checkpoint(), is_adopted: true, ..record }
            })
        };
        let Some(adopted) = unmade else { return Ok(()) };
        self.change_record(view, |record| Ok(record.is_none().then(|| adopted.clone()))).await
    }
}

/// Looks for streams whose time has come, again and again. Ends with the process.
pub(super) async fn reap(streams: Arc<Streams>) {
    let mut rounds = tokio::time::interval(STREAM_REAP_INTERVAL);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once, when there is better to do.
    rounds.tick().await;
    loop {
        rounds.tick().await;
        if let Err(error) = round(&streams).await {
            tracing::warn!(%error, "looking for streams whose time has come could not go on");
        }
    }
}

async fn round(streams: &Arc<Streams>) -> Result<(), Error> {
    let mut after: Option<Topic> = None;
    loop {
        let Ok(filter) = TopicFilter::parse(REGISTERS) else { return Ok(()) };
        let query = TopicsQuery { filter, after: after.take(), limit: RETENTION_LOGS_PER_STEP };
        let registers = streams.node().history().topics(query).await?;
        let Some(last) = registers.last() else { return Ok(()) };
        after = Some(last.topic.clone());
        for register in &registers {
            let Some(record) = super::view::read_record(streams.node(), &register.topic).await? else {
                continue;
            };
            // Another node may know of a touch that was not worth writing down: an eighth of the time to live.
            let slack = record.ttl.unwrap_or_default().saturating_mul(1000) / 4;
            let is_late = record.ends_at(0).is_some_and(|at| at.saturating_add(slack) <= clock::wall().0);
            if let Some(topic) = topic_of(&register.topic).filter(|_| is_late && record.life == Life::Open)
                && let Err(problem) = streams.view(&topic).await
            {
                tracing::debug!(%topic, status = %problem.status(), "a stream whose time has come was not removed");
            }
        }
    }
}
