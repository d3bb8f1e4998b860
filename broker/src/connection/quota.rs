//! What a connection and its user may take.

use std::sync::Arc;

use bongsu_protocol::reason::Error;
use bongsu_protocol::session::{Bounds, Session};

use crate::auth::{Identity, Limits};
use crate::node::Node;
use crate::quota::{Hold, Meter, Refused};

/// What one connection has of what it may take.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Its place among the sessions of its user.
    hold: Option<Hold>,
    meter: Meter,
    /// What its credential says.
    own: Limits,
}

/// Somebody for whom there is a place.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) identity: Arc<Identity>,
    /// `None`: the place that it has, or nobody's.
    hold: Option<Hold>,
}

impl Quota {
    /// Takes the place of a user's session.
    pub(super) fn admit(&mut self, node: &Node, identity: &Identity) -> Result<(), Refused> {
        self.hold = node.quotas().enter_user(identity.subject(), &identity.limits)?;
        self.own = identity.limits;
        Ok(())
    }

    /// Finds a place for whoever says who it is on a connection that is open. Where there is none, the request is refused, and the
    /// connection goes on as before.
    pub(super) fn judge(&self, node: &Node, result: Result<Arc<Identity>, Error>) -> Result<Judged, Error> {
        let identity = result?;
        // Who shows a newer credential of the same user has a place.
        let is_same = self.hold.as_ref().is_some_and(|hold| hold.is_of_user(identity.subject()));
        let hold = match is_same {
            true => None,
            false => node.quotas().enter_user(identity.subject(), &identity.limits)?,
        };
        Ok(Judged { identity, hold })
    }

    /// Takes the place that was found, in the place of the one before.
    pub(super) fn take(&mut self, judged: Judged) -> Arc<Identity> {
        let Judged { identity, hold } = judged;
        self.own = identity.limits;
        self.hold = hold.or_else(|| self.hold.take());
        identity
    }

    /// The bounds of a session that begins with its credential.
    pub(super) fn bounds(&self, bounds: Bounds) -> Bounds {
        let own = self.own.subscriptions.unwrap_or(usize::MAX);
        Bounds { subscriptions: bounds.subscriptions.min(own), ..bounds }
    }

    /// Tells a session that has begun of what its credential says.
    pub(super) fn bind<D: Clone>(&self, node: &Node, session: &mut Session<D>) {
        session.set_subscriptions_max(self.bounds(node.bounds()).subscriptions);
    }

    /// Takes a message's worth.
    pub(super) fn publish(&mut self, node: &Node, n_bytes: usize) -> Result<(), Error> {
        node.quotas().publish_on(&mut self.meter, &self.own, n_bytes)
    }
}
