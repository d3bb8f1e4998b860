//! Bodies of requests and answers.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Bytes of a request's body, at most: 2 MiB, the largest message in base64 and what stands around it. A larger one is answered with 413.
pub const BODY_BYTES_MAX: usize = 2 << 20;

/// How long a request's body may take: 30 s. Then the answer is 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// JSON, in a request or an answer. Give the type of a request `#[serde(deny_unknown_fields)]`: a member that nobody looks at would be taken
/// for one that works.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = receive_json(&parts.headers, body).await?;
        let value = serde_json::from_slice(&body);
        value.map(Self).map_err(|error| Problem::bad_request(format!("the body is wrong: {error}")))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                let mut response = Response::new(Body::from(body));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                let detail = "the answer cannot be written as JSON";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
            }
        }
    }
}

/// The same for bodies that are read by something else: the bytes of one that says that it is JSON, and begins as an object does. A list
/// would be taken for the members of one in their order.
///
/// # Errors
/// 415, 400 where it is no object, and those of [`receive`].
pub async fn receive_json(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    if !is_json(headers) {
        let detail = "this takes a body with Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
    }
    let body = receive(body).await?;
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::bad_request("the body is wrong: it takes a JSON object"));
    }
    Ok(body)
}

/// Receives a whole body of at most [`BODY_BYTES_MAX`], within [`BODY_TIMEOUT`].
///
/// # Errors
/// 413, 408, or 400 where it ended early.
pub async fn receive(body: Body) -> Result<Bytes, Problem> {
    let received = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match received {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("a body has at most {BODY_BYTES_MAX} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
        Ok(Err(_)) => Err(Problem::bad_request("the body ended early")),
        Err(_) => {
            let detail = format!("the body did not come within {BODY_TIMEOUT:?}");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let value = value.to_str().ok()?;
        Some(value.split(';').next()?.trim().to_ascii_lowercase())
    };
    let essence = headers.get(header::CONTENT_TYPE).and_then(essence);
    essence.is_some_and(|essence| essence == "application/json")
}
