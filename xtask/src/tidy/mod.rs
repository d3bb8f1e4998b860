//! The walls and the rules on files, as `ARCHITECTURE.md` states them.
//!
//! | module | what it checks |
//! |---|---|
//! | [`source`] | lexes a Rust file: its paths, their lines, without comments, strings and tests |
//! | [`table`] | reads the tables of `ARCHITECTURE.md` |
//! | [`walls`] | which crate and which module names which, and cycles |
//! | [`compatibility`] | whether the tests are there that `docs/compatibility.md` names |
//! | [`text`] | lengths of files, words that do not belong there, links that lead nowhere |

mod compatibility;
mod source;
mod table;
mod text;
mod walls;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{mutants, workspace};

/// Checks everything and tells all that is wrong.
pub(crate) fn run() -> Result<()> {
    let problems = problems()?;
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bail!("{}", lines.join("\n"));
    }
    Ok(())
}

fn problems() -> Result<Vec<Problem>> {
    let root = workspace::root();
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let rules = table::Rules::parse(&architecture)?;
    let mut files = Vec::new();
    for path in workspace::files()? {
        // Images and the like are no text and have no rules.
        if let Ok(text) = String::from_utf8(std::fs::read(root.join(&path))?) {
            files.push(File { path, text });
        }
    }
    let mut problems = walls::check(&rules, &files)?;
    problems.extend(text::check(&files, root));
    problems.extend(compatibility::check(&files));
    let stale = mutants::stale(root)?;
    problems.extend(stale.into_iter().map(|(path, what)| Problem::new(&path, 0, what)));
    problems.sort();
    // `use a::{b, c}` may break a rule twice with the same words.
    problems.dedup();
    Ok(problems)
}

/// A text file of the repository.
#[derive(Debug)]
struct File {
    /// From the root.
    path: PathBuf,
    text: String,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    path: PathBuf,
    /// 0 means the file as a whole.
    line: usize,
    what: String,
}

impl Problem {
    fn new(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_path_buf(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        write!(f, " {}", self.what)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_repository_keeps_its_walls() {
        let problems = super::problems().unwrap();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
