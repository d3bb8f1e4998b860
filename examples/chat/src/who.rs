//! Who is here, as the broker's events of sessions tell it: pure, so that its tests need no broker.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

/// What is used of an event; the broker's docs/events.md has all of it.
#[derive(Debug, Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    session: String,
    #[serde(default)]
    transport: String,
    #[serde(default)]
    topics: Vec<String>,
}

/// The sessions that are open, and where each of them is.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: HashMap<String, Session>,
    /// Every room that anybody was in, so that the last one to leave is noticed.
    rooms: BTreeSet<String>,
}

#[derive(Debug)]
struct Session {
    /// The topic that tells of it: that of its node.
    told_on: String,
    transport: String,
    /// Each room and name of its subscriptions to `chat/ROOM/here/NAME`.
    places: BTreeSet<(String, String)>,
}

/// Who is in a room: what is published on `chat/ROOM/who`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Here {
    pub(crate) here: Vec<Person>,
}

/// Somebody, in any number of windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Person {
    name: String,
    /// What carries each of the windows: `websocket-json`, `sockjs-websocket` and the like.
    via: Vec<String>,
}

impl Sessions {
    /// Takes an event in. One that is none, or of a kind that is not known here, is passed over: others may come with a later broker.
    pub(crate) fn take(&mut self, told_on: &str, payload: &[u8]) {
        let event = match serde_json::from_slice::<Event>(payload) {
            Ok(event) if !event.session.is_empty() => event,
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, told_on, "this is no event of a session"),
        };
        match event.event.as_str() {
            "disconnected" => drop(self.open.remove(&event.session)),
            "connected" => drop(self.session(told_on, &event)),
            "subscribed" => {
                let places: Vec<_> = places(&event).collect();
                self.rooms.extend(places.iter().map(|(room, _)| room.clone()));
                self.session(told_on, &event).places.extend(places);
            }
            "unsubscribed" => {
                let session = self.session(told_on, &event);
                for place in places(&event) {
                    session.places.remove(&place);
                }
            }
            // All of them, in the place of events that were lost.
            "subscriptions" => {
                let places: BTreeSet<_> = places(&event).collect();
                self.rooms.extend(places.iter().map(|(room, _)| room.clone()));
                self.session(told_on, &event).places = places;
            }
            _ => {}
        }
    }

    /// What was told on this topic means nothing any more: it begins anew.
    pub(crate) fn forget(&mut self, told_on: &str) {
        self.open.retain(|_, session| session.told_on != told_on);
    }

    /// Who is in each room, by name; empty where everybody left.
    pub(crate) fn rooms(&self) -> BTreeMap<String, Here> {
        let mut people: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for session in self.open.values() {
            for (room, name) in &session.places {
                people.entry((room, name)).or_default().push(session.transport.clone());
            }
        }
        let empty = |room: &String| (room.clone(), Here::default());
        let mut rooms: BTreeMap<String, Here> = self.rooms.iter().map(empty).collect();
        for ((room, name), mut via) in people {
            via.sort();
            let person = Person { name: name.to_owned(), via };
            rooms.entry(room.to_owned()).or_default().here.push(person);
        }
        rooms
    }

    /// The session that an event is about. Every event says what is needed of it, so one whose beginning was not kept is known as well.
    fn session(&mut self, told_on: &str, event: &Event) -> &mut Session {
        self.open.entry(event.session.clone()).or_insert_with(|| Session {
            told_on: told_on.to_owned(),
            transport: event.transport.clone(),
            places: BTreeSet::new(),
        })
    }
}

/// The rooms and names among an event's topics: `chat/ROOM/here/NAME`.
fn places(event: &Event) -> impl Iterator<Item = (String, String)> {
    event.topics.iter().filter_map(|topic| {
        let (room, name) = topic.strip_prefix("chat/")?.split_once("/here/")?;
        let is_level = |level: &str| !level.is_empty() && !level.contains(['/', '+', '#']);
        (is_level(room) && is_level(name)).then(|| (room.to_owned(), name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "$sys/sessions/node-1";

    /// What is told of a session whose name is also what carries it.
    fn told(sessions: &mut Sessions, event: &str, session: &str, topics: &[&str]) {
        let event =
            serde_json::json!({"event": event, "session": session, "transport": session, "topics": topics});
        sessions.take(NODE, event.to_string().as_bytes());
    }

    /// `Kim(a) Lee(b)`.
    fn shown(sessions: &Sessions, room: &str) -> Option<String> {
        let here = sessions.rooms().remove(room)?;
        let people = here.here.iter().map(|person| format!("{}({})", person.name, person.via.join(",")));
        Some(people.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn who_subscribes_to_a_name_is_here_until_the_session_ends() {
        let mut sessions = Sessions::default();
        told(&mut sessions, "connected", "b", &[]);
        assert_eq!(shown(&sessions, "lobby"), None);
        told(&mut sessions, "subscribed", "b", &["chat/lobby/messages", "chat/lobby/here/Lee"]);
        told(&mut sessions, "subscribed", "a", &["chat/lobby/here/Kim"]);
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some("Kim(a) Lee(b)"));
        told(&mut sessions, "disconnected", "b", &[]);
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some("Kim(a)"));
        told(&mut sessions, "unsubscribed", "a", &["chat/lobby/here/Kim"]);
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some(""));
    }

    #[test]
    fn somebody_with_two_windows_is_here_once_until_both_are_closed() {
        let mut sessions = Sessions::default();
        told(&mut sessions, "subscribed", "b", &["chat/lobby/here/Kim"]);
        told(&mut sessions, "subscribed", "a", &["chat/lobby/here/Kim"]);
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some("Kim(a,b)"));
        told(&mut sessions, "disconnected", "a", &[]);
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some("Kim(b)"));
    }

    #[test]
    fn a_state_takes_the_place_of_the_events_that_were_lost() {
        let mut sessions = Sessions::default();
        told(&mut sessions, "subscribed", "a", &["chat/lobby/here/Kim"]);
        told(&mut sessions, "lost", "", &[]);
        told(&mut sessions, "subscriptions", "a", &["chat/attic/here/Kim"]);
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some(""));
        assert_eq!(shown(&sessions, "attic").as_deref(), Some("Kim(a)"));
    }

    #[test]
    fn events_that_begin_anew_leave_nobody_of_before() {
        let mut sessions = Sessions::default();
        told(&mut sessions, "subscribed", "a", &["chat/lobby/here/Kim"]);
        sessions.forget("$sys/sessions/other");
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some("Kim(a)"));
        sessions.forget(NODE);
        assert_eq!(shown(&sessions, "lobby").as_deref(), Some(""));
    }

    #[test]
    fn whoever_reads_all_names_is_nobody() {
        let mut sessions = Sessions::default();
        told(
            &mut sessions,
            "subscribed",
            "a",
            &["chat/lobby/here/+", "chat/#", "chat/+/here/Kim", "chat/a/b/here/Kim"],
        );
        sessions.take(NODE, b"not JSON");
        assert_eq!(sessions.rooms(), BTreeMap::new());
    }
}
