//! A share of something.

use ::config::{Value, ValueKind};

use super::schema::{Form, Leaf};

/// A share from 0 (none) to 1 (all), written as a number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// The share as a number.
    #[must_use]
    pub const fn as_f64(self) -> f64 {
        self.0
    }
}

impl Leaf for Ratio {
    const FORM: Form = Form::Plain;
    fn take(value: &Value) -> Option<Self> {
        match value.kind {
            ValueKind::Float(value) => Some(Self(value)),
            // People write `1`.
            ValueKind::I64(value) => i32::try_from(value).ok().map(|value| Self(value.into())),
            _ => None,
        }
    }
    fn is_within(&self, min: &Self, max: &Self) -> bool {
        (min..=max).contains(&self)
    }
    fn kind() -> String {
        "number".to_owned()
    }
    fn allowed() -> String {
        "a number such as 0.01".to_owned()
    }
    fn show(&self) -> String {
        toml::Value::from(self.0).to_string()
    }
}
