//! The tables of `ARCHITECTURE.md` that are rules.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

/// Who may name whom.
pub(super) type Edges = BTreeMap<String, BTreeSet<String>>;

/// All rules.
#[derive(Debug)]
pub(super) struct Rules {
    /// Between the crates of the workspace, by folder.
    pub(super) crates: Edges,
    /// Between the modules of a crate, by the crate's folder.
    pub(super) modules: BTreeMap<String, Edges>,
    /// Names that do not occur, and where.
    pub(super) names: Vec<Reserved>,
}

/// Names that only some may use.
#[derive(Debug)]
pub(super) struct Reserved {
    /// Paths, each a whole beginning: `tokio` also stands for `tokio::net`.
    pub(super) names: Vec<String>,
    /// Crates (`protocol`) or modules (`broker/clock`) that may use them.
    pub(super) only_in: BTreeSet<String>,
}

impl Rules {
    /// Reads the tables. Each stands under a heading: `### Crates`, `### Modules of `broker``, `### Reserved names`. The
    /// first column is who, the second whom, both in backticks; the rest is for people.
    pub(super) fn parse(markdown: &str) -> Result<Self> {
        let mut rules = Self { crates: Edges::new(), modules: BTreeMap::new(), names: Vec::new() };
        let mut heading = "";
        for line in markdown.lines() {
            if let Some(title) = line.strip_prefix("### ") {
                heading = title.trim();
            } else if line.starts_with('#') {
                heading = "";
            }
            let mut cells = line.strip_prefix('|').unwrap_or_default().split('|');
            let (Some(who), Some(whom)) = (cells.next(), cells.next()) else { continue };
            let (who, whom) = (words(who), words(whom));
            // The head of a table and the line below it have no backticks.
            if who.is_empty() {
                continue;
            }
            if heading == "Crates" {
                add(&mut rules.crates, &who, &whom)?;
            } else if let Some(name) =
                heading.strip_prefix("Modules of `").and_then(|rest| rest.strip_suffix('`'))
            {
                add(rules.modules.entry(name.to_owned()).or_default(), &who, &whom)?;
            } else if heading == "Reserved names" {
                rules.names.push(Reserved { names: who, only_in: whom.into_iter().collect() });
            }
        }
        if rules.crates.is_empty() || rules.modules.is_empty() || rules.names.is_empty() {
            bail!("ARCHITECTURE.md lacks a table of crates, of modules or of reserved names");
        }
        Ok(rules)
    }
}

/// A cell may hold several modules that keep the same rule.
fn add(edges: &mut Edges, who: &[String], whom: &[String]) -> Result<()> {
    for name in who {
        if edges.insert(name.clone(), whom.iter().cloned().collect()).is_some() {
            bail!("ARCHITECTURE.md has two rows for `{name}`");
        }
    }
    Ok(())
}

/// What stands in backticks.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// One cycle among the edges, from a name back to itself, if there is one.
pub(super) fn cycle(edges: &Edges) -> Option<Vec<String>> {
    let mut finished = BTreeSet::new();
    edges.keys().find_map(|start| visit(edges, start, &mut Vec::new(), &mut finished))
}

/// Depth first; as deep as there are modules.
fn visit<'e>(
    edges: &'e Edges,
    name: &'e str,
    trail: &mut Vec<&'e str>,
    finished: &mut BTreeSet<&'e str>,
) -> Option<Vec<String>> {
    if let Some(start) = trail.iter().position(|passed| *passed == name) {
        return Some(trail[start..].iter().chain([&name]).map(|&name| name.to_owned()).collect());
    }
    if finished.contains(name) {
        return None;
    }
    trail.push(name);
    let mut next = edges.get(name).into_iter().flatten();
    let found = next.find_map(|next| visit(edges, next, trail, finished));
    trail.pop();
    finished.insert(name);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_their_tables_only() {
        let text = "## Walls\n| `not` | `this` |\n### Crates\n| crate | may use | why |\n|---|---|---|\n| `a`, `b` | – | x |\n\
                    | `c` | `a`, `b` | `d` |\n### Modules of `c`\n| `m` | `n` |\n### Reserved names\n| `tokio`, `x::y` | `c` |\n\
                    ## Reading\n| `z` | `z` |\n";
        let rules = Rules::parse(text).unwrap();
        assert_eq!(rules.crates.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(rules.crates["c"], ["a".to_owned(), "b".to_owned()].into());
        assert!(rules.crates["a"].is_empty());
        assert_eq!(rules.modules["c"]["m"], ["n".to_owned()].into());
        assert_eq!(rules.names[0].names, ["tokio", "x::y"]);
        assert!(Rules::parse("### Crates\n| `a` | `b` |\n| `a` | `c` |").is_err());
    }

    #[test]
    fn a_cycle_is_found_and_a_diamond_is_none() {
        let edges = |list: &[(&str, &[&str])]| -> Edges {
            list.iter().map(|(a, b)| ((*a).to_owned(), b.iter().map(|b| (*b).to_owned()).collect())).collect()
        };
        assert_eq!(cycle(&edges(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])])), None);
        let found = cycle(&edges(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).unwrap();
        assert_eq!(found, ["b", "c", "b"]);
    }
}
