//! `bongsu health`: for probes that can only run a command, such as Docker's `HEALTHCHECK`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http::Request;

use crate::config::{self, Loaded, SettingsArgs};
use crate::http_client;
use crate::limits::HEALTH_DEADLINE;

/// Which node, and what to ask.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Ask this address instead of the node that the settings describe, such as `http://127.0.0.1:8080/readyz`
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Ask whether the node is alive, whatever its store does, and not whether it is ready for clients
    #[arg(long, conflicts_with = "url")]
    live: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Asks, and says on standard output what came.
///
/// # Errors
/// The node is not well, or did not answer; in words.
#[expect(clippy::print_stdout, reason = "this is what the command prints")]
pub async fn health(args: HealthArgs) -> anyhow::Result<()> {
    let url = match args.url {
        Some(url) => url,
        None => url_of(&config::load(&args.settings)?, if args.live { "livez" } else { "readyz" })?,
    };
    let request = Request::get(&url).body(Bytes::new()).with_context(|| format!("{url} is no address"))?;
    let Ok(answer) = tokio::time::timeout(HEALTH_DEADLINE, http_client::send(request)).await else {
        bail!("{url}: no answer within {HEALTH_DEADLINE:?}");
    };
    let answer = answer.with_context(|| url.clone())?;
    let text = String::from_utf8_lossy(answer.body());
    ensure!(answer.status().is_success(), "{url}: {}: {}", answer.status(), text.trim());
    println!("{}", text.trim());
    Ok(())
}

/// Where a node with these settings tells how it is.
fn url_of(loaded: &Loaded, path: &str) -> anyhow::Result<String> {
    let settings = &loaded.settings;
    // One that follows from the port of clients may be another, where that was taken.
    let admin = settings.admin.listen.filter(|_| loaded.origins.is_given("admin.listen"));
    let address = match admin {
        Some(_) if settings.admin.tls => {
            bail!("the administrators' port speaks TLS in the node's public name: give --url")
        }
        Some(address) => address,
        None if settings.tls.certificate.is_none() => settings.listen,
        None => bail!("the node's port speaks TLS in its public name: set admin.listen, or give --url"),
    };
    ensure!(address.port() != 0, "the node takes a free port: give --url");
    Ok(format!("http://{}/{path}", from_here(address)))
}

/// How this machine reaches a node that listens on an address: one that listens everywhere is here too.
fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[&str], expected: Result<&str, &str>) {
        let set = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let loaded =
            config::load_with(&SettingsArgs { set, ..SettingsArgs::default() }, []).expect("they are valid");
        let url = url_of(&loaded, "readyz").map_err(|error| error.to_string());
        assert_eq!(url.as_deref().map_err(String::as_str), expected, "{flags:?}");
    }

    #[test]
    fn the_settings_say_where_to_ask() {
        check(&[], Ok("http://127.0.0.1:8080/readyz"));
        check(&["admin.listen=0.0.0.0:9090"], Ok("http://127.0.0.1:9090/readyz"));
        check(&["admin.listen=[::]:9090"], Ok("http://[::1]:9090/readyz"));
        check(&["admin.listen=10.1.2.3:9090"], Ok("http://10.1.2.3:9090/readyz"));
        check(&["listen=127.0.0.1:0"], Err("the node takes a free port: give --url"));
        let tls = ["tls.certificate=a.pem", "tls.key=b.pem"];
        check(&tls, Err("the node's port speaks TLS in its public name: set admin.listen, or give --url"));
        check(&[&tls[..], &["admin.listen=127.0.0.1:9090"]].concat(), Ok("http://127.0.0.1:9090/readyz"));
    }
}
