//! How a node proves, with each request, that it is one of the cluster: HMAC-SHA256 (RFC 2104) with the secret that all nodes share.
//!
//! Signed are the method, the path with its query and every header but the signature and `content-length`, which the HTTP library adds. Among
//! the headers are who sends the request, who is to take it, when, and its number. The body is not signed: it streams.

use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName, Method, header};
use sha2::Sha256;

/// The process that sends the request: [`Identity::incarnation`](crate::cluster::Identity::incarnation).
pub(super) const FROM: HeaderName = HeaderName::from_static("bongsu-peer-from");
/// The process that is to take it. Nobody else does: its address may be another's by now.
pub(super) const TO: HeaderName = HeaderName::from_static("bongsu-peer-to");
/// Which of its sender's requests it is, from 1. None is taken twice.
pub(super) const NUMBER: HeaderName = HeaderName::from_static("bongsu-peer-number");
/// When, in milliseconds since 1970 by the sender's clock.
pub(super) const TIME: HeaderName = HeaderName::from_static("bongsu-peer-time");
/// Where the client is, as the sender saw it.
pub(super) const SOURCE: HeaderName = HeaderName::from_static("bongsu-peer-source");
/// The request has no body of its own: the end of the one that it comes with asks for it back.
pub(super) const HELD: HeaderName = HeaderName::from_static("bongsu-peer-held");
/// The request is the sender's own question, and none of a client.
pub(super) const ASKS: HeaderName = HeaderName::from_static("bongsu-peer-asks");
/// The proof, in hexadecimal.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("bongsu-peer-signature");
/// In an answer: a node's own proof, or that it refused the request.
pub(super) const ANSWER: HeaderName = HeaderName::from_static("bongsu-peer-answer");

/// What all headers between nodes begin with. Clients cannot send them on.
pub(super) const PREFIX: &str = "bongsu-peer-";

/// The secret that all nodes share.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Box<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What a request says of itself that is signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a Method,
    pub(super) path_and_query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Secret {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The proof of a request, in hexadecimal.
    pub(super) fn sign(&self, request: Signed<'_>) -> String {
        hex(&self.of_request(request).finalize().into_bytes())
    }

    /// Whether a proof is that of the request. Takes the same time for every wrong one.
    pub(super) fn verify(&self, request: Signed<'_>, signature: &[u8]) -> bool {
        unhex(signature).is_some_and(|bytes| self.of_request(request).verify_slice(&bytes).is_ok())
    }

    /// What a node answers to an introduction, to prove itself: it takes the secret, and knows the very request.
    pub(super) fn answer(&self, signature: &[u8]) -> String {
        hex(&self.of_answer(signature).finalize().into_bytes())
    }

    /// Whether a node's answer to an introduction with that signature is good.
    pub(super) fn verify_answer(&self, signature: &[u8], answer: &[u8]) -> bool {
        unhex(answer).is_some_and(|bytes| self.of_answer(signature).verify_slice(&bytes).is_ok())
    }

    fn of_request(&self, request: Signed<'_>) -> Hmac<Sha256> {
        let mut mac = self.begin(b"bongsu request 1");
        put(&mut mac, request.method.as_str().as_bytes());
        put(&mut mac, request.path_and_query.as_bytes());
        let signed = |name: &HeaderName| *name != SIGNATURE && *name != header::CONTENT_LENGTH;
        let mut headers: Vec<_> = request.headers.iter().filter(|(name, _)| signed(name)).collect();
        // Stable: values of one name stay in their order, which the protocol keeps; names have none.
        headers.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in headers {
            put(&mut mac, name.as_str().as_bytes());
            put(&mut mac, value.as_bytes());
        }
        mac
    }

    fn of_answer(&self, signature: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.begin(b"bongsu answer 1");
        put(&mut mac, signature);
        mac
    }

    /// What is signed for one purpose says nothing for another.
    fn begin(&self, purpose: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        put(&mut mac, purpose);
        mac
    }
}

/// Each part with its length before it, so that no two lists of parts look the same.
fn put(mac: &mut Hmac<Sha256>, part: &[u8]) {
    mac.update(&(part.len() as u64).to_be_bytes());
    mac.update(part);
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn signed(headers: &HeaderMap) -> Signed<'_> {
        Signed { method: &Method::POST, path_and_query: "/a?b", headers }
    }

    #[test]
    fn every_part_of_a_request_is_signed_but_not_its_length() {
        let secret = Secret::new(b"secret");
        let original = headers(&[("cookie", "a"), ("origin", "https://a.example"), ("content-length", "3")]);
        let signature = secret.sign(signed(&original));
        assert!(secret.verify(signed(&original), signature.as_bytes()));
        let reordered = headers(&[("origin", "https://a.example"), ("cookie", "a")]);
        assert!(secret.verify(signed(&reordered), signature.as_bytes()), "names have no order");
        for changed in [
            headers(&[("cookie", "b"), ("origin", "https://a.example")]),
            headers(&[("cookie", "a")]),
            headers(&[("cookie", "a"), ("origin", "https://a.example"), ("authorization", "x")]),
            headers(&[("cookie", "ao"), ("origin", "https://a.example")]),
        ] {
            assert!(!secret.verify(signed(&changed), signature.as_bytes()), "{changed:?}");
        }
        let other_path = Signed { path_and_query: "/a?c", ..signed(&original) };
        assert!(!secret.verify(other_path, signature.as_bytes()));
        let other_method = Signed { method: &Method::GET, ..signed(&original) };
        assert!(!secret.verify(other_method, signature.as_bytes()));
        assert!(!Secret::new(b"Secret").verify(signed(&original), signature.as_bytes()));
    }

    #[test]
    fn values_cannot_move_from_one_header_to_the_next() {
        let secret = Secret::new(b"secret");
        let one = headers(&[("a", "bc"), ("d", "e")]);
        let other = headers(&[("a", "b"), ("cd", "e")]);
        assert_ne!(secret.sign(signed(&one)), secret.sign(signed(&other)));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let secret = Secret::new(b"secret");
        let none = HeaderMap::new();
        let good = secret.sign(signed(&none));
        for bad in ["", "0", "zz", &good[2..], &format!("{good}00")] {
            assert!(!secret.verify(signed(&none), bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn answer_is_to_one_introduction_and_no_signature_of_anything_else() {
        let secret = Secret::new(b"secret");
        let answer = secret.answer(b"one");
        assert!(secret.verify_answer(b"one", answer.as_bytes()));
        assert!(!secret.verify_answer(b"two", answer.as_bytes()));
        assert!(!secret.verify_answer(b"one", b"one"));
    }
}
