//! Hashes that every node and every release must agree on.
//!
//! Two nodes of a cluster send a client to the same backend only if they hash alike, so these are
//! written down here and never taken from a library that may change its mind. They carry no
//! secret: a client that picks its own address can pick its backend, which it could do by trying as well.

use std::net::{IpAddr, SocketAddr};

/// What hash schedules know a backend by. Made from its address, because an id changes when a
/// backend is added in front of it, and then every client would move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey(pub u64);

impl BackendKey {
    pub fn of(address: SocketAddr) -> Self {
        BackendKey(mix(of_address(address.ip()) ^ u64::from(address.port())))
    }
}

/// Hash of an address. An IPv4 address and its IPv4-mapped IPv6 form are one client, whichever
/// kind of socket it came in by.
#[inline]
pub fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits())),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            mix(mix((bits >> 64) as u64) ^ bits as u64)
        }
    }
}

/// Hash of who speaks with whom: what `tuple` goes by. `local` is the listener's address and port that the client reached.
pub fn of_tuple(client: SocketAddr, local: SocketAddr) -> u64 {
    let client_hash = mix(of_address(client.ip()) ^ u64::from(client.port()));
    mix(mix(client_hash ^ of_address(local.ip())) ^ u64::from(local.port()))
}

/// Hash of a key made of bytes: a header's value, a cookie's, a URI.
pub fn of_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(BYTES_SEED, |hash, word| mix(hash ^ u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The length tells "a" from "a\0", which would fill the last word alike.
    mix(mix(hash ^ u64::from_le_bytes(last)) ^ bytes.len() as u64)
}

/// Fixed, as all nodes must hash alike. The first 64 bits of the fraction of pi: a number that nobody chose.
const BYTES_SEED: u64 = 0x243f_6a88_85a3_08d3;

/// The finisher of splitmix64: every bit of the input changes about half of the output's bits.
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_never_change_between_releases() {
        // First output of splitmix64 seeded with 0, as its authors publish it.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        // Recorded once. A change here moves every client of every `source` pool while nodes of
        // two releases run side by side.
        assert_eq!(of_address("192.0.2.1".parse().unwrap()), mix(0xc000_0201));
        assert_eq!(of_address("2001:db8::1".parse().unwrap()), mix(mix(0x2001_0db8_0000_0000) ^ 1));
    }

    #[test]
    fn keys_of_bytes_differ_by_content_length_and_place() {
        let keys: [&[u8]; 9] =
            [b"", b"a", b"a\0", b"b", b"abcdefgh", b"abcdefg", b"abcdefgh\0", b"hgfedcba", b"12345678abcdefgh"];
        let hashes: std::collections::BTreeSet<u64> = keys.iter().map(|key| of_bytes(key)).collect();
        assert_eq!(hashes.len(), keys.len());
        // Recorded once, for the reason above; computed by hand from the steps for the empty key.
        assert_eq!(of_bytes(b""), mix(mix(0x243f_6a88_85a3_08d3)));
        assert_eq!(of_bytes(b"ab"), mix(mix(0x243f_6a88_85a3_08d3 ^ 0x6261) ^ 2));
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let v4: IpAddr = "203.0.113.9".parse().unwrap();
        let mapped: IpAddr = "::ffff:203.0.113.9".parse().unwrap();
        assert_eq!(of_address(v4), of_address(mapped));
    }

    #[test]
    fn each_part_of_a_tuple_counts_and_mapped_addresses_do_not() {
        let of = |client: &str, local: &str| of_tuple(client.parse().unwrap(), local.parse().unwrap());
        let first = of("192.0.2.1:5000", "203.0.113.9:443");
        // Recorded once, for the reason above.
        assert_eq!(first, mix(mix(mix(mix(0xc000_0201) ^ 5000) ^ mix(0xcb00_7109)) ^ 443));
        assert_eq!(of("[::ffff:192.0.2.1]:5000", "[::ffff:203.0.113.9]:443"), first);
        for (client, local) in [
            ("192.0.2.2:5000", "203.0.113.9:443"),
            ("192.0.2.1:5001", "203.0.113.9:443"),
            ("192.0.2.1:5000", "203.0.113.8:443"),
            ("192.0.2.1:5000", "203.0.113.9:444"),
            ("203.0.113.9:443", "192.0.2.1:5000"),
        ] {
            assert_ne!(of(client, local), first, "{client} {local}");
        }
    }

    #[test]
    fn ports_tell_backends_of_one_host_apart() {
        let key = |text: &str| BackendKey::of(text.parse().unwrap());
        assert_ne!(key("10.0.0.1:80"), key("10.0.0.1:81"));
        assert_ne!(key("10.0.0.1:80"), key("10.0.0.2:80"));
    }
}
