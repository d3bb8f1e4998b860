//! Policies that operators change while nodes run: those of the settings with a name, judged by the same declaration.

use std::collections::{HashMap, HashSet};

use ::config::{Map, Value, ValueKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::{Check, validate_policy};
use super::error::{Error, Errors};
use super::policy::Policy;
use super::schema::{Origin, Reader, Setting, Spec};
use super::settings::TopicPolicy;
use crate::limits::{LIST_ENTRIES_MAX, POLICY_DEPTH_MAX, POLICY_NAME_BYTES_MAX};

/// What a policy says besides what an entry of `[[topics]]` may say.
const NAME: &str = "name";

/// The ordered policies that go before those of the settings. Every one of them passed every check that an entry of `[[topics]]` has to pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LivePolicies(Vec<LivePolicy>);

/// A policy with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct LivePolicy {
    name: String,
    /// What was said, in the words in which it was said: what was not given may have another default in a later version.
    given: serde_json::Map<String, serde_json::Value>,
    settings: TopicPolicy,
}

impl LivePolicies {
    /// Judges policies, each an object with a `name` and what an entry of `[[topics]]` has.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first of it; keys begin with `policies[…]`.
    pub fn judge(policies: Vec<serde_json::Map<String, serde_json::Value>>) -> Result<Self, Errors> {
        let mut judge = Judge { reader: Reader::default(), errors: Vec::new() };
        if policies.len() > LIST_ENTRIES_MAX {
            judge.fail("policies", policies.len(), &format!("there are at most {LIST_ENTRIES_MAX} of them"));
            return Err(Errors(judge.errors));
        }
        let mut names = HashSet::new();
        for (idx, policy) in policies.iter().enumerate() {
            let name = policy.get(NAME).and_then(serde_json::Value::as_str).unwrap_or_default();
            if !name.is_empty() && !names.insert(name.to_owned()) {
                judge.fail(
                    &format!("{}.{NAME}", key_of(idx)),
                    format!("{name:?}"),
                    "another one has the same name",
                );
            }
        }
        let judged: Vec<_> =
            policies.into_iter().enumerate().map(|(idx, policy)| judge.policy(idx, policy)).collect();
        let (origins, mut errors) = judge.reader.finish();
        errors.extend(judge.errors);
        let judged: Option<Vec<_>> = judged.into_iter().collect();
        let Some(policies) = judged.filter(|_| errors.is_empty()) else { return Err(Errors(errors)) };
        let mut values = Vec::new();
        for (idx, policy) in policies.iter().enumerate() {
            policy.settings.show(&mut values, &key_of(idx));
        }
        let values: HashMap<String, String> = values.into_iter().collect();
        let mut check = Check { values, origins: &origins, errors };
        for (idx, policy) in policies.iter().enumerate() {
            validate_policy(&mut check, &key_of(idx), &policy.settings);
        }
        if check.errors.is_empty() { Ok(Self(policies)) } else { Err(Errors(check.errors)) }
    }

    /// The policies in order: the first whose filter matches holds.
    #[must_use]
    pub fn as_slice(&self) -> &[LivePolicy] {
        &self.0
    }

    /// The one with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&LivePolicy> {
        self.0.iter().find(|policy| policy.name == name)
    }

    /// What was said of each.
    #[must_use]
    pub fn to_json(&self) -> Vec<serde_json::Map<String, serde_json::Value>> {
        self.0.iter().map(LivePolicy::to_json).collect()
    }
}

impl LivePolicy {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of each setting, those that were not given with their defaults, in the words of the settings file.
    #[must_use]
    pub fn effective(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        self.settings.show(&mut lines, "");
        lines
    }

    /// What holds for the topics that it is for.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::from(&self.settings)
    }

    /// What was said of it, its name first.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let name = (NAME.to_owned(), self.name.clone().into());
        std::iter::once(name).chain(self.given.clone()).collect()
    }
}

impl Serialize for LivePolicies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document {
            policies: Vec<serde_json::Map<String, serde_json::Value>>,
        }
        Document { policies: self.to_json() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LivePolicies {
    /// What this version cannot judge, it cannot read either.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document {
            policies: Vec<serde_json::Map<String, serde_json::Value>>,
        }
        let Document { policies } = Document::deserialize(deserializer)?;
        Self::judge(policies).map_err(serde::de::Error::custom)
    }
}

/// Collects what is wrong while policies are read.
struct Judge {
    reader: Reader,
    errors: Vec<Error>,
}

impl Judge {
    fn fail(&mut self, key: &str, value: impl std::fmt::Display, rule: &str) {
        let (key, value, rule) = (key.to_owned(), value.to_string(), rule.to_owned());
        self.errors.push(Error::Rule { key, value, origin: Origin::named("given"), rule });
    }

    fn policy(
        &mut self,
        idx: usize,
        mut given: serde_json::Map<String, serde_json::Value>,
    ) -> Option<LivePolicy> {
        let key = key_of(idx);
        let name = given.remove(NAME);
        let name = name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > POLICY_NAME_BYTES_MAX || !name.chars().all(is_plain) {
            let rule =
                format!("it takes letters, digits, `-`, `_` and `.`, from 1 to {POLICY_NAME_BYTES_MAX}");
            self.fail(&format!("{key}.{NAME}"), format!("{name:?}"), &rule);
        }
        // Recursion on what others send is bounded, also where the parser's bound is another one.
        if depth(&given) > POLICY_DEPTH_MAX {
            self.fail(&key, "{…}", "it is nested too deeply");
            return None;
        }
        let value = table(&given, &format!("policy:{name}"));
        let settings = TopicPolicy::read(&mut self.reader, &key, Some(&value), &Spec::SECTION)?;
        Some(LivePolicy { name, given, settings })
    }
}

fn key_of(idx: usize) -> String {
    format!("policies[{idx}]")
}

fn depth(object: &serde_json::Map<String, serde_json::Value>) -> usize {
    let mut level: Vec<&serde_json::Value> = object.values().collect();
    let mut depth = 1;
    while !level.is_empty() && depth <= POLICY_DEPTH_MAX {
        level = level
            .into_iter()
            .flat_map(|value| match value {
                serde_json::Value::Array(items) => items.iter().collect(),
                serde_json::Value::Object(members) => members.values().collect(),
                _ => Vec::new(),
            })
            .collect();
        depth += usize::from(!level.is_empty());
    }
    depth
}

pub(super) fn table(object: &serde_json::Map<String, serde_json::Value>, origin: &str) -> Value {
    let entries = object.iter().map(|(name, member)| (name.clone(), value(member, origin)));
    Value::new(Some(&origin.to_owned()), entries.collect::<Map<_, _>>())
}

fn value(json: &serde_json::Value, origin: &str) -> Value {
    let kind = match json {
        serde_json::Value::Null => ValueKind::Nil,
        serde_json::Value::Bool(value) => ValueKind::Boolean(*value),
        serde_json::Value::Number(number) => number
            .as_i64()
            .map(ValueKind::I64)
            .or_else(|| number.as_f64().map(ValueKind::Float))
            .unwrap_or(ValueKind::Nil),
        serde_json::Value::String(text) => ValueKind::String(text.clone()),
        serde_json::Value::Array(items) => {
            ValueKind::Array(items.iter().map(|item| value(item, origin)).collect())
        }
        serde_json::Value::Object(members) => return table(members, origin),
    };
    Value::new(Some(&origin.to_owned()), kind)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bongsu_protocol::topic::Topic;

    use super::super::tests::load;
    use super::super::{Policies, Policy};
    use super::*;

    fn live(policies: serde_json::Value) -> Result<LivePolicies, String> {
        let policies = serde_json::from_value(policies).unwrap();
        LivePolicies::judge(policies).map_err(|errors| errors.to_string())
    }

    #[test]
    fn live_policies_are_judged_like_those_of_the_file() {
        let policies = live(serde_json::json!([
            { "name": "rooms", "filter": "room/#", "retention": { "age": "1h", "count": 10 }, "publish_rate": 5 },
            { "name": "ticks", "filter": "tick/+", "kind": "live", "slow_reader": "conflate", "message_bytes": "1KiB" },
        ]))
        .unwrap();
        let file = "
            topics = [
                { filter = 'room/#', retention = { age = '1h', count = 10 }, publish_rate = 5 },
                { filter = 'tick/+', kind = 'live', slow_reader = 'conflate', message_bytes = '1KiB' },
            ]";
        let settings = load(file, &[], &[]).settings;
        let ours: Vec<Policy> = policies.as_slice().iter().map(LivePolicy::policy).collect();
        assert_eq!(ours, settings.topics.0.iter().map(Policy::from).collect::<Vec<_>>());

        let error = live(serde_json::json!([
            { "name": "a b", "filter": "room/#", "retension": {}, "publish_rate": 0 },
            { "name": "c", "kind": "sometimes", "message_bytes": null },
            { "name": "c", "filter": "c", "kind": "live", "retention": { "age": "1h" } },
        ]))
        .unwrap_err();
        for wrong in [
            "policies[0].name",
            "did you mean policies[0].retention?",
            "policies[0].publish_rate = 0 (policy:a b)",
            "policies[1].filter is missing (policy:c)",
            "policies[1].kind",
            "policies[1].message_bytes",
            "policies[2].name",
        ] {
            assert!(error.contains(wrong), "{wrong} in {error}");
        }
        let kept = live(
            serde_json::json!([{ "name": "c", "filter": "c", "kind": "live", "retention": { "age": "1h" } }]),
        );
        assert!(kept.unwrap_err().contains("a live topic keeps no history"));
        let deep = serde_json::json!([{ "name": "d", "filter": "d", "retention": [[[[[1]]]]] }]);
        assert!(live(deep).unwrap_err().contains("nested"));
        let many: Vec<_> =
            (0..1025).map(|n| serde_json::json!({ "name": n.to_string(), "filter": "a" })).collect();
        assert!(live(many.into()).unwrap_err().contains("at most"));
    }

    #[test]
    fn live_policies_come_back_from_their_register_as_they_were_given() {
        let given =
            serde_json::json!([{ "name": "rooms", "filter": "room/#", "retention": { "age": "60m" } }]);
        let policies = live(given.clone()).unwrap();
        let document = serde_json::to_string(&policies).unwrap();
        assert_eq!(serde_json::from_str::<LivePolicies>(&document).unwrap(), policies);
        assert_eq!(serde_json::to_value(policies.to_json()).unwrap(), given);
        let later = document.replace("retention", "colours");
        assert!(serde_json::from_str::<LivePolicies>(&later).is_err(), "a later version wrote it");
    }

    #[test]
    fn live_policies_go_before_those_of_the_file_and_behind_the_broker_s_own() {
        let file = "topics = [{ filter = 'room/#', message_bytes = '2B' }]";
        let day = Duration::from_secs(86_400);
        let policies = Policies::new(&load(file, &[], &[]).settings.topics.0).telling(day);
        let bytes = |policies: &Policies, topic: &str| {
            policies.for_topic(&Topic::parse(topic).unwrap()).message_bytes
        };
        let given = serde_json::json!([
            { "name": "one", "filter": "room/1", "message_bytes": "1B" },
            { "name": "sys", "filter": "$sys/#", "message_bytes": "1B" },
        ]);
        let given = Arc::new(live(given).unwrap());
        let preview = policies.with(&given);
        assert_eq!((bytes(&policies, "room/1"), bytes(&preview, "room/1")), (2, 1));
        for _ in 0..2 {
            policies.put_before(|| Arc::clone(&given));
            assert_eq!(
                (bytes(&policies, "room/1"), bytes(&policies, "room/2"), bytes(&policies, "a")),
                (1, 2, 1 << 20)
            );
            assert_eq!(bytes(&policies, "$sys/sessions/n"), 1 << 20);
            assert_eq!(policies.list().len(), 6);
        }
        policies.put_before(Default::default);
        assert_eq!(bytes(&policies, "room/1"), 2);
    }
}
