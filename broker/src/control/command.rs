//! The commands, as they stand in the log: JSON, so that an operator can read it too.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A command to every node: `{"kick":{"session":"n1-8f14e45f"},"reason":"spam"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
    /// Why, for those whom it concerns. May be empty.
    #[serde(default)]
    pub reason: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// End sessions that have begun when this is issued.
    Kick(Target),
}

/// Which sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The one with this name.
    Session(String),
    /// All of this subject; the empty one is that of all anonymous clients.
    Subject(String),
}

impl Command {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts under fixed names are JSON").into()
    }

    /// The command of a message; `None` if this version knows no such command.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_in_the_log_as_documented() {
        let kick = |target| Command { action: Action::Kick(target), reason: "spam".to_owned() };
        for (command, text) in [
            (kick(Target::Session("n1-1".to_owned())), r#"{"kick":{"session":"n1-1"},"reason":"spam"}"#),
            (kick(Target::Subject("ada".to_owned())), r#"{"kick":{"subject":"ada"},"reason":"spam"}"#),
        ] {
            assert_eq!(command.encode(), text);
            assert_eq!(Command::decode(text.as_bytes()), Some(command));
        }
    }

    #[test]
    fn what_a_later_version_adds_to_a_known_command_is_skipped() {
        let text = r#"{"kick":{"subject":"ada"},"until":17}"#;
        let action = Action::Kick(Target::Subject("ada".to_owned()));
        assert_eq!(Command::decode(text.as_bytes()), Some(Command { action, reason: String::new() }));
    }

    #[test]
    fn commands_of_a_later_version_are_not_known() {
        for text in [r#"{"revoke":{"token":"1"}}"#, r#"{"kick":{"address":"::1"}}"#, "{}", "kick", ""] {
            assert_eq!(Command::decode(text.as_bytes()), None, "{text}");
        }
    }
}
