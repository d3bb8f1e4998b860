//! What is written down before anything is changed.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Error;
use crate::role::Role;

/// What somebody is about to change. It never holds a secret, nor a message's payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// Who.
    pub actor: String,
    /// The role that they have.
    pub role: Role,
    /// From where.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// What, as `resource.verb`.
    #[schema(example = "connections.disconnect")]
    pub action: String,
    /// To what: a session, a subject, a topic, a name.
    pub target: String,
    /// Why, as far as they said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// Why it was not done after all: the code of the problem. Such a record follows the one that said that it was about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The log of changes.
pub trait Audit {
    /// Writes down what is about to be changed. When this returns, it is kept; if it fails, the change is not made.
    ///
    /// # Errors
    /// It was not kept, or not certainly.
    fn record(&self, record: Record) -> BoxFuture<'_, Result<(), Error>>;
}

/// What somebody wants to change; the rest of the [`Record`] is who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    action: &'static str,
    target: String,
    reason: String,
    detail: serde_json::Value,
}

impl Change {
    /// Does something, as `resource.verb`, to something.
    pub fn new(action: &'static str, target: impl Into<String>) -> Self {
        Self { action, target: target.into(), reason: String::new(), detail: serde_json::Value::Null }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// The same with what else is worth knowing, without secrets.
    #[must_use]
    pub fn with(self, detail: serde_json::Value) -> Self {
        Self { detail, ..self }
    }

    /// The whole record.
    pub(crate) fn by(self, actor: &crate::Actor) -> Record {
        let Self { action, target, reason, detail } = self;
        Record {
            actor: actor.name.clone(),
            role: actor.role,
            address: actor.address,
            action: action.to_owned(),
            target,
            reason,
            detail,
            failed: None,
        }
    }
}
