//! Every action by every capability on every way in: what the node does is what the oracle says.

use serde_json::json;

use crate::native::{self, Native};
use crate::oracle::{Action, Capability, Grant, ROOM, capabilities, is_allowed};
use crate::ways::{self, by_native, by_other};
use crate::world::{Token, World};

/// What a capability's token is called.
fn name_of(number: usize, capability: &Capability) -> String {
    capability.subject.map_or_else(|| format!("t{number}"), str::to_owned)
}

/// The token of each capability.
fn tokens(capabilities: &[Capability]) -> Vec<Token> {
    let of = |(number, capability): (usize, &Capability)| {
        let filters = |grant| match capability.grants.contains(&grant) {
            true => vec![match capability.subject {
                Some(subject) => capability.filter.replace(subject, "{sub}"),
                None => capability.filter.to_owned(),
            }],
            false => Vec::new(),
        };
        Token {
            name: name_of(number, capability),
            subscribe: filters(Grant::Subscribe),
            history: filters(Grant::History),
            publish: filters(Grant::Publish),
            presence: filters(Grant::Presence),
        }
    };
    capabilities.iter().enumerate().map(of).collect()
}

/// What differs from what should be, and how many cells were looked at.
#[derive(Default)]
struct Seen {
    n_cells: usize,
    wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, way: &str, capability: &Capability, action: Action, is: bool) {
        self.n_cells += 1;
        let should = is_allowed(capability, action);
        if is != should {
            let Capability { grants, name, filter, .. } = capability;
            let words = |allowed| if allowed { "allowed" } else { "denied" };
            self.wrong.push(format!(
                "{way}: {action:?} by {grants:?} of {name} {filter:?} is {}, not {}",
                words(is),
                words(should)
            ));
        }
    }

    #[expect(clippy::print_stdout, reason = "how much was looked at is part of the result")]
    fn check(self, what: &str) {
        println!("{what}: {} cells", self.n_cells);
        assert!(
            self.wrong.is_empty(),
            "{} of {} cells:\n{}",
            self.wrong.len(),
            self.n_cells,
            self.wrong.join("\n")
        );
    }
}

#[tokio::test]
async fn every_action_by_every_capability_in_the_native_protocol() {
    let capabilities = capabilities();
    let world = World::start(&tokens(&capabilities));
    let mut seen = Seen::default();
    for way in native::Way::ALL {
        for (number, capability) in capabilities.iter().enumerate() {
            let mut native = Native::connect(&world, way, &name_of(number, capability)).await;
            for action in Action::ALL {
                let is = by_native(&world, &mut native, action).await;
                seen.note(&format!("native {way:?}"), capability, action, is);
            }
        }
    }
    seen.check("native");
}

#[tokio::test]
async fn every_action_by_every_capability_on_all_other_ways() {
    let capabilities = capabilities();
    let world = World::start(&tokens(&capabilities));
    world.publish(ROOM, &json!("kept"));
    let mut seen = Seen::default();
    for way in ways::Way::ALL {
        for (number, capability) in capabilities.iter().enumerate() {
            for action in Action::ALL {
                let token = name_of(number, capability);
                if let Some(is) = by_other(&world, way, &token, action).await {
                    seen.note(&format!("{way:?}"), capability, action, is);
                }
            }
        }
    }
    seen.check("other ways");
}
