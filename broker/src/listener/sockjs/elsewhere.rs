//! Sessions that another node has: SJ-44.
//!
//! A load balancer sends each request to any node. The first one that a session's client meets claims it, and the others forward to that
//! one, which answers as if the client had come to it.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;

use super::Desk;
use crate::peers::{Destination, ForwardError};

/// An answer, and whose.
pub(super) enum Reply {
    /// This node's.
    Here(Response),
    /// Another node's, which has all that an answer needs.
    Elsewhere(Response),
}

/// Why another node did not answer.
pub(super) enum Unforwarded {
    /// The session is lost with its node.
    Lost,
    /// There is no room on the way, or the node does not believe this one yet. Later it may.
    Busy,
}

impl Desk {
    /// What a session is called among those of all services.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.service.prefix)
    }

    /// Has the session's own node answer.
    pub(super) async fn forward(
        &self,
        name: &str,
        to: &Destination,
        request: Request,
    ) -> Result<Response, Unforwarded> {
        match self.node.peers().forward(to, request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(ForwardError::Again | ForwardError::Unreachable(_) | ForwardError::Interrupted(_)) => {
                self.node.peers().forget(&self.key(name));
                Err(Unforwarded::Lost)
            }
            Err(
                ForwardError::NoSecret | ForwardError::Refused | ForwardError::Full | ForwardError::Draining,
            ) => Err(Unforwarded::Busy),
        }
    }
}
