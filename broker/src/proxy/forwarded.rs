//! Headers in which proxies tell of the client before them, read from the last entry: the one that the nearest proxy wrote.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use crate::peers::Source;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// By `X-Forwarded-For` and `X-Forwarded-Proto`. Of the second, the entry as far from the end as the address that counts, or the first one
/// where there are fewer, since many proxies tell only of the first scheme.
pub(super) fn by_x_forwarded_for(
    source: Source,
    headers: &HeaderMap,
    trusts: impl Fn(IpAddr) -> bool,
) -> Source {
    if !headers.contains_key(X_FORWARDED_FOR) {
        return source;
    }
    let mut counting = Source { is_told: true, ..source };
    let mut n_hops = 0;
    for entry in from_the_end(headers, &X_FORWARDED_FOR) {
        let Some(address) = node(entry) else { break };
        counting.address = address;
        n_hops += 1;
        if !trusts(address.ip()) {
            break;
        }
    }
    if let Some(scheme) = from_the_end(headers, &X_FORWARDED_PROTO).take(n_hops).last() {
        counting.is_tls = scheme.eq_ignore_ascii_case("https");
    }
    counting
}

/// By `Forwarded` (RFC 7239): `for` and `proto` of the same element.
pub(super) fn by_forwarded(source: Source, headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Source {
    if !headers.contains_key(header::FORWARDED) {
        return source;
    }
    let mut counting = Source { is_told: true, ..source };
    for line in headers.get_all(header::FORWARDED).iter().rev() {
        // A line with a mistake may mean anything, whoever wrote which part of it; so may those before it.
        let Some(elements) = line.to_str().ok().and_then(elements) else { return counting };
        for element in elements.into_iter().rev() {
            let Some(address) = element.client.as_deref().and_then(node) else { return counting };
            counting.address = address;
            if let Some(is_tls) = element.is_tls {
                counting.is_tls = is_tls;
            }
            if !trusts(address.ip()) {
                return counting;
            }
        }
    }
    counting
}

/// The entries of a header that is a list, the last first, whatever lines they stand on.
fn from_the_end<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    // A line that is no text is an entry that is no address.
    let lines = headers.get_all(name).iter().rev().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(|line| line.rsplit(',')).map(str::trim)
}

/// An address, with a port or without: then the port is 0.
fn node(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address.to_canonical(), 0));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(address) => Some(SocketAddr::new(IpAddr::V6(address.parse().ok()?).to_canonical(), 0)),
        None => {
            let address: SocketAddr = text.parse().ok()?;
            Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
        }
    }
}

/// What one proxy tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    client: Option<String>,
    is_tls: Option<bool>,
}

/// The elements of one line (RFC 7239, 4); `None` if it does not follow the grammar.
fn elements(line: &str) -> Option<Vec<Element>> {
    let mut elements = vec![Element::default()];
    let mut rest = line.trim_matches([' ', '\t']);
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        let element = elements.last_mut().expect("it begins with one");
        if !is_token(name) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") {
            // Twice within one element says nothing that could be believed.
            if element.client.replace(value).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case("proto") {
            element.is_tls = Some(value.eq_ignore_ascii_case("https"));
        }
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.split_at_checked(1) {
            None => return Some(elements),
            Some((";", next)) => next.trim_start_matches([' ', '\t']),
            Some((",", next)) => {
                elements.push(Element::default());
                next.trim_start_matches([' ', '\t'])
            }
            Some(_) => return None,
        };
    }
}

/// A token or a quoted text (RFC 9110, 5.6.4), and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        return is_token(token).then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(char),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn direct() -> Source {
        Source::direct("10.0.0.1:1".parse().expect("an address"), false)
    }

    fn is_proxy(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
    }

    fn by_lines(lines: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::FORWARDED, line.parse().expect("a value"));
        }
        let source = by_forwarded(direct(), &headers, is_proxy);
        (source.address.ip().to_string(), source.is_tls)
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let check = |line: &str, address: &str, is_tls| {
            assert_eq!(by_lines(&[line]), (address.to_owned(), is_tls), "{line}");
        };
        check("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60", false);
        check("For=\"[2001:db8:cafe::17]:4711\"; Proto=HTTPS", "2001:db8:cafe::17", true);
        check("for=192.0.2.43, for=198.51.100.17;proto=https", "198.51.100.17", true);
        check("for=192.0.2.43;proto=https, for=10.0.0.7;proto=http", "192.0.2.43", true);
        check("for=\"192.0.2.43:47011\"", "192.0.2.43", false);
        check("proto=https;for=\"192.0.2.\\43\"", "192.0.2.43", true);
        // Nothing before what is no address, or no element, is believed.
        for bad in [
            "for=192.0.2.43, for=unknown",
            "for=192.0.2.43, for=_hidden",
            "for=192.0.2.43, by=10.0.0.7",
            "for=192.0.2.43, for=\"10.0.0.7",
            "for=192.0.2.43;for=192.0.2.44",
            "for=192.0.2.43,",
            "for=2001:db8::1",
            "for",
            "",
        ] {
            check(bad, "10.0.0.1", false);
        }
    }

    #[test]
    fn what_a_client_wrote_on_a_line_of_its_own_does_not_spoil_the_proxys() {
        assert_eq!(by_lines(&["for=\"broken", "for=192.0.2.43"]).0, "192.0.2.43");
        assert_eq!(by_lines(&["for=192.0.2.43", "for=10.0.0.7"]).0, "192.0.2.43");
    }

    #[test]
    fn the_scheme_is_that_of_the_address_that_counts() {
        let check = |clients: &str, schemes: &str, is_tls| {
            let mut headers = HeaderMap::new();
            headers.insert(X_FORWARDED_FOR, clients.parse().expect("a value"));
            headers.insert(X_FORWARDED_PROTO, schemes.parse().expect("a value"));
            assert_eq!(
                by_x_forwarded_for(direct(), &headers, is_proxy).is_tls,
                is_tls,
                "{clients} {schemes}"
            );
        };
        check("192.0.2.1", "https", true);
        check("192.0.2.1", "http", false);
        check("192.0.2.1", "https, http", false);
        check("192.0.2.1, 10.0.0.7", "https, http", true);
        check("192.0.2.1, 10.0.0.7", "https", true);
    }

    proptest! {
        /// Whatever a client writes, what the nearest proxy wrote behind it counts, or at worst the proxy itself: never what the client says.
        #[test]
        fn a_client_cannot_choose_its_address(line in "[ -~]{0,80}") {
            for written in [format!("{line}, for=198.51.100.9"), line.clone()] {
                prop_assume!(!line.contains("192.0.2."));
                let (address, _) = by_lines(&[&format!("for=192.0.2.1, {written}, for=203.0.113.3")]);
                prop_assert!(["203.0.113.3", "10.0.0.1"].contains(&address.as_str()), "{address}");
            }
            let mut headers = HeaderMap::new();
            headers.insert(X_FORWARDED_FOR, format!("{line}, 203.0.113.3").parse().expect("a value"));
            prop_assert_eq!(by_x_forwarded_for(direct(), &headers, is_proxy).address.ip().to_string(), "203.0.113.3");
        }
    }
}
