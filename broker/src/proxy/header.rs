//! The header of the PROXY protocol, versions 1 and 2, as <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt> has it.
//!
//! Written here since it is small, and since the one thing that matters is what parsers of whole buffers leave to their callers: to take exactly
//! the header's bytes off the socket, and never more than a bound. So it says at each step how many bytes may be read next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What a header of version 2 begins with.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 2 before its addresses.
const FIXED: usize = SIGNATURE.len() + 4;

/// What a header of version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// Bytes of the shortest header of version 1, `PROXY UNKNOWN` and the end of the line.
const LINE_MIN: usize = 15;

/// Bytes of the longest, with two IPv6 addresses.
const LINE_MAX: usize = 107;

/// What a proxy tells of a connection's other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) address: SocketAddr,
    /// Whether the client spoke TLS to the proxy.
    pub(super) is_tls: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Read so many more bytes, one at least: they are of the header, if it is one.
    Needs(usize),
    /// The header is whole. Without an address, the connection is the proxy's own, such as a check of its health, or of a kind that has none.
    Told(Option<Told>),
}

/// Why bytes are no header of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// They begin otherwise.
    #[error("it begins with something else")]
    Beginning,
    /// A header of version 1 that does not follow the grammar.
    #[error("its line is none of version 1")]
    Line,
    /// A header of version 2 with a version, command or family that there is not, or too short for its addresses.
    #[error("its fields are none of version 2")]
    Fields,
    /// A header of version 2 that is longer than any that this node takes.
    #[error("it is longer than {PROXY_HEADER_BYTES_MAX} bytes")]
    TooLong,
}

/// Looks at what was read so far. To be called with each step's bytes added, and with none at first.
pub(super) fn step(bytes: &[u8]) -> Result<Step, Invalid> {
    let begins_as = |word: &[u8]| word.starts_with(&bytes[..bytes.len().min(word.len())]);
    if begins_as(&SIGNATURE) {
        // As many as both versions have at least.
        return match bytes.len().checked_sub(SIGNATURE.len()) {
            None => Ok(Step::Needs(SIGNATURE.len() - bytes.len())),
            Some(_) => binary_step(bytes),
        };
    }
    if begins_as(WORD) { line_step(bytes) } else { Err(Invalid::Beginning) }
}

fn line_step(bytes: &[u8]) -> Result<Step, Invalid> {
    match bytes {
        [line @ .., b'\r', b'\n'] => line_told(line).map(Step::Told),
        [.., b'\n'] => Err(Invalid::Line),
        _ if bytes.len() < LINE_MIN => Ok(Step::Needs(LINE_MIN - bytes.len())),
        // One by one, so that nothing is taken of what follows.
        _ if bytes.len() < LINE_MAX => Ok(Step::Needs(1)),
        _ => Err(Invalid::Line),
    }
}

fn line_told(line: &[u8]) -> Result<Option<Told>, Invalid> {
    let line = std::str::from_utf8(line).map_err(|_| Invalid::Line)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(Invalid::Line)?;
    if family == "UNKNOWN" {
        // Whatever else stands there is to be ignored.
        return Ok(None);
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else { return Err(Invalid::Line) };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |text: &str| -> Option<u16> {
        let is_plain = text == "0" || (!text.starts_with(['0', '+']));
        text.parse().ok().filter(|_| is_plain)
    };
    let told = || {
        address(destination)?;
        port(destination_port)?;
        Some(Told {
            address: SocketAddr::new(address(source)?.to_canonical(), port(source_port)?),
            is_tls: false,
        })
    };
    told().map(Some).ok_or(Invalid::Line)
}

fn binary_step(bytes: &[u8]) -> Result<Step, Invalid> {
    let Some((fixed, body)) = bytes.split_at_checked(FIXED) else {
        return Ok(Step::Needs(FIXED - bytes.len()));
    };
    let n_bytes = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED + n_bytes > PROXY_HEADER_BYTES_MAX {
        return Err(Invalid::TooLong);
    }
    match n_bytes.checked_sub(body.len()) {
        Some(0) => binary_told(fixed[12], fixed[13], body).map(Step::Told),
        Some(n_missing) => Ok(Step::Needs(n_missing)),
        None => Err(Invalid::Fields),
    }
}

fn binary_told(command: u8, family: u8, body: &[u8]) -> Result<Option<Told>, Invalid> {
    match command {
        0x21 => {}
        // LOCAL: the proxy's own connection, whatever else is said.
        0x20 => return Ok(None),
        _ => return Err(Invalid::Fields),
    }
    let port = |at: usize| Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?));
    let (told, n_bytes) = match family {
        0x11 => {
            let address = body.first_chunk::<4>().map(|bytes| IpAddr::V4(Ipv4Addr::from(*bytes)));
            (address.zip(port(8)), 12)
        }
        0x21 => {
            let address = body.first_chunk::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes)));
            (address.zip(port(32)), 36)
        }
        // Neither says where the client is: unspecified, and sockets of the proxy's machine.
        0x00 | 0x31 => return Ok(None),
        _ => return Err(Invalid::Fields),
    };
    let (address, port) = told.ok_or(Invalid::Fields)?;
    let fields = body.get(n_bytes..).ok_or(Invalid::Fields)?;
    Ok(Some(Told { address: SocketAddr::new(address.to_canonical(), port), is_tls: says_tls(fields)? }))
}

/// Whether the further fields, each a kind, a length and a value, tell of TLS (2.2.6: `PP2_TYPE_SSL` with `PP2_CLIENT_SSL`).
fn says_tls(mut fields: &[u8]) -> Result<bool, Invalid> {
    let mut says_tls = false;
    while let [kind, high, low, rest @ ..] = fields {
        let (value, next) =
            rest.split_at_checked(u16::from_be_bytes([*high, *low]).into()).ok_or(Invalid::Fields)?;
        says_tls |= *kind == 0x20 && value.first().is_some_and(|flags| flags & 1 == 1);
        fields = next;
    }
    if fields.is_empty() { Ok(says_tls) } else { Err(Invalid::Fields) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Steps through bytes as a reader would; what was told, and how many bytes were taken.
    fn read(bytes: &[u8]) -> Result<(Option<Told>, usize), Option<Invalid>> {
        let mut n_bytes = 0;
        loop {
            match step(&bytes[..n_bytes]).map_err(Some)? {
                Step::Told(told) => return Ok((told, n_bytes)),
                Step::Needs(more) => {
                    assert!(more > 0);
                    n_bytes += more;
                    assert!(n_bytes <= PROXY_HEADER_BYTES_MAX, "no more than the bound is ever asked for");
                    // The connection ended.
                    if n_bytes > bytes.len() {
                        return Err(None);
                    }
                }
            }
        }
    }

    fn second(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn address_of(bytes: &[u8]) -> Option<String> {
        read(bytes).expect("a header").0.map(|told| told.address.to_string())
    }

    #[test]
    fn lines_of_version_1_are_taken_as_the_specification_writes_them() {
        assert_eq!(
            address_of(b"PROXY TCP4 255.255.255.255 10.0.0.1 65535 443\r\n").as_deref(),
            Some("255.255.255.255:65535")
        );
        assert_eq!(address_of(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n").as_deref(), Some("[2001:db8::1]:1"));
        assert_eq!(address_of(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(address_of(b"PROXY UNKNOWN ffff:f:f 1 2 whatever\r\n"), None);
        for bad in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 01 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            "PROXY TCP4 192.0.2.1  10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n",
            "PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n",
        ] {
            assert_eq!(read(bad.as_bytes()), Err(Some(Invalid::Line)), "{bad}");
        }
        let long = format!("PROXY TCP4 {}", "1".repeat(LINE_MAX));
        assert_eq!(read(long.as_bytes()), Err(Some(Invalid::Line)));
        for other in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n",
            b"proxy TCP4 1.1.1.1 ",
            b"\r\n\r\nCONNECT\n.....",
        ] {
            assert_eq!(read(other), Err(Some(Invalid::Beginning)));
        }
    }

    #[test]
    fn headers_of_version_2_are_taken_with_their_fields() {
        let four = [192, 0, 2, 1, 10, 0, 0, 9, 0x12, 0x67, 0, 80];
        assert_eq!(address_of(&second(0x21, 0x11, &four)).as_deref(), Some("192.0.2.1:4711"));
        let mut six = [0; 36];
        six[..2].copy_from_slice(&[0x20, 1]);
        six[32..34].copy_from_slice(&[0, 7]);
        assert_eq!(address_of(&second(0x21, 0x21, &six)).as_deref(), Some("[2001::]:7"));
        // A check of the proxy's own, and connections without an address.
        for (command, family) in [(0x20, 0x00), (0x20, 0x11), (0x21, 0x00), (0x21, 0x31)] {
            assert_eq!(address_of(&second(command, family, &four)), None);
        }
        let with = |field: &[u8]| read(&second(0x21, 0x11, &[&four[..], field].concat()));
        let is_tls = |field: &[u8]| with(field).map(|(told, _)| told.expect("an address").is_tls);
        assert_eq!(is_tls(&[0x20, 0, 5, 1, 0, 0, 0, 0]), Ok(true));
        assert_eq!(is_tls(&[0x20, 0, 5, 0, 0, 0, 0, 1]), Ok(false));
        assert_eq!(is_tls(&[0x05, 0, 1, 9, 0x20, 0, 1, 1]), Ok(true));
        assert_eq!(with(&[0x20, 0, 9, 1]), Err(Some(Invalid::Fields)));
        assert_eq!(with(&[0x20]), Err(Some(Invalid::Fields)));
        for (command, family, body) in
            [(0x11, 0x11, &four[..]), (0x22, 0x11, &four), (0x21, 0x12, &four), (0x21, 0x11, &four[..11])]
        {
            assert_eq!(read(&second(command, family, body)), Err(Some(Invalid::Fields)));
        }
        let long = vec![0; PROXY_HEADER_BYTES_MAX];
        assert_eq!(read(&second(0x21, 0x11, &long)), Err(Some(Invalid::TooLong)));
    }

    proptest! {
        /// Any bytes end it, within its bound and without a panic.
        #[test]
        fn any_bytes_are_a_header_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind in 0..3) {
            let bytes = match kind {
                0 => bytes,
                1 => [WORD, &bytes[..]].concat(),
                _ => [&SIGNATURE[..], &bytes[..]].concat(),
            };
            let _ = read(&bytes);
        }

        /// What one writes, the other reads, and leaves what follows.
        #[test]
        fn a_header_is_read_back_and_nothing_behind_it(
            address in any::<[u8; 16]>(), port in any::<u16>(), is_six in any::<bool>(), rest in any::<Vec<u8>>(),
        ) {
            let ip = if is_six { IpAddr::V6(address.into()) } else { IpAddr::from(*address.first_chunk::<4>().expect("16")) };
            let told = Told { address: SocketAddr::new(ip.to_canonical(), port), is_tls: false };
            let family = if is_six { "TCP6" } else { "TCP4" };
            let line = format!("PROXY {family} {ip} {ip} {port} 80\r\n").into_bytes();
            let body = match ip {
                IpAddr::V4(ip) => [&ip.octets()[..], &[0; 4], &port.to_be_bytes(), &[0; 2]].concat(),
                IpAddr::V6(ip) => [&ip.octets()[..], &[0; 16], &port.to_be_bytes(), &[0; 2]].concat(),
            };
            for header in [line, second(0x21, if is_six { 0x21 } else { 0x11 }, &body)] {
                let bytes = [&header[..], &rest].concat();
                prop_assert_eq!(read(&bytes), Ok((Some(told), header.len())));
            }
        }
    }
}
