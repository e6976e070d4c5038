//! An address prefix such as `10.0.0.0/8`, used by trust and access lists.
//!
//! Parsed once and strictly: `10.0.0.1/8` is refused with the form that was meant, because a list
//! that lets in more than its writer saw is worse than an error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses sharing the first `length` bits with `network`. Host bits of `network` are zero.
///
/// IPv4 is IPv4 however it is written: a prefix of v4-mapped addresses (`::ffff:10.0.0.0/104`) is that of the addresses they map
/// (`10.0.0.0/8`), and one that is wider than all of them (`::/0`) holds IPv6 alone. So one list means the same on a socket of
/// either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

impl Cidr {
    /// # Errors
    /// Says what is wrong when the length does not fit the family or host bits are set.
    pub fn new(network: IpAddr, length: u8) -> Result<Self, String> {
        let bits = if network.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(format!("prefix length {length} is longer than the {bits} bits of the address"));
        }
        let masked = mask(network, length);
        if masked != network {
            return Err(format!("\"{network}/{length}\" has bits set behind the prefix; write \"{masked}/{length}\""));
        }
        Ok(match (network, network.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if length >= MAPPED => Cidr { network: v4, length: length - MAPPED },
            _ => Cidr { network, length },
        })
    }

    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// The address, when it is the only one inside.
    pub const fn only(&self) -> Option<IpAddr> {
        let bits = if self.network.is_ipv4() { 32 } else { 128 };
        if self.length == bits { Some(self.network) } else { None }
    }

    /// Whether `address` lies inside. A v4-mapped IPv6 address counts as the IPv4 address it maps.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && mask(address, self.length) == self.network
    }
}

/// Bits that all v4-mapped addresses share (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & keep))
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => {
                let length = length.parse().map_err(|_| format!("\"{length}\" is not a prefix length"))?;
                (address, Some(length))
            }
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| format!("\"{address}\" is not an IP address"))?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        Cidr::new(address, length.unwrap_or(full))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// Many prefixes as one sorted list of ranges that do not touch, so that tens of thousands cost one binary search. Sets that
/// hold the same addresses are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl CidrSet {
    pub fn new(cidrs: impl IntoIterator<Item = Cidr>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Cidr { network, length } in cidrs {
            match network {
                IpAddr::V4(network) => {
                    let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                    v4.push((u32::from(network), u32::from(network) | host));
                }
                IpAddr::V6(network) => {
                    let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                    v6.push((u128::from(network), u128::from(network) | host));
                }
            }
        }
        CidrSet { v4: joined(v4, |end| end.saturating_add(1)), v6: joined(v6, |end| end.saturating_add(1)) }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// A v4-mapped IPv6 address counts as the IPv4 address it maps.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => in_ranges(&self.v4, u32::from(address)),
            IpAddr::V6(address) => in_ranges(&self.v6, u128::from(address)),
        }
    }
}

fn joined<T: Ord + Copy>(mut ranges: Vec<(T, T)>, behind: impl Fn(T) -> T) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match joined.last_mut() {
            Some((_, end)) if from <= behind(*end) => *end = (*end).max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

fn in_ranges<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(from, _)| *from <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_follows_the_prefix_in_both_families() {
        let table = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("::ffff:192.0.2.0/120", "::ffff:192.0.2.7", true),
            ("::ffff:0.0.0.0/96", "2001:db8::1", false),
        ];
        for (cidr, address, inside) in table {
            let cidr: Cidr = cidr.parse().expect(cidr);
            assert_eq!(cidr.contains(address.parse().expect("test address")), inside, "{cidr} {address}");
        }
    }

    #[test]
    fn v4_mapped_addresses_never_confuse_a_list() {
        // Whether each prefix holds 10.1.2.3, mapped or not, and ::10.1.2.3, which is IPv6 and has the same digits.
        let table = [
            //  prefix  shown as  IPv4, mapped or not  IPv6
            ("10.0.0.0/8", "10.0.0.0/8", true, false),
            ("10.1.2.3", "10.1.2.3/32", true, false),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8", true, false),
            ("::ffff:a00:0/104", "10.0.0.0/8", true, false),
            ("::ffff:10.1.2.3", "10.1.2.3/32", true, false),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32", true, false),
            ("::ffff:0:0/96", "0.0.0.0/0", true, false),
            ("::ffff:11.0.0.0/104", "11.0.0.0/8", false, false),
            ("0.0.0.0/0", "0.0.0.0/0", true, false),
            // Wider than the mapped addresses: of IPv6 alone.
            ("::/0", "::/0", false, true),
            ("::/80", "::/80", false, true),
            ("::/95", "::/95", false, true),
            ("::/96", "::/96", false, true),
            ("::10.0.0.0/104", "::a00:0/104", false, true),
            ("2001:db8::/32", "2001:db8::/32", false, false),
        ];
        for (text, shown, of_v4, of_v6) in table {
            let cidr: Cidr = text.parse().expect(text);
            let set = CidrSet::new([cidr]);
            assert_eq!(cidr.to_string(), shown);
            for (address, inside) in [("10.1.2.3", of_v4), ("::ffff:10.1.2.3", of_v4), ("::10.1.2.3", of_v6)] {
                let parsed: IpAddr = address.parse().expect(address);
                assert_eq!((cidr.contains(parsed), set.contains(parsed)), (inside, inside), "{text} {address}");
            }
        }
        // As strict as with any other prefix, and in the words of the one who wrote it.
        let error = "::ffff:10.1.2.3/104".parse::<Cidr>().unwrap_err();
        assert!(error.contains("::ffff:10.0.0.0/104"), "{error}");
    }

    #[test]
    fn a_prefix_with_host_bits_is_refused_with_the_corrected_form() {
        let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err();
        assert!(error.contains("10.0.0.0/8"), "{error}");
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("host/8".parse::<Cidr>().is_err());
    }

    #[test]
    fn a_set_holds_what_one_of_its_prefixes_holds() {
        let texts = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "0.0.0.0/32", "255.255.255.255", "::1"];
        let cidrs: Vec<Cidr> = texts.iter().map(|text| text.parse().expect(text)).collect();
        let set = CidrSet::new(cidrs.iter().copied());
        for address in [
            "9.255.255.255",
            "10.0.0.0",
            "10.1.2.3",
            "10.255.255.255",
            "11.0.0.0",
            "192.0.2.6",
            "192.0.2.7",
            "192.0.2.8",
            "::ffff:10.1.1.1",
            "::ffff:11.1.1.1",
            "2001:db8::1",
            "2001:db9::",
            "0.0.0.0",
            "0.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
        ] {
            let parsed = address.parse().expect(address);
            assert_eq!(set.contains(parsed), cidrs.iter().any(|cidr| cidr.contains(parsed)), "{address}");
        }
        let everybody = CidrSet::new(["0.0.0.0/0".parse().expect("all of IPv4")]);
        assert!(everybody.contains("255.255.255.255".parse().expect("address")));
        assert!(!everybody.contains("::1".parse().expect("address")));
        assert!(CidrSet::default().is_empty() && !everybody.is_empty());
    }

    #[test]
    fn ranges_that_touch_or_lie_in_each_other_are_one() {
        let set = |texts: &[&str]| CidrSet::new(texts.iter().map(|text| text.parse().expect(text)));
        assert_eq!(set(&["10.0.0.0/9", "10.128.0.0/9"]), set(&["10.0.0.0/8"]));
        assert_eq!(set(&["10.0.0.0/8", "10.3.0.0/16", "10.3.3.0/24"]), set(&["10.0.0.0/8"]));
        assert_eq!(set(&["0.0.0.0/1", "128.0.0.0/1", "255.255.255.255"]), set(&["0.0.0.0/0"]));
        assert_eq!(set(&["::/1", "8000::/1", "ffff::/16"]), set(&["::/0"]));
        assert_ne!(set(&["10.0.0.0/9", "10.128.0.1/32"]), set(&["10.0.0.0/8"]));
        let networks =
            (0..=u16::MAX).map(|net| Cidr::new(Ipv4Addr::from(u32::from(net) << 16).into(), 16).expect("a /16"));
        assert_eq!(CidrSet::new(networks).v4, [(0, u32::MAX)]);
    }

    #[test]
    fn a_set_of_tens_of_thousands_agrees_with_each_of_its_prefixes() {
        // A generator of full period: every prefix is another, lengths from 8 to 32 and from 16 to 128.
        let mut state = 1u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 16
        };
        let cidrs: Vec<Cidr> = (0..30_000)
            .map(|turn| {
                let (address, length) = if turn % 3 > 0 {
                    (IpAddr::from((draw() as u32).to_be_bytes()), 16 + (draw() % 17) as u8)
                } else {
                    let address = u128::from(draw()) << 80 | u128::from(draw()) << 40 | u128::from(draw());
                    (IpAddr::from(address.to_be_bytes()), 32 + (draw() % 97) as u8)
                };
                Cidr::new(mask(address, length), length).expect("masked")
            })
            .collect();
        let set = CidrSet::new(cidrs.iter().copied());
        assert!(set.v4.is_sorted_by(|one, next| one.1 < next.0) && set.v6.is_sorted_by(|one, next| one.1 < next.0));
        for cidr in cidrs.iter().step_by(100) {
            for address in around(cidr) {
                assert_eq!(set.contains(address), cidrs.iter().any(|cidr| cidr.contains(address)), "{cidr} {address}");
            }
        }
    }

    /// First and last address, and those just outside.
    fn around(cidr: &Cidr) -> [IpAddr; 4] {
        match cidr.network {
            IpAddr::V4(first) => {
                let first = u32::from(first);
                let last = first | u32::MAX.checked_shr(cidr.length.into()).unwrap_or(0);
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| Ipv4Addr::from(bits).into())
            }
            IpAddr::V6(first) => {
                let first = u128::from(first);
                let last = first | u128::MAX.checked_shr(cidr.length.into()).unwrap_or(0);
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| Ipv6Addr::from(bits).into())
            }
        }
    }
}
