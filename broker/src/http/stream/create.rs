//! PUT: creating a stream, or a fork of one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_persistence::store::Removal;
use bongsu_protocol::limits::CONTENT_TYPE_BYTES_MAX;
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{StatusCode, Uri, Version};

use super::append::{is_closing, text};
use super::body::Mode;
use super::offset::{Asked, number, parse, token};
use super::read::{Begin, CLOSED, EXPIRES_AT, NEXT_OFFSET, TRUE, TTL, begin, value};
use super::record::{ExpiresAt, Fork, Life, Record, normal_type};
use super::view::View;
use super::{PREFIX, Streams};
use crate::clock;
use crate::http::door::{Caller, topic_of};
use crate::http::problem::Problem;
use crate::limits::{STREAM_CREATE_PATIENCE, STREAM_FORK_DEPTH_MAX, STREAM_FORKS_MAX};
use crate::peers::Source;

const FORKED_FROM: HeaderName = HeaderName::from_static("stream-forked-from");
const FORK_OFFSET: HeaderName = HeaderName::from_static("stream-fork-offset");
const FORK_SUB_OFFSET: HeaderName = HeaderName::from_static("stream-fork-sub-offset");

/// What a stream has that was created without a type.
const BYTES_TYPE: &str = "application/octet-stream";

/// What a request asks for.
#[derive(Debug, Clone)]
struct Wanted {
    /// `None` for a fork that has its source's.
    content_type: Option<String>,
    ttl: Option<u64>,
    expires_at: Option<ExpiresAt>,
    is_closed: bool,
    fork: Option<WantedFork>,
}

#[derive(Debug, Clone)]
struct WantedFork {
    source: Topic,
    /// As it was given, and as it was understood.
    offset: Option<(String, Asked)>,
    sub_offset: u64,
}

/// What a fork has from its source.
struct Inherited {
    fork: Fork,
    content_type: String,
    ttl: Option<u64>,
    expires_at: Option<ExpiresAt>,
    /// The first bytes of a message that is inherited in part.
    prefix: Option<Bytes>,
}

/// What came of a creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

impl Streams {
    /// PUT.
    pub(super) async fn create(
        self: &Arc<Self>,
        caller: &Caller,
        topic: &Topic,
        request: Request,
    ) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let mut wanted = Wanted::parse(&parts.headers)?;
        let body = self.bodies.receive(&parts.headers, body).await?;
        caller.check()?;
        let inherited = match wanted.fork.clone() {
            None => None,
            Some(fork) => {
                caller.check_history(&fork.source)?;
                caller.check_write(&fork.source)?;
                Some(self.inherit(topic, &fork, &mut wanted).await?)
            }
        };
        let view = self.view(topic).await?;
        let source = inherited.as_ref().map(|inherited| inherited.fork.source.clone());
        let made = {
            let _writer = view.writer.lock().await;
            self.create_once(caller, &view, &wanted, inherited, &body).await
        };
        if made.is_err()
            && let Some(source) = source
        {
            // Unless it is a fork of the same source that was there before.
            let is_fork_of_it =
                |record: &Record| record.fork.as_ref().is_some_and(|fork| fork.source == source);
            let is_there = view.state().record.as_ref().is_some_and(is_fork_of_it);
            if !is_there {
                self.release(&source, topic).await?;
            }
        }
        let is_tls = parts.extensions.get::<Source>().is_some_and(|source| source.is_tls);
        let location = location(&parts.uri, parts.version, &parts.headers, is_tls);
        Ok(answer(&view, made?, &location))
    }

    async fn create_once(
        self: &Arc<Self>,
        caller: &Caller,
        view: &Arc<View>,
        wanted: &Wanted,
        inherited: Option<Inherited>,
        body: &Bytes,
    ) -> Result<Made, Problem> {
        if self.is_one_of_many() {
            view.refresh(self.node()).await?;
        }
        if view.state().exists() {
            return wanted.check_alike(view).map(|()| Made::Before);
        }
        if view.state().is_deleted() {
            return Err(Problem::conflict("a stream of this name was deleted, but forks of it remain"));
        }
        self.clear(view).await?;
        let (fork, prefix) = match inherited {
            None => (None, None),
            Some(inherited) => (Some(inherited.fork), inherited.prefix),
        };
        let content_type = wanted.content_type.clone().unwrap_or_else(|| BYTES_TYPE.to_owned());
        let mut messages: Vec<_> = prefix.into_iter().collect();
        let mode = Mode::of(&content_type);
        if !body.is_empty() {
            let bytes_max = self.node().policies().for_topic(&view.topic).message_bytes;
            messages.extend(super::body::split(mode, body, bytes_max)?);
        }
        // What is to be there with the stream is written before the stream is there for anybody.
        let is_at_once = messages.is_empty() && !wanted.is_closed;
        let record = Record {
            life: if is_at_once { Life::Open } else { Life::Creating },
            ttl: wanted.ttl,
            expires_at: wanted.expires_at.clone(),
            fork,
            ..Record::new(content_type, Self::new_incarnation(), clock::wall().0)
        };
        view.touch();
        let mut is_taken = false;
        self.change_record(view, |known| {
            is_taken = known.is_some_and(|known| known.incarnation != record.incarnation);
            Ok((!is_taken).then(|| record.clone()))
        })
        .await?;
        if is_taken {
            return Err(Problem::busy("somebody else creates this stream right now"));
        }
        if !is_at_once {
            self.append_first(caller.identity.subject(), view, messages, wanted.is_closed).await?;
            let open = Record { life: Life::Open, ..record.clone() };
            self.change_record(view, |known| {
                let is_ours = known.is_some_and(|known| known.incarnation == record.incarnation);
                Ok(is_ours.then(|| open.clone()))
            })
            .await?;
        }
        Ok(Made::Now)
    }

    /// Removes what is left of an earlier stream, or of one whose maker went away before it was there.
    async fn clear(self: &Arc<Self>, view: &Arc<View>) -> Result<(), Problem> {
        let creating = {
            let state = view.state();
            state.record.as_ref().filter(|record| record.life == Life::Creating).map(|record| record.touched)
        };
        if let Some(since) = creating {
            if clock::wall().0.saturating_sub(since)
                < u64::try_from(STREAM_CREATE_PATIENCE.as_millis()).unwrap_or(0)
            {
                return Err(Problem::busy("somebody else creates this stream right now"));
            }
            self.remove_all(view).await?;
        } else if view.state().record_at.epoch.0 > 0 {
            // The register says that it is gone, and may be all that was removed.
            let topic = view.topic.clone();
            self.node().history().remove(&view.topic, Removal::Delete { topic }).await?;
        }
        Ok(())
    }

    /// Finds what a fork has from its source, and notes in the source that the fork needs it.
    async fn inherit(
        self: &Arc<Self>,
        topic: &Topic,
        fork: &WantedFork,
        wanted: &mut Wanted,
    ) -> Result<Inherited, Problem> {
        if fork.source == *topic {
            return Err(Problem::conflict("a stream is no fork of itself"));
        }
        let view = self.view(&fork.source).await?;
        if self.is_one_of_many() {
            view.refresh(self.node()).await?;
        }
        let _writer = view.writer.lock().await;
        let (from, tail, mode, mut inherited) = {
            let state = view.state();
            if state.is_deleted() {
                return Err(Problem::conflict("the source was deleted; other forks of it remain"));
            }
            if !state.exists() {
                return Err(Problem::not_found("there is no such source"));
            }
            let tail = state.tail();
            let asked = fork.offset.as_ref().map_or(Asked::Now, |(_, asked)| *asked);
            let from =
                begin(&state, asked).map_err(|_| Problem::bad_request("this offset is not of the source"))?;
            if from.place.offset > tail.offset {
                return Err(Problem::bad_request("the source does not reach this offset"));
            }
            let record = state.record.as_ref();
            let depth = record.and_then(|record| record.fork.as_ref()).map_or(0, |fork| fork.depth) + 1;
            if depth > STREAM_FORK_DEPTH_MAX {
                return Err(Problem::bad_request(format!(
                    "forks of forks are at most {STREAM_FORK_DEPTH_MAX} deep"
                )));
            }
            let asked = (fork.offset.as_ref().map(|(text, _)| text.clone()), fork.sub_offset);
            let base = (tail.epoch.0, from.place.offset.0);
            let fork = Fork { source: fork.source.as_str().to_owned(), base, asked, depth };
            let inherited = Inherited {
                fork,
                content_type: state.content_type().to_owned(),
                ttl: record.and_then(|record| record.ttl),
                expires_at: record.and_then(|record| record.expires_at.clone()),
                prefix: None,
            };
            (from, tail, Mode::of(state.content_type()), inherited)
        };
        wanted.take_from(&inherited)?;
        self.go_further(&view, fork.sub_offset, from, tail, mode, &mut inherited).await?;
        self.adopt(&view).await?;
        let name = topic.as_str().to_owned();
        self.change_record(&view, |record| {
            let Some(record) = record.filter(|record| !record.forks.contains(&name)) else { return Ok(None) };
            if record.forks.len() >= STREAM_FORKS_MAX {
                return Err(Problem::conflict(format!("a stream has at most {STREAM_FORKS_MAX} forks")));
            }
            let mut record = record.clone();
            record.forks.insert(name.clone());
            Ok(Some(record))
        })
        .await?;
        Ok(inherited)
    }

    /// Moves a fork's base past the offset that was given, by messages or by bytes of the next one.
    async fn go_further(
        self: &Arc<Self>,
        view: &Arc<View>,
        sub_offset: u64,
        from: Begin,
        tail: Position,
        mode: Mode,
        inherited: &mut Inherited,
    ) -> Result<(), Problem> {
        if sub_offset == 0 {
            return Ok(());
        }
        let too_far = || Problem::bad_request("Stream-Fork-Sub-Offset is past what follows the offset");
        if mode == Mode::Json {
            if sub_offset > tail.offset.0 - from.place.offset.0 {
                return Err(too_far());
            }
            inherited.fork.base.1 += sub_offset;
            return Ok(());
        }
        let messages = self.messages(view, from, tail).await?;
        let (_, next) = messages.first().ok_or_else(too_far)?;
        let payload = &next.delivery.message.payload;
        let n_bytes = usize::try_from(sub_offset).map_err(|_| too_far())?;
        match n_bytes.cmp(&payload.len()) {
            std::cmp::Ordering::Less => inherited.prefix = Some(payload.slice(..n_bytes)),
            std::cmp::Ordering::Equal => inherited.fork.base.1 += 1,
            std::cmp::Ordering::Greater => return Err(too_far()),
        }
        Ok(())
    }
}

impl Wanted {
    fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        let ttl = text(headers, &TTL)?.map(parse_ttl).transpose()?;
        let expires_at = text(headers, &EXPIRES_AT)?.map(parse_expiry).transpose()?;
        if ttl.is_some() && expires_at.is_some() {
            return Err(Problem::bad_request("Stream-TTL and Stream-Expires-At exclude each other"));
        }
        let fork = WantedFork::parse(headers)?;
        let given = text(headers, &header::CONTENT_TYPE)?.map(str::trim).filter(|given| is_media_type(given));
        let content_type = match given {
            Some(given) => Some(given.to_owned()),
            None if fork.is_some() => None,
            None => Some(BYTES_TYPE.to_owned()),
        };
        Ok(Self { content_type, ttl, expires_at, is_closed: is_closing(headers), fork })
    }

    /// Takes what a fork has from its source where the request says nothing else.
    fn take_from(&mut self, inherited: &Inherited) -> Result<(), Problem> {
        match &self.content_type {
            Some(wanted) if normal_type(wanted) != normal_type(&inherited.content_type) => {
                return Err(Problem::conflict("a fork has the content type of its source"));
            }
            _ => self.content_type = Some(inherited.content_type.clone()),
        }
        if self.ttl.is_none() && self.expires_at.is_none() {
            self.ttl = inherited.ttl;
            self.expires_at = inherited.expires_at.clone();
        }
        Ok(())
    }

    /// Whether the stream that exists is the one that is wanted.
    fn check_alike(&self, view: &View) -> Result<(), Problem> {
        let state = view.state();
        let record = state.record.as_ref();
        let wanted_type = self.content_type.as_deref().unwrap_or(BYTES_TYPE);
        let fork = record.and_then(|record| record.fork.as_ref());
        let is_same_fork = match (&self.fork, fork) {
            (None, None) => true,
            (Some(wanted), Some(fork)) => {
                let offset = wanted.offset.as_ref().map(|(text, _)| text);
                let is_same_offset = offset.is_none()
                    || fork.asked.0.as_ref() == offset
                    || offset == Some(&token(Position::new(fork.base.0, fork.base.1)));
                fork.source == wanted.source.as_str() && is_same_offset && fork.asked.1 == wanted.sub_offset
            }
            _ => false,
        };
        let is_alike = normal_type(wanted_type) == normal_type(state.content_type())
            && record.and_then(|record| record.ttl) == self.ttl
            && record.and_then(|record| record.expires_at.as_ref()).map(|expires| expires.at)
                == self.expires_at.as_ref().map(|expires| expires.at)
            && state.is_closed() == self.is_closed
            && is_same_fork;
        if is_alike {
            return Ok(());
        }
        let problem = Problem::conflict("a stream of this name exists, and is another");
        Err(if state.is_closed() { problem.with(CLOSED, TRUE) } else { problem })
    }
}

impl WantedFork {
    fn parse(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let sub_offset = text(headers, &FORK_SUB_OFFSET)?;
        let offset = text(headers, &FORK_OFFSET)?;
        let Some(path) = text(headers, &FORKED_FROM)? else {
            if sub_offset.is_some() || offset.is_some() {
                return Err(Problem::bad_request(
                    "Stream-Fork-Offset and -Sub-Offset need Stream-Forked-From",
                ));
            }
            return Ok(None);
        };
        if !path.starts_with(PREFIX) {
            return Err(Problem::not_found("Stream-Forked-From is the path of a stream of this server"));
        }
        let offset = offset
            .map(|text| match parse(text) {
                Some(asked @ Asked::At(_)) => Ok((text.to_owned(), asked)),
                _ => Err(Problem::bad_request("Stream-Fork-Offset is no offset that was given out here")),
            })
            .transpose()?;
        let sub_offset = match sub_offset {
            None => 0,
            Some(digits) => plain_number(digits).ok_or_else(|| {
                Problem::bad_request("Stream-Fork-Sub-Offset is a whole number without leading zeros")
            })?,
        };
        Ok(Some(Self { source: topic_of(path, PREFIX)?, offset, sub_offset }))
    }
}

fn answer(view: &View, made: Made, location: &str) -> Response {
    let state = view.state();
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value(state.content_type()));
    headers.insert(NEXT_OFFSET, value(&token(state.tail())));
    if state.is_closed() {
        headers.insert(CLOSED, TRUE);
    }
    if made == Made::Now {
        headers.insert(header::LOCATION, value(location));
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

/// The stream's URL as the client sees it.
fn location(uri: &Uri, version: Version, headers: &HeaderMap, is_tls: bool) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let host = if version == Version::HTTP_2 { authority.or(host) } else { host };
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{}{}", host.unwrap_or("localhost"), uri.path())
}

/// Digits without a sign, a point or leading zeros (protocol, 5.1).
fn plain_number(digits: &str) -> Option<u64> {
    number(digits).filter(|_| digits == "0" || !digits.starts_with('0'))
}

fn parse_ttl(text: &str) -> Result<u64, Problem> {
    plain_number(text)
        .ok_or_else(|| Problem::bad_request("Stream-TTL is a whole number of seconds without leading zeros"))
}

fn parse_expiry(text: &str) -> Result<ExpiresAt, Problem> {
    let at = crate::http::time::parse(text)
        .ok_or_else(|| Problem::bad_request("Stream-Expires-At is a time as in RFC 3339"))?;
    Ok(ExpiresAt { text: text.to_owned(), at })
}

/// `type/subtype` (RFC 9110, 8.3.1), with parameters or without.
fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(is_tchar)
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    text.len() <= CONTENT_TYPE_BYTES_MAX
        && essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}
