//! Chance that a seed decides.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// One stream of chance. Everybody has its own, so that one more throw of one does not change those of all others.
#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    /// The stream of whoever has this name and number.
    pub(crate) fn of(seed: u64, name: &str, number: u64) -> Self {
        // Fixed keys: the same in every process of one build of the standard library.
        let mut hasher = DefaultHasher::new();
        (seed, name, number).hash(&mut hasher);
        Self(StdRng::seed_from_u64(hasher.finish()))
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// A number of a range.
    pub(crate) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A place in a list of `n`, which is not empty.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// One of several; none is no choice.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    /// Another order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        list.shuffle(&mut self.0);
    }
}
