//! A path of the port of clients that something is served at.

use super::value::Item;

/// First levels of paths that the broker serves itself, on this port or on the administrators'.
const OWN: [&str; 6] = ["v1", "livez", "healthz", "readyz", "metrics", "admin"];

/// Where a protocol is served: `/stomp`, `/chat/ws`. Below it the protocol decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// The path, with its first slash and without a last one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Item for PathPrefix {
    const PLURAL: &'static str = "paths such as \"/stomp\" or \"/chat/ws\", of letters, digits, `-` and `_`, none of them the broker's own";
    fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix('/')?;
        let is_level = |level: &str| {
            !level.is_empty()
                && level.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let is_own = path.split('/').next().is_some_and(|level| OWN.contains(&level));
        (!is_own && path.split('/').all(is_level)).then(|| Self(text.to_owned()))
    }
    fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_path_that_nothing_else_has() {
        for good in ["/stomp", "/ws", "/chat/ws-2", "/a_b/C"] {
            assert_eq!(PathPrefix::parse(good).map(|prefix| prefix.0).as_deref(), Some(good));
        }
        for bad in
            ["", "/", "stomp", "/stomp/", "//ws", "/page.js", "/v1/ws", "/metrics", "/{x}", "/a b", "/봉"]
        {
            assert_eq!(PathPrefix::parse(bad), None, "{bad}");
        }
    }
}
