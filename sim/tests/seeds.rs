//! Runs of whole clusters, from seeds that stay and from fresh ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bongsu_sim::{Keep, Plan, Report, run};

/// Runs a plan and says all there is to say if something was not as it should be.
fn check(plan: &Plan) -> Report {
    let report = run(plan);
    assert!(
        report.violations.is_empty(),
        "{}\nseed {}: {:#?}\nrepeat it with: cargo run -p bongsu-sim -- --seed {0}",
        report.trace,
        plan.seed,
        report.violations
    );
    assert!(report.n_acknowledged > 100 && report.n_delivered > 100, "nothing much happened: {report:#?}");
    report
}

/// Each of these seeds once found a bug; `docs/simulation.md` says which.
#[test]
fn fixed_seeds_lose_double_and_reorder_nothing() {
    for seed in [1, 4, 5, 6, 18] {
        check(&Plan::new(seed));
    }
}

#[test]
fn fresh_seeds_lose_double_and_reorder_nothing() {
    let given = std::env::var("BONGSU_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first: u64 =
        given.unwrap_or_else(|| clock.as_secs() << 10 | u64::from(clock.subsec_micros()) & 0x3ff);
    let n_seeds = if given.is_some() { 1 } else { 3 };
    for seed in first..first + n_seeds {
        println!("seed {seed}");
        check(&Plan::new(seed));
    }
}

#[test]
fn node_that_is_alone_on_its_bus_serves_as_well() {
    check(&Plan { nodes: 1, rounds: 1, ..Plan::new(2) });
}

#[test]
fn same_seed_makes_the_same_trace_byte_for_byte() {
    let plan = Plan {
        rounds: 1,
        chaos: Duration::from_secs(20),
        silence: Duration::from_secs(5),
        keep: Keep::Everything,
        ..Plan::new(3)
    };
    let (first, second) = (check(&plan), check(&plan));
    assert_eq!(first.n_lines, second.n_lines);
    for (number, (first, second)) in first.trace.lines().zip(second.trace.lines()).enumerate() {
        assert_eq!(first, second, "line {number}");
    }
    assert_eq!(first.digest, second.digest);
    let other = run(&Plan { seed: 4, ..plan });
    assert_ne!(first.digest, other.digest, "another seed is another run");
}
