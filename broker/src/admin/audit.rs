//! Changes are written down before they are made.

use bongsu_admin_api::Error;
use bongsu_admin_api::audit::{Audit, Record};
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::records::{Kept, RecordList, Records, Wanted};
use bongsu_protocol::message::Delivery;
use bongsu_protocol::position::Position;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Admin, unavailable};
use crate::limits::{AUDIT_DETAIL_BYTES_MAX, AUDIT_SCAN_MAX};

/// A record as it stands in the log.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// The node that did it.
    node: String,
    #[serde(flatten)]
    record: Record,
}

impl Audit for Admin {
    fn record(&self, mut record: Record) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let Record { actor, role, address, action, target, reason, failed, .. } = &record;
            tracing::info!(%actor, %role, %address, %action, %target, %reason, failed, "an administrator changes something");
            let bytes = record.detail.to_string().len();
            if bytes > AUDIT_DETAIL_BYTES_MAX {
                record.detail = serde_json::json!({ "left_out_bytes": bytes });
            }
            let actor = record.actor.clone();
            let written = Written { node: self.node.name().to_owned(), record };
            let written = serde_json::to_vec(&written)
                .map_err(|error| Error::Internal(format!("a record has no JSON form: {error}")))?;
            self.node.decisions().audit().write(&actor, written.into()).await.map_err(|error| {
                tracing::error!(%error, "a record could not be kept, so nothing was changed");
                Error::Unavailable("the audit log could not be written, so nothing was changed".to_owned())
            })?;
            Ok(())
        }
        .boxed()
    }
}

impl Records for Admin {
    fn records(&self, wanted: Wanted) -> BoxFuture<'_, Result<RecordList, Error>> {
        async move {
            let mut before = match &wanted.after {
                Some(after) => Some(after.text()?.parse::<Position>().map_err(|_| After::strange())?),
                None => None,
            };
            let (mut records, mut n_looked_at) = (Vec::new(), 0);
            loop {
                let (page, more) = self.node.decisions().audit().read(before).await.map_err(unavailable)?;
                for delivery in &page {
                    n_looked_at += 1;
                    before = delivery.position;
                    if wanted.since.is_some_and(|since| delivery.time < since.0) {
                        return Ok(RecordList { records, next: None });
                    }
                    records.extend(kept(delivery).filter(|kept| is_wanted(&wanted, &kept.record)));
                    if records.len() == wanted.limit.get() || n_looked_at == AUDIT_SCAN_MAX {
                        let next = before.map(|before| After::written(&before.to_string()));
                        return Ok(RecordList { records, next });
                    }
                }
                if !more || page.is_empty() {
                    return Ok(RecordList { records, next: None });
                }
            }
        }
        .boxed()
    }
}

/// The record of a message; `None` if this version does not understand it.
fn kept(delivery: &Delivery) -> Option<Kept> {
    let Written { node, record } = serde_json::from_slice(&delivery.message.payload).ok()?;
    Some(Kept { number: delivery.position?.offset.0, time: delivery.time.into(), node, record })
}

fn is_wanted(wanted: &Wanted, record: &Record) -> bool {
    let is_action = |action: &String| {
        let rest = record.action.strip_prefix(action.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    wanted.actor.as_ref().is_none_or(|actor| *actor == record.actor)
        && wanted.action.as_ref().is_none_or(is_action)
}
