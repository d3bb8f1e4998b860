//! The types that a setting can have, and how an operator writes each.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::config::{Value, ValueKind};
use bongsu_protocol::limits::NAME_BYTES_MAX;
use bongsu_protocol::topic::{Topic, TopicFilter};

use super::schema::{Form, Leaf};
use super::url::ServerUrl;
use crate::limits::LIST_ENTRIES_MAX;

/// Bytes of a topic that others stand below.
const PREFIX_BYTES_MAX: usize = 64;

/// Levels of such a topic.
const PREFIX_LEVELS_MAX: usize = 8;

/// A number of bytes, written as `512B`, `256KiB`, `1MiB` or `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number of bytes.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; the largest length where it does not fit.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_unit(u128::from(self.0), SIZES))
    }
}

/// Units from the largest; each is a whole number of the last.
type Units = &'static [(&'static str, u64)];
const SIZES: Units = &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES: Units = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

fn take_unit(text: &str, units: Units) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show_unit(amount: u128, units: Units) -> String {
    let fits = |factor: u64| amount.is_multiple_of(u128::from(factor));
    // Zero is a whole number of every unit, so it takes the last one.
    let whole = units.iter().find(|(_, factor)| amount > 0 && fits(*factor));
    let (name, factor) = whole.or_else(|| units.last()).expect("the tables of units are not empty");
    format!("{}{name}", amount / u128::from(*factor))
}

/// The value's text, if it is one.
pub(super) fn text(value: &Value) -> Option<&str> {
    if let ValueKind::String(text) = &value.kind { Some(text) } else { None }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Leaf for ByteSize {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        take_unit(text(value)?, SIZES).map(Self)
    }
    fn is_within(&self, min: &Self, max: &Self) -> bool {
        (min..=max).contains(&self)
    }
    fn kind() -> String {
        "size".to_owned()
    }
    fn allowed() -> String {
        "a size such as \"512B\", \"256KiB\", \"1MiB\" or \"2GiB\"".to_owned()
    }
    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Leaf for Duration {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        take_unit(text(value)?, TIMES).map(Self::from_millis)
    }
    fn is_within(&self, min: &Self, max: &Self) -> bool {
        (min..=max).contains(&self)
    }
    fn kind() -> String {
        "duration".to_owned()
    }
    fn allowed() -> String {
        "a duration such as \"500ms\", \"30s\", \"5m\", \"12h\" or \"7d\"".to_owned()
    }
    fn show(&self) -> String {
        quoted(&show_unit(self.as_millis(), TIMES))
    }
}

impl Leaf for bool {
    const FORM: Form = Form::Plain;
    fn take(value: &Value) -> Option<Self> {
        if let ValueKind::Boolean(value) = value.kind { Some(value) } else { None }
    }
    fn kind() -> String {
        "boolean".to_owned()
    }
    fn allowed() -> String {
        "true or false".to_owned()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! integers {
    ($($Type:ty),+) => {$(
        impl Leaf for $Type {
            const FORM: Form = Form::Plain;
            fn take(value: &Value) -> Option<Self> {
                if let ValueKind::I64(value) = value.kind { Self::try_from(value).ok() } else { None }
            }
            fn is_within(&self, min: &Self, max: &Self) -> bool {
                (min..=max).contains(&self)
            }
            fn kind() -> String {
                "integer".to_owned()
            }
            fn allowed() -> String {
                "an integer".to_owned()
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
integers!(u32, u64, usize);

impl Leaf for SocketAddr {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        text(value)?.parse().ok()
    }
    fn kind() -> String {
        "address".to_owned()
    }
    fn allowed() -> String {
        "an IP address with a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"; port 0 takes a free one"
            .to_owned()
    }
    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Leaf for PathBuf {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        text(value).filter(|path| !path.is_empty() && !path.contains('\0')).map(Self::from)
    }
    fn kind() -> String {
        "path".to_owned()
    }
    fn allowed() -> String {
        "a path, from the working directory if relative".to_owned()
    }
    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

/// A type with a word for "nothing".
pub(super) trait Optional: Leaf {
    /// The word.
    const NONE: &'static str;
}

macro_rules! optional {
    ($($Type:ty: $none:literal),+) => {$(impl Optional for $Type { const NONE: &'static str = $none; })+};
}
optional!(Duration: "unlimited", ByteSize: "unlimited", u32: "unlimited", u64: "unlimited", PathBuf: "none", ServerUrl: "none",
    Name: "none", SocketAddr: "none");

impl<T: Optional> Leaf for Option<T> {
    const FORM: Form = T::FORM;
    fn take(value: &Value) -> Option<Self> {
        if text(value) == Some(T::NONE) { Some(None) } else { T::take(value).map(Some) }
    }
    fn range(min: &str, max: &str) -> String {
        format!("\"{}\" or {}", T::NONE, T::range(min, max))
    }
    fn is_within(&self, min: &Self, max: &Self) -> bool {
        match (self, min, max) {
            (Some(value), Some(min), Some(max)) => value.is_within(min, max),
            _ => true,
        }
    }
    fn kind() -> String {
        T::kind()
    }
    fn allowed() -> String {
        format!("\"{}\" or {}", T::NONE, T::allowed())
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| quoted(T::NONE), T::show)
    }
}

/// What can stand in a list.
pub(super) trait Item: Sized + fmt::Debug {
    /// Items, in words that follow "a list of".
    const PLURAL: &'static str;
    /// Reads one.
    fn parse(text: &str) -> Option<Self>;
    /// Writes one.
    fn text(&self) -> &str;
}

impl<T: Item> Leaf for Vec<T> {
    const FORM: Form = Form::List;
    fn take(value: &Value) -> Option<Self> {
        match &value.kind {
            ValueKind::Array(items) if items.len() <= LIST_ENTRIES_MAX => {
                items.iter().map(|item| T::parse(text(item)?)).collect()
            }
            _ => None,
        }
    }
    fn kind() -> String {
        "list".to_owned()
    }
    fn allowed() -> String {
        format!("a list of {}", T::PLURAL)
    }
    fn show(&self) -> String {
        format!("[{}]", self.iter().map(|item| quoted(item.text())).collect::<Vec<_>>().join(", "))
    }
}

impl Item for TopicFilter {
    const PLURAL: &'static str = "topic filters such as \"chat/#\" or \"sensor/+/heat\"";
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
    fn text(&self) -> &str {
        self.as_str()
    }
}

impl Leaf for TopicFilter {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        Self::parse(text(value)?).ok()
    }
    fn kind() -> String {
        "topic filter".to_owned()
    }
    fn allowed() -> String {
        "a topic filter such as \"chat/#\" or \"sensor/+/heat\"".to_owned()
    }
    fn show(&self) -> String {
        quoted(self.as_str())
    }
}

/// A topic that others stand below: short enough to leave room for their names, and none of the broker's own.
impl Leaf for Topic {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        let topic = Self::parse(text(value)?).ok()?;
        let leaves_room =
            topic.as_str().len() <= PREFIX_BYTES_MAX && topic.levels().count() <= PREFIX_LEVELS_MAX;
        (leaves_room && !topic.is_reserved()).then_some(topic)
    }
    fn kind() -> String {
        "topic".to_owned()
    }
    fn allowed() -> String {
        format!(
            "a topic of at most {PREFIX_LEVELS_MAX} levels and {PREFIX_BYTES_MAX} bytes, without $ in front"
        )
    }
    fn show(&self) -> String {
        quoted(self.as_str())
    }
}

/// An entry of `http.allowed_origins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`: pages of every site, and those without an origin.
    Any,
    /// Pages of exactly this origin, as browsers write it: scheme and host in lower case, the port where it is not the scheme's own.
    Exact(String),
}

impl Item for Name {
    const PLURAL: &'static str = "names";
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
    fn text(&self) -> &str {
        &self.0
    }
}

impl Item for AllowedOrigin {
    const PLURAL: &'static str = "origins such as \"https://app.example.org\", or [\"*\"]";
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (scheme, host) = text.split_once("://")?;
        let is_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
        let valid = matches!(scheme, "http" | "https") && !host.is_empty() && host.chars().all(is_host);
        valid.then(|| Self::Exact(text.to_owned()))
    }
    fn text(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Exact(origin) => origin,
        }
    }
}

/// The name of a node or of a token's subject: 1 to 255 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// Takes a name if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Leaf for Name {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        Self::parse(text(value)?)
    }
    fn kind() -> String {
        "name".to_owned()
    }
    fn allowed() -> String {
        format!("a name of 1 to {NAME_BYTES_MAX} bytes without control characters")
    }
    fn show(&self) -> String {
        quoted(&self.0)
    }
}

/// The SHA-256 digest of a token. It never prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest. Compare it in constant time.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Leaf for Sha256 {
    const FORM: Form = Form::Text;
    const SECRET: bool = true;
    fn take(value: &Value) -> Option<Self> {
        let text = text(value)?;
        let mut digest = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(digest))
    }
    fn kind() -> String {
        "digest".to_owned()
    }
    fn allowed() -> String {
        "the token's SHA-256 digest as 64 hexadecimal digits; `printf %s TOKEN | sha256sum` prints it"
            .to_owned()
    }
    fn show(&self) -> String {
        "***".to_owned()
    }
}

/// A filter for logs: a level, or levels by module, as `tracing-subscriber` reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter's text; `EnvFilter` takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for LogFilter {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        let text = text(value)?;
        // `EnvFilter` takes any lone word for a module's name, so a misspelt level would silence everything else.
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let clear = |part: &str| part.contains(['=', '[']) || levels.contains(&part.trim());
        let valid = text.split(',').all(clear) && tracing_subscriber::EnvFilter::try_new(text).is_ok();
        valid.then(|| Self(text.to_owned()))
    }
    fn kind() -> String {
        "log filter".to_owned()
    }
    fn allowed() -> String {
        "a level (off, error, warn, info, debug, trace) or levels by module such as \"info,bongsu::hub=debug\"".to_owned()
    }
    fn show(&self) -> String {
        quoted(&self.0)
    }
}

/// What somebody may do, by topic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Topics of which may be read what comes from now on.
    pub subscribe: Vec<TopicFilter>,
    /// Topics of which may be read what is kept.
    pub history: Vec<TopicFilter>,
    /// Topics that may be written.
    pub publish: Vec<TopicFilter>,
    /// Topics whose members may be seen and joined.
    pub presence: Vec<TopicFilter>,
}
