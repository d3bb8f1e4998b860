//! Offsets as the protocol has them: opaque to clients, ordered like their text.

use bongsu_protocol::limits::INTEGER_MAX;
use bongsu_protocol::position::Position;

/// From where a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// From the oldest message that is kept: `-1`, or no offset at all.
    Start,
    /// With what comes next.
    Now,
    /// After this place.
    At(Position),
}

/// Reads an offset; `None` if it is none of ours.
pub(super) fn parse(text: &str) -> Option<Asked> {
    match text {
        "-1" => Some(Asked::Start),
        "now" => Some(Asked::Now),
        _ => {
            let (epoch, offset) = text.split_once('_')?;
            let position = Position::new(number(epoch)?, number(offset)?);
            position.is_valid().then_some(Asked::At(position))
        }
    }
}

/// Digits only: a sign, a space or an exponent is none of ours.
pub(super) fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && *number <= INTEGER_MAX)
}

/// The offset of a place. Both numbers have as many digits as [`INTEGER_MAX`], so that the texts are ordered as the places are.
///
/// The place before the first message is the same in every epoch: a stream that was created empty has no log yet.
pub(super) fn token(place: Position) -> String {
    let Position { epoch, offset } = if place.offset.0 == 0 { Position::default() } else { place };
    format!("{:016}_{:016}", epoch.0, offset.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_ordered_like_their_places() {
        let places = [(0, 0), (1, 1), (1, 9), (1, 10), (2, 1), (INTEGER_MAX, INTEGER_MAX)];
        let tokens = places.map(|(epoch, offset)| token(Position::new(epoch, offset)));
        assert!(tokens.is_sorted());
        for (token, (epoch, offset)) in tokens.iter().zip(places) {
            assert_eq!(parse(token), Some(Asked::At(Position::new(epoch, offset))));
        }
        assert_eq!(token(Position::new(7, 0)), tokens[0], "an empty log has no epoch to show");
    }

    #[test]
    fn what_is_no_offset_is_refused() {
        for text in ["", "-2", "1", "1_", "_1", "+1_1", "1_1_1", "1_ 1", "0x1_1", "1_9007199254740992", "NOW"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
