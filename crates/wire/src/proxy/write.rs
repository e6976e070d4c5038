//! Writes PROXY headers: who the client is, for a backend that asks to be told this way.
//!
//! Nothing is checked that the types do not already say; values that no reader would take are left out rather than cut,
//! since half a name is another name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::v2::{ALPN, AUTHORITY, SIGNATURE, UNIQUE_ID, UNIQUE_ID_MAX};
use super::{canonical, v1};
use crate::address::{write_address, write_decimal};

/// What a header of version 2 says.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    pub client: SocketAddr,
    /// The address the client came to.
    pub local: SocketAddr,
    /// The client speaks UDP.
    pub datagram: bool,
    pub authority: Option<&'a [u8]>,
    pub alpn: Option<&'a [u8]>,
    pub unique_id: Option<&'a [u8]>,
}

/// The client and the address it came to, in one family.
enum Pair {
    V4([u8; 4], [u8; 4]),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    /// A header has one family. Where a client of the one came to an address of the other (a header we took said so),
    /// the IPv4 address is mapped: every reader finds it again, which "unknown" would not grant.
    fn new(client: IpAddr, local: IpAddr) -> Self {
        match (client, local) {
            (IpAddr::V4(client), IpAddr::V4(local)) => Pair::V4(client.octets(), local.octets()),
            (client, local) => Pair::V6(mapped(client), mapped(local)),
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Version 1 (section 2.1).
pub fn write_v1(out: &mut Vec<u8>, client: SocketAddr, local: SocketAddr) {
    let (client, local) = (canonical(client), canonical(local));
    out.extend_from_slice(v1::PREFIX);
    match Pair::new(client.ip(), local.ip()) {
        Pair::V4(..) => {
            out.extend_from_slice(b"TCP4 ");
            write_address(out, client.ip());
            out.push(b' ');
            write_address(out, local.ip());
        }
        // By std and not by `write_address`, which writes a mapped address as the IPv4 address it is.
        Pair::V6(client, local) => out.extend_from_slice(format!("TCP6 {client} {local}").as_bytes()),
    }
    out.push(b' ');
    write_decimal(out, client.port().into());
    out.push(b' ');
    write_decimal(out, local.port().into());
    out.extend_from_slice(b"\r\n");
}

/// Version 2 (section 2.2).
pub fn write_v2(out: &mut Vec<u8>, sent: &Sent<'_>) {
    let (client, local) = (canonical(sent.client), canonical(sent.local));
    out.extend_from_slice(SIGNATURE);
    let protocol = if sent.datagram { 2 } else { 1 };
    let pair = Pair::new(client.ip(), local.ip());
    let family = match pair {
        Pair::V4(..) => 0x10,
        Pair::V6(..) => 0x20,
    };
    // Version 2, PROXY.
    out.extend_from_slice(&[0x21, family | protocol]);
    let length_at = out.len();
    out.extend_from_slice(&[0; 2]);
    match pair {
        Pair::V4(client, local) => [client, local].iter().for_each(|address| out.extend_from_slice(address)),
        Pair::V6(client, local) => [client, local].iter().for_each(|address| out.extend_from_slice(&address.octets())),
    }
    out.extend_from_slice(&client.port().to_be_bytes());
    out.extend_from_slice(&local.port().to_be_bytes());
    value(out, ALPN, sent.alpn, 255);
    value(out, AUTHORITY, sent.authority, 255);
    value(out, UNIQUE_ID, sent.unique_id, UNIQUE_ID_MAX);
    let length = out.len() - length_at - 2;
    let length = u16::try_from(length).expect("36 bytes of addresses and three values of at most 258 bytes");
    out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
}

/// `longest` is that of the value itself: names of hosts and protocols, as TLS carries them, have at most 255 bytes.
fn value(out: &mut Vec<u8>, kind: u8, value: Option<&[u8]>, longest: usize) {
    let Some(value) = value.filter(|value| value.len() <= longest) else { return };
    let length = u16::try_from(value.len()).expect("`longest` is below 64 KiB");
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}
