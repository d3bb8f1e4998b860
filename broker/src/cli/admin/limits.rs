//! `bongsu limits`: limits that hold without a restart.

use anyhow::Context as _;
use bongsu_admin_api::resources::limits::LimitList;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::rest::ApiArgs;
use super::table::Table;

/// Show the limits, or change some.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// Let a limit hold instead of that of the settings, such as requests_in_flight=16; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Let that of the settings hold again; repeatable
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(args: LimitsArgs) -> anyhow::Result<()> {
    let mut list: LimitList = args.api.get("/v1/limits").await?;
    if !args.set.is_empty() || !args.unset.is_empty() {
        let mut limits = list.limits;
        for set in &args.set {
            let (name, text) = set.split_once('=').context("--set takes NAME=VALUE")?;
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            limits.insert(name.trim().to_owned(), value);
        }
        for name in &args.unset {
            limits.remove(name);
        }
        let body = json!({ "limits": limits });
        list = args.api.change(Method::PUT, "/v1/limits", &list.version, body).await?;
    }
    args.api.print(&list, |list| {
        let mut table = Table::new(&["LIMIT", "VALUE", "FROM"]);
        for (name, value) in &list.effective {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let from = match (list.limits.contains_key(name), list.live.contains(name)) {
                (true, _) => "set while running",
                (false, true) => "settings; can be set",
                (false, false) => "settings",
            };
            table.row([name.clone(), value, from.to_owned()]);
        }
        table.row([format!("version {}", list.version)]);
        table
    })
}
