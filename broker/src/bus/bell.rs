//! What wakes those who follow the broker's own small logs.

use tokio::sync::watch;

/// Where nodes tell each other that there is something new in one of the broker's own logs: a command of an operator, or another version
/// of a register. Whoever hears it looks; what a frame says does not matter.
pub const CONTROL_CHANNEL: &str = "control";

/// Wakes everybody who listens: there may be something new in a log of the broker's own. Cheap to clone; each clone rings for all.
#[derive(Debug, Clone, Default)]
pub struct Bell(watch::Sender<()>);

/// One who hears a [`Bell`].
#[derive(Debug)]
pub struct Listener(watch::Receiver<()>);

impl Bell {
    /// Wakes everybody.
    pub fn ring(&self) {
        self.0.send_replace(());
    }

    /// Hears it from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Waits until it was rung since this was asked last. For good, once nobody is left who could ring: also look from time to time.
    pub async fn rung(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everybody_hears_what_rang_while_they_were_busy() {
        let bell = Bell::default();
        let (mut first, mut second) = (bell.listen(), bell.listen());
        bell.clone().ring();
        bell.ring();
        first.rung().await;
        second.rung().await;
        let again = tokio::time::timeout(Duration::from_secs(1), first.rung()).await;
        assert!(again.is_err(), "two rings before it looked are one");
    }
}
