//! What should be allowed, by rules of its own: it shares nothing with what it judges.

/// The topic that everything here is about.
pub(crate) const ROOM: &str = "m/ada/room";

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read what comes: on the topic, on all topics beside it, on everything.
    Latest,
    LatestUnder,
    LatestOfAll,
    /// Read what is kept and then what comes.
    Earliest,
    EarliestUnder,
    /// Read what is kept.
    History,
    Publish,
    /// Publish where only the broker does.
    PublishReserved,
    Enter,
    Members,
    /// Be told of joins and leaves: on the topic, on all beside it, on all there are; and read of those that were.
    Watch,
    WatchUnder,
    WatchAll,
    WatchHistory,
    /// Read what the broker tells of sessions.
    Sys,
}

impl Action {
    pub(crate) const ALL: [Self; 15] = [
        Self::Latest,
        Self::LatestUnder,
        Self::LatestOfAll,
        Self::Earliest,
        Self::EarliestUnder,
        Self::History,
        Self::Publish,
        Self::PublishReserved,
        Self::Enter,
        Self::Members,
        Self::Watch,
        Self::WatchUnder,
        Self::WatchAll,
        Self::WatchHistory,
        Self::Sys,
    ];

    /// The topic or filter that a reader names.
    pub(crate) const fn filter(self) -> &'static str {
        match self {
            Self::LatestUnder | Self::EarliestUnder => "m/ada/#",
            Self::LatestOfAll => "#",
            Self::Watch | Self::WatchHistory => "$presence/m/ada/room",
            Self::WatchUnder => "$presence/m/ada/#",
            Self::WatchAll => "$presence/#",
            Self::Sys => "$sys/#",
            Self::PublishReserved => "$sys/sessions/n",
            _ => ROOM,
        }
    }

    /// What it takes: each of these grants over all of that. `None`: nobody may.
    fn takes(self) -> Option<&'static [(Grant, &'static str)]> {
        use Grant::{History, Presence, Publish, Subscribe};
        Some(match self {
            Self::Latest => &[(Subscribe, ROOM)],
            Self::LatestUnder => &[(Subscribe, "m/ada/#")],
            Self::LatestOfAll => &[(Subscribe, "#")],
            Self::Earliest => &[(Subscribe, ROOM), (History, ROOM)],
            Self::EarliestUnder => &[(Subscribe, "m/ada/#"), (History, "m/ada/#")],
            Self::History => &[(History, ROOM)],
            Self::Publish => &[(Publish, ROOM)],
            Self::PublishReserved => return None,
            Self::Enter | Self::Members | Self::Watch | Self::WatchHistory => &[(Presence, ROOM)],
            Self::WatchUnder => &[(Presence, "m/ada/#")],
            Self::WatchAll => &[(Presence, "#")],
            Self::Sys => &[(Subscribe, "$sys/#")],
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    Subscribe,
    History,
    Publish,
    Presence,
}

/// What a token grants: the same filter for each of these actions, and nothing for the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capability {
    pub(crate) grants: &'static [Grant],
    /// In words, and as a filter; the empty one grants nothing.
    pub(crate) name: &'static str,
    pub(crate) filter: &'static str,
    /// The token's name, where the filter stands in the settings with `{sub}` in its place.
    pub(crate) subject: Option<&'static str>,
}

pub(crate) fn capabilities() -> Vec<Capability> {
    use Grant::{History, Presence, Publish, Subscribe};
    let sets: [&'static [Grant]; 6] = [
        &[Subscribe],
        &[History],
        &[Publish],
        &[Presence],
        &[Subscribe, History],
        &[Subscribe, History, Publish, Presence],
    ];
    let filters = [
        ("exact", ROOM),
        ("covering", "m/ada/#"),
        ("narrower", "m/ada/+"),
        ("sibling", "m/bob/#"),
        ("everything", "#"),
        ("system", "$sys/#"),
    ];
    let none = Capability { grants: &[], name: "none", filter: "", subject: None };
    let of = |grants| filters.map(|(name, filter)| Capability { grants, name, filter, subject: None });
    let own = |subject, filter| Capability { grants: sets[5], name: "{sub}", filter, subject: Some(subject) };
    let owns = [own("ada", "m/ada/#"), own("bob", "m/bob/#")];
    [none].into_iter().chain(sets.into_iter().flat_map(of)).chain(owns).collect()
}

/// Whether the bearer of a capability may.
pub(crate) fn is_allowed(capability: &Capability, action: Action) -> bool {
    let grants = |(grant, wanted): &(Grant, &str)| {
        let is_reserved = wanted.starts_with('$') && !capability.filter.starts_with('$');
        let levels = |filter: &'static str| filter.split('/').collect::<Vec<_>>();
        let wanted: Vec<_> = wanted.split('/').collect();
        capability.grants.contains(grant) && !is_reserved && covers(&levels(capability.filter), &wanted)
    };
    action.takes().is_some_and(|takes| takes.iter().all(grants))
}

/// Whether a filter has every topic that another one has, level by level.
fn covers(filter: &[&str], wanted: &[&str]) -> bool {
    match (filter, wanted) {
        (["#"], _) | ([], []) => true,
        ([level, filter @ ..], [other, wanted @ ..]) => {
            (level == other || (*level == "+" && *other != "#")) && covers(filter, wanted)
        }
        _ => false,
    }
}
