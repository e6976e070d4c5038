//! Backends for the health tests: a server for each kind of probe, all with the same faults to choose from.
//!
//! A fault is a mood that is read anew for each conversation; only to be gone is to close the listening socket. What a
//! server holds back it holds back until the prober hangs up, and in a thread of its own: of a prober whose way to us
//! was cut it never hears again.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use evenkeel_h2::{Connection, Event, Role, Settings};
use evenkeel_model::time::Instant;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::backend::{hold, reset};
use crate::daemon::Folder;
use crate::lab::{Lab, enter};

/// What a server says to those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Nothing; connections stay in the kernel's queue.
    Nothing,
    Page,
    SecurePage,
    /// HTTP/2 with prior knowledge.
    Streams,
    /// TLS and nothing inside.
    Handshake,
    Mail,
    Agent,
    Grpc,
    SecureGrpc,
    Pong,
    Names,
    /// Addresses of backends by their names; see [`address_of`].
    Addresses,
}

impl Speaks {
    const fn in_datagrams(self) -> bool {
        matches!(self, Speaks::Pong | Speaks::Names | Speaks::Addresses)
    }
}

/// Every backend has an address of its own. In names it is called by its number: `7-http-drops.health.test`.
pub const fn address_of(number: usize) -> Ipv4Addr {
    assert!(number < 220, "a net has room for them");
    Ipv4Addr::new(10, 98, 0, 20 + number as u8)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Takes connections and resets them.
    Resets,
    /// Says in good order that it is not well.
    Sick,
    /// Says something else than it should.
    Babbles,
    /// Begins to answer, or not even that.
    SlowHead,
    /// Stops in mid-answer.
    SlowBody,
    /// Well, with a certificate whose time is over.
    Expired,
    /// Sick for so many conversations, then well for so many, and so on.
    Turns {
        sick: u64,
        well: u64,
    },
    Gone,
}

/// The name all certificates are for.
pub const NAME: &str = "probe.test";

/// Keys of the servers, and the authority for the config.
pub struct Keys {
    folder: Folder,
    good: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
}

impl Keys {
    pub fn new(name: &str) -> Arc<Keys> {
        let folder = Folder::new(name);
        let mut params = CertificateParams::new(Vec::new()).expect("no names are names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        let pem = params.self_signed(&key).expect("an authority signs itself").pem();
        std::fs::write(folder.0.join("ca.pem"), pem).expect("the folder can be written");
        let issuer = Issuer::new(params, key);
        let config = |last_year: i32| {
            let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(last_year, 1, 1);
            let key = KeyPair::generate().expect("keys can be made");
            let chain = params.signed_by(&key, &issuer).expect("it signs").pem();
            let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM");
            let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let mut config = builder
                .expect("the provider has suites for them")
                .with_no_client_auth()
                .with_single_cert(vec![certificate], private)
                .expect("they fit");
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(config)
        };
        Arc::new(Keys { good: config(2090), expired: config(2021), folder })
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.0.join("ca.pem")
    }

    fn accept(&self, stream: TcpStream, mood: Mood) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
        let config = if mood == Mood::Expired { &self.expired } else { &self.good };
        let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let mut stream = stream;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(session, stream))
    }
}

#[derive(Debug)]
struct Shared {
    mood: Mutex<Mood>,
    /// Conversations since the mood was chosen.
    asked: AtomicU64,
}

impl Shared {
    /// The mood of the conversation that begins now.
    fn next(&self) -> Mood {
        let mood = *self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        match mood {
            Mood::Turns { sick, well } if asked % (sick + well) < sick => Mood::Sick,
            Mood::Turns { .. } => Mood::Well,
            mood => mood,
        }
    }
}

/// A server on the backends' host. Its thread ends with [`Mood::Gone`], or with the process.
pub struct Server {
    host: String,
    pub address: SocketAddr,
    speaks: Speaks,
    keys: Arc<Keys>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(lab: &Lab, keys: &Arc<Keys>, speaks: Speaks, address: SocketAddr) -> Server {
        let shared = Arc::new(Shared { mood: Mutex::new(Mood::Well), asked: AtomicU64::new(0) });
        let keys = Arc::clone(keys);
        let mut server = Server { host: lab.back.clone(), address, speaks, keys, shared, thread: None };
        server.listen();
        server
    }

    /// Chooses a mood, from the next conversation on. Gone, its port is closed when this returns.
    pub fn be(&mut self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        self.shared.asked.store(0, Ordering::Relaxed);
        if mood == Mood::Gone {
            // Whoever waits for somebody to come does not see the mood.
            let woken = match self.speaks {
                speaks if speaks.in_datagrams() => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
                    .and_then(|socket| socket.send_to(b"", self.address))
                    .map(|_| ()),
                _ => TcpStream::connect(self.address).map(|_| ()),
            };
            woken.expect("nothing stands between us and a server that is to go");
            self.thread.take().expect("it was there").join().expect("a server does not panic");
        } else if self.thread.is_none() {
            self.listen();
        }
    }

    /// Conversations since the mood was chosen.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    fn listen(&mut self) {
        let (host, address, speaks) = (self.host.clone(), self.address, self.speaks);
        let (keys, shared) = (Arc::clone(&self.keys), Arc::clone(&self.shared));
        let (listening, heard) = mpsc::channel();
        self.thread = Some(std::thread::spawn(move || {
            enter(&host);
            if speaks.in_datagrams() {
                let socket = UdpSocket::bind(address).expect("the address is the lab's");
                listening.send(()).expect("the test waits");
                datagrams(&socket, speaks, &shared);
            } else {
                let listener = TcpListener::bind(address).expect("the address is the lab's");
                listening.send(()).expect("the test waits");
                connections(&listener, speaks, &keys, &shared);
            }
        }));
        heard.recv().expect("the server binds its port");
    }
}

fn connections(listener: &TcpListener, speaks: Speaks, keys: &Arc<Keys>, shared: &Shared) {
    for stream in listener.incoming() {
        let mood = shared.next();
        if mood == Mood::Gone {
            return;
        }
        let Ok(stream) = stream else { continue };
        let keys = Arc::clone(keys);
        std::thread::spawn(move || {
            // How a prober parts from us is its own business.
            let _ = stream.set_nodelay(true).and_then(|()| talk(stream, speaks, &keys, mood));
        });
    }
}

fn talk(mut stream: TcpStream, speaks: Speaks, keys: &Keys, mood: Mood) -> io::Result<()> {
    if mood == Mood::Resets {
        if !matches!(speaks, Speaks::Mail | Speaks::Agent) {
            // In the middle of the question.
            let _ = stream.read(&mut [0; 1])?;
        }
        reset(&stream);
        return Ok(());
    }
    match speaks {
        Speaks::Nothing => {}
        Speaks::Page => page(&mut stream, mood)?,
        Speaks::SecurePage => page(&mut keys.accept(stream, mood)?, mood)?,
        Speaks::Streams => streams(&mut stream, page_answer(mood))?,
        Speaks::Handshake if mood == Mood::SlowHead => hold(stream),
        Speaks::Handshake => hold(keys.accept(stream, mood)?.sock),
        Speaks::Mail => mail(stream, mood)?,
        Speaks::Agent => agent(stream, mood)?,
        Speaks::Grpc => streams(&mut stream, grpc_answer(mood))?,
        Speaks::SecureGrpc => streams(&mut keys.accept(stream, mood)?, grpc_answer(mood))?,
        Speaks::Pong | Speaks::Names | Speaks::Addresses => unreachable!("these are spoken in datagrams"),
    }
    Ok(())
}

/// Reads until the other side hangs up.
fn stall(stream: &mut impl Read) {
    let mut space = [0; 4096];
    while matches!(stream.read(&mut space), Ok(1..)) {}
}

fn page(stream: &mut (impl Read + Write), mood: Mood) -> io::Result<()> {
    let mut head = Vec::new();
    let mut space = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut space)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(&space[..count]);
    }
    stream.write_all(match mood {
        Mood::SlowHead => b"HTTP/1.1 200 OK\r\nServer: slow\r\n",
        _ => page_answer(mood),
    })?;
    stream.flush()?;
    if matches!(mood, Mood::SlowHead | Mood::SlowBody) {
        stall(stream);
    }
    Ok(())
}

const fn page_answer(mood: Mood) -> &'static [u8] {
    match mood {
        Mood::Sick => b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\nConnection: close\r\n\r\noops\n",
        Mood::Babbles => b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nasleep\n",
        Mood::SlowHead => b"",
        Mood::SlowBody => b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nrea",
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nready\n",
    }
}

const fn grpc_answer(mood: Mood) -> &'static [u8] {
    match mood {
        Mood::Sick => {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
              7\r\n\0\0\0\0\x02\x08\x02\r\n0\r\ngrpc-status: 0\r\n\r\n"
        }
        Mood::Babbles => {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 5\r\n\
              grpc-message: unknown service\r\nContent-Length: 0\r\n\r\n"
        }
        Mood::SlowHead => b"",
        Mood::SlowBody => {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
              7\r\n\0\0\0\0\x02\x08\x01\r\n"
        }
        _ => {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
              7\r\n\0\0\0\0\x02\x08\x01\r\n0\r\ngrpc-status: 0\r\n\r\n"
        }
    }
}

/// Answers every stream so, in the text that the machine makes frames of.
fn streams(stream: &mut (impl Read + Write), answer: &[u8]) -> io::Result<()> {
    let settings = Settings {
        streams: 10,
        stream_window: 65_535,
        connection_window: 65_535,
        header_limit: 32 * 1024,
        max_frame: 16_384,
        extended_connect: false,
        secure: false,
    };
    let mut carrier = Connection::new(Role::Server, &settings, Instant::START);
    let mut space = [0; 4096];
    loop {
        let said = carrier.output().to_vec();
        carrier.sent(said.len());
        stream.write_all(&said)?;
        stream.flush()?;
        let count = stream.read(&mut space)?;
        if count == 0 {
            return Ok(());
        }
        carrier.receive(&space[..count], Instant::START).map_err(|failure| io::Error::other(failure.detail))?;
        while let Some(event) = carrier.next_event() {
            if let Event::Opened(opened) = event {
                carrier.send(opened, answer).map_err(|fault| io::Error::other(format!("{fault:?}")))?;
            }
        }
    }
}

fn mail(mut stream: TcpStream, mood: Mood) -> io::Result<()> {
    match mood {
        Mood::Sick => return stream.write_all(b"554 no service\r\n"),
        Mood::SlowHead => {
            stream.write_all(b"22")?;
            hold(stream);
            return Ok(());
        }
        _ => stream.write_all(b"220 mail ready\r\n")?,
    }
    let mut line = Vec::new();
    let mut space = [0; 64];
    while !line.ends_with(b"\r\n") {
        let count = stream.read(&mut space)?;
        if count == 0 {
            return Ok(());
        }
        line.extend_from_slice(&space[..count]);
    }
    match mood {
        Mood::Babbles => stream.write_all(b"500 what?\r\n"),
        Mood::SlowBody => {
            hold(stream);
            Ok(())
        }
        _ => stream.write_all(b"221 bye\r\n"),
    }
}

fn agent(mut stream: TcpStream, mood: Mood) -> io::Result<()> {
    match mood {
        Mood::Sick => stream.write_all(b"down # disk full\n"),
        Mood::Babbles => stream.write_all(b"fine, thanks\n"),
        Mood::SlowHead | Mood::SlowBody => {
            stream.write_all(b"u")?;
            hold(stream);
            Ok(())
        }
        _ => stream.write_all(b"up\n"),
    }
}

fn datagrams(socket: &UdpSocket, speaks: Speaks, shared: &Shared) {
    let mut space = [0; 1500];
    loop {
        let Ok((count, from)) = socket.recv_from(&mut space) else { continue };
        let mood = shared.next();
        let answer = match (speaks, mood) {
            (_, Mood::Gone) => return,
            (_, Mood::SlowHead | Mood::SlowBody) => continue,
            (Speaks::Names, Mood::Sick) => dns_answer(&space[..count], SERVFAIL, None),
            (Speaks::Names, Mood::Babbles) => dns_answer(&space[..count], 0, Some(Ipv4Addr::new(10, 0, 0, 9))),
            (Speaks::Names, _) => dns_answer(&space[..count], 0, Some(Ipv4Addr::new(10, 0, 0, 1))),
            (Speaks::Addresses, Mood::Sick) => dns_answer(&space[..count], NXDOMAIN, None),
            (Speaks::Addresses, _) => dns_answer(&space[..count], 0, asked_for(&space[..count])),
            (_, Mood::Babbles | Mood::Sick) => b"nope".to_vec(),
            _ => b"pong".to_vec(),
        };
        let _ = socket.send_to(&answer, from);
    }
}

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// The question of a query: labels, a zero, type and class.
fn question(query: &[u8]) -> Option<&[u8]> {
    let name = query.get(12..)?.iter().position(|&byte| byte == 0)?;
    query.get(12..12 + name + 5)
}

/// The address of the backend with the number that the name begins with, if an address of IPv4 is asked for.
fn asked_for(query: &[u8]) -> Option<Ipv4Addr> {
    let question = question(query)?;
    let digits: String = question[1..].iter().map(|&byte| char::from(byte)).take_while(char::is_ascii_digit).collect();
    let number = digits.parse().ok()?;
    question.ends_with(&[0, 0, 1, 0, 1]).then(|| address_of(number))
}

/// An answer with this code to what was asked, with one A record that nobody may keep, or none.
fn dns_answer(query: &[u8], code: u8, address: Option<Ipv4Addr>) -> Vec<u8> {
    let Some(question) = question(query) else { return Vec::new() };
    let mut answer = query[..2].to_vec();
    answer.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    if let Some(address) = address {
        answer.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    answer
}
