//! What administrators see of the cluster and do to it: the traits of `bongsu-admin-api`, as this node answers them.
//!
//! What concerns all nodes is asked of each of them, this one among them, and put together; see `others`. A node answers the others'
//! questions by [`answer`], on the port for nodes only.
//!
//! | module | what it holds |
//! |---|---|
//! | [`gatekeeper`] | who asks |
//! | `others` | questions to the other nodes, and the answers to theirs |
//! | `audit`, `nodes`, … | one module for each resource of the API |

mod audit;
mod blocks;
mod closes;
mod connections;
pub mod gatekeeper;
mod keys;
mod limits;
mod messages;
mod nodes;
mod others;
mod policies;
mod presence;
mod revocations;
mod tokens;
mod topics;
mod trace;
mod transfer;
mod users;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use bongsu_admin_api::Error;
use bongsu_persistence::store;
use bongsu_protocol::reason::{self, ErrorCode};

use crate::node::Node;
use crate::registers::ChangeError;

pub use gatekeeper::Gatekeeper;
pub use others::{Answer, answer};

use topics::Looks;

/// A node, as its administrators have it.
#[derive(Debug, Clone)]
pub struct Admin {
    node: Arc<Node>,
    /// How fast topics grow.
    looks: Arc<Looks>,
}

impl Admin {
    /// The node, to its administrators.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, looks: Arc::default() }
    }
}

/// What a refusal of the broker's is to an administrator.
fn refusal(error: reason::Error) -> Error {
    match error.code {
        ErrorCode::TooLarge => Error::TooLarge(error.text),
        ErrorCode::RateLimited => {
            let retry_after = Duration::from_millis(error.retry_after_ms.unwrap_or(1000));
            Error::TooMany { detail: error.text, retry_after }
        }
        ErrorCode::Conflict => Error::Conflict(error.text),
        ErrorCode::BadRequest => Error::Invalid { detail: error.text, faults: Vec::new() },
        ErrorCode::TooMany => Error::Conflict(error.text),
        ErrorCode::Unavailable => Error::Unavailable(error.text),
        _ => Error::Internal(error.text),
    }
}

/// The store did not answer what was only read.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn unavailable(error: store::Error) -> Error {
    match error {
        store::Error::Unavailable(_) => Error::Unavailable(error.to_string()),
        store::Error::Corrupt(_) => Error::Internal(error.to_string()),
    }
}

/// Why a register was not changed.
fn not_changed<R>(error: ChangeError<R>, refused: impl FnOnce(R) -> Error) -> Error {
    let detail = match &error {
        ChangeError::Refused(_) => String::new(),
        ChangeError::Conflict { .. } => "it was changed since: look at it again, and decide again".to_owned(),
        ChangeError::Contended => "too many others change it at the same time: try again".to_owned(),
        ChangeError::Unreadable { head } => {
            format!("version {head} was written by a later version of the broker, which alone can change it")
        }
        ChangeError::TooLarge { bytes } => format!("it would have {bytes} bytes as JSON, which is too much"),
        ChangeError::Store(error) => format!("{error}; it may have been changed all the same"),
    };
    match error {
        ChangeError::Refused(refusal) => refused(refusal),
        ChangeError::Conflict { .. } => Error::Changed(detail),
        ChangeError::Contended | ChangeError::Unreadable { .. } => Error::Conflict(detail),
        ChangeError::TooLarge { .. } => Error::TooLarge(detail),
        ChangeError::Store(_) => Error::Unavailable(detail),
    }
}

/// The same for the store's.
fn store_error(error: store::Error) -> Error {
    match error {
        store::Error::Unavailable(_) => {
            Error::Unavailable("the store does not answer right now: try again".to_owned())
        }
        store::Error::Corrupt(text) => Error::Internal(text),
    }
}

/// Text as the value of a parameter.
fn escaped(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
