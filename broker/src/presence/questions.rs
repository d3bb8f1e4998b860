//! Who asks who is present.
//!
//! A topic is asked about once at a time, and each answer serves all who had asked before it was asked for: ten thousand readers that
//! come back together cost a few answers, not ten thousand. Nobody gets an answer from before their question, nor one that lacks
//! what this node wrote before it.

use std::collections::{HashMap, VecDeque};

use bongsu_protocol::topic::Topic;

/// The questions of topics, by whom: `A` is one who asks. Bounded by what connections may have under way.
#[derive(Debug)]
pub(super) struct Questions<A> {
    topics: HashMap<Topic, Asked<A>>,
    /// Topics that could be asked about as far as this module knows, in the order in which they came here; each once.
    ready: VecDeque<Topic>,
    /// Counts the times when nobody was left waiting, so that answers from before go to nobody.
    generation: u64,
}

#[derive(Debug)]
struct Asked<A> {
    /// Who gets the answer that is under way.
    current: Vec<A>,
    /// Who gets the one after it, which is asked for when everything before the mark is written.
    next: Option<(u64, Vec<A>)>,
    /// Who came after that mark was set.
    later: Vec<A>,
}

/// A question that is under way.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) topic: Topic,
    generation: u64,
}

impl<A> Default for Questions<A> {
    fn default() -> Self {
        Self { topics: HashMap::new(), ready: VecDeque::new(), generation: 0 }
    }
}

impl<A> Questions<A> {
    /// Takes a question; the answer to it must hold everything that was queued before the mark.
    pub(super) fn ask(&mut self, topic: Topic, mark: u64, asker: A) {
        let none = || Asked { current: Vec::new(), next: None, later: Vec::new() };
        let asked = self.topics.entry(topic.clone()).or_insert_with(none);
        match &mut asked.next {
            None => {
                asked.next = Some((mark, vec![asker]));
                if asked.current.is_empty() {
                    self.ready.push_back(topic);
                }
            }
            Some((first, askers)) if *first == mark => askers.push(asker),
            // The mark stays: otherwise new questions would keep the old ones waiting for ever.
            Some(_) => asked.later.push(asker),
        }
    }

    /// A topic to ask about, if everything before its mark is written. Those who came later get the mark of now.
    pub(super) fn start(&mut self, now: u64, is_written_until: impl Fn(u64) -> bool) -> Option<Question> {
        let asked = self.topics.get_mut(self.ready.front()?)?;
        let (mark, askers) = asked.next.take()?;
        if !is_written_until(mark) {
            asked.next = Some((mark, askers));
            return None;
        }
        asked.current = askers;
        if !asked.later.is_empty() {
            asked.next = Some((now, std::mem::take(&mut asked.later)));
        }
        Some(Question { topic: self.ready.pop_front()?, generation: self.generation })
    }

    /// The answer is there: who gets it.
    pub(super) fn answered(&mut self, question: &Question) -> Vec<A> {
        if question.generation != self.generation {
            return Vec::new();
        }
        let Some(asked) = self.topics.get_mut(&question.topic) else { return Vec::new() };
        let current = std::mem::take(&mut asked.current);
        if asked.next.is_some() {
            self.ready.push_back(question.topic.clone());
        } else {
            self.topics.remove(&question.topic);
        }
        current
    }

    /// Everybody who waits; nobody does afterwards.
    pub(super) fn take_all(&mut self) -> Vec<A> {
        self.generation += 1;
        self.ready.clear();
        let asked = std::mem::take(&mut self.topics).into_values();
        let of = |asked: Asked<A>| {
            asked.current.into_iter().chain(asked.next.into_iter().flat_map(|next| next.1)).chain(asked.later)
        };
        asked.flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    #[test]
    fn one_answer_serves_all_who_asked_before_it_was_asked_for_and_nobody_else() {
        let mut questions = Questions::default();
        questions.ask(topic("t"), 0, 1);
        questions.ask(topic("t"), 0, 2);
        let first = questions.start(0, |_| true).unwrap();
        questions.ask(topic("t"), 0, 3);
        assert!(questions.start(0, |_| true).is_none(), "a topic is asked about once at a time");
        assert_eq!(questions.answered(&first), [1, 2]);
        let second = questions.start(0, |_| true).unwrap();
        assert_eq!(questions.answered(&second), [3]);
        assert!(questions.start(0, |_| true).is_none());
        assert!(questions.topics.is_empty());
    }

    #[test]
    fn new_questions_do_not_keep_old_ones_waiting() {
        let mut questions = Questions::default();
        for mark in 1..=50 {
            questions.ask(topic("t"), mark, mark);
        }
        // Everything up to 3 is written, and more keeps coming.
        let first = questions.start(51, |mark| mark <= 3).unwrap();
        questions.ask(topic("t"), 60, 60);
        assert_eq!(questions.answered(&first), [1]);
        assert!(questions.start(61, |mark| mark <= 3).is_none());
        let second = questions.start(61, |mark| mark <= 51).unwrap();
        assert_eq!(questions.answered(&second), (2..=50).collect::<Vec<_>>());
        let third = questions.start(61, |mark| mark <= 61).unwrap();
        assert_eq!(questions.answered(&third), [60]);
    }

    #[test]
    fn answer_from_before_a_failure_goes_to_nobody() {
        let mut questions = Questions::default();
        questions.ask(topic("t"), 0, 1);
        let stale = questions.start(0, |_| true).unwrap();
        questions.ask(topic("t"), 0, 2);
        let mut all = questions.take_all();
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
        questions.ask(topic("t"), 0, 3);
        let fresh = questions.start(0, |_| true).unwrap();
        assert_eq!(questions.answered(&stale), Vec::<u64>::new());
        assert_eq!(questions.answered(&fresh), [3]);
    }
}
