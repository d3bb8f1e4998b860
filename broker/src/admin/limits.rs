//! Limits that hold instead of those of the settings.

use bongsu_admin_api::Error;
use bongsu_admin_api::resources::limits::{LimitList, Limits};
use bongsu_protocol::position::Position;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::policies::{invalid, made};
use super::{Admin, not_changed, unavailable};
use crate::config::{LiveLimits, show_limits};
use crate::registers::Versioned;

impl Limits for Admin {
    fn limits(&self) -> BoxFuture<'_, Result<LimitList, Error>> {
        async {
            let version = self.node.decisions().live_limits().look().await.map_err(unavailable)?;
            Ok(self.list_limits(&version))
        }
        .boxed()
    }

    fn put_limits(
        &self,
        by: String,
        expected: Position,
        limits: Map<String, Value>,
    ) -> BoxFuture<'_, Result<LimitList, Error>> {
        async move {
            let limits = LiveLimits::judge(limits).map_err(|errors| invalid(&errors))?;
            let change = |_: &LiveLimits| Ok::<_, std::convert::Infallible>(limits.clone());
            let changed = self.node.decisions().live_limits().change(Some(expected), &by, change).await;
            let version = changed.map_err(|error| not_changed(error, |never| match never {}))?;
            Ok(self.list_limits(&version))
        }
        .boxed()
    }
}

impl Admin {
    fn list_limits(&self, version: &Versioned<LiveLimits>) -> LimitList {
        let effective = version.document.over(&self.node.settings().limits);
        let effective = show_limits(&effective).into_iter();
        let (by, time, text) = made(version);
        LimitList {
            limits: version.document.given().clone(),
            effective: effective.map(|(name, value)| (name, value.into())).collect(),
            live: LiveLimits::NAMES.iter().map(|&name| name.to_owned()).collect(),
            version: text,
            position: version.position,
            by,
            time,
        }
    }
}
