//! A TLS session on a socket, with the face of a socket.
//!
//! Ciphertext is read into the caller's buffer and decrypted there. What is sent is encrypted at once and belongs to the
//! session from then on: a full socket leaves ciphertext here, and nothing further is taken until that is gone.

use std::rc::Rc;

use evenkeel_model::exchange;
use evenkeel_reactor::{Close, Driver, Errno, Recv, Send, Sock, errno};
use evenkeel_tls::{Failed, Session};

/// What a client has proved about itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub subject: String,
    pub fingerprint: String,
}

pub(crate) struct Secured {
    pub sock: Sock,
    pub session: Session,
    /// Plaintext that came with the end of the handshake, or that the reader had no room for.
    early: Vec<u8>,
    /// The last read filled its room: there may be more in the socket.
    full: bool,
    /// The other side said that nothing more comes.
    closed: bool,
    /// An end without a word of goodbye is a failure: somebody could have cut the answer short.
    wants_goodbye: bool,
    finishing: bool,
    heard: bool,
}

/// How far a handshake has come.
pub(crate) enum Shaken {
    Waiting,
    Done,
    /// The connection ended in mid-handshake.
    Gone(Option<Errno>),
    Failed(Failed),
}

impl Secured {
    pub fn new(sock: Sock, session: Session, wants_goodbye: bool) -> Self {
        let (early, full, closed) = (Vec::new(), false, false);
        Secured { sock, session, early, full, closed, wants_goodbye, finishing: false, heard: false }
    }

    /// Goes on with the handshake as far as what was received allows. `scratch` holds nothing of worth.
    pub fn shake<D: Driver>(&mut self, driver: &mut D, scratch: &mut [u8]) -> Shaken {
        loop {
            if let Err(errno) = self.flush(driver, false) {
                return Shaken::Gone(Some(errno));
            }
            if !self.session.is_handshaking() {
                return Shaken::Done;
            }
            match driver.recv(self.sock, scratch) {
                Recv::Bytes(bytes) => {
                    self.full = bytes == scratch.len();
                    if let Some(failed) = self.take_in(driver, &mut scratch[..bytes]) {
                        return failed;
                    }
                }
                Recv::Dry => return Shaken::Waiting,
                Recv::End => return Shaken::Gone(None),
                Recv::Failed(errno) => return Shaken::Gone(Some(errno)),
            }
        }
    }

    /// Bytes of the handshake were received. Returns how it failed, if it did.
    pub fn take_in<D: Driver>(&mut self, driver: &mut D, bytes: &mut [u8]) -> Option<Shaken> {
        self.heard = true;
        match self.session.receive(bytes, &mut self.early) {
            Ok(progress) => {
                self.closed |= progress.closed;
                None
            }
            Err(failed) => {
                // The alert tells the other side why; that it does not listen any more is no news.
                let _ = self.flush(driver, false);
                Some(Shaken::Failed(failed))
            }
        }
    }

    /// `plain` is a buffer of the worker's, empty before and after.
    pub fn recv<D: Driver>(&mut self, driver: &mut D, plain: &mut Vec<u8>, into: &mut [u8]) -> Recv {
        if !self.early.is_empty() {
            let bytes = self.early.len().min(into.len());
            into[..bytes].copy_from_slice(&self.early[..bytes]);
            self.early.drain(..bytes);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Recv::Bytes(bytes);
        }
        loop {
            if self.closed {
                return Recv::End;
            }
            let bytes = match driver.recv(self.sock, into) {
                Recv::Bytes(bytes) => bytes,
                Recv::End if self.wants_goodbye => return Recv::Failed(errno::ECONNRESET),
                other => return other,
            };
            self.full = bytes == into.len();
            match self.session.receive(&mut into[..bytes], plain) {
                Ok(progress) => {
                    self.closed |= progress.closed;
                    // A key update or a refused renegotiation is answered; a full socket keeps the answer here.
                    if self.flush(driver, false).is_err() {
                        return Recv::Failed(errno::EPIPE);
                    }
                    if !plain.is_empty() {
                        return Recv::Bytes(self.hand_over(plain, into));
                    }
                }
                Err(_) => {
                    plain.clear();
                    let _ = self.flush(driver, false);
                    return Recv::Failed(errno::EPROTO);
                }
            }
        }
    }

    /// A record that began in an earlier read can make more of it than the room.
    fn hand_over(&mut self, plain: &mut Vec<u8>, into: &mut [u8]) -> usize {
        let bytes = plain.len().min(into.len());
        into[..bytes].copy_from_slice(&plain[..bytes]);
        self.early.extend_from_slice(&plain[bytes..]);
        plain.clear();
        bytes
    }

    /// Whether the other side has sent anything.
    pub fn was_heard(&self) -> bool {
        self.heard
    }

    pub fn is_drained(&self) -> bool {
        self.early.is_empty() && !self.full && !self.closed
    }

    pub fn peek<D: Driver>(&mut self, driver: &mut D) -> Recv {
        if !self.early.is_empty() {
            return Recv::Bytes(1);
        }
        if self.closed {
            return Recv::End;
        }
        driver.peek(self.sock)
    }

    /// Takes all of `parts`, or nothing while ciphertext waits. `last`: the word of goodbye goes out with them.
    pub fn send<D: Driver>(&mut self, driver: &mut D, parts: &[&[u8]], last: bool) -> Send {
        if !self.is_flushed() {
            if let Err(errno) = self.flush(driver, false) {
                return Send::Failed(errno);
            }
            if !self.is_flushed() {
                return Send::Taken(0);
            }
        }
        let mut taken = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            if self.session.send(part).is_err() {
                return Send::Failed(errno::EPROTO);
            }
            taken += part.len();
        }
        if last {
            self.session.close();
        }
        match self.flush(driver, last) {
            Ok(()) => Send::Taken(taken),
            Err(errno) => Send::Failed(errno),
        }
    }

    pub fn is_flushed(&self) -> bool {
        self.session.output().is_empty()
    }

    /// # Errors
    /// When the other side is gone.
    pub fn flush<D: Driver>(&mut self, driver: &mut D, last: bool) -> Result<(), Errno> {
        while !self.session.output().is_empty() {
            let output = self.session.output();
            let sent = if last { driver.send_final(self.sock, output) } else { driver.send(self.sock, output) };
            match sent {
                Send::Taken(0) => return Ok(()),
                Send::Taken(taken) => self.session.sent(taken),
                Send::Failed(errno) => return Err(errno),
            }
        }
        if self.finishing {
            self.finishing = false;
            driver.finish(self.sock);
        }
        Ok(())
    }

    pub fn finish<D: Driver>(&mut self, driver: &mut D) {
        self.session.close();
        self.finishing = true;
        // A failure shows at the next read.
        let _ = self.flush(driver, false);
    }

    /// Says that nothing more will be sent. False while a full socket keeps even that here: who closes now would look as if
    /// he had been cut off.
    pub fn say_goodbye<D: Driver>(&mut self, driver: &mut D) -> bool {
        self.session.close();
        // With a failure there is nobody to tell.
        self.flush(driver, true).is_err() || self.is_flushed()
    }

    pub fn close<D: Driver>(mut self: Box<Self>, driver: &mut D, how: Close) {
        if how == Close::Orderly {
            self.session.close();
            let _ = self.flush(driver, true);
        }
        driver.close(self.sock, how);
    }

    /// What both sides agreed on.
    pub fn agreed(&self) -> Option<exchange::Secured> {
        let (version, suite) = self.session.version().zip(self.session.suite())?;
        Some(exchange::Secured { version, suite, resumed: self.session.is_resumed() })
    }

    /// Who the client proved to be.
    pub fn identity(&self) -> Option<Rc<Identity>> {
        let certificates = self.session.certificates()?;
        let subject = evenkeel_tls::client_subject(certificates)?;
        let fingerprint = evenkeel_tls::client_fingerprint(certificates)?;
        Some(Rc::new(Identity { subject, fingerprint }))
    }
}
