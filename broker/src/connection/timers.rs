//! When a connection pings, gives up, or is sent away. Pure: the clock is looked at by the caller of each method, through [`clock`].

use std::time::Duration;

use bongsu_protocol::message::Time;

use crate::auth::{self, Expiry, Identity};
use crate::chance;
use crate::clock;
use crate::drain::Phase;
use crate::limits::{CLOSE_TIMEOUT, STOMP_LINGER, STOMP_LOGIN_TIMEOUT};
use crate::node::Timing;
use crate::outbound::State;

use super::beats::Beats;

/// What a connection waits for by the clock.
#[derive(Debug)]
pub(super) struct Timers {
    timing: Timing,
    /// The next ping; none where the carrier has no pings.
    ping_at: Option<Duration>,
    /// When the last ping was sent that nothing was heard after.
    pinged_at: Option<Duration>,
    /// When the connection is sent away.
    go_away_at: Option<Duration>,
    /// When it ends even if the other side never answers.
    over_at: Option<Duration>,
    /// When a client that said goodbye and does not close is closed.
    leave_at: Option<Duration>,
    /// When a STOMP client that did not log in is sent away.
    login_by: Option<Duration>,
    /// When the client's token ends. Boxed, since most of the time nobody looks at it.
    token: Option<Box<Expiry>>,
    /// What a STOMP client agreed to. Boxed, so that other connections do not pay for it.
    beats: Option<Box<Beats>>,
    peer_closed: bool,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing but what was done here already.
    Nothing,
    /// Tell the client to go.
    GoAway,
    /// Nothing was heard after a ping, or for two heart-beats.
    Dead,
    /// The client did not log in.
    Stranger,
    /// The client said goodbye and had its time to close.
    Leave,
    /// The socket takes nothing.
    Stuck,
    /// The client's token has ended.
    Expired,
    /// The other side had its time to close.
    Over,
}

impl Timers {
    pub(super) fn new(timing: Timing, has_pings: bool) -> Self {
        let ping_at = has_pings.then(|| clock::monotonic() + jittered(timing.ping_interval));
        Self {
            timing,
            ping_at,
            pinged_at: None,
            go_away_at: None,
            over_at: None,
            leave_at: None,
            login_by: None,
            token: None,
            beats: None,
            peer_closed: false,
        }
    }

    /// The client has to log in first.
    pub(super) fn await_login(&mut self) {
        self.login_by = Some(clock::monotonic() + STOMP_LOGIN_TIMEOUT);
    }

    /// The client logged in, or was refused.
    pub(super) const fn handle_login(&mut self) {
        self.login_by = None;
    }

    /// The client is this one from now on, for as long as its token says.
    pub(super) fn identify(&mut self, identity: &Identity) {
        self.token = Expiry::of(identity).map(Box::new);
    }

    /// When the client's token ends; `None` if it does not.
    pub(super) fn token_expires(&self) -> Option<Time> {
        self.token.as_ref().map(|token| token.expires_at())
    }

    /// Both sides agreed on heart-beats.
    pub(super) fn agree(&mut self, send_after: Option<Duration>, dead_after: Option<Duration>) {
        self.beats = Some(Box::new(Beats::new(send_after, dead_after, clock::monotonic())));
    }

    /// The client said goodbye: it has a moment to close first.
    pub(super) fn leave_soon(&mut self) {
        self.leave_at.get_or_insert_with(|| clock::monotonic() + STOMP_LINGER);
    }

    /// Bytes came, whatever they are part of.
    pub(super) fn heard_bytes(&mut self) {
        if let Some(beats) = &mut self.beats {
            beats.heard(clock::monotonic());
        }
    }

    /// Whether the socket is read from now on.
    pub(super) fn listen(&mut self, is_listening: bool) {
        if let Some(beats) = &mut self.beats {
            beats.listen(is_listening, clock::monotonic());
        }
    }

    /// Milliseconds within which the client hears of the broker at least once.
    pub(super) fn heartbeat_ms(&self) -> u64 {
        let longest = self.timing.ping_interval.mul_f64(1.1);
        u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)
    }

    /// The client sent something.
    pub(super) const fn heard(&mut self) {
        self.pinged_at = None;
    }

    pub(super) fn handle_phase(&mut self, phase: Phase) {
        if phase == Phase::Draining && self.go_away_at.is_none() {
            let spread = self.timing.drain_spread;
            self.go_away_at = Some(clock::monotonic() + spread.mul_f64(chance::range(0.0..=1.0)));
        }
    }

    /// The close frame was or will be sent: the other side has a moment to answer it.
    pub(super) fn close_soon(&mut self) {
        self.over_at.get_or_insert_with(|| clock::monotonic() + CLOSE_TIMEOUT);
    }

    pub(super) fn handle_peer_closed(&mut self) {
        self.peer_closed = true;
        self.close_soon();
    }

    pub(super) const fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// The earliest of all times; `None`: nothing is due before something happens.
    pub(super) fn next_due(&self, state: &State) -> Option<Duration> {
        let stuck_at = state.is_blocked().then(|| state.progress_at() + self.timing.write_timeout);
        let dead_at = self.dead_at(state);
        let reader_at = state.session().poll_timeout();
        let beat_at = self.beats.as_ref().and_then(|beats| beats.next_due());
        let token_at = self.token.as_ref().map(|token| token.next_due());
        let ends = [token_at, self.go_away_at, self.over_at, self.leave_at, self.login_by];
        [self.ping_at, stuck_at, dead_at, reader_at, beat_at].into_iter().chain(ends).flatten().min()
    }

    /// When a client that does not answer is taken for dead. One whose full socket takes bytes again is slow: its pong waits behind what
    /// it has yet to read.
    fn dead_at(&self, state: &State) -> Option<Duration> {
        self.pinged_at.map(|at| at.max(state.drained_at()) + self.timing.pong_timeout)
    }

    /// Does what is due, or says what the connection must do.
    pub(super) fn take_due(&mut self, state: &mut State) -> Due {
        let now = clock::monotonic();
        if self.over_at.is_some_and(|at| now >= at) {
            return Due::Over;
        }
        if state.is_blocked() && now >= state.progress_at() + self.timing.write_timeout {
            return Due::Stuck;
        }
        if self.dead_at(state).is_some_and(|at| now >= at) {
            self.pinged_at = None;
            return Due::Dead;
        }
        if self.login_by.is_some_and(|at| now >= at) {
            self.login_by = None;
            return Due::Stranger;
        }
        if self.leave_at.is_some_and(|at| now >= at) {
            self.leave_at = None;
            return Due::Leave;
        }
        if self.go_away_at.is_some_and(|at| now >= at) {
            self.go_away_at = None;
            return Due::GoAway;
        }
        match self.token.as_mut().and_then(|token| token.take_due(now)) {
            Some(auth::Due::Warning(expiring)) => state.dialog.warn_of_token(expiring),
            Some(auth::Due::End) => {
                self.token = None;
                return Due::Expired;
            }
            None => {}
        }
        if let Some(beats) = &mut self.beats {
            if beats.is_dead(now) {
                self.beats = None;
                return Due::Dead;
            }
            if beats.take_send(now, state.written_at(), state.is_blocked())
                && let Some(conversation) = state.dialog.stomp()
            {
                conversation.beat();
            }
        }
        if self.ping_at.is_some_and(|at| now >= at) {
            self.ping_at = Some(now + jittered(self.timing.ping_interval));
            if !state.dialog.is_closing() {
                self.pinged_at.get_or_insert(now);
                state.ping();
                if now >= state.written_at() + self.timing.ping_interval.mul_f64(0.9) {
                    // Browsers do not show pings to scripts.
                    state.heartbeat();
                }
            }
        }
        Due::Nothing
    }
}

/// Within a tenth of an interval, so that connections that began together do not ping together for ever.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(chance::range(0.9..=1.1))
}
