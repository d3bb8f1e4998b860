//! What operators decide while nodes run: policies, limits, keys, and the log of who decided what.

use std::sync::{Arc, Weak};

use bongsu_persistence::store::Store;
use tokio::sync::watch;

use crate::audit::AuditLog;
use crate::config::{LimitSettings, LiveLimits, LivePolicies, Policies, Settings};
use crate::keys::Keys;
use crate::registers::{Register, Registers, Versioned};

/// What operators decided, the same on every node.
#[derive(Debug)]
pub struct Decisions {
    registers: Registers,
    policies: Arc<Policies>,
    live_policies: Register<LivePolicies>,
    live_limits: Register<LiveLimits>,
    keys: Keys,
    audit: Arc<AuditLog>,
}

impl Decisions {
    /// Follows what operators decide, and lets their policies go before those of the settings.
    #[must_use]
    pub fn follow(
        registers: &Registers,
        store: &Arc<dyn Store>,
        settings: &Settings,
        policies: &Arc<Policies>,
    ) -> Self {
        let live_policies: Register<LivePolicies> = registers.open("policies");
        tokio::spawn(heed(live_policies.watch(), Arc::downgrade(policies)));
        Self {
            registers: registers.clone(),
            policies: Arc::clone(policies),
            live_policies,
            live_limits: registers.open("limits"),
            keys: Keys::open(registers),
            audit: AuditLog::spawn(store, settings.admin.audit_retention),
        }
    }

    /// The policies that go before those of the settings.
    #[must_use]
    pub const fn live_policies(&self) -> &Register<LivePolicies> {
        &self.live_policies
    }

    /// Lets what is known of the live policies hold. They do so by themselves, a moment later.
    pub fn heed_policies(&self) {
        self.policies.put_before(|| self.live_policies.current().document);
    }

    /// The limits that hold instead of those of the settings.
    #[must_use]
    pub const fn live_limits(&self) -> &Register<LiveLimits> {
        &self.live_limits
    }

    /// The limits that hold at this moment. Ask whenever something begins that one of them is for; [`live_limits`](Self::live_limits) tells
    /// of changes.
    #[must_use]
    pub fn limits(&self, settings: &Settings) -> LimitSettings {
        self.live_limits.current().document.over(&settings.limits)
    }

    /// Hands the limits on whenever operators change them, as long as they can be.
    pub fn follow_limits(
        &self,
        settings: &Settings,
        hand_on: impl Fn(LimitSettings) -> bool + Send + 'static,
    ) {
        let (mut live, settings) = (self.live_limits.watch(), settings.limits.clone());
        tokio::spawn(async move {
            while live.changed().await.is_ok() {
                let limits = live.borrow_and_update().document.over(&settings);
                if !hand_on(limits) {
                    return;
                }
            }
        });
    }

    /// The keys of administrators.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The log of what administrators change.
    #[must_use]
    pub const fn audit(&self) -> &Arc<AuditLog> {
        &self.audit
    }

    /// Waits until everything that was decided before this node started is known and holds. That may be never where the store is away: bound
    /// it.
    pub async fn caught_up(&self) {
        self.registers.caught_up().await;
        self.heed_policies();
    }
}

/// Lets the policies that operators change hold, as long as there is anybody whom they concern.
async fn heed(mut live: watch::Receiver<Versioned<LivePolicies>>, policies: Weak<Policies>) {
    while live.changed().await.is_ok() {
        let Some(policies) = policies.upgrade() else { return };
        policies.put_before(|| Arc::clone(&live.borrow_and_update().document));
    }
}
