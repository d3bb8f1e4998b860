//! Masking of client frames (RFC 6455, 5.3).

/// Applies `mask` to `bytes`, which stand `offset` bytes into the payload. Applying it twice changes nothing.
pub(crate) fn apply(mask: [u8; 4], offset: usize, bytes: &mut [u8]) {
    // The payload's byte i is masked with byte i mod 4: rotate the mask to where these bytes begin.
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_meets_its_own_mask_byte_at_every_length_and_offset() {
        let mask = [0x6d, 0xb6, 0xb2, 0x80];
        for length in 0..40 {
            for offset in 0..9 {
                let mut bytes: Vec<u8> = (0..length).collect();
                let expected: Vec<u8> =
                    bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[(i + offset) % 4]).collect();
                apply(mask, offset, &mut bytes);
                assert_eq!(bytes, expected, "length {length}, offset {offset}");
            }
        }
    }
}
