//! Which pages may connect.

use std::net::IpAddr;

use http::header::{self, HeaderMap};
use http::{StatusCode, Uri};

use super::Rejected;

/// Which pages may connect. Only browsers send an `Origin`; programs can claim any, so that this protects a browser's
/// user from a stranger's page, not the broker from programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Pages from the host that the request names, at the same port.
    SameHost,
    /// Every page. A cookie still counts only from the same host, or any page that a user visits could speak for them.
    Any,
    /// Pages from these origins, and `null` if it is named: see [`parse`](Self::parse). Those of the same host may
    /// connect besides.
    List(Vec<String>),
}

impl Origins {
    /// Reads a setting: `*` among the entries means any; none means the same host; an entry is `scheme://host[:port]`
    /// or `null`, which is what pages from files and sandboxes send.
    ///
    /// # Errors
    ///
    /// The entry that is no origin. A path, a wildcard within a name or a missing scheme are the usual reasons.
    pub fn parse<'a>(entries: &[&'a str]) -> Result<Self, &'a str> {
        if entries.is_empty() {
            return Ok(Self::SameHost);
        }
        if entries.contains(&"*") {
            return Ok(Self::Any);
        }
        let list = entries.iter().map(|entry| match *entry {
            "null" => Ok("null".to_owned()),
            entry => Origin::parse(entry).map(|origin| origin.normal()).ok_or(entry),
        });
        list.collect::<Result<_, _>>().map(Self::List)
    }

    fn lists(&self, origin: &str) -> bool {
        let Self::List(list) = self else { return false };
        let normal = Origin::parse(origin).map_or_else(|| origin.to_owned(), |origin| origin.normal());
        list.contains(&normal)
    }
}

/// Which hosts can be a page's own, as `Host` names them.
///
/// A stranger's page may let its name point to this machine (DNS rebinding); then its origin and the request's host are the
/// same, and the browser's user is none the wiser. Where everyone who reaches the node may use it, names of this machine
/// are the only ones that no stranger can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnHosts {
    /// Every name: whoever connects has to show a token, or the operator said what anybody may do from afar.
    Any,
    /// `localhost`, names under it, 127.0.0.0/8 and `[::1]`.
    Loopback,
}

/// Who asked, as far as an `Origin` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A page whose origin was named as trusted, by the settings or by being the same host.
    TrustedPage,
    /// A page of any origin, or a program.
    Anyone,
}

/// Judges the request's `Origin`.
pub(super) fn check(
    headers: &HeaderMap,
    host: &str,
    origins: &Origins,
    own_hosts: OwnHosts,
) -> Result<Asker, Rejected> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = values.next() else { return Ok(Asker::Anyone) };
    let origin = origin.to_str().ok().filter(|_| values.next().is_none());
    let same_host = origin.and_then(Origin::parse).filter(|origin| origin.is_host(host));
    let is_own = same_host.as_ref().is_some_and(|origin| own_hosts == OwnHosts::Any || origin.is_loopback());
    match origins {
        _ if is_own || origin.is_some_and(|origin| origins.lists(origin)) => Ok(Asker::TrustedPage),
        Origins::Any => Ok(Asker::Anyone),
        Origins::SameHost | Origins::List(_) => Err(Rejected::new(
            StatusCode::FORBIDDEN,
            if same_host.is_some() {
                "this node has no tokens, so its pages connect from localhost only: allow this origin by name"
            } else {
                "pages from this origin may not connect here"
            },
        )),
    }
}

/// Judges the host of a request without an `Origin`.
pub(super) fn check_host(host: &str, origins: &Origins, own_hosts: OwnHosts) -> Result<(), Rejected> {
    let as_origin = |scheme: &str| Origin::parse(&format!("{scheme}://{host}"));
    let is_own = as_origin("http").is_some_and(|origin| origin.is_loopback());
    let is_listed =
        || ["http", "https"].into_iter().filter_map(as_origin).any(|origin| origins.lists(&origin.normal()));
    if own_hosts == OwnHosts::Any || *origins == Origins::Any || is_own || is_listed() {
        return Ok(());
    }
    let text =
        "this node has no tokens, so it answers to localhost only: allow the origin of this host by name";
    Err(Rejected::new(StatusCode::FORBIDDEN, text))
}

/// An origin in its parts, with the port that its scheme implies.
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        // A `Uri` adds the path "/", which an origin may not have written (RFC 6454, 6.2).
        let (_scheme, authority) = text.split_once("://")?;
        if authority.contains(['/', '?', '#', '@', '*']) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let default_port = if scheme == "https" { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        Some(Self { host: uri.host()?.to_ascii_lowercase(), port, scheme })
    }

    fn normal(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }

    /// Whether a `Host` header means the same host and, with the port implied by the page's scheme, the same port.
    fn is_host(&self, host: &str) -> bool {
        Self::parse(&format!("{}://{host}", self.scheme)).is_some_and(|host| host.normal() == self.normal())
    }

    /// Whether the host is this machine, under a name that nobody else can have.
    fn is_loopback(&self) -> bool {
        // RFC 6761, 6.3: all names under `localhost` are this machine, too.
        let is_localhost = self.host == "localhost" || self.host.ends_with(".localhost");
        let address = self.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        is_localhost || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }
}
