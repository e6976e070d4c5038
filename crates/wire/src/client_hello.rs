//! What a TLS client asks for in its first message: a name and protocols, read without answering.
//!
//! Answers where such a connection wants to go, or that what came is no ClientHello. It is read more strictly than
//! routing needs: whoever ends the TLS behind us must not find another name in the same bytes. Nothing is kept and
//! nothing changed: the bytes go on as they came, whatever was read.
//!
//! A ClientHello may lie in several records, and records in any packets (RFC 8446 section 5.1), so the handshake's bytes
//! are gathered first and read when they are whole. Bytes are looked at from left to right: pieces change no result.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use evenkeel_model::limits;

/// How far a ClientHello could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Nothing wrong so far; call again with more input behind the same bytes.
    Partial,
    /// The broken rule. More input cannot make it right.
    Refused(&'static str),
    Whole(Hello),
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// In lower case, without a final dot. `None` when the client named no host, or an IP address, which is no name
    /// (RFC 6066 section 3).
    pub name: Option<Box<str>>,
    /// As they stand in the extension: each behind its length.
    protocols: Box<[u8]>,
}

impl Hello {
    /// The protocols the client offers (ALPN), the one it likes best first.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = Reader { bytes: &self.protocols };
        std::iter::from_fn(move || rest.vector_8())
    }
}

/// Largest record of plain text (RFC 8446 section 5.1).
const RECORD_MAX: usize = 1 << 14;

/// Kind and length of a handshake message.
const HEAD: usize = 4;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

const TOO_LONG: &str = "ClientHello longer than 65536 bytes";
const WRONG_LENGTHS: &str = "ClientHello whose lengths do not fit (RFC 8446 4.1.2)";

/// Reads the ClientHello at the front of `bytes`, which is everything the client sent so far.
pub fn parse(bytes: &[u8]) -> Parsed {
    let longest = limits::CLIENT_HELLO.value as usize;
    match message(&bytes[..bytes.len().min(longest)]) {
        Ok(Some(message)) => match hello(&message) {
            Ok(hello) => Parsed::Whole(hello),
            Err(fault) => Parsed::Refused(fault),
        },
        Ok(None) if bytes.len() >= longest => Parsed::Refused(TOO_LONG),
        Ok(None) => Parsed::Partial,
        Err(fault) => Parsed::Refused(fault),
    }
}

/// What is behind the head of the handshake message, gathered from its records; `None`: not all of it is there.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, &'static str> {
    let mut head = [0; HEAD];
    let (mut seen, mut records, mut rest) = (0, 0, bytes);
    while let Some((fragment, behind)) = record(rest)? {
        records += 1;
        if records > limits::CLIENT_HELLO_RECORDS.value {
            return Err("ClientHello in more than 1024 records");
        }
        let of_head = &mut head[seen.min(HEAD)..];
        of_head.iter_mut().zip(fragment).for_each(|(to, byte)| *to = *byte);
        seen += fragment.len();
        let [kind, length @ ..] = head;
        if seen > 0 && kind != CLIENT_HELLO {
            return Err("another handshake message instead of a ClientHello (RFC 8446 4)");
        }
        if seen >= HEAD {
            let whole = HEAD + length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            if whole > limits::CLIENT_HELLO.value as usize {
                return Err(TOO_LONG);
            }
            if seen >= whole {
                return Ok(Some(if records == 1 {
                    Cow::Borrowed(&fragment[HEAD..whole])
                } else {
                    Cow::Owned(gathered(bytes, whole).split_off(HEAD))
                }));
            }
        }
        rest = behind;
    }
    Ok(None)
}

/// The first `whole` bytes of what lies in the records.
fn gathered(bytes: &[u8], whole: usize) -> Vec<u8> {
    let (mut gathered, mut rest) = (Vec::with_capacity(whole), bytes);
    while let Ok(Some((fragment, behind))) = record(rest) {
        gathered.extend_from_slice(&fragment[..fragment.len().min(whole - gathered.len())]);
        rest = behind;
    }
    gathered
}

/// As much of a record's fragment as is there, and what is behind it.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The first record; `None`: not even all of its head is there.
fn record(bytes: &[u8]) -> Result<Option<Record<'_>>, &'static str> {
    match bytes.first() {
        None => return Ok(None),
        Some(&HANDSHAKE) => {}
        Some(&other) => return Err(strange(other)),
    }
    // RFC 8446 section 5.1: the version of a record is to be ignored. Its first byte has been 3 since SSL 3.0.
    if bytes.get(1).is_some_and(|&major| major != 3) {
        return Err("not TLS: a record of an unknown version (RFC 8446 5.1)");
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err("ClientHello with an empty record (RFC 8446 5.1)"),
        length if length > RECORD_MAX => Err("TLS record longer than 16384 bytes (RFC 8446 5.1)"),
        length => Ok(Some(rest.split_at(length.min(rest.len())))),
    }
}

/// What begins like this, in the words of the mistake it usually is.
#[cold]
fn strange(first: u8) -> &'static str {
    match first {
        20 | 23 | 24 => "another TLS record instead of a ClientHello (RFC 8446 5.1)",
        21 => "a TLS alert instead of a ClientHello (RFC 8446 6)",
        b' '..=b'~' => "not TLS: begins with plain text, such as http",
        128.. => "not TLS: begins like a hello of SSL 2.0, or with random bytes (RFC 6176)",
        _ => "not TLS: no record begins like this (RFC 8446 5.1)",
    }
}

fn hello(message: &[u8]) -> Result<Hello, &'static str> {
    let extensions = extensions(message).ok_or(WRONG_LENGTHS)?;
    let mut kinds: Vec<u16> = Vec::new();
    let mut hello = Hello::default();
    let mut rest = Reader { bytes: extensions };
    while !rest.bytes.is_empty() {
        let kind = rest.number().ok_or(WRONG_LENGTHS)?;
        let extension = rest.vector_16().ok_or(WRONG_LENGTHS)?;
        kinds.push(kind);
        match kind {
            SERVER_NAME => hello.name = server_name(extension)?,
            ALPN => hello.protocols = protocols(extension)?.into(),
            _ => {}
        }
    }
    // Clients send about twenty; sorting keeps somebody's sixteen thousand cheap as well.
    kinds.sort_unstable();
    if kinds.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("ClientHello with an extension twice (RFC 8446 4.2)");
    }
    Ok(hello)
}

/// The bytes of all extensions; empty where a client older than TLS 1.2 ends before them.
fn extensions(message: &[u8]) -> Option<&[u8]> {
    let mut rest = Reader { bytes: message };
    // Version and random.
    rest.take(2 + 32)?;
    rest.vector_8().filter(|session_id| session_id.len() <= 32)?;
    rest.vector_16().filter(|suites| !suites.is_empty() && suites.len().is_multiple_of(2))?;
    rest.vector_8().filter(|compressions| !compressions.is_empty())?;
    if rest.bytes.is_empty() {
        return Some(&[]);
    }
    rest.vector_16().filter(|_| rest.bytes.is_empty())
}

/// RFC 6066 section 3.
fn server_name(extension: &[u8]) -> Result<Option<Box<str>>, &'static str> {
    const WRONG: &str = "ClientHello without exactly one host name in its server name (RFC 6066 3)";
    let mut rest = Reader { bytes: extension };
    let mut list = Reader { bytes: rest.vector_16().filter(|_| rest.bytes.is_empty()).ok_or(WRONG)? };
    // No other kind of name was ever defined, so behind one nobody can say where the next begins.
    list.take(1).filter(|kind| *kind == [0]).ok_or(WRONG)?;
    let name = list.vector_16().filter(|_| list.bytes.is_empty()).ok_or(WRONG)?;
    let name = std::str::from_utf8(name).map_err(|_| NO_NAME)?;
    if name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok() {
        return Ok(None);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if !is_name(name) {
        return Err(NO_NAME);
    }
    Ok(Some(name.to_ascii_lowercase().into()))
}

const NO_NAME: &str = "ClientHello with a server name that is none in DNS (RFC 6066 3)";

/// As strict as `host_fault`, and as lenient: container networks are full of underscores.
fn is_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            matches!(label.len(), 1..=63)
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

/// The list itself, once all its lengths are known to fit (RFC 7301 section 3.1).
fn protocols(extension: &[u8]) -> Result<&[u8], &'static str> {
    const WRONG: &str = "ClientHello with a broken list of protocols (RFC 7301 3.1)";
    let mut rest = Reader { bytes: extension };
    let list = rest.vector_16().filter(|list| !list.is_empty() && rest.bytes.is_empty()).ok_or(WRONG)?;
    let mut names = Reader { bytes: list };
    while !names.bytes.is_empty() {
        names.vector_8().filter(|name| !name.is_empty()).ok_or(WRONG)?;
    }
    Ok(list)
}

/// Takes from the front; `None` when there is less than is asked for.
#[derive(Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What is behind a length of one byte.
    fn vector_8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    /// What is behind a length of two bytes.
    fn vector_16(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}
