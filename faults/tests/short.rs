//! The fault run, short enough for every day.

/// Chosen once, so that a failure can be told from bad luck; `cargo xtask faults` takes fresh ones.
const SEED: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn one_fault_of_each_kind_loses_doubles_and_reorders_nothing() {
    if let Err(error) = bongsu_faults::run_short(SEED).await {
        panic!("{error:#}");
    }
}
