//! Where a Redis Cluster keeps a name.

/// How many slots a Cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key or of a sharded channel.
pub(super) fn slot(name: &str) -> u16 {
    crc16(tag(name).as_bytes()) % SLOTS
}

/// The part of a name that counts: what stands between its first `{` and the next `}` if that is not empty, else all of it. Names with the
/// same such part are kept together.
pub(super) fn tag(name: &str) -> &str {
    let inside = name.split_once('{').and_then(|(_, after)| after.split_once('}')).map(|(inside, _)| inside);
    inside.filter(|inside| !inside.is_empty()).unwrap_or(name)
}

/// CRC-16/XMODEM, as the Redis Cluster specification says.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The first is the specification's own example; the others are what `CLUSTER KEYSLOT` of Redis 7.0 says.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (name, expected) in
            [("foo", 12182), ("{foo}.bar", 12182), ("", 0), ("a{b", 13340), ("bongsu:c:{}{foo}", 2473)]
        {
            assert_eq!(slot(name), expected, "{name}");
        }
    }

    #[test]
    fn only_the_first_braces_count_and_only_if_something_is_in_them() {
        for (name, expected) in
            [("{a}b{c}", "a"), ("{}{a}", "{}{a}"), ("}{a", "}{a"), ("x{{a}}", "{a"), ("ab", "ab")]
        {
            assert_eq!(tag(name), expected, "{name}");
        }
    }
}
