//! The handshake, which is rustls': record after record goes in until it is done, then the keys are taken over.
//!
//! Records are handed in one at a time. So rustls never sees a byte behind the handshake, and the hand-over happens between
//! two records: `taken` says how much of the buffer rustls is done with, `held` how much behind that it wants to see again
//! (a message that is spread over several records is put together in the caller's buffer).

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus};
use rustls::{CommonState, Error};

use crate::established::{Established, Kernel};
use crate::records::{Frame, frame};

/// Longest record rustls takes, RFC 5246 6.2.3; it judges for itself below that.
pub(crate) const RECORD_SEALED: usize = 16_384 + 2048;

pub(crate) enum Handshake {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What became of the bytes handed in.
#[derive(Debug, Default)]
pub(crate) struct Eaten {
    /// Not needed again.
    pub(crate) taken: usize,
    /// Behind those: read, but to be handed in again with more.
    pub(crate) held: usize,
    /// Whether everything is said. Bytes behind `taken` are not read then.
    pub(crate) done: bool,
}

impl Handshake {
    /// Appends what is to be said before anything has been heard: a client's hello.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.pass(&mut [], out).map(|_| ())
    }

    /// Reads as many whole records as there are; the first `held` bytes are known from last time.
    pub(crate) fn read(&mut self, bytes: &mut [u8], held: usize, out: &mut Vec<u8>) -> Result<Eaten, Error> {
        let mut taken = 0;
        let mut end = held;
        loop {
            match frame(&bytes[end..], RECORD_SEALED) {
                Frame::Partial(_) => return Ok(Eaten { taken, held: end - taken, done: false }),
                Frame::Whole(length) => end += length,
                Frame::TooLong => return Err(Error::PeerSentOversizedRecord),
            }
            taken += self.pass(&mut bytes[taken..end], out)?;
            if taken == end && self.is_done() {
                return Ok(Eaten { taken, held: 0, done: true });
            }
        }
    }

    fn is_done(&self) -> bool {
        let common = self.common();
        !common.is_handshaking() && !common.wants_write()
    }

    pub(crate) fn common(&self) -> &CommonState {
        match self {
            Handshake::Server(connection) => connection,
            Handshake::Client(connection) => connection,
        }
    }

    fn pass(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<usize, Error> {
        match self {
            Handshake::Server(connection) => pass(&mut ***connection, bytes, out),
            Handshake::Client(connection) => pass(&mut ***connection, bytes, out),
        }
    }

    /// Appends the alert that a failure left to be sent.
    pub(crate) fn last_words(&mut self, out: &mut Vec<u8>) {
        match self {
            Handshake::Server(connection) => last_words(&mut ***connection, out),
            Handshake::Client(connection) => last_words(&mut ***connection, out),
        }
    }

    /// The keys, once everything is said.
    pub(crate) fn finish(self) -> Result<Established, Error> {
        match self {
            Handshake::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Established::new(secrets, kernel.negotiated_cipher_suite(), Kernel::Server(kernel))
            }
            Handshake::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Established::new(secrets, kernel.negotiated_cipher_suite(), Kernel::Client(kernel))
            }
        }
    }
}

/// Both sides have this method of their own, with no trait of rustls over it.
trait Connection {
    type Data;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn has_more_to_say(&self) -> bool;
}

impl Connection for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_more_to_say(&self) -> bool {
        self.wants_write()
    }
}

impl Connection for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_more_to_say(&self) -> bool {
        self.wants_write()
    }
}

/// Lets rustls go on until it waits for more; says how many bytes it needs no more.
fn pass<C: Connection>(connection: &mut C, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<usize, Error> {
    let mut taken = 0;
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut bytes[taken..]);
        let go_on = match state? {
            ConnectionState::EncodeTlsData(mut encode) => {
                append(|space| encode.encode(space), out);
                true
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                true
            }
            // Neither can be: the handshake's last record is followed by nothing here, and early data is not offered.
            ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) => {
                return Err(Error::General("data within the handshake".into()));
            }
            ConnectionState::PeerClosed => true,
            _ => false,
        };
        taken += discard;
        if !go_on {
            return Ok(taken);
        }
    }
}

fn last_words<C: Connection>(connection: &mut C, out: &mut Vec<u8>) {
    // Asked first, since a failed connection must not be made to look for more input.
    while connection.has_more_to_say() {
        let UnbufferedStatus { state, .. } = connection.process(&mut []);
        let Ok(ConnectionState::EncodeTlsData(mut encode)) = state else { return };
        append(|space| encode.encode(space), out);
    }
}

/// rustls writes into space that is there, so ask for how much it takes and make it.
fn append(mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>, out: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(error)) = encode(&mut []) {
        let start = out.len();
        out.resize(start + error.required_size, 0);
        let written = encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}
