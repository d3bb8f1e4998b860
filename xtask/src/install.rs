//! What tests need besides Rust, and how it comes onto a fresh machine.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program that tests run, and the Debian package that has it.
struct Need {
    program: &'static str,
    package: &'static str,
    /// Smallest major version; 0 takes any.
    major_min: u32,
    reason: &'static str,
}

const NEEDS: &[Need] = &[
    // 18 is what Debian 12 has.
    Need { program: "node", package: "nodejs", major_min: 18, reason: "runs the TypeScript client's tests" },
    Need { program: "npm", package: "npm", major_min: 0, reason: "installs what those tests need" },
    Need {
        program: "chromium",
        package: "chromium",
        major_min: 0,
        reason: "is the browser of the browser tests",
    },
];

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
    let chosen = env::var_os("CHROMIUM").filter(|_| need.package == "chromium");
    let program = chosen.unwrap_or_else(|| need.program.into());
    let output = Command::new(program).arg("--version").stderr(Stdio::null()).output();
    let Ok(output) = output else { return false };
    // `v18.20.4`, `9.2.0`, `Chromium 140.0.7339.80 built on Debian`.
    let text = String::from_utf8_lossy(&output.stdout);
    let digits: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    output.status.success() && digits.parse::<u32>().is_ok_and(|major| major >= need.major_min)
}

fn is_root_on_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    rustix::process::geteuid().is_root() && release.lines().any(|line| line == "ID=debian")
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut apt_get = Command::new("apt-get");
    apt_get.args(["--quiet", "--quiet"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // Standard output belongs to the tests and their counts.
    let status = apt_get.stdout(Stdio::null()).status().context("apt-get does not start")?;
    if !status.success() {
        bail!("apt-get {}: {status}", arguments.join(" "));
    }
    Ok(())
}
