//! `bongsu audit`: what administrators changed.

use bongsu_admin_api::resources::records::RecordList;
use clap::Args;

use super::rest::{ApiArgs, with_parameters};
use super::table::Table;

/// Which records.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only what this administrator did
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, such as policies.put, or those of a resource, such as policies
    #[arg(long)]
    action: Option<String>,
    /// Only what was done from this time on, such as 2026-11-22T00:00:00Z
    #[arg(long)]
    since: Option<String>,
    /// Records that are listed
    #[arg(long, default_value_t = 50)]
    limit: u16,
    /// Go on where an earlier page said
    #[arg(long)]
    after: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(args: AuditArgs) -> anyhow::Result<()> {
    let parameters = [
        ("actor", args.actor),
        ("action", args.action),
        ("since", args.since),
        ("limit", Some(args.limit.to_string())),
        ("after", args.after),
    ];
    let list: RecordList = args.api.get(&with_parameters("/v1/audit", &parameters)).await?;
    args.api.print(&list, |list| {
        let mut table =
            Table::new(&["TIME", "WHO", "ROLE", "FROM", "NODE", "ACTION", "TARGET", "FAILED", "WHY"]);
        for kept in &list.records {
            let record = &kept.record;
            table.row([
                kept.time.to_string(),
                record.actor.clone(),
                record.role.to_string(),
                record.address.to_string(),
                kept.node.clone(),
                record.action.clone(),
                record.target.clone(),
                record.failed.clone().unwrap_or_default(),
                record.reason.clone(),
            ]);
        }
        if let Some(next) = &list.next {
            table.row(["more:".to_owned(), format!("--after {next}")]);
        }
        table
    })
}
