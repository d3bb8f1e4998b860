//! Removals as they stand in their log: JSON, so that an operator can read them too.

use bongsu_protocol::position::{Epoch, Offset};
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{Gone, Part};

/// A removal that is about to be made or was made: `{"topic":"chat/42","epoch":1700,"part":{"message":17},"done":true}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    topic: String,
    epoch: u64,
    part: Noted,
    done: bool,
}

/// What of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Noted {
    Message(u64),
    Until(u64),
    All,
}

impl Note {
    /// It is about to be made.
    pub(super) fn begun(gone: &Gone) -> Self {
        let part = match gone.part {
            Part::Message(offset) => Noted::Message(offset.0),
            Part::Until(offset) => Noted::Until(offset.0),
            Part::All => Noted::All,
        };
        Self { topic: gone.topic.as_str().to_owned(), epoch: gone.epoch.0, part, done: false }
    }

    /// It was made.
    pub(super) fn done(gone: &Gone) -> Self {
        Self { done: true, ..Self::begun(gone) }
    }

    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers under fixed names are JSON").into()
    }

    /// What a note is about; `None` if this version does not know what it says.
    pub(super) fn decode(payload: &[u8]) -> Option<Gone> {
        let note: Self = serde_json::from_slice(payload).ok()?;
        let part = match note.part {
            Noted::Message(offset) => Part::Message(Offset(offset)),
            Noted::Until(offset) => Part::Until(Offset(offset)),
            Noted::All => Part::All,
        };
        Some(Gone { topic: Topic::parse(&note.topic).ok()?, epoch: Epoch(note.epoch), part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_stand_in_the_log_as_documented() {
        for (part, text) in [
            (
                Part::Message(Offset(17)),
                r#"{"topic":"chat/42","epoch":1700,"part":{"message":17},"done":true}"#,
            ),
            (Part::Until(Offset(9)), r#"{"topic":"chat/42","epoch":1700,"part":{"until":9},"done":true}"#),
            (Part::All, r#"{"topic":"chat/42","epoch":1700,"part":"all","done":true}"#),
        ] {
            let gone = Gone { topic: Topic::parse("chat/42").unwrap(), epoch: Epoch(1700), part };
            assert_eq!(Note::done(&gone).encode(), text);
            assert_eq!(Note::decode(text.as_bytes()), Some(gone));
        }
    }
}
