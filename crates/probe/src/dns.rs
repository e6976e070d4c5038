//! The dns probe: one question over UDP, passed by an answer with an accepted code, and where the check says so with an
//! accepted address.
//!
//! Of the answer only this much is read: the header, our question in it, and the addresses among its answers. A library would
//! read every record, and then an odd one that nobody asked about, of a type it knows too well, would fail a server whose
//! clients are content. For the same reason a truncated answer counts: it has a code, and that is what was asked for.
//!
//! The socket is connected, so the kernel hands us only datagrams of the backend. One that is no answer to this question is
//! passed over, as any resolver would; if nothing better comes, the timeout names it.

use std::net::IpAddr;

use evenkeel_health::settings::{DnsProbe, Record};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Void};
use evenkeel_reactor::errno;

use crate::failure;
use crate::machine::Fact;

#[derive(Debug)]
pub struct Dns {
    id: u16,
    message: Vec<u8>,
    codes: Vec<u16>,
    addresses: Vec<IpAddr>,
    sent: bool,
    /// What was wrong with the last datagram that was passed over.
    passed_over: Option<&'static str>,
}

/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// QR, first bit of the flags: this is an answer.
const ANSWER: u8 = 0x80;

impl Dns {
    /// `id` tells the answers to this question from those to others.
    pub fn new(settings: &DnsProbe, id: u16) -> Self {
        Dns {
            id,
            message: message(settings, id),
            codes: settings.expect_codes.clone(),
            addresses: settings.expect_addresses.clone(),
            sent: false,
            passed_over: None,
        }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            // Connecting a UDP socket only names the other side; nothing has been heard of it.
            Fact::Connected | Fact::Ended => None,
            Fact::Received(datagram) => match self.answer(datagram) {
                Ok(answer) => Some(self.judge(&answer)),
                Err(why) => {
                    self.passed_over = Some(why);
                    None
                }
            },
            Fact::Failed(errno) => Some(failure::failed(self.phase(), errno)),
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        match (self.sent, self.passed_over) {
            // A fresh socket that takes no datagram for a whole timeout is our kernel's doing.
            (false, _) => ProbeResult::Void(Void::NoResources { errno: errno::ENOBUFS.0 }),
            (true, None) => failed(FailureReason::TimedOut),
            (true, Some(why)) => failed(FailureReason::NotDns { why }),
        }
    }

    pub fn phase(&self) -> ProbePhase {
        if self.sent { ProbePhase::Read } else { ProbePhase::Write }
    }

    pub fn to_send(&self) -> &[u8] {
        &self.message
    }

    /// Datagrams go whole or not at all.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// The answer to our question in this datagram, or why it is none.
    fn answer<'a>(&self, datagram: &'a [u8]) -> Result<Answer<'a>, &'static str> {
        let Some((header, rest)) = datagram.split_at_checked(HEADER) else { return Err("it is shorter than a header") };
        if header[2] & ANSWER == 0 {
            return Err("it is a question");
        }
        if number(header, 0) != self.id {
            return Err("it answers another question (id)");
        }
        let code = u16::from(header[3] & 0x0f);
        let asked = &self.message[HEADER..];
        let records = match number(header, 4) {
            // A server that cannot read a question need not repeat it (RFC 1035 §4.1.1 names FORMERR for that).
            0 if code != 0 => rest,
            1 => match rest.split_at_checked(asked.len()) {
                Some((question, records)) if question.eq_ignore_ascii_case(asked) => records,
                _ => return Err("it answers another question"),
            },
            _ => return Err("it answers another question"),
        };
        Ok(Answer { code, count: number(header, 6), records })
    }

    fn judge(&self, answer: &Answer<'_>) -> ProbeResult {
        let Answer { code, count: answers, .. } = *answer;
        if !self.codes.contains(&code) {
            return failed(FailureReason::DnsCode { got: code });
        }
        if !self.addresses.is_empty() && !answer.addresses().any(|address| self.addresses.contains(&address)) {
            return failed(FailureReason::DnsAddresses { answers });
        }
        ProbeResult::Passed(Pass::Dns { code, answers })
    }
}

struct Answer<'a> {
    code: u16,
    /// Records the answer section is said to hold.
    count: u16,
    /// They, and what follows them.
    records: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The addresses in the answer section, as far as it can be read.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + 'a {
        let mut rest = self.records;
        let records = (0..self.count).map_while(move |_| record(&mut rest));
        records.filter_map(|(kind, class, data)| match (kind, class) {
            (A, IN) => Some(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            (AAAA, IN) => Some(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            _ => None,
        })
    }
}

const IN: u16 = 1;
const A: u16 = 1;
const AAAA: u16 = 28;

/// Takes one record: its type, class and data (RFC 1035 §4.1.3).
fn record<'a>(rest: &mut &'a [u8]) -> Option<(u16, u16, &'a [u8])> {
    let (fixed, behind) = behind_name(rest)?.split_at_checked(10)?;
    let (data, behind) = behind.split_at_checked(number(fixed, 8).into())?;
    *rest = behind;
    Some((number(fixed, 0), number(fixed, 2), data))
}

/// What follows a name. Where a name goes on by a pointer is of no interest here.
fn behind_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            1..=63 => bytes = rest.get(length.into()..)?,
            0xc0..=0xff => return rest.get(1..),
            _ => return None,
        }
    }
}

/// The two bytes at `at`, which are there.
fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// One question with recursion desired, as resolvers and their clients ask it.
fn message(settings: &DnsProbe, id: u16) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + settings.name.len() + 6);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in settings.name.split('.').filter(|label| !label.is_empty()) {
        // Config takes names that DNS has room for: labels of at most 63 bytes.
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&number_of(settings.record).to_be_bytes());
    message.extend_from_slice(&IN.to_be_bytes());
    message
}

/// By the IANA registry.
const fn number_of(record: Record) -> u16 {
    match record {
        Record::A => A,
        Record::Ns => 2,
        Record::Soa => 6,
        Record::Mx => 15,
        Record::Txt => 16,
        Record::Aaaa => AAAA,
        Record::Srv => 33,
    }
}

fn failed(reason: FailureReason) -> ProbeResult {
    ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u16 = 0xbeef;

    fn settings() -> DnsProbe {
        DnsProbe {
            name: "Example.com".to_owned(),
            record: Record::A,
            expect_codes: vec![0],
            expect_addresses: Vec::new(),
        }
    }

    fn asked(settings: &DnsProbe) -> Dns {
        let mut dns = Dns::new(settings, ID);
        dns.sent();
        dns
    }

    fn question() -> Vec<u8> {
        b"\x07example\x03com\x00\x00\x01\x00\x01".to_vec()
    }

    /// An answer to our question: its second byte of flags (RA and the code) and its records.
    fn answer(flags: u8, count: u8, records: &[u8]) -> Vec<u8> {
        let header = [0xbe, 0xef, 0x81, flags, 0, 1, 0, count, 0, 0, 0, 0];
        [&header[..], &question(), records].concat()
    }

    /// A CNAME and the address behind it, both named by a pointer.
    fn records() -> Vec<u8> {
        let alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03www\xc0\x0c";
        let address = b"\xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07";
        [&alias[..], &address[..]].concat()
    }

    fn passed(code: u16, answers: u16) -> Option<ProbeResult> {
        Some(ProbeResult::Passed(Pass::Dns { code, answers }))
    }

    #[test]
    fn the_question_is_what_a_resolver_would_ask() {
        let dns = Dns::new(&settings(), ID);
        let expected = b"\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07Example\x03com\x00\x00\x01\x00\x01";
        assert_eq!(dns.to_send(), expected);
        let root = DnsProbe { name: ".".to_owned(), record: Record::Soa, ..settings() };
        assert_eq!(&Dns::new(&root, ID).to_send()[HEADER..], b"\x00\x00\x06\x00\x01");
        let dotted = DnsProbe { name: "a.".to_owned(), record: Record::Srv, ..settings() };
        assert_eq!(&Dns::new(&dotted, ID).to_send()[HEADER..], b"\x01a\x00\x00\x21\x00\x01");
    }

    #[test]
    fn the_code_of_the_answer_decides() {
        let codes = |codes: &[u16]| DnsProbe { expect_codes: codes.to_vec(), ..settings() };
        let code = |got| Some(failed(FailureReason::DnsCode { got }));
        let truncated = {
            let mut answer = answer(0x80, 9, b"\xc0");
            answer[2] |= 0x02;
            answer
        };
        let table = [
            (codes(&[0]), answer(0x80, 2, &records()), passed(0, 2)),
            (codes(&[0]), answer(0, 0, b""), passed(0, 0)),
            (codes(&[0]), answer(0x82, 0, b""), code(2)),
            (codes(&[0]), answer(0x83, 0, b""), code(3)),
            (codes(&[0, 3]), answer(0x83, 0, b""), passed(3, 0)),
            (codes(&[3]), answer(0x80, 2, &records()), code(0)),
            (codes(&[0]), truncated, passed(0, 9)),
            // A server that could not read the question leaves it out.
            (codes(&[0]), b"\xbe\xef\x80\x01\0\0\0\0\0\0\0\0".to_vec(), code(1)),
        ];
        for (settings, datagram, expected) in table {
            let result = asked(&settings).handle(Fact::Received(&datagram));
            assert_eq!(result, expected, "{}", datagram.escape_ascii());
        }
    }

    #[test]
    fn an_expected_address_may_stand_behind_others() {
        let addresses = |addresses: &[&str]| DnsProbe {
            expect_addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            ..settings()
        };
        let six = b"\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
        let both = [&six[..], &records()].concat();
        let none = |answers| Some(failed(FailureReason::DnsAddresses { answers }));
        let table = [
            (addresses(&["10.0.0.7"]), answer(0x80, 2, &records()), passed(0, 2)),
            (addresses(&["10.0.0.8", "10.0.0.7"]), answer(0x80, 2, &records()), passed(0, 2)),
            (addresses(&["10.0.0.8"]), answer(0x80, 2, &records()), none(2)),
            (addresses(&["2001:db8::1"]), answer(0x80, 3, &both), passed(0, 3)),
            (addresses(&["10.0.0.7"]), answer(0x80, 3, &both), passed(0, 3)),
            (addresses(&["10.0.0.7"]), answer(0x80, 0, b""), none(0)),
            // Behind the answers stand other sections, and what they hold is no answer.
            (addresses(&["10.0.0.7"]), answer(0x80, 1, &records()), none(1)),
        ];
        for (settings, datagram, expected) in table {
            let result = asked(&settings).handle(Fact::Received(&datagram));
            assert_eq!(result, expected, "{:?}", settings.expect_addresses);
        }
    }

    #[test]
    fn what_is_no_answer_to_this_question_is_passed_over_and_named_when_time_is_up() {
        let other_id = [b"\xbe\xee", &answer(0x80, 0, b"")[2..]].concat();
        let other_question = {
            let mut answer = answer(0x80, 0, b"");
            answer[HEADER + 1] = b'X';
            answer
        };
        let silent_about_it = b"\xbe\xef\x80\x00\0\0\0\0\0\0\0\0".to_vec();
        let echo = Dns::new(&settings(), ID).to_send().to_vec();
        let table = [
            (other_id, "it answers another question (id)"),
            (other_question, "it answers another question"),
            (silent_about_it, "it answers another question"),
            (echo, "it is a question"),
            (b"pong".to_vec(), "it is shorter than a header"),
        ];
        let mut dns = asked(&settings());
        assert_eq!(dns.handle_deadline(), failed(FailureReason::TimedOut));
        for (datagram, why) in table {
            assert_eq!(dns.handle(Fact::Received(&datagram)), None, "{why}");
            assert_eq!(dns.handle_deadline(), failed(FailureReason::NotDns { why }));
        }
        assert_eq!(dns.handle(Fact::Received(&answer(0x80, 2, &records()))), passed(0, 2));
    }

    #[test]
    fn an_answer_cut_anywhere_is_none_or_has_no_address() {
        let wanting = DnsProbe { expect_addresses: vec![IpAddr::from([10, 0, 0, 7])], ..settings() };
        let whole = answer(0x80, 2, &records());
        assert_eq!(asked(&wanting).handle(Fact::Received(&whole)), passed(0, 2));
        for cut in 0..whole.len() {
            let result = asked(&wanting).handle(Fact::Received(&whole[..cut]));
            let head = HEADER + question().len();
            let expected = (cut >= head).then(|| failed(FailureReason::DnsAddresses { answers: 2 }));
            assert_eq!(result, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_refusal_and_our_own_shortage_are_told_apart() {
        let mut dns = asked(&settings());
        assert_eq!(dns.handle(Fact::Failed(errno::ECONNREFUSED)), Some(failed(FailureReason::Refused)));
        let unsent = Dns::new(&settings(), ID);
        assert_eq!(unsent.handle_deadline(), ProbeResult::Void(Void::NoResources { errno: 105 }));
    }
}
