//! What a request says besides its body: the segments of its path and its parameters.

use axum::extract::{FromRequestParts, RawQuery};
use http::Uri;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use crate::problem::Problem;

/// The parameters after `?`. Give the type `#[serde(deny_unknown_fields)]`: a parameter that nobody looks at would be taken for one that works.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

/// No parameters.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct None {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let RawQuery(query) =
            RawQuery::from_request_parts(parts, state).await.unwrap_or_else(|never| match never {});
        let parameters = serde_urlencoded::from_str(query.as_deref().unwrap_or_default());
        parameters.map(Self).map_err(|error| Problem::bad_request(format!("a parameter is wrong: {error}")))
    }
}

/// The variable segments of the path, decoded.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let path =
            path.map_err(|error| Problem::bad_request(format!("the path is wrong: {}", error.body_text())));
        path.map(|axum::extract::Path(path)| Self(path))
    }
}

/// Whether path and query are text in percent-encoding, without control characters: libraries differ in what they take others for.
///
/// # Errors
/// What is wrong, as 400.
pub(crate) fn check(uri: &Uri) -> Result<(), Problem> {
    let wrong = |part: &str| {
        Problem::bad_request(format!("the {part} is no UTF-8 in percent-encoding, or has control characters"))
    };
    if !is_text(uri.path()) {
        return Err(wrong("path"));
    }
    if !is_text(uri.query().unwrap_or_default()) {
        return Err(wrong("query"));
    }
    Ok(())
}

fn is_text(encoded: &str) -> bool {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return false };
        // Two digits of 16 are a byte.
        decoded.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX));
    }
    std::str::from_utf8(&decoded).is_ok_and(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_in_percent_encoding_is_taken() {
        for text in ["", "/v1/topics/chat%2Froom%20%EB%B6%88", "a=1&b=%26"] {
            assert!(is_text(text), "{text}");
        }
        for text in ["%", "%2", "%zz", "%00", "a%0Ab", "%FF", "%EB%B6", "%+1", "%c2%85"] {
            assert!(!is_text(text), "{text}");
        }
    }
}
