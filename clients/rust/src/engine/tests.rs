use std::sync::Arc;

use bongsu_protocol::codec::decode_requests;
use bongsu_protocol::command::Subscription;
use bongsu_protocol::event::{Lost, LostRange, Subscribed};
use bongsu_protocol::message::{self, Delivery, Message};
use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::reason::{CloseReason, Goodbye};

use super::*;
use crate::limits::{FULL_PATIENCE, FULL_PATIENCE_WITH_CALLS};

const START: Time = Duration::ZERO;
const DEADLINE: Duration = Duration::from_secs(30);
const SINCE: message::Time = message::Time(1000);

/// An engine with scripted input; calls are numbered by their waiters.
struct Script {
    engine: Engine<u32>,
    now: Time,
}

impl Script {
    fn new() -> Self {
        Self { engine: Engine::new(DEADLINE), now: START }
    }

    fn open() -> Self {
        let mut script = Self::new();
        script.connect();
        script
    }

    fn connect(&mut self) {
        self.engine.handle_open(&Welcome {
            session: "s".to_owned(),
            node: "n".to_owned(),
            subject: String::new(),
            time: SINCE,
            heartbeat_ms: 25_000,
            frame_bytes_max: 2 << 20,
        });
    }

    fn reconnect(&mut self) {
        self.engine.handle_lost();
        self.connect();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.engine.handle_timeout(self.now);
    }

    fn subscribe(&mut self, id: u32, filter: &str, from: Start) {
        let filter = TopicFilter::parse(filter).unwrap();
        self.engine.subscribe(self.now, SubscriptionId(id.into()), filter, from, Vec::new(), id);
    }

    fn publish(&mut self, waiter: u32, payload: &str) {
        let mut message = Message::new(payload.to_owned());
        message.id = format!("id-{payload}");
        let message = NewMessage { topic: topic("t"), message, expect: None };
        self.engine.publish(self.now, vec![message], waiter);
    }

    /// What goes to the broker, each request with its id.
    fn sent(&mut self) -> Vec<(u64, Command)> {
        let mut sent = Vec::new();
        while let Some(frame) = self.engine.poll_frame() {
            let requests = decode_requests(Format::Binary, &frame).unwrap();
            sent.extend(requests.into_iter().map(|request| request.unwrap()).map(|it| (it.id.0, it.command)));
        }
        sent
    }

    /// The one subscription that is asked for.
    fn subscription(&mut self) -> (u64, Subscription) {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        let Some((id, Command::Subscribe(mut wanted))) = sent.pop() else { panic!("no subscribe") };
        assert_eq!(wanted.len(), 1, "{wanted:?}");
        (id, wanted.remove(0))
    }

    fn event(&mut self, event: Event) {
        self.engine.handle_event(self.now, event).unwrap();
    }

    fn reply(&mut self, id: u64, reply: Reply) {
        self.event(Event::Reply { id: RequestId(id), result: Ok(reply) });
    }

    fn subscribed(&mut self, id: u64, filter: &str, since: message::Time, positions: &[(&str, Position)]) {
        let positions = positions.iter().map(|(name, position)| (topic(name), *position)).collect();
        let filter = TopicFilter::parse(filter).unwrap();
        self.reply(id, Reply::Subscribed(vec![Ok(Subscribed { filter, since, positions })]));
    }

    fn deliver(&mut self, name: &str, position: Option<Position>) {
        self.event(delivery(name, position));
    }

    fn outputs(&mut self) -> Vec<String> {
        let outputs = std::iter::from_fn(|| self.engine.poll_output());
        outputs.filter(|it| !matches!(it, Output::Started(..))).map(|output| shown(&output)).collect()
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn at(offset: u64) -> Position {
    Position::new(1, offset)
}

fn delivery(name: &str, position: Option<Position>) -> Event {
    Event::Delivery(Arc::new(Delivery {
        topic: topic(name),
        position,
        time: SINCE,
        publisher: String::new(),
        message: Message::new("x"),
        erased: false,
    }))
}

fn lost(name: &str, epoch: u64, from: u64, until: u64) -> Event {
    let range = LostRange { epoch: Epoch(epoch), from: Offset(from), until: Offset(until) };
    Event::Lost(Lost { topic: topic(name), range: Some(range), count: until + 1 - from })
}

fn reset(name: &str, epoch: u64) -> Event {
    Event::Reset { topic: topic(name), epoch: Epoch(epoch) }
}

fn shown(output: &Output<u32>) -> String {
    match output {
        Output::Settled(waiter, Ok(_)) => format!("{waiter} ok"),
        Output::Settled(waiter, Err(error)) => format!("{waiter} {error}"),
        Output::Started(id, _) => format!("#{} started", id.0),
        Output::Ended(id, error) => format!("#{} ended {error}", id.0),
        Output::TokenExpiring => "token expiring".to_owned(),
        Output::Item(id, item) => match item {
            Item::Message(it) => match it.position {
                Some(position) => format!("#{} {} {position}", id.0, it.topic),
                None => format!("#{} {} live", id.0, it.topic),
            },
            Item::Lost(Lost { range: Some(range), .. }) => {
                format!("#{} lost {}:{}-{}", id.0, range.epoch.0, range.from.0, range.until.0)
            }
            Item::Lost(it) => format!("#{} lost {}", id.0, it.count),
            Item::Reset { epoch, .. } => format!("#{} reset {}", id.0, epoch.0),
            Item::Ended(error) => format!("#{} {error}", id.0),
        },
    }
}

/// A script with one active subscription, whose number is 1.
fn subscribed(filter: &str, from: Start, positions: &[(&str, Position)]) -> Script {
    let mut script = Script::open();
    script.subscribe(1, filter, from);
    let (id, _) = script.subscription();
    script.subscribed(id, filter, SINCE, positions);
    assert_eq!(script.outputs(), ["1 ok"]);
    script
}

#[test]
fn single_topic_resumes_after_its_position() {
    let mut script = subscribed("t", Start::Last(10), &[("t", at(4))]);
    script.reconnect();
    assert_eq!(script.subscription().1.from, Start::After(at(4)));
    script.deliver("t", Some(at(5)));
    script.reconnect();
    assert_eq!(script.subscription().1.from, Start::After(at(5)));
}

#[test]
fn pattern_resumes_from_since_with_what_was_seen() {
    let mut script = subscribed("t/#", Start::Latest, &[]);
    script.deliver("t/a", Some(at(7)));
    script.reconnect();
    let (_, wanted) = script.subscription();
    assert_eq!(wanted.from, Start::Time(SINCE));
    assert_eq!(wanted.seen, [(topic("t/a"), at(7))]);
}

#[test]
fn before_the_reply_a_subscription_is_repeated_as_it_was_asked_for() {
    let mut script = Script::open();
    script.subscribe(1, "t/#", Start::Last(10));
    script.sent();
    script.deliver("t/a", Some(at(7)));
    // A message is as good as the reply, and is there when the call returns.
    assert_eq!(script.outputs(), ["#1 t/a 1:7", "1 ok"]);
    script.reconnect();
    let (_, wanted) = script.subscription();
    assert_eq!(wanted.from, Start::Last(10));
    assert_eq!(wanted.seen, [(topic("t/a"), at(7))]);
}

#[test]
fn before_the_reply_a_single_topic_is_resumed_after_what_came() {
    let mut script = Script::open();
    script.subscribe(1, "t", Start::Last(10));
    script.sent();
    script.deliver("t", Some(at(7)));
    script.reconnect();
    assert_eq!(script.subscription().1.from, Start::After(at(7)));
}

#[test]
fn a_later_reply_does_not_move_the_time_to_read_from() {
    let mut script = subscribed("t/#", Start::Latest, &[]);
    script.reconnect();
    let (id, _) = script.subscription();
    // The broker would read t/b from the first reply's time on, but the connection breaks before it does.
    script.subscribed(id, "t/#", message::Time(5000), &[]);
    script.reconnect();
    assert_eq!(script.subscription().1.from, Start::Time(SINCE));
}

#[test]
fn a_time_asked_for_holds_for_topics_of_which_nothing_came() {
    let mut script = subscribed("t/#", Start::Time(message::Time(10)), &[]);
    script.reconnect();
    assert_eq!(script.subscription().1.from, Start::Time(message::Time(10)));
}

#[test]
fn what_was_seen_is_not_handed_out_again() {
    let mut script = subscribed("t/#", Start::Latest, &[]);
    script.deliver("t/a", Some(at(1)));
    script.reconnect();
    script.sent();
    script.deliver("t/a", Some(at(1)));
    script.deliver("t/a", Some(at(2)));
    script.event(lost("t/a", 1, 1, 2));
    assert_eq!(script.outputs(), ["#1 t/a 1:1", "#1 t/a 1:2"]);
}

#[test]
fn what_an_earlier_run_saw_is_where_reading_goes_on() {
    let mut script = Script::open();
    let filter = TopicFilter::parse("t/#").unwrap();
    let seen = vec![(topic("t/a"), at(7)), (topic("other"), at(1))];
    script.engine.subscribe(START, SubscriptionId(1), filter, Start::Earliest, seen, 1);
    let (_, wanted) = script.subscription();
    assert_eq!((wanted.from, wanted.seen), (Start::Earliest, vec![(topic("t/a"), at(7))]));
    script.deliver("t/a", Some(at(7)));
    script.deliver("t/a", Some(at(8)));
    assert_eq!(script.outputs(), ["#1 t/a 1:8", "1 ok"]);
}

#[test]
fn a_hole_ends_the_connection_and_resumes_before_it() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    let broken = script.engine.handle_event(START, delivery("t", Some(at(6))));
    assert!(matches!(broken, Err(Disconnected::Hole(_))), "{broken:?}");
    script.reconnect();
    assert_eq!(script.subscription().1.from, Start::After(at(4)));
    script.deliver("t", Some(at(5)));
    script.deliver("t", Some(at(6)));
    assert_eq!(script.outputs(), ["#1 t 1:5", "#1 t 1:6"]);
}

#[test]
fn a_hole_that_stays_is_told_as_lost() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    assert!(script.engine.handle_event(START, delivery("t", Some(at(8)))).is_err());
    script.reconnect();
    script.sent();
    script.deliver("t", Some(at(8)));
    assert_eq!(script.outputs(), ["#1 lost 1:5-7", "#1 t 1:8"]);
}

#[test]
fn loss_that_the_broker_tells_is_no_hole() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    script.event(lost("t", 1, 5, 9));
    script.deliver("t", Some(at(10)));
    assert_eq!(script.outputs(), ["#1 lost 1:5-9", "#1 t 1:10"]);
}

#[test]
fn loss_that_begins_behind_a_hole_is_one() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    assert!(script.engine.handle_event(START, lost("t", 1, 7, 9)).is_err());
}

#[test]
fn a_reset_forgets_positions_also_where_the_log_was_set_back() {
    for epoch in [1, 2] {
        let mut script = subscribed("t", Start::Latest, &[("t", at(100))]);
        script.event(reset("t", epoch));
        // The oldest kept message of the log made anew.
        script.deliver("t", Some(Position::new(epoch, 31)));
        script.deliver("t", Some(Position::new(epoch, 32)));
        let expected = [format!("#1 reset {epoch}"), format!("#1 t {epoch}:31"), format!("#1 t {epoch}:32")];
        assert_eq!(script.outputs(), expected);
        script.reconnect();
        assert_eq!(script.subscription().1.from, Start::After(Position::new(epoch, 32)));
    }
}

#[test]
fn the_first_message_of_a_later_epoch_is_told_as_a_reset() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    script.deliver("t", Some(Position::new(2, 1)));
    // Late, and of no meaning any more.
    script.deliver("t", Some(at(5)));
    assert_eq!(script.outputs(), ["#1 reset 2", "#1 t 2:1"]);
}

#[test]
fn the_first_log_of_a_topic_is_no_reset() {
    let mut script = subscribed("t", Start::Latest, &[("t", Position::default())]);
    script.deliver("t", Some(at(1)));
    assert_eq!(script.outputs(), ["#1 t 1:1"]);
}

#[test]
fn overlapping_subscriptions_each_get_a_message_once() {
    let mut script = subscribed("t/#", Start::Latest, &[]);
    script.subscribe(2, "t/a", Start::Latest);
    let (id, _) = script.subscription();
    script.subscribed(id, "t/a", SINCE, &[("t/a", at(0))]);
    script.deliver("t/a", Some(at(1)));
    script.deliver("t/b", Some(at(1)));
    assert_eq!(script.outputs(), ["2 ok", "#2 t/a 1:1", "#1 t/a 1:1", "#1 t/b 1:1"]);
}

#[test]
fn the_same_filter_twice_is_refused() {
    let mut script = subscribed("t", Start::Latest, &[]);
    script.subscribe(2, "t", Start::Earliest);
    assert_eq!(script.outputs(), ["2 this client is subscribed to this filter already"]);
    assert_eq!(script.sent(), []);
}

#[test]
fn a_new_subscription_waits_until_the_old_one_ended() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    script.engine.unsubscribe(SubscriptionId(1));
    let [(ending, Command::Unsubscribe(_))] = script.sent()[..] else { panic!("no unsubscribe") };
    script.subscribe(2, "t", Start::Latest);
    assert_eq!(script.sent(), []);
    script.deliver("t", Some(at(5)));
    assert_eq!(script.outputs(), [""; 0]);
    script.reply(ending, Reply::Unsubscribed);
    let (id, wanted) = script.subscription();
    assert_eq!(wanted.from, Start::Latest);
    script.subscribed(id, "t", SINCE, &[("t", at(9))]);
    script.deliver("t", Some(at(10)));
    assert_eq!(script.outputs(), ["2 ok", "#2 t 1:10"]);
}

#[test]
fn unacknowledged_publishes_are_sent_again_in_order_with_their_ids() {
    let mut script = Script::open();
    for (waiter, payload) in [(1, "a"), (2, "b"), (3, "c")] {
        script.publish(waiter, payload);
    }
    let first = script.sent();
    let [(1, Command::Publish(messages))] = &first[..] else { panic!("{first:?}") };
    assert_eq!(messages.len(), 3);
    script.publish(4, "d");
    script.sent();
    script.publish(5, "e");
    script.reconnect();
    let again = script.sent();
    let [(1, Command::Publish(messages))] = &again[..] else { panic!("{again:?}") };
    let ids: Vec<_> = messages.iter().map(|it| it.message.id.as_str()).collect();
    assert_eq!(ids, ["id-a", "id-b", "id-c", "id-d", "id-e"]);
    let published = Published { position: Some(at(1)), duplicate: true };
    script.reply(1, Reply::Published(vec![Ok(published); 5]));
    assert_eq!(script.outputs(), ["1 ok", "2 ok", "3 ok", "4 ok", "5 ok"]);
}

#[test]
fn publishes_gather_while_many_are_under_way() {
    let mut script = Script::open();
    for waiter in 0..100 {
        script.publish(waiter, "x");
        script.sent();
    }
    let answer = Reply::Published(vec![Ok(Published { position: None, duplicate: false })]);
    script.reply(1, answer);
    let sent = script.sent();
    let [(_, Command::Publish(messages))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(messages.len(), 100 - PUBLISHES_IN_FLIGHT_MAX);
}

#[test]
fn a_frame_holds_a_bounded_number_of_bytes() {
    let mut script = Script::open();
    let payload = "x".repeat(100 << 10);
    for waiter in 0..20 {
        script.publish(waiter, &payload);
    }
    while let Some(frame) = script.engine.poll_frame() {
        assert!(frame.len() <= FRAME_BYTES_TARGET, "{}", frame.len());
    }
}

#[test]
fn a_call_fails_at_its_deadline_and_is_not_sent_any_more() {
    let mut script = Script::new();
    script.publish(1, "a");
    script.engine.call(script.now, Command::Ping, 2);
    script.subscribe(3, "t", Start::Latest);
    script.wait(DEADLINE - Duration::from_millis(1));
    assert_eq!(script.outputs(), [""; 0]);
    assert_eq!(script.engine.poll_timeout(), Some(DEADLINE));
    script.wait(Duration::from_millis(1));
    let outputs = script.outputs();
    assert_eq!(outputs.iter().filter(|it| it.ends_with("no answer came in time")).count(), 3, "{outputs:?}");
    script.connect();
    assert_eq!(script.sent(), []);
    assert_eq!(script.engine.poll_timeout(), None);
}

#[test]
fn presence_is_entered_again_until_it_is_left() {
    let mut script = Script::open();
    let enter = Command::Enter { topic: topic("t"), info: Bytes::from_static(b"{}") };
    script.engine.call(script.now, enter.clone(), 1);
    script.sent();
    script.reply(1, Reply::Entered);
    script.reconnect();
    assert_eq!(script.sent(), [(1, enter)]);
    script.engine.call(script.now, Command::Leave { topic: topic("t") }, 2);
    script.sent();
    script.reconnect();
    assert_eq!(script.sent(), [(1, Command::Leave { topic: topic("t") })]);
}

#[test]
fn a_refused_subscription_fails_its_call() {
    let mut script = Script::open();
    script.subscribe(1, "t", Start::Latest);
    let (id, _) = script.subscription();
    let error = reason::Error::new(ErrorCode::Unavailable, "later");
    script.event(Event::Reply { id: RequestId(id), result: Ok(Reply::Subscribed(vec![Err(error)])) });
    assert_eq!(script.outputs(), ["1 unavailable: later"]);
    script.reconnect();
    assert_eq!(script.sent(), []);
}

#[test]
fn a_subscription_that_cannot_be_resumed_for_now_is_asked_for_again_later() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    script.reconnect();
    let (id, _) = script.subscription();
    let error = reason::Error::new(ErrorCode::Unavailable, "later").retry_after(3000);
    script.event(Event::Reply { id: RequestId(id), result: Ok(Reply::Subscribed(vec![Err(error)])) });
    assert_eq!(script.sent(), []);
    assert_eq!(script.engine.poll_timeout(), Some(Duration::from_secs(3)));
    script.wait(Duration::from_secs(3));
    assert_eq!(script.subscription().1.from, Start::After(at(4)));
}

#[test]
fn a_subscription_that_is_forbidden_from_now_on_ends() {
    let mut script = subscribed("t", Start::Latest, &[]);
    let error = reason::Error::new(ErrorCode::Forbidden, "no");
    script.event(Event::Unsubscribed { filter: TopicFilter::parse("t").unwrap(), error });
    assert_eq!(script.outputs(), ["#1 ended forbidden: no"]);
    script.reconnect();
    assert_eq!(script.sent(), []);
}

#[test]
fn a_full_buffer_leaves_the_socket_unread_and_then_pauses_the_subscriptions() {
    let mut script = subscribed("t", Start::Latest, &[("t", at(4))]);
    script.engine.handle_full(script.now, true);
    assert!(!script.engine.wants_input());
    script.wait(FULL_PATIENCE - Duration::from_millis(1));
    assert_eq!(script.sent(), []);
    script.wait(Duration::from_millis(1));
    assert!(script.engine.wants_input());
    let [(ending, Command::Unsubscribe(_))] = script.sent()[..] else { panic!("no unsubscribe") };
    script.deliver("t", Some(at(5)));
    script.reply(ending, Reply::Unsubscribed);
    assert_eq!((script.outputs(), script.sent()), (Vec::new(), Vec::new()));
    script.engine.handle_full(script.now, false);
    assert_eq!(script.subscription().1.from, Start::After(at(4)));
}

#[test]
fn a_subscription_that_a_pause_ended_before_it_was_made_is_resumed() {
    let mut script = Script::open();
    script.subscribe(1, "t/#", Start::Earliest);
    let (id, _) = script.subscription();
    script.deliver("t/a", Some(at(1)));
    assert_eq!(script.outputs(), ["#1 t/a 1:1", "1 ok"]);
    script.engine.handle_full(script.now, true);
    script.wait(FULL_PATIENCE);
    let [(ending, Command::Unsubscribe(_))] = script.sent()[..] else { panic!("no unsubscribe") };
    let error = reason::Error::new(ErrorCode::BadRequest, "the subscription ended before it was made");
    script.event(Event::Reply { id: RequestId(id), result: Ok(Reply::Subscribed(vec![Err(error)])) });
    script.reply(ending, Reply::Unsubscribed);
    script.engine.handle_full(script.now, false);
    let (_, wanted) = script.subscription();
    assert_eq!((wanted.from, wanted.seen), (Start::Earliest, vec![(topic("t/a"), at(1))]));
}

#[test]
fn a_pause_comes_sooner_while_a_call_waits() {
    let mut script = subscribed("t", Start::Latest, &[]);
    script.engine.call(script.now, Command::Ping, 2);
    script.sent();
    script.engine.handle_full(script.now, true);
    assert_eq!(script.engine.poll_timeout(), Some(FULL_PATIENCE_WITH_CALLS));
}

#[test]
fn a_reader_with_room_in_time_is_never_paused() {
    let mut script = subscribed("t", Start::Latest, &[]);
    script.engine.handle_full(script.now, true);
    script.engine.handle_full(script.now, false);
    script.wait(FULL_PATIENCE);
    assert!(script.engine.wants_input());
    assert_eq!(script.sent(), []);
}

#[test]
fn live_messages_thrown_away_during_a_pause_are_counted_and_told() {
    let mut script = subscribed("t", Start::Latest, &[]);
    script.engine.handle_full(script.now, true);
    script.wait(FULL_PATIENCE);
    script.sent();
    script.deliver("t", None);
    script.deliver("t", None);
    script.engine.handle_full(script.now, false);
    assert_eq!(script.outputs(), ["#1 lost 2"]);
}

#[test]
fn many_topics_fit_a_frame_and_the_rest_is_read_from_since() {
    let mut script = subscribed("#", Start::Latest, &[]);
    let long = "x".repeat(200);
    for n in 0..12_000 {
        script.deliver(&format!("{long}/{n}"), Some(at(1)));
    }
    script.reconnect();
    let frame = script.engine.poll_frame().unwrap();
    assert!(frame.len() < 2 << 20, "{}", frame.len());
    script.outputs();
    // A topic that found no room comes again, and is dropped.
    for n in 0..12_000 {
        script.deliver(&format!("{long}/{n}"), Some(at(1)));
    }
    assert_eq!(script.outputs(), [""; 0]);
}

#[test]
fn closing_fails_what_waits_and_ends_what_reads() {
    let mut script = subscribed("t", Start::Latest, &[]);
    script.publish(2, "a");
    script.sent();
    let goodbye = Goodbye::new(CloseReason::Forbidden, "out");
    script.engine.close(&Error::Closed(Some(Arc::new(Disconnected::Goodbye(goodbye)))));
    let outputs = script.outputs();
    assert_eq!(outputs.len(), 2);
    assert!(outputs[0].starts_with("2 the client is closed: "), "{outputs:?}");
    assert!(outputs[1].starts_with("#1 ended the client is closed: "), "{outputs:?}");
}
