//! What answers have in common: how long they are kept, which pages may read them, the cookie.

use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::response::Response;
use bongsu_protocol::sockjs::{IframePage, Method};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::clock;
use crate::limits::SOCKJS_COOKIE_BYTES_MAX;

/// How long what never changes is kept: a year.
const KEPT_FOR: Duration = Duration::from_secs(31_536_000);

/// What nobody may keep, hold back or change: the text that the protocol's suite compares.
const NOT_KEPT: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

/// The cookie of load balancers.
const COOKIE: &str = "JSESSIONID=";

/// What the answers to one request carry.
pub(super) struct Answer {
    /// The page's origin, as it was sent.
    origin: Option<HeaderValue>,
    cookie: Option<HeaderValue>,
}

impl Answer {
    pub(super) fn new(headers: &HeaderMap, cookie: Option<HeaderValue>) -> Self {
        // A copy: the header itself is a slice of the connection's buffer, which would stay as long as the answer takes.
        let origin = headers.get(header::ORIGIN);
        let origin = origin.and_then(|origin| HeaderValue::from_bytes(origin.as_bytes()).ok());
        Self { origin, cookie }
    }

    pub(super) fn without_cookie(self) -> Self {
        Self { cookie: None, ..self }
    }

    /// Whether a page may send what it asks for: it may, since its origin was judged already.
    pub(super) fn options(self, asked: &HeaderMap, methods: &[Method]) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, list(methods));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(KEPT_FOR.as_secs()));
        if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS)
            && !wanted.is_empty()
        {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        keep(headers);
        self.open(headers);
        response
    }

    /// What the service can do.
    pub(super) fn info(self, info: &str) -> Response {
        let mut response = Response::new(Body::from(info.to_owned()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
        do_not_keep(headers);
        self.open(headers);
        response
    }

    /// An answer of a session's transport.
    pub(super) fn session(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        do_not_keep(headers);
        // nginx holds answers back otherwise.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.open(headers);
        if let Some(cookie) = self.cookie {
            headers.insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Lets the page read it.
    fn open(&self, headers: &mut HeaderMap) {
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        let any = || HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone().unwrap_or_else(any));
        if self.origin.is_some() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// The cookie that load balancers look at: the one that came, or any.
pub(super) fn cookie(headers: &HeaderMap) -> HeaderValue {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(|line| line.split(';')).map(str::trim);
    let known = cookies.find_map(|cookie| cookie.strip_prefix(COOKIE));
    let known = known.filter(|known| known.len() <= SOCKJS_COOKIE_BYTES_MAX).unwrap_or("dummy");
    HeaderValue::try_from(format!("{COOKIE}{known}; path=/"))
        .expect("a cookie that came in a header can go in one")
}

/// The page for iframes, unless it is known.
pub(super) fn page(page: &IframePage, is_known: bool) -> Response {
    let mut response = Response::new(Body::empty());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(page.body.clone());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    }
    let tag = HeaderValue::try_from(&page.etag).expect("a tag is made of hexadecimal digits");
    response.headers_mut().insert(header::ETAG, tag);
    keep(response.headers_mut());
    response
}

pub(super) fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "Error: this path is not there\n")
}

pub(super) fn method_not_allowed(methods: &[Method]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, list(methods));
    response
}

/// A text for people.
pub(super) fn text(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

fn keep(headers: &mut HeaderMap) {
    let until = UNIX_EPOCH + Duration::from_millis(clock::wall().0) + KEPT_FOR;
    let until = HeaderValue::try_from(httpdate::fmt_http_date(until)).expect("a date is text");
    headers.insert(header::EXPIRES, until);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000"));
}

fn do_not_keep(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(NOT_KEPT));
}

fn list(methods: &[Method]) -> HeaderValue {
    let names = methods.iter().map(|method| match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Options => "OPTIONS",
    });
    HeaderValue::try_from(names.collect::<Vec<_>>().join(", ")).expect("methods are text")
}
