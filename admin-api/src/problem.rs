//! What went wrong, as RFC 9457 says it.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Fault};
use crate::role::Role;

/// What is answered in the place of what was asked for. Small, since every result of a handler may be one.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    faults: Vec<Fault>,
    headers: HeaderMap,
}

/// Why a request was not answered as asked (RFC 9457, `application/problem+json`). Programs decide by `code`, which stays the same.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Document<'a> {
    /// `about:blank`: the title is that of the status.
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The status in words.
    #[schema(example = "Unprocessable Entity")]
    title: &'a str,
    /// The status.
    #[schema(example = 422, minimum = 400, maximum = 599)]
    status: u16,
    /// For programs: one of `bad_request`, `invalid`, `unauthenticated`, `forbidden`, `not_found`, `method_not_allowed`, `conflict`, `changed`,
    /// `condition_required`, `too_large`, `media_type`, `timeout`, `rate_limited`, `unsupported`, `unavailable`, `internal`.
    #[schema(example = "invalid")]
    code: &'a str,
    /// For people: what is wrong, and what to do.
    #[schema(example = "limit: it takes 1 to 1000")]
    detail: &'a str,
    /// What is wrong at which place of the request, where that is known.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Fault],
}

impl Problem {
    /// A problem with a code for programs and a sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let (detail, faults, headers) = (detail.into(), Vec::new(), HeaderMap::new());
        Self(Box::new(Parts { status, code, detail, faults, headers }))
    }

    /// The request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// Nobody knows who asks, with what they would have to show.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        // RFC 6750, 3.
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// Whoever asks may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Whoever asks lacks a role.
    #[must_use]
    pub fn lacks_role(has: Role, needs: Role) -> Self {
        Self::forbidden(format!("this takes the role {needs}, and you have {has}"))
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The resource takes other methods.
    #[must_use]
    pub fn method_not_allowed(method: &Method) -> Self {
        let detail = format!("this resource does not take {method}: the header Allow says what it takes");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What programs decide by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What people read.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        let (status, code) = match &error {
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Error::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Error::Changed(_) => (StatusCode::PRECONDITION_FAILED, "changed"),
            Error::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Error::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Error::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Error::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let mut problem = Self::new(status, code, detail);
        match error {
            Error::Invalid { faults, .. } => problem.0.faults = faults,
            // Whole seconds (RFC 9110, 10.2.3), and never none.
            Error::TooMany { retry_after, .. } => {
                let seconds = retry_after.as_millis().div_ceil(1000).max(1);
                let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
                problem.0.headers.insert(header::RETRY_AFTER, seconds.into());
            }
            _ => {}
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Parts { status, code, detail, faults, headers } = *self.0;
        let title = status.canonical_reason().unwrap_or_default();
        let document = Document {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            code,
            detail: &detail,
            errors: &faults,
        };
        // Strings and a number: nothing that JSON cannot hold.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_with_a_problem_stay_small() {
        assert!(size_of::<Problem>() <= 8);
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_and_never_none() {
        for (milliseconds, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let error = Error::TooMany {
                detail: "too often".to_owned(),
                retry_after: Duration::from_millis(milliseconds),
            };
            let response = Problem::from(error).into_response();
            assert_eq!(response.headers()["retry-after"], expected, "{milliseconds}");
        }
    }
}
