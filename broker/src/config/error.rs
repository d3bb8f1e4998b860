//! What is wrong with the settings.

use std::fmt;

use super::schema::Origin;

/// One thing that is wrong, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No setting has this name.
    #[error("{key} = {value} ({origin}): there is no such setting; {allowed}")]
    Unknown {
        /// The name as given.
        key: String,
        /// The value as given.
        value: String,
        /// Who gave it.
        origin: Origin,
        /// The nearest name, or all names beside it.
        allowed: String,
    },
    /// The setting does not take this value.
    #[error("{key} = {value} ({origin}): it takes {allowed}")]
    Value {
        /// Which setting.
        key: String,
        /// The value as given; `***` for a secret.
        value: String,
        /// Who gave it.
        origin: Origin,
        /// Type and bounds in words.
        allowed: String,
    },
    /// A list's entry lacks something that has no default.
    #[error("{key} is missing ({origin}): it takes {allowed}")]
    Missing {
        /// Which setting.
        key: String,
        /// Who gave the entry.
        origin: Origin,
        /// Type and bounds in words.
        allowed: String,
    },
    /// Values that are fine alone do not go together.
    #[error("{key} = {value} ({origin}): {rule}")]
    Rule {
        /// Which setting.
        key: String,
        /// Its effective value.
        value: String,
        /// Who gave it.
        origin: Origin,
        /// What does not hold, and what to do.
        rule: String,
    },
    /// A file, a variable or a flag could not be read at all.
    #[error("{origin}: {problem}")]
    Source {
        /// Which one.
        origin: Origin,
        /// Why.
        problem: String,
    },
}

/// Everything that is wrong, at least one thing; displayed as one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, error) in self.0.iter().enumerate() {
            if idx > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
