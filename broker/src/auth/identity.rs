//! What a verified credential says of whoever showed it.

use std::sync::Arc;

use bongsu_protocol::message::Time;
use bongsu_protocol::session::Grants;

/// Who a client is, what it may do, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The subject, and what it may do. Shared by all connections of the same credential where it stands in the settings.
    pub grants: Arc<Grants>,
    /// The credential's own name, by which it can be revoked alone; `None` if it has none.
    pub token_id: Option<Arc<str>>,
    /// When it was issued; `None` if it does not say. All of a subject's credentials from before a time can be revoked together.
    pub issued_at: Option<Time>,
    /// When it ends, and with it what it allowed; `None`: never.
    pub expires_at: Option<Time>,
    /// What its bearer may take, beside what the settings say for all.
    pub limits: Limits,
}

/// What the bearer of a credential may take, in place of what the settings say where that is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Connections of its subject on one node.
    pub connections: Option<usize>,
    /// Filters that one connection subscribes to.
    pub subscriptions: Option<usize>,
    /// Messages a second, of one connection.
    pub publishes_per_second: Option<u32>,
    /// Bytes of payload a second, of one connection.
    pub bytes_per_second: Option<u64>,
    /// Bytes of one message's payload.
    pub message_bytes: Option<usize>,
}

/// What an administrator may do: each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Also read and publish messages, disconnect, revoke and block.
    Operator,
    /// Everything.
    Admin,
}

impl Identity {
    /// Somebody of whom nothing is known but what they may do.
    #[must_use]
    pub fn of(grants: Grants) -> Self {
        Self { grants: Arc::new(grants), ..Self::default() }
    }

    /// Whose credential it is; empty for an anonymous client.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.grants.subject
    }
}
