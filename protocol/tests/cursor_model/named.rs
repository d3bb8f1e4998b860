//! Cases that the model found, and bounds that chance rarely meets.

use std::rc::Rc;
use std::time::Duration;

use bongsu_protocol::cursor::{Cursor, Offered, Page, Step, Time};
use bongsu_protocol::position::{Epoch, Offset, Position};

const NOW: Time = Time::ZERO;

fn at(offset: u64) -> Position {
    Position::new(1, offset)
}

fn no_log() -> Page<u64> {
    Page { items: Vec::new(), first: Position::new(0, 1), head: Position::default() }
}

fn empty_page(head: u64) -> Page<u64> {
    Page { items: Vec::new(), first: at(1), head: at(head) }
}

fn full_page(from: u64, until: u64) -> Page<u64> {
    Page { items: (from..=until).map(|offset| (at(offset), offset)).collect(), first: at(1), head: at(until) }
}

/// Takes all steps; answers how many.
fn drain(cursor: &mut Cursor<u64>) -> usize {
    std::iter::from_fn(|| cursor.poll_step()).count()
}

/// Asks and fails until the time is over; answers how often.
fn n_failures(cursor: &mut Cursor<u64>, from: Time, until: Time) -> u32 {
    let (mut now, mut n_reads) = (from, 0);
    while now < until {
        if cursor.poll_read(now).is_some() {
            n_reads += 1;
            cursor.read_failed(now);
        }
        // Whatever the feed says meanwhile, a store that fails is not asked sooner.
        cursor.interrupt();
        cursor.heads_up(at(u64::from(n_reads) + 1));
        assert_eq!(cursor.poll_read(now), None);
        now = cursor.poll_timeout().expect("a failed read is asked again");
    }
    n_reads
}

#[test]
fn message_told_while_the_log_answers_that_there_is_none_is_read() {
    let mut cursor = Cursor::new(Position::default());
    assert_eq!(cursor.poll_read(NOW), Some(Position::default()));
    cursor.heads_up(at(1));
    cursor.read_done(NOW, no_log());
    assert!(!cursor.is_live());
    assert_eq!(cursor.poll_read(NOW), Some(Position::default()));
    cursor.read_done(NOW, empty_page(1));
    assert_eq!(cursor.tail(), at(0));
}

#[test]
fn deleted_log_is_asked_once_more_and_then_left_alone() {
    let mut cursor = Cursor::<u64>::live(at(3));
    cursor.heads_up(at(5));
    for _ in 0..2 {
        assert_eq!(cursor.poll_read(NOW), Some(at(3)));
        cursor.read_done(NOW, no_log());
    }
    assert!(cursor.is_live());
    assert_eq!(cursor.poll_read(NOW), None);
    assert_eq!(cursor.offer(Position::new(2, 1), 1), Offered::Ready);
}

#[test]
fn steps_that_nobody_takes_are_bounded_however_often_the_log_is_made_anew() {
    let mut cursor = Cursor::live(at(1));
    for epoch in 2..1000 {
        cursor.offer(Position::new(epoch, 1), epoch);
    }
    assert!(drain(&mut cursor) <= 130);
    assert_eq!(cursor.poll_read(NOW), Some(cursor.tail()), "what was refused is read from the log");
}

#[test]
fn messages_in_memory_are_bounded_for_a_reader_that_takes_nothing() {
    let message = Rc::new(());
    let mut cursor = Cursor::live(at(0));
    for offset in (1..=1000).chain(1002..=2000) {
        cursor.offer(at(offset), Rc::clone(&message));
    }
    assert!(Rc::strong_count(&message) <= 65, "{} in memory", Rc::strong_count(&message));
    while cursor.poll_step().is_some() {}
    for offset in 1002..=2000 {
        cursor.offer(at(offset), Rc::clone(&message));
    }
    assert!(Rc::strong_count(&message) <= 65, "{} in memory", Rc::strong_count(&message));
}

#[test]
fn reader_without_room_is_not_woken_when_a_pause_ends() {
    let mut cursor = Cursor::live(at(0));
    cursor.heads_up(at(2));
    assert_eq!(cursor.poll_read(NOW), Some(at(0)));
    cursor.read_failed(NOW);
    assert!(cursor.poll_timeout().is_some());
    cursor.offer(at(1), 1);
    assert_eq!(cursor.poll_timeout(), None, "no read is due before the step is taken");
    cursor.poll_step();
    assert!(cursor.poll_timeout().is_some());
}

#[test]
fn head_that_a_restored_log_does_not_have_is_doubted_and_then_forgotten() {
    let mut cursor = Cursor::<u64>::live(at(4));
    cursor.heads_up(at(9));
    let (mut now, mut n_reads) = (NOW, 0);
    while !cursor.is_live() {
        now = cursor.poll_timeout().unwrap_or(now);
        assert_eq!(cursor.poll_read(now), Some(at(4)));
        cursor.read_done(now, empty_page(4));
        n_reads += 1;
        assert!(n_reads < 12, "asked for ever");
    }
    assert!(n_reads > 3, "a log that lags is given some time");
    assert_eq!(cursor.offer(at(5), 5), Offered::Ready);
}

#[test]
fn answer_that_the_feed_has_overtaken_is_no_reason_to_wait() {
    let mut cursor = Cursor::live(at(0));
    cursor.heads_up(at(3));
    assert_eq!(cursor.poll_read(NOW), Some(at(0)));
    cursor.offer(at(1), 1);
    cursor.read_done(NOW, full_page(1, 1));
    assert_eq!(drain(&mut cursor), 1);
    assert_eq!(cursor.poll_read(NOW), Some(at(1)));
}

#[test]
fn store_that_fails_is_asked_once_a_second_whatever_the_feed_says() {
    let mut cursor = Cursor::new(at(0));
    let minute = Duration::from_secs(60);
    let n_reads = n_failures(&mut cursor, NOW, minute);
    assert!((60..=68).contains(&n_reads), "{n_reads} reads in a minute");
}

#[test]
fn failed_read_leaves_its_question_open() {
    let mut cursor = Cursor::<u64>::new(at(3));
    assert_eq!(cursor.poll_read(NOW), Some(at(3)));
    cursor.read_failed(NOW);
    assert!(!cursor.is_live());
    let due = cursor.poll_timeout().expect("a failed read is asked again");
    assert_eq!(cursor.poll_read(due), Some(at(3)));
    cursor.read_done(due, empty_page(3));
    assert!(cursor.is_live());
}

#[test]
fn feed_in_order_costs_no_read() {
    let mut cursor = Cursor::live(at(0));
    for offset in 1..=10_000 {
        assert_eq!(cursor.offer(at(offset), offset), Offered::Ready);
        cursor.heads_up(at(offset));
        assert_eq!(drain(&mut cursor), 1);
        assert_eq!(cursor.poll_read(NOW), None);
        assert!(cursor.is_live());
    }
}

#[test]
fn one_lost_message_costs_one_read_of_one_message() {
    let mut cursor = Cursor::live(at(0));
    (2..=60).rev().for_each(|offset| _ = cursor.offer(at(offset), offset));
    assert_eq!(cursor.poll_read(NOW), Some(at(0)));
    cursor.read_done(NOW, full_page(1, 1));
    assert_eq!(drain(&mut cursor), 60);
    assert!(cursor.is_live());
}

#[test]
fn one_lost_message_costs_no_read_if_it_comes_late() {
    let mut cursor = Cursor::live(at(0));
    (2..=60).for_each(|offset| _ = cursor.offer(at(offset), offset));
    assert_eq!(cursor.offer(at(1), 1), Offered::Ready);
    assert_eq!(drain(&mut cursor), 60);
    assert_eq!(cursor.poll_read(NOW), None);
    assert!(cursor.is_live());
}

#[test]
fn pauses_begin_anew_after_a_read_that_brought_something() {
    let mut cursor = Cursor::new(at(0));
    n_failures(&mut cursor, NOW, Duration::from_secs(10));
    let now = cursor.poll_timeout().expect("the last read failed");
    assert_eq!(cursor.poll_read(now), Some(at(0)));
    cursor.read_done(now, full_page(1, 100));
    drain(&mut cursor);
    cursor.interrupt();
    assert_eq!(cursor.poll_read(now), Some(at(100)));
    cursor.read_failed(now);
    let pause = cursor.poll_timeout().expect("the last read failed") - now;
    assert!(pause < Duration::from_millis(100), "{pause:?}");
}

#[test]
fn answer_without_a_question_changes_nothing() {
    let mut cursor = Cursor::live(at(3));
    cursor.read_done(NOW, full_page(4, 9));
    cursor.read_failed(NOW);
    assert!(cursor.is_live());
    assert_eq!((cursor.tail(), drain(&mut cursor)), (at(3), 0));
}

#[test]
fn hole_names_exactly_the_messages_that_are_gone() {
    let mut cursor = Cursor::new(at(2));
    assert_eq!(cursor.poll_read(NOW), Some(at(2)));
    cursor.read_done(NOW, Page { items: Vec::new(), first: at(8), head: at(7) });
    let lost = Step::Lost { epoch: Epoch(1), from: Offset(3), until: Offset(7) };
    assert_eq!(cursor.poll_step(), Some(lost));
    assert_eq!((cursor.poll_step(), cursor.tail()), (None, at(7)));
    assert_eq!(cursor.offer(at(8), 8), Offered::Ready);
}
