//! What `persistence/src/store.rs` says, asked of every store.
//!
//! A new store is added by one line at the end: `conformance!(name, open)`, where `open` makes an empty store, and whatever has to live as
//! long as it does.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod append;
mod changes;
mod ids;
mod read;
mod remove;
mod support;
mod topics;

use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::postgres::{PostgresOptions, PostgresStore};
use bongsu_persistence::sqlite::{SqliteOptions, SqliteStore};

macro_rules! tests {
    ($open:ident: $($module:ident: $($test:ident)+;)+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $test() {
                let (store, _kept) = super::super::$open().await;
                Box::pin(crate::$module::$test(&store)).await;
            })+
        })+
    };
}

macro_rules! conformance {
    ($store:ident, $open:ident) => {
        mod $store {
            tests! { $open:
                append:
                    offsets_begin_at_one_and_have_no_holes
                    outcomes_come_in_the_order_of_the_batch
                    an_empty_batch_is_nothing
                    a_log_has_one_epoch_and_it_is_not_before_the_first_message
                    a_log_made_anew_has_a_larger_epoch_though_the_clock_went_back
                    times_never_go_back_within_a_log
                    readers_get_what_was_stored
                    expect_lets_only_the_next_offset_pass
                    a_conflict_does_not_make_a_log
                    a_conflict_does_not_keep_the_rest_of_the_batch
                    expect_holds_within_a_batch
                    expect_counts_trimmed_messages
                    a_batch_may_have_many_messages_and_topics
                    appends_at_the_same_time_leave_no_hole;
                ids:
                    a_second_message_with_an_id_is_answered_with_the_first_position
                    a_duplicate_within_a_batch_is_found
                    a_duplicate_does_not_keep_the_rest_of_the_batch
                    ids_belong_to_their_topic
                    messages_without_id_are_never_duplicates
                    an_id_guards_only_within_its_window
                    an_id_guards_anew_after_its_window
                    a_window_of_zero_guards_nothing
                    the_first_message_decides_how_long_its_id_guards
                    a_retried_conditional_publish_is_a_duplicate_and_no_conflict
                    an_id_outlives_its_message
                    an_id_goes_with_its_log
                    ids_are_forgotten_in_bounded_steps
                    ids_whose_window_has_not_passed_are_kept;
                read:
                    a_topic_without_a_log_has_epoch_zero
                    forward_reads_from_every_kind_of_start
                    starts_before_the_first_kept_message_read_from_it
                    backward_reads_newest_first
                    another_epoch_and_past_the_head_are_empty_with_bounds
                    a_page_by_time_starts_with_the_first_message_of_that_time
                    a_page_has_at_most_the_messages_asked_for
                    a_page_has_at_most_the_messages_of_the_protocol
                    a_page_has_at_most_the_bytes_of_the_protocol
                    a_page_has_one_message_however_large
                    pages_put_together_are_the_log
                    a_page_and_its_bounds_are_of_one_moment;
                topics:
                    logs_are_listed_in_the_order_of_their_names
                    filters_match_as_everywhere
                    a_listing_goes_on_after_a_name
                    many_logs_are_listed_page_by_page
                    bounds_tell_what_is_kept
                    a_listing_tells_bytes_and_the_newest_time
                    a_look_at_names_goes_on_where_it_ended
                    a_prefix_may_end_within_a_level;
                changes:
                    every_append_is_told_by_one_of_two_answers_in_a_row
                    a_log_is_told_once_with_all_that_was_appended
                    nothing_is_told_of_what_was_not_stored
                    a_log_made_anew_is_told_from_its_beginning
                    a_strange_mark_is_answered_with_not_complete
                    appends_at_the_same_time_are_all_told;
                remove:
                    retention_by_age_takes_what_is_older
                    retention_by_count_keeps_the_newest
                    retention_by_bytes_keeps_the_newest_message
                    the_tightest_bound_of_a_retention_counts
                    an_unbounded_retention_takes_nothing
                    retention_takes_bounded_steps
                    purge_takes_messages_and_keeps_the_log
                    purge_takes_bounded_steps
                    an_erased_message_keeps_its_place_time_and_id
                    erased_bytes_do_not_count_for_retention
                    only_the_named_message_is_erased
                    a_deleted_log_is_gone_at_once
                    removing_again_takes_nothing;
            }
        }
    };
}

async fn memory() -> (MemoryStore, ()) {
    (MemoryStore::default(), ())
}

async fn sqlite() -> (SqliteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("bongsu.db"))).await.unwrap();
    (store, folder)
}

async fn postgres() -> (PostgresStore, ()) {
    let url = bongsu_testkit::Postgres::shared().database();
    (PostgresStore::open(PostgresOptions::new(url)).await.unwrap(), ())
}

conformance!(memory_store, memory);
conformance!(sqlite_store, sqlite);
conformance!(postgres_store, postgres);
