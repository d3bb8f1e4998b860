//! Places in logs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A message's place in a topic's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The incarnation of the log; 0 where there is none.
    #[schema(example = 1_763_823_845_123_u64)]
    pub epoch: u64,
    /// The place in it, from 1 without holes; 0 before the first message.
    #[schema(example = 42)]
    pub offset: u64,
}

impl From<bongsu_protocol::position::Position> for Position {
    fn from(position: bongsu_protocol::position::Position) -> Self {
        Self { epoch: position.epoch.0, offset: position.offset.0 }
    }
}
