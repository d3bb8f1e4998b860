//! How a bus of several servers is, from how each of them is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Health, Intake};

/// Collects what is wrong with any part of a bus. All is well where nothing is.
#[derive(Debug)]
pub(super) struct Board {
    intake: Arc<Intake>,
    /// What is wrong, by the part's name.
    troubles: Mutex<BTreeMap<String, String>>,
}

impl Board {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        Self { intake, troubles: Mutex::default() }
    }

    /// Says what is wrong with a part, or that nothing is. Whether that is news.
    pub(super) fn set(&self, part: &str, trouble: Option<&str>) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match trouble {
            Some(reason) => troubles.insert(part.to_owned(), reason.to_owned()),
            None => troubles.remove(part),
        };
        let health = if troubles.is_empty() {
            Health::Live
        } else {
            let reasons: Vec<_> = troubles.iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
            Health::Degraded { reason: reasons.join("; ") }
        };
        // Under the lock, so that of two changes the later one is what is seen.
        self.intake.set_health(health);
        before.as_deref() != trouble
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bounds, Inbox};
    use super::*;

    #[test]
    fn one_part_in_trouble_degrades_the_whole_until_it_is_well() {
        let (intake, inbox) = Inbox::new(Bounds::default());
        let board = Board::new(Arc::new(intake));
        assert!(board.set("a:1", Some("away")));
        assert!(board.set("b:2", Some("silent")));
        assert!(board.set("a:1", None));
        assert!(!board.set("a:1", None));
        let reason = "b:2: silent".to_owned();
        assert_eq!(*inbox.health.borrow(), Health::Degraded { reason });
        board.set("b:2", None);
        assert_eq!(*inbox.health.borrow(), Health::Live);
    }
}
