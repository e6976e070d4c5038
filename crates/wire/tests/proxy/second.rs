//! A second reader of PROXY headers, the crate `ppp`, and where it and we differ.
//!
//! A header that one of two readers takes and the other does not is how somebody becomes another client, so each
//! difference has a reason here, and a header that shows it.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use evenkeel_wire::proxy::{Header, Parsed, parse};
use ppp::{HeaderResult, v1, v2};

/// What the second reader makes of a header.
#[derive(Debug)]
pub struct Read {
    pub client: Option<(SocketAddr, SocketAddr)>,
    pub used: usize,
    values: Vec<(u8, Vec<u8>)>,
}

impl Read {
    pub fn value(&self, kind: u8) -> Option<&[u8]> {
        self.values.iter().find(|(found, _)| *found == kind).map(|(_, value)| &value[..])
    }
}

pub struct Difference {
    /// What we say to a header the other one takes; `None`: we take it and the other does not.
    ours: Option<&'static str>,
    pub why: &'static str,
    pub example: fn() -> Vec<u8>,
}

fn v2_of(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("test block").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, kind][..], &length, block].concat()
}

fn with_values(values: &[u8]) -> Vec<u8> {
    v2_of(0x21, 0x11, &[&[0; 12], values].concat())
}

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        ours: Some("PROXY line with a bad port (PROXY protocol, 2.1)"),
        why: "ppp reads ports by str::parse, which takes a plus sign",
        example: || b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n".into(),
    },
    Difference {
        ours: Some("PROXY line that does not end in CRLF (PROXY protocol, 2.1)"),
        why: "ppp ends a line at CR only; a reader that ends it at LF would see another header",
        example: || b"PROXY UNKNOWN a\nb\r\n".into(),
    },
    Difference {
        ours: Some("PROXY header of an unknown address family or protocol (PROXY protocol, 2.2)"),
        why: "a family without a protocol, or the reverse, is none of the seven combinations of 2.2",
        example: || v2_of(0x21, 0x10, &[0; 12]),
    },
    Difference {
        ours: Some("PROXY header longer than 4096 bytes"),
        why: "ppp leaves the bound to its user",
        example: || with_values(&[&[4, 0x10, 0][..], &[0; 4096]].concat()),
    },
    Difference {
        ours: Some("PROXY header with a unique id longer than 128 bytes (PROXY protocol, 2.2.5)"),
        why: "ppp does not look into values",
        example: || with_values(&[&[5, 0, 129][..], &[0; 129]].concat()),
    },
    Difference {
        ours: Some("PROXY header with a checksum that is not 4 bytes long (PROXY protocol, 2.2.3)"),
        why: "ppp does not look into values",
        example: || with_values(&[3, 0, 0]),
    },
    Difference {
        ours: Some("PROXY header with a wrong checksum (PROXY protocol, 2.2.3)"),
        why: "ppp leaves the checksum to its user; the specification makes checking it a duty",
        example: || with_values(&[3, 0, 4, 0, 0, 0, 0]),
    },
    Difference {
        ours: Some("PROXY header that says one thing twice (PROXY protocol, 2.2)"),
        why: "ppp hands out all values; which of two counts is its user's question",
        example: || with_values(&[2, 0, 1, b'a', 2, 0, 1, b'b']),
    },
    Difference {
        ours: None,
        why: "of LOCAL everything is discarded, family included (2.2); ppp reads the family and its addresses",
        example: || v2_of(0x20, 0x11, &[]),
    },
    Difference {
        ours: None,
        why: "behind UNKNOWN anything is ignored (2.1); ppp wants few words and UTF-8",
        example: || b"PROXY UNKNOWN \xff\r\n".into(),
    },
];

/// What the second reader takes; of version 2 only with values that fit.
pub fn read(input: &[u8]) -> Option<Read> {
    match HeaderResult::parse(input) {
        HeaderResult::V1(Ok(header)) => {
            let client = match header.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(pair) => Some(four(pair)),
                v1::Addresses::Tcp6(pair) => Some(six(pair)),
            };
            Some(Read { client, used: header.header.len(), values: Vec::new() })
        }
        HeaderResult::V2(Ok(header)) => {
            let (client, values) = if header.command == v2::Command::Local {
                (None, Vec::new())
            } else {
                let client = match header.addresses {
                    v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
                    v2::Addresses::IPv4(pair) => Some(four(pair)),
                    v2::Addresses::IPv6(pair) => Some(six(pair)),
                };
                let values = header.tlvs().map(|value| value.map(|value| (value.kind, value.value.into_owned())));
                (client, values.collect::<Result<_, _>>().ok()?)
            };
            Some(Read { client, used: header.len(), values })
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
    }
}

fn four(pair: v1::IPv4) -> (SocketAddr, SocketAddr) {
    let end = |ip, port| SocketAddrV4::new(ip, port).into();
    (end(pair.source_address, pair.source_port), end(pair.destination_address, pair.destination_port))
}

fn six(pair: v1::IPv6) -> (SocketAddr, SocketAddr) {
    let end = |ip, port| {
        let address = SocketAddr::from(SocketAddrV6::new(ip, port, 0, 0));
        SocketAddr::new(address.ip().to_canonical(), port)
    };
    (end(pair.source_address, pair.source_port), end(pair.destination_address, pair.destination_port))
}

pub fn both(input: &[u8]) -> (Option<(Header<'_>, usize)>, Option<Read>) {
    let ours = match parse(input) {
        Parsed::Whole(header, used) => Some((header, used)),
        Parsed::Partial | Parsed::Refused(_) => None,
    };
    (ours, read(input))
}

/// Both take it and read the same, or neither does, or the difference is a known one.
#[track_caller]
pub fn assert_agrees(input: &[u8]) {
    let shown = input.escape_ascii();
    let known = |ours| DIFFERENCES.iter().any(|difference| difference.ours == ours);
    match both(input) {
        (None, None) => {}
        (Some((header, used)), Some(theirs)) => {
            assert_eq!((header.client, used), (theirs.client, theirs.used), "{shown}");
            assert_eq!(header.alpn, theirs.value(1), "{shown}");
            assert_eq!(header.authority, theirs.value(2), "{shown}");
            assert_eq!(header.unique_id, theirs.value(5), "{shown}");
        }
        (None, Some(_)) => match parse(input) {
            Parsed::Refused(fault) => {
                assert!(known(Some(fault)), "only the second reader takes {shown}: {fault}");
                let signless = !input.contains(&b'+');
                assert!(!(fault.contains("port") && signless), "another port than expected: {shown}");
            }
            other => panic!("only the second reader takes {shown}: {other:?}"),
        },
        (Some((header, _)), None) => {
            let unknown = input.starts_with(b"PROXY UNKNOWN");
            let local = input.get(12) == Some(&0x20);
            assert!(unknown || local, "only we take {shown}");
            assert_eq!(header, Header::default(), "{shown}");
        }
    }
}

/// `header` with the right sum in its first checksum, if there is one of the right length.
///
/// The sum is counted bit by bit here, so that it shares nothing with the table of the crate.
pub fn signed(header: &[u8]) -> Vec<u8> {
    let mut signed = header.to_vec();
    let mut at = match header.get(13).map(|kind| kind >> 4) {
        Some(1) => 16 + 12,
        Some(2) => 16 + 36,
        Some(3) => 16 + 216,
        _ => 16,
    };
    while let Some(&[kind, high, low]) = header.get(at..at + 3) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind == 3 && length == 4 && header.len() >= at + 7 {
            signed[at + 3..at + 7].fill(0);
            let sum = signed.iter().fold(!0_u32, |sum, &byte| {
                (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
            });
            signed[at + 3..at + 7].copy_from_slice(&(!sum).to_be_bytes());
            break;
        }
        at += 3 + length;
    }
    signed
}
