use super::*;

/// A client's frame with the first byte given, so that every bit can be set wrongly.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    bytes
}

/// Feeds the bytes in pieces of a size; returns what came out, and the violation that ended it if one did.
fn decode_with(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> (Vec<Incoming>, Option<Violation>) {
    let mut incoming = Vec::new();
    for piece in bytes.to_vec().chunks_mut(piece) {
        let mut input = piece;
        loop {
            match decoder.poll(&mut input) {
                Ok(Some(next)) => incoming.push(next),
                Ok(None) => break,
                Err(violation) => return (incoming, Some(violation)),
            }
        }
        assert!(input.is_empty());
    }
    (incoming, None)
}

/// Decodes whole, in pieces of 7 bytes and byte by byte; all must agree.
#[track_caller]
fn decode(bytes: &[u8]) -> (Vec<Incoming>, Option<Violation>) {
    let agreed = deflate::negotiate("permessage-deflate");
    let whole = decode_with(&mut Decoder::new(1000, agreed), bytes, usize::MAX);
    for piece in [1, 7] {
        let pieces = decode_with(&mut Decoder::new(1000, agreed), bytes, piece);
        assert_eq!(pieces.0, whole.0, "in pieces of {piece}");
        // Which rule is broken first may depend on how much is there, but not that one is.
        assert_eq!(pieces.1.is_some(), whole.1.is_some(), "in pieces of {piece}");
    }
    whole
}

#[track_caller]
fn check(bytes: &[u8], expected: &[Incoming]) {
    assert_eq!(decode(bytes), (expected.to_vec(), None));
}

#[track_caller]
fn check_refused(bytes: &[u8], reason: CloseReason, text: &'static str) {
    assert_eq!(decode(bytes).1, Some(Violation { reason, text }));
}

#[test]
fn messages_of_every_kind_and_length_come_whole() {
    check(&frame(0x81, b"Hello"), &[Incoming::Text("Hello".into())]);
    check(&frame(0x82, &[0; 126]), &[Incoming::Binary(vec![0; 126].into())]);
    check(&frame(0x82, &[9; 1000]), &[Incoming::Binary(vec![9; 1000].into())]);
    check(&frame(0x81, b""), &[Incoming::Text("".into())]);
    check(&frame(0x8a, b"pong"), &[Incoming::Pong("pong".into())]);
    let two = [frame(0x81, b"one"), frame(0x82, b"two")].concat();
    check(&two, &[Incoming::Text("one".into()), Incoming::Binary("two".into())]);
}

#[test]
fn fragments_are_joined_and_let_control_frames_through() {
    let bytes = [frame(0x01, b"Hel"), frame(0x89, b"ping"), frame(0x00, b""), frame(0x80, b"lo")].concat();
    check(&bytes, &[Incoming::Ping("ping".into()), Incoming::Text("Hello".into())]);
}

#[test]
fn broken_framing_is_a_protocol_error() {
    use CloseReason::ProtocolError;
    check_refused(&[0x81, 0x01, b'a'], ProtocolError, "frame is not masked");
    check_refused(&frame(0x83, b""), ProtocolError, "unknown opcode");
    check_refused(&frame(0x8b, b""), ProtocolError, "unknown opcode");
    check_refused(&frame(0xa1, b""), ProtocolError, "reserved bit without a meaning");
    check_refused(&frame(0x91, b""), ProtocolError, "reserved bit without a meaning");
    check_refused(&frame(0xc9, b""), ProtocolError, "reserved bit without a meaning");
    check_refused(&frame(0x09, b""), ProtocolError, "fragmented control frame");
    check_refused(&frame(0x89, &[0; 126]), ProtocolError, "control frame longer than 125 bytes");
    check_refused(&frame(0x80, b""), ProtocolError, "continuation of nothing");
    let nested = [frame(0x01, b"a"), frame(0x81, b"b")].concat();
    check_refused(&nested, ProtocolError, "message within a fragmented message");
    let continued = [frame(0x01, b"a"), frame(0xc0, b"b")].concat();
    check_refused(&continued, ProtocolError, "reserved bit without a meaning");
    let long_form = [0x81, 0x80 | 126, 0, 1, 0, 0, 0, 0, b'a'];
    check_refused(&long_form, ProtocolError, "length is not in its shortest form");
}

#[test]
fn compressed_messages_need_the_agreement() {
    let bytes = frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    check(&bytes, &[Incoming::Text("Hello".into())]);
    let refused = decode_with(&mut Decoder::new(1000, None), &bytes, usize::MAX).1.unwrap();
    assert_eq!(refused.text, "reserved bit without a meaning");
    let bytes = [frame(0x41, &[0xf2, 0x48, 0xcd]), frame(0x80, &[0xc9, 0xc9, 0x07, 0x00])].concat();
    check(&bytes, &[Incoming::Text("Hello".into())]);
    check_refused(&frame(0xc1, &[0xff; 9]), CloseReason::InvalidPayload, "compressed message is corrupt");
    // The stored block holds a byte that no UTF-8 has.
    let not_text = [0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00];
    check_refused(&frame(0xc1, &not_text), CloseReason::InvalidPayload, "text is not UTF-8");
}

#[test]
fn a_message_over_the_limit_is_refused_at_the_header_that_claims_it() {
    let header = &frame(0x82, &[0; 1001])[..8];
    check_refused(header, CloseReason::TooLarge, TOO_LARGE.text);
    let header = [0x82, 0x80 | 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    check_refused(&header, CloseReason::TooLarge, TOO_LARGE.text);
    let fragments = [frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat();
    check_refused(&fragments, CloseReason::TooLarge, TOO_LARGE.text);
    check(&frame(0x82, &[0; 1000]), &[Incoming::Binary(vec![0; 1000].into())]);
}

#[test]
fn a_compressed_message_is_measured_by_what_it_inflates_to() {
    let bomb = deflate::compress(Kind::Binary, &[0; 1001], deflate::Window::Bits15).unwrap();
    check_refused(&frame(0xc2, &bomb[2..]), CloseReason::TooLarge, TOO_LARGE.text);
    let just = deflate::compress(Kind::Binary, &[0; 1000], deflate::Window::Bits15).unwrap();
    check(&frame(0xc2, &just[2..]), &[Incoming::Binary(vec![0; 1000].into())]);
}

#[test]
fn text_that_cannot_become_utf8_ends_before_its_frame_does() {
    let mut bytes = frame(0x81, &[b"ok \xed\xa0".as_slice(), &[b'a'; 500]].concat());
    bytes.truncate(6 + 2 + 5);
    check_refused(&bytes, CloseReason::InvalidPayload, "text is not UTF-8");
    check_refused(&frame(0x81, b"\xe2\x82"), CloseReason::InvalidPayload, "text is not UTF-8");
    let cut = [frame(0x01, b"\xe2"), frame(0x80, b"\x82\xac")].concat();
    check(&cut, &[Incoming::Text("€".into())]);
}

#[test]
fn a_close_frame_ends_the_stream() {
    let close = |code, reason: &str| Incoming::Close { code, reason: reason.to_owned() };
    check(&frame(0x88, b""), &[close(None, "")]);
    check(&frame(0x88, b"\x03\xe8bye"), &[close(Some(1000), "bye")]);
    check(&frame(0x88, b"\x13\x87"), &[close(Some(4999), "")]);
    let bytes = [frame(0x88, b"\x03\xe9"), frame(0x81, b"late"), vec![0xff; 20]].concat();
    check(&bytes, &[close(Some(1001), "")]);
}

#[test]
fn close_frames_that_may_not_be_sent_are_refused() {
    check_refused(&frame(0x88, b"\x03"), CloseReason::ProtocolError, "close frame with half a code");
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        let bytes = frame(0x88, &code.to_be_bytes());
        check_refused(&bytes, CloseReason::ProtocolError, "close code that may not be sent");
    }
    check_refused(&frame(0x88, b"\x03\xe8\xff"), CloseReason::InvalidPayload, "text is not UTF-8");
}

#[test]
fn nothing_is_read_after_a_violation() {
    let mut decoder = Decoder::new(1000, None);
    assert!(decode_with(&mut decoder, &frame(0x83, b""), usize::MAX).1.is_some());
    assert_eq!(decode_with(&mut decoder, &frame(0x81, b"more"), 3), (vec![], None));
}

#[test]
fn an_idle_decoder_is_a_few_words_and_holds_nothing() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
    assert!(size_of::<Violation>() <= 32, "{}", size_of::<Violation>());
    let mut decoder = Decoder::new(1000, None);
    let bytes = [frame(0x01, &[b'a'; 400]), frame(0x80, &[b'b'; 400])].concat();
    assert!(decode_with(&mut decoder, &bytes[..bytes.len() - 1], 50).0.is_empty());
    assert!(decoder.buffered_bytes() >= 799);
    decode_with(&mut decoder, &bytes[bytes.len() - 1..], 1);
    assert_eq!(decoder.buffered_bytes(), 0);
    assert!(matches!(decoder.state, State::Idle));
}

#[test]
fn a_claimed_length_takes_no_memory_before_its_bytes_come() {
    let mut decoder = Decoder::new(1 << 30, None);
    let header = [0x82, 0x80 | 127, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode_with(&mut decoder, &header, usize::MAX), (vec![], None));
    assert!(decoder.buffered_bytes() <= GROWTH_BYTES_MIN, "{}", decoder.buffered_bytes());
    let mut sent = 0;
    while sent < 1 << 20 {
        decode_with(&mut decoder, &[0; 1000], usize::MAX);
        sent += 1000;
        assert!(decoder.buffered_bytes() <= 2 * sent + 2 * GROWTH_BYTES_MIN, "{}", decoder.buffered_bytes());
    }
}

#[test]
fn a_message_in_one_frame_keeps_no_spare_memory() {
    let mut decoder = Decoder::new(1 << 20, None);
    let bytes = frame(0x82, &[7; 300_000]);
    decode_with(&mut decoder, &bytes[..bytes.len() - 1], 1000);
    assert_eq!(decoder.buffered_bytes(), 300_000);
}

#[test]
fn fragments_of_one_byte_are_not_copied_at_each() {
    let mut decoder = Decoder::new(1 << 20, None);
    decode_with(&mut decoder, &frame(0x02, b"a"), usize::MAX);
    let mut n_growths = 0;
    let mut capacity = decoder.buffered_bytes();
    for _ in 0..10_000 {
        decode_with(&mut decoder, &frame(0x00, b"a"), usize::MAX);
        n_growths += usize::from(decoder.buffered_bytes() != capacity);
        capacity = decoder.buffered_bytes();
    }
    assert!(n_growths <= 16, "{n_growths}");
}

#[test]
fn a_caller_may_stop_between_messages_and_go_on_with_the_rest() {
    let mut decoder = Decoder::new(1000, None);
    let mut bytes = [frame(0x81, b"one"), frame(0x81, b"two")].concat();
    let mut input = &mut bytes[..];
    assert_eq!(decoder.poll(&mut input), Ok(Some(Incoming::Text("one".into()))));
    let mut kept = input.to_vec();
    let mut input = &mut kept[..];
    assert_eq!(decoder.poll(&mut input), Ok(Some(Incoming::Text("two".into()))));
    assert_eq!(decoder.poll(&mut input), Ok(None));
}

#[test]
fn contents_do_not_show_in_logs() {
    let mut decoder = Decoder::new(1000, None);
    decode_with(&mut decoder, &frame(0x01, b"secret"), usize::MAX);
    assert!(!format!("{decoder:?}").contains("115"), "{decoder:?}");
}
