//! Which requests of other nodes were taken already.
//!
//! Each sender numbers its requests from 1, and each receiver remembers the newest of a sender's numbers bit by bit, as IPsec does (RFC 4303,
//! 3.4.3): memory does not grow with the rate. Whoever was silent for as long as a request is good may be forgotten.

use std::collections::HashMap;
use std::time::Duration;

use crate::limits::{NODES_MAX, PEER_CLOCK_SKEW_MS, PEER_NUMBERS_REMEMBERED};

/// How long a sender is remembered at least: a request from as far in the future as is allowed stays good until it is as far in the past.
const MEMORY: Duration = Duration::from_millis(2 * PEER_CLOCK_SKEW_MS);

/// The requests that were taken, by sender.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    senders: HashMap<String, Window>,
}

/// The requests of one sender.
#[derive(Debug)]
struct Window {
    newest: u64,
    heard_at: Duration,
    /// For each of the newest numbers, whether it was taken; a number's bit is at the number modulo their count.
    taken: Box<[u64]>,
}

impl Numbers {
    /// Takes a request, unless it may have been taken before, or its sender cannot be remembered.
    pub(super) fn take(&mut self, sender: &str, number: u64, now: Duration) -> bool {
        if let Some(window) = self.senders.get_mut(sender) {
            return window.take(number, now);
        }
        if self.senders.len() >= NODES_MAX {
            self.senders.retain(|_, window| now.saturating_sub(window.heard_at) <= MEMORY);
        }
        if self.senders.len() >= NODES_MAX {
            return false;
        }
        self.senders.entry(sender.to_owned()).or_insert_with(Window::new).take(number, now)
    }
}

impl Window {
    fn new() -> Self {
        let words = usize::try_from(PEER_NUMBERS_REMEMBERED / 64).expect("8 KiB fit into memory");
        Self { newest: 0, heard_at: Duration::ZERO, taken: vec![0; words].into() }
    }

    fn take(&mut self, number: u64, now: Duration) -> bool {
        if number == 0 || number.saturating_add(PEER_NUMBERS_REMEMBERED) <= self.newest {
            return false;
        }
        if number > self.newest {
            if number - self.newest >= PEER_NUMBERS_REMEMBERED {
                self.taken.fill(0);
            } else {
                (self.newest + 1..=number).for_each(|skipped| self.set(skipped, false));
            }
            self.newest = number;
        }
        if self.is_set(number) {
            return false;
        }
        self.set(number, true);
        self.heard_at = now;
        true
    }

    fn place(number: u64) -> (usize, u64) {
        let place = number % PEER_NUMBERS_REMEMBERED;
        (usize::try_from(place / 64).expect("within the window"), 1 << (place % 64))
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.taken[word] & bit != 0
    }

    fn set(&mut self, number: u64, is_taken: bool) {
        let (word, bit) = Self::place(number);
        if is_taken { self.taken[word] |= bit } else { self.taken[word] &= !bit }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn no_number_is_taken_twice_nor_one_that_is_forgotten() {
        let mut numbers = Numbers::default();
        assert!(!numbers.take("a", 0, NOW));
        assert!(numbers.take("a", 5, NOW));
        assert!(numbers.take("a", 3, NOW), "requests overtake each other");
        assert!(!numbers.take("a", 3, NOW));
        assert!(numbers.take("b", 3, NOW), "another node counts for itself");
        assert!(numbers.take("a", 5 + PEER_NUMBERS_REMEMBERED, NOW));
        assert!(!numbers.take("a", 5, NOW));
        assert!(!numbers.take("a", 4, NOW), "nobody knows any more whether it was taken");
        assert!(numbers.take("a", 6, NOW));
        assert!(numbers.take("a", u64::MAX, NOW));
        assert!(!numbers.take("a", u64::MAX, NOW));
    }

    #[test]
    fn senders_are_forgotten_only_when_their_requests_are_no_longer_good() {
        let mut numbers = Numbers::default();
        for sender in 0..NODES_MAX {
            assert!(numbers.take(&sender.to_string(), 1, NOW));
        }
        assert!(!numbers.take("late", 1, NOW + MEMORY), "there is no room");
        assert!(!numbers.take("0", 1, NOW + MEMORY));
        assert!(numbers.take("late", 1, NOW + MEMORY + Duration::from_millis(1)));
    }

    proptest! {
        #[test]
        fn windows_take_what_a_set_would(jumps in prop::collection::vec((0..4_u8, 0..200_000_u64), 1..100)) {
            let (mut window, mut taken, mut newest) = (Window::new(), HashSet::new(), 0_u64);
            for (way, by) in jumps {
                let number = match way {
                    0 => newest.saturating_sub(by % 70_000),
                    1 => newest.saturating_sub(by % 5),
                    2 => newest + by % 5,
                    _ => newest + by % 70_000,
                };
                let is_known = number > 0 && number + PEER_NUMBERS_REMEMBERED > newest;
                prop_assert_eq!(window.take(number, NOW), is_known && taken.insert(number));
                newest = newest.max(number);
            }
        }
    }
}
