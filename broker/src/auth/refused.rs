//! Why a token is no good, for the client, the logs and the metrics.

use std::borrow::Cow;

use bongsu_protocol::reason::{Error, ErrorCode};

use crate::limits::UNAVAILABLE_RETRY_MS;
use crate::metrics::{METRICS, TokenRefusal};

/// Why a token is refused, and what to do about it. Says nothing of keys, and nothing of the token that its bearer does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// What it is counted as.
    pub why: TokenRefusal,
    /// For people.
    pub text: Cow<'static, str>,
}

impl Refused {
    pub(super) fn new(why: TokenRefusal, text: impl Into<Cow<'static, str>>) -> Self {
        Self { why, text: text.into() }
    }

    /// The token cannot be read.
    pub(super) fn malformed(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(TokenRefusal::Malformed, text)
    }
}

impl From<Refused> for Error {
    /// `unavailable` where the token may be good and its keys are not known just now, else `unauthenticated`. Counts it.
    fn from(refused: Refused) -> Self {
        METRICS.count_token_refused(refused.why);
        tracing::debug!(reason = refused.why.name(), text = %refused.text, "a token was refused");
        match refused.why {
            TokenRefusal::KeysUnavailable => {
                Self::new(ErrorCode::Unavailable, refused.text).retry_after(UNAVAILABLE_RETRY_MS)
            }
            _ => Self::new(ErrorCode::Unauthenticated, refused.text),
        }
    }
}
