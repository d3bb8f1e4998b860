//! Why something was not done.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

/// Why the broker did not do what was asked. [`Problem`](crate::Problem) says it over HTTP.
///
/// The text is for the person who asked: a sentence without a full stop, which names the value. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// What was asked makes no sense; each fault with where it is.
    #[error("{detail}")]
    Invalid {
        /// In a sentence.
        detail: String,
        /// Where, if it is in a place or several.
        faults: Vec<Fault>,
    },
    /// It changed since whoever asks looked at it. Look again, and decide again.
    #[error("{0}")]
    Changed(String),
    /// What there is stands against it.
    #[error("{0}")]
    Conflict(String),
    /// Not here, not as this node is set up.
    #[error("{0}")]
    Unsupported(String),
    /// It takes more than may be.
    #[error("{0}")]
    TooLarge(String),
    /// Too often. Repeat after the time given.
    #[error("{detail}")]
    TooMany {
        /// In a sentence.
        detail: String,
        /// When it may be tried again.
        retry_after: Duration,
    },
    /// Something that is needed does not answer. It may have been done all the same; repeat later.
    #[error("{0}")]
    Unavailable(String),
    /// The broker's own fault. Somebody must look.
    #[error("{0}")]
    Internal(String),
}

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Where: a parameter's name, or the path of a member such as `policies[2].retention.age`.
    #[schema(example = "limit")]
    pub at: String,
    /// What is wrong, and what is taken.
    #[schema(example = "it takes 1 to 1000")]
    pub detail: String,
}

impl Fault {
    /// What is wrong at a place.
    pub fn new(at: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { at: at.into(), detail: detail.into() }
    }
}

impl Error {
    /// One thing at one place makes no sense.
    pub fn invalid(at: impl Into<String>, detail: impl Into<String>) -> Self {
        let fault = Fault::new(at, detail);
        Self::Invalid { detail: format!("{}: {}", fault.at, fault.detail), faults: vec![fault] }
    }
}
