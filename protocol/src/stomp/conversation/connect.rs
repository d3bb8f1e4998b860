//! The first frame: versions, heart-beats, and who the client is.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::command::Token;
use crate::message::Delivery;
use crate::reason::{CloseReason, Error, ErrorCode};
use crate::session::{Grants, Session};
use crate::stomp::VERSION_MISMATCH;
use crate::stomp::destination::{Speaker, own_filters};
use crate::stomp::frame::{Command, Frame, Version};
use crate::stomp::refusal::Refusal;

use super::{Conversation, Effect, State, secret};

/// What a CONNECT says about the client. Secrets never show in logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The virtual host or tenant; `None`: the default one. An unknown one is refused.
    pub host: Option<String>,
    /// The user's name.
    pub login: Option<String>,
    /// The password for it; also a token, where applications send one in its place.
    pub passcode: Option<Token>,
    /// A bearer token, of a header `Authorization` or `token`.
    pub token: Option<Token>,
}

impl<D> Conversation<D>
where
    D: Clone + Deref,
    D::Target: AsRef<Delivery>,
{
    pub(super) fn connect(&mut self, frame: &Frame) -> Result<(), Refusal> {
        if !matches!(frame.command, Command::Connect | Command::Stomp) {
            return Err(Refusal::new("Illegal command", "You must log in using CONNECT first"));
        }
        let Some(version) = Version::negotiate(frame.header("accept-version")) else {
            let supported = format!("Supported versions are {}", Version::SUPPORTED);
            return Err(Refusal::new(VERSION_MISMATCH, supported));
        };
        self.version = version;
        self.decoder.use_version(version);
        // In 1.0, blanks around values mean nothing; that it is 1.0 is known only now.
        let header = |name| {
            let value: Option<&str> = frame.header(name);
            if version == Version::V10 { value.map(str::trim) } else { value }
        };
        let beats = header("heart-beat").and_then(parse_beats).unwrap_or_default();
        self.agree_on_beats(beats);
        let bearer = header("Authorization").or_else(|| header("authorization"));
        let bearer = bearer.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let credentials = Credentials {
            host: header("host").filter(|host| !host.is_empty()).map(str::to_owned),
            login: header("login").filter(|login| !login.is_empty()).map(str::to_owned),
            passcode: header("passcode").filter(|passcode| !passcode.is_empty()).map(secret),
            token: bearer.or_else(|| header("token")).map(secret),
        };
        self.state = State::Verifying;
        self.effects.push_back(Effect::Verify(credentials));
        Ok(())
    }

    /// Who the client is, or why it is refused. `None`: the credentials said nothing, so what the handshake said counts.
    pub fn verified(&mut self, result: Result<Option<Arc<Grants>>, Error>) {
        if self.state != State::Verifying {
            return;
        }
        let grants = match result {
            Ok(grants) => grants.or_else(|| self.known.take()),
            Err(error) => {
                let reason = match error.code {
                    ErrorCode::Forbidden => CloseReason::Forbidden,
                    ErrorCode::Unavailable | ErrorCode::Internal => CloseReason::Internal,
                    _ => CloseReason::Unauthenticated,
                };
                return self.refuse(&Refusal::closing(reason, "Bad CONNECT", error.text));
            }
        };
        let mut grants = grants.map(Arc::unwrap_or_clone).unwrap_or_default();
        self.extend(&mut grants);
        let user = grants.subject.clone();
        self.session = Session::new(self.settings.bounds, grants);
        self.state = State::Open;
        let millis = |duration: Duration| duration.as_millis();
        let beats = format!("{},{}", millis(self.settings.beat_every), millis(self.settings.beat_wanted));
        let (name, server) = (self.name.clone(), self.settings.server.clone());
        let mut headers = vec![
            ("version", self.version.as_str()),
            ("session", &name),
            ("server", &server),
            ("heart-beat", &beats),
        ];
        if !user.is_empty() {
            headers.push(("user-name", &user));
        }
        let expires = self.token_expires.map(|at| at.0.to_string());
        if let Some(expires) = &expires {
            headers.push(("token-expires", expires));
        }
        self.push_frame(Command::Connected, &headers);
        self.advance();
    }

    /// A client may always read what is addressed to itself.
    pub(super) fn extend(&self, grants: &mut Grants) {
        let own = own_filters(Speaker { subject: &grants.subject, session: &self.name });
        grants.subscribe.extend(own.clone());
        grants.history.extend(own);
    }

    /// Each side says how often it can send and how often it wants to hear; the slower of the two numbers holds.
    fn agree_on_beats(&mut self, (can, wants): (Duration, Duration)) {
        let agreed =
            |can: Duration, wants: Duration| (!can.is_zero() && !wants.is_zero()).then(|| can.max(wants));
        let send = agreed(self.settings.beat_every, wants);
        let expect = agreed(can, self.settings.beat_wanted);
        if send.is_some() || expect.is_some() {
            self.effects.push_back(Effect::Beat {
                send_after: send.map(|interval| interval * 9 / 10),
                dead_after: expect.map(|interval| interval * 2),
            });
        }
    }
}

/// `can,wants` in milliseconds. What is neither counts as none.
fn parse_beats(value: &str) -> Option<(Duration, Duration)> {
    let (can, wants) = value.split_once(',')?;
    let millis = |text: &str| text.trim().parse::<u32>().ok().map(|n| Duration::from_millis(u64::from(n)));
    Some((millis(can)?, millis(wants)?))
}
