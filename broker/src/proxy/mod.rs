//! Proxies before this node: which are believed, and what they tell of clients.
//!
//! A proxy is believed for its address (`proxy.trusted`) and for nothing else. What anybody else sends, a client among them, is ignored:
//! whoever could say where it comes from would have the limits, the logs and the pins of any address it likes.
//!
//! | module | what it reads |
//! |---|---|
//! | `forwarded` | `Forwarded` (RFC 7239) and `X-Forwarded-For`, for each request |
//! | `header` | the header of the PROXY protocol, versions 1 and 2, once for each connection |
//!
//! Both tell of the *connection's* other end, so they work together: a balancer of TCP that speaks the PROXY protocol may stand before proxies
//! of HTTP that send headers.

mod forwarded;
mod header;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::{Forwarding, Network, Port, Settings};
use crate::limits::PROXY_HEADER_TIMEOUT;
use crate::peers::Source;

pub use header::Invalid;
use header::Step;

/// Which proxies are believed, and how they tell of clients. One for each node.
#[derive(Debug)]
pub struct Proxies {
    trusted: Vec<Network>,
    headers: Forwarding,
    /// Ports on which they speak the PROXY protocol.
    ports: Vec<Port>,
}

/// Why a connection of a trusted proxy does not begin: close it.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// What it began with is no header of the PROXY protocol: the proxy is not set up for it.
    #[error("it does not begin with the PROXY protocol: {0}")]
    Invalid(#[from] Invalid),
    /// The header did not come in time.
    #[error("no header of the PROXY protocol came within {0:?}")]
    TooLate(Duration),
    /// It ended before.
    #[error("the connection ended within the header of the PROXY protocol")]
    Gone(#[from] std::io::Error),
}

impl Proxies {
    /// Takes what the settings say of proxies.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let proxy = &settings.proxy;
        Self { trusted: proxy.trusted.clone(), headers: proxy.headers, ports: proxy.protocol.clone() }
    }

    /// Whether this is the address of a proxy that is believed.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Whether connections from this address to this port must begin with the PROXY protocol. Those of others must not: on whatever such a
    /// port speaks, it is no beginning.
    #[must_use]
    pub fn introduces(&self, port: Port, address: SocketAddr) -> bool {
        self.ports.contains(&port) && self.trusts(address.ip())
    }

    /// Whether connections from this address carry requests of many clients, each of which the proxy tells in the request's headers.
    #[must_use]
    pub fn carries_others(&self, source: Source) -> bool {
        self.headers != Forwarding::None && self.trusts(source.address.ip())
    }

    /// Reads the header of the PROXY protocol, and no byte of what follows. `source` is the connection as the kernel knows it, and as this
    /// node speaks to it.
    ///
    /// # Errors
    /// Each of [`NotTold`]: close the connection without an answer, since nothing is known of what its other end speaks.
    pub async fn read_introduction<T: AsyncRead + Unpin>(
        &self,
        stream: &mut T,
        source: Source,
    ) -> Result<Source, NotTold> {
        match tokio::time::timeout(PROXY_HEADER_TIMEOUT, read_header(stream)).await {
            Ok(told) => Ok(match told? {
                None => source,
                Some(told) => {
                    let is_tls = source.is_tls || told.is_tls;
                    Source { address: told.address, is_tls, is_told: true }
                }
            }),
            Err(_) => Err(NotTold::TooLate(PROXY_HEADER_TIMEOUT)),
        }
    }

    /// Where a request comes from, by its headers if the connection is a trusted proxy's: the last address that is no such proxy's. `source`
    /// is the connection.
    #[must_use]
    pub fn source(&self, source: Source, headers: &HeaderMap) -> Source {
        if !self.carries_others(source) {
            return source;
        }
        match self.headers {
            Forwarding::None => source,
            Forwarding::Forwarded => forwarded::by_forwarded(source, headers, |address| self.trusts(address)),
            Forwarding::XForwardedFor => {
                forwarded::by_x_forwarded_for(source, headers, |address| self.trusts(address))
            }
        }
    }
}

/// Reads exactly the header.
async fn read_header<T: AsyncRead + Unpin>(stream: &mut T) -> Result<Option<header::Told>, NotTold> {
    let mut bytes = Vec::new();
    loop {
        match header::step(&bytes)? {
            Step::Told(told) => return Ok(told),
            Step::Needs(n_bytes) => {
                let begin = bytes.len();
                bytes.resize(begin + n_bytes, 0);
                stream.read_exact(&mut bytes[begin..]).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn proxies(headers: Forwarding) -> Proxies {
        let trusted = ["10.0.0.0/8", "2001:db8::7"].map(|text| Network::parse(text).expect("a network"));
        Proxies { trusted: trusted.into(), headers, ports: vec![Port::Clients] }
    }

    fn from(address: &str) -> Source {
        Source::direct(address.parse().expect("an address"), false)
    }

    fn told(headers: Forwarding, connection: &str, lines: &[(&'static str, &str)]) -> (String, bool) {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().expect("a value"));
        }
        let source = proxies(headers).source(from(connection), &map);
        (source.address.ip().to_string(), source.is_tls)
    }

    #[test]
    fn headers_of_anybody_but_a_trusted_proxy_are_ignored() {
        for (headers, line) in [
            (Forwarding::XForwardedFor, ("x-forwarded-for", "192.0.2.1")),
            (Forwarding::Forwarded, ("forwarded", "for=192.0.2.1")),
        ] {
            assert_eq!(told(headers, "203.0.113.5:1", &[line]).0, "203.0.113.5");
            assert_eq!(told(headers, "10.0.0.1:1", &[line]).0, "192.0.2.1");
            assert_eq!(told(Forwarding::None, "10.0.0.1:1", &[line]).0, "10.0.0.1");
        }
        // Nor those that are not the ones the operator named.
        assert_eq!(
            told(Forwarding::Forwarded, "10.0.0.1:1", &[("x-forwarded-for", "192.0.2.1")]).0,
            "10.0.0.1"
        );
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_counts() {
        let check = |line: &str, expected: &str| {
            let (address, _) = told(Forwarding::XForwardedFor, "10.0.0.1:1", &[("x-forwarded-for", line)]);
            assert_eq!(address, expected, "{line}");
        };
        check("192.0.2.1, 198.51.100.2, 10.9.9.9", "198.51.100.2");
        check("198.51.100.2:4711", "198.51.100.2");
        check("[2001:db8::1]:4711, 2001:db8::7", "2001:db8::1");
        check("2001:db8::1", "2001:db8::1");
        check("10.0.0.7, 10.0.0.8", "10.0.0.7");
        // What is no address hides what stands before it, which anybody may have written.
        check("192.0.2.1, unknown", "10.0.0.1");
        check("192.0.2.1, , 10.0.0.2", "10.0.0.2");
        check("", "10.0.0.1");
    }

    #[test]
    fn an_address_that_was_told_is_never_this_machine() {
        let mut headers = HeaderMap::new();
        let mut proxies = proxies(Forwarding::XForwardedFor);
        proxies.trusted.push(Network::parse("127.0.0.1").expect("a network"));
        let local = from("127.0.0.1:1");
        assert!(proxies.source(local, &headers).is_this_machine());
        for told in ["127.0.0.1", "nonsense", "127.0.0.2"] {
            headers.insert("x-forwarded-for", told.parse().expect("a value"));
            assert!(!proxies.source(local, &headers).is_this_machine(), "{told}");
        }
    }

    async fn introduced(bytes: &[u8]) -> (Result<Source, NotTold>, Vec<u8>) {
        let (mut proxy, mut node) = tokio::io::duplex(1 << 10);
        proxy.write_all(bytes).await.expect("there is room");
        drop(proxy);
        let told = proxies(Forwarding::None).read_introduction(&mut node, from("10.0.0.1:1")).await;
        let mut rest = Vec::new();
        let _ = node.read_to_end(&mut rest).await;
        (told, rest)
    }

    #[tokio::test]
    async fn an_introduction_is_read_and_nothing_behind_it() {
        let (told, rest) = introduced(b"PROXY TCP4 192.0.2.1 10.0.0.9 4711 80\r\nGET / HTTP/1.1\r\n").await;
        assert_eq!(told.expect("it is whole").address, "192.0.2.1:4711".parse().unwrap());
        assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        let mut second = header::SIGNATURE.to_vec();
        second.extend_from_slice(&[0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 9, 0x12, 0x67, 0, 80]);
        second.extend_from_slice(b"rest");
        let (told, rest) = introduced(&second).await;
        assert_eq!(told.expect("it is whole").address, "192.0.2.1:4711".parse().unwrap());
        assert_eq!(rest, b"rest");
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_its_introduction_is_gone() {
        let (told, _) = introduced(b"PROXY TCP4 192.0.2.1").await;
        assert!(matches!(told, Err(NotTold::Gone(_))), "{told:?}");
        let (told, _) = introduced(b"GET / HTTP/1.1\r\n").await;
        assert!(matches!(told, Err(NotTold::Invalid(_))), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_introduction_that_does_not_come_in_time_is_not_waited_for() {
        let (mut proxy, mut node) = tokio::io::duplex(1 << 10);
        proxy.write_all(b"PROXY TCP4 ").await.expect("there is room");
        let told = proxies(Forwarding::None).read_introduction(&mut node, from("10.0.0.1:1")).await;
        assert!(matches!(told, Err(NotTold::TooLate(_))), "{told:?}");
    }
}
