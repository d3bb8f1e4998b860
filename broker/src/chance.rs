//! The only place that throws dice: what is to be spread, is spread from here.

use std::cell::RefCell;

use rand::SeedableRng as _;
use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::rngs::StdRng;

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// A random value of a range, any as likely as any other. Not for secrets.
pub fn range<T: SampleUniform>(range: impl SampleRange<T>) -> T {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(seeded) => rand::Rng::random_range(seeded, range),
        None => rand::random_range(range),
    })
}

/// Bytes that nobody can guess, from the operating system, for secrets. No seed decides them.
///
/// # Panics
/// The operating system gives none, which it always does on the systems that this runs on.
#[must_use]
pub fn secret() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut bytes)
        .expect("the operating system has random bytes");
    bytes
}

/// Lets everything that follows on this thread be decided by a seed; `None` is true chance again. For simulations.
pub fn simulate(seed: Option<u64>) {
    SEEDED.set(seed.map(StdRng::seed_from_u64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_decides_what_follows() {
        let throw = || {
            simulate(Some(7));
            (0..8).map(|_| range(0..=u64::MAX)).collect::<Vec<_>>()
        };
        let first = throw();
        assert_eq!(throw(), first);
        simulate(None);
        assert_ne!((0..8).map(|_| range(0..=u64::MAX)).collect::<Vec<_>>(), first);
    }
}
