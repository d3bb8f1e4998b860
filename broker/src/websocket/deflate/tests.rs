use proptest::prelude::*;

use super::*;

/// The compressed body of a frame.
fn body_of(frame: &Bytes) -> &[u8] {
    assert_eq!(frame[0] & 0x40, 0x40, "RSV1 is set");
    match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    }
}

fn sample(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| b"{\"topic\":\"chat/room/42\",\"offset\":"[i * i % 33]).collect()
}

fn header(offer: &str) -> Option<String> {
    negotiate(offer).map(|agreed| agreed.header_value())
}

#[test]
fn offers_of_browsers_are_taken_without_context_takeover() {
    let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(header("permessage-deflate").as_deref(), Some(answer));
    assert_eq!(header("permessage-deflate; client_max_window_bits").as_deref(), Some(answer));
    assert_eq!(header("Permessage-Deflate;server_no_context_takeover").as_deref(), Some(answer));
}

#[test]
fn windows_are_confirmed_or_made_smaller() {
    for (asked, window) in [(9, 9), (10, 9), (11, 9), (12, 12), (14, 12), (15, 15)] {
        let answer = header(&format!("permessage-deflate; server_max_window_bits={asked}")).unwrap();
        assert!(answer.ends_with(&format!("; server_max_window_bits={window}")), "{answer}");
    }
    let answer = header("permessage-deflate; client_max_window_bits=\"10\"").unwrap();
    assert!(answer.ends_with("; client_max_window_bits=10"), "{answer}");
}

#[test]
fn offers_that_cannot_be_kept_are_passed_over() {
    for offer in [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; mystery",
        "other; text=\", permessage-deflate\"",
    ] {
        assert_eq!(header(offer), None, "{offer}");
    }
    let second = "permessage-deflate; server_max_window_bits=8, permessage-deflate";
    assert_eq!(negotiate(second).unwrap().window, Window::Bits15);
}

#[test]
fn short_or_incompressible_bodies_are_left_alone() {
    assert_eq!(compress(Kind::Text, &sample(BODY_BYTES_MIN - 1), Window::Bits15), None);
    assert!(compress(Kind::Text, &[b'a'; BODY_BYTES_MIN], Window::Bits15).is_some());
    // A permutation of all bytes does not compress.
    let mut noise: Vec<u8> = (0..=255).collect();
    noise.sort_by_key(|byte| byte.wrapping_mul(167) ^ 0x5a);
    assert_eq!(compress(Kind::Binary, &noise, Window::Bits15), None);
}

#[test]
fn a_client_with_the_window_it_asked_for_can_inflate() {
    // Repeats 3,000 bytes apart tempt a compressor to refer further back than 512 bytes.
    let body: Vec<u8> =
        (0..20_000_u32).map(|i| ((i % 3000).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for window in Window::ALL {
        let Some(frame) = compress(Kind::Binary, &body, window) else {
            assert!(window < Window::Bits12, "only a window below 3,000 bytes misses the repeats");
            continue;
        };
        let mut inflater = Decompress::new_with_window_bits(false, window.bits());
        let mut inflated = Vec::with_capacity(body.len() + 1);
        inflater.decompress_vec(body_of(&frame), &mut inflated, FlushDecompress::Sync).unwrap();
        assert_eq!(inflated, body, "{window:?}");
    }
}

#[test]
fn a_message_is_compressed_alike_whatever_came_before() {
    let first = compress(Kind::Text, &sample(5000), Window::Bits15);
    let _ = compress(Kind::Text, &[7; 100_000], Window::Bits15);
    assert_eq!(compress(Kind::Text, &sample(5000), Window::Bits15), first);
}

#[test]
fn bodies_that_do_not_compress_leave_the_compressor_usable() {
    for window in Window::ALL {
        let mut state = 1_u32;
        let mut noise = |bytes: usize| -> Vec<u8> {
            let next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            std::iter::repeat_with(next).take(bytes).collect()
        };
        for bytes in [200, 70_000, 20_000, 131_072, 65_536] {
            assert_eq!(compress(Kind::Binary, &noise(bytes), window), None);
            // Half of it compresses.
            let body = [noise(bytes / 2), vec![0; bytes / 2]].concat();
            let frame = compress(Kind::Binary, &body, window).unwrap();
            assert_eq!(inflate(body_of(&frame), body.len()).unwrap(), body);
        }
    }
}

#[test]
fn a_message_that_was_refused_leaves_the_inflater_usable() {
    let body = sample(50_000);
    let frame = compress(Kind::Text, &body, Window::Bits15).unwrap();
    for _ in 0..3 {
        assert_eq!(inflate(body_of(&frame), 40_000), Err(InflateError::TooLarge));
        assert_eq!(inflate(&[0xff; 10], 1000), Err(InflateError::Corrupt));
        let _ = inflate(&body_of(&frame)[..100], body.len());
        assert_eq!(inflate(body_of(&frame), body.len()).unwrap(), body);
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let bomb = compress(Kind::Binary, &vec![0; 8 << 20], Window::Bits15).unwrap();
    assert!(bomb.len() < 128 << 10, "{}", bomb.len());
    assert_eq!(inflate(body_of(&bomb), 1 << 20), Err(InflateError::TooLarge));
    let just = compress(Kind::Binary, &vec![0; 1 << 20], Window::Bits15).unwrap();
    assert_eq!(inflate(body_of(&just), (1 << 20) - 1), Err(InflateError::TooLarge));
    let inflated = inflate(body_of(&just), 1 << 20).unwrap();
    assert_eq!(inflated.len(), 1 << 20);
    assert!(inflated.capacity() <= (1 << 20) + 1, "{}", inflated.capacity());
}

#[test]
fn what_the_rfc_shows_is_inflated() {
    // RFC 7692, 7.2.3: one block, a stored block, two blocks, and a block marked as last with a zero byte after it.
    for compressed in [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
    ] {
        assert_eq!(inflate(compressed, 5).unwrap(), b"Hello");
        assert_eq!(inflate(compressed, 4), Err(InflateError::TooLarge));
    }
    assert_eq!(inflate(&[0x00], 0).unwrap(), b"", "an empty message is one zero byte");
}

#[test]
fn garbage_is_corrupt() {
    // Block type 3 does not exist.
    assert_eq!(inflate(&[0xff; 10], 1000), Err(InflateError::Corrupt));
}

proptest! {
    #[test]
    fn what_was_compressed_comes_back(
        seed in prop::collection::vec(any::<u8>(), 0..400),
        repeats in 1..20_usize,
        window in prop::sample::select(&Window::ALL[..]),
    ) {
        let body = seed.repeat(repeats);
        if let Some(frame) = compress(Kind::Binary, &body, window) {
            prop_assert_eq!(inflate(body_of(&frame), body.len()).unwrap(), body);
        }
    }

    #[test]
    fn arbitrary_bytes_inflate_to_at_most_the_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..300), bytes_max in 0..2000_usize,
    ) {
        if let Ok(body) = inflate(&bytes, bytes_max) {
            prop_assert!(body.len() <= bytes_max);
        }
    }

    #[test]
    fn arbitrary_offers_are_never_answered_with_more_than_was_asked(offer in "[a-z_;,=\" 0-9]{0,80}") {
        let _ = negotiate(&offer);
    }
}
