//! UTF-8 that arrives in pieces.

/// A validator that is told a text piece by piece and objects at the first byte that no valid text could have there.
#[derive(Debug, Default)]
pub(crate) struct Validator {
    /// The bytes of a character that is not complete yet; `pending_len` of them count.
    pending: [u8; 4],
    pending_len: u8,
}

/// The text is not UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

impl Validator {
    /// Takes the next piece.
    pub(crate) fn handle(&mut self, mut piece: &[u8]) -> Result<(), Invalid> {
        while self.pending_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            // A valid prefix of a character has at most 3 bytes, so there is a place for one more.
            self.pending[usize::from(self.pending_len)] = byte;
            self.pending_len += 1;
            match std::str::from_utf8(&self.pending[..usize::from(self.pending_len)]) {
                Ok(_) => self.pending_len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(Invalid),
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => Ok(()),
            // `error_len` is none where the piece ends within a character that could still become valid.
            Err(error) if error.error_len().is_none() => {
                let tail = &piece[error.valid_up_to()..];
                self.pending[..tail.len()].copy_from_slice(tail);
                self.pending_len = u8::try_from(tail.len()).map_err(|_| Invalid)?;
                Ok(())
            }
            Err(_) => Err(Invalid),
        }
    }

    /// Says whether the text may end here.
    pub(crate) fn finish(&self) -> Result<(), Invalid> {
        if self.pending_len == 0 { Ok(()) } else { Err(Invalid) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tells the validator single bytes; returns how many it took.
    fn taken(text: &[u8]) -> usize {
        let mut validator = Validator::default();
        text.iter().take_while(|byte| validator.handle(&[**byte]).is_ok()).count()
    }

    #[test]
    fn objects_at_the_first_impossible_byte() {
        // Surrogates, overlong forms and code points past U+10FFFF show in the second byte.
        assert_eq!(taken(b"\xed\xa0\x80"), 1);
        assert_eq!(taken(b"\xf4\x90\x80\x80"), 1);
        assert_eq!(taken(b"\xe0\x80\xaf"), 1);
        assert_eq!(taken(b"\xc0\xaf"), 0);
        assert_eq!(taken("\u{10ffff}\u{d7ff}é".as_bytes()), 9);
    }

    #[test]
    fn a_text_may_not_end_within_a_character() {
        let mut validator = Validator::default();
        validator.handle(&"봉".as_bytes()[..2]).unwrap();
        assert_eq!(validator.finish(), Err(Invalid));
        validator.handle(&"봉".as_bytes()[2..]).unwrap();
        assert_eq!(validator.finish(), Ok(()));
    }

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole(
            text in prop_oneof![".{0,20}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..20)],
            cut in 0..20_usize,
        ) {
            let cut = cut.min(text.len());
            let mut validator = Validator::default();
            let judged = validator.handle(&text[..cut]).is_ok()
                && validator.handle(&text[cut..]).is_ok()
                && validator.finish().is_ok();
            prop_assert_eq!(judged, std::str::from_utf8(&text).is_ok());
        }
    }
}
