//! A work queue that several nodes share by the state that they append: whatever happens to nodes, answers and consumers, what was settled
//! does not come again, and what was not does.
//!
//! Each run is a seed. `QUEUE_MODEL_SEED=n` repeats one run, `QUEUE_MODEL_RUNS=n` makes more.

#![expect(clippy::unwrap_used, reason = "the model is wrong if one fails")]

mod named;
mod world;

use world::World;

/// Steps of one run before nothing disturbs any more.
const STEPS: usize = 800;

#[test]
fn what_was_settled_never_comes_again_and_all_else_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("QUEUE_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let fresh = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
            fresh..fresh + number("QUEUE_MODEL_RUNS").unwrap_or(300)
        }
    };
    println!("seeds {seeds:?}");
    for seed in seeds {
        let run = || {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.finish();
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("repeat with QUEUE_MODEL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
