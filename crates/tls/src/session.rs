//! One TLS session without a socket: bytes of the network in, plain bytes out, and the other way round.
//!
//! The owner of the socket reads into a buffer of its own and calls [`Session::receive`]: whole records are decrypted where
//! they lie and copied once, behind what the caller has already. Only a record that is not whole yet is kept. What is to go
//! out collects in [`Session::output`]; data, tickets, alerts and the goodbye come one behind the other there, so a response
//! and its end leave in one write.
//!
//! Nothing here knows about time: a handshake that takes too long is its owner's to end.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion};

use evenkeel_model::limits;

use crate::choice::{self, Choice};
use crate::client::Client;
use crate::established::{Established, Heard};
use crate::failed::{Failed, not_tls, words};
use crate::handshake::{self, Handshake};
use crate::outgoing::{Outgoing, empty};
use crate::policy::suite_name;
use crate::records::{Frame, HEADER, OVERHEAD, RECORD, RECORD_SEALED, frame};
use crate::server::Server;

pub struct Session {
    pub(crate) stage: Stage,
    out: Outgoing,
    /// Received, and not to be understood without what comes next.
    kept: Vec<u8>,
    /// How many of those the handshake has seen already.
    held: usize,
    /// Plain bytes that wait for the end of the handshake.
    early: Vec<u8>,
    /// Whether something has been understood as TLS.
    begun: bool,
    closing: bool,
    closed: bool,
    failed: Option<Failed>,
    /// Whether the certificates of the other side are of use after the handshake.
    keeps_certificates: bool,
    agreed: Agreed,
}

pub(crate) enum Stage {
    Handshake { handshake: Handshake, choice: Option<Arc<Choice>> },
    Established(Box<Established>),
    Over,
}

/// What both sides agreed on, known when the handshake is done. The name is known before.
#[derive(Default)]
struct Agreed {
    sni: Option<Box<str>>,
    alpn: Option<Box<[u8]>>,
    version: Option<ProtocolVersion>,
    suite: Option<&'static str>,
    resumed: bool,
    certificates: Option<Box<[CertificateDer<'static>]>>,
}

/// What a call to [`Session::receive`] brought besides bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The handshake has just ended.
    pub established: bool,
    /// The other side has said that it sends no more. What was received before is complete.
    pub closed: bool,
}

impl Session {
    /// A session with a client that has just connected.
    pub fn server(settings: &Server) -> Result<Self, Failed> {
        let connection =
            UnbufferedServerConnection::new(settings.config.clone()).map_err(|error| Failed::new(words(&error)))?;
        Ok(Session::new(Handshake::Server(Box::new(connection)), Some(settings.choice.clone())))
    }

    /// A session with the backend at `address`; its hello is in [`Session::output`] already.
    pub fn client(settings: &Client, address: IpAddr) -> Result<Self, Failed> {
        let name = settings.name.clone().unwrap_or_else(|| ServerName::IpAddress(address.into()));
        let failed = |error| Failed::new(words(&error));
        let connection = UnbufferedClientConnection::new(settings.config.clone(), name).map_err(failed)?;
        let mut session = Session::new(Handshake::Client(Box::new(connection)), None);
        session.keeps_certificates = settings.keeps_certificates;
        if let Stage::Handshake { handshake, .. } = &mut session.stage {
            handshake.start(session.out.end()).map_err(failed)?;
        }
        Ok(session)
    }

    fn new(handshake: Handshake, choice: Option<Arc<Choice>>) -> Self {
        // A backend's are checked and of no more use to traffic; thousands of kept connections need not hold them.
        let keeps_certificates = matches!(handshake, Handshake::Server(_));
        Session {
            stage: Stage::Handshake { handshake, choice },
            out: Outgoing::default(),
            kept: Vec::new(),
            held: 0,
            early: Vec::new(),
            begun: false,
            closing: false,
            closed: false,
            failed: None,
            keeps_certificates,
            agreed: Agreed::default(),
        }
    }

    /// Takes all of `bytes`, which it decrypts in place, and appends what they said to `plain`.
    ///
    /// After an error the session is over: send what is in [`Session::output`], then close the socket. What was appended
    /// before the error was received rightly. Bytes behind the other side's goodbye are ignored.
    pub fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<Progress, Failed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let was_handshaking = self.is_handshaking();
        let was_closed = self.closed;
        let mut rest = bytes;
        while !rest.is_empty() && !self.closed {
            if self.kept.is_empty() {
                self.judge_first(rest.first_chunk().copied())?;
                let taken = self.read(rest, 0, plain)?;
                // Everything that is whole has been read; the front of a record stays, and of a message its records.
                if !self.closed {
                    self.kept.extend_from_slice(&rest[taken..]);
                    self.judge_kept()?;
                }
                break;
            }
            // Make the last record whole and no more, so that what lies behind it can be read where it is.
            let longest = self.longest_record();
            let wanted = match frame(&self.kept[self.held..], longest) {
                Frame::Partial(missing) => missing.min(rest.len()),
                Frame::Whole(_) | Frame::TooLong => 0,
            };
            let (front, behind) = rest.split_at_mut(wanted);
            self.kept.extend_from_slice(front);
            rest = behind;
            self.judge_first(self.kept.first_chunk().copied())?;
            if let Frame::Partial(_) = frame(&self.kept[self.held..], longest) {
                continue;
            }
            let mut kept = std::mem::take(&mut self.kept);
            let taken = self.read(&mut kept, self.held, plain)?;
            kept.drain(..taken);
            if kept.is_empty() {
                empty(&mut kept);
            }
            self.kept = kept;
            self.judge_kept()?;
        }
        if self.closed {
            self.kept = Vec::new();
        }
        let established = was_handshaking && !self.is_handshaking();
        Ok(Progress { established, closed: self.closed && !was_closed })
    }

    /// The records of a handshake message that is not whole are kept, but not for ever.
    fn judge_kept(&mut self) -> Result<(), Failed> {
        match self.kept.len() as u64 > limits::TLS_HANDSHAKE.value + RECORD_SEALED as u64 {
            true => Err(self.fail(Failed::new("handshake message too long"))),
            false => Ok(()),
        }
    }

    fn longest_record(&self) -> usize {
        match self.stage {
            Stage::Handshake { .. } => handshake::RECORD_SEALED,
            Stage::Established(_) | Stage::Over => RECORD_SEALED,
        }
    }

    /// Reads the whole records at the front; says how many bytes are not needed again.
    fn read(&mut self, bytes: &mut [u8], held: usize, plain: &mut Vec<u8>) -> Result<usize, Failed> {
        let mut at = 0;
        if self.is_handshaking() {
            at = self.read_handshake(bytes, held)?;
            if self.is_handshaking() {
                return Ok(at);
            }
        }
        let Stage::Established(established) = &mut self.stage else { return Ok(bytes.len()) };
        plain.reserve(bytes.len() - at);
        while !self.closed {
            let refused = match frame(&bytes[at..], RECORD_SEALED) {
                Frame::Partial(_) => break,
                Frame::Whole(length) => {
                    let record = &mut bytes[at..at + length];
                    at += length;
                    match established.read(record, plain, self.out.end()) {
                        Ok(Heard::Nothing) => continue,
                        Ok(Heard::Close) => {
                            self.closed = true;
                            continue;
                        }
                        Err(refused) => (refused.alert, refused.detail),
                    }
                }
                Frame::TooLong => (Some(AlertDescription::RecordOverflow), "record too long"),
            };
            let failed = Failed::new(refused.1);
            return Err(match refused.0 {
                Some(alert) => self.refuse(alert, failed),
                None => self.fail(failed),
            });
        }
        Ok(at)
    }

    /// Whether it is TLS at all is known after five bytes. What looks like the length of a first record may be anything.
    fn judge_first(&mut self, first: Option<[u8; HEADER]>) -> Result<(), Failed> {
        let Some(first) = first.filter(|_| !self.begun) else { return Ok(()) };
        self.begun = true;
        match not_tls(&first) {
            None => Ok(()),
            Some(failed) => Err(self.fail(failed)),
        }
    }

    fn read_handshake(&mut self, bytes: &mut [u8], held: usize) -> Result<usize, Failed> {
        let Stage::Handshake { handshake, choice } = &mut self.stage else { return Ok(0) };
        choice::take_asked();
        let before = self.out.end().len();
        let eaten = handshake.read(bytes, held, self.out.end());
        if let Some(asked) = choice::take_asked() {
            self.agreed.sni = Some(asked);
        }
        match eaten {
            Ok(eaten) => {
                self.held = eaten.held;
                if eaten.done {
                    self.establish()?;
                }
                Ok(eaten.taken)
            }
            Err(error) => {
                let sni = self.agreed.sni.as_deref();
                let unknown_name = choice.as_ref().zip(sni).is_some_and(|(choice, sni)| !choice.covers(sni));
                if unknown_name {
                    // rustls says access_denied here, which browsers show as just that.
                    self.out.end().truncate(before);
                    self.out.end().extend_from_slice(&UNRECOGNIZED_NAME);
                } else {
                    handshake.last_words(self.out.end());
                }
                let detail = if unknown_name { "no certificate bears this name" } else { words(&error) };
                Err(self.fail(Failed { unknown_name, ..Failed::new(detail) }))
            }
        }
    }

    fn establish(&mut self) -> Result<(), Failed> {
        let Stage::Handshake { handshake, .. } = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        let common = handshake.common();
        self.agreed.alpn = common.alpn_protocol().map(Box::from);
        self.agreed.version = common.protocol_version();
        self.agreed.suite = common.negotiated_cipher_suite().and_then(suite_name);
        self.agreed.resumed = common.handshake_kind() == Some(HandshakeKind::Resumed);
        if self.keeps_certificates {
            self.agreed.certificates = common.peer_certificates().map(Box::from);
        }
        match handshake.finish() {
            Ok(established) => self.stage = Stage::Established(Box::new(established)),
            Err(error) => return Err(self.fail(Failed::new(words(&error)))),
        }
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            self.seal(&early)?;
        }
        if self.closing {
            self.say_goodbye();
        }
        Ok(())
    }

    /// Seals `plain` behind what is in the output. Before the handshake is done it waits for its end. After [`Session::close`]
    /// nothing is added.
    pub fn send(&mut self, plain: &[u8]) -> Result<(), Failed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if self.closing {
            return Ok(());
        }
        if self.is_handshaking() {
            self.early.extend_from_slice(plain);
            return Ok(());
        }
        self.seal(plain)
    }

    fn seal(&mut self, plain: &[u8]) -> Result<(), Failed> {
        let Stage::Established(established) = &mut self.stage else { return Ok(()) };
        let records = plain.len().div_ceil(RECORD);
        self.out.end().reserve(plain.len() + records * OVERHEAD);
        match established.write(plain, self.out.end()) {
            Ok(()) => Ok(()),
            Err(refused) => {
                self.say_goodbye();
                Err(self.fail(Failed::new(refused.detail)))
            }
        }
    }

    /// Says goodbye behind what is in the output: nothing more comes from us. What the other side still sends is received
    /// as before. Within a handshake the goodbye waits for its end.
    pub fn close(&mut self) {
        if self.closing || self.failed.is_some() {
            return;
        }
        self.closing = true;
        self.say_goodbye();
    }

    fn say_goodbye(&mut self) {
        if let Stage::Established(established) = &mut self.stage {
            established.close(self.out.end());
        }
    }

    fn refuse(&mut self, alert: AlertDescription, failed: Failed) -> Failed {
        // After our goodbye nothing may follow, RFC 8446 6.1.
        if let (Stage::Established(established), false) = (&mut self.stage, self.closing) {
            established.alert(alert, self.out.end());
        }
        self.fail(failed)
    }

    fn fail(&mut self, failed: Failed) -> Failed {
        let failed = Failed { sni: self.agreed.sni.clone(), ..failed };
        self.stage = Stage::Over;
        self.kept = Vec::new();
        self.early = Vec::new();
        self.failed = Some(failed.clone());
        failed
    }

    /// What is to be written to the socket.
    pub fn output(&self) -> &[u8] {
        self.out.bytes()
    }

    /// So many bytes of the output have been written.
    pub fn sent(&mut self, count: usize) {
        self.out.sent(count);
    }

    pub fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::Handshake { .. })
    }

    /// Whether the other side has said that it sends no more. A connection that ends without that may have been cut.
    pub fn has_closed(&self) -> bool {
        self.closed
    }

    /// Bytes of buffers this session has now, beside the few hundred of its state.
    pub fn memory(&self) -> usize {
        let stage = match &self.stage {
            Stage::Established(established) => established.memory(),
            Stage::Handshake { .. } | Stage::Over => 0,
        };
        self.out.memory() + self.kept.capacity() + self.early.capacity() + stage
    }

    /// What both sides will speak, `h2` or `http/1.1`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.agreed.alpn.as_deref()
    }

    /// The name a client asked for, in lower case.
    pub fn sni(&self) -> Option<&str> {
        self.agreed.sni.as_deref()
    }

    /// `1.2` or `1.3`.
    pub fn version(&self) -> Option<&'static str> {
        match self.agreed.version? {
            ProtocolVersion::TLSv1_3 => Some("1.3"),
            ProtocolVersion::TLSv1_2 => Some("1.2"),
            _ => None,
        }
    }

    /// IANA name of the cipher suite.
    pub fn suite(&self) -> Option<&'static str> {
        self.agreed.suite
    }

    /// Whether an earlier session was taken up again.
    pub fn is_resumed(&self) -> bool {
        self.agreed.resumed
    }

    /// The other side's certificates, verified, its own first. `None` when it showed none, and for sessions with backends
    /// unless they are probes.
    pub fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.agreed.certificates.as_deref()
    }
}

/// A fatal alert in the clear: the hello has been read, so there are no keys yet. RFC 6066 section 3.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
