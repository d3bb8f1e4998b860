//! Rules on files as text.

use std::env;
use std::path::Path;

use super::source::paths;
use super::{File, Problem};

/// Lines of a file. A longer one holds more than one thing: split it.
const FILE_LINES_MAX: usize = 600;

/// What is written by hand, by extension.
const WRITTEN: &[&str] = &["css", "html", "js", "mjs", "proto", "rs", "sh", "sql", "ts"];

/// Names that code does not have, each with its reason. `#name` is an attribute.
const UNWANTED: &[(&str, &str)] = &[
    ("todo", "finish it, or open an issue and return an error"),
    ("unimplemented", "finish it, or open an issue and return an error"),
    ("#ignore", "a test that does not run says nothing"),
    ("#should_panic", "it passes on any panic: assert on the value"),
    ("unbounded_channel", "every queue is bounded"),
    ("UnboundedSender", "every queue is bounded"),
    ("UnboundedReceiver", "every queue is bounded"),
    ("mpsc::unbounded", "every queue is bounded"),
    ("thread::sleep", "wait for the condition, with a deadline"),
];

/// Checks every text file.
pub(super) fn check(files: &[File], root: &Path) -> Vec<Problem> {
    let machine = machine_paths(root);
    let mut problems = Vec::new();
    for file in files {
        let is = |extension: &str| file.path.extension().is_some_and(|found| found == extension);
        let generated = file.text.lines().take(5).any(|line| line.to_lowercase().contains("do not edit"));
        let n_lines = file.text.lines().count();
        if WRITTEN.iter().any(|extension| is(extension)) && !generated && n_lines > FILE_LINES_MAX {
            let what = format!("{n_lines} lines, and a file has at most {FILE_LINES_MAX}");
            problems.push(Problem::new(&file.path, 0, what));
        }
        check_lines(file, &machine, &mut problems);
        if is("rs") {
            check_names(file, &mut problems);
        }
        if is("md") {
            check_links(file, root, &mut problems);
        }
    }
    problems
}

/// Folders of this machine that must not stand in a file: where the repository lies, and its user's home.
fn machine_paths(root: &Path) -> Vec<String> {
    let home = env::var("HOME").unwrap_or_default();
    let paths = [root.display().to_string(), home.trim_end_matches('/').to_owned()];
    // A root folder of one character or none would be found in every address.
    paths.into_iter().filter(|path| path.len() > 1).map(|path| format!("{path}/")).collect()
}

fn check_lines(file: &File, machine: &[String], problems: &mut Vec<Problem>) {
    // Put together, so that this file keeps its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for (idx, line) in file.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(mark) = words.find(|word| marks.contains(word)) {
            problems.push(Problem::new(&file.path, idx + 1, format!("{mark}: finish it, or open an issue")));
        }
        if let Some(path) = machine.iter().find(|path| line.contains(path.as_str())) {
            problems.push(Problem::new(
                &file.path,
                idx + 1,
                format!("{path} is a folder of this machine only"),
            ));
        }
    }
}

fn check_names(file: &File, problems: &mut Vec<Problem>) {
    // A load generator paces itself: there a pause is the purpose, not a condition that is guessed.
    if file.path.starts_with("bench") {
        return;
    }
    // A file that does not lex fails elsewhere, with a better error.
    for path in paths(&file.text).unwrap_or_default() {
        let name = path.segments.join("::");
        let unwanted = UNWANTED.iter().find(|(unwanted, _)| {
            name == *unwanted
                || name.ends_with(&format!("::{unwanted}"))
                || name.starts_with(&format!("{unwanted}::"))
        });
        if let Some((unwanted, reason)) = unwanted {
            problems.push(Problem::new(&file.path, path.line, format!("{unwanted}: {reason}")));
        }
    }
}

/// Links to files of this repository must lead somewhere.
fn check_links(file: &File, root: &Path, problems: &mut Vec<Problem>) {
    let folder = root.join(&file.path);
    let folder = folder.parent().unwrap_or(root);
    let mut in_code = false;
    for (idx, line) in file.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        for rest in line.split("](").skip(1).filter(|_| !in_code) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !folder.join(target).exists() {
                problems.push(Problem::new(&file.path, idx + 1, format!("the link {target} leads nowhere")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.to_owned() };
        check(&[file], Path::new("/nowhere/repository")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_rule_names_the_line() {
        let mark = concat!("TO", "DO");
        for (path, text, expected) in [
            ("a.rs", format!("\n// {mark}: later"), format!("a.rs:2: {mark}: finish it, or open an issue")),
            ("a.md", mark.to_owned(), format!("a.md:1: {mark}: finish it, or open an issue")),
            (
                "a.rs",
                "fn a() { todo!() }".to_owned(),
                format!("a.rs:1: {}: {}", UNWANTED[0].0, UNWANTED[0].1),
            ),
            (
                "a.rs",
                "#[test]\n#[ignore = \"slow\"]\nfn a() {}".to_owned(),
                format!("a.rs:2: {}: {}", UNWANTED[2].0, UNWANTED[2].1),
            ),
            (
                "a.rs",
                "use std::thread::{self, sleep};".to_owned(),
                format!("a.rs:1: {}: {}", UNWANTED[8].0, UNWANTED[8].1),
            ),
            (
                "a.rs",
                "let a = mpsc::unbounded_channel::<u8>();".to_owned(),
                format!("a.rs:1: {}: {}", UNWANTED[4].0, UNWANTED[4].1),
            ),
            ("a.ts", "\n".repeat(601), "a.ts: 601 lines, and a file has at most 600".to_owned()),
            (
                "a.toml",
                "x = \"/nowhere/repository/x\"".to_owned(),
                "a.toml:1: /nowhere/repository/ is a folder of this machine only".to_owned(),
            ),
            (
                "a.md",
                "see [it](docs/none.md#part)".to_owned(),
                "a.md:1: the link docs/none.md leads nowhere".to_owned(),
            ),
        ] {
            assert_eq!(check_one(path, &text), [expected], "{path}: {text}");
        }
    }

    #[test]
    fn what_is_fine_passes() {
        for (path, text) in [
            ("a.rs", "// Generated by a tool. Do not edit.\n".to_owned() + &"\n".repeat(1000)),
            ("a.rs", "// thread::sleep\nfn a(ignore: bool) { let s = \"unbounded_channel\"; }".to_owned()),
            ("a.md", "[a](https://example.org) [b](#part)\n```\n[c](none.md)\n```".to_owned()),
            ("Cargo.lock", "\n".repeat(5000)),
        ] {
            assert_eq!(check_one(path, &text), [""; 0], "{path}");
        }
    }
}
