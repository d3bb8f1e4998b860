//! Where a client puts its token.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bongsu_protocol::limits::TOKEN_BYTES_MAX;
use http::header::{self, HeaderMap};

use super::Rejected;
use super::origin::Asker;

/// The sub-protocol entry that carries a token. It is never echoed.
const BEARER_PREFIX: &str = "bearer.";

/// The cookie that carries a token.
const COOKIE: &str = "bongsu_token";

/// The query parameter that carries a token (RFC 6750, 2.3).
const QUERY_PARAMETER: &str = "access_token";

/// The query parameter that carries a ticket: good once, so that it does no harm in a log.
const TICKET_PARAMETER: &str = "ticket";

/// RFC 4648, 5. Sub-protocols are HTTP tokens, in which `=` may not stand, so padding is usually left out.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token as it came, at most [`TOKEN_BYTES_MAX`] bytes and not empty. Does not show in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself.
    pub text: String,
    /// How it came.
    pub source: Source,
}

/// How a token came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `Authorization: Bearer`.
    Authorization,
    /// A sub-protocol `bearer.…`.
    Subprotocol,
    /// `?access_token=…` or `?ticket=…`; a URL with a token should not be logged.
    Query,
    /// The cookie, beside an origin that is trusted.
    Cookie,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Finds the token that counts, if there is one.
pub(super) fn find<'a>(
    headers: &HeaderMap,
    query: Option<&str>,
    mut subprotocols: impl Iterator<Item = &'a str>,
    asker: Asker,
) -> Result<Option<Token>, Rejected> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token = value.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
        let (_, token) = token.ok_or(Rejected::bad_request("Authorization must be of the kind Bearer"))?;
        return checked(token.trim().to_owned(), Source::Authorization).map(Some);
    }
    if let Some(encoded) = subprotocols.find_map(|offer| offer.strip_prefix(BEARER_PREFIX)) {
        let token = BASE64URL.decode(encoded).ok().and_then(|token| String::from_utf8(token).ok());
        let token =
            token.ok_or(Rejected::bad_request("sub-protocol bearer. must be followed by base64url"))?;
        return checked(token, Source::Subprotocol).map(Some);
    }
    let mut parameters =
        query.unwrap_or_default().split('&').filter_map(|parameter| parameter.split_once('='));
    let is_token = |name: &str| name == QUERY_PARAMETER || name == TICKET_PARAMETER;
    if let Some((_, encoded)) = parameters.find(|(name, _)| is_token(name)) {
        let token = percent_decode(encoded);
        let token =
            token.ok_or(Rejected::bad_request("access_token or ticket is not percent-encoded text"))?;
        return checked(token, Source::Query).map(Some);
    }
    // Without an origin there is no telling which page made the browser send its cookie, if it is a browser.
    if asker == Asker::TrustedPage {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies =
            lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        if let Some((_, token)) = cookies.find(|(name, _)| *name == COOKIE) {
            return checked(token.trim_matches('"').to_owned(), Source::Cookie).map(Some);
        }
    }
    Ok(None)
}

fn checked(text: String, source: Source) -> Result<Token, Rejected> {
    if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
        return Err(Rejected::bad_request("a token has 1 to 8192 bytes"));
    }
    Ok(Token { text, source })
}

/// Undoes percent-encoding (RFC 3986, 2.1); `None` if what comes out is no UTF-8. `+` stays: it is a character of tokens (RFC 6750, 2.1),
/// and a space is none.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        decoded.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        rest = after;
    }
    String::from_utf8(decoded).ok()
}
