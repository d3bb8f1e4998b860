//! What went wrong, as RFC 9457 says it.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bongsu_protocol::event::Event;
use bongsu_protocol::eventstream::{Shape, encode_event};
use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::chance;
use crate::limits::{EVENT_SOURCE_BUSY_RETRY_MS, QUOTA_RETRY, TURNED_AWAY_RETRY_SECONDS};
use crate::websocket::handshake::Rejected;

/// An answer that is no success. Small, since it is the error of most functions here.
#[derive(Debug, Clone)]
pub(super) struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    /// For programs: the names of the native protocol's errors where there is one.
    code: &'static str,
    detail: Cow<'static, str>,
    headers: HeaderMap,
}

/// The members of `application/problem+json`. The type is `about:blank`, which means that the title is the status's own.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts { status, code, detail: detail.into(), headers: HeaderMap::new() }))
    }

    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(super) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn gone(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::GONE, "gone", detail)
    }

    pub(super) fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    pub(super) fn too_large(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// The node has no room for this now; another node may.
    pub(super) fn busy(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .with(header::RETRY_AFTER, HeaderValue::from_static(TURNED_AWAY_RETRY_SECONDS))
    }

    /// As [`busy`](Self::busy), for whoever would be served if all came slower.
    pub(super) fn too_fast(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
            .with(header::RETRY_AFTER, HeaderValue::from_static(TURNED_AWAY_RETRY_SECONDS))
    }

    /// There are as many as there may be, until one ends.
    pub(super) fn too_many(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", detail)
            .with(header::RETRY_AFTER, HeaderValue::from(QUOTA_RETRY.as_secs()))
    }

    /// The broker's own fault.
    pub(super) fn internal(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let text = format!("this resource takes {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "unsupported", text)
            .with(header::ALLOW, HeaderValue::from_static(allowed))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Whether the same request may be answered otherwise in a while.
    fn is_passing(&self) -> bool {
        let status = self.0.status;
        status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    }

    /// The answer to an `EventSource`, which takes any status but 200 for the end of all attempts (contract SSE-5): what will pass is
    /// an event stream that ends at once and says when to come back. What will not is the status.
    pub(super) fn into_event_source_response(self) -> Response {
        if !self.is_passing() {
            return self.into_response(&Method::GET);
        }
        let retry_after = self.0.headers.get(header::RETRY_AFTER);
        let asked = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
        let pause = Duration::from_millis(EVENT_SOURCE_BUSY_RETRY_MS.max(asked.saturating_mul(1000)));
        let pause = pause.mul_f64(chance::range(1.0..=2.0));
        let goodbye = Goodbye {
            retry_after_ms: Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
            ..Goodbye::new(CloseReason::Overloaded, self.0.detail)
        };
        let mut body = BytesMut::new();
        encode_event(Shape::Envelope, &Event::Goodbye(goodbye), &mut body);
        let mut response = Response::new(Body::from(body.freeze()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Shape::Envelope.content_type()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// The answer. To HEAD it has no body.
    pub(super) fn into_response(self, method: &Method) -> Response {
        let Parts { status, code, detail, headers } = *self.0;
        let title = status.canonical_reason().unwrap_or_default();
        let document =
            Document { r#type: "about:blank", title, status: status.as_u16(), code, detail: &detail };
        // Strings and a number: nothing that JSON cannot hold.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response =
            Response::new(if *method == Method::HEAD { Body::empty() } else { Body::from(body) });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.code {
            ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::TooMany | ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Conflict => StatusCode::CONFLICT,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut problem = Self::new(status, error.code.as_str(), error.text);
        if let Some(milliseconds) = error.retry_after_ms {
            // Whole seconds (RFC 9110, 10.2.3), and never none.
            problem = problem.with(header::RETRY_AFTER, milliseconds.div_ceil(1000).max(1).into());
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750, 3.
            problem = problem.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        problem
    }
}

impl From<Goodbye> for Problem {
    /// What a request is told whose place was taken away while it waited.
    fn from(goodbye: Goodbye) -> Self {
        match goodbye.reason {
            CloseReason::Unauthenticated => Error::new(ErrorCode::Unauthenticated, goodbye.text).into(),
            CloseReason::Forbidden => Self::forbidden(goodbye.text),
            CloseReason::Kicked => Self::new(StatusCode::FORBIDDEN, "kicked", goodbye.text),
            _ => Self::busy(goodbye.text),
        }
    }
}

impl From<Rejected> for Problem {
    fn from(rejected: Rejected) -> Self {
        let code = if rejected.status == StatusCode::FORBIDDEN { "forbidden" } else { "bad_request" };
        Self::new(rejected.status, code, rejected.text)
    }
}
