//! Who asks, and whether it is the one who began the session.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bongsu_protocol::command;
use bongsu_protocol::reason::Goodbye;
use bongsu_protocol::sockjs::{Callback, InvalidCallback};

use crate::auth::{self, Identity};
use crate::node::Node;
use crate::websocket::handshake::{Token, percent_decode};

/// Who sent a request.
pub(super) struct Caller {
    /// Who it is, or why it may not even connect: then its session says so, since pages see no status.
    pub(super) identity: Result<Arc<Identity>, Goodbye>,
    /// Whom the session belongs to.
    pub(super) principal: Principal,
    /// Where it comes from.
    pub(super) peer: SocketAddr,
}

/// Whom a session belongs to: requests of others do not find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// Whoever has a token of this subject.
    Subject(String),
    /// Whoever comes from this address without a token.
    Address(IpAddr),
    /// Whoever comes without a token.
    Anybody,
}

impl Caller {
    pub(super) async fn new(node: &Node, token: Option<&Token>, peer: SocketAddr) -> Self {
        let identity = identify(node, token).await;
        let sockjs = &node.settings().sockjs;
        let principal = match &identity {
            Ok(identity) if !identity.subject().is_empty() => {
                Principal::Subject(identity.subject().to_owned())
            }
            _ if sockjs.pin_address => Principal::Address(peer.ip().to_canonical()),
            _ => Principal::Anybody,
        };
        Self { identity, principal, peer }
    }
}

/// Who the bearer of a token is.
pub(super) async fn identify(node: &Node, token: Option<&Token>) -> Result<Arc<Identity>, Goodbye> {
    match token {
        // Without one it may authenticate in its first request.
        None => Ok(Arc::clone(node.authenticator().anonymous())),
        Some(token) => node.verify(&command::Token(token.text.clone())).await.map_err(auth::goodbye),
    }
}

/// The parameter that names the page's function.
pub(super) fn callback(query: Option<&str>) -> Result<Callback, InvalidCallback> {
    let mut parameters = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = parameters.find(|(name, _)| matches!(*name, "c" | "callback")).map(|(_, value)| value);
    // What is no text is no name.
    let decoded = value.map(|value| percent_decode(value).unwrap_or_else(|| "%".to_owned()));
    Callback::parse(decoded.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    // SJ-25
    #[test]
    fn a_callback_is_decoded_before_it_is_judged() {
        let name = |query| callback(Some(query)).map(|callback| callback.as_str().to_owned());
        assert_eq!(name("t=1&c=%63allback"), Ok("callback".to_owned()));
        assert_eq!(name("callback=f.g"), Ok("f.g".to_owned()));
        assert_eq!(name("t=1"), Err(InvalidCallback::Missing));
        for bad in ["c=%20", "c=*", "c=abc(", "c=abc%28", "c=%ff"] {
            assert_eq!(name(bad), Err(InvalidCallback::Invalid), "{bad}");
        }
    }
}
