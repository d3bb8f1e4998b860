//! `/v1/selftest`: what arrives here of what a client sends, for whoever wants to know what stands between.
//!
//! | path | what it answers |
//! |---|---|
//! | `/v1/selftest` | what this node saw of the request: never what a header says, only that it came |
//! | `/v1/selftest/stream` | five pieces at fixed times, each with the time at which it was written |
//! | `/v1/selftest/wait?seconds=30` | nothing for so long, and then a word |
//!
//! The client compares: `bongsu selftest URL` does. Nobody needs a token, since everybody is told of their own request only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock;
use crate::limits::{SELFTEST_WAIT_MAX, SELFTESTS_MAX, TURNED_AWAY_RETRY_SECONDS};
use crate::node::Node;
use crate::peers::Source;
use crate::selftest::{ANSWER_HEADERS, PIECE_PAUSE_MS, PIECES, REQUEST_HEADERS, Seen, Trouble};

/// What proxies add.
const OF_PROXIES: &[&str] =
    &["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via"];

type Places = Arc<Semaphore>;

pub(super) fn routes() -> Router<Arc<Node>> {
    let places: Places = Arc::new(Semaphore::new(SELFTESTS_MAX));
    Router::new()
        .route("/v1/selftest", get(look))
        .route("/v1/selftest/stream", get(stream))
        .route("/v1/selftest/wait", get(wait))
        .layer(Extension(places))
}

/// Tells what arrived.
async fn look(
    State(node): State<Arc<Node>>,
    Extension(source): Extension<Source>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let there = |names: &[&str]| {
        names.iter().filter(|name| headers.contains_key(**name)).map(ToString::to_string).collect::<Vec<_>>()
    };
    let (arrived, of_proxies) = (there(REQUEST_HEADERS), there(OF_PROXIES));
    let mut findings = Vec::new();
    if request.version() < Version::HTTP_11 {
        findings.push(Trouble::OldHttp.found(""));
    }
    let tells =
        of_proxies.iter().any(|name| matches!(name.as_str(), "forwarded" | "x-forwarded-for" | "x-real-ip"));
    if tells && !source.is_told {
        findings.push(Trouble::NotBelieved.found(of_proxies.join(", ")));
    }
    let seen = Seen {
        node: node.name().to_owned(),
        time: clock::wall().0,
        http: format!("{:?}", request.version()),
        tls: source.is_tls,
        client: source.address.ip().to_canonical().to_string(),
        told: source.is_told,
        arrived,
        of_proxies,
        findings,
    };
    // Texts and numbers: nothing that JSON cannot hold.
    let mut response = Response::new(Body::from(serde_json::to_vec(&seen).unwrap_or_default()));
    let answer = response.headers_mut();
    for name in ANSWER_HEADERS {
        answer.insert(HeaderName::from_static(name), HeaderValue::from_static("\"0\""));
    }
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.insert(header::RETRY_AFTER, HeaderValue::from_static(TURNED_AWAY_RETRY_SECONDS));
    // A page that asks learns of its own request only.
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Pieces at fixed times.
async fn stream(Extension(places): Extension<Places>) -> Response {
    let Ok(place) = places.try_acquire_owned() else { return busy() };
    let pieces =
        futures_util::stream::unfold((0, place), |(number, place): (u64, OwnedSemaphorePermit)| async move {
            if number >= PIECES {
                return None;
            }
            if number > 0 {
                tokio::time::sleep(Duration::from_millis(PIECE_PAUSE_MS)).await;
            }
            let piece = format!("data: {{\"number\":{number},\"time\":{}}}\n\n", clock::wall().0);
            Some((Ok::<_, Infallible>(Bytes::from(piece)), (number + 1, place)))
        });
    let mut response = Response::new(Body::from_stream(pieces));
    // As event streams have them: what helps them is to help here.
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// For how long nothing is answered.
#[derive(Deserialize)]
struct Wait {
    seconds: u64,
}

/// Nothing for a while, as a long poll that waits.
async fn wait(Extension(places): Extension<Places>, query: Result<Query<Wait>, QueryRejection>) -> Response {
    let asked = query.map_or(Duration::ZERO, |Query(Wait { seconds })| Duration::from_secs(seconds));
    if asked.is_zero() || asked > SELFTEST_WAIT_MAX {
        let text = format!("say for how long: ?seconds=1 to {}\n", SELFTEST_WAIT_MAX.as_secs());
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let Ok(_place) = places.try_acquire_owned() else { return busy() };
    tokio::time::sleep(asked).await;
    ([(header::CACHE_CONTROL, "no-store"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], "waited\n")
        .into_response()
}

fn busy() -> Response {
    let headers = [(header::RETRY_AFTER, TURNED_AWAY_RETRY_SECONDS)];
    (StatusCode::SERVICE_UNAVAILABLE, headers, "others test themselves just now\n").into_response()
}
