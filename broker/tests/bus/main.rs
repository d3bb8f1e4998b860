//! What `broker/src/bus/mod.rs` says, asked of every bus, and of those over Redis while it fails.
//!
//! A new bus is added by one line at the end, `conformance!(name)`, and a function of that name that makes a [`world::World`], in
//! which nodes can join clusters.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod acl;
mod commands;
mod conformance;
mod faults;
mod node;
mod world;

use world::World;

macro_rules! tests {
    ($bus:ident: $($test:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            Box::pin(crate::conformance::$test(crate::World::$bus())).await;
        })+
    };
}

macro_rules! conformance {
    ($bus:ident) => {
        mod $bus {
            tests! { $bus:
                frames_arrive_at_every_node_that_wants_their_channel
                nothing_arrives_of_a_channel_that_is_not_wanted
                own_frames_come_back
                order_holds_on_a_channel_from_one_publisher
                calls_that_begin_one_after_another_keep_their_order
                what_is_published_after_subscribe_is_ready_arrives
                a_channel_that_is_no_longer_wanted_falls_silent
                wanting_twice_is_wanting_once
                the_last_word_on_a_channel_holds
                payloads_are_any_bytes_of_any_size
                channels_are_any_text
                ten_thousand_channels_are_subscribed_together
                a_full_inbox_tells_one_interruption_and_goes_on
                clusters_do_not_hear_each_other
                a_bus_without_its_server_errs_and_does_not_hang
                the_inbox_ends_with_the_bus
            }
        }
    };
}

conformance!(local);
conformance!(standalone);
conformance!(sharded);
conformance!(sentinel);
conformance!(cluster);
conformance!(tls_and_acl);
