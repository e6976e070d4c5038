//! What counts as one client: an address cut to a prefix.
//!
//! Whoever has one IPv6 address has its whole network, and hosts change the rest of theirs by themselves (RFC 8981), so what
//! is kept of a client is kept of its prefix.

use std::net::IpAddr;

/// The address cut to the prefix of its family; lengths beyond the family's bits keep it whole.
///
/// The two families never meet: IPv4 addresses stand in the mapped range, which no canonical IPv6 address is in.
pub fn cut(client: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> u128 {
    let without =
        |bits: u128, drop: u8| bits.checked_shr(drop.into()).unwrap_or(0).checked_shl(drop.into()).unwrap_or(0);
    match client.to_canonical() {
        IpAddr::V4(v4) => without(v4.to_ipv6_mapped().to_bits(), 32 - ipv4_prefix.min(32)),
        IpAddr::V6(v6) => without(v6.to_bits(), 128 - ipv6_prefix.min(128)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_prefix_are_one_client_and_families_never_meet() {
        let table = [
            //  one            another             v4  v6   alike
            ("192.0.2.1", "192.0.2.2", 32, 64, false),
            ("192.0.2.1", "192.0.2.200", 24, 64, true),
            ("192.0.2.1", "192.0.3.1", 24, 64, false),
            ("192.0.2.1", "::ffff:192.0.2.1", 32, 64, true),
            ("192.0.2.1", "::ffff:192.0.2.9", 24, 128, true),
            ("0.0.0.0", "255.255.255.255", 0, 64, true),
            ("2001:db8::1", "2001:db8::2", 32, 64, true),
            ("2001:db8::1", "2001:db8::2", 32, 128, false),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", 32, 64, false),
            ("2001:db8::1", "fe80::1", 32, 0, true),
            // Cut to nothing, the families are still two.
            ("0.0.0.0", "::", 0, 0, false),
            ("192.0.2.1", "192.0.2.2", 200, 64, false),
        ];
        for (one, another, ipv4, ipv6, alike) in table {
            let client = |text: &str| cut(text.parse().unwrap(), ipv4, ipv6);
            assert_eq!(client(one) == client(another), alike, "{one} {another} /{ipv4} /{ipv6}");
        }
    }
}
