//! Limits that operators change while nodes run, judged by the declaration of the settings.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Map;

use super::error::{Error, Errors};
use super::live::table;
use super::schema::{Origin, Reader, Setting as _, Spec};
use super::settings::Limits;

/// Some of the limits, to hold instead of those of the settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveLimits {
    given: Map<String, serde_json::Value>,
    /// `None`: none is given.
    read: Option<Limits>,
}

/// Names the limits that are looked at as they change, and puts them over others.
macro_rules! live {
    ($($name:ident),+ $(,)?) => {
        impl LiveLimits {
            /// The limits that can be changed while nodes run. Whoever heeds one asks for it whenever something begins; the others are
            /// built into what a node makes when it starts.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// What holds where these are the limits of the settings.
            #[must_use]
            pub fn over(&self, settings: &Limits) -> Limits {
                let mut limits = settings.clone();
                if let Some(read) = &self.read {
                    $(if self.given.contains_key(stringify!($name)) {
                        limits.$name = read.$name;
                    })+
                }
                limits
            }
        }
    };
}

live![
    connections_per_address,
    connect_rate_per_address,
    connections_per_user,
    publish_rate_per_user,
    publish_bytes_per_user,
    publish_rate_per_connection,
    publish_bytes_per_connection,
    subscriptions_per_connection,
    topics_per_connection,
    requests_in_flight,
];

impl LiveLimits {
    /// Judges limits, each by its name in the section `[limits]`.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first of it.
    pub fn judge(given: Map<String, serde_json::Value>) -> Result<Self, Errors> {
        let mut reader = Reader::default();
        let value = table(&given, "given");
        let read = Limits::read(&mut reader, "limits", Some(&value), &Spec::SECTION);
        let (origins, mut errors) = reader.finish();
        for name in given.keys().filter(|name| !Self::NAMES.contains(&name.as_str())) {
            let key = format!("limits.{name}");
            if origins.is_given(&key) {
                let rule = "it holds from a node's start: change the settings, and start the nodes one after another";
                let (value, origin) = (given[name].to_string(), Origin::named("given"));
                errors.push(Error::Rule { key, value, origin, rule: rule.to_owned() });
            }
        }
        match read {
            Some(read) if errors.is_empty() => Ok(Self { given, read: Some(read) }),
            _ => Err(Errors(errors)),
        }
    }

    /// What was given.
    #[must_use]
    pub const fn given(&self) -> &Map<String, serde_json::Value> {
        &self.given
    }
}

/// Limits in the words of the settings file, by name.
#[must_use]
pub fn show_limits(limits: &Limits) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    limits.show(&mut lines, "");
    lines
}

impl Serialize for LiveLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.given.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LiveLimits {
    /// What this version cannot judge, it cannot read either.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::judge(Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn judge(limits: serde_json::Value) -> Result<LiveLimits, String> {
        LiveLimits::judge(serde_json::from_value(limits).unwrap()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn limits_that_are_given_go_over_those_of_the_settings() {
        let settings = Limits { topics_per_connection: 7, ..Settings::default().limits };
        let limits = judge(serde_json::json!({ "requests_in_flight": 3 })).unwrap();
        let over = limits.over(&settings);
        assert_eq!((over.requests_in_flight, over.topics_per_connection), (3, 7));
        assert_eq!(LiveLimits::default().over(&settings), settings);
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<LiveLimits>(&text).unwrap(), limits);
    }

    #[test]
    fn limits_are_judged_like_those_of_the_file() {
        for (limits, wrong) in [
            (serde_json::json!({ "requests_in_flight": 0 }), "limits.requests_in_flight = 0"),
            (serde_json::json!({ "requests_in_fligth": 1 }), "did you mean limits.requests_in_flight?"),
            (serde_json::json!({ "history_reads": 4 }), "it holds from a node's start"),
        ] {
            let error = judge(limits).unwrap_err();
            assert!(error.contains(wrong), "{wrong} in {error}");
        }
    }
}
