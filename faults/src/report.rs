//! The report, in Markdown.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::experiments::{FIRST_TOPICS, Findings, N_SUBSCRIBERS, N_TOPICS};
use crate::fault::Fault;
use crate::ledger::{Broken, Counts, Share};
use crate::phase::Outcome;
use crate::transport::Transport;
use crate::world::N_NODES;
use crate::{Options, crowd, experiments};

/// The whole report. It names nothing of this machine but its size.
pub(crate) fn write(options: &Options, broker: &Path, outcomes: &[Outcome], findings: &Findings) -> String {
    let is_release = broker.components().any(|part| part.as_os_str() == "release");
    let mut text = format!(
        "# The cluster while things go wrong\n\n    cargo xtask faults{} --minutes {} --seed {}\n\n{}\n",
        if is_release { "" } else { " --debug" },
        options.duration.as_secs_f64() / 60.0,
        options.seed,
        set_up(if is_release { "release" } else { "debug" })
    );
    if !outcomes.is_empty() {
        totals(&mut text, outcomes);
        transports(&mut text, outcomes);
        recoveries(&mut text, outcomes);
    }
    experiments(&mut text, findings);
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn set_up(build: &str) -> String {
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "This file is written by that command. {N_NODES} nodes (`bongsu serve`, {build} build), Postgres with a synchronous standby (both in \
         `postgres.url`), Redis (alone, then behind\nSentinel, then as a Cluster of three masters with replicas), and in front of the nodes a \
         TCP proxy that takes them in turn, all as processes on\none machine with {n_cores} cores, which they share with the checker. The \
         checker speaks every protocol with code of its own: {} publishers repeat what was not\nanswered under the same message id, {} \
         readers with exact filters and with wildcards resume by position on whatever node they get; half of them also come and go\nof their \
         own accord. Readers connect again after a random time of up to 1 s, then 2 s, then 4 s, as `docs/protocol.md` asks.\n",
        crowd::N_PUBLISHERS,
        crowd::N_READERS,
    )
}

fn totals(text: &mut String, outcomes: &[Outcome]) {
    let _ = writeln!(text, "## Counts\n");
    let names: Vec<String> = outcomes.iter().map(|outcome| format!("{:?}", outcome.topology)).collect();
    let _ = writeln!(text, "| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    let mut row = |name: &str, value: &dyn Fn(&Outcome) -> String| {
        let cells: Vec<String> = outcomes.iter().map(value).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    row("minutes", &|outcome| format!("{:.1}", outcome.duration.as_secs_f64() / 60.0));
    row("faults", &|outcome| n_faults(outcome).to_string());
    let count = |of: fn(&Counts) -> u64| move |outcome: &Outcome| of(&outcome.counts).to_string();
    row("messages sent", &count(|counts| counts.n_sent));
    row("acknowledged", &count(|counts| counts.n_acknowledged));
    row("never acknowledged, kept all the same, once", &count(|counts| counts.n_unacknowledged_kept));
    row("deliveries", &count(|counts| counts.n_deliveries));
    row(
        "`lost` told, each on a topic that keeps its newest 20 messages",
        &count(|counts| counts.n_losses_told),
    );
    for broken in Broken::ALL {
        let n_broken = |outcome: &Outcome| {
            outcome.violations.iter().filter(|violation| violation.broken == broken).count()
        };
        row(&format!("**{broken}**"), &|outcome| format!("**{}**", n_broken(outcome)));
    }
    let _ = writeln!(
        text,
        "\nLost: an acknowledged message that is not in the log at its position, or one in the log that a subscriber never got. Doubled: twice on \
         one\nconnection, or again after a resume by position, or twice in the log. A silent gap: an offset that was skipped without `lost`.\n"
    );
}

fn transports(text: &mut String, outcomes: &[Outcome]) {
    let _ = writeln!(
        text,
        "## By transport\n\nAll of the above together. Every reader's messages stand at the same offsets in the log, which is read in native JSON at the \
         end; every\nmessage that was acknowledged is in it. Connections are those of readers on which something was answered.\n\n\
         | transport | readers | connections | deliveries | messages sent | acknowledged | violations |\n\
         |---|---:|---:|---:|---:|---:|---:|"
    );
    for transport in Transport::ALL {
        let shares = outcomes.iter().filter_map(|outcome| outcome.counts.by_transport.get(&transport));
        let sum = |of: fn(&Share) -> u64| shares.clone().map(of).sum::<u64>();
        let _ = writeln!(
            text,
            "| {transport} | {} | {} | {} | {} | {} | {} |",
            shares.clone().map(|share| share.n_readers).max().unwrap_or_default(),
            sum(|share| share.n_connections),
            sum(|share| share.n_deliveries),
            sum(|share| share.n_sent),
            sum(|share| share.n_acknowledged),
            sum(|share| share.n_violations),
        );
    }
    text.push('\n');
}

fn n_faults(outcome: &Outcome) -> usize {
    outcome.recoveries.values().map(Vec::len).sum()
}

fn recoveries(text: &mut String, outcomes: &[Outcome]) {
    let n_all: usize = outcomes.iter().map(n_faults).sum();
    let _ = writeln!(
        text,
        "## Time to recover\n\nFrom the fault (or from its end, where it says so) until two messages that were published after it, one on a topic \
         read by name and one on a\ntopic read by pattern, had come to every subscriber. {n_all} faults.\n\n\
         | fault | counted from | times | median, ms | worst, ms |\n|---|---|---:|---:|---:|"
    );
    for fault in Fault::ALL {
        let all = outcomes.iter().filter_map(|outcome| outcome.recoveries.get(fault));
        let mut times: Vec<Duration> = all.flatten().copied().collect();
        times.sort();
        if let (Some(worst), Some(median)) = (times.last(), times.get(times.len() / 2)) {
            let from = if fault.counts_from_its_end() { "its end" } else { "it" };
            let _ =
                writeln!(text, "| {fault} | {from} | {} | {} | {} |", times.len(), ms(*median), ms(*worst));
        }
    }
    text.push('\n');
}

fn experiments(text: &mut String, findings: &Findings) {
    if let Some(away) = &findings.redis_away {
        let _ = writeln!(
            text,
            "## Redis away for 30 s\n\nOne node publishes a message every 50 ms, another delivers it. {} publishes, {} refused, {} delivered. From \
             sending to delivery:\n\n| | messages | median, ms | 99 %, ms | worst, ms |\n|---|---:|---:|---:|---:|",
            away.n_published, away.n_refused, away.n_delivered
        );
        for phase in &away.phases {
            let [median, p99, worst] = [phase.median, phase.p99, phase.worst].map(ms);
            let _ = writeln!(text, "| {} | {} | {median} | {p99} | {worst} |", phase.name, phase.n_messages);
        }
        text.push_str("\n`returning` are the first 5 s after Redis is there again.\n\n");
    }
    if let Some(first) = &findings.first {
        let [median, p99, worst] = [first.median, first.p99, first.worst].map(ms);
        let _ = writeln!(
            text,
            "## The first message of a topic\n\n{FIRST_TOPICS} topics get one message each, while a reader on each node subscribes to them. From the \
             subscription or the publish to the delivery: median\n{median} ms, 99 % {p99} ms, worst {worst} ms; {} never came.\n",
            first.missed.len()
        );
    }
    if let Some(storm) = &findings.storm {
        let _ = writeln!(
            text,
            "## Reconnect storm\n\n{N_SUBSCRIBERS} subscribers, each on a connection of its own, of {N_TOPICS} topics resume 5 messages back, on \
             {N_NODES} nodes that were just started. All had caught up\n{:.1} s after the first began to connect; one more message on every topic, \
             published then, had reached everybody {} ms later.\n\n| | pages read from Postgres |\n|---|---:|",
            storm.until_caught_up.as_secs_f64(),
            ms(storm.until_live)
        );
        for (node, reads) in storm.reads.iter().enumerate() {
            let _ = writeln!(text, "| node {} | {reads} |", node + 1);
        }
        let _ = writeln!(text, "\nThe promise is at most {N_TOPICS} each.\n");
    }
    if !findings.fan_out.is_empty() {
        let _ = writeln!(
            text,
            "## Fan-out across nodes\n\nOne node publishes, all readers are on another. What both do without messages is taken off.\n\n\
             | readers | Redis commands a message | processor time a delivery, µs | a message, µs |\n|---:|---:|---:|---:|"
        );
        for run in &findings.fan_out {
            let experiments::FanOut {
                n_readers,
                commands_per_message,
                cpu_us_per_delivery,
                cpu_us_per_message,
            } = run;
            let _ = writeln!(
                text,
                "| {n_readers} | {commands_per_message:.2} | {cpu_us_per_delivery:.1} | {cpu_us_per_message:.0} |"
            );
        }
        text.push('\n');
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64() * 1e3)
}
