//! What a STOMP conversation asks of its connection besides what every session does.

use std::sync::Arc;

use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use bongsu_protocol::session::Grants;
use bongsu_protocol::stomp::conversation::{Credentials, Effect};

use super::Connection;
use crate::node::Node;

impl Connection {
    /// Carries out what only STOMP asks for.
    pub(super) fn carry_out_for_stomp(&mut self, effect: Effect) {
        let outbound = Arc::clone(&self.outbound);
        let mut state = outbound.lock();
        let Some(conversation) = state.dialog.stomp() else { return };
        let nowhere = || Error::new(ErrorCode::Unavailable, "this node serves no queues");
        match effect {
            Effect::Verify(credentials) => conversation.verified(verify(&self.node, &credentials)),
            Effect::Consume { id, .. } => conversation.consuming(id, Err(nowhere())),
            Effect::Commit { id, .. } => conversation.committed(id, Err(nowhere())),
            Effect::Settle { id, .. } => conversation.settled(id, Err(nowhere())),
            Effect::Cancel { .. } | Effect::Beat { .. } | Effect::Session(_) => {}
            Effect::Close(reason) => {
                // Its ERROR said why; what is left is the carrier's own word.
                state.close(&Goodbye::new(reason, ""));
                if reason != CloseReason::Normal {
                    self.timers.close_soon();
                }
            }
        }
    }
}

/// Who the client is by what its CONNECT says; `None` if that says nothing.
fn verify(node: &Node, credentials: &Credentials) -> Result<Option<Grants>, Error> {
    let token = credentials.token.as_ref().or(credentials.passcode.as_ref());
    token.map(|token| node.authenticator().verify(token)).transpose()
}
