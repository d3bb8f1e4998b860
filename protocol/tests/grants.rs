//! What a client may do, by what its grants say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use bongsu_protocol::command::{
    Command, HistoryQuery, HistoryRange, Request, RequestId, Start, Subscription, Token,
};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::message::Time;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::ErrorCode;
use bongsu_protocol::session::{Bounds, Effect, Grants, Outgoing, Session};
use bongsu_protocol::topic::{Topic, TopicFilter};

const BOUNDS: Bounds = Bounds { outbox_bytes: 1 << 16, subscriptions: 8, topics: 8, requests_in_flight: 8 };

fn filters(texts: &[&str]) -> Vec<TopicFilter> {
    texts.iter().map(|text| TopicFilter::parse(text).unwrap()).collect()
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

/// Asks a session of these grants for one thing; `None`: it was begun.
fn ask(session: &mut Session<()>, id: u64, command: Command) -> Option<ErrorCode> {
    session.handle(Time(0), Ok(Request { id: RequestId(id), command }));
    let Some(Outgoing::Event(event)) = session.poll_outgoing() else { return None };
    let Event::Reply { result, .. } = *event else { panic!("{event:?}") };
    match result {
        Err(error) => Some(error.code),
        Ok(Reply::Subscribed(mut results)) => results.remove(0).err().map(|error| error.code),
        Ok(reply) => panic!("{reply:?}"),
    }
}

fn subscribe(filter: &str, from: Start, seen: &[(&str, Position)]) -> Command {
    let seen = seen.iter().map(|(name, position)| (topic(name), *position)).collect();
    Command::Subscribe(vec![Subscription { filter: TopicFilter::parse(filter).unwrap(), from, seen }])
}

fn page(name: &str) -> Command {
    let range = HistoryRange::Forward(Start::Earliest);
    Command::History(HistoryQuery { topic: topic(name), range, limit: 1 })
}

#[test]
fn who_may_only_subscribe_reads_nothing_that_was_there_before() {
    let grants = Grants { subject: "ann".to_owned(), subscribe: filters(&["a/#"]), ..Grants::default() };
    let mut session = Session::new(BOUNDS, grants);
    let at = Position::new(1, 1);
    let forbidden = Some(ErrorCode::Forbidden);
    assert_eq!(ask(&mut session, 1, subscribe("a/1", Start::Latest, &[])), None);
    let starts = [Start::Earliest, Start::Last(1), Start::After(at), Start::Time(Time(0))];
    for (id, from) in (2..).zip(starts) {
        assert_eq!(ask(&mut session, id, subscribe("a/2", from, &[])), forbidden, "{from:?}");
    }
    assert_eq!(ask(&mut session, 10, subscribe("a/+", Start::Latest, &[("a/2", at)])), forbidden);
    assert_eq!(ask(&mut session, 11, page("a/1")), forbidden);
}

#[test]
fn who_may_only_read_what_is_kept_is_told_nothing_new() {
    let grants = Grants { subject: "ann".to_owned(), history: filters(&["a/#"]), ..Grants::default() };
    let mut session = Session::new(BOUNDS, grants);
    assert_eq!(ask(&mut session, 1, page("a/1")), None);
    assert_eq!(ask(&mut session, 2, page("b")), Some(ErrorCode::Forbidden));
    assert_eq!(ask(&mut session, 3, subscribe("a/1", Start::Earliest, &[])), Some(ErrorCode::Forbidden));
}

#[test]
fn a_filter_is_allowed_only_if_one_grant_covers_all_of_it() {
    let both = filters(&["a/1", "a/+/x"]);
    let grants = Grants { subject: "ann".to_owned(), subscribe: both, ..Grants::default() };
    let mut session = Session::new(BOUNDS, grants);
    for (id, (filter, is_allowed)) in (1..).zip([
        ("a/1", true),
        ("a/2/x", true),
        ("a/+/x", true),
        ("a/+", false),
        ("a/#", false),
        ("#", false),
    ]) {
        let refused = (!is_allowed).then_some(ErrorCode::Forbidden);
        assert_eq!(ask(&mut session, id, subscribe(filter, Start::Latest, &[])), refused, "{filter}");
    }
}

#[test]
fn what_smaller_grants_no_longer_cover_ends() {
    let wide = Grants {
        subject: "ann".to_owned(),
        subscribe: filters(&["#"]),
        history: filters(&["#"]),
        ..Grants::default()
    };
    let narrow = Grants { subscribe: filters(&["a/#"]), history: Vec::new(), ..wide.clone() };
    let mut session: Session<()> = Session::new(BOUNDS, wide);
    assert_eq!(ask(&mut session, 1, subscribe("a/live", Start::Latest, &[])), None);
    assert_eq!(ask(&mut session, 2, subscribe("a/kept", Start::Earliest, &[])), None);
    assert_eq!(ask(&mut session, 3, subscribe("b", Start::Latest, &[])), None);
    assert_eq!(ask(&mut session, 4, Command::Authenticate(Token("narrower".to_owned()))), None);
    session.authenticated(RequestId(4), Ok(narrow));
    let ended = std::iter::from_fn(|| session.poll_outgoing()).filter_map(|outgoing| {
        let Outgoing::Event(event) = outgoing else { return None };
        let Event::Unsubscribed { filter, error } = *event else { return None };
        Some((filter.to_string(), error.code))
    });
    let forbidden = |name: &str| (name.to_owned(), ErrorCode::Forbidden);
    assert_eq!(ended.collect::<Vec<_>>(), [forbidden("a/kept"), forbidden("b")]);
    let unwatched = std::iter::from_fn(|| session.poll_effect());
    let unwatched = unwatched.filter(|effect| matches!(effect, Effect::Unwatch { .. }));
    assert_eq!(unwatched.count(), 2);
}
