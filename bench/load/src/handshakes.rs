//! A TLS 1.3 handshake for each request, full or resumed: connect, shake hands, one request, one answer, again.
//!
//! The client offers one suite and one group, so that all proxies do the same work, and looks at each handshake:
//! a full one that resumed, or a resumed one that did not, is an error and never a figure. It knows the server by
//! its very certificate and still verifies the signature; a chain would cost the load CPU and prove nothing more.
//!
//! Each lane keeps its own tickets. A ticket is good for one handshake and each connection brings new ones, so with
//! tickets of its own a lane never has to do without. The first handshake of a resuming lane must be full.

use std::io::{ErrorKind, Read};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme};

use crate::answer::{Answer, request};
use crate::connections::open;
use crate::latency::Latencies;

/// A connection that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq)]
pub enum Wanted {
    Full,
    Resumed,
}

pub struct Load<'a> {
    pub target: SocketAddr,
    pub length: Duration,
    pub concurrency: usize,
    pub wanted: Wanted,
    /// The proxy's certificate, and the name to ask it by.
    pub certificate: &'a Path,
    pub name: &'a str,
    pub path: &'a str,
    pub body_length: usize,
}

/// One place in the fixed number of connections; it holds one connection after the other.
struct Lane {
    config: Arc<ClientConfig>,
    /// Whether this lane was given a ticket yet.
    has_tickets: bool,
    connection: Option<(TcpStream, ClientConnection)>,
    begun: Instant,
    answer: Answer,
    /// The answer is whole; what is left is the proxy's end of the connection.
    answered: bool,
}

enum Step {
    Waiting,
    Done,
}

#[derive(Default)]
struct Score {
    full: u64,
    resumed: u64,
    answers: u64,
    errors: u64,
    /// Connections that ended without a close_notify.
    abrupt: u64,
    first_error: Option<String>,
}

pub fn run(load: &Load) -> Result<String, String> {
    let name = ServerName::try_from(load.name.to_owned()).map_err(|e| format!("name {:?}: {e}", load.name))?;
    let config = client_config(load.certificate)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let mut race = Race {
        load,
        name,
        request: request(load.path, load.name, "close"),
        poll,
        score: Score::default(),
        latencies: Latencies::new(),
    };
    let start = Instant::now();
    let mut lanes: Vec<Lane> = (0..load.concurrency)
        .map(|_| Lane {
            config: Arc::new(with_own_tickets(config.clone(), load.wanted)),
            has_tickets: false,
            connection: None,
            begun: start,
            answer: Answer::expecting(load.body_length),
            answered: false,
        })
        .collect();
    race.go(&mut lanes, start).map_err(|e| e.to_string())?;
    Ok(race.report(start.elapsed()))
}

fn with_own_tickets(mut config: ClientConfig, wanted: Wanted) -> ClientConfig {
    config.resumption = match wanted {
        Wanted::Full => Resumption::disabled(),
        Wanted::Resumed => Resumption::in_memory_sessions(1),
    };
    config
}

struct Race<'a> {
    load: &'a Load<'a>,
    name: ServerName<'static>,
    request: Vec<u8>,
    poll: OwnedFd,
    score: Score,
    latencies: Latencies,
}

impl Race<'_> {
    fn go(&mut self, lanes: &mut [Lane], start: Instant) -> Result<(), Errno> {
        for (number, lane) in lanes.iter_mut().enumerate() {
            self.begin(lane, number);
        }
        let mut room = [MaybeUninit::uninit(); 256];
        let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let mut last_sweep = start;
        loop {
            let now = Instant::now();
            if now >= start + self.load.length {
                return Ok(());
            }
            let (events, _) = match epoll::wait(&self.poll, &mut room, Some(&tick)) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            for event in events.iter() {
                let number = event.data.u64() as usize;
                let lane = &mut lanes[number];
                match self.advance(lane) {
                    Ok(Step::Waiting) => continue,
                    Ok(Step::Done) => self.score.answers += 1,
                    Err(why) => self.fail(why),
                }
                self.begin(lane, number);
            }
            if now.duration_since(last_sweep) > Duration::from_secs(1) {
                last_sweep = now;
                for (number, lane) in lanes.iter_mut().enumerate() {
                    if lane.begun.elapsed() > PATIENCE {
                        if lane.connection.is_some() {
                            self.fail(format!("no answer within {PATIENCE:?}"));
                        }
                        self.begin(lane, number);
                    }
                }
            }
        }
    }

    fn fail(&mut self, why: String) {
        self.score.errors += 1;
        self.score.first_error.get_or_insert(why);
    }

    /// Puts a fresh connection into the lane. One that fails at once leaves the lane empty until the next sweep, so
    /// that a dead proxy gives a few errors a second instead of a busy loop.
    fn begin(&mut self, lane: &mut Lane, number: usize) {
        lane.begun = Instant::now();
        lane.answer.reset();
        lane.answered = false;
        // Dropping the old socket closes it, and closing takes it out of the epoll set.
        lane.connection = None;
        let session = ClientConnection::new(Arc::clone(&lane.config), self.name.clone());
        match (open(&self.poll, number, self.load.target), session) {
            (Ok(socket), Ok(mut session)) => {
                // Held by the session until the handshake allows it, so it leaves with our Finished.
                if let Err(error) = std::io::Write::write_all(&mut session.writer(), &self.request) {
                    self.fail(format!("request: {error}"));
                }
                lane.connection = Some((TcpStream::from(socket), session));
                // On loopback the connect is over when it returns.
                if let Err(why) = self.advance(lane) {
                    self.fail(why);
                    lane.connection = None;
                }
            }
            (Err(error), _) => self.fail(format!("connect: {error}")),
            (_, Err(error)) => self.fail(format!("session: {error}")),
        }
    }

    fn advance(&mut self, lane: &mut Lane) -> Result<Step, String> {
        let Some((socket, session)) = &mut lane.connection else { return Ok(Step::Waiting) };
        loop {
            while session.wants_write() {
                match session.write_tls(socket) {
                    Ok(_) => {}
                    Err(error) if is_later(&error) => break,
                    Err(error) => return Err(format!("send: {error}")),
                }
            }
            let ended = match session.read_tls(socket) {
                Ok(read) => read == 0,
                Err(error) if is_later(&error) => return Ok(Step::Waiting),
                Err(error) => return Err(format!("receive: {error}")),
            };
            let was_shaking = session.is_handshaking();
            let state = session.process_new_packets().map_err(|error| format!("TLS: {error}"))?;
            if was_shaking && !session.is_handshaking() {
                let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
                if resumed != lane.has_tickets {
                    return Err(format!("handshake is {:?}", session.handshake_kind()));
                }
                *if resumed { &mut self.score.resumed } else { &mut self.score.full } += 1;
            }
            if state.plaintext_bytes_to_read() > 0 {
                let mut plain = [0; 16 * 1024];
                let read = session.reader().read(&mut plain).map_err(|error| format!("read: {error}"))?;
                if lane.answer.take(&plain[..read])? {
                    lane.answered = true;
                    self.latencies.record(lane.begun.elapsed());
                }
            }
            if ended || state.peer_has_closed() {
                if !lane.answered {
                    return Err("closed before the whole answer".to_owned());
                }
                // Tickets come before the answer, so a proxy that gives any has given them by now.
                lane.has_tickets |= self.load.wanted == Wanted::Resumed;
                self.score.abrupt += u64::from(!state.peer_has_closed());
                return Ok(Step::Done);
            }
        }
    }

    fn report(&self, elapsed: Duration) -> String {
        let Score { full, resumed, answers, errors, abrupt, first_error } = &self.score;
        let first = first_error.as_ref().map_or("null".to_owned(), |text| format!("{text:?}"));
        format!(
            "{{\"answers\": {answers}, \"full\": {full}, \"resumed\": {resumed}, \"abrupt\": {abrupt}, \"seconds\": {:.6}, \
             \"errors\": {errors}, \"first_error\": {first}, \"p50_us\": {:.1}, \"p99_us\": {:.1}}}",
            elapsed.as_secs_f64(),
            self.latencies.percentile_us(50.0),
            self.latencies.percentile_us(99.0),
        )
    }
}

fn is_later(error: &std::io::Error) -> bool {
    // NotConnected: the connect is still on its way.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

fn client_config(certificate: &Path) -> Result<ClientConfig, String> {
    let certificate =
        CertificateDer::from_pem_file(certificate).map_err(|e| format!("{}: {e}", certificate.display()))?;
    let all = aws_lc_rs::default_provider();
    let algorithms = all.signature_verification_algorithms;
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..all
    };
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TheOne { certificate, algorithms }))
        .with_no_client_auth())
}

/// Accepts one certificate and no other.
#[derive(Debug)]
struct TheOne {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for TheOne {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another certificate than the one given by --certificate".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
