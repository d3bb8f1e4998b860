//! POST: appending to a stream, and closing it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::message::{Message, NewMessage};
use bongsu_protocol::position::{Offset, Position};
use bongsu_protocol::reason::ErrorCode;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response as HttpResponse, StatusCode};

use super::Streams;
use super::body::{Mode, split};
use super::fold::{End, Mark, Tag, Verdict};
use super::offset::{number, token};
use super::read::{CLOSED, NEXT_OFFSET, TRUE, value};
use super::record::{Record, normal_type};
use super::view::View;
use super::write::publish;
use crate::http::door::Caller;
use crate::http::problem::Problem;
use crate::http::publish::idempotency_key;
use crate::limits::{STREAM_APPEND_TRIES, STREAM_CHECKPOINT_MESSAGES};

const SEQ: HeaderName = HeaderName::from_static("stream-seq");
const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
const EXPECTED_SEQ: HeaderName = HeaderName::from_static("producer-expected-seq");
const RECEIVED_SEQ: HeaderName = HeaderName::from_static("producer-received-seq");

/// What is to be appended.
#[derive(Debug)]
pub(super) struct Append {
    pub tag: Option<Tag>,
    pub seq: Option<String>,
    pub messages: Vec<Bytes>,
    pub closes: bool,
    /// What makes a retry safe for a client that is no idempotent producer: the id of its message, or what the ids of several begin with.
    pub key: Option<String>,
}

/// What came of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is there.
    Appended,
    /// It was there.
    Known { epoch: u64, seq: u64 },
    /// It is not.
    Refused(Verdict),
}

impl Streams {
    /// POST.
    pub(super) async fn append(
        self: &Arc<Self>,
        caller: &Caller,
        topic: &Topic,
        request: Request,
    ) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let tag = producer(&parts.headers)?;
        let seq = text(&parts.headers, &SEQ)?.map(str::to_owned);
        let closes = is_closing(&parts.headers);
        let key = idempotency_key(&parts.headers)?;
        let body = self.bodies.receive(&parts.headers, body).await?;
        let view = self.existing(topic).await?;
        if body.is_empty() && !closes {
            return Err(Problem::bad_request("an append has a body, unless it closes the stream"));
        }
        let content_type = text(&parts.headers, &header::CONTENT_TYPE)?;
        if !body.is_empty() {
            let content_type =
                content_type.ok_or_else(|| Problem::bad_request("an append needs a Content-Type"))?;
            let state = view.state();
            // A closed stream says so first (protocol, 5.2).
            if !state.is_closed() && normal_type(content_type) != normal_type(state.content_type()) {
                let text = format!("this stream is of the type {}", state.content_type());
                return Err(Problem::conflict(text));
            }
        }
        let messages = if body.is_empty() { Vec::new() } else { self.messages_of(&view, &body)? };
        if messages.is_empty() && !body.is_empty() {
            return Err(Problem::bad_request("an empty array appends nothing"));
        }
        let append = Append { tag, seq, messages, closes, key };
        let outcome = {
            let _writer = view.writer.lock().await;
            // The body may have come slowly, and others may have been first.
            caller.check()?;
            if append.tag.is_some() || append.seq.is_some() || append.closes {
                // What such appends say is looked for from a register on.
                self.adopt(&view).await?;
            }
            self.append_all(caller.identity.subject(), &view, &append).await?
        };
        self.note_touch(&view);
        answer(&view, &append, &outcome)
    }

    /// The messages of a body, as large as the topic takes them.
    pub(super) fn messages_of(&self, view: &View, body: &Bytes) -> Result<Vec<Bytes>, Problem> {
        let mode = Mode::of(view.state().content_type());
        split(mode, body, self.node().policies().for_topic(&view.topic).message_bytes)
    }

    /// Appends on the condition that nothing came before it that it was not judged by. Whoever calls it holds the view's writer.
    async fn append_all(&self, subject: &str, view: &View, append: &Append) -> Result<Outcome, Problem> {
        let mut is_sure = !self.is_one_of_many();
        for _ in 0..STREAM_APPEND_TRIES {
            let (verdict, head) = {
                let state = view.state();
                (state.log.judge(append.tag.as_ref(), append.seq.as_deref()), state.log.head.offset)
            };
            let skip = match verdict {
                Verdict::Accept { skip } => skip,
                // What another node wrote a moment ago may be why, or why not.
                _ if !is_sure => {
                    view.refresh(self.node()).await?;
                    is_sure = true;
                    continue;
                }
                Verdict::Duplicate(known) => {
                    return Ok(Outcome::Known { epoch: known.epoch, seq: known.seq });
                }
                verdict => return Ok(Outcome::Refused(verdict)),
            };
            match self.write(subject, view, append, skip, head).await? {
                Ok(last) => {
                    view.caught_up(last).await?;
                    if !append.closes && view.state().is_cut_before(last) {
                        // It was closed by way of another node, between the first of these messages and the last.
                        return Ok(Outcome::Refused(Verdict::Closed));
                    }
                    self.checkpoint(view).await?;
                    return Ok(Outcome::Appended);
                }
                Err(head) => {
                    view.caught_up(head).await?;
                    is_sure = true;
                }
            }
        }
        Err(Problem::busy("this stream is being written by many at once"))
    }

    /// Writes the messages of an append but for the first few, if the newest message is the one expected; else says where the newest is.
    async fn write(
        &self,
        subject: &str,
        view: &View,
        append: &Append,
        skip: u64,
        head: Offset,
    ) -> Result<Result<Position, Position>, Problem> {
        let mut messages =
            new_messages(view, append)?.into_iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        let Some(first) = messages.next() else {
            return Err(Problem::bad_request("this retry has fewer messages than its first try had"));
        };
        let first = NewMessage { expect: Some(head), ..first };
        let mut last = match publish(self.node(), subject, first).await.position().await {
            Ok(position) => position,
            Err(error) if error.code == ErrorCode::Conflict => {
                return Ok(Err(error.head.unwrap_or_default()));
            }
            Err(error) => return Err(error.into()),
        };
        let mut pending = Vec::new();
        for message in messages {
            pending.push(publish(self.node(), subject, message).await);
        }
        for pending in pending {
            last = pending.position().await?;
        }
        Ok(Ok(last))
    }

    /// Writes down what the messages say of their writers, if it has become much to read.
    async fn checkpoint(&self, view: &View) -> Result<(), Problem> {
        let checkpoint = {
            let state = view.state();
            let is_due = state.record.is_some() && state.log.n_folded >= STREAM_CHECKPOINT_MESSAGES;
            (is_due && !state.is_closed()).then(|| state.log.checkpoint())
        };
        let Some(checkpoint) = checkpoint else { return Ok(()) };
        self.change_record(view, |record| {
            Ok(record.map(|record| Record { checkpoint: checkpoint.clone(), ..record.clone() }))
        })
        .await?;
        view.update(|state| state.log.n_folded = 0);
        Ok(())
    }

    /// Appends a new stream's first messages, which nobody else can come before.
    pub(super) async fn append_first(
        &self,
        subject: &str,
        view: &View,
        messages: Vec<Bytes>,
        closes: bool,
    ) -> Result<(), Problem> {
        if messages.is_empty() && !closes {
            return Ok(());
        }
        let append = Append { tag: None, seq: None, messages, closes, key: None };
        match self.append_all(subject, view, &append).await? {
            Outcome::Appended => Ok(()),
            Outcome::Known { .. } | Outcome::Refused(_) => {
                Err(Problem::conflict("others write to this topic while it becomes a stream"))
            }
        }
    }
}

/// An append as messages for the log.
fn new_messages(view: &View, append: &Append) -> Result<Vec<NewMessage>, Problem> {
    let content_type = view.state().content_type().to_owned();
    let only_end = [Bytes::new()];
    let (payloads, end) = match (append.messages.is_empty(), append.closes) {
        (true, _) => (&only_end[..], End::Only),
        (false, true) => (&append.messages[..], End::Last),
        (false, false) => (&append.messages[..], End::No),
    };
    let parts = payloads.len() as u64;
    let message = |(part, payload): (u64, &Bytes)| {
        let is_last = part == parts;
        let mark = Mark {
            tag: append.tag.as_ref(),
            seq: append.seq.as_deref(),
            part: (part, parts),
            end: if is_last { end } else { End::No },
        };
        let message = Message {
            payload: payload.clone(),
            content_type: if end == End::Only { String::new() } else { content_type.clone() },
            headers: mark.headers(),
            id: match &append.key {
                None => String::new(),
                Some(key) if parts == 1 => key.clone(),
                Some(key) => format!("{key}/{part}"),
            },
        };
        message.validate().map_err(|invalid| Problem::bad_request(invalid.to_string()))?;
        Ok(NewMessage { topic: view.topic.clone(), message, expect: None })
    };
    (1..).zip(payloads).map(message).collect()
}

fn answer(view: &View, append: &Append, outcome: &Outcome) -> Result<Response, Problem> {
    let state = view.state();
    let next = value(&token(state.tail()));
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(NEXT_OFFSET, next.clone());
    if state.is_closed() {
        headers.insert(CLOSED, TRUE);
    }
    match (outcome, &append.tag) {
        (Outcome::Appended, None) => {}
        (Outcome::Appended, Some(tag)) => {
            headers.insert(PRODUCER_EPOCH, tag.epoch.into());
            headers.insert(PRODUCER_SEQ, tag.seq.into());
            // A close that appends nothing is a 204 even so (protocol, 5.3).
            if !append.messages.is_empty() {
                *response.status_mut() = StatusCode::OK;
            }
        }
        (Outcome::Known { epoch, seq }, _) => {
            headers.insert(PRODUCER_EPOCH, (*epoch).into());
            headers.insert(PRODUCER_SEQ, (*seq).into());
        }
        // Closing again what is closed is no fault.
        (Outcome::Refused(Verdict::Closed), None) if append.closes && append.messages.is_empty() => {}
        (Outcome::Refused(verdict), _) => return Err(refusal(verdict, append, next)),
    }
    Ok(response)
}

fn refusal(verdict: &Verdict, append: &Append, next: HeaderValue) -> Problem {
    match verdict {
        Verdict::Closed => {
            Problem::conflict("this stream is closed").with(CLOSED, TRUE).with(NEXT_OFFSET, next)
        }
        Verdict::StaleEpoch(epoch) => Problem::forbidden("a newer session of this producer has begun")
            .with(PRODUCER_EPOCH, (*epoch).into()),
        Verdict::EpochBeginsPastZero => {
            Problem::bad_request("a new Producer-Epoch begins with Producer-Seq 0")
        }
        Verdict::Gap(expected) => {
            let received = append.tag.as_ref().map_or(0, |tag| tag.seq);
            Problem::conflict("requests of this producer are missing before this one")
                .with(EXPECTED_SEQ, (*expected).into())
                .with(RECEIVED_SEQ, received.into())
        }
        Verdict::SeqRegression => Problem::conflict("Stream-Seq is not after the last one"),
        Verdict::Accept { .. } | Verdict::Duplicate(_) => Problem::conflict("this append was taken already"),
    }
}

/// The request of an idempotent producer, if it is one's.
fn producer(headers: &HeaderMap) -> Result<Option<Tag>, Problem> {
    let id = text(headers, &PRODUCER_ID)?;
    let epoch = text(headers, &PRODUCER_EPOCH)?;
    let seq = text(headers, &PRODUCER_SEQ)?;
    let (id, epoch, seq) = match (id, epoch, seq) {
        (None, None, None) => return Ok(None),
        (Some(id), Some(epoch), Some(seq)) => (id, epoch, seq),
        _ => {
            return Err(Problem::bad_request("Producer-Id, Producer-Epoch and Producer-Seq belong together"));
        }
    };
    if id.is_empty() {
        return Err(Problem::bad_request("Producer-Id is empty"));
    }
    let whole = |name: &str, digits| {
        number(digits)
            .ok_or_else(|| Problem::bad_request(format!("{name} is a whole number of at most 2^53 - 1")))
    };
    let (epoch, seq) = (whole("Producer-Epoch", epoch)?, whole("Producer-Seq", seq)?);
    Ok(Some(Tag { id: id.to_owned(), epoch, seq }))
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| Problem::bad_request(format!("{name} is not text")))
}

/// Whether a request closes the stream. Any value but `true` is as good as none.
pub(super) fn is_closing(headers: &HeaderMap) -> bool {
    headers.get(CLOSED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}
