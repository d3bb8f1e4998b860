//! `bongsu closes`.

use bongsu_admin_api::resources::closes::{Close, ClosePage};
use clap::Args;

use super::rest::{ApiArgs, with_parameters};
use super::table::{Table, bytes, note_rest};

/// Which ends.
#[derive(Debug, Args)]
pub struct ClosesArgs {
    /// Only those of this subject; '' is that of anonymous clients
    #[arg(long)]
    subject: Option<String>,
    /// Only that of this session
    #[arg(long)]
    session: Option<String>,
    /// Only those for this reason, such as ping_timeout
    #[arg(long)]
    reason: Option<String>,
    /// Go on after the page that ended with this
    #[arg(long)]
    after: Option<String>,
    /// Show at most so many
    #[arg(long)]
    limit: Option<u16>,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(args: ClosesArgs) -> anyhow::Result<()> {
    let parameters = [
        ("subject", args.subject),
        ("session", args.session),
        ("reason", args.reason),
        ("after", args.after),
        ("limit", args.limit.map(|limit| limit.to_string())),
    ];
    let page: ClosePage = args.api.get(&with_parameters("/v1/closes", &parameters)).await?;
    args.api.print(&page, |page| {
        let mut table = Table::new(&[
            "ENDED",
            "SESSION",
            "SUBJECT",
            "TRANSPORT",
            "REASON",
            "TEXT",
            "LASTED",
            "IN",
            "OUT",
            "WAITING",
            "SILENT",
            "LAST ERROR",
        ]);
        page.closes.iter().for_each(|close| table.row(row(close)));
        table
    })?;
    note_rest(page.next.as_deref(), &page.missing);
    Ok(())
}

fn row(close: &Close) -> [String; 12] {
    let seconds = close.ended.0.0.saturating_sub(close.began.0.0) / 1000;
    [
        close.ended.to_string(),
        close.session.clone(),
        if close.subject.is_empty() { "(anonymous)".to_owned() } else { close.subject.clone() },
        close.transport.clone(),
        format!("{} ({})", close.reason, close.code),
        close.text.clone(),
        format!("{seconds} s"),
        bytes(close.traffic.bytes_in),
        bytes(close.traffic.bytes_out),
        bytes(close.waiting_bytes),
        format!("{} s", close.silent_ms / 1000),
        close.last_error.as_ref().map(|error| format!("{}: {}", error.code, error.text)).unwrap_or_default(),
    ]
}
