//! Addresses and networks, as operators write them.

use std::net::IpAddr;

use super::value::Item;

/// An address or a network: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    address: IpAddr,
    /// Bits that every address of the network has in common with the first.
    prefix: u8,
    /// As it was written.
    text: String,
}

impl Network {
    /// Takes a network if it is one. Bits behind the prefix must be zero: `10.0.0.1/8` could mean two things.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            None => (text.parse::<IpAddr>().ok()?, None),
            Some((address, prefix)) => {
                let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
                (address.parse::<IpAddr>().ok()?, Some(prefix.parse::<u8>().ok().filter(|_| is_number)?))
            }
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(width);
        let network = Self { address, prefix, text: text.to_owned() };
        let is_first =
            prefix <= width && (bits(address) << (128 - width)).checked_shl(prefix.into()).unwrap_or(0) == 0;
        is_first.then_some(network)
    }

    /// Whether the address is in the network. An IPv4 address that came by IPv6 (`::ffff:192.0.2.7`) is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_ipv4() != self.address.is_ipv4() {
            return false;
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let differing = bits(address) ^ bits(self.address);
        // All bits of an empty prefix are behind it.
        differing.checked_shr(width - u32::from(self.prefix)).unwrap_or(0) == 0
    }
}

/// The bits of an address, the last one lowest.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Item for Network {
    const PLURAL: &'static str =
        "addresses and networks such as \"192.0.2.7\", \"10.0.0.0/8\" or \"2001:db8::/32\"";
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
    fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_that_share_its_prefix() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).expect("a network").contains(address.parse().expect("an address"))
        };
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("127.0.0.1/32", "127.0.0.1", true),
        ] {
            assert_eq!(contains(network, address), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_could_mean_two_networks_is_none() {
        for bad in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "2001:db8::1/32",
            "::/129",
            "localhost",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
