//! `GET /v1/whoami`: who asks.

use super::Shared;
use crate::actor::Actor;
use crate::body::Json;
use crate::query::{self, Query};
use crate::role::Role;
use crate::route::{Asked, Route};

pub(crate) fn routes() -> Vec<Route<Shared>> {
    vec![Route::read(Role::Viewer, __path_whoami, whoami)]
}

/// Who you are
///
/// The name of your credential, and the role that it has.
#[utoipa::path(get, path = "/v1/whoami", operation_id = "whoami", tag = "access", params(query::None),
    responses((status = 200, description = "Who asks.", body = Actor)))]
async fn whoami(_: Query<query::None>, asked: Asked) -> Json<Actor> {
    Json(asked.actor)
}
