//! One log through every way in.

/// Chosen once, so that a failure can be told from bad luck.
const SEED: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn one_topic_is_the_same_in_every_way_in_while_its_node_dies() {
    if let Err(error) = bongsu_faults::run_one_topic(SEED).await {
        panic!("{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_resume_skips_is_noticed_in_every_way_in() {
    if let Err(error) = bongsu_faults::run_one_topic_with_flaws(SEED).await {
        panic!("{error:#}");
    }
}
