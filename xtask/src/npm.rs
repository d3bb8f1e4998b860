//! The packages of the repository that npm builds: the TypeScript client and the browser tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// A folder with a `package.json`.
pub(crate) struct Package {
    /// From the root.
    pub(crate) folder: PathBuf,
    /// The names of its scripts.
    pub(crate) scripts: Vec<String>,
}

/// All packages.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let mut files = workspace::files()?;
    files.retain(|file| file.ends_with("package.json"));
    files.iter().map(|file| Package::read(file)).collect()
}

impl Package {
    fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(workspace::root().join(file))?;
        let package: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        let scripts =
            package["scripts"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        Ok(Self { folder: file.parent().map(Path::to_path_buf).unwrap_or_default(), scripts })
    }

    /// A program that runs in the package's folder.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(workspace::root().join(&self.folder)).env("NO_COLOR", "1");
        command
    }

    /// Installs exactly what the package's lock file names.
    pub(crate) fn install(&self) -> Result<()> {
        let mut npm = self.command("npm", &["ci", "--no-audit", "--no-fund"]);
        if !npm.stdout(Stdio::null()).status().context("npm does not start")?.success() {
            bail!("{}: npm ci failed", self.folder.display());
        }
        Ok(())
    }
}

/// Runs every script whose name ends in `:check`: it fails where a committed file is not what its sources say.
pub(crate) fn check() -> Result<()> {
    for package in packages()? {
        let checks: Vec<&String> =
            package.scripts.iter().filter(|script| script.ends_with(":check")).collect();
        if checks.is_empty() {
            continue;
        }
        package.install()?;
        for script in checks {
            let mut npm = package.command("npm", &["run", "--silent", script]);
            if !npm.status().context("npm does not start")?.success() {
                bail!("{}: npm run {script} failed", package.folder.display());
            }
        }
    }
    Ok(())
}
