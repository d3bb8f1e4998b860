//! From one declaration of a setting to its field, its reader and its description.
//!
//! The macro `settings!` declares a section: each field's documentation is the setting's meaning in
//! `docs/configuration.md`, its default and bounds are literals in the form an operator would write. A field is a leaf
//! (a [`Leaf`] with a default, or `required`), a section (another declared struct) or a list of sections.

use std::collections::BTreeMap;
use std::fmt;

use ::config::{Map, Value, ValueKind};

use super::error::Error;
use crate::limits::LIST_ENTRIES_MAX;

/// Which layer gave a value: `default`, `file:bongsu.toml:3`, `environment:BONGSU_LISTEN` or `flag:--listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Nobody gave a value.
    #[must_use]
    pub fn default_value() -> Self {
        Self("default".to_owned())
    }

    /// Whether nobody gave a value.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }

    pub(super) fn named(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Every layer names itself in its values; what has no name was made by merging tables and holds such values.
    pub(super) fn of(value: &Value) -> Self {
        Self(value.origin().unwrap_or("several layers").to_owned())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where each value came from, by key (`websocket.ping_interval`, `topics[0].kind`). Keys without an entry are defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Which layer gave this setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or_else(Origin::default_value)
    }

    /// Whether anybody gave this setting.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

/// How a leaf's text in a default, in the environment or in a flag becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it stands.
    Text,
    /// As TOML: an integer or a boolean.
    Plain,
    /// As a TOML list, or as items between commas.
    List,
    /// As a TOML list of tables.
    Tables,
}

/// A type that one setting can have.
pub(super) trait Leaf: Sized + fmt::Debug {
    /// How its text is read.
    const FORM: Form;
    /// Whether its values print as `***`.
    const SECRET: bool = false;
    /// Takes the value if it has the right type and form.
    fn take(value: &Value) -> Option<Self>;
    /// Whether the value lies from `min` to `max`; only types with an order can say no.
    fn is_within(&self, _min: &Self, _max: &Self) -> bool {
        true
    }
    /// The bounds in words, for tables.
    fn range(min: &str, max: &str) -> String {
        format!("{min} to {max}")
    }
    /// The type in a few words, for tables.
    fn kind() -> String;
    /// What is allowed, in words that follow "it takes", without bounds.
    fn allowed() -> String;
    /// The value as an operator would write it in the file.
    fn show(&self) -> String;
}

/// What a declaration says about one field.
pub(super) struct Spec {
    /// As text; `None` where a value must be given.
    pub(super) default: Option<&'static str>,
    /// The default in words, where it depends on something.
    pub(super) default_means: Option<&'static str>,
    /// Smallest and largest allowed value, as text.
    pub(super) bounds: Option<(&'static str, &'static str)>,
    /// The field's documentation.
    pub(super) meaning: &'static str,
}

impl Spec {
    /// For the root.
    pub(super) const SECTION: Self = Self { default: None, default_means: None, bounds: None, meaning: "" };
}

/// One line of the documentation.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) form: Form,
    pub(super) kind: String,
    pub(super) default: String,
    pub(super) allowed: String,
    pub(super) meaning: String,
}

/// Anything that stands in the tree of settings.
pub(super) trait Setting: Sized {
    /// Reads itself from the merged layers. `None` means that at least one error was recorded.
    fn read(reader: &mut Reader, key: &str, value: Option<&Value>, spec: &Spec) -> Option<Self>;
    /// Adds its lines to the documentation.
    fn describe(rows: &mut Vec<Row>, key: &str, spec: &Spec);
    /// Adds its effective values, each with its key.
    fn show(&self, lines: &mut Vec<(String, String)>, key: &str);
}

/// A struct declared by the macro `settings!`.
pub(super) trait Section: Setting {}

/// Collects origins and errors while the tree is read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    origins: Origins,
    errors: Vec<Error>,
}

impl Reader {
    /// What was collected.
    pub(super) fn finish(self) -> (Origins, Vec<Error>) {
        (self.origins, self.errors)
    }

    /// Takes the table of a section and refuses keys that it does not have.
    pub(super) fn section<'v>(
        &mut self,
        key: &str,
        value: Option<&'v Value>,
        fields: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let value = value?;
        let ValueKind::Table(table) = &value.kind else {
            let allowed = format!("a section with {}", list(fields));
            self.refuse(key, value, show_kind(value), allowed);
            return None;
        };
        if !key.is_empty() {
            self.origins.0.insert(key.to_owned(), Origin::of(value));
        }
        let mut unknown: Vec<_> = table.iter().filter(|(name, _)| !fields.contains(&name.as_str())).collect();
        unknown.sort_by_key(|(name, _)| *name);
        for (name, value) in unknown {
            self.errors.push(unknown_key(key, name, value, fields));
        }
        Some(table)
    }

    /// Records that an entry lacks a value; the entry's origin is that of its table.
    fn missing(&mut self, key: &str, allowed: String) {
        let entry = key.rsplit_once('.').map_or("", |(entry, _)| entry);
        let origin = self.origins.get(entry);
        self.errors.push(Error::Missing { key: key.to_owned(), origin, allowed });
    }

    fn refuse(&mut self, key: &str, value: &Value, shown: String, allowed: String) {
        let origin = Origin::of(value);
        self.errors.push(Error::Value { key: key.to_owned(), value: shown, origin, allowed });
    }
}

/// The error for a name that its section does not have.
pub(super) fn unknown_key(section: &str, name: &str, value: &Value, fields: &[&str]) -> Error {
    let nearest = fields
        .iter()
        .map(|field| (edits(name, field), *field))
        .min()
        // At most two slips of the finger, in a name long enough for them; more is another word.
        .filter(|(distance, _)| *distance <= 2 && distance * 2 <= name.chars().count());
    let allowed = match nearest {
        Some((_, field)) => format!("did you mean {}?", join(section, field)),
        None if section.is_empty() => format!("there are {}", list(fields)),
        None => format!("{section} has {}", list(fields)),
    };
    let shown = if sounds_secret(name) { "***".to_owned() } else { show_value(value) };
    Error::Unknown { key: join(section, name), value: shown, origin: Origin::of(value), allowed }
}

impl<T: Leaf> Setting for T {
    fn read(reader: &mut Reader, key: &str, value: Option<&Value>, spec: &Spec) -> Option<Self> {
        let Some(value) = value else {
            let Some(default) = spec.default else {
                reader.missing(key, allowed::<T>(spec));
                return None;
            };
            return Some(from_text(default).expect("a test reads every default"));
        };
        reader.origins.0.insert(key.to_owned(), Origin::of(value));
        let taken = T::take(value).filter(|taken| {
            spec.bounds.is_none_or(|(min, max)| {
                let bound = |text| from_text(text).expect("a test reads every bound");
                taken.is_within(&bound(min), &bound(max))
            })
        });
        if taken.is_none() {
            let shown = if T::SECRET { "***".to_owned() } else { show_value(value) };
            reader.refuse(key, value, shown, allowed::<T>(spec));
        }
        taken
    }

    fn describe(rows: &mut Vec<Row>, key: &str, spec: &Spec) {
        rows.push(Row {
            key: key.to_owned(),
            form: T::FORM,
            kind: T::kind(),
            default: match (spec.default_means, spec.default) {
                (Some(words), _) => words.to_owned(),
                (None, Some(default)) => {
                    format!("`{}`", from_text::<T>(default).expect("a test reads every default").show())
                }
                (None, None) => "must be given".to_owned(),
            },
            allowed: spec.bounds.map_or_else(T::allowed, |(min, max)| T::range(min, max)),
            meaning: spec.meaning.trim().replace("\n ", "\n"),
        });
    }

    fn show(&self, lines: &mut Vec<(String, String)>, key: &str) {
        let shown = if T::SECRET { "***".to_owned() } else { Leaf::show(self) };
        lines.push((key.to_owned(), shown));
    }
}

/// A list of sections: `[[topics]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables<T>(pub Vec<T>);

impl<T: Section> Setting for Tables<T> {
    fn read(reader: &mut Reader, key: &str, value: Option<&Value>, _spec: &Spec) -> Option<Self> {
        let Some(value) = value else { return Some(Self(Vec::new())) };
        reader.origins.0.insert(key.to_owned(), Origin::of(value));
        let entries = match &value.kind {
            ValueKind::Array(entries) if entries.len() <= LIST_ENTRIES_MAX => entries,
            _ => {
                let allowed = format!("a list of at most {LIST_ENTRIES_MAX} tables");
                reader.refuse(key, value, show_kind(value), allowed);
                return None;
            }
        };
        // Every entry is read, so that every mistake is told at once.
        let read: Vec<Option<T>> = entries
            .iter()
            .enumerate()
            .map(|(idx, entry)| {
                let key = format!("{key}[{idx}]");
                T::read(reader, &key, Some(entry), &Spec::SECTION)
            })
            .collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn describe(rows: &mut Vec<Row>, key: &str, spec: &Spec) {
        rows.push(Row {
            key: key.to_owned(),
            form: Form::Tables,
            kind: "list of tables".to_owned(),
            default: "`[]`".to_owned(),
            allowed: format!("at most {LIST_ENTRIES_MAX} tables with the keys below"),
            meaning: spec.meaning.trim().replace("\n ", "\n"),
        });
        T::describe(rows, &format!("{key}[]"), spec);
    }

    fn show(&self, lines: &mut Vec<(String, String)>, key: &str) {
        if self.0.is_empty() {
            lines.push((key.to_owned(), "[]".to_owned()));
        }
        for (idx, entry) in self.0.iter().enumerate() {
            entry.show(lines, &format!("{key}[{idx}]"));
        }
    }
}

/// Reads a value from the text of a default, a bound, a variable or a flag.
pub(super) fn value_of_text(form: Form, text: &str, origin: Option<&String>) -> Value {
    let as_is = || Value::new(origin, text);
    let as_toml = |text: &str| super::layers::toml_value(text, origin).unwrap_or_else(as_is);
    match form {
        Form::Text => as_is(),
        Form::Plain | Form::Tables => as_toml(text),
        Form::List if text.trim_start().starts_with('[') => as_toml(text),
        Form::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::new(origin, items.map(|item| Value::new(origin, item)).collect::<Vec<_>>())
        }
    }
}

fn from_text<T: Leaf>(text: &str) -> Option<T> {
    T::take(&value_of_text(T::FORM, text, None))
}

fn allowed<T: Leaf>(spec: &Spec) -> String {
    match spec.bounds {
        Some((min, max)) => format!("{}, from {min} to {max}", T::allowed()),
        None => T::allowed(),
    }
}

/// The key of a field in a section; the root has no name.
pub(super) fn join(section: &str, field: &str) -> String {
    if section.is_empty() { field.to_owned() } else { format!("{section}.{field}") }
}

fn list(names: &[&str]) -> String {
    names.join(", ")
}

/// Whether a name that nobody knows may stand for something that must not be printed.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["token", "secret", "pass", "sha", "credential", "key"].iter().any(|word| name.contains(word))
}

/// A value as it stands in the file, cut to what fits a line.
fn show_value(value: &Value) -> String {
    /// Characters; a longer value says nothing more about what is wrong with it.
    const SHOWN_MAX: usize = 120;
    let shown = match &value.kind {
        ValueKind::String(text) => toml::Value::from(text.as_str()).to_string(),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(show_value).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(_) => "{…}".to_owned(),
        other => other.to_string(),
    };
    match shown.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// What sort of value it is, for values that may hold secrets further down.
fn show_kind(value: &Value) -> String {
    match &value.kind {
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(items) => format!("a list of {}", items.len()),
        ValueKind::String(_) => "a text".to_owned(),
        other => other.to_string(),
    }
}

/// The edit distance of two names (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    // A key may be as long as the file; names of settings are short.
    for (idx, from_char) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = idx + 1;
        for (column, to_char) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(from_char != *to_char);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// Declares a section of the settings; see the module's own documentation.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        pub struct $Name:ident {
            $(
                $(#[doc = $meaning:literal])+
                pub $field:ident: $Type:ty $(= $default:literal $(in $min:literal..=$max:literal)? $(shown $words:literal)?)?;
            )+
        }
    )+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Name {
            $($(#[doc = $meaning])+ pub $field: $Type,)+
        }

        impl $Name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),+];
        }

        impl $crate::config::schema::Section for $Name {}

        impl $crate::config::schema::Setting for $Name {
            fn read(
                reader: &mut $crate::config::schema::Reader,
                key: &str,
                value: Option<&::config::Value>,
                _spec: &$crate::config::schema::Spec,
            ) -> Option<Self> {
                use $crate::config::schema::{Setting, join};
                let table = reader.section(key, value, Self::FIELDS);
                // Every field is read before the first missing one ends it, so that every mistake is told at once.
                $(
                    let $field = Setting::read(
                        reader,
                        &join(key, stringify!($field)),
                        table.and_then(|table| table.get(stringify!($field))),
                        &$crate::config::schema::spec!([$($meaning)+] $($default $(in $min $max)? $(shown $words)?)?),
                    );
                )+
                if value.is_some() && table.is_none() {
                    return None;
                }
                Some(Self { $($field: $field?),+ })
            }

            fn describe(rows: &mut Vec<$crate::config::schema::Row>, key: &str, _spec: &$crate::config::schema::Spec) {
                use $crate::config::schema::{Setting, join};
                $(
                    <$Type as Setting>::describe(
                        rows,
                        &join(key, stringify!($field)),
                        &$crate::config::schema::spec!([$($meaning)+] $($default $(in $min $max)? $(shown $words)?)?),
                    );
                )+
            }

            fn show(&self, lines: &mut Vec<(String, String)>, key: &str) {
                use $crate::config::schema::{Setting, join};
                $(Setting::show(&self.$field, lines, &join(key, stringify!($field)));)+
            }
        }
    )+};
}

/// One field's [`Spec`].
macro_rules! spec {
    ([$($meaning:literal)+] $($default:literal $(in $min:literal $max:literal)? $(shown $words:literal)?)?) => {{
        #[allow(unused_mut, reason = "fields without a default change nothing")]
        let mut spec = $crate::config::schema::Spec {
            meaning: concat!($($meaning, "\n"),+),
            ..$crate::config::schema::Spec::SECTION
        };
        $(
            spec.default = Some($default);
            $(spec.bounds = Some(($min, $max));)?
            $(spec.default_means = Some($words);)?
        )?
        spec
    }};
}

pub(super) use {settings, spec};
