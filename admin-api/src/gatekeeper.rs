//! Who says which administrator a request is of.

use futures_util::future::BoxFuture;
use http::request::Parts;

use crate::actor::Actor;
use crate::problem::Problem;

/// Says who asks.
pub trait Gatekeeper: Send + Sync + 'static {
    /// Says who sent a request with this head. Asked for each request, before anything else is looked at.
    ///
    /// # Errors
    /// 401 where nobody knows who, with what to show or to set; 403 where nobody may ask like this; 503 where it cannot be known now.
    fn admit<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Actor, Problem>>;
}
