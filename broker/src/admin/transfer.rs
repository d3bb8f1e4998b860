//! Whole logs as lines of JSON, out and in; and what is published, as it comes.

use std::sync::Arc;
use std::time::Duration;

use bongsu_admin_api::Error;
use bongsu_admin_api::lines::{self, Exported, Failure, LINE_BYTES_MAX, Line, Progress};
use bongsu_admin_api::resources::messages::StartAt;
use bongsu_admin_api::resources::transfer::{Lines, Transfer};
use bongsu_persistence::store::Appended;
use bongsu_protocol::command::{HistoryRange, Start};
use bongsu_protocol::eventstream::{Bookmark, Shape, encode_message_line};
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::topic::Topic;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::{Admin, refusal};
use crate::clock;
use crate::http;
use crate::limits::{
    ADMIN_EXPORT_PAGE, ADMIN_IMPORT_BATCH_BYTES_MAX, ADMIN_IMPORT_BATCH_MAX, ADMIN_IMPORT_PATIENCE,
    ADMIN_IMPORT_WINDOW, ADMIN_PROGRESS_INTERVAL,
};
use crate::node::Node;

impl Transfer for Admin {
    fn export<'a>(
        &'a self,
        topic: &'a Topic,
        start: StartAt,
        until: Option<u64>,
    ) -> BoxFuture<'a, Result<Lines, Error>> {
        async move {
            let head = self.check_log(topic).await?;
            let until = until.map_or(head.offset, |until| Offset(until).min(head.offset));
            let export = Export {
                admin: self.clone(),
                topic: topic.clone(),
                epoch: head,
                range: Some(Self::range(start, head.epoch)),
                until,
                exported: Exported { messages: 0, last: None },
                is_over: false,
            };
            let pages =
                stream::unfold(export, |mut export| async move { Some((export.next().await?, export)) });
            Ok(pages.boxed())
        }
        .boxed()
    }

    fn import<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        lines: Lines,
    ) -> BoxFuture<'a, Result<Lines, Error>> {
        let import = Import {
            node: Arc::clone(&self.node),
            by: by.to_owned(),
            topic: topic.clone(),
            input: Some(lines),
            buffer: BytesMut::new(),
            n_lines: 0,
            progress: Progress::default(),
            tell_at: clock::monotonic() + ADMIN_PROGRESS_INTERVAL,
        };
        async move {
            if !self.node.policies().for_topic(topic).is_durable() {
                return Err(Error::Conflict(format!(
                    "{topic} keeps no history: nothing can be imported into it"
                )));
            }
            let told = stream::unfold(Some(import), |import| async move {
                let mut import = import?;
                let line = import.run().await;
                let is_over = line.done || line.failed.is_some();
                let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
                bytes.push(b'\n');
                Some((Ok(bytes.into()), (!is_over).then_some(import)))
            });
            Ok(told.boxed())
        }
        .boxed()
    }

    fn tail<'a>(&'a self, topic: &'a Topic, start: StartAt) -> BoxFuture<'a, Result<Lines, Error>> {
        async move {
            let bookmark = match start {
                StartAt::Earliest => Bookmark::Earliest,
                StartAt::Offset(offset) => {
                    let epoch = self.check_log(topic).await?.epoch;
                    Bookmark::At(Position { epoch, offset: Offset(offset.saturating_sub(1)) })
                }
                _ => Bookmark::Latest,
            };
            Ok(http::tail(&self.node, topic, bookmark).map(Ok).boxed())
        }
        .boxed()
    }
}

/// An export under way.
struct Export {
    admin: Admin,
    topic: Topic,
    /// The head of the log when it began, whose epoch is that of all messages.
    epoch: Position,
    /// What is read next; `None`: all was.
    range: Option<HistoryRange>,
    until: Offset,
    exported: Exported,
    is_over: bool,
}

impl Export {
    /// The lines of the next page, or the last line. Nothing is read before somebody wants it.
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.is_over {
            return None;
        }
        let Some(range) = self.range.take() else {
            self.is_over = true;
            let mut line =
                serde_json::to_vec(&serde_json::json!({ "exported": self.exported })).unwrap_or_default();
            line.push(b'\n');
            return Some(Ok(line.into()));
        };
        let page = match self.admin.page(&self.topic, range, ADMIN_EXPORT_PAGE).await {
            Ok(page) => page,
            Err(error) => {
                self.is_over = true;
                return Some(Err(error));
            }
        };
        if page.head.epoch != self.epoch.epoch {
            self.is_over = true;
            return Some(Err(Error::Changed(format!("the log of {} was deleted meanwhile", self.topic))));
        }
        let mut lines = BytesMut::new();
        let mut last = None;
        for delivery in &page.messages {
            let Some(position) = delivery.position.filter(|position| position.offset <= self.until) else {
                break;
            };
            encode_message_line(Shape::Lines, delivery, &mut lines);
            self.exported.messages += 1;
            last = Some(position);
        }
        if let Some(last) = last {
            self.exported.last = Some(last.into());
            if page.more && last.offset < self.until {
                self.range = Some(HistoryRange::Forward(Start::After(last)));
            }
        }
        Some(Ok(lines.freeze()))
    }
}

/// An import under way.
struct Import {
    node: Arc<Node>,
    by: String,
    topic: Topic,
    /// `None`: all was read.
    input: Option<Lines>,
    /// What came and is no whole line yet, or one after another.
    buffer: BytesMut,
    /// Lines that were taken from the buffer.
    n_lines: u64,
    progress: Progress,
    tell_at: Duration,
}

/// Why the lines of a batch end.
enum Ended {
    /// It is full.
    Full,
    /// There are no more.
    Done,
    /// The next one is wrong.
    Wrong(Failure),
}

impl Import {
    /// Goes on until there is something to tell: how far it is, or that it is over.
    async fn run(&mut self) -> Progress {
        loop {
            let mut batch = Vec::new();
            let before = self.progress.clone();
            let ended = self.fill(&mut batch).await;
            if let Err(detail) = self.store(batch).await {
                let failed = Some(Failure { line: before.lines + 1, detail });
                self.progress = Progress { failed, ..before };
                return self.progress.clone();
            }
            self.progress.lines = self.n_lines;
            match ended {
                Ended::Full if clock::monotonic() >= self.tell_at => {
                    self.tell_at = clock::monotonic() + ADMIN_PROGRESS_INTERVAL;
                    return self.progress.clone();
                }
                Ended::Full => {}
                Ended::Done => return Progress { done: true, ..self.progress.clone() },
                Ended::Wrong(failure) => {
                    self.progress.lines = failure.line - 1;
                    return Progress { failed: Some(failure), ..self.progress.clone() };
                }
            }
        }
    }

    /// Reads lines into a batch.
    async fn fill(&mut self, batch: &mut Vec<NewMessage>) -> Ended {
        let mut batch_bytes = 0;
        while batch.len() < ADMIN_IMPORT_BATCH_MAX && batch_bytes < ADMIN_IMPORT_BATCH_BYTES_MAX {
            let line = match self.line().await {
                Ok(Some(line)) => line,
                Ok(None) => return Ended::Done,
                Err(detail) => return Ended::Wrong(Failure { line: self.n_lines + 1, detail }),
            };
            self.n_lines += 1;
            let wrong = |detail| Ended::Wrong(Failure { line: self.n_lines, detail });
            let message = match lines::read(&self.topic, self.n_lines, &line) {
                Ok(Line::Message(message)) => message,
                Ok(Line::Erased) => {
                    self.progress.erased += 1;
                    continue;
                }
                Ok(Line::Nothing) => continue,
                Err(detail) => return wrong(detail),
            };
            let bytes_max = self.node.policies().for_topic(&self.topic).message_bytes;
            if message.payload.len() > bytes_max {
                return wrong(format!("a message of this topic has at most {bytes_max} bytes"));
            }
            batch_bytes += message.size_bytes();
            batch.push(NewMessage { topic: self.topic.clone(), message, expect: None });
        }
        Ended::Full
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> Result<Option<Bytes>, String> {
        let mut n_searched = 0;
        loop {
            if let Some(length) = self.buffer[n_searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(n_searched + length).freeze();
                self.buffer.advance(1);
                return Ok(Some(line));
            }
            n_searched = self.buffer.len();
            if n_searched > LINE_BYTES_MAX {
                return Err(format!("it has more than {LINE_BYTES_MAX} bytes"));
            }
            let Some(input) = &mut self.input else {
                return Ok(Some(self.buffer.split().freeze()).filter(|line| !line.is_empty()));
            };
            match tokio::time::timeout(ADMIN_IMPORT_PATIENCE, input.next()).await {
                Ok(Some(Ok(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) => self.input = None,
                Err(_) => return Err(format!("nothing came for {ADMIN_IMPORT_PATIENCE:?}")),
            }
        }
    }

    /// Stores a batch, in one transaction.
    async fn store(&mut self, batch: Vec<NewMessage>) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        let stored = self.node.publisher().import(&self.by, batch, ADMIN_IMPORT_WINDOW).await;
        for outcome in stored.map_err(|error| refusal(error).to_string())? {
            match outcome {
                Appended::Stored(_) => self.progress.stored += 1,
                Appended::Duplicate(_) | Appended::Conflict { .. } => self.progress.duplicates += 1,
            }
        }
        Ok(())
    }
}
