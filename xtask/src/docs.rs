//! Documents that are made from code.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Each document with the example of the broker that prints it.
const DOCUMENTS: &[(&str, &str)] =
    &[("docs/configuration.md", "configuration"), ("docs/openapi.json", "openapi")];

/// Writes the documents; with `check`, only compares.
pub(crate) fn run(check: bool) -> Result<()> {
    workspace::build()?;
    let examples = workspace::built()?.join("examples");
    for (document, example) in DOCUMENTS {
        let output = Command::new(examples.join(example))
            .output()
            .with_context(|| format!("the example {example} does not start"))?;
        if !output.status.success() {
            bail!("the example {example} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let path = workspace::root().join(document);
        if !check {
            fs::write(&path, output.stdout).with_context(|| format!("{document} cannot be written"))?;
        } else if fs::read(&path).unwrap_or_default() != output.stdout {
            bail!("{document} is not what the code says: run `cargo xtask docs`");
        }
    }
    Ok(())
}
