//! Why a conversation ends: what the ERROR frame says, and how the carrier closes behind it.

use crate::limits::TEXT_BYTES_MAX;
use crate::reason::CloseReason;

/// What an ERROR frame says. The connection closes once the frame was sent.
///
/// Messages and bodies are those of RabbitMQ where it has a word for the case, since applications compare them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {detail}")]
pub struct Refusal {
    /// The `message` header: which kind of mistake, for programs.
    pub message: &'static str,
    /// The body: what happened, for people. It ends with a line feed.
    pub detail: String,
    /// The `receipt-id` header: which frame it is about, if that one asked for a receipt.
    pub receipt: Option<String>,
    /// How the carrier closes.
    pub reason: CloseReason,
}

impl Refusal {
    /// A refusal of something that the client did wrong. Detail past [`TEXT_BYTES_MAX`] is cut.
    #[must_use]
    pub fn new(message: &'static str, detail: impl Into<String>) -> Self {
        Self::closing(CloseReason::ProtocolError, message, detail)
    }

    /// A refusal with another reason to close than a mistake in the protocol.
    #[must_use]
    pub fn closing(reason: CloseReason, message: &'static str, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() >= TEXT_BYTES_MAX {
            detail.truncate(detail.floor_char_boundary(TEXT_BYTES_MAX - 1));
        }
        detail.push('\n');
        Self { message, detail, receipt: None, reason }
    }

    /// The same, about a frame that asked for this receipt.
    #[must_use]
    pub fn about(self, receipt: Option<&str>) -> Self {
        Self { receipt: self.receipt.or_else(|| receipt.map(str::to_owned)), ..self }
    }

    /// A frame past one of its limits.
    pub(super) fn too_large(what: &str, max: usize) -> Self {
        Self::closing(CloseReason::TooLarge, "Frame too large", format!("{what}: at most {max} are allowed"))
    }

    /// A frame that does not follow the grammar.
    pub(super) fn malformed(detail: &str) -> Self {
        Self::closing(CloseReason::InvalidPayload, "Malformed frame", detail)
    }

    /// A command that nobody knows, or that a client does not send.
    pub(super) fn bad_command(command: &str) -> Self {
        Self::new("Bad command", format!("Could not interpret command \"{command}\""))
    }
}
