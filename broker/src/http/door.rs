//! Who a request comes from, and what its answer says to browsers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::command::Token;
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::session::Grants;
use bongsu_protocol::topic::{InvalidTopic, Topic};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::problem::Problem;
use crate::auth::Identity;
use crate::control::{Connections, Holder, Stay};
use crate::metrics::Transport;
use crate::node::Node;
use crate::websocket::handshake::{self, Origins, OwnHosts};

/// What pages of other origins may send.
const ALLOWED_HEADERS: &str = "authorization, content-type, if-none-match, idempotency-key, last-event-id, \
                               stream-seq, stream-ttl, stream-expires-at, stream-closed, stream-forked-from, \
                               stream-fork-offset, stream-fork-sub-offset, producer-id, producer-epoch, producer-seq";

/// What pages of other origins may see of an answer.
const EXPOSED_HEADERS: &str = "etag, location, retry-after, x-poll-interval, x-resume, x-start, stream-next-offset, stream-cursor, stream-up-to-date, \
                               stream-closed, stream-ttl, stream-expires-at, stream-sse-data-encoding, \
                               producer-epoch, producer-seq, producer-expected-seq, producer-received-seq";

/// The methods that some resource here takes.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, QUERY";

/// Where every request passes.
#[derive(Debug)]
pub(super) struct Door {
    node: Arc<Node>,
    origins: Origins,
    own_hosts: OwnHosts,
}

/// Who sent a request.
#[derive(Debug)]
pub(super) struct Caller {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// It came without a token, so that its answers are anybody's.
    pub is_anonymous: bool,
    /// Where it is known for how long it is that.
    sessions: Arc<Connections>,
}

/// What an answer says to the page that asked.
struct Page {
    origin: HeaderValue,
    is_trusted: bool,
}

impl Door {
    pub(super) const fn new(node: Arc<Node>, origins: Origins, own_hosts: OwnHosts) -> Self {
        Self { node, origins, own_hosts }
    }

    /// Identifies who sends the request, lets `work` answer, and adds what every answer has.
    pub(super) async fn pass<W>(&self, request: Request, work: impl FnOnce(Caller, Request) -> W) -> Response
    where
        W: Future<Output = Result<Response, Problem>>,
    {
        let method = request.method().clone();
        let is_event_source = is_event_source(&request);
        // A copy: the header itself is a slice of the connection's buffer, which would stay as long as the answer takes.
        let origin = request.headers().get(header::ORIGIN);
        let origin = origin.and_then(|origin| HeaderValue::from_bytes(origin.as_bytes()).ok());
        let (page, result) = match handshake::identify(&request, &self.origins, self.own_hosts) {
            // Without the header that would let it in, a page goes no further.
            Err(_) if method == Method::OPTIONS => (None, Ok(preflight())),
            Err(rejected) => (None, Err(rejected.into())),
            Ok(identified) => {
                let is_trusted = identified.is_trusted_page;
                let page = origin.map(|origin| Page { origin, is_trusted });
                let result = match self.caller(identified.token).await {
                    _ if method == Method::OPTIONS => Ok(preflight()),
                    Err(error) => Err(error.into()),
                    Ok(caller) => work(caller, request).await,
                };
                (page, result)
            }
        };
        let mut response = result.unwrap_or_else(|problem| match is_event_source {
            true => problem.into_event_source_response(),
            false => problem.into_response(&method),
        });
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            // Reading across origins takes CORS, which this does not touch; embedding does not.
            HeaderValue::from_static("same-origin"),
        );
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(page) = page {
            if page.is_trusted {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page.origin);
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            } else {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
        response
    }

    async fn caller(&self, token: Option<handshake::Token>) -> Result<Caller, Error> {
        let sessions = Arc::clone(self.node.sessions());
        match token {
            None => {
                let identity = Arc::clone(self.node.authenticator().anonymous());
                Ok(Caller { identity, is_anonymous: true, sessions })
            }
            Some(token) => {
                let identity = self.node.verify(&Token(token.text)).await?;
                Ok(Caller { identity, is_anonymous: false, sessions })
            }
        }
    }
}

impl Caller {
    /// What it may do.
    pub(super) fn grants(&self) -> &Grants {
        &self.identity.grants
    }

    /// Refuses whose token ran out or was taken back since the request began. To be asked again after whatever takes time.
    pub(super) fn check(&self) -> Result<(), Problem> {
        Ok(self.sessions.check(&self.identity)?)
    }

    /// A place for the request while it waits.
    pub(super) fn park(&self, node: &Node, peer: Option<SocketAddr>, transport: Transport) -> Stay {
        let holder = Holder { identity: Arc::clone(&self.identity), peer, transport };
        self.sessions.park(node.next_connection(), holder)
    }

    /// Refuses whoever may not read what is kept of the topic.
    pub(super) fn check_history(&self, topic: &Topic) -> Result<(), Problem> {
        if self.grants().may_read_history(&topic.clone().into()) { Ok(()) } else { Err(self.denied()) }
    }

    /// Refuses whoever may not read what comes on the topic from now on.
    pub(super) fn check_subscribe(&self, topic: &Topic) -> Result<(), Problem> {
        if self.grants().may_subscribe(&topic.clone().into()) { Ok(()) } else { Err(self.denied()) }
    }

    /// Refuses whoever may not write the topic.
    pub(super) fn check_write(&self, topic: &Topic) -> Result<(), Problem> {
        if self.grants().may_publish(topic) { Ok(()) } else { Err(self.denied()) }
    }

    pub(super) fn denied(&self) -> Problem {
        self.denial().into()
    }

    /// The error for what the grants do not allow.
    pub(super) fn denial(&self) -> Error {
        if self.is_anonymous && self.grants().is_empty() {
            Error::new(ErrorCode::Unauthenticated, "send a token: Authorization: Bearer …")
        } else {
            Error::new(ErrorCode::Forbidden, "this token does not allow that on this topic")
        }
    }
}

/// Whether a request is what every `EventSource` sends: a GET that takes nothing but an event stream.
fn is_event_source(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    request.method() == Method::GET && accept.is_some_and(|accept| accept.trim() == "text/event-stream")
}

fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOWED_METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
    // Two hours, the most that Chromium keeps an answer.
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    response
}

/// The topic that a path names below a prefix: its levels are the path's segments, percent-encoded.
///
/// # Errors
/// 400 with the reason.
pub(super) fn topic_of(path: &str, prefix: &str) -> Result<Topic, Problem> {
    let encoded = path.strip_prefix(prefix).unwrap_or_default();
    let mut name = String::with_capacity(encoded.len());
    for segment in encoded.split('/') {
        let level =
            handshake::percent_decode(segment).filter(|level| !level.contains('/')).ok_or_else(|| {
                Problem::bad_request("a path segment is not percent-encoded UTF-8 of one level")
            })?;
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(&level);
    }
    // An empty level in front would be lost above.
    if encoded.starts_with('/') {
        return Err(Problem::bad_request(InvalidTopic::EmptyLevel.to_string()));
    }
    Topic::parse(&name).map_err(|invalid| Problem::bad_request(invalid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_the_levels_of_a_topic() {
        let parse = |path| topic_of(path, "/v1/stream/").map(|topic| topic.as_str().to_owned()).ok();
        assert_eq!(parse("/v1/stream/chat/room%2042").as_deref(), Some("chat/room 42"));
        assert_eq!(parse("/v1/stream/%ED%95%9C").as_deref(), Some("한"));
        for bad in [
            "/v1/stream/",
            "/v1/stream//a",
            "/v1/stream/a/",
            "/v1/stream/a%2Fb",
            "/v1/stream/%",
            "/v1/stream/%zz",
            "/v1/stream/%ff",
            "/v1/stream/a%00",
            "/v1/stream/a/%23",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
