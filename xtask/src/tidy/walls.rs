//! Which crate and which module names which.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Context as _, Result};

use super::source::{NamedPath, paths};
use super::table::{Edges, Reserved, Rules, cycle};
use super::{File, Problem};

/// Checks every Rust file and every manifest against the rules.
pub(super) fn check(rules: &Rules, files: &[File]) -> Result<Vec<Problem>> {
    let mut check = Check { rules, members: &members(files), problems: Vec::new() };
    let tables = rules.modules.iter().map(|(name, edges)| (name.as_str(), edges));
    for (name, edges) in std::iter::once(("crates", &rules.crates)).chain(tables) {
        if let Some(cycle) = cycle(edges) {
            check.fail(
                Path::new("ARCHITECTURE.md"),
                0,
                format!("the table of {name} allows {}", cycle.join(" -> ")),
            );
        }
    }
    for member in check.members {
        check.manifest(member, files);
        check.rows(member);
        let mut seen = Edges::new();
        for file in files {
            let Some(place) = Place::of(member, &file.path) else { continue };
            let named = paths(&file.text).with_context(|| file.path.display().to_string())?;
            for path in named.iter().filter(|path| !path.in_test) {
                check.crates_and_names(&place, file, path);
                if let Some((from, to)) = place.edge(path) {
                    check.modules(&place, file, path, (from, &to));
                    seen.entry(from.to_owned()).or_default().insert(to);
                }
            }
        }
        // Also where the crate has no table.
        if let Some(cycle) = cycle(&seen) {
            let what = format!("its modules name each other in a circle: {}", cycle.join(" -> "));
            check.fail(Path::new(&member.folder), 0, what);
        }
    }
    Ok(check.problems)
}

/// The rules, whom they concern, and what was found so far.
struct Check<'a> {
    rules: &'a Rules,
    members: &'a [Member],
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn fail(&mut self, path: &Path, line: usize, what: String) {
        self.problems.push(Problem::new(path, line, what));
    }

    /// Dependencies on other members. Those of tests are free: a test of a client needs a broker.
    fn manifest(&mut self, member: &Member, files: &[File]) {
        let path = Path::new(&member.folder).join("Cargo.toml");
        let Some(manifest) = files.iter().find(|file| file.path == path) else { return };
        if !self.rules.crates.contains_key(&member.folder) {
            self.fail(&path, 0, format!("`{}` has no row among the crates", member.folder));
        }
        let mut section = "";
        for (idx, line) in manifest.text.lines().enumerate() {
            if line.starts_with('[') {
                section = line.trim();
            }
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            let other = self.members.iter().find(|other| other.package == name);
            let Some(other) = other.filter(|_| section == "[dependencies]") else { continue };
            if !allows(&self.rules.crates, &member.folder, &other.folder) {
                self.fail(
                    &path,
                    idx + 1,
                    format!("`{}` may not depend on `{}`", member.folder, other.folder),
                );
            }
        }
    }

    /// Every module has a row and every row a module, if the crate has a table.
    fn rows(&mut self, member: &Member) {
        let Some(edges) = self.rules.modules.get(&member.folder) else { return };
        let source = Path::new(&member.folder).join("src");
        for module in member.modules.iter().filter(|module| !edges.contains_key(*module)) {
            let what = format!("`{module}` has no row among the modules of `{}`", member.folder);
            self.fail(&source, 0, what);
        }
        for module in edges.keys().filter(|module| !member.modules.contains(*module)) {
            let what = format!("`{}` has a row for `{module}` and no such module", member.folder);
            self.fail(Path::new("ARCHITECTURE.md"), 0, what);
        }
    }

    /// Other members of the workspace, and reserved names.
    fn crates_and_names(&mut self, place: &Place<'_>, file: &File, path: &NamedPath) {
        let folder = &place.member.folder;
        let other =
            self.members.iter().find(|other| other.name == path.segments[0] && path.segments.len() > 1);
        if let Some(other) = other.filter(|other| other.folder != *folder)
            && !allows(&self.rules.crates, folder, &other.folder)
        {
            self.fail(&file.path, path.line, format!("`{folder}` may not name `{}`", other.folder));
        }
        let here = place.path.first().map(|module| format!("{folder}/{module}"));
        for reserved in self.rules.names.iter().filter(|reserved| reserved.holds(path)) {
            if !std::iter::once(folder).chain(&here).any(|here| reserved.only_in.contains(here)) {
                let only: Vec<&str> = reserved.only_in.iter().map(String::as_str).collect();
                self.fail(
                    &file.path,
                    path.line,
                    format!("`{}` belongs to {}", path.segments.join("::"), only.join(", ")),
                );
            }
        }
    }

    /// Other modules of the same crate, if it has a table.
    fn modules(&mut self, place: &Place<'_>, file: &File, path: &NamedPath, (from, to): (&str, &str)) {
        let folder = &place.member.folder;
        let Some(edges) = self.rules.modules.get(folder) else { return };
        if !allows(edges, from, to) {
            self.fail(&file.path, path.line, format!("`{from}` may not name `{to}`"));
        }
    }
}

fn allows(edges: &Edges, from: &str, to: &str) -> bool {
    edges.get(from).is_some_and(|whom| whom.contains(to))
}

/// A crate of the workspace.
struct Member {
    folder: String,
    package: String,
    /// As other crates name it in Rust.
    name: String,
    modules: BTreeSet<String>,
}

fn members(files: &[File]) -> Vec<Member> {
    let manifests = files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    manifests
        // A crate that is a workspace of its own (fuzzing) is a user of the others, not one of them.
        .filter(|manifest| manifest.text.lines().all(|line| line != "[workspace]"))
        .filter_map(|manifest| {
            let folder = manifest.path.parent()?.to_str()?.to_owned();
            let package = manifest.text.lines().find_map(|line| line.strip_prefix("name = "))?;
            let package = package.trim_matches('"').to_owned();
            let sources = files
                .iter()
                .filter_map(|file| file.path.strip_prefix(&folder).ok()?.strip_prefix("src").ok());
            let modules = sources.filter_map(|file| module_path(file)?.into_iter().next()).collect();
            Some(Member { folder, name: package.replace('-', "_"), package, modules })
        })
        .collect()
}

/// The modules that lead to a file below `src`: `hub/shard.rs` gives `hub`, `shard`; the crate's root gives none.
fn module_path(file: &Path) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for component in file.with_extension("").components() {
        let Component::Normal(part) = component else { return None };
        parts.push(part.to_str()?.to_owned());
    }
    let is_root = parts.len() == 1 && parts[0] == "lib";
    if file.extension()? != "rs" {
        return None;
    }
    if is_root || parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    Some(parts)
}

/// Which module a file is.
struct Place<'a> {
    member: &'a Member,
    path: Vec<String>,
}

impl<'a> Place<'a> {
    /// `None` for files of other crates, for tests, and for what is no source of the crate.
    fn of(member: &'a Member, file: &Path) -> Option<Self> {
        if file.file_name()? == "tests.rs" {
            return None;
        }
        let path = module_path(file.strip_prefix(&member.folder).ok()?.strip_prefix("src").ok()?)?;
        Some(Self { member, path })
    }

    /// From this module to which other of its crate a path leads, if it leads to one.
    fn edge(&self, path: &NamedPath) -> Option<(&str, String)> {
        let n_super = path.segments.iter().take_while(|segment| *segment == "super").count();
        let from_root = match path.segments[0].as_str() {
            "crate" => &path.segments[1..],
            // The binary names its own library like any other crate.
            name if name == self.member.name => &path.segments[1..],
            "super" if n_super == self.path.len() => &path.segments[n_super..],
            _ => return None,
        };
        // The crate's root has no module and may name all of them.
        let from = self.path.first()?;
        let to = from_root.first().filter(|name| self.member.modules.contains(*name) && *name != from)?;
        Some((from, to.clone()))
    }
}

impl Reserved {
    /// Whether the path has one of the names. A crate's name counts only where something in it is named.
    fn holds(&self, path: &NamedPath) -> bool {
        self.names.iter().any(|name| {
            let name: Vec<&str> = name.split("::").collect();
            match name[..] {
                [krate] => path.segments.len() > 1 && path.segments[0] == krate,
                _ => path.segments.windows(name.len()).any(|window| window == name),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const RULES: &str = "
### Crates
| `p` | – |
| `b` | `p` |
### Modules of `b`
| `main` | `cli` |
| `limits` | – |
| `cli` | `hub` |
| `hub`, `bus` | `limits` |
### Reserved names
| `tokio` | `b` |
| `Instant::now` | `b/hub` |
";

    fn check_files(files: &[(&str, &str)]) -> Vec<String> {
        check_files_with(RULES, files)
    }

    fn check_files_with(rules: &str, files: &[(&str, &str)]) -> Vec<String> {
        let manifests = [
            ("p/Cargo.toml", "name = \"p-crate\""),
            ("b/Cargo.toml", "name = \"b\"\n[dependencies]\np-crate.workspace = true"),
        ];
        let modules =
            ["lib", "main", "cli", "hub/mod", "bus", "limits"].map(|name| (format!("b/src/{name}.rs"), ""));
        let mut all: BTreeMap<&str, &str> =
            modules.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        all.extend(manifests);
        all.extend(files.iter().copied());
        let files: Vec<File> =
            all.into_iter().map(|(path, text)| File { path: path.into(), text: text.to_owned() }).collect();
        check(&Rules::parse(rules).unwrap(), &files).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_tables_allow_passes() {
        let files = [
            ("b/src/main.rs", "use b::cli;"),
            ("b/src/cli.rs", "use crate::hub::Hub; use p_crate::topic;"),
            (
                "b/src/hub/mod.rs",
                "fn a() { crate::limits::A; std::time::Instant::now(); tokio::spawn(a); self::shard::b() }",
            ),
            ("b/src/hub/shard.rs", "use super::Hub; #[cfg(test)] mod tests { use crate::cli; }"),
            ("b/src/hub/tests.rs", "use crate::cli;"),
            ("p/fuzz/Cargo.toml", "name = \"p-fuzz\"\n[dependencies]\np-crate = 1\n[workspace]"),
        ];
        assert_eq!(check_files(&files), [""; 0]);
    }

    #[test]
    fn every_other_edge_fails_with_its_place() {
        for (path, text, expected) in [
            ("b/src/hub/mod.rs", "\nuse crate::cli::X;", "b/src/hub/mod.rs:2: `hub` may not name `cli`"),
            ("b/src/hub/a.rs", "use super::super::cli;", "b/src/hub/a.rs:1: `hub` may not name `cli`"),
            ("b/src/bus.rs", "use super::hub;", "b/src/bus.rs:1: `bus` may not name `hub`"),
            (
                "b/src/bus.rs",
                "fn a() { m! { crate::{cli, limits} } }",
                "b/src/bus.rs:1: `bus` may not name `cli`",
            ),
            ("b/src/main.rs", "use b::hub;", "b/src/main.rs:1: `main` may not name `hub`"),
            ("b/src/new.rs", "use crate::hub;", "b/src: `new` has no row among the modules of `b`"),
            ("p/src/lib.rs", "use b::hub;", "p/src/lib.rs:1: `p` may not name `b`"),
            ("p/src/lib.rs", "use tokio::net;", "p/src/lib.rs:1: `tokio::net` belongs to b"),
            ("b/src/bus.rs", "fn a() { Instant::now(); }", "b/src/bus.rs:1: `Instant::now` belongs to b/hub"),
            ("b/src/new.rs", "", "b/src: `new` has no row among the modules of `b`"),
            ("c/Cargo.toml", "name = \"c\"", "c/Cargo.toml: `c` has no row among the crates"),
            (
                "p/Cargo.toml",
                "name = \"p-crate\"\n[dependencies]\nb.workspace = true",
                "p/Cargo.toml:3: `p` may not depend on `b`",
            ),
        ] {
            assert!(
                check_files(&[(path, text)]).contains(&expected.to_owned()),
                "{path}: {text}: {:?}",
                check_files(&[(path, text)])
            );
        }
    }

    #[test]
    fn a_row_without_a_module_fails() {
        let rules = RULES.replace("| `hub`, `bus` |", "| `hub`, `bus`, `gone` |");
        let found = check_files_with(&rules, &[]);
        assert_eq!(found, ["ARCHITECTURE.md: `b` has a row for `gone` and no such module"]);
    }

    #[test]
    fn a_circle_fails() {
        let files = [("p/src/a.rs", "use crate::b;"), ("p/src/b.rs", "use crate::a;"), ("p/src/lib.rs", "")];
        assert_eq!(check_files(&files), ["p: its modules name each other in a circle: a -> b -> a"]);
    }
}
