//! What tests need besides Rust, and how it comes onto a fresh machine.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program that tests run, and the Debian package that has it.
struct Need {
    program: &'static str,
    /// The options that make it print a version.
    version: &'static str,
    package: &'static str,
    /// Smallest major version; 0 takes any.
    major_min: u32,
    reason: &'static str,
}

const NEEDS: &[Need] = &[
    // 18 is what Debian 12 has.
    Need::new("node", "nodejs", 18, "runs the TypeScript client's tests"),
    Need::new("npm", "npm", 0, "installs what those tests need"),
    Need::new("chromium", "chromium", 0, "is the browser of the browser tests"),
    // 7 brought sharded pub/sub.
    Need::new(
        "redis-server",
        "redis-server",
        7,
        "carries messages between nodes, and is its own Sentinel and Cluster",
    ),
    Need::new("redis-cli", "redis-tools", 7, "is how tests move slots and cut connections"),
    Need::new("postgres", "postgresql", 14, "keeps the logs of a cluster"),
    // 2 routes WebSockets over HTTP/2 as well; 2.6 is what Debian 12 has.
    Need { version: "-v", ..Need::new("haproxy", "haproxy", 2, "runs the proxy's configuration of deploy/") },
    // The package of `venv` alone brings this module.
    Need {
        version: "-m ensurepip --version",
        ..Need::new("python3", "python3-venv", 0, "runs stomp.py, with its module ensurepip")
    },
    Need::new("javac", "default-jdk-headless", 17, "compiles and runs Spring"),
    Need::new("mvn", "maven", 0, "fetches Spring and runs its tests"),
    Need { version: "-V", ..Need::new("ip", "iproute2", 0, "cuts the network between a node and Redis") },
];

impl Need {
    const fn new(program: &'static str, package: &'static str, major_min: u32, reason: &'static str) -> Self {
        Self { program, version: "--version", package, major_min, reason }
    }
}

/// Sees that every needed program is there. Installs what is missing as root on Debian, and elsewhere says what to install.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !is_there(need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !is_root_on_debian() {
        let lines = missing.iter().map(|need| {
            let version =
                if need.major_min > 0 { format!(" {} or newer", need.major_min) } else { String::new() };
            format!("\n  {}{version}: {}", need.program, need.reason)
        });
        bail!(
            "missing:{}\nInstall it and repeat. As root on Debian 12 this command does so itself.",
            lines.collect::<String>()
        );
    }
    eprintln!("== installing {}", packages.join(", "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat())?;
    match missing.iter().find(|need| !is_there(need)) {
        Some(need) => bail!("{} was installed but {} does not run", need.package, need.program),
        None => Ok(()),
    }
}

fn is_there(need: &Need) -> bool {
    let output = Command::new(program_of(need)).args(need.version.split(' ')).stderr(Stdio::null()).output();
    let Ok(output) = output else { return false };
    // `v18.20.4`, `9.2.0`, `Chromium 140.0.7339.80 built on Debian`, `Redis server v=7.0.15 sha=…`.
    let text = String::from_utf8_lossy(&output.stdout);
    let digits: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    output.status.success() && digits.parse::<u32>().is_ok_and(|major| major >= need.major_min)
}

/// What to run: the browser may be chosen, and Debian keeps the servers of Postgres off the path, one directory for each version.
fn program_of(need: &Need) -> OsString {
    match need.package {
        "chromium" => env::var_os("CHROMIUM").unwrap_or_else(|| need.program.into()),
        "postgresql" => {
            let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
            let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
            let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path));
            newest.map_or_else(
                || need.program.into(),
                |path| path.join("bin").join(need.program).into_os_string(),
            )
        }
        _ => need.program.into(),
    }
}

fn is_root_on_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    rustix::process::geteuid().is_root() && release.lines().any(|line| line == "ID=debian")
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut apt_get = Command::new("apt-get");
    apt_get.args(["--quiet", "--quiet"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // Packages of servers would start theirs, on the ports that everybody else expects to be free; tests start their own. With
    // these, neither `systemctl` nor `invoke-rc.d` starts anything.
    apt_get.env("SYSTEMD_OFFLINE", "1").env("RUNLEVEL", "1");
    // Standard output belongs to the tests and their counts.
    let status = apt_get.stdout(Stdio::null()).status().context("apt-get does not start")?;
    if !status.success() {
        bail!("apt-get {}: {status}", arguments.join(" "));
    }
    Ok(())
}
