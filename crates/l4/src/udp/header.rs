//! PROXY headers of datagrams: read from the senders a listener names, written for the backends that want them.
//!
//! Version 2 only: version 1 knows no UDP. A sender may put a header before each datagram or before the first of
//! those it sends from one port; what it sends from there without one belongs to the client it named last.

use std::net::SocketAddr;

use evenkeel_model::exchange::ExchangeId;
use evenkeel_plan::{Pool, ProxyDatagrams, ProxyVersion};
use evenkeel_wire::proxy::{self, Parsed, Sent, write_v2};

/// What version 2 begins with (PROXY protocol, section 2.2). Long enough that no other datagram begins with it by chance.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stands before a datagram of a sender of PROXY headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// No header.
    Nothing,
    /// The datagram is the sender's own: its check of us, for example.
    Itself {
        rest: &'a [u8],
    },
    /// Client, address it came to, and the client's datagram.
    Named {
        client: SocketAddr,
        reached: SocketAddr,
        rest: &'a [u8],
    },
    Invalid(&'static str),
}

pub fn read(datagram: &[u8]) -> Told<'_> {
    if !datagram.starts_with(SIGNATURE) {
        return Told::Nothing;
    }
    match proxy::parse(datagram) {
        // All of a datagram is there: what is missing will not come.
        Parsed::Partial => Told::Invalid("the PROXY header is longer than its datagram"),
        Parsed::Refused(rule) => Told::Invalid(rule),
        Parsed::Whole(header, used) => match header.client {
            None => Told::Itself { rest: &datagram[used..] },
            Some(_) if !header.datagram => Told::Invalid("the PROXY header is one of a TCP connection"),
            Some((client, reached)) => Told::Named { client, reached, rest: &datagram[used..] },
        },
    }
}

/// The header that a session's datagrams carry.
#[derive(Debug)]
pub struct Announced {
    pub bytes: Box<[u8]>,
    pub datagrams: ProxyDatagrams,
}

pub fn announced(pool: &Pool, client: SocketAddr, reached: SocketAddr, id: ExchangeId) -> Option<Announced> {
    let wanted = pool.proxy_protocol.filter(|wanted| wanted.version == ProxyVersion::V2)?;
    let id = format!("{:016x}{:016x}", id.process, id.sequence);
    let unique_id = wanted.unique_id.then_some(id.as_bytes());
    let mut bytes = Vec::new();
    write_v2(&mut bytes, &Sent { client, local: reached, datagram: true, authority: None, alpn: None, unique_id });
    Some(Announced { bytes: bytes.into(), datagrams: wanted.datagrams })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn header(datagram: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (client, local) = (address("192.0.2.1:5000"), address("203.0.113.1:53"));
        write_v2(&mut bytes, &Sent { client, local, datagram, authority: None, alpn: None, unique_id: None });
        bytes
    }

    #[test]
    fn what_a_datagram_tells_of_its_client() {
        let named = |rest| Told::Named { client: address("192.0.2.1:5000"), reached: address("203.0.113.1:53"), rest };
        let whole = [&header(true)[..], b"question"].concat();
        assert_eq!(read(&whole), named(b"question"));
        assert_eq!(read(&header(true)), named(b""));
        assert_eq!(read(b"question"), Told::Nothing);
        assert_eq!(read(b""), Told::Nothing);
        assert_eq!(read(b"PROXY UDP4 192.0.2.1 203.0.113.1 5000 53\r\n"), Told::Nothing);
        assert!(matches!(read(&header(false)), Told::Invalid(rule) if rule.contains("TCP")));
        for cut in SIGNATURE.len()..header(true).len() {
            assert!(matches!(read(&whole[..cut]), Told::Invalid(_)), "{cut}");
        }
        let local = [SIGNATURE, b"\x20\x00\x00\x00", b"ping"].concat();
        assert_eq!(read(&local), Told::Itself { rest: b"ping" });
    }

    #[test]
    fn backends_are_told_what_the_pool_says() {
        let id = ExchangeId { process: 0xab, sequence: 7 };
        let mut pool = Pool::with_defaults("dns");
        let (client, reached) = (address("192.0.2.1:5000"), address("203.0.113.1:53"));
        assert!(announced(&pool, client, reached, id).is_none());
        pool.proxy_protocol = Some(evenkeel_plan::ProxyProtocol {
            version: ProxyVersion::V2,
            authority: true,
            alpn: true,
            unique_id: true,
            datagrams: ProxyDatagrams::Each,
        });
        let announced = announced(&pool, client, reached, id).expect("a header");
        assert_eq!(announced.datagrams, ProxyDatagrams::Each);
        let Parsed::Whole(header, used) = proxy::parse(&announced.bytes) else { panic!("our own header") };
        assert_eq!((header.client, used), (Some((client, reached)), announced.bytes.len()));
        assert_eq!(header.unique_id, Some(&b"00000000000000ab0000000000000007"[..]));
        assert!(header.datagram);
    }
}
