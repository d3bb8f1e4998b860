//! Changes are written down before they are made.

use bongsu_admin_api::Error;
use bongsu_admin_api::audit::{Audit, Record};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Admin;

impl Audit for Admin {
    fn record(&self, record: Record) -> BoxFuture<'_, Result<(), Error>> {
        let Record { actor, role, address, action, target, reason, failed, .. } = record;
        tracing::info!(%actor, %role, %address, %action, %target, %reason, failed, "an administrator changes something");
        std::future::ready(Ok(())).boxed()
    }
}
