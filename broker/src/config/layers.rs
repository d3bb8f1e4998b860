//! The layers that give values: a file, the environment, flags. The `config` crate puts one over the other.
//!
//! Its own file and environment sources know neither the line of a value nor the name of its variable; the sources here
//! do, since an error that does not say where to look is half an error.

use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ::config::{Config, ConfigError, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::error::{Error, Errors};
use super::explain::rows;
use super::schema::{Form, Origin, Row, unknown_key, value_of_text};
use crate::limits::CONFIG_FILE_BYTES_MAX;

/// The flags of `bongsu serve` that set something.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SettingsArgs {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "BONGSU_CONFIG")]
    pub config: Option<PathBuf>,

    /// Set one setting, such as `websocket.ping_interval=10s`; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Listen on this address [setting: listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,

    /// Keep the SQLite file in this directory [setting: data]
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<String>,

    /// Write log lines as text or json [setting: log.format]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Variables that begin with `BONGSU_` and set nothing here: the file's name, what the command-line client reads, and
/// the binary under test.
const NOT_SETTINGS: &[&str] = &["CONFIG", "URL", "TOKEN", "BIN", "ADMIN_URL", "ADMIN_TOKEN"];

/// Reads all layers and puts them over one another. Values are not judged here, but names in the environment and in
/// flags are, since a wrong one may not even fit into a tree.
pub(super) fn read(
    args: &SettingsArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Value, Errors> {
    let known = rows();
    let mut errors = Vec::new();
    let mut layers = Config::builder();
    if let Some(path) = &args.config {
        match read_file(path) {
            Ok(values) => layers = layers.add_source(Layer(values)),
            Err(error) => errors.push(error),
        }
    }
    layers = layers.add_source(Layer(read_environment(environment, &known, &mut errors)));
    layers = layers.add_source(Layer(read_flags(args, &known, &mut errors)));
    if !errors.is_empty() {
        return Err(Errors(errors));
    }
    let merged = layers
        .build()
        .map_err(|error| Error::Source { origin: Origin::named("settings"), problem: error.to_string() })?;
    Ok(merged.cache)
}

/// Values that were read already.
#[derive(Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl fmt::Debug for Layer {
    /// Names only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn read_file(path: &Path) -> Result<Map<String, Value>, Error> {
    let name = format!("file:{}", path.display());
    let source = |origin: &str, problem: String| Error::Source { origin: Origin::named(origin), problem };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| source(&name, error.to_string()))?;
    let n_bytes = file
        .take(CONFIG_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| source(&name, error.to_string()))?;
    if n_bytes as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(source(&name, format!("a configuration has at most {CONFIG_FILE_BYTES_MAX} bytes")));
    }
    let table = DeTable::parse(&text).map_err(|error| {
        let origin = error.span().map_or_else(|| name.clone(), |span| at_line(&name, &text, span.start));
        source(&origin, error.message().replace('\n', "; "))
    })?;
    Ok(table_of(table.get_ref(), &|position| at_line(&name, &text, position)))
}

/// The origin of a value at this byte of a file.
fn at_line(name: &str, text: &str, position: usize) -> String {
    let before = &text.as_bytes()[..position.min(text.len())];
    format!("{name}:{}", 1 + before.iter().filter(|byte| **byte == b'\n').count())
}

fn table_of(table: &DeTable<'_>, origin: &dyn Fn(usize) -> String) -> Map<String, Value> {
    table
        .iter()
        .map(|(key, value)| {
            let value = value_of(value.get_ref(), key.span().start.max(value.span().start), origin);
            (key.get_ref().clone().into_owned(), value)
        })
        .collect()
}

/// Nesting is bounded by the TOML parser (80 levels).
fn value_of(value: &DeValue<'_>, position: usize, origin: &dyn Fn(usize) -> String) -> Value {
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.clone().into_owned()),
        DeValue::Boolean(value) => ValueKind::Boolean(*value),
        // Past 64 bits it stays text, and the setting's own error says what it takes.
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
            .map_or_else(|_| ValueKind::String(value.as_str().to_owned()), ValueKind::I64),
        DeValue::Float(value) => value
            .as_str()
            .parse()
            .map_or_else(|_| ValueKind::String(value.as_str().to_owned()), ValueKind::Float),
        DeValue::Datetime(value) => ValueKind::String(value.to_string()),
        DeValue::Array(items) => ValueKind::Array(
            items.iter().map(|item| value_of(item.get_ref(), item.span().start, origin)).collect(),
        ),
        DeValue::Table(table) => ValueKind::Table(table_of(table, origin)),
    };
    Value::new(Some(&origin(position)), kind)
}

/// Reads a TOML value from a variable's or a flag's text; `None` if it is none.
pub(super) fn toml_value(text: &str, origin: Option<&String>) -> Option<Value> {
    let value = DeValue::parse(text.trim()).ok()?;
    let name = origin.cloned().unwrap_or_default();
    Some(value_of(value.get_ref(), 0, &|_| name.clone()))
}

fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    known: &[Row],
    errors: &mut Vec<Error>,
) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, text) in environment {
        let Some(name) = name.to_str().filter(|name| is_setting(name)).map(str::to_owned) else { continue };
        let origin = format!("environment:{name}");
        let Some(text) = text.to_str() else {
            let problem = "the value is not UTF-8".to_owned();
            errors.push(Error::Source { origin: Origin::named(origin), problem });
            continue;
        };
        let key = name["BONGSU_".len()..].to_lowercase().replace("__", ".");
        add(&mut values, &key, text, &origin, known, errors);
    }
    values
}

/// Kubernetes gives every pod variables for every service of its namespace. For one called `bongsu` they begin like
/// settings: `BONGSU_PORT`, `BONGSU_PORT_8080_TCP_ADDR`, `BONGSU_SERVICE_HOST`.
fn is_setting(name: &str) -> bool {
    name.strip_prefix("BONGSU_").is_some_and(|rest| {
        let service = rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
        !service && !NOT_SETTINGS.contains(&rest)
    })
}

fn read_flags(args: &SettingsArgs, known: &[Row], errors: &mut Vec<Error>) -> Map<String, Value> {
    let mut values = Map::new();
    for set in &args.set {
        let origin = "flag:--set".to_owned();
        match set.split_once('=') {
            Some((key, text)) => add(&mut values, key.trim(), text.trim(), &origin, known, errors),
            None => errors.push(Error::Source {
                origin: Origin::named(origin),
                problem: "it takes KEY=VALUE, such as websocket.ping_interval=10s".to_owned(),
            }),
        }
    }
    // A flag of its own says more than --set, wherever it stands.
    let own = [
        ("listen", "--listen", &args.listen),
        ("data", "--data", &args.data),
        ("log.format", "--log-format", &args.log_format),
    ];
    for (key, flag, text) in own {
        if let Some(text) = text {
            add(&mut values, key, text, &format!("flag:{flag}"), known, errors);
        }
    }
    values
}

/// Adds a value under its key, or says that there is no such key.
fn add(
    values: &mut Map<String, Value>,
    key: &str,
    text: &str,
    origin: &String,
    known: &[Row],
    errors: &mut Vec<Error>,
) {
    // Entries of a list have no keys of their own here: the list is given as a whole.
    let row = known.iter().find(|row| row.key == key && !row.key.contains("[]"));
    if let Some(row) = row {
        values.insert(key.to_owned(), value_of_text(row.form, text, Some(origin)));
        return;
    }
    let keys: Vec<&str> =
        known.iter().map(|row| row.key.as_str()).filter(|key| !key.contains("[]")).collect();
    let is_section = |name: &str| keys.iter().any(|key| key.starts_with(&format!("{name}.")));
    // The longest part of the key that is a section has the names to choose from.
    let (section, name) = match key.rsplit_once('.') {
        Some((section, name)) if is_section(section) => (section, name),
        _ => ("", key),
    };
    let depth = if section.is_empty() { 0 } else { section.len() + 1 };
    let mut fields: Vec<&str> = keys
        .iter()
        .filter(|key| section.is_empty() || key.starts_with(&format!("{section}.")))
        .map(|key| &key[depth..])
        .map(|rest| rest.split_once('.').map_or(rest, |(first, _)| first))
        .collect();
    fields.dedup();
    if is_section(key) {
        fields = keys.iter().filter_map(|k| k.strip_prefix(&format!("{key}."))).collect();
        errors.push(Error::Unknown {
            key: key.to_owned(),
            value: "…".to_owned(),
            origin: Origin::named(origin),
            allowed: format!("it is a section with {}", fields.join(", ")),
        });
        return;
    }
    let value = value_of_text(Form::Text, text, Some(origin));
    errors.push(unknown_key(section, name, &value, &fields));
}
