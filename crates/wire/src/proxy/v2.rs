//! Version 2: a signature, a length, two addresses, and typed values behind them.
//!
//! Every length is held against the one around it, and a checksum that is there must be right (section 2.2.3). A value
//! we read stands there once: with two of them, two readers may see two.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use evenkeel_model::limits;

use super::checksum::crc32c;
use super::{Header, NEITHER, Parsed, begins, canonical};

pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and protocol, and the length of the rest.
pub const FIXED: usize = 16;

/// Types of values (section 2.2). Others are passed over, as the specification asks.
pub const ALPN: u8 = 0x01;
pub const AUTHORITY: u8 = 0x02;
pub const UNIQUE_ID: u8 = 0x05;
const CRC32C: u8 = 0x03;

/// Section 2.2.5.
pub const UNIQUE_ID_MAX: usize = 128;

pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    match begins(bytes, SIGNATURE) {
        None => return Parsed::Partial,
        Some(false) => return Parsed::Refused(NEITHER),
        Some(true) => {}
    }
    let Some(&command) = bytes.get(SIGNATURE.len()) else { return Parsed::Partial };
    let named = match command {
        0x20 => false,
        0x21 => true,
        _ => return Parsed::Refused("PROXY header of an unknown version or command (PROXY protocol, 2.2)"),
    };
    let Some(&kind) = bytes.get(SIGNATURE.len() + 1) else { return Parsed::Partial };
    let addresses = match (named, kind) {
        // LOCAL is the sender's own connection, such as a probe: the rest is discarded, family included. And of a family
        // that the sender could not say, nobody can say where the values begin.
        (false, _) | (true, 0x00) => Addresses::Unsaid,
        (true, 0x11 | 0x12) => Addresses::V4,
        (true, 0x21 | 0x22) => Addresses::V6,
        (true, 0x31 | 0x32) => Addresses::Unix,
        (true, _) => {
            return Parsed::Refused("PROXY header of an unknown address family or protocol (PROXY protocol, 2.2)");
        }
    };
    let Some(&[high, low]) = bytes.get(FIXED - 2..FIXED) else { return Parsed::Partial };
    let whole = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if whole < FIXED + addresses.len() {
        return Parsed::Refused("PROXY header too short for its addresses (PROXY protocol, 2.2)");
    }
    if whole > limits::PROXY_HEADER.value as usize {
        return Parsed::Refused("PROXY header longer than 4096 bytes");
    }
    let Some(header) = bytes.get(..whole) else { return Parsed::Partial };
    let (fixed, block) = header.split_at(FIXED);
    let mut said = Header { client: addresses.read(block), datagram: named && kind & 0x0f == 2, ..Header::default() };
    let read = match addresses {
        Addresses::Unsaid => Ok(()),
        Addresses::V4 | Addresses::V6 | Addresses::Unix => values(fixed, block, addresses.len(), &mut said),
    };
    match read {
        Ok(()) => Parsed::Whole(said, whole),
        Err(fault) => Parsed::Refused(fault),
    }
}

#[derive(Clone, Copy)]
enum Addresses {
    /// The whole block is passed over.
    Unsaid,
    V4,
    V6,
    /// Two names of sockets, of which nobody here could make anything.
    Unix,
}

impl Addresses {
    const fn len(self) -> usize {
        match self {
            Addresses::Unsaid => 0,
            Addresses::V4 => 12,
            Addresses::V6 => 36,
            Addresses::Unix => 216,
        }
    }

    fn read(self, block: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        let (addresses, ports) = match self {
            Addresses::Unsaid | Addresses::Unix => return None,
            Addresses::V4 => (each(block, |bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes)))?, &block[8..]),
            Addresses::V6 => (each(block, |bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes)))?, &block[32..]),
        };
        let ports = each(ports, u16::from_be_bytes)?;
        Some((canonical((addresses.0, ports.0).into()), canonical((addresses.1, ports.1).into())))
    }
}

/// The source's and the destination's, which stand side by side.
fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Option<(T, T)> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, _) = rest.split_first_chunk::<N>()?;
    Some((read(*source), read(*destination)))
}

/// Walks the values behind the addresses.
fn values<'a>(fixed: &[u8], block: &'a [u8], from: usize, said: &mut Header<'a>) -> Result<(), &'static str> {
    let mut at = from;
    let mut checksum: Option<usize> = None;
    while let Some(rest) = block.get(at..).filter(|rest| !rest.is_empty()) {
        let value = value(rest).ok_or("PROXY header with a value that is cut short (PROXY protocol, 2.2)")?;
        match rest[0] {
            ALPN => once(&mut said.alpn, value)?,
            AUTHORITY => once(&mut said.authority, value)?,
            UNIQUE_ID if value.len() > UNIQUE_ID_MAX => {
                return Err("PROXY header with a unique id longer than 128 bytes (PROXY protocol, 2.2.5)");
            }
            UNIQUE_ID => once(&mut said.unique_id, value)?,
            CRC32C if value.len() != 4 => {
                return Err("PROXY header with a checksum that is not 4 bytes long (PROXY protocol, 2.2.3)");
            }
            CRC32C => once(&mut checksum, at + 3)?,
            _ => {}
        }
        at += 3 + value.len();
    }
    let Some(at) = checksum else { return Ok(()) };
    let (before, rest) = block.split_at(at);
    let (claimed, after) = rest.split_at(4);
    // It is counted with four zeros in its own place.
    if crc32c([fixed, before, &[0; 4], after]).to_be_bytes() == claimed {
        return Ok(());
    }
    Err("PROXY header with a wrong checksum (PROXY protocol, 2.2.3)")
}

fn value(rest: &[u8]) -> Option<&[u8]> {
    let (&[_, high, low], rest) = rest.split_first_chunk::<3>()?;
    rest.get(..usize::from(u16::from_be_bytes([high, low])))
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("PROXY header that says one thing twice (PROXY protocol, 2.2)"),
    }
}
