//! What a subscription brings.

use std::sync::Arc;

use bongsu_protocol::event::Lost;
use bongsu_protocol::message::Delivery;
use bongsu_protocol::position::Epoch;
use bongsu_protocol::topic::Topic;

use crate::error::Error;

/// One thing that a subscription brings.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message. On a topic with history each one comes once, in the order of offsets, whatever the connection does.
    Message(Arc<Delivery>),
    /// Messages that will not come: retention or a purge took them from the log before they were read, or this reader was too
    /// slow for a topic that keeps no history.
    Lost(Lost),
    /// The topic's log was made anew: positions of earlier epochs mean nothing any more, and what the application built from them
    /// may have to be built again. What follows is the new log, from its oldest kept message.
    Reset {
        /// Which topic.
        topic: Topic,
        /// The new log's epoch.
        epoch: Epoch,
    },
    /// The last item: the broker ended the subscription, or the client gave up connecting.
    Ended(Error),
}
