//! Clients that ask the same thing in each way it can be asked: HTTP/1.1 and HTTP/2, plain and inside TLS.
//!
//! A request is written as HTTP/1.1 text and its answer read as such, whatever is spoken, so one table row plays over all
//! of them. Text becomes frames in our own h2 room; that other clients understand the same is shown with those clients
//! elsewhere. What no well-behaved client sends is written here frame by frame.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use evenkeel_h2::{Close, Connection, Role, Settings, StreamId, StreamRecv};
use evenkeel_model::Instant;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::client::{Answer, End, more, read_answer};
use crate::daemon::{Folder, PATIENCE};

/// The name in the certificates of listeners.
pub const NAME: &str = "e2e.test";

/// RFC 9113 section 7.
const REFUSED_STREAM: u32 = 7;

/// What is spoken in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

impl Front {
    pub const ALL: [Front; 4] = [Front::Http1, Front::Http1Tls, Front::Http2, Front::Http2Tls];

    pub const fn word(self) -> &'static str {
        match self {
            Front::Http1 => "http1",
            Front::Http1Tls => "http1-tls",
            Front::Http2 => "http2",
            Front::Http2Tls => "http2-tls",
        }
    }

    pub const fn is_tls(self) -> bool {
        matches!(self, Front::Http1Tls | Front::Http2Tls)
    }

    pub const fn is_http2(self) -> bool {
        matches!(self, Front::Http2 | Front::Http2Tls)
    }

    /// What the access log's version begins with.
    pub const fn version(self) -> &'static str {
        if self.is_http2() { "HTTP/2" } else { "HTTP/1.1" }
    }
}

/// The plain and the TLS address of one site.
#[derive(Clone, Copy)]
pub struct Site {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
}

impl Site {
    pub const fn of(self, front: Front) -> SocketAddr {
        if front.is_tls() { self.tls } else { self.plain }
    }
}

pub trait Pipe: Read + Write + Send {}
impl<T: Read + Write + Send> Pipe for T {}

/// A connection in one of the four ways. On HTTP/2 each request has a stream of its own.
pub struct Talk {
    pipe: Box<dyn Pipe>,
    /// The same connection, for what only a socket can do.
    pub socket: TcpStream,
    carrier: Option<Carrier>,
    input: Vec<u8>,
}

struct Carrier {
    machine: Connection,
    stream: Option<StreamId>,
    given_back: bool,
}

impl Talk {
    pub fn open(front: Front, site: Site, forge: &Forge) -> Talk {
        Talk::open_as(front, site.of(front), forge, NAME).unwrap_or_else(|error| panic!("{}: {error}", front.word()))
    }

    /// With `name` as the one asked for in TLS.
    pub fn open_as(front: Front, address: SocketAddr, forge: &Forge, name: &str) -> Result<Talk, String> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        socket.set_nodelay(true).expect("a TCP socket has the option");
        let stream = socket.try_clone().expect("a socket can be cloned");
        let pipe: Box<dyn Pipe> = if front.is_tls() {
            Box::new(forge.handshake(stream, name, front.is_http2()).map_err(|error| error.to_string())?)
        } else {
            Box::new(stream)
        };
        let settings = Settings {
            streams: 100,
            stream_window: 65_535,
            connection_window: 1 << 20,
            header_limit: 65_536,
            max_frame: 16_384,
            extended_connect: false,
            secure: front.is_tls(),
        };
        let carrier = front.is_http2().then(|| Carrier {
            machine: Connection::new(Role::Client, &settings, Instant::from_nanos(0)),
            stream: None,
            given_back: false,
        });
        Ok(Talk { pipe, socket, carrier, input: Vec::new() })
    }

    /// Whether another request may be sent: the other side has neither ended nor, on HTTP/2, said that it will take no more. A client that
    /// does not look loses requests to every server there is.
    pub fn may_ask(&mut self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket takes the option");
        let mut bytes = [0; 4096];
        let read = self.pipe.read(&mut bytes);
        self.socket.set_nonblocking(false).expect("a socket takes the option");
        match (read, &mut self.carrier) {
            (Err(error), None) => error.kind() == std::io::ErrorKind::WouldBlock,
            (Ok(_), None) => false,
            (Ok(count @ 1..), Some(carrier)) => {
                let fine = carrier.machine.receive(&bytes[..count], Instant::from_nanos(0)).is_ok();
                fine && carrier.flush(&mut self.pipe).is_ok() && carrier.machine.accepts_streams()
            }
            (Ok(_), Some(_)) => false,
            (Err(error), Some(carrier)) => {
                error.kind() == std::io::ErrorKind::WouldBlock && carrier.machine.accepts_streams()
            }
        }
    }

    /// Sends text of a request. That the other side has left is found by reading.
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        let mut text = text.as_ref();
        let Some(carrier) = &mut self.carrier else {
            let _ = self.pipe.write_all(text);
            return;
        };
        let stream = *carrier.stream.get_or_insert_with(|| carrier.machine.open(0).expect("the other side takes it"));
        loop {
            match carrier.machine.send(stream, text) {
                Ok(taken) => text = &text[taken..],
                Err(_) => return,
            }
            if carrier.flush(&mut self.pipe).is_err() || text.is_empty() {
                return;
            }
            if carrier.receive(&mut self.pipe).is_err() {
                return;
            }
        }
    }

    pub fn answer(&mut self) -> Result<Answer, End> {
        self.answer_to(false)
    }

    pub fn answer_to(&mut self, head_only: bool) -> Result<Answer, End> {
        let Talk { pipe, carrier, input, .. } = self;
        let answer = read_answer(input, head_only, |input| match carrier {
            None => more(pipe, input),
            Some(carrier) => carrier.more(pipe, input),
        });
        let over = answer.as_ref().map_or(true, |answer| answer.status >= 200);
        if let Some(carrier) = carrier.as_mut().filter(|_| over) {
            carrier.let_go(pipe);
            input.clear();
        }
        answer
    }

    /// Whether the last request was given back unserved, so that it may be asked again: REFUSED_STREAM, or behind a GOAWAY.
    pub fn was_given_back(&self) -> bool {
        self.carrier.as_ref().is_some_and(|carrier| carrier.given_back)
    }

    /// Waits until some of an answer's body holds `what`, and gives all that came until then.
    pub fn until(&mut self, what: &[u8]) -> Vec<u8> {
        while crate::client::find(&self.input, what).is_none() {
            self.more().unwrap_or_else(|end| panic!("{end:?} before {:?}", String::from_utf8_lossy(what)));
        }
        std::mem::take(&mut self.input)
    }

    /// What came so far, and whatever comes next.
    pub fn next_bytes(&mut self) -> Vec<u8> {
        if self.input.is_empty() {
            self.more().unwrap_or_else(|end| panic!("{end:?} instead of more bytes"));
        }
        std::mem::take(&mut self.input)
    }

    fn more(&mut self) -> Result<(), End> {
        match &mut self.carrier {
            None => more(&mut self.pipe, &mut self.input),
            Some(carrier) => carrier.more(&mut self.pipe, &mut self.input),
        }
    }

    pub fn ask(&mut self, text: impl AsRef<[u8]>) -> Answer {
        self.send(text);
        self.answer().unwrap_or_else(|end| panic!("no answer: {end:?}"))
    }

    /// GET with more fields, each with its line end.
    pub fn get(&mut self, target: &str, fields: &str) -> Answer {
        self.ask(format!("GET {target} HTTP/1.1\r\nHost: {NAME}\r\n{fields}\r\n"))
    }
}

impl Carrier {
    fn flush(&mut self, pipe: &mut Box<dyn Pipe>) -> Result<(), End> {
        loop {
            while self.machine.next_event().is_some() {}
            let output = self.machine.output().to_vec();
            if output.is_empty() {
                return Ok(());
            }
            pipe.write_all(&output).and_then(|()| pipe.flush()).map_err(|_| End::Reset)?;
            self.machine.sent(output.len());
        }
    }

    fn receive(&mut self, pipe: &mut Box<dyn Pipe>) -> Result<(), End> {
        self.flush(pipe)?;
        let mut bytes = Vec::new();
        more(pipe, &mut bytes)?;
        let fine = self.machine.receive(&bytes, Instant::from_nanos(0));
        assert!(fine.is_ok(), "the balancer broke HTTP/2: {fine:?}");
        self.flush(pipe)
    }

    fn more(&mut self, pipe: &mut Box<dyn Pipe>, input: &mut Vec<u8>) -> Result<(), End> {
        let stream = self.stream.expect("a request was sent");
        let mut space = vec![0; 65_536];
        loop {
            match self.machine.recv(stream, &mut space) {
                StreamRecv::Bytes(count) => {
                    input.extend_from_slice(&space[..count]);
                    // Room was given back.
                    let _ = self.flush(pipe);
                    return Ok(());
                }
                StreamRecv::End => return Err(End::Closed),
                StreamRecv::Reset(code) => {
                    self.given_back = code.0 == REFUSED_STREAM;
                    return Err(End::Reset);
                }
                StreamRecv::Dry => self.receive(pipe)?,
            }
        }
    }

    fn let_go(&mut self, pipe: &mut Box<dyn Pipe>) {
        if let Some(stream) = self.stream.take() {
            self.machine.close(stream, Close::Orderly);
            let _ = self.flush(pipe);
        }
    }
}

/// Who signs the certificates of a test, and what its clients trust.
pub struct Forge {
    folder: Folder,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    clients: Mutex<BTreeMap<bool, Arc<rustls::ClientConfig>>>,
}

/// Files of a certificate and its key.
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Issued {
    pub fn keys(&self) -> String {
        format!("certificate = \"{}\"\nkey = \"{}\"\n", self.certificate.display(), self.key.display())
    }

    pub fn der(&self) -> Vec<u8> {
        self.chain()[0].to_vec()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(&self.certificate)
            .expect("it was written")
            .map(|it| it.expect("whole PEM"))
            .collect()
    }
}

impl Forge {
    pub fn new(name: &str) -> Forge {
        let folder = Folder::new(name);
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, format!("authority of {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.self_signed(&key).expect("an authority signs itself");
        fs::write(folder.0.join("ca.pem"), certificate.pem()).expect("the folder can be written");
        let root = certificate.der().clone();
        Forge { folder, issuer: Issuer::new(params, key), root, clients: Mutex::default() }
    }

    pub fn ca(&self) -> String {
        self.folder.0.join("ca.pem").display().to_string()
    }

    pub fn issue(&self, stem: &str, names: &[&str]) -> Issued {
        self.issue_with(stem, names, |_| {})
    }

    pub fn expired(&self, stem: &str, names: &[&str]) -> Issued {
        self.issue_with(stem, names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn issue_with(&self, stem: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().expect("an ASCII name")),
            })
            .collect();
        params.distinguished_name.push(DnType::CommonName, stem);
        change(&mut params);
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it signs");
        let at = |end: &str| self.folder.0.join(format!("{stem}.{end}"));
        fs::write(at("pem"), certificate.pem()).expect("the folder can be written");
        fs::write(at("key"), key.serialize_pem()).expect("the folder can be written");
        Issued { certificate: at("pem"), key: at("key") }
    }

    /// An http and an https listener that are alike but for TLS; `keys` goes to both.
    pub fn listeners(&self, name: &str, site: Site, certificate: &Issued, keys: &str) -> String {
        let Site { plain, tls } = site;
        format!(
            "[[listener]]\nname = \"{name}\"\nlisten = \"{plain}\"\n{keys}\n\
             [[listener]]\nname = \"{name}-tls\"\nlisten = \"{tls}\"\nprotocol = \"https\"\n{keys}\n\
             [[listener.certificate]]\n{}",
            certificate.keys()
        )
    }

    /// The certificate that the server shows a client which asks for `name`.
    pub fn shown(&self, address: SocketAddr, name: &str) -> std::io::Result<Vec<u8>> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream = self.handshake(socket, name, false)?;
        let chain = stream.conn.peer_certificates().expect("a handshake shows a certificate");
        Ok(chain[0].to_vec())
    }

    fn handshake(
        &self,
        mut socket: TcpStream,
        name: &str,
        http2: bool,
    ) -> std::io::Result<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
        let mut clients = self.clients.lock().expect("no client panics with it");
        let config = Arc::clone(clients.entry(http2).or_insert_with(|| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.root.clone()).expect("a root");
            let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            // Who resumes a session is shown no certificate.
            config.resumption = rustls::client::Resumption::disabled();
            config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
            Arc::new(config)
        }));
        drop(clients);
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut session = rustls::ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(rustls::StreamOwned::new(session, socket))
    }
}

/// Makes a script for plain connections one for TLS connections with this certificate.
pub fn in_tls<F>(issued: &Issued, script: F) -> impl Fn(TcpStream) + Send + Sync + use<F>
where
    F: Fn(Box<dyn Pipe>) + Send + Sync + 'static,
{
    let key = PrivateKeyDer::from_pem_file(&issued.key).expect("it was written");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(issued.chain(), key)
        .expect("key and certificate belong together");
    let config = Arc::new(config);
    move |socket| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a config that is in order");
        script(Box::new(rustls::StreamOwned::new(session, socket)));
    }
}

/// Frames by hand: kind, flags, stream, payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small frames");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A header block of literals that are not indexed (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer strings need a longer length");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The frames of a connection, one after another, until it ends.
pub struct Frames<S> {
    pub pipe: S,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl<S: Read> Iterator for Frames<S> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.pipe.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.pipe.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}
