//! Where things are, and how cargo is called.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The repository's root: the folder above this crate's.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder in the repository")
}

/// Every file that git tracks or would track, relative to the root, sorted.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().context("git does not start")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let mut files: Vec<PathBuf> = names.split_terminator('\0').map(PathBuf::from).collect();
    // A file that was removed but not yet committed is still listed.
    files.retain(|file| root().join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

/// Cargo, as it runs this task.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Builds everything that tests need, the broker's binary and the examples among it.
///
/// Tests, documents and the browser all use this one build: the same packages, profile and features, so that nothing is
/// compiled twice.
pub(crate) fn build() -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--workspace", "--all-targets", "--locked"]);
    if !build.status().context("cargo does not start")?.success() {
        bail!("the workspace does not build");
    }
    Ok(())
}

/// The folder of built programs.
pub(crate) fn built() -> Result<PathBuf> {
    let metadata = metadata(&["--no-deps"])?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("debug"))
}

/// What cargo knows of the workspace.
pub(crate) fn metadata(arguments: &[&str]) -> Result<serde_json::Value> {
    let mut cargo = cargo();
    cargo.args(["metadata", "--format-version", "1", "--locked"]).args(arguments);
    let output = cargo.output().context("cargo does not start")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}
