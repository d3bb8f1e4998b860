//! The destination `/bongsu/token`: a client that subscribes to it is warned before its token ends, and one that sends its next token there
//! stays.

use std::ops::Deref;
use std::sync::Arc;

use bytes::BytesMut;

use crate::command::{Command as Request, RequestId};
use crate::event::TokenExpiring;
use crate::message::{Delivery, Time};
use crate::reason::Error;
use crate::session::Grants;
use crate::stomp::encoder::encode_frame;
use crate::stomp::frame::{Command, Frame};
use crate::stomp::refusal::Refusal;

use super::{Conversation, Outgoing, Ready, secret};

/// The destination. It is no topic: nothing that is sent there is kept or read by anybody.
pub(super) const TOKEN: &str = "/bongsu/token";

impl<D> Conversation<D>
where
    D: Clone + Deref,
    D::Target: AsRef<Delivery>,
{
    /// When the token of the first frame ends, for the answer to it. To be called before [`verified`](Self::verified).
    pub const fn token_expires(&mut self, at: Option<Time>) {
        self.token_expires = at;
    }

    /// What came of the token that a client sent, as [`Session::authenticated`](crate::session::Session::authenticated), and what is
    /// addressed to the client stays its own.
    pub fn authenticated(&mut self, id: RequestId, result: Result<Arc<Grants>, Error>) {
        let result = result.map(|grants| {
            let mut grants = Arc::unwrap_or_clone(grants);
            self.extend(&mut grants);
            grants
        });
        self.session.authenticated(id, result);
        self.advance();
    }

    /// Whether it is the subscription of that name that is told.
    pub(super) fn is_token_watched_by(&self, name: &str) -> bool {
        self.token_watch.as_deref() == Some(name)
    }

    /// A SEND whose body is the next token, or which has it in the header `token`. Its receipt says that it was taken.
    pub(super) fn refresh_token(&mut self, frame: &Frame) -> Result<(), Refusal> {
        if frame.header("transaction").is_some() {
            return Err(Refusal::new("Invalid header", "A token is no part of a transaction."));
        }
        let body = std::str::from_utf8(&frame.body).ok().map(str::trim).filter(|body| !body.is_empty());
        let token = frame.header("token").or(body).ok_or_else(|| {
            Refusal::new(
                "Invalid message",
                format!("SEND to {TOKEN} takes a token as its body, or in the header 'token'"),
            )
        })?;
        let token = secret(token);
        let id = self.next_request();
        self.receipts.push(id, frame.header("receipt"));
        self.request(id, Request::Authenticate(token));
        Ok(())
    }

    /// One subscription is told; a later one takes the place of it.
    pub(super) fn watch_token(&mut self, frame: &Frame, name: &str) -> Result<(), Refusal> {
        self.token_watch = Some(name.to_owned());
        self.done(frame);
        Ok(())
    }

    /// Whether the subscription of that name was the one that is told; it is no longer.
    pub(super) fn unwatch_token(&mut self, name: &str) -> bool {
        let is_it = self.is_token_watched_by(name);
        if is_it {
            self.token_watch = None;
        }
        is_it
    }

    pub(super) fn warn_of_token(&mut self, TokenExpiring { expires_at, in_ms }: TokenExpiring) {
        let Some(subscription) = self.token_watch.clone() else { return };
        self.last_tag += 1;
        let message_id = format!("{}@{}", self.name, self.last_tag);
        let body = format!(r#"{{"expiresAt":{},"inMs":{in_ms}}}"#, expires_at.0);
        let headers = [
            ("subscription", subscription.as_str()),
            ("message-id", &message_id),
            ("destination", TOKEN),
            ("content-type", "application/json"),
        ];
        let mut out = BytesMut::new();
        encode_frame(self.version, Command::Message, &headers, body.as_bytes(), &mut out);
        self.n_frames += 1;
        self.ready.push_back(Ready { outgoing: Outgoing::Frame(out.freeze()), settles: None });
    }
}
