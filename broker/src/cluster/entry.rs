//! How memberships are written in Redis.
//!
//! A *place* is `topic LF session`: what a node's index holds. Neither of the two has a control character. A *value* is
//! `registration LF since LF length of subject LF subject info`: scripts look at the first line only.

use bongsu_protocol::event::Member;
use bongsu_protocol::message::Time;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;

/// The place of a session on a topic.
pub(super) fn place(topic: &Topic, session: &str) -> String {
    format!("{topic}\n{session}")
}

/// The topic and the session of a place; `None` if it is none.
pub(super) fn parse_place(place: &[u8]) -> Option<(Topic, String)> {
    let (topic, session) = std::str::from_utf8(place).ok()?.split_once('\n')?;
    Some((Topic::parse(topic).ok()?, session.to_owned()))
}

/// The value of a member, without its first line.
pub(super) fn rest_of(member: &Member) -> Vec<u8> {
    let head = format!("{}\n{}\n{}", member.since.0, member.subject.len(), member.subject);
    let mut rest = head.into_bytes();
    rest.extend_from_slice(&member.info);
    rest
}

/// The member that a value tells of; `None` if it is none.
pub(super) fn parse_value(session: String, value: &[u8]) -> Option<Member> {
    let mut lines = value.splitn(4, |byte| *byte == b'\n');
    let (_registration, since, length, rest) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let since = Time(number(since)?);
    let (subject, info) = rest.split_at_checked(usize::try_from(number(length)?).ok()?)?;
    let subject = String::from_utf8(subject.to_vec()).ok()?;
    Some(Member { session, subject, info: Bytes::copy_from_slice(info), since })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back_as_they_were_written() {
        for (subject, info) in [("", &b""[..]), ("ada", b"{}"), ("new\nline", b"\n\0\xff\n"), ("불", b"1\n2")]
        {
            let member = Member {
                session: "n-1".to_owned(),
                subject: subject.to_owned(),
                info: Bytes::from_static(info),
                since: Time(1_735_732_800_000),
            };
            let mut value = b"registration\n".to_vec();
            value.extend(rest_of(&member));
            assert_eq!(parse_value("n-1".to_owned(), &value), Some(member));
        }
    }

    #[test]
    fn places_come_back_as_they_were_written() {
        let topic = Topic::parse("chat/room 1").unwrap();
        let written = place(&topic, "node-1-1a-2");
        assert_eq!(parse_place(written.as_bytes()), Some((topic, "node-1-1a-2".to_owned())));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for value in [&b""[..], b"r", b"r\n1", b"r\n1\n9\nshort", b"r\nx\n0\n", b"r\n1\n2\n\xff\xff"] {
            assert_eq!(parse_value("s".to_owned(), value), None, "{value:?}");
        }
        for place in [&b""[..], b"topic", b"a//b\ns", b"\xff\ns"] {
            assert_eq!(parse_place(place), None, "{place:?}");
        }
    }
}
