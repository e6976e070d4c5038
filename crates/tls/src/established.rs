//! A session after its handshake: data in and out, and the little that TLS itself still has to say.
//!
//! That little is alerts, new tickets and key updates of TLS 1.3, and requests to renegotiate in TLS 1.2, which are turned
//! down. Each costs us work and brings nobody data, so in a row they are counted. Key updates are answered in front of the
//! next data we send, as RFC 8446 4.6.3 allows, not at once: whoever floods us with them and reads nothing gets nothing
//! queued.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ContentType, Error, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};

use evenkeel_model::limits;

use crate::failed::{alert_words, words};
use crate::records::{Opener, RECORD, Sealer};

/// What rustls keeps for us: traffic secrets to come, and where a client's tickets go.
pub(crate) enum Kernel {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

pub(crate) struct Established {
    pub(crate) sealer: Sealer,
    opener: Opener,
    suite: SupportedCipherSuite,
    kernel: Kernel,
    /// The front of a handshake message that is not whole yet.
    message: Vec<u8>,
    /// Records since the last data.
    idle_records: u64,
    refused_renegotiation: bool,
    owes_key_update: bool,
}

/// The session is over, and this is what to say.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) detail: &'static str,
    /// `None` after an alert: it is not answered.
    pub(crate) alert: Option<AlertDescription>,
}

impl Refused {
    const fn new(alert: AlertDescription, detail: &'static str) -> Self {
        Refused { detail, alert: Some(alert) }
    }
}

/// What a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Close,
}

impl Established {
    pub(crate) fn new(secrets: ExtractedSecrets, suite: SupportedCipherSuite, kernel: Kernel) -> Result<Self, Error> {
        let ExtractedSecrets { tx: (tx_sequence, tx), rx: (rx_sequence, rx) } = secrets;
        Ok(Established {
            sealer: Sealer::new(tx, tx_sequence, suite)?,
            opener: Opener::new(rx, rx_sequence, suite)?,
            suite,
            kernel,
            message: Vec::new(),
            idle_records: 0,
            refused_renegotiation: false,
            owes_key_update: false,
        })
    }

    pub(crate) fn memory(&self) -> usize {
        self.message.capacity()
    }

    fn is_tls13(&self) -> bool {
        self.suite.version().version == ProtocolVersion::TLSv1_3
    }

    /// Reads one whole record, header included. Data is appended to `plain`.
    pub(crate) fn read(&mut self, record: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Heard, Refused> {
        let tls13 = self.is_tls13();
        let outer = ContentType::from(record[0]);
        // TLS 1.3 hides what a record is; in TLS 1.2 everything is encrypted by now as well, whatever its kind.
        let plausible = match outer {
            ContentType::ApplicationData => true,
            ContentType::Alert | ContentType::Handshake => !tls13,
            _ => false,
        };
        if !plausible || record[1] != 3 {
            let error = "TLS message at a moment where it has no place";
            return Err(Refused::new(AlertDescription::UnexpectedMessage, error));
        }
        let (kind, content) =
            self.opener.open(record).map_err(|error| Refused::new(alert_for(&error), words(&error)))?;
        if kind == ContentType::ApplicationData && !content.is_empty() {
            if !self.message.is_empty() {
                let error = "data in the middle of a handshake message";
                return Err(Refused::new(AlertDescription::UnexpectedMessage, error));
            }
            self.idle_records = 0;
            plain.extend_from_slice(content);
            return Ok(Heard::Nothing);
        }
        self.idle_records += 1;
        if self.idle_records > limits::TLS_RECORDS_WITHOUT_DATA.value {
            let error = "too many records without data";
            return Err(Refused::new(AlertDescription::UnexpectedMessage, error));
        }
        match kind {
            ContentType::ApplicationData => Ok(Heard::Nothing),
            ContentType::Alert => hear_alert(content, tls13),
            ContentType::Handshake if tls13 => {
                if content.is_empty() {
                    return Err(Refused::new(AlertDescription::UnexpectedMessage, "malformed TLS message"));
                }
                self.message.extend_from_slice(content);
                self.read_messages()
            }
            ContentType::Handshake => self.refuse_renegotiation(content.first().copied(), out),
            _ => Err(Refused::new(AlertDescription::UnexpectedMessage, "malformed TLS message")),
        }
    }

    /// The whole ones among the handshake messages heard.
    fn read_messages(&mut self) -> Result<Heard, Refused> {
        let mut message = std::mem::take(&mut self.message);
        let mut at = 0;
        while let Some(&[kind, a, b, c]) = message[at..].first_chunk::<4>() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length as u64 > limits::TLS_HANDSHAKE.value {
                return Err(Refused::new(AlertDescription::DecodeError, "handshake message too long"));
            }
            let Some(body) = message.get(at + 4..at + 4 + length) else { break };
            let last = at + 4 + length == message.len();
            self.hear_message(kind, body, last)?;
            at += 4 + length;
        }
        // What is left is the front of a message; mostly nothing.
        if at < message.len() {
            message.drain(..at);
            self.message = message;
        }
        Ok(Heard::Nothing)
    }

    fn hear_message(&mut self, kind: u8, body: &[u8], last_of_record: bool) -> Result<(), Refused> {
        match (kind, body) {
            (NEW_SESSION_TICKET, body) => match &mut self.kernel {
                Kernel::Client(kernel) => kernel
                    .handle_new_session_ticket(body)
                    .map_err(|error| Refused::new(AlertDescription::DecodeError, words(&error))),
                Kernel::Server(_) => Err(Refused::new(
                    AlertDescription::UnexpectedMessage,
                    "TLS message at a moment where it has no place",
                )),
            },
            (KEY_UPDATE, [wanted @ (0 | 1)]) => {
                if !last_of_record {
                    let error = "key update in the middle of other messages";
                    return Err(Refused::new(AlertDescription::UnexpectedMessage, error));
                }
                self.renew_opener()?;
                self.owes_key_update |= *wanted == 1;
                Ok(())
            }
            (KEY_UPDATE, _) => Err(Refused::new(AlertDescription::IllegalParameter, "malformed key update")),
            _ => {
                Err(Refused::new(AlertDescription::UnexpectedMessage, "TLS message at a moment where it has no place"))
            }
        }
    }

    /// TLS 1.2 only. Said no to once; who asks again has not listened.
    fn refuse_renegotiation(&mut self, kind: Option<u8>, out: &mut Vec<u8>) -> Result<Heard, Refused> {
        let asks = match self.kernel {
            Kernel::Server(_) => CLIENT_HELLO,
            Kernel::Client(_) => HELLO_REQUEST,
        };
        if kind != Some(asks) || self.refused_renegotiation {
            return Err(Refused::new(AlertDescription::UnexpectedMessage, "renegotiation is not done here"));
        }
        self.refused_renegotiation = true;
        self.say(WARNING, AlertDescription::NoRenegotiation, out);
        Ok(Heard::Nothing)
    }

    /// Appends `plain` to `out`, sealed.
    pub(crate) fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        for part in plain.chunks(RECORD) {
            if self.owes_key_update || self.sealer.worn_out() {
                self.renew_sealer(out)?;
            }
            self.sealer.seal(ContentType::ApplicationData, part, out);
        }
        Ok(())
    }

    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        self.say(WARNING, AlertDescription::CloseNotify, out);
    }

    pub(crate) fn alert(&mut self, alert: AlertDescription, out: &mut Vec<u8>) {
        self.say(FATAL, alert, out);
    }

    fn say(&mut self, level: u8, alert: AlertDescription, out: &mut Vec<u8>) {
        self.sealer.seal(ContentType::Alert, &[level, u8::from(alert)], out);
    }

    fn renew_sealer(&mut self, out: &mut Vec<u8>) -> Result<(), Refused> {
        if !self.is_tls13() {
            // 2^24 records under one key: TLS 1.2 has no way to change it.
            return Err(Refused::new(AlertDescription::CloseNotify, "keys worn out after 16 million records"));
        }
        self.owes_key_update = false;
        self.change_keys(0, out)
    }

    /// Says that the next record comes under another key, and takes that key.
    pub(crate) fn change_keys(&mut self, wanted_of_you: u8, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.sealer.seal(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, wanted_of_you], out);
        let renewed = match &mut self.kernel {
            Kernel::Server(kernel) => kernel.update_tx_secret(),
            Kernel::Client(kernel) => kernel.update_tx_secret(),
        };
        self.sealer = renewed
            .and_then(|(sequence, secrets)| Sealer::new(secrets, sequence, self.suite))
            .map_err(|error| Refused::new(AlertDescription::InternalError, words(&error)))?;
        Ok(())
    }

    fn renew_opener(&mut self) -> Result<(), Refused> {
        let renewed = match &mut self.kernel {
            Kernel::Server(kernel) => kernel.update_rx_secret(),
            Kernel::Client(kernel) => kernel.update_rx_secret(),
        };
        self.opener = renewed
            .and_then(|(sequence, secrets)| Opener::new(secrets, sequence, self.suite))
            .map_err(|error| Refused::new(AlertDescription::InternalError, words(&error)))?;
        Ok(())
    }
}

fn hear_alert(content: &[u8], tls13: bool) -> Result<Heard, Refused> {
    let &[level, alert] = content else {
        return Err(Refused::new(AlertDescription::DecodeError, "malformed TLS message"));
    };
    match AlertDescription::from(alert) {
        AlertDescription::CloseNotify => Ok(Heard::Close),
        AlertDescription::UserCanceled if level == WARNING => Ok(Heard::Nothing),
        _ if level == WARNING && !tls13 => Ok(Heard::Nothing),
        alert => Err(Refused { detail: alert_words(alert), alert: None }),
    }
}

fn alert_for(error: &Error) -> AlertDescription {
    match error {
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        _ => AlertDescription::UnexpectedMessage,
    }
}

const WARNING: u8 = 1;
const FATAL: u8 = 2;

// Handshake messages, RFC 8446 4 and RFC 5246 7.4.
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
