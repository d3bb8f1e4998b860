//! What a STOMP conversation asks of its connection besides what every session does.

use std::sync::Arc;

use bongsu_protocol::command::Token;
use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use bongsu_protocol::stomp::conversation::{Credentials, Effect};

use super::Connection;
use crate::auth::Identity;
use crate::metrics::METRICS;
use crate::node::Node;
use crate::queues::Consume;

impl Connection {
    /// Carries out what only STOMP asks for.
    pub(super) fn carry_out_for_stomp(&mut self, effect: Effect) {
        let outbound = Arc::clone(&self.outbound);
        let queues = self.node.queues();
        match effect {
            Effect::Verify(credentials) => {
                self.timers.handle_login();
                match token_of(&self.node, &credentials) {
                    Ok(token) => self.answers.log_in(&self.node, token),
                    Err(error) => self.handle_login(Err(error)),
                }
            }
            Effect::Consume { id: request, subscription, topic, group, from, prefetch } => {
                queues.consume(Consume { outbound, request, subscription, topic, group, from, prefetch });
            }
            Effect::Commit { id, messages, settled } => {
                let subject = outbound.lock().session().grants().subject.clone();
                queues.commit(outbound, id, subject, messages, settled);
            }
            Effect::Settle { id, settled } => queues.settle(&outbound, id, settled),
            Effect::Cancel { subscription, forget } => queues.cancel(outbound.id(), subscription, forget),
            Effect::Beat { send_after, dead_after } => {
                if send_after.is_some() {
                    // One sign of life is enough.
                    outbound.lock().stop_heartbeat();
                }
                self.timers.agree(send_after, dead_after);
            }
            Effect::Session(_) => {}
            // After its DISCONNECT the client closes: many take a broker that is faster for one that failed.
            Effect::Close(CloseReason::Normal) => self.timers.leave_soon(),
            Effect::Close(reason) => {
                if matches!(
                    reason,
                    CloseReason::ProtocolError | CloseReason::InvalidPayload | CloseReason::TooLarge
                ) {
                    METRICS.malformed.add(1);
                }
                // Its ERROR said why; what is left is the carrier's own word.
                outbound.lock().close(&Goodbye::new(reason, ""));
                self.timers.handle_login();
                self.timers.close_soon();
            }
        }
    }

    /// Takes who a client is by its first frame, or why it is refused.
    pub(super) fn handle_login(&mut self, result: Result<Option<Arc<Identity>>, Error>) {
        let result = result.and_then(|identity| match identity {
            Some(identity) => {
                let judged = self.quota.judge(&self.node, Ok(identity))?;
                Ok(Some(self.quota.take(judged)))
            }
            None => Ok(None),
        });
        if let Ok(Some(identity)) = &result {
            self.timers.identify(identity);
            self.place.identify(Arc::clone(identity));
        }
        let grants = result.map(|identity| identity.map(|identity| Arc::clone(&identity.grants)));
        let mut state = self.outbound.lock();
        if let Some(conversation) = state.dialog.stomp() {
            conversation.token_expires(self.timers.token_expires());
            conversation.verified(grants);
        }
        state.dialog.tell(|session| self.quota.bind(&self.node, session));
        let is_known = !state.dialog.is_closing();
        drop(state);
        if is_known {
            self.introduce();
        }
    }
}

/// The token in a CONNECT; `None` if there is none. `login` says nothing: the subject is the token's own.
///
/// Where there are no tokens, nobody can know one: clients that send a user and a password of their own making (`guest` and `guest`, in
/// most examples) are anybody, like those that send none.
fn token_of(node: &Node, credentials: &Credentials) -> Result<Option<Token>, Error> {
    let hosts = &node.settings().stomp.hosts;
    if let Some(host) = &credentials.host
        && !hosts.is_empty()
        && !hosts.iter().any(|known| known.as_str() == host)
    {
        return Err(Error::new(ErrorCode::Forbidden, format!("Virtual host '{host}' is not known here")));
    }
    let token = credentials.token.as_ref().or(credentials.passcode.as_ref());
    Ok(token.filter(|_| node.authenticator().knows_tokens()).cloned())
}
