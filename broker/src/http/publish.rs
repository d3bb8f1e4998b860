//! `POST /v1/publish`: messages of back ends, in the native protocol's JSON.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::{Command, RequestId};
use bongsu_protocol::event::{Event, Published, Reply};
use bongsu_protocol::limits::MESSAGE_ID_BYTES_MAX;
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::reason::Error;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::body::Bodies;
use super::door::{Caller, Door};
use super::problem::Problem;
use crate::history;
use crate::node::Node;
use crate::publisher::Completion;
use crate::quota;

/// The message id of a single message that has none.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Answers a request to publish.
pub(super) async fn answer(
    door: Arc<Door>,
    node: Arc<Node>,
    bodies: Arc<Bodies>,
    request: Request,
) -> Response {
    let work = |caller: Caller, request: Request| async move {
        // A task of its own, so that what was begun is not left half done when the client goes away.
        let published = tokio::spawn(async move { publish(&node, &bodies, &caller, request).await }).await;
        published.unwrap_or_else(|_| Err(Problem::internal("publishing failed")))
    };
    door.pass(request, work).await
}

async fn publish(
    node: &Arc<Node>,
    bodies: &Bodies,
    caller: &Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Err(Problem::method_not_allowed("POST, OPTIONS"));
    }
    let body = bodies.receive(&parts.headers, body).await?;
    caller.check()?;
    let mut messages = decode(&body)?;
    if let [message] = &mut messages[..]
        && message.message.id.is_empty()
        && let Some(key) = idempotency_key(&parts.headers)?
    {
        message.message.id = key;
    }
    let is_single = messages.len() == 1;
    let mut pending = Vec::with_capacity(messages.len());
    for message in messages {
        pending.push(submit(node, caller, message).await);
    }
    let mut results = Vec::with_capacity(pending.len());
    for pending in pending {
        let result = match pending {
            Ok(answer) => answer.await.unwrap_or_else(|_| Err(history::unavailable())),
            Err(error) => Err(error),
        };
        results.push(result);
    }
    if is_single && let Some(Err(error)) = results.first() {
        return Err(error.clone().into());
    }
    Ok(respond(results))
}

/// Hands a message to the publisher, if this caller may.
async fn submit(
    node: &Arc<Node>,
    caller: &Caller,
    message: NewMessage,
) -> Result<oneshot::Receiver<Result<Published, Error>>, Error> {
    if !caller.grants().may_publish(&message.topic) {
        return Err(caller.denial());
    }
    quota::check_size(&caller.identity.limits, message.message.payload.len())?;
    let (told, answer) = oneshot::channel();
    let publisher = node.publisher();
    if let Err(waiting) = publisher.publish(caller.identity.subject(), message, Completion::Caller(told)) {
        publisher.wait(waiting).await;
    }
    Ok(answer)
}

/// Reads one message or `{"messages": […]}`, as the native protocol's JSON has them: its own decoder does it, and checks all limits.
fn decode(body: &Bytes) -> Result<Vec<NewMessage>, Problem> {
    let no_json = |error: serde_json::Error| Problem::bad_request(format!("this is no JSON: {error}"));
    serde_json::from_slice::<&RawValue>(body).map_err(no_json)?;
    let is_several = serde_json::from_slice::<Several>(body).is_ok();
    let (head, tail): (&[u8], &[u8]) = if is_several { (b"", b"") } else { (b"{\"messages\":[", b"]}") };
    let mut frame = BytesMut::with_capacity(body.len() + 64);
    for part in [b"{\"id\":1,\"publish\":", head, body, tail, b"}"] {
        frame.extend_from_slice(part);
    }
    let requests = codec::decode_requests(Format::Json, &frame.freeze())
        .map_err(|malformed| Problem::bad_request(malformed.to_string()))?;
    let [request] =
        <[_; 1]>::try_from(requests).map_err(|_| Problem::bad_request("this is not one request"))?;
    match request.map_err(|refused| refused.error)?.command {
        Command::Publish(messages) if !messages.is_empty() => Ok(messages),
        _ => Err(Problem::bad_request("send one message, or {\"messages\": […]} with at least one")),
    }
}

/// Tells a list from a message: a message has no such field.
#[derive(serde::Deserialize)]
struct Several {
    #[serde(rename = "messages")]
    _messages: serde::de::IgnoredAny,
}

/// The key that makes a retry safe, if the request has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    // A draft of the IETF quotes it, most clients do not.
    let key = key.to_str().ok().map(|key| key.trim().trim_matches('"'));
    key.filter(|key| (1..=MESSAGE_ID_BYTES_MAX).contains(&key.len()))
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| {
            Problem::bad_request(format!(
                "Idempotency-Key has 1 to {MESSAGE_ID_BYTES_MAX} printable characters"
            ))
        })
}

/// The results as the native protocol's JSON has them.
fn respond(results: Vec<Result<Published, Error>>) -> Response {
    let event = Event::Reply { id: RequestId(1), result: Ok(Reply::Published(results)) };
    let mut json = BytesMut::new();
    codec::encode_event(Format::Json, &event, &mut json);
    // It was just made by an encoder.
    let mut reply: Value = serde_json::from_slice(&json).unwrap_or_default();
    let body = reply["reply"]["published"].take().to_string();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
