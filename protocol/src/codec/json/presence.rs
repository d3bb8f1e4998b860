//! Joins and leaves: the payloads of messages on the topics `$presence/…`. They are JSON for readers of either format.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use super::event::Member;
use super::write::{Json, named};
use super::{malformed, text, write};
use crate::codec::{Malformed, event};
use crate::event::PresenceChange;

pub(in crate::codec) fn encode_presence(change: &PresenceChange) -> Bytes {
    let mut payload = BytesMut::new();
    match change {
        PresenceChange::Join(member) => write(&named("join", &Json(member)), &mut payload),
        PresenceChange::Leave { session } => {
            write(&named("leave", &named("session", session)), &mut payload);
        }
    }
    payload.freeze()
}

pub(in crate::codec) fn decode_presence(payload: &Bytes) -> Result<Option<PresenceChange>, Malformed> {
    #[derive(Deserialize)]
    struct Change<'a> {
        #[serde(borrow, default)]
        join: Option<Member<'a>>,
        #[serde(default)]
        leave: Option<Leave>,
    }
    #[derive(Deserialize)]
    struct Leave {
        session: String,
    }
    let Change { join, leave } = serde_json::from_str(text(payload)?).map_err(malformed)?;
    if let Some(member) = join {
        return event::member(member.into_tree(payload)).map(PresenceChange::Join).map(Some);
    }
    Ok(leave.map(|Leave { session }| PresenceChange::Leave { session }))
}
