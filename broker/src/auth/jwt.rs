//! The envelope of a JSON Web Token (RFC 7519) in the compact serialization of RFC 7515: read strictly, and believed in nothing.
//!
//! The envelope is read here and the signature checked by ring, which does the same for TLS. The JWT libraries would bring a second
//! cryptography into the process: `jsonwebtoken` 10 and 11 take either aws-lc, built from C, or the crate `rsa`, with RUSTSEC-2023-0071
//! open; 9, the last one on ring, takes an `nbf` that is a text for none (GHSA-h395-gr6q-cpjc). What is left of such a library is
//! this file, which can be stricter: a name that comes twice, an extension that nobody here knows and a part that is not exactly
//! base64url each refuse the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bongsu_protocol::limits::TOKEN_BYTES_MAX;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::keys::Key;
use super::refused::Refused;
use crate::config::Algorithm;
use crate::metrics::TokenRefusal;

/// A token whose signature nobody has checked.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    /// What its header names. Which algorithm is used, its key decides: this one must be among that key's.
    pub(super) algorithm: Algorithm,
    /// Which of the issuer's keys.
    pub(super) kid: Option<String>,
    /// What is signed: header and payload as they came.
    pub(super) signed: &'a [u8],
    /// The payload: JSON, if the token is one.
    pub(super) payload: Vec<u8>,
    /// The signature.
    pub(super) signature: Vec<u8>,
}

/// The header parameters that mean something here. Those that carry a key (`jwk`, `jku`, `x5c`, `x5u`) mean nothing: the keys of an issuer
/// come from the settings, never from a token. A parameter that comes twice is refused.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    cty: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
    #[serde(default, deserialize_with = "is_there")]
    b64: bool,
}

/// Takes anything, also `null`, for being there.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Whether a token looks like a JWT, so that a refusal can say more than "not known": three parts with dots between, the first of which
/// begins like every JSON object in base64url.
pub(super) fn is_meant(token: &str) -> bool {
    token.starts_with("ey") && token.bytes().filter(|byte| *byte == b'.').count() >= 2
}

/// Signs a payload; `None` if the key cannot sign by that algorithm.
pub(super) fn sign(key: &Key, algorithm: Algorithm, payload: &[u8]) -> Option<String> {
    let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, algorithm.as_str());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = key.sign(algorithm, signed.as_bytes())?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

impl<'a> Unverified<'a> {
    /// Reads the envelope.
    ///
    /// # Errors
    /// It is none, or asks for something that nobody here does: an algorithm that is none of [`Algorithm`] (`none` among them, however it is
    /// spelt), an extension, another type of token.
    pub(super) fn parse(token: &'a str) -> Result<Self, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::malformed("the token is longer than 8192 bytes"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let text =
                "the token is no signed JWT: it takes three parts with dots between, and no encryption";
            return Err(Refused::malformed(text));
        };
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header = decode(header)?;
        // serde would read the fields from an array, too.
        let header = Some(header).filter(|header| header.starts_with(b"{"));
        let header: Option<Header> = header.and_then(|header| serde_json::from_slice(&header).ok());
        let header = header.ok_or_else(|| {
            Refused::malformed("the token's header is no JSON object with an `alg`, or names something twice")
        })?;
        let algorithm = header.judge()?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { algorithm, kid: header.kid, signed, payload, signature })
    }
}

impl Header {
    fn judge(&self) -> Result<Algorithm, Refused> {
        let algorithm = Algorithm::parse(&self.alg).ok_or_else(|| {
            let text = "the token's `alg` is none that this broker takes: unsigned tokens are never taken";
            Refused::new(TokenRefusal::Algorithm, text)
        })?;
        if self.crit || self.b64 {
            let text = "the token's header has `crit` or `b64`: this broker knows no extension";
            return Err(Refused::new(TokenRefusal::Critical, text));
        }
        // RFC 7515, 4.1.9: "application/" may be left out, and case does not count. Others (`logout+jwt`, `dpop+jwt`) are no access tokens,
        // though the same issuer signs them (RFC 8725, 3.11).
        let typ = self.typ.as_ref().map(|typ| typ.to_ascii_lowercase());
        let typ = typ.as_ref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        if !matches!(typ, None | Some("jwt" | "at+jwt")) || self.cty.is_some() {
            let text = "the token's `typ` must be JWT or at+jwt, and it may hold no other token (`cty`)";
            return Err(Refused::new(TokenRefusal::Type, text));
        }
        Ok(algorithm)
    }
}

/// Undoes base64url without padding; nothing else is taken, so that one token has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Refused::malformed("a part of the token is not base64url without padding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part("{}"), part("signature"))
    }

    fn check(header: &str) -> Result<Algorithm, TokenRefusal> {
        Unverified::parse(&token(header)).map(|token| token.algorithm).map_err(|refused| refused.why)
    }

    #[test]
    fn no_spelling_of_none_is_an_algorithm() {
        for mask in 0..16 {
            let flip =
                |(idx, c): (usize, char)| if mask >> idx & 1 == 1 { c.to_ascii_uppercase() } else { c };
            let alg: String = "none".chars().enumerate().map(flip).collect();
            assert_eq!(check(&format!(r#"{{"alg":"{alg}"}}"#)), Err(TokenRefusal::Algorithm), "{alg}");
        }
        for alg in [
            "",
            " none",
            "none ",
            "hs256",
            "Hs256",
            "RS1",
            "ES512",
            "ES256K",
            "HS256\\u0000",
            "A128KW",
            "dir",
        ] {
            assert_eq!(check(&format!(r#"{{"alg":"{alg}"}}"#)), Err(TokenRefusal::Algorithm), "{alg}");
        }
        assert_eq!(check(r#"{"alg":"\u0045dDSA"}"#), Ok(Algorithm::EdDsa), "JSON has escapes");
    }

    #[test]
    fn headers_are_read_strictly() {
        use TokenRefusal::{Critical, Malformed, Type};
        for (header, expected) in [
            (r#"{"alg":"RS256","typ":"JWT","kid":"a"}"#, Ok(Algorithm::Rs256)),
            (r#"{"alg":"RS256","typ":"application/at+jwt"}"#, Ok(Algorithm::Rs256)),
            (
                r#"{"alg":"RS256","jwk":{"kty":"oct"},"jku":"https://evil.example","x5u":"x","x5c":[]}"#,
                Ok(Algorithm::Rs256),
            ),
            (r#"{"alg":"RS256","typ":"logout+jwt"}"#, Err(Type)),
            (r#"{"alg":"RS256","cty":"JWT"}"#, Err(Type)),
            (r#"{"alg":"RS256","crit":["exp"]}"#, Err(Critical)),
            (r#"{"alg":"RS256","crit":[]}"#, Err(Critical)),
            (r#"{"alg":"RS256","crit":null}"#, Err(Critical)),
            (r#"{"alg":"RS256","b64":true}"#, Err(Critical)),
            (r#"{"alg":"RS256","alg":"HS256"}"#, Err(Malformed)),
            (r#"{"alg":"RS256","kid":"a","kid":"b"}"#, Err(Malformed)),
            (r#"{"alg":["RS256"]}"#, Err(Malformed)),
            (r#"{"alg":null}"#, Err(Malformed)),
            (r#"{"alg":"RS256","kid":7}"#, Err(Malformed)),
            (r#"{"alg":"RS256"} "#, Ok(Algorithm::Rs256)),
            (r#"{"alg":"RS256"}{}"#, Err(Malformed)),
            (r#"["RS256"]"#, Err(Malformed)),
            (r#"["RS256",null,null,null]"#, Err(Malformed)),
            ("", Err(Malformed)),
        ] {
            assert_eq!(check(header), expected, "{header}");
        }
    }

    #[test]
    fn a_header_as_deep_as_a_token_is_long_costs_no_stack() {
        let deep = format!(r#"{{"alg":"RS256","jwk":{}{}}}"#, "[".repeat(2500), "]".repeat(2500));
        assert_eq!(check(&deep), Ok(Algorithm::Rs256));
    }

    #[test]
    fn what_is_not_three_parts_of_base64url_is_no_token() {
        let good = token(r#"{"alg":"RS256"}"#);
        assert!(Unverified::parse(&good).is_ok());
        let long = format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX));
        let [padded, five, short, plus] =
            [format!("{good}="), format!("{good}.a.b"), good.replace('.', ""), good.replacen('.', "+.", 1)];
        for bad in [padded, five, short, plus, long, "..".to_owned(), String::new(), format!(" {good}")] {
            assert_eq!(
                Unverified::parse(&bad).map(|_| ()).map_err(|r| r.why),
                Err(TokenRefusal::Malformed),
                "{bad}"
            );
        }
    }
}
