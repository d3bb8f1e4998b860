//! `bongsu nodes`.

use bongsu_admin_api::resources::nodes::{Node, NodeList, Part, Status};
use clap::Args;

use super::rest::ApiArgs;
use super::table::{Table, bytes};

/// Which cluster.
#[derive(Debug, Args)]
pub struct NodesArgs {
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(args: NodesArgs) -> anyhow::Result<()> {
    let answer = args.api.get::<NodeList>("/v1/nodes").await?;
    args.api.print(&answer, |list| {
        let mut table = Table::new(&[
            "NODE",
            "VERSION",
            "STARTED",
            "CONNECTIONS",
            "BEHIND",
            "IN",
            "OUT",
            "BYTES IN",
            "BYTES OUT",
            "STORE",
            "BUS",
        ]);
        for node in &list.nodes {
            table.row(row(node));
        }
        for name in &list.missing {
            table.row([name.clone(), "does not answer".to_owned()]);
        }
        table
    })
}

fn row(node: &Node) -> [String; 11] {
    let counters = &node.counters;
    let name = if node.draining { format!("{} (draining)", node.name) } else { node.name.clone() };
    [
        name,
        node.version.clone(),
        node.started.to_string(),
        format!("{}/{}", node.connections, node.connections_max),
        node.readers_behind.to_string(),
        counters.messages_in.to_string(),
        counters.messages_out.to_string(),
        bytes(counters.bytes_in),
        bytes(counters.bytes_out),
        part(&node.store),
        node.bus.as_ref().map_or_else(|| "–".to_owned(), part),
    ]
}

fn part(part: &Part) -> String {
    match (part.status, part.latency_ms, &part.reason) {
        (Status::Ok, Some(latency), _) => format!("ok {latency:.1} ms"),
        (Status::Ok, None, _) => "ok".to_owned(),
        (_, _, Some(reason)) => reason.clone(),
        (Status::Degraded, ..) => "degraded".to_owned(),
        (Status::Unavailable, ..) => "unavailable".to_owned(),
    }
}
