//! The checker must notice each kind of failure: every test plants one.

use super::*;

const fn at(offset: u64) -> Position {
    Position { epoch: 1, offset }
}

/// One subscriber of `a` and of what is short, to whom these messages came; and the log.
fn judged(came: &[(u64, u64)], log: &[(u64, u64)], acknowledged: &[(u64, u64)]) -> Vec<Broken> {
    let ledger = Ledger::default();
    let subscriber = ledger.subscriber(Transport::Json, vec!["a".to_owned()]);
    for (_, number) in log.iter().chain(acknowledged) {
        ledger.sent(*number, "a", Transport::Json);
    }
    for (offset, number) in acknowledged {
        ledger.acknowledged(*number, "a", at(*offset));
    }
    for (offset, number) in came {
        ledger.delivered(subscriber, "a", at(*offset), &number.to_string());
    }
    let log = log.iter().map(|(offset, number)| (at(*offset), number.to_string())).collect();
    let (_, violations) = ledger.judge(&BTreeMap::from([("a".to_owned(), log)]));
    violations.into_iter().map(|violation| violation.broken).collect()
}

const LOG: &[(u64, u64)] = &[(1, 11), (2, 12), (3, 13)];

#[test]
fn a_record_that_equals_the_log_is_right() {
    assert!(judged(LOG, LOG, LOG).is_empty());
    // Not acknowledged, kept all the same.
    assert!(judged(LOG, LOG, &LOG[..2]).is_empty());
}

#[test]
fn each_broken_promise_is_noticed() {
    assert_eq!(judged(LOG, LOG, &[(4, 14)]), [Broken::Lost]);
    assert_eq!(judged(&LOG[..2], LOG, LOG), [Broken::Lost]);
    assert_eq!(judged(&[(1, 11), (2, 12), (2, 12), (3, 13)], LOG, LOG), [Broken::Doubled]);
    assert_eq!(judged(&[(1, 11), (3, 13)], LOG, LOG), [Broken::SilentGap, Broken::Lost]);
    assert_eq!(judged(&[(2, 12), (3, 13)], LOG, LOG), [Broken::SilentGap, Broken::Lost]);
    assert_eq!(judged(&[(1, 11), (3, 13), (2, 12)], LOG, LOG)[..2], [Broken::SilentGap, Broken::OutOfOrder]);
    assert_eq!(judged(&[(1, 11), (2, 12), (2, 99), (3, 13)], LOG, LOG), [Broken::Forked]);
    assert_eq!(judged(&[(1, 11), (2, 99), (3, 13)], LOG, LOG), [Broken::Forked]);
    assert_eq!(judged(&[(1, 11), (2, 12), (3, 13), (4, 14)], LOG, LOG), [Broken::Forked]);
    assert_eq!(judged(LOG, LOG, &[(1, 11), (1, 12)]), [Broken::Forked]);
    let twice = &[(1, 11), (2, 12), (3, 11)];
    assert_eq!(judged(twice, twice, &[]), [Broken::Doubled]);
    let holey = &[(1, 11), (3, 13)];
    assert_eq!(judged(holey, holey, &[]), [Broken::SilentGap, Broken::SilentGap]);
}

#[test]
fn a_loss_is_explained_by_retention_and_by_nothing_else() {
    for (topic, expected) in [("short/1", None), ("a", Some(Broken::Unexplained))] {
        let ledger = Ledger::default();
        let subscriber = ledger.subscriber(Transport::Json, vec![topic.to_owned()]);
        ledger.sent(13, topic, Transport::Json);
        ledger.lost(subscriber, topic, 1, 1, 2);
        ledger.delivered(subscriber, topic, at(3), "13");
        let log = BTreeMap::from([(topic.to_owned(), vec![(at(3), "13".to_owned())])]);
        let (_, violations) = ledger.judge(&log);
        assert_eq!(violations.first().map(|violation| violation.broken), expected, "{topic}");
    }
}

#[test]
fn a_subscriber_that_is_behind_is_named() {
    let ledger = Ledger::default();
    let subscriber = ledger.subscriber(Transport::Json, vec!["a".to_owned()]);
    let heads = BTreeMap::from([("a".to_owned(), at(1)), ("b".to_owned(), at(1))]);
    assert!(ledger.behind(&heads).is_some());
    ledger.delivered(subscriber, "a", at(1), "11");
    assert_eq!(ledger.behind(&heads), None);
}
