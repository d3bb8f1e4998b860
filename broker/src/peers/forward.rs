//! What becomes of a request on its way to another node, and there.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;

use super::line::{Body, BodyError, Outgoing, dial};
use super::release::{Held, Release};
use super::signature::{self, Secret, Signed};
use super::{Destination, Forwarded, Peers, Source};
use crate::clock;
use crate::limits::{PEER_CLOCK_SKEW_MS, PEER_CONNECT_TIMEOUT};
use crate::metrics::METRICS;

/// The path on which nodes introduce themselves. It is no path for clients: the port for nodes takes it before any route sees it.
const INTRODUCTION: &str = "/-/introduction";

/// What is between two neighbours, and ends there (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// Why another node did not answer a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It was forwarded here: two nodes hold each other for the owner. The session is nobody's.
    #[error("the request was forwarded already")]
    Again,
    /// The nodes' secret is not known yet, since Redis was not reached since this node started. Repeat later.
    #[error("the nodes' secret is not known yet")]
    NoSecret,
    /// Nobody answers there, or not as a node of the cluster. The request was not taken.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended before the answer began. The request may have been taken.
    #[error("the node went away: {0}")]
    Interrupted(String),
    /// The node does not believe this one: their secrets differ, or their clocks. The request was not taken.
    #[error("the node refused to take a request of this one")]
    Refused,
    /// Too many requests are under way there. Repeat later.
    #[error("too many requests are under way at the node")]
    Full,
    /// This node drains, and the other one did not answer before. Repeat at another one.
    #[error("this node drains")]
    Draining,
}

/// Why a request on the port for nodes is not taken, for the log. Whoever sent it is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It lacks what every request of a node has.
    #[error("it is no node's request")]
    Unsigned,
    /// The proof is wrong: the secrets differ, or something was changed on the way.
    #[error("its signature is wrong")]
    Signature,
    /// It is for another process, which had this address before or has it elsewhere.
    #[error("it is for another node")]
    Recipient,
    /// The clocks of the two nodes are too far apart, or it was kept back.
    #[error("its time is too far from this node's")]
    Time,
    /// It was taken before, or so long ago that nobody knows.
    #[error("it was taken before")]
    Replayed,
}

/// A forwarded request's body.
pub type Forwardable = Either<Incoming, Empty<Bytes>>;

/// What comes in at the port for nodes.
#[derive(Debug)]
pub enum Admitted {
    /// A node introduced itself: answer with this, and no body.
    Introduction(Response<()>),
    /// The node asks this one something in its own name: the path and the query. No client can send it.
    Question(Uri),
    /// A client's request, as the other node got it, with [`Source`] and [`Forwarded`] among its extensions.
    Request(Request<Forwardable>),
}

impl Peers {
    /// Has another node answer a client's request. Bodies go through as they come, in both directions; what either end gives up is
    /// given up at the other at once: drop this future, or the body of the answer.
    ///
    /// The owner sees the request as this node does: its method, path, header and, by [`Source`], where it came from.
    ///
    /// # Errors
    /// Each of [`ForwardError`]. [`Unreachable`](ForwardError::Unreachable) and [`Interrupted`](ForwardError::Interrupted) mean for the client
    /// that its session is lost.
    pub async fn forward<B>(
        &self,
        to: &Destination,
        request: Request<B>,
    ) -> Result<Response<Body>, ForwardError>
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        METRICS.forwarded.add(1);
        let answer = self.try_forward(to, request).await;
        if let Err(error) = &answer {
            METRICS.forward_failed.add(1);
            tracing::debug!(to = %to.incarnation, %error, "a request could not be forwarded");
        }
        answer
    }

    async fn try_forward<B>(
        &self,
        to: &Destination,
        request: Request<B>,
    ) -> Result<Response<Body>, ForwardError>
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        if request.extensions().get::<Forwarded>().is_some() {
            return Err(ForwardError::Again);
        }
        let secret = self.secrets.current().ok_or(ForwardError::NoSecret)?;
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        remove_hop_by_hop(&mut headers);
        // HTTP/2 has the host elsewhere.
        if !headers.contains_key(header::HOST)
            && let Some(host) =
                parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
        {
            headers.insert(header::HOST, host);
        }
        if let Some(source) = parts.extensions.get::<Source>() {
            headers.insert(signature::SOURCE, written(*source));
        }
        let (body, wanted) = if body.is_end_stream() {
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(signature::HELD, HeaderValue::from_static("1"));
            let (held, wanted) = Held::until(self.drained.clone());
            (held.boxed_unsync(), Some(wanted))
        } else {
            (body.map_err(Into::into).boxed_unsync(), None)
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let head = self.signed(&secret, to, parts.method, path, headers)?;
        let request = Request::from_parts(head.into_parts().0, body);
        let line = self.lines.to(&to.incarnation);
        let answer = tokio::select! {
            biased;
            answer = line.send(request, || self.connect(&secret, to)) => answer?,
            () = self.drained.clone().overdue() => return Err(ForwardError::Draining),
        };
        if answer.headers().contains_key(signature::ANSWER) {
            return Err(ForwardError::Refused);
        }
        let (mut parts, body) = answer.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        parts.version = Version::HTTP_11;
        Ok(Response::from_parts(parts, body.keep(wanted, self.drained.clone().overdue())))
    }

    /// A request's head with everything that the other node wants to know.
    pub(super) fn signed(
        &self,
        secret: &Secret,
        to: &Destination,
        method: Method,
        path_and_query: &str,
        mut headers: HeaderMap,
    ) -> Result<Request<()>, ForwardError> {
        let unreachable = |error: http::Error| ForwardError::Unreachable(error.to_string());
        let text = |text: &str| HeaderValue::from_str(text).map_err(|error| unreachable(error.into()));
        headers.insert(signature::FROM, text(&self.incarnation)?);
        headers.insert(signature::TO, text(&to.incarnation)?);
        headers.insert(signature::NUMBER, self.next_number().into());
        headers.insert(signature::TIME, clock::wall().0.into());
        let proof = secret.sign(Signed { method: &method, path_and_query, headers: &headers });
        headers.insert(signature::SIGNATURE, text(&proof)?);
        let uri = format!("{}{path_and_query}", to.url.trim_end_matches('/'));
        let mut request = Request::builder().method(method).uri(uri).body(()).map_err(unreachable)?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Connects to another node, and has it prove that it is the one before it is told anything of a client.
    pub(super) async fn connect(
        &self,
        secret: &Secret,
        to: &Destination,
    ) -> Result<SendRequest<Outgoing>, ForwardError> {
        let connecting = async {
            let mut sender = dial(&to.url).await.map_err(ForwardError::Unreachable)?;
            let head = self.signed(secret, to, Method::POST, INTRODUCTION, HeaderMap::new())?;
            let proof = head.headers()[signature::SIGNATURE].clone();
            let introduction = head.map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync());
            let answer = sender.send_request(introduction).await;
            let answer = answer.map_err(|error| ForwardError::Unreachable(error.to_string()))?;
            let own = answer.headers().get(signature::ANSWER).map(HeaderValue::as_bytes).unwrap_or_default();
            if secret.verify_answer(proof.as_bytes(), own) { Ok(sender) } else { Err(ForwardError::Refused) }
        };
        let timeout =
            |_| ForwardError::Unreachable(format!("it did not answer within {PEER_CONNECT_TIMEOUT:?}"));
        tokio::time::timeout(PEER_CONNECT_TIMEOUT, connecting).await.map_err(timeout)?
    }

    /// Takes what comes in at the port for nodes, if it is another node's.
    ///
    /// # Errors
    /// It is not, or not certainly. Answer with [`refusal`](Refused::refusal).
    pub fn admit(&self, request: Request<Incoming>) -> Result<Admitted, Refused> {
        match self.check(&request) {
            Ok(Checked { introduced: Some(response), .. }) => Ok(Admitted::Introduction(response)),
            Ok(Checked { asks: true, .. }) => Ok(Admitted::Question(
                request.uri().path_and_query().cloned().map_or_else(Uri::default, Uri::from),
            )),
            Ok(Checked { from, source, .. }) => Ok(Admitted::Request(as_sent(request, from, source))),
            Err(refused) => {
                METRICS.peer_requests_refused.add(1);
                tracing::debug!(%refused, "a request on the port for nodes was refused");
                Err(refused)
            }
        }
    }

    /// Whether a request is another node's, and was not taken before.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<Checked, Refused> {
        let headers = request.headers();
        let text = |name: HeaderName| single(headers, &name).ok_or(Refused::Unsigned);
        let number = |name: HeaderName| text(name)?.parse::<u64>().map_err(|_| Refused::Unsigned);
        let (from, to) = (text(signature::FROM)?, text(signature::TO)?);
        let (sequence, time) = (number(signature::NUMBER)?, number(signature::TIME)?);
        let proof = text(signature::SIGNATURE)?.as_bytes();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let signed = Signed { method: request.method(), path_and_query: path, headers };
        let secret = self.secrets.find(|secret| secret.verify(signed, proof)).ok_or(Refused::Signature)?;
        if *to != *self.incarnation {
            return Err(Refused::Recipient);
        }
        if time.abs_diff(clock::wall().0) > PEER_CLOCK_SKEW_MS {
            return Err(Refused::Time);
        }
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = numbers.take(from, sequence, clock::monotonic());
        drop(numbers);
        if !is_new {
            return Err(Refused::Replayed);
        }
        let introduced = (path == INTRODUCTION).then(|| {
            let mut response = Response::new(());
            let answer =
                HeaderValue::try_from(secret.answer(proof)).expect("digits are a header's characters");
            response.headers_mut().insert(signature::ANSWER, answer);
            response
        });
        let source = single(headers, &signature::SOURCE).and_then(read);
        let asks = headers.contains_key(signature::ASKS) && *request.method() == Method::GET;
        Ok(Checked { from: from.into(), source, introduced, asks })
    }
}

/// A request that is another node's.
#[derive(Debug)]
pub(super) struct Checked {
    from: Arc<str>,
    source: Option<Source>,
    /// The answer, if the request only introduces that node.
    introduced: Option<Response<()>>,
    /// Whether the node asks in its own name.
    asks: bool,
}

impl Refused {
    /// What to answer: nothing that helps whoever is no node.
    #[must_use]
    pub fn refusal(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.headers_mut().insert(signature::ANSWER, HeaderValue::from_static("refused"));
        response
    }
}

/// The request as the other node got it.
fn as_sent(request: Request<Incoming>, from: Arc<str>, source: Option<Source>) -> Request<Forwardable> {
    let (mut parts, body) = request.into_parts();
    let (body, release) = if parts.headers.contains_key(signature::HELD) {
        (Either::Right(Empty::new()), Release::at_end_of(body))
    } else {
        (Either::Left(body), Release::never())
    };
    remove_those_of_nodes(&mut parts.headers);
    // Whoever looks for the host finds it in its header, as in HTTP/1.1.
    parts.version = Version::HTTP_11;
    parts.uri = parts.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    parts.extensions.insert(Forwarded { from, release });
    if let Some(source) = source {
        parts.extensions.insert(source);
    }
    Request::from_parts(parts, body)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    remove_those_of_nodes(headers);
}

fn remove_those_of_nodes(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(signature::PREFIX)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// The value of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn written(source: Source) -> HeaderValue {
    let Source { address, is_tls, .. } = source;
    let scheme = if is_tls { "https" } else { "http" };
    HeaderValue::try_from(format!("{scheme} {address}")).expect("an address is a header's characters")
}

fn read(source: &str) -> Option<Source> {
    let (scheme, address) = source.split_once(' ')?;
    let is_tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    Some(Source { address: address.parse().ok()?, is_tls, is_told: true })
}
