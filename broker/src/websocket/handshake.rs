//! Accepts or refuses an opening request (RFC 6455, 4.2; over HTTP/2: RFC 8441).
//!
//! [`check`] looks at a request and decides; it neither answers nor waits. What a connection needs to know afterwards is
//! in [`Accepted`]; what a client must be told is in [`Accepted::response`] or [`Rejected::response`].
//!
//! # Sub-protocols
//!
//! Of what both sides know, [`Choice`] says what is taken. With [`Choice::Clients`], a client that offers nothing gets
//! [`Settings::default_subprotocol`] without a header, so that a plain WebSocket tool works by hand. A client that
//! offers only what the endpoint does not know is refused with 400. RFC 6455 would allow an answer without a
//! sub-protocol, but browsers fail such a connection without telling the page why, and so do the usual libraries; the
//! refusal at least shows in their network log with a text that names what is known.
//!
//! # Tokens
//!
//! Browsers cannot set headers, so a token comes in one of four ways, and the first in this order counts:
//! `Authorization: Bearer`, a sub-protocol `bearer.<base64url of the token>` beside the real one, the query parameter
//! `access_token`, the cookie `bongsu_token`. A browser sends the cookie with every page's connection, also a stranger's,
//! so it counts only beside an `Origin` that is listed or the same host. Whether the token is any good is the caller's business.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bongsu_protocol::limits::TOKEN_BYTES_MAX;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

use super::deflate::{self, Agreed};

mod origin;
mod token;

pub use origin::{Origins, OwnHosts};
pub(crate) use token::percent_decode;
pub use token::{Source, Token};

/// Bytes of all sub-protocols offered: a token as base64 (4/3 of [`TOKEN_BYTES_MAX`]) and 1 KiB of names. More is
/// refused with 431.
const SUBPROTOCOL_BYTES_MAX: usize = TOKEN_BYTES_MAX / 3 * 4 + (1 << 10);

/// Bytes of all extensions offered: 2 KiB; browsers send 60. More is refused with 431.
const EXTENSION_BYTES_MAX: usize = 2 << 10;

/// What an endpoint accepts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sub-protocols known here, best first.
    pub subprotocols: &'static [&'static str],
    /// Which of them is taken.
    pub choice: Choice,
    /// What a client that offers none speaks; `None` refuses it where the choice is the client's.
    pub default_subprotocol: Option<&'static str>,
    /// Which pages may connect.
    pub origins: Origins,
    /// Which hosts count as a page's own.
    pub own_hosts: OwnHosts,
    /// Whether compression is offered to clients that ask for it.
    pub deflate: Deflate,
}

/// Which of several sub-protocols that both sides know is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The client's first one. An offer of which none is known is refused.
    Clients,
    /// The endpoint's best one. An offer of which none is known is accepted without any: what is spoken does not depend on it, and
    /// there are clients that are content.
    Ours,
}

/// Whether messages may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deflate {
    /// Every offer is passed over.
    Off,
    /// The first offer that can be kept is accepted.
    On,
}

/// A request that becomes a connection.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// What both sides speak: one of [`Settings::subprotocols`], or the default.
    pub subprotocol: Option<&'static str>,
    /// How messages are compressed, if they are.
    pub deflate: Option<Agreed>,
    /// The token that came with the request; not yet verified.
    pub token: Option<Token>,
    /// 101, or 200 over HTTP/2.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: HeaderMap,
}

impl Accepted {
    /// The answer that turns the request into a connection.
    #[must_use]
    pub fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

/// A request that does not become a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Rejected {
    /// 400, 403, 426 or 431.
    pub status: StatusCode,
    /// What to change, for people. Goes into the answer's body.
    pub text: Cow<'static, str>,
    /// The answer's headers.
    headers: &'static [(HeaderName, &'static str)],
}

impl Rejected {
    const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text: Cow::Borrowed(text), headers: &[] }
    }

    const fn bad_request(text: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// The answer to the request.
    #[must_use]
    pub fn response<B: From<String>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(format!("{}\n", self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        for (name, value) in self.headers {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// RFC 9110, 15.5.22: 426 names the protocol to upgrade to, and an `Upgrade` header needs its `Connection` option.
const UPGRADE_REQUIRED: &[(HeaderName, &str)] =
    &[(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade"), (header::SEC_WEBSOCKET_VERSION, "13")];

/// HTTP/2 has no upgrade to require, only a version to name.
const VERSION_REQUIRED: &[(HeaderName, &str)] = &[(header::SEC_WEBSOCKET_VERSION, "13")];

/// Decides on an opening request.
///
/// Over HTTP/1 the request must be a `GET` that asks for the upgrade, with a key; over HTTP/2 an extended `CONNECT`, for
/// which the HTTP server must have enabled the protocol. The rest is alike.
///
/// # Errors
///
/// [`Rejected`] with the status to answer:
/// * 426 if the request does not ask for a WebSocket, or not for version 13. A plain `GET` ends here.
/// * 400 if the key, the host, the version's place or a token is malformed, or no offered sub-protocol is known.
/// * 403 if the page's origin is not allowed.
/// * 431 if sub-protocols or extensions are longer than any real client's.
pub fn check<B>(request: &Request<B>, settings: &Settings) -> Result<Accepted, Rejected> {
    let mut headers = HeaderMap::new();
    let status = if request.version() == Version::HTTP_2 {
        check_connect(request)?;
        StatusCode::OK
    } else {
        let accept = check_upgrade(request)?;
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        StatusCode::SWITCHING_PROTOCOLS
    };
    let host = host(request)?;
    let origin = origin::check(request.headers(), host, &settings.origins, settings.own_hosts)?;

    let offered = joined(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_BYTES_MAX)?;
    let subprotocol = choose_subprotocol(&offered, settings)?;
    if let (Some(subprotocol), false) = (subprotocol, offered.is_empty()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    let extensions = joined(request.headers(), &header::SEC_WEBSOCKET_EXTENSIONS, EXTENSION_BYTES_MAX)?;
    let deflate = match settings.deflate {
        Deflate::On => deflate::negotiate(&extensions),
        Deflate::Off => None,
    };
    if let Some(agreed) = deflate {
        let value = HeaderValue::try_from(agreed.header_value())
            .expect("names and numbers are a header's characters");
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
    }
    let token = token::find(request.headers(), request.uri().query(), items(&offered), origin)?;
    Ok(Accepted { subprotocol, deflate, token, status, headers })
}

/// Who sends a request that is no WebSocket's: its token, and whether a page that is trusted sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// The token that came with the request; not yet verified.
    pub token: Option<Token>,
    /// Whether a page of a named origin, or of this very host, sent it.
    pub is_trusted_page: bool,
}

/// Decides whether a plain HTTP request may be answered, by its origin and its host.
///
/// Browsers send no `Origin` with a page's own reads. So where only names of this machine are trusted, the host has to be one
/// of them even without: a stranger's page whose name points here is told apart by nothing else.
///
/// # Errors
///
/// [`Rejected`]: 403 for an origin or a host that is not allowed, 400 for a malformed host or token.
pub fn identify<B>(
    request: &Request<B>,
    origins: &Origins,
    own_hosts: OwnHosts,
) -> Result<Identified, Rejected> {
    let host = host(request)?;
    let asker = origin::check(request.headers(), host, origins, own_hosts)?;
    if !request.headers().contains_key(header::ORIGIN) {
        origin::check_host(host, origins, own_hosts)?;
    }
    let token = token::find(request.headers(), request.uri().query(), std::iter::empty(), asker)?;
    Ok(Identified { token, is_trusted_page: asker == origin::Asker::TrustedPage })
}

/// RFC 6455, 4.2.1: everything that only HTTP/1 asks for. Returns the accept key.
fn check_upgrade<B>(request: &Request<B>) -> Result<HeaderValue, Rejected> {
    let headers = request.headers();
    let is_upgrade = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_item(headers, &header::UPGRADE, "websocket")
        && has_item(headers, &header::CONNECTION, "upgrade");
    if !is_upgrade {
        return Err(Rejected {
            headers: UPGRADE_REQUIRED,
            ..Rejected::new(
                StatusCode::UPGRADE_REQUIRED,
                "this is a WebSocket endpoint: use HTTP/1.1 GET with Upgrade: websocket and Connection: upgrade",
            )
        });
    }
    if single(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Rejected {
            headers: UPGRADE_REQUIRED,
            ..Rejected::new(StatusCode::UPGRADE_REQUIRED, "only WebSocket version 13 is spoken here")
        });
    }
    let key = single(headers, &header::SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .ok_or(Rejected::bad_request("Sec-WebSocket-Key must be the base64 of 16 bytes"))?;
    Ok(HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a header's characters"))
}

/// RFC 8441, 4 and 5: the same over HTTP/2, which needs neither key nor upgrade.
fn check_connect<B>(request: &Request<B>) -> Result<(), Rejected> {
    let protocol = request.extensions().get::<hyper::ext::Protocol>().map(hyper::ext::Protocol::as_str);
    if request.method() != Method::CONNECT || protocol != Some("websocket") {
        return Err(Rejected {
            headers: VERSION_REQUIRED,
            ..Rejected::bad_request("this is a WebSocket endpoint: use CONNECT with :protocol = websocket")
        });
    }
    if single(request.headers(), &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Rejected {
            headers: VERSION_REQUIRED,
            ..Rejected::bad_request("only WebSocket version 13 is spoken here")
        });
    }
    Ok(())
}

/// The host that the client wanted: `Host`, or `:authority` over HTTP/2.
fn host<B>(request: &Request<B>) -> Result<&str, Rejected> {
    let host = single(request.headers(), &header::HOST);
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let is_repeated = request.headers().get_all(header::HOST).iter().count() > 1;
    let host = if request.version() == Version::HTTP_2 { authority.or(host) } else { host };
    host.filter(|host| !host.is_empty() && !is_repeated)
        .ok_or(Rejected::bad_request("exactly one Host is needed"))
}

/// What both sides speak then.
fn choose_subprotocol(offered: &str, settings: &Settings) -> Result<Option<&'static str>, Rejected> {
    if settings.choice == Choice::Ours {
        let is_offered = |known: &&str| items(offered).any(|offer| offer == *known);
        return Ok(settings.subprotocols.iter().copied().find(is_offered));
    }
    if offered.is_empty() {
        return match settings.default_subprotocol {
            None if !settings.subprotocols.is_empty() => Err(unknown_subprotocol(settings)),
            default => Ok(default),
        };
    }
    let find = |offer| settings.subprotocols.iter().copied().find(|known| *known == offer);
    match items(offered).find_map(find) {
        Some(known) => Ok(Some(known)),
        None => Err(unknown_subprotocol(settings)),
    }
}

fn unknown_subprotocol(settings: &Settings) -> Rejected {
    let known = settings.subprotocols.join(", ");
    let text = format!("offer one of these in Sec-WebSocket-Protocol: {known}");
    Rejected { text: text.into(), ..Rejected::bad_request("") }
}

/// A header that stands once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

/// A list header's lines as one (RFC 9110, 5.3).
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName, bytes_max: usize) -> Result<Cow<'a, str>, Rejected> {
    let values = headers.get_all(name);
    if values.iter().map(|value| value.len() + 2).sum::<usize>() > bytes_max {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Rejected { text: format!("{name} is too long").into(), ..Rejected::new(status, "") });
    }
    let mut lines = values.iter().map(|value| {
        let not_text =
            || Rejected { text: format!("{name} is not text").into(), ..Rejected::bad_request("") };
        value.to_str().map_err(|_| not_text())
    });
    let mut text = Cow::Borrowed(lines.next().transpose()?.unwrap_or_default());
    for line in lines {
        let text = text.to_mut();
        text.push_str(", ");
        text.push_str(line?);
    }
    Ok(text)
}

/// The items of a comma-separated list.
fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Whether a list header, all of its lines, names a token, in any case.
fn has_item(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(items).any(|item| item.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests;
