//! Versions of what can be changed, so that nobody overwrites what they have not seen (RFC 9110, 8.8.3 and 13.1).

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponseParts, ResponseParts};
use bongsu_protocol::position::Position;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;

use crate::problem::Problem;

/// The version of a register, as an answer says it: `"1-42"` for epoch 1 and offset 42. Nothing was ever written: `"0-0"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag(pub Position);

impl ETag {
    fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| is_number)
        };
        Some(Self(Position::new(number(epoch)?, number(offset)?)))
    }
}

impl IntoResponseParts for ETag {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let Position { epoch, offset } = self.0;
        let value = HeaderValue::try_from(format!("\"{}-{}\"", epoch.0, offset.0));
        parts.headers_mut().insert(header::ETAG, value.expect("digits are a header's characters"));
        Ok(parts)
    }
}

/// What a change is bound to: `If-Match` and `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The request says nothing.
    None,
    /// `If-Match` with versions: only if it still is one of them. Tags that are none of this API's match nothing.
    Match(Vec<ETag>),
    /// `If-Match: *`: only if there is something.
    Exists,
    /// `If-None-Match: *`: only if there is nothing.
    Missing,
}

impl Condition {
    /// Whether it holds for what there is now.
    ///
    /// # Errors
    /// 412: it does not.
    pub fn check(&self, current: Option<ETag>) -> Result<(), Problem> {
        let holds = match self {
            Self::None => true,
            Self::Match(tags) => current.is_some_and(|current| tags.contains(&current)),
            Self::Exists => current.is_some(),
            Self::Missing => current.is_none(),
        };
        let detail = "it is not what the condition says: look at it again, and decide again";
        if holds { Ok(()) } else { Err(Problem::new(StatusCode::PRECONDITION_FAILED, "changed", detail)) }
    }

    /// The same condition, where a change needs one.
    ///
    /// # Errors
    /// 428: the request says nothing.
    pub fn required(self) -> Result<Self, Problem> {
        if self == Self::None {
            let detail = "this change needs If-Match with the ETag that you have seen: others may have changed it since";
            return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "condition_required", detail));
        }
        Ok(self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let list = |name: HeaderName| {
            let mut values = Vec::new();
            for value in parts.headers.get_all(&name) {
                let text = value.to_str().map_err(|_| Problem::bad_request(format!("{name} is no text")))?;
                values.extend(text.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()));
            }
            Ok::<_, Problem>(values)
        };
        let (matching, missing) = (list(header::IF_MATCH)?, list(header::IF_NONE_MATCH)?);
        match (matching.as_slice(), missing.as_slice()) {
            ([], []) => Ok(Self::None),
            ([any], []) if any == "*" => Ok(Self::Exists),
            (tags, []) => Ok(Self::Match(tags.iter().filter_map(|tag| ETag::parse(tag)).collect())),
            ([], [any]) if any == "*" => Ok(Self::Missing),
            _ => Err(Problem::bad_request("it takes If-Match, or If-None-Match: *")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conditions_are_read_as_rfc_9110_says() {
        let tag = |epoch, offset| ETag(Position::new(epoch, offset));
        for (name, value, expected) in [
            ("if-match", "\"1-42\"", Some(Condition::Match(vec![tag(1, 42)]))),
            ("if-match", "\"1-2\", \"1-3\"", Some(Condition::Match(vec![tag(1, 2), tag(1, 3)]))),
            // A weak tag never matches where the strong comparison is asked for, nor does a strange one.
            ("if-match", "W/\"1-42\"", Some(Condition::Match(vec![]))),
            ("if-match", "\"1-+42\"", Some(Condition::Match(vec![]))),
            ("if-match", "*", Some(Condition::Exists)),
            ("if-none-match", "*", Some(Condition::Missing)),
            ("if-none-match", "\"1-42\"", None),
            ("accept", "*/*", Some(Condition::None)),
        ] {
            let request = http::Request::builder().header(name, value).body(()).expect("a request");
            let condition = Condition::from_request_parts(&mut request.into_parts().0, &()).await;
            assert_eq!(condition.ok(), expected, "{name}: {value}");
        }
    }

    #[test]
    fn conditions_hold_for_what_was_seen_only() {
        let (seen, other) = (ETag(Position::new(1, 2)), ETag(Position::new(1, 3)));
        let holds = |condition: &Condition, current| condition.check(current).is_ok();
        assert!(holds(&Condition::Match(vec![seen]), Some(seen)));
        assert!(!holds(&Condition::Match(vec![seen]), Some(other)));
        assert!(!holds(&Condition::Match(vec![seen]), None));
        assert!(holds(&Condition::Exists, Some(other)) && !holds(&Condition::Exists, None));
        assert!(holds(&Condition::Missing, None) && !holds(&Condition::Missing, Some(seen)));
        assert_eq!(Condition::None.required().expect_err("it needs one").status().as_u16(), 428);
    }
}
