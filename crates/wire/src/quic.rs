//! What every version of QUIC shows of a packet (RFC 8999), which is where its connection ids stand.
//!
//! A balancer routes by these ids and never answers: version negotiation, tokens and all that is protected are between
//! client and backend. Nothing but the first packet of a datagram is looked at, since all packets of one datagram
//! belong to one connection (RFC 9000 section 12.2).

/// The first packet of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RFC 8999 section 5.1.
    Long {
        /// 0 is version negotiation, which only servers send.
        version: u32,
        dcid: &'a [u8],
        scid: &'a [u8],
        /// An Initial packet of version 1 or 2: the client may be new, and `dcid` of its own choosing.
        initial: bool,
    },
    /// RFC 8999 section 5.2: behind the first byte stands the destination connection id, and only who gave it knows
    /// how long it is.
    Short { rest: &'a [u8] },
}

const VERSION_1: u32 = 1;
/// RFC 9369 section 3.1.
const VERSION_2: u32 = 0x6b33_43cf;

/// Longest connection id of versions 1 and 2 (RFC 9000 section 17.2). Others may use up to 255 bytes.
const CID_MAX: usize = 20;

/// `None` for what no version of QUIC sends.
///
/// The fixed bit is not asked for: both sides may agree to draw it at random (RFC 9287).
pub fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
    let (&first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return Some(Packet::Short { rest });
    }
    let (&version, rest) = rest.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(version);
    let (dcid, rest) = cid(rest)?;
    let (scid, _) = cid(rest)?;
    let initial = match version {
        VERSION_1 => Some(0),
        VERSION_2 => Some(1),
        _ => None,
    };
    if initial.is_some() && dcid.len().max(scid.len()) > CID_MAX {
        return None;
    }
    Some(Packet::Long { version, dcid, scid, initial: initial == Some(first >> 4 & 3) })
}

/// A connection id behind its length.
fn cid(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(len.into())
}
