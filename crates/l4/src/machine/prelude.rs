//! What must come before a relay can dial: who the client is, and where it wants to go.
//!
//! ```text
//!   awaits header ──PROXY header──► introduced ──may be served──► awaits hello ──ClientHello──► done
//!        │                                                             │
//!        └── no header, too late, ended ──► refused ◄── no TLS, too late, ended
//! ```
//!
//! Either step is left out where the listener does not ask for it. One deadline covers both, or two slow halves would
//! hold a connection for twice the time. The header is taken out of the stream; everything behind it goes to the
//! backend as it came, the ClientHello first of all.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Phase, limits};
use evenkeel_wire::client_hello::{self, Hello};
use evenkeel_wire::proxy;

/// Told what a client sends first, it says when enough of it is there.
#[derive(Debug)]
pub struct Prelude {
    awaits: Awaits,
    hello: Asked,
    /// Received and not yet understood.
    bytes: Vec<u8>,
    /// So many of them were looked at before: nothing is read twice for one packet.
    looked: usize,
    told: Told,
}

/// Whether a listener asks for one part of a prelude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Header,
    Hello,
    Nothing,
}

/// What a prelude has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Who connected to the sender of the PROXY header, and where. `None` when it named nobody: then the
    /// connection's own addresses count.
    pub client: Option<(SocketAddr, SocketAddr)>,
    pub hello: Option<Hello>,
    authority: Option<Box<[u8]>>,
    alpn: Option<Box<[u8]>>,
    unique_id: Option<Box<[u8]>>,
}

impl Told {
    /// The name the client asked for: what we read ourselves counts more than what we were told.
    pub fn authority(&self) -> Option<&[u8]> {
        self.name().map(str::as_bytes).or(self.authority.as_deref())
    }

    /// The name of the ClientHello.
    pub fn name(&self) -> Option<&str> {
        self.hello.as_ref()?.name.as_deref()
    }

    /// The protocol that will be spoken, where it is sure. It is the backend's choice among those the client offers, so
    /// only a client that offers one has told it (PROXY protocol, 2.2.1: the protocol in use, not those on offer).
    pub fn alpn(&self) -> Option<&[u8]> {
        let mut offered = self.hello.iter().flat_map(|hello| hello.alpn());
        match (offered.next(), offered.next()) {
            (Some(only), None) => Some(only),
            (None | Some(_), _) => self.alpn.as_deref(),
        }
    }

    /// What the sender of the header calls the connection.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.unique_id.as_deref()
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be said yet.
    More,
    /// The header was read, and whom it names is in [`Prelude::told`]. Ask whether that client may be served before
    /// the next [`Prelude::step`].
    Introduced,
    Done,
    Refused(Refusal),
}

/// Why it comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub cause: Cause,
    pub detail: Option<Detail>,
}

impl Prelude {
    /// `None` where nothing has to come first.
    pub fn of(header: Asked, hello: Asked) -> Option<Self> {
        let awaits = match (header, hello) {
            (Asked::Yes, _) => Awaits::Header,
            (Asked::No, Asked::Yes) => Awaits::Hello,
            (Asked::No, Asked::No) => return None,
        };
        Some(Prelude { awaits, hello, bytes: Vec::new(), looked: 0, told: Told::default() })
    }

    /// Room for the next read, at least one byte while [`Prelude::step`] says that more is needed: what a client can
    /// make us hold is bounded by the longest ClientHello.
    pub fn room(&self) -> usize {
        (limits::CLIENT_HELLO.value as usize).saturating_sub(self.bytes.len()).max(1)
    }

    pub fn received(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Call until it says [`Step::More`], [`Step::Done`] or [`Step::Refused`].
    pub fn step(&mut self) -> Step {
        if self.awaits == Awaits::Nothing {
            return Step::Done;
        }
        if self.looked == self.bytes.len() {
            return Step::More;
        }
        self.looked = self.bytes.len();
        match self.awaits {
            Awaits::Header => self.read_header(),
            Awaits::Hello => self.read_hello(),
            Awaits::Nothing => Step::Done,
        }
    }

    /// The client has sent its last byte, and that was not enough.
    pub fn ended(&self) -> Refusal {
        let (cause, text) = match self.awaits {
            _ if self.bytes.is_empty() => return Refusal { cause: Cause::ClientAborted, detail: None },
            Awaits::Header => (Cause::ClientProxyHeaderInvalid, "ended in the middle of the header"),
            Awaits::Hello | Awaits::Nothing => (Cause::TlsHandshakeFailed, "ended in the middle of the ClientHello"),
        };
        Refusal { cause, detail: Some(Detail::Text(text)) }
    }

    pub fn timed_out(&self, timeout: Duration) -> Refusal {
        let cause = match self.awaits {
            Awaits::Header => Cause::ClientProxyHeaderInvalid,
            Awaits::Hello | Awaits::Nothing => Cause::TlsHandshakeFailed,
        };
        Refusal { cause, detail: Some(Detail::Timeout(timeout)) }
    }

    pub const fn phase(&self) -> Phase {
        match self.awaits {
            Awaits::Header | Awaits::Nothing => Phase::Accept,
            Awaits::Hello => Phase::Tls,
        }
    }

    /// What was told so far.
    pub const fn told(&self) -> &Told {
        &self.told
    }

    /// Bytes of the client that were received and not passed on.
    pub fn held(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What was told, and the bytes that go on to the backend.
    pub fn finish(self) -> (Told, Vec<u8>) {
        (self.told, self.bytes)
    }

    fn read_header(&mut self) -> Step {
        let (header, used) = match proxy::parse(&self.bytes) {
            proxy::Parsed::Partial => return Step::More,
            proxy::Parsed::Refused(rule) => return refused(Cause::ClientProxyHeaderInvalid, rule),
            proxy::Parsed::Whole(header, used) => (header, used),
        };
        self.told.client = header.client;
        self.told.authority = header.authority.map(Box::from);
        self.told.alpn = header.alpn.map(Box::from);
        self.told.unique_id = header.unique_id.map(Box::from);
        self.bytes.drain(..used);
        self.looked = 0;
        self.awaits = match self.hello {
            Asked::Yes => Awaits::Hello,
            Asked::No => Awaits::Nothing,
        };
        Step::Introduced
    }

    fn read_hello(&mut self) -> Step {
        match client_hello::parse(&self.bytes) {
            client_hello::Parsed::Partial => Step::More,
            client_hello::Parsed::Refused(rule) => refused(Cause::TlsHandshakeFailed, rule),
            client_hello::Parsed::Whole(hello) => {
                self.told.hello = Some(hello);
                self.awaits = Awaits::Nothing;
                Step::Done
            }
        }
    }
}

fn refused(cause: Cause, rule: &'static str) -> Step {
    Step::Refused(Refusal { cause, detail: Some(Detail::Text(rule)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

    /// The smallest ClientHello that says this much.
    fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
        let behind = |length: usize, bytes: &[u8]| -> Vec<u8> {
            let size = bytes.len().to_be_bytes();
            [&size[size.len() - length..], bytes].concat()
        };
        let name = behind(2, &[&[0][..], &behind(2, name.as_bytes())].concat());
        let mut extensions = [&[0, 0][..], &behind(2, &name)].concat();
        if !protocols.is_empty() {
            let list: Vec<u8> = protocols.iter().flat_map(|word| behind(1, word.as_bytes())).collect();
            extensions.extend([&[0, 16][..], &behind(2, &behind(2, &list))].concat());
        }
        let body = [&[3, 3][..], &[7; 32], &[0], &behind(2, &[0x13, 1]), &[1, 0], &behind(2, &extensions)].concat();
        [&[22, 3, 1][..], &behind(2, &[&[1][..], &behind(3, &body)].concat())].concat()
    }

    fn both() -> Prelude {
        Prelude::of(Asked::Yes, Asked::Yes).expect("both are asked for")
    }

    fn of_hello(bytes: &[u8]) -> Told {
        let mut prelude = Prelude::of(Asked::No, Asked::Yes).expect("a hello is asked for");
        prelude.received(bytes);
        assert_eq!(prelude.step(), Step::Done);
        prelude.finish().0
    }

    #[test]
    fn a_prelude_in_two_pieces_reads_as_in_one_wherever_it_is_cut() {
        let hello = hello("a.example", &["h2"]);
        let all = [V1, &hello, b"rest"].concat();
        for cut in 0..=all.len() {
            let mut prelude = both();
            let mut introduced = 0;
            for piece in [&all[..cut], &all[cut..]] {
                prelude.received(piece);
                while prelude.step() == Step::Introduced {
                    introduced += 1;
                }
            }
            assert_eq!((prelude.step(), introduced), (Step::Done, 1), "cut at {cut}");
            let (told, bytes) = prelude.finish();
            assert_eq!(bytes, [&hello, &b"rest"[..]].concat(), "cut at {cut}");
            let (client, local) = told.client.expect("the header names a client");
            assert_eq!((client.to_string(), local.to_string()), ("192.0.2.7:4711".into(), "198.51.100.1:443".into()));
            assert_eq!((told.name(), told.alpn()), (Some("a.example"), Some(&b"h2"[..])));
        }
    }

    #[test]
    fn nobody_is_served_before_the_one_the_header_names_was_asked_about() {
        let mut prelude = both();
        prelude.received(&[V1, &hello("a.example", &[])].concat());
        assert_eq!(prelude.step(), Step::Introduced);
        assert!(prelude.told().client.is_some());
        assert_eq!(prelude.step(), Step::Done);
    }

    #[test]
    fn a_protocol_is_told_only_where_the_client_offers_no_other() {
        assert_eq!(of_hello(&hello("a.example", &["imap"])).alpn(), Some(&b"imap"[..]));
        assert_eq!(of_hello(&hello("a.example", &["h2", "http/1.1"])).alpn(), None);
        assert_eq!(of_hello(&hello("a.example", &[])).alpn(), None);
    }

    #[test]
    fn what_does_not_begin_as_it_must_is_refused_at_once_and_by_its_name() {
        let http = b"GET / HTTP/1.1\r\n\r\n";
        let table = [
            (Prelude::of(Asked::Yes, Asked::No), &http[..], Cause::ClientProxyHeaderInvalid, Phase::Accept),
            (Prelude::of(Asked::Yes, Asked::Yes), &[22, 3, 1], Cause::ClientProxyHeaderInvalid, Phase::Accept),
            (Prelude::of(Asked::No, Asked::Yes), http, Cause::TlsHandshakeFailed, Phase::Tls),
            (Prelude::of(Asked::No, Asked::Yes), V1, Cause::TlsHandshakeFailed, Phase::Tls),
        ];
        for (prelude, bytes, expected, phase) in table {
            let mut prelude = prelude.expect("something is asked for");
            prelude.received(bytes);
            let step = prelude.step();
            assert!(
                matches!(&step, Step::Refused(Refusal { cause, detail: Some(Detail::Text(_)) }) if *cause == expected),
                "{expected:?}: {step:?}"
            );
            assert_eq!(prelude.phase(), phase);
        }
    }

    #[test]
    fn an_end_and_a_timeout_name_what_was_awaited() {
        let text = |refusal: Refusal| (refusal.cause, refusal.detail.is_some());
        let mut prelude = both();
        assert_eq!(text(prelude.ended()), (Cause::ClientAborted, false), "who says nothing has done nothing wrong");
        prelude.received(&V1[..5]);
        assert_eq!(prelude.step(), Step::More);
        assert_eq!(text(prelude.ended()), (Cause::ClientProxyHeaderInvalid, true));
        let late = prelude.timed_out(Duration::from_secs(3));
        assert_eq!(late.cause, Cause::ClientProxyHeaderInvalid);
        assert_eq!(late.detail, Some(Detail::Timeout(Duration::from_secs(3))));
        prelude.received(&V1[5..]);
        assert_eq!(prelude.step(), Step::Introduced);
        assert_eq!(prelude.ended().cause, Cause::ClientAborted);
        prelude.received(&[22]);
        assert_eq!(prelude.step(), Step::More);
        assert_eq!(prelude.ended().cause, Cause::TlsHandshakeFailed);
        assert_eq!(prelude.timed_out(Duration::ZERO).cause, Cause::TlsHandshakeFailed);
    }

    #[test]
    fn a_client_that_never_comes_to_an_end_is_refused_before_it_holds_much() {
        // A record of 16 KiB after the other, all of one endless ClientHello.
        let record = [&[22, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff], &[0; 16_380]].concat();
        let mut prelude = Prelude::of(Asked::No, Asked::Yes).expect("a hello is asked for");
        let mut stream = record.iter().cycle();
        loop {
            let room = prelude.room().min(1000);
            assert!(room > 0);
            let piece: Vec<u8> = stream.by_ref().take(room).copied().collect();
            prelude.received(&piece);
            match prelude.step() {
                Step::More => assert!(prelude.held() < limits::CLIENT_HELLO.value),
                Step::Refused(refusal) => {
                    assert_eq!(refusal.cause, Cause::TlsHandshakeFailed);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
