//! Which pages may connect.

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

/// Who asked, as far as an `Origin` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A page whose origin was named as trusted, by the settings or by being the same host.
    TrustedPage,
    /// A page of any origin, or a program.
    Anyone,
}

/// Judges the request's `Origin`.
pub(super) fn check(headers: &HeaderMap, host: &str, origins: &Origins) -> Result<Asker, Rejected> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = values.next() else { return Ok(Asker::Anyone) };
    let origin = origin.to_str().ok().filter(|_| values.next().is_none());
    let is_trusted = origin.is_some_and(|origin| {
        let is_same_host = Origin::parse(origin).is_some_and(|origin| origin.is_host(host));
        is_same_host || origins.lists(origin)
    });
    match origins {
        _ if is_trusted => Ok(Asker::TrustedPage),
        Origins::Any => Ok(Asker::Anyone),
        Origins::SameHost | Origins::List(_) => {
            Err(Rejected::new(StatusCode::FORBIDDEN, "pages from this origin may not connect here"))
        }
    }
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
}
