//! Who asks.

use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::role::Role;

/// Who asks, as the [gatekeeper](crate::Gatekeeper) knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Actor {
    /// The name of the credential: that of a token or key of the settings, or a token's subject. `local` without one.
    #[schema(example = "ada")]
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Where the request came from.
    #[schema(value_type = String, example = "127.0.0.1")]
    pub address: IpAddr,
}
