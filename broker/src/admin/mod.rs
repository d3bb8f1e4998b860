//! What administrators see of the cluster and do to it: the traits of `bongsu-admin-api`, as this node answers them.
//!
//! What concerns all nodes is asked of each of them, this one among them, and put together; see [`others`]. A node answers the others'
//! questions by [`answer`], on the port for nodes only.
//!
//! | module | what it holds |
//! |---|---|
//! | [`gatekeeper`] | who asks |
//! | `others` | questions to the other nodes, and the answers to theirs |
//! | `audit`, `nodes`, … | one module for each resource of the API |

mod audit;
pub mod gatekeeper;
mod nodes;
mod others;

use std::sync::Arc;

use crate::node::Node;

pub use gatekeeper::Gatekeeper;
pub use others::answer;

/// A node, as its administrators have it.
#[derive(Debug, Clone)]
pub struct Admin {
    node: Arc<Node>,
}

impl Admin {
    /// The node, to its administrators.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}
