//! SockJS 0.3.3: a service is a prefix, what is spoken there, and the transports below it. See `contracts` in docs/compatibility.md.
//!
//! | module | what it does |
//! |---|---|
//! | `answer` | what answers have in common: caching, origins, cookies |
//! | `caller` | who asks, and whether it is the one who began the session |
//! | `sessions` | the sessions of a service that are not over WebSocket, by name |
//! | `elsewhere` | those that another node has |
//! | `receive`, `send` | requests that take frames, and those that bring messages |
//! | `websocket` | the transport that is a socket |
//!
//! A session is a connection like any other: over a WebSocket its carrier adds SockJS' frames, otherwise a
//! [`Relay`](crate::relay::Relay) stands in the place of its socket. The open frame waits for nothing but this process.

mod answer;
mod caller;
mod elsewhere;
mod receive;
mod send;
mod sessions;
mod websocket;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request};
use axum::response::Response;
use axum::routing::any;
use bongsu_protocol::codec::Format;
use bongsu_protocol::sockjs::{
    GREETING, IframePage, Info, InvalidCallback, Method as SockJsMethod, Route, SessionPath, Timing,
    Transport,
};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use super::{Admission, stomp};
use crate::chance;
use crate::config::{PathPrefix, Settings};
use crate::dialog::Language;
use crate::http::Bodies;
use crate::limits::SOCKJS_NAME_BYTES_MAX;
use crate::node::Node;
use crate::peers::Source;
use crate::websocket::handshake::{self, Origins, OwnHosts};

use answer::Answer;
use caller::Caller;
use elsewhere::Reply;
use sessions::Sessions;

/// One SockJS service.
#[derive(Debug, Clone)]
pub struct Service {
    /// The path that it begins with, without a slash at the end.
    pub prefix: String,
    /// What is spoken there.
    pub language: Language,
    /// Whether sessions may use WebSockets.
    pub websocket: bool,
    /// Whether answers carry the cookie `JSESSIONID`.
    pub cookie_needed: bool,
    /// Bytes of one streaming answer.
    pub response_bytes: usize,
    /// Heartbeats, and how long a session waits for its next request.
    pub timing: Timing,
}

impl Service {
    /// A service with what the settings say of all services.
    #[must_use]
    pub fn new(prefix: impl Into<String>, language: Language, settings: &Settings) -> Self {
        let sockjs = &settings.sockjs;
        Self {
            prefix: prefix.into(),
            language,
            websocket: sockjs.websocket,
            cookie_needed: sockjs.cookie_needed,
            response_bytes: sockjs.response_bytes.as_usize(),
            timing: Timing { heartbeat: sockjs.heartbeat, disconnect: sockjs.disconnect_delay },
        }
    }

    /// Whether the request is for the plain WebSocket that stands at the prefix of STOMP, with SockJS below it.
    fn is_web_socket(&self, request: &Request) -> bool {
        let asks = request.headers().contains_key(header::UPGRADE)
            || (request.method() == Method::CONNECT && request.version() == Version::HTTP_2);
        asks && matches!(self.language, Language::Stomp(_))
    }

    /// The services of the settings: those of the native protocol, and those of STOMP.
    pub(super) fn of_settings(node: &Node) -> Vec<Self> {
        let settings = node.settings();
        let service = |language: Language| {
            move |prefix: &PathPrefix| Self::new(prefix.as_str(), language.clone(), settings)
        };
        let native = settings.sockjs.prefixes.iter().map(service(Language::Native(Format::Json)));
        let stomp = settings.stomp.prefixes.iter().map(service(Language::Stomp(stomp::conversation(node))));
        native.chain(stomp).collect()
    }
}

/// Whose pages may use services.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    pub(super) origins: Origins,
    pub(super) own_hosts: OwnHosts,
}

/// The routes of some services.
pub(super) fn routes(
    node: &Arc<Node>,
    services: Vec<Service>,
    admitted: &Admitted,
    bodies: &Arc<Bodies>,
) -> Router<Arc<Node>> {
    services.into_iter().fold(Router::new(), |router, service| {
        let paths = ["", "/", "/{*rest}"].map(|end| format!("{}{end}", service.prefix));
        let desk = Arc::new(Desk {
            node: Arc::clone(node),
            page: IframePage::new(node.settings().sockjs.client_url.as_str()),
            sessions: Sessions::new(node.settings().limits.connections),
            service,
            admitted: admitted.clone(),
            bodies: Arc::clone(bodies),
        });
        let route = any(
            move |Extension(Source { address: peer, .. }),
                  admission: Option<Extension<Admission>>,
                  request: Request| {
                let desk = Arc::clone(&desk);
                // One that another node forwards has no place, and becomes no socket.
                let admission = admission.map(|Extension(admission)| admission).unwrap_or_default();
                async move { desk.answer(request, peer, admission).await }
            },
        );
        paths.into_iter().fold(router, |router, path| router.route(&path, route.clone()))
    })
}

/// Where the requests of one service arrive.
struct Desk {
    node: Arc<Node>,
    service: Service,
    page: IframePage,
    sessions: Arc<Sessions>,
    admitted: Admitted,
    bodies: Arc<Bodies>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Desk {
    async fn answer(
        self: &Arc<Self>,
        request: Request,
        peer: std::net::SocketAddr,
        admission: Admission,
    ) -> Response {
        let path = request.uri().path().to_owned();
        let Some(mut route) = self.route(&path, request.headers()) else { return answer::not_found() };
        if route == Route::Greeting && self.service.is_web_socket(&request) {
            // ST-1: applications connect to the prefix itself.
            route = Route::RawWebSocket;
        }
        let methods = route.methods();
        let is_upgrade =
            matches!(route, Route::RawWebSocket | Route::Session { path: SessionPath::WebSocket, .. });
        // RFC 8441: over HTTP/2 a WebSocket begins with this method.
        let is_connect =
            is_upgrade && request.method() == Method::CONNECT && request.version() == Version::HTTP_2;
        let method = match *request.method() {
            Method::GET => Some(SockJsMethod::Get),
            Method::POST => Some(SockJsMethod::Post),
            Method::OPTIONS => Some(SockJsMethod::Options),
            _ if is_connect => Some(SockJsMethod::Get),
            _ => None,
        };
        let Some(method) = method.filter(|method| methods.contains(method)) else {
            return answer::method_not_allowed(methods);
        };
        if is_upgrade {
            return self.upgrade(request, route, peer, &admission).await;
        }
        let identified = match handshake::identify(&request, &self.admitted.origins, self.admitted.own_hosts)
        {
            Ok(identified) => identified,
            Err(rejected) => return rejected.response(),
        };
        let cookie = self.service.cookie_needed.then(|| answer::cookie(request.headers()));
        let dress = Answer::new(request.headers(), cookie);
        if method == SockJsMethod::Options {
            return dress.options(request.headers(), methods);
        }
        match route {
            Route::Greeting if request.headers().contains_key(header::UPGRADE) => {
                answer::text(StatusCode::BAD_REQUEST, "Can \"Upgrade\" only below this path.")
            }
            Route::Greeting => answer::text(StatusCode::OK, GREETING),
            Route::Info => dress.without_cookie().info(&self.info()),
            Route::Iframe => self.iframe(request.headers()),
            Route::Session { session, path } => {
                let caller = Caller::new(&self.node, identified.token.as_ref(), peer).await;
                // Nothing of the request may be borrowed while it is answered: its body is no other task's to look at.
                let transport = transport(path, request.uri().query());
                let reply = match transport {
                    Some(Ok(transport)) => self.receive(session, &caller, transport, request).await,
                    Some(Err(invalid)) => {
                        Reply::Here(answer::text(StatusCode::INTERNAL_SERVER_ERROR, &invalid.to_string()))
                    }
                    None => self.send(session, &caller, path, request).await,
                };
                match reply {
                    Reply::Here(response) => dress.session(response),
                    Reply::Elsewhere(response) => response,
                }
            }
            Route::RawWebSocket => answer::not_found(),
        }
    }

    /// What the path is, if the service has it.
    fn route<'a>(&self, path: &'a str, headers: &HeaderMap) -> Option<Route<'a>> {
        let route = Route::parse(path.strip_prefix(&self.service.prefix)?)?;
        let is_there = match route {
            Route::RawWebSocket | Route::Session { path: SessionPath::WebSocket, .. } => {
                self.service.websocket
            }
            // Pages that are embedded, and scripts, say nothing of the page that wants them. So where only some sites may connect
            // there are none of them, or only for pages of this host.
            Route::Iframe => !matches!(self.admitted.origins, Origins::List(_)),
            Route::Session { path: SessionPath::HtmlFile | SessionPath::Jsonp, .. } => {
                match self.admitted.origins {
                    Origins::Any => true,
                    Origins::SameHost => is_not_cross_site(headers),
                    Origins::List(_) => false,
                }
            }
            Route::Greeting | Route::Info | Route::Session { .. } => true,
        };
        let is_name = match route {
            Route::Session { session, .. } => session.len() <= SOCKJS_NAME_BYTES_MAX,
            _ => true,
        };
        (is_there && is_name).then_some(route)
    }

    fn info(&self) -> String {
        let Service { websocket, cookie_needed, .. } = self.service;
        let entropy = chance::range(0..=u32::MAX);
        Info { websocket, cookie_needed, entropy, base_url: None }.body()
    }

    fn iframe(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        let is_known = known.is_some_and(|tags| self.page.is_known(tags));
        let mut response = answer::page(&self.page, is_known);
        if self.admitted.origins == Origins::SameHost {
            // Its requests come from this host, whoever embeds it.
            let name = HeaderName::from_static("x-frame-options");
            response.headers_mut().insert(name, HeaderValue::from_static("SAMEORIGIN"));
        }
        response
    }
}

/// The transport of a receiving request; `None` for those that send.
fn transport(path: SessionPath, query: Option<&str>) -> Option<Result<Transport, InvalidCallback>> {
    let callback = || caller::callback(query);
    Some(match path {
        SessionPath::Xhr => Ok(Transport::XhrPolling),
        SessionPath::XhrStreaming => Ok(Transport::XhrStreaming),
        SessionPath::EventSource => Ok(Transport::EventSource),
        SessionPath::HtmlFile => callback().map(Transport::HtmlFile),
        SessionPath::Jsonp => callback().map(Transport::JsonpPolling),
        SessionPath::XhrSend | SessionPath::JsonpSend | SessionPath::WebSocket => return None,
    })
}

/// Whether a page of another site surely did not make the browser send this. Browsers say so since 2023; others do not ask.
fn is_not_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    site.is_none_or(|site| matches!(site, b"same-origin" | b"none"))
}
