//! What a token's own claim says that its bearer may do.
//!
//! ```json
//! {
//!   "can": [
//!     { "topics": ["chat/#", "inbox/{sub}/#"], "do": ["subscribe", "history"] },
//!     { "topics": ["chat/+"], "do": ["publish", "presence"] }
//!   ],
//!   "limits": { "publishes_per_second": 10, "message_bytes": 4096 }
//! }
//! ```

use bongsu_protocol::topic::TopicFilter;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Limits;
use super::refused::Refused;
use crate::limits::TOKEN_FILTERS_MAX;
use crate::metrics::TokenRefusal;

/// Filters for each action; `{sub}` still stands for the subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Permissions {
    /// What is published from now on.
    pub(super) subscribe: Vec<TopicFilter>,
    /// What is stored.
    pub(super) history: Vec<TopicFilter>,
    /// Where it may publish.
    pub(super) publish: Vec<TopicFilter>,
    /// Where it may see and join presence.
    pub(super) presence: Vec<TopicFilter>,
    /// How much of it.
    pub(super) limits: Limits,
}

/// The claim. What is not known here is refused: a restriction that is passed over would grant what nobody meant to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    #[serde(default)]
    can: Vec<Capability>,
    #[serde(default)]
    limits: Option<LimitsClaim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Capability {
    topics: Vec<Filter>,
    r#do: Vec<Action>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Action {
    Subscribe,
    Publish,
    History,
    Presence,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
struct LimitsClaim {
    connections: Option<usize>,
    subscriptions: Option<usize>,
    publishes_per_second: Option<u32>,
    bytes_per_second: Option<u64>,
    message_bytes: Option<usize>,
}

impl From<LimitsClaim> for Limits {
    fn from(claim: LimitsClaim) -> Self {
        let LimitsClaim { connections, subscriptions, publishes_per_second, bytes_per_second, message_bytes } =
            claim;
        Self { connections, subscriptions, publishes_per_second, bytes_per_second, message_bytes }
    }
}

struct Filter(TopicFilter);

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        TopicFilter::parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Permissions {
    /// Reads the claim.
    ///
    /// # Errors
    /// It is not as above, or names more filters than [`TOKEN_FILTERS_MAX`].
    pub(super) fn parse(name: &str, claim: &RawValue) -> Result<Self, Refused> {
        let refuse = |what: &dyn std::fmt::Display| {
            Refused::new(TokenRefusal::Claims, format!("the token's claim `{name}` cannot be taken: {what}"))
        };
        // serde would read the fields from an array, too.
        if !claim.get().starts_with('{') {
            return Err(refuse(&"it must be an object"));
        }
        let claim: Claim = serde_json::from_str(claim.get()).map_err(|error| refuse(&error))?;
        let mut permissions = Self::default();
        let mut n_filters = 0;
        for Capability { topics, r#do: actions } in claim.can {
            n_filters += topics.len() * actions.len();
            if n_filters > TOKEN_FILTERS_MAX {
                return Err(refuse(&"it names more than 256 filters, counted once for each action"));
            }
            let topics: Vec<_> = topics.into_iter().map(|Filter(filter)| filter).collect();
            for action in actions {
                permissions.of(action).extend_from_slice(&topics);
            }
        }
        if let Some(limits) = claim.limits {
            permissions.limits = limits.into();
        }
        Ok(permissions)
    }

    const fn of(&mut self, action: Action) -> &mut Vec<TopicFilter> {
        match action {
            Action::Subscribe => &mut self.subscribe,
            Action::Publish => &mut self.publish,
            Action::History => &mut self.history,
            Action::Presence => &mut self.presence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(claim: &str) -> Option<Permissions> {
        let raw = RawValue::from_string(claim.to_owned()).expect("JSON");
        Permissions::parse("bongsu", &raw).ok()
    }

    #[test]
    fn each_action_has_the_filters_of_all_capabilities_that_name_it() {
        let claim = r##"{"can":[{"topics":["chat/#","inbox/{sub}"],"do":["subscribe","history"]},{"topics":["chat/+"],"do":["publish","subscribe"]}],
            "limits":{"publishes_per_second":10,"message_bytes":4096}}"##;
        let permissions = check(claim).expect("a claim");
        let filters =
            |filters: &[TopicFilter]| filters.iter().map(|f| f.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(filters(&permissions.subscribe), ["chat/#", "inbox/{sub}", "chat/+"]);
        assert_eq!(filters(&permissions.history), ["chat/#", "inbox/{sub}"]);
        assert_eq!(filters(&permissions.publish), ["chat/+"]);
        assert!(permissions.presence.is_empty());
        assert_eq!(permissions.limits.publishes_per_second, Some(10));
        assert_eq!(permissions.limits.message_bytes, Some(4096));
        assert_eq!(
            check("{}"),
            Some(Permissions::default()),
            "nothing is granted by a claim that names nothing"
        );
    }

    #[test]
    fn what_is_not_understood_grants_nothing() {
        let many = vec![r#""a""#; TOKEN_FILTERS_MAX / 2 + 1].join(",");
        for claim in [
            "null",
            "[]",
            r##""#""##,
            r##"{"can":{"topics":["#"],"do":["publish"]}}"##,
            r##"{"can":[{"topics":"#","do":["publish"]}]}"##,
            r##"{"can":[{"topics":["a/#/b"],"do":["publish"]}]}"##,
            r##"{"can":[{"topics":[""],"do":["publish"]}]}"##,
            r##"{"can":[{"topics":["#"],"do":["Publish"]}]}"##,
            r##"{"can":[{"topics":["#"],"do":["*"]}]}"##,
            r##"{"can":[{"topics":["#"],"do":["publish"],"except":["a"]}]}"##,
            r##"{"can":[{"topics":["#"]}]}"##,
            r##"{"can":[],"can":[{"topics":["#"],"do":["publish"]}]}"##,
            r##"{"can":[],"cannot":[]}"##,
            r##"{"limits":{"publishes":1}}"##,
            r##"{"limits":{"publishes_per_second":-1}}"##,
            r##"{"limits":{"publishes_per_second":"1"}}"##,
            &format!(r#"{{"can":[{{"topics":[{many}],"do":["publish","subscribe"]}}]}}"#),
            &format!(r#"{{"can":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000)),
        ] {
            assert_eq!(check(claim), None, "{claim:.80}");
        }
    }
}
