//! From what is known, and what consumers did since, to the next state.

use crate::limits::QUEUE_DEAD_AT_ONCE_MAX;

use super::state::{Return, State};
use super::{Burial, Proposal, Queue, Settlement};

impl Queue {
    /// What should hold. `None`: what holds already, or a proposal is under way. Append it on the condition that the newest state is the one
    /// that was learned last; then [`learn`](Self::learn) it, or what is there instead.
    pub fn propose(&mut self) -> Option<Proposal> {
        if self.is_proposed || self.is_quiet {
            return None;
        }
        let known = self.state.as_ref()?;
        let mut next = known.clone();
        if self.head.epoch > next.epoch {
            next.restart(self.head.epoch);
        }
        let mut n_lost = 0;
        if self.first.epoch == next.epoch {
            n_lost = next.trim(self.first.offset.0);
        }
        for holder in &self.gone {
            let held: Vec<u64> = next.held_by(holder).map(|(offset, _)| offset).collect();
            for offset in held {
                next.give_back(offset, Return::Tried, self.tries_max);
            }
        }
        if next.epoch == known.epoch {
            self.settle_in(&mut next);
        }
        self.claim_in(known, &mut next);
        if next == *known {
            self.is_quiet = true;
            return None;
        }
        self.is_proposed = true;
        Some(Proposal { state: next, n_lost })
    }

    /// Carries what consumers did into a state.
    fn settle_in(&self, next: &mut State) {
        for (offset, settling) in &self.settling {
            match settling.settlement {
                // Whoever else got it meanwhile: it is done.
                Settlement::Done => next.finish(*offset),
                Settlement::Requeue if next.is_held_by(*offset, &self.me) => {
                    next.give_back(*offset, Return::Tried, self.tries_max);
                }
                Settlement::Reject if next.is_held_by(*offset, &self.me) => next.kill(*offset),
                Settlement::Requeue | Settlement::Reject => {}
            }
        }
        for (offset, how) in &self.returning {
            if next.is_held_by(*offset, &self.me) {
                next.give_back(*offset, *how, self.tries_max);
            }
        }
        for (offset, burial) in &self.dead {
            match burial {
                Burial::Over => next.finish(*offset),
                // Without consumers this node does not stay to the end of it.
                Burial::Due | Burial::UnderWay if self.consumers.is_empty() => {
                    next.give_back(*offset, Return::Untried, self.tries_max);
                }
                Burial::Due | Burial::UnderWay => {}
            }
        }
    }

    /// Claims what consumers here have room for, and some of what is dead. What this very state gives back is left to the next one, with the
    /// room for it: so nothing is with the same node for two reasons in a row without a state in between that says so, and what came back
    /// still goes first.
    fn claim_in(&self, known: &State, next: &mut State) {
        if self.consumers.is_empty() {
            return;
        }
        let is_same_log = known.epoch == next.epoch;
        let was_mine = |offset: u64| is_same_log && known.is_held_by(offset, &self.me);
        let mut n_rooms: usize = self
            .consumers
            .iter()
            .map(|consumer| consumer.prefetch.saturating_sub(consumer.n_held) as usize)
            .sum();
        let mut n_graves = QUEUE_DEAD_AT_ONCE_MAX.saturating_sub(self.dead.len());
        let waiting: Vec<(u64, bool)> = next.waiting().collect();
        for (offset, is_dead) in waiting {
            let n_free = if is_dead { &mut n_graves } else { &mut n_rooms };
            if *n_free > 0 {
                *n_free -= 1;
                if !was_mine(offset) {
                    next.claim(offset, &self.me);
                }
            }
        }
        while n_rooms > 0
            && self.head.epoch == next.epoch
            && let Some(offset) = next.next_fresh().filter(|offset| *offset <= self.head.offset.0)
        {
            n_rooms -= 1;
            next.claim(offset, &self.me);
        }
    }
}
