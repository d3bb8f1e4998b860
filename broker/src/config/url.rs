//! Addresses of other servers.

use std::fmt;

use ::config::Value;

use super::schema::{Form, Leaf};
use super::value::text;

/// The address of another server as a URL, with a password in it perhaps. Whatever prints it leaves that out.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// Reads a URL: a scheme, `://` and something behind it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let valid = !scheme.is_empty() && scheme.chars().all(is_scheme) && !rest.is_empty();
        (valid && !text.contains(char::is_whitespace)).then(|| Self(text.to_owned()))
    }

    /// Whether paths can be put behind it, and nothing secret is in it: `http` or `https` with a host, and neither user nor query.
    #[must_use]
    pub fn is_http_base(&self) -> bool {
        self.0.parse::<http::Uri>().is_ok_and(|uri| {
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            let is_bare = |authority: &http::uri::Authority| {
                !authority.as_str().contains('@') && !authority.host().is_empty()
            };
            is_http && uri.authority().is_some_and(is_bare) && uri.query().is_none()
        })
    }

    /// Whether it is `http` with a host and perhaps a port, and nothing else.
    #[must_use]
    pub fn is_plain_http_origin(&self) -> bool {
        let is_bare = |uri: http::Uri| {
            uri.scheme_str() == Some("http") && uri.path() == "/" && uri.port_u16() != Some(0)
        };
        self.is_http_base() && self.0.parse().is_ok_and(is_bare)
    }

    /// Whether a request can be sent there: `http` or `https` with a host, and no user.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.0.parse::<http::Uri>().is_ok_and(|uri| {
            let is_bare = |authority: &http::uri::Authority| {
                !authority.as_str().contains('@') && !authority.host().is_empty()
            };
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some_and(is_bare)
        })
    }

    /// Whether its scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"))
    }

    /// Whether its host is this machine for certain: `localhost`, or an address of the loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let Ok(uri) = self.0.parse::<http::Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// The whole URL, its password included: for whoever connects, and for nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerUrl {
    /// The URL with `***` in the place of every password, also of one given as a parameter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        // Everything up to the last `@` is the user's: a password may hold one, a host may not.
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        write!(f, "{scheme}://")?;
        if let Some(user) = user {
            match user.split_once(':') {
                Some((name, _)) => write!(f, "{name}:***@")?,
                None => write!(f, "{user}@")?,
            }
        }
        f.write_str(host)?;
        for (idx, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
            let separator = if idx == 0 { '?' } else { '&' };
            match parameter.split_once('=') {
                Some((name, _)) if name.to_lowercase().contains("pass") => {
                    write!(f, "{separator}{name}=***")?
                }
                _ => write!(f, "{separator}{parameter}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

impl Leaf for ServerUrl {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        Self::parse(text(value)?)
    }
    fn kind() -> String {
        "URL".to_owned()
    }
    fn allowed() -> String {
        "a URL such as \"redis://127.0.0.1:6379\" or \"postgres://bongsu@127.0.0.1/bongsu\"".to_owned()
    }
    fn show(&self) -> String {
        toml::Value::from(self.to_string()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:secret@host", "redis://:***@host"),
            (
                "postgres://me:p@ss:word@host/db?x=1&password=secret",
                "postgres://me:***@host/db?x=1&password=***",
            ),
            ("rediss://me@host/0?a", "rediss://me@host/0?a"),
        ] {
            let url = ServerUrl::parse(url).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in ["", "host", "://host", "redis://", "re dis://host", "redis://ho st"] {
            assert_eq!(ServerUrl::parse(text), None, "{text}");
        }
    }
}
