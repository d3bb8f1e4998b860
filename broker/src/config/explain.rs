//! Settings as text: what holds now, and what there is.

use super::Loaded;
use super::schema::{Row, Setting, Spec};
use super::settings::Settings;
use super::word::TopicKind;

/// The effective values, one a line, each with its origin. Secrets print as `***`.
#[must_use]
pub fn explain(loaded: &Loaded) -> String {
    let lines = lines(&loaded.settings);
    let applies = |key: &str| loaded.origins.is_given(key) || applies(&loaded.settings, key);
    let shown: Vec<_> = lines
        .into_iter()
        .filter(|(key, _)| applies(key))
        .map(|(key, value)| (format!("{key} = {value}"), loaded.origins.get(&key)))
        .collect();
    // Long values do not push the origins of all others off the screen.
    let width =
        shown.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    shown.into_iter().map(|(line, origin)| format!("{line:width$}  # {origin}\n")).collect()
}

/// Whether a default means something for the policy that it belongs to: a live topic has no retention.
fn applies(settings: &Settings, key: &str) -> bool {
    let Some((idx, field)) = key.strip_prefix("topics[").and_then(|rest| rest.split_once("].")) else {
        return true;
    };
    let policy = idx.parse::<usize>().ok().and_then(|idx| settings.topics.0.get(idx));
    policy.is_none_or(|policy| match policy.kind {
        TopicKind::Durable => field != "slow_reader",
        TopicKind::Live => !field.starts_with("retention.") && field != "idempotency_window",
    })
}

/// Every effective value with its key, in the order of the declaration.
pub(super) fn lines(settings: &Settings) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    settings.show(&mut lines, "");
    lines
}

/// Every setting there is, in the order of the declaration. Keys of a list's entries have `[]` behind the list's name.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    Settings::describe(&mut rows, "", &Spec::SECTION);
    rows
}

/// `docs/configuration.md`, made from the settings' own declaration.
#[must_use]
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for row in rows() {
        let Row { key, kind, default, allowed, meaning, .. } = &row;
        let environment = if key.contains("[]") {
            "–".to_owned()
        } else {
            format!("`BONGSU_{}`", key.to_uppercase().replace('.', "__"))
        };
        let meaning = meaning.replace('\n', " ");
        let cells = [&format!("`{key}`"), kind, default, allowed, &environment, &meaning];
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Made by `cargo xtask docs` from broker/src/config/settings.rs. Change it there. -->

A broker needs no configuration. What it is given is put in layers; later ones win:

1. the defaults below,
2. a TOML file: `bongsu serve --config bongsu.toml`, or its name in `BONGSU_CONFIG`,
3. the environment: `BONGSU_` and the key in capitals, with `__` between levels,
4. flags: `--set websocket.ping_interval=10s` for every setting, and `--listen`, `--data`, `--log-format`.

Lists are replaced as a whole. In the environment and in flags a list is written as in TOML (`[\"a\", \"b\"]`), or as
`a,b` where it holds no tables. A duration is a whole number with `ms`, `s`, `m`, `h` or `d`; a size one with `B`, `KiB`,
`MiB`, `GiB` or `TiB`. A name that does not exist and a value that is not allowed keep the broker from starting,
and the error says which, where it stands and what is allowed. `bongsu config` prints the values that hold and where each
came from.

```toml
# A broker for everybody's network: nobody writes without a token.
listen = \"0.0.0.0:8080\"

[auth.anonymous]
subscribe = [\"news/#\"]

[[auth.tokens]]
name = \"editor\"
sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" # printf %s test | sha256sum
subscribe = [\"#\"]
publish = [\"news/#\"]

# The first policy whose filter matches a topic holds for it.
[[topics]]
filter = \"cursor/#\"
kind = \"live\"
slow_reader = \"conflate\"

[[topics]]
filter = \"news/#\"
retention = { age = \"30d\", bytes = \"10GiB\" }
publish_rate = 50
```

| key | type | default | takes | environment | meaning |
|---|---|---|---|---|---|
";
