//! Heart-beats of STOMP: what both sides agreed to send, and when who did not is dead. Pure, as the other timers.

use std::time::Duration;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Beats {
    /// A heart-beat is due after this long without anything written; `None`: the client wants none.
    send_after: Option<Duration>,
    /// The client is dead after this long without anything read; `None`: it promised nothing.
    dead_after: Option<Duration>,
    /// When to look again whether one is due.
    send_at: Duration,
    /// When the client was last heard, or could not be since nobody listened.
    heard_at: Duration,
    is_listening: bool,
}

impl Beats {
    pub(super) fn new(send_after: Option<Duration>, dead_after: Option<Duration>, now: Duration) -> Self {
        let send_at = now + send_after.unwrap_or_default();
        Self { send_after, dead_after, send_at, heard_at: now, is_listening: true }
    }

    /// Something was read.
    pub(super) const fn heard(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// Whether the socket is read from now on. While it is not, a client that speaks is not heard, and its silence says nothing.
    pub(super) const fn listen(&mut self, is_listening: bool, now: Duration) {
        if is_listening && !self.is_listening {
            self.heard_at = now;
        }
        self.is_listening = is_listening;
    }

    /// The earliest of both times.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let send_at = self.send_after.map(|_| self.send_at);
        [send_at, self.dead_at()].into_iter().flatten().min()
    }

    pub(super) fn is_dead(&self, now: Duration) -> bool {
        self.dead_at().is_some_and(|at| now >= at)
    }

    /// Whether a heart-beat is to be sent. `written_at`: when something was last; a full socket has what tells of life in it already.
    pub(super) fn take_send(&mut self, now: Duration, written_at: Duration, is_blocked: bool) -> bool {
        let Some(send_after) = self.send_after.filter(|_| now >= self.send_at) else { return false };
        let is_due = !is_blocked && now >= written_at + send_after;
        self.send_at = if is_due || is_blocked { now } else { written_at } + send_after;
        is_due
    }

    fn dead_at(&self) -> Option<Duration> {
        self.dead_after.filter(|_| self.is_listening).map(|after| self.heard_at + after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_beat_is_due_after_nothing_was_written_for_the_interval() {
        let mut beats = Beats::new(Some(seconds(9)), None, seconds(0));
        assert_eq!(beats.next_due(), Some(seconds(9)));
        assert!(!beats.take_send(seconds(9), seconds(4), false), "something was written since");
        assert_eq!(beats.next_due(), Some(seconds(13)));
        assert!(beats.take_send(seconds(13), seconds(4), false));
        assert_eq!(beats.next_due(), Some(seconds(22)));
        assert!(!beats.take_send(seconds(22), seconds(13), true), "a full socket takes none");
        assert_eq!(beats.next_due(), Some(seconds(31)));
    }

    #[test]
    fn a_client_is_dead_once_it_was_silent_for_too_long_while_somebody_listened() {
        let mut beats = Beats::new(None, Some(seconds(20)), seconds(0));
        assert!(!beats.is_dead(seconds(19)));
        beats.heard(seconds(19));
        assert_eq!(beats.next_due(), Some(seconds(39)));
        beats.listen(false, seconds(20));
        assert_eq!(beats.next_due(), None);
        assert!(!beats.is_dead(seconds(100)));
        beats.listen(true, seconds(100));
        assert_eq!(beats.next_due(), Some(seconds(120)));
        assert!(beats.is_dead(seconds(120)));
    }

    #[test]
    fn who_agreed_to_nothing_is_left_alone() {
        let mut beats = Beats::new(None, None, seconds(0));
        assert_eq!(beats.next_due(), None);
        assert!(!beats.is_dead(seconds(1000)) && !beats.take_send(seconds(1000), seconds(0), false));
    }
}
