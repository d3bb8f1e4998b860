//! Licences and sources of every dependency, and a reason for each that was chosen.

use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// Licences under which the broker may be passed on without asking anybody.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Where a crate may come from.
const CRATES: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Where an npm package may come from.
const PACKAGES: &str = "https://registry.npmjs.org/";

/// Checks all dependencies and tells everything that is wrong.
pub(crate) fn run() -> Result<()> {
    let mut problems = Vec::new();
    let metadata = workspace::metadata(&[])?;
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        check_crate(package, &mut problems);
    }
    let manifest = fs::read_to_string(workspace::root().join("Cargo.toml"))?;
    problems.extend(
        without_reason(&manifest)
            .into_iter()
            .map(|name| format!("Cargo.toml: {name} has no comment that says what it is for")),
    );
    for file in workspace::files()?.iter().filter(|file| file.ends_with("package-lock.json")) {
        let lock: Value = serde_json::from_str(&fs::read_to_string(workspace::root().join(file))?)
            .with_context(|| file.display().to_string())?;
        for (name, package) in lock["packages"].as_object().into_iter().flatten() {
            let foreign = package["resolved"].as_str().filter(|address| !address.starts_with(PACKAGES));
            problems
                .extend(foreign.map(|address| format!("{}: {name} comes from {address}", file.display())));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

fn check_crate(package: &Value, problems: &mut Vec<String>) {
    let text = |field: &str| package[field].as_str().unwrap_or_default();
    let name = format!("{} {}", text("name"), text("version"));
    // Members of the workspace have no source.
    if !package["source"].is_null() && text("source") != CRATES {
        problems.push(format!("{name} comes from {}", text("source")));
    }
    if !is_allowed(text("license")) {
        problems.push(format!("{name} has the licence {:?}", text("license")));
    }
}

/// Whether an SPDX expression can be met with the allowed licences. `AND` binds closer than `OR`; `/` is an old `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced =
        expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "+");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = any_of(&mut rest);
    allowed && rest.is_empty()
}

fn any_of(rest: &mut &[&str]) -> bool {
    let mut allowed = all_of(rest);
    while let Some(("OR", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        allowed |= all_of(rest);
    }
    allowed
}

fn all_of(rest: &mut &[&str]) -> bool {
    let mut allowed = one(rest);
    while let Some(("AND", after)) = rest.split_first().map(|(word, after)| (*word, after)) {
        *rest = after;
        allowed &= one(rest);
    }
    allowed
}

fn one(rest: &mut &[&str]) -> bool {
    let Some((word, after)) = rest.split_first() else { return false };
    *rest = after;
    if *word != "(" {
        return LICENCES.contains(&word.replace('+', " WITH ").as_str());
    }
    let allowed = any_of(rest);
    let closed = rest.split_first().filter(|(word, _)| **word == ")");
    *rest = closed.map_or(*rest, |(_, after)| after);
    allowed && closed.is_some()
}

/// Names in `[workspace.dependencies]` without a comment on their line. Members of the workspace need none.
fn without_reason(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.contains('=') && !line.starts_with('#') && !line.contains("path = "))
        .filter(|line| line.split_once('#').is_none_or(|(_, reason)| reason.trim().is_empty()))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_judged_as_spdx_says() {
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT AND (GPL-3.0 OR ISC)", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("(MIT", false),
            ("MIT ISC", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\nown = { path = \"own\" }\na = \"1\" # because\nb = \"1\"\nc = \"1\" #\n\n[lints]\nd = 1\n";
        assert_eq!(without_reason(manifest), ["b", "c"]);
    }
}
