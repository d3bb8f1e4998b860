//! Plants known bugs, one at a time, and checks that the test named for each notices it.
//!
//! A list (`<crate>/mutants/<name>.toml`) is about one source file and one test target of its crate. Each bug is a piece of text that
//! stands exactly once in the source, and its replacement. The work is done on a copy of the crate below `target/mutants`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::processes::{self, Limits};

/// Folders of crates that have lists, each with those of the workspace that it does not build without.
const CRATES: [(&str, &[&str]); 2] =
    [("protocol", &[]), ("sim", &["protocol", "persistence", "broker", "clients/rust", "testkit"])];

/// Seconds after which a test hangs, unless its list says otherwise: some bugs are loops without an end.
const DEADLINE_SECONDS: u64 = 60;

/// One list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// The crate's name.
    package: String,
    /// The source that bugs are planted in, relative to the crate; that of another begins with `../`.
    file: String,
    /// The test target (`tests/<target>`) that notices them.
    target: String,
    /// How long its tests may take.
    #[serde(default)]
    deadline_seconds: Option<u64>,
    /// The bugs.
    mutant: Vec<Mutant>,
}

/// One bug.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// What somebody would see if the bug were shipped.
    why: String,
    /// The test that must fail.
    killed_by: String,
    /// Where it is planted, if not in the list's file.
    file: Option<String>,
    find: String,
    replace: String,
}

/// What came of a bug.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Killed,
    /// The test did not end.
    Hung,
    Survived,
    /// The list is out of date, or the mutant is no program.
    Unusable(String),
}

/// Plants every bug of every list, or of those with such a name, and prints a table.
///
/// # Errors
/// If a bug survives or a list is out of date.
pub(crate) fn run(only: Option<&str>) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let (mut n_killed, mut n_all) = (0, 0);
    for (name, others) in CRATES {
        let mut lists: Vec<PathBuf> = fs::read_dir(root.join(name).join("mutants"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<_>>()?;
        lists.retain(|path| only.is_none_or(|only| path.file_stem().is_some_and(|stem| stem == only)));
        lists.sort();
        if lists.is_empty() {
            continue;
        }
        let scratch = Scratch::make(root, name, others)?;
        for path in lists {
            let list: List =
                toml::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            n_all += list.mutant.len();
            n_killed += scratch.try_list(&list)?;
        }
    }
    println!("{n_killed} of {n_all} planted bugs noticed");
    ensure!(n_killed == n_all, "{} planted bugs were not noticed", n_all - n_killed);
    Ok(())
}

/// Lists whose bugs can no longer be planted, each with the reason: the source went on without them.
///
/// # Errors
/// If a list or its source cannot be read.
pub(crate) fn stale(root: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut stale = Vec::new();
    for (name, _) in CRATES {
        for entry in fs::read_dir(root.join(name).join("mutants"))? {
            let path = entry?.path();
            let list: List =
                toml::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            let place = path.strip_prefix(root).unwrap_or(&path);
            for mutant in &list.mutant {
                let file = mutant.file.as_ref().unwrap_or(&list.file);
                let source = fs::read_to_string(root.join(name).join(file))
                    .with_context(|| format!("{} names {file}", path.display()))?;
                if source.matches(without_last_end(&mutant.find)).count() != 1 {
                    let reason = format!("{:?} does not stand exactly once in {file}", mutant.name);
                    stale.push((place.to_path_buf(), reason));
                }
            }
        }
    }
    Ok(stale)
}

/// The end of the last line is there to let a list be written nicely; a text may be a part of a line.
fn without_last_end(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}

/// A workspace of one crate and those that it needs, to be changed at will.
struct Scratch {
    workspace: PathBuf,
    crate_dir: PathBuf,
}

impl Scratch {
    /// Copies the crates; what was built there before is kept.
    fn make(root: &Path, name: &str, others: &[&str]) -> anyhow::Result<Self> {
        let workspace = root.join("target/mutants").join(name);
        let crate_dir = workspace.join(name);
        fs::create_dir_all(&workspace)?;
        let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
        let members: Vec<&str> = std::iter::once(name).chain(others.iter().copied()).collect();
        let manifest = manifest.lines().map(|line| match line.split_once(" = ") {
            Some((key @ ("members" | "default-members"), _)) => format!("{key} = {members:?}\n"),
            _ => format!("{line}\n"),
        });
        let manifest: String = manifest.collect();
        write_if_changed(&workspace.join("Cargo.toml"), manifest.as_bytes())?;
        write_if_changed(&workspace.join("Cargo.lock"), &fs::read(root.join("Cargo.lock"))?)?;
        for member in members {
            copy_dir(&root.join(member), &workspace.join(member))?;
        }
        Ok(Self { workspace, crate_dir })
    }

    /// Tries each bug of a list; answers how many were noticed.
    fn try_list(&self, list: &List) -> anyhow::Result<usize> {
        self.check_sound(list)?;
        let mut n_killed = 0;
        for mutant in &list.mutant {
            let path = self.crate_dir.join(mutant.file.as_ref().unwrap_or(&list.file));
            let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let began = Instant::now();
            let verdict = self.try_mutant(list, mutant, &path, &source);
            fs::write(&path, &source)?;
            let verdict = verdict?;
            let seconds = began.elapsed().as_secs_f32();
            let word = match &verdict {
                Verdict::Killed => "killed".to_owned(),
                Verdict::Hung => "killed (hung)".to_owned(),
                Verdict::Survived => "SURVIVED".to_owned(),
                Verdict::Unusable(text) => format!("UNUSABLE: {text}"),
            };
            println!("{:<44} {word:<14} {seconds:>5.1} s  {}", mutant.name, mutant.killed_by);
            if matches!(verdict, Verdict::Killed | Verdict::Hung) {
                n_killed += 1;
            } else {
                println!("    {}", mutant.why);
            }
        }
        Ok(n_killed)
    }

    /// Without a planted bug, every test passes, and every test that the list names is there.
    fn check_sound(&self, list: &List) -> anyhow::Result<()> {
        ensure!(!list.mutant.is_empty(), "{}: no mutants", list.file);
        let test = match self.build(list)? {
            Ok(test) => test,
            Err(text) => bail!("the source does not build:\n{text}"),
        };
        let output = Command::new(&test).arg("--list").output()?;
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        for mutant in &list.mutant {
            let line = format!("{}: test", mutant.killed_by);
            ensure!(
                names.lines().any(|name| name == line),
                "{}: no test {:?}",
                mutant.name,
                mutant.killed_by
            );
        }
        let output = Command::new(&test).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "tests fail without a planted bug:\n{text}");
        Ok(())
    }

    fn try_mutant(&self, list: &List, mutant: &Mutant, path: &Path, source: &str) -> anyhow::Result<Verdict> {
        let [find, replace] = [&mutant.find, &mutant.replace].map(|text| without_last_end(text));
        let n_found = source.matches(find).count();
        if n_found != 1 {
            return Ok(Verdict::Unusable(format!("its text stands {n_found} times in {}", list.file)));
        }
        fs::write(path, source.replace(find, replace))?;
        let test = match self.build(list)? {
            Ok(test) => test,
            Err(text) => return Ok(Verdict::Unusable(format!("it does not build:\n{text}"))),
        };
        let mut test = Command::new(test);
        // The reports of failures are of no interest: whether there is one is.
        test.args(["--exact", &mutant.killed_by]).stderr(Stdio::null()).env("RUST_BACKTRACE", "0");
        let deadline = Duration::from_secs(list.deadline_seconds.unwrap_or(DEADLINE_SECONDS));
        let ended = processes::run(&mut test, Limits { deadline, grace: Duration::ZERO }, |_| {})?;
        Ok(match (ended.late, ended.status.success()) {
            (true, _) => Verdict::Hung,
            (false, true) => Verdict::Survived,
            (false, false) => Verdict::Killed,
        })
    }

    /// Builds the test target: where it is, or what the compiler said. The test is run without cargo, so that it can be ended.
    fn build(&self, list: &List) -> anyhow::Result<Result<PathBuf, String>> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.workspace).env("CARGO_TARGET_DIR", self.workspace.join("target"));
        cargo.args(["test", "--quiet", "--no-run", "--message-format=json-render-diagnostics"]);
        let output = cargo.args(["--package", &list.package, "--test", &list.target]).output()?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut messages =
            messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let test = messages.find_map(|message| {
            let is_target = message["target"]["name"] == list.target.as_str();
            let executable = message["executable"].as_str().map(PathBuf::from);
            executable.filter(|_| is_target)
        });
        Ok(Ok(test.context("cargo does not say where it put the test")?))
    }
}

/// Makes a copy of a directory, without what is there no longer, and without touching what did not change.
fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if !from.join(entry.file_name()).exists() {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?
            } else {
                fs::remove_file(entry.path())?
            }
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            // What was built or installed there is of no use, and large.
            kind if kind.is_dir()
                && (entry.file_name() == "target" || entry.file_name() == "node_modules") => {}
            kind if kind.is_dir() => copy_dir(&entry.path(), &target)?,
            kind if kind.is_file() => write_if_changed(&target, &fs::read(entry.path())?)?,
            _ => bail!("{} is neither a file nor a directory", entry.path().display()),
        }
    }
    Ok(())
}

/// Keeps the time of a file that is as it should be, so that cargo does not build again.
fn write_if_changed(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
