//! An address prefix such as `10.0.0.0/8`, used by trust and access lists.
//!
//! Parsed once and strictly: `10.0.0.1/8` is refused with the form that was meant, because a list
//! that lets in more than its writer saw is worse than an error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses sharing the first `length` bits with `network`. Host bits of `network` are zero.
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
        Ok(Cidr { network, length })
    }

    /// Whether `address` lies inside. A v4-mapped IPv6 address counts as the IPv4 address it maps.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && mask(address, self.length) == self.network
    }
}

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

/// Many prefixes as one sorted list of ranges that do not touch, so that tens of thousands cost one binary search.
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
        CidrSet { v4: joined(v4), v6: joined(v6) }
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

fn joined<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match joined.last_mut() {
            // Prefixes lie inside each other or apart.
            Some((_, end)) if from <= *end => *end = (*end).max(to),
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
        ];
        for (cidr, address, inside) in table {
            let cidr: Cidr = cidr.parse().expect(cidr);
            assert_eq!(cidr.contains(address.parse().expect("test address")), inside, "{cidr} {address}");
        }
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
}
