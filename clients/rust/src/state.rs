//! Where a client stands.

use std::sync::Arc;
use std::time::Duration;

use bongsu_protocol::event::Welcome;

use crate::error::Disconnected;

/// Where a client stands.
#[derive(Debug, Clone)]
pub enum State {
    /// An attempt is under way.
    Connecting,
    /// There is a connection, with this welcome.
    Open(Arc<Welcome>),
    /// The next attempt comes after a pause.
    Waiting {
        /// Of this length, from when this state began.
        pause: Duration,
        /// Why there is no connection.
        cause: Arc<Disconnected>,
    },
    /// There will be no further attempt. Without a cause, the application closed the client.
    Closed(Option<Arc<Disconnected>>),
}
