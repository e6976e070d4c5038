//! One request over a socket of its own, and everything about how it went.
//!
//! Blocking, with a deadline for the whole and bounds for head and body, since whatever answers may be hostile. It is lenient
//! where the balancer is strict, so that a broken answer can be described; what the balancer would say to it is asked of
//! its own parser.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_diagnose::doctor::facts::{
    Answer, Begins, Certificate, End, Failure, Handshake, Looks, Outcome, Relayed, Try,
};
use evenkeel_tls::{Seen, Witness};
use evenkeel_wire::response::Asked;
use evenkeel_wire::{BodyReader, FieldSlots, Framing, Parsed, parse_response};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, ipproto, recv, send, socket_with,
    sockopt,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Most of a head that is read: eight times what the balancer takes unless told otherwise.
const HEAD_MAX: usize = 256 << 10;
/// Most of a body that is read.
const BODY_MAX: u64 = 8 << 20;
/// How much of a body is looked at to see who wrote it.
const LOOKED_AT: usize = 4 << 10;
/// How long a tcp service may take to speak first.
const GREETING: Duration = Duration::from_secs(1);

/// How to get to who is asked.
#[derive(Clone)]
pub struct Way {
    pub to: SocketAddr,
    /// `None`: the kernel's choice.
    pub from: Option<IpAddr>,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// A PROXY header, made for the two ends of the connection.
    pub proxy: Option<fn(SocketAddr, SocketAddr) -> Vec<u8>>,
    pub patience: Duration,
    pub header_limit: usize,
}

/// A TCP connection within `patience`.
pub fn dial(to: SocketAddr, from: Option<IpAddr>, patience: Duration) -> Result<TcpStream, Failure> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let sock = socket_with(family, SocketType::STREAM, flags, None).map_err(here)?;
    if let Some(from) = from {
        bind(&sock, &SocketAddr::new(from, 0)).map_err(here)?;
    }
    match connect(&sock, &to) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => wait_connected(&sock, patience)?,
        Err(errno) => return Err(refusal(errno)),
    }
    let stream = TcpStream::from(sock);
    stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_nodelay(true))
        .map_err(|error| Failure::Here(error.to_string()))?;
    Ok(stream)
}

fn wait_connected(sock: &OwnedFd, patience: Duration) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(sock, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) => return Err(Failure::NoAnswerToSyn),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(here(errno)),
        }
    }
    match sockopt::socket_error(sock).map_err(here)? {
        Ok(()) => Ok(()),
        Err(errno) => Err(refusal(errno)),
    }
}

fn refusal(errno: Errno) -> Failure {
    match errno {
        Errno::CONNREFUSED => Failure::Refused,
        Errno::TIMEDOUT => Failure::NoAnswerToSyn,
        Errno::CONNRESET => Failure::Reset,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::HOSTDOWN | Errno::ACCESS | Errno::PERM => {
            Failure::Unreachable { errno: errno.raw_os_error(), text: std::io::Error::from(errno).to_string() }
        }
        errno => here(errno),
    }
}

fn here(errno: Errno) -> Failure {
    Failure::Here(std::io::Error::from(errno).to_string())
}

/// Whether the host answers an echo request; `None` where this host may not send one.
pub fn pings(host: IpAddr) -> Option<bool> {
    let (family, protocol, request, reply) = match host {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let sock = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(protocol)).ok()?;
    connect(&sock, &SocketAddr::new(host, 0)).ok()?;
    // The kernel fills in checksum and id.
    send(&sock, &[request, 0, 0, 0, 0, 0, 0, 1], SendFlags::empty()).ok()?;
    let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
    let heard = poll(&mut [PollFd::new(&sock, PollFlags::IN)], Some(&timeout)).ok()?;
    let mut answer = [0_u8; 64];
    let (count, _) = if heard > 0 { recv(&sock, &mut answer[..], RecvFlags::empty()).ok()? } else { (0, 0) };
    Some(count > 0 && answer[0] == reply)
}

/// Either kind of connection.
enum Link {
    Plain(TcpStream),
    Secured(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Link {
    const fn socket(&self) -> &TcpStream {
        match self {
            Link::Plain(stream) => stream,
            Link::Secured(stream) => &stream.sock,
        }
    }

    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Link::Plain(stream) => stream.read(space),
            Link::Secured(stream) => stream.read(space),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Link::Plain(stream) => stream.write_all(bytes),
            Link::Secured(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

fn secure(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let connection = ClientConnection::new(Arc::clone(config), name.clone()).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
            return Err(match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
                ErrorKind::UnexpectedEof => "the connection was closed in the middle".to_owned(),
                ErrorKind::ConnectionReset => "the connection was reset in the middle".to_owned(),
                _ => error.to_string(),
            });
        }
    }
    Ok(stream)
}

/// Without the second it was, so that equal refusals are equal.
fn timeless(why: String) -> String {
    why.split(": verification time").next().map(str::to_owned).unwrap_or(why)
}

/// A handshake with anybody, described.
pub fn shake_hands(
    to: SocketAddr,
    from: Option<IpAddr>,
    witness: &Witness,
    name: &ServerName<'static>,
    patience: Duration,
) -> Handshake {
    let shown = match name {
        ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
        _ => None,
    };
    let began = Instant::now();
    let mut seen = Handshake { name: shown, ..Handshake::default() };
    let shaken = dial(to, from, patience).map_err(|failure| format!("{failure:?}")).and_then(|stream| {
        let _ = stream.set_read_timeout(Some(patience));
        let _ = stream.set_write_timeout(Some(patience));
        secure(stream, &witness.config, name)
    });
    seen.took = began.elapsed();
    match shaken {
        Ok(stream) => {
            seen.version = stream.conn.protocol_version().and_then(|version| version.as_str()).map(str::to_owned);
        }
        Err(why) => seen.failed = Some(why),
    }
    let Seen { chain, untrusted } = witness.seen();
    seen.chain = chain
        .into_iter()
        .map(|one| Certificate {
            subject: one.subject,
            issuer: one.issuer,
            names: one.names,
            not_before: one.not_before,
            not_after: one.not_after,
        })
        .collect();
    seen.untrusted = untrusted;
    seen
}

/// Sends `head` and reads the answer. `method` decides whether it has a body.
pub fn ask(way: &Way, head: &[u8], method: &str) -> Try {
    let began = Instant::now();
    let until = began + way.patience;
    let mut connected = None;
    let (head_at, outcome) = match open(way, &mut connected, began) {
        Ok(link) => talk(link, head, method, way.header_limit, began, until),
        Err(failure) => (None, Outcome::Failed(failure)),
    };
    Try { connected, head: head_at, whole: began.elapsed(), outcome }
}

fn open(way: &Way, connected: &mut Option<Duration>, began: Instant) -> Result<Link, Failure> {
    let mut stream = dial(way.to, way.from, way.patience)?;
    *connected = Some(began.elapsed());
    let local = |error: std::io::Error| Failure::Here(error.to_string());
    stream.set_read_timeout(Some(way.patience)).map_err(local)?;
    stream.set_write_timeout(Some(way.patience)).map_err(local)?;
    if let Some(written) = way.proxy {
        let ours = stream.local_addr().map_err(local)?;
        stream.write_all(&written(ours, way.to)).map_err(|_| Failure::Reset)?;
    }
    match &way.tls {
        Some((config, name)) => secure(stream, config, name)
            .map(|stream| Link::Secured(Box::new(stream)))
            .map_err(|why| Failure::Tls(timeless(why))),
        None => Ok(Link::Plain(stream)),
    }
}

/// What one read came to.
enum Piece {
    Bytes(usize),
    End,
    Reset,
    Late,
}

fn read(link: &mut Link, space: &mut [u8], until: Instant) -> Piece {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() || link.socket().set_read_timeout(Some(left)).is_err() {
        return Piece::Late;
    }
    match link.read(space) {
        Ok(0) => Piece::End,
        Ok(count) => Piece::Bytes(count),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Piece::Late,
            // TLS that ends without its goodbye.
            ErrorKind::UnexpectedEof => Piece::End,
            ErrorKind::Interrupted => read(link, space, until),
            _ => Piece::Reset,
        },
    }
}

fn talk(
    mut link: Link,
    head: &[u8],
    method: &str,
    header_limit: usize,
    began: Instant,
    until: Instant,
) -> (Option<Duration>, Outcome) {
    // Who refuses a request may answer and close before it has read all of it; the answer is still there then.
    let _ = link.write_all(head);
    let mut bytes = Vec::new();
    let mut space = vec![0; 16 << 10];
    let end = loop {
        skip_interim(&mut bytes);
        if let Some(end) = head_end(&bytes) {
            break end;
        }
        if !bytes.is_empty() && !is_http_so_far(&bytes) {
            return (None, Outcome::Failed(Failure::NotHttp { begins: begins(&bytes) }));
        }
        if bytes.len() > HEAD_MAX {
            return (None, Outcome::Failed(Failure::HeadEndless { bytes: HEAD_MAX }));
        }
        let failure = match read(&mut link, &mut space, until) {
            Piece::Bytes(count) => {
                bytes.extend_from_slice(&space[..count]);
                continue;
            }
            Piece::End => Failure::Closed,
            Piece::Reset => Failure::Reset,
            Piece::Late => Failure::Silent,
        };
        return (None, Outcome::Failed(failure));
    };
    let head_at = began.elapsed();
    let mut answer = described(&bytes[..end]);
    let (framing, refused) = strict(&bytes[..end], header_limit, method);
    answer.refused = refused;
    let Some(framing) = framing else {
        answer.end = End::NotReadOn;
        return (Some(head_at), Outcome::Answered(answer));
    };
    read_body(&mut link, &mut answer, framing, &bytes[end..], until);
    (Some(head_at), Outcome::Answered(answer))
}

/// What the balancer's parser makes of the head: how its body ends, or why it is refused.
fn strict(
    head: &[u8],
    header_limit: usize,
    method: &str,
) -> (Option<Framing>, Option<(evenkeel_model::Cause, String)>) {
    let mut slots = FieldSlots::new();
    match parse_response(head, &mut slots, header_limit, Asked { head: method == "HEAD", upgrade: false }) {
        Parsed::Whole(head) => (Some(head.framing), None),
        Parsed::Refused(refusal) => (None, Some((refusal.cause, refusal.detail.to_owned()))),
        Parsed::Partial => (None, None),
    }
}

fn read_body(link: &mut Link, answer: &mut Answer, framing: Framing, first: &[u8], until: Instant) {
    let mut body = BodyReader::new(framing);
    let mut kept: Vec<u8> = Vec::new();
    let mut hash = Hash::default();
    let mut space = vec![0; 64 << 10];
    let mut piece = first.to_vec();
    answer.end = loop {
        let mut payload = Vec::new();
        if body.advance_decoding(&piece, &mut payload).is_err() {
            break End::BrokenChunks;
        }
        hash.add(&payload);
        keep(&mut kept, &payload);
        if body.is_done() {
            break End::Whole;
        }
        if body.payload_bytes() > BODY_MAX {
            break End::NotReadOn;
        }
        match read(link, &mut space, until) {
            Piece::Bytes(count) => piece = space[..count].to_vec(),
            Piece::End if body.end_of_stream().is_ok() => break End::Whole,
            Piece::End => break End::Short,
            Piece::Reset => break End::Reset,
            Piece::Late => break End::Stalled,
        }
    };
    answer.body_bytes = body.payload_bytes();
    answer.body_hash = hash.0;
    answer.looks = looks(answer, &kept);
}

/// The beginning of a body and its end, where an application that failed in the middle says so.
fn keep(kept: &mut Vec<u8>, payload: &[u8]) {
    kept.extend_from_slice(payload);
    if kept.len() > 2 * LOOKED_AT {
        kept.drain(LOOKED_AT..kept.len() - LOOKED_AT);
    }
}

/// Answers before the answer are read over.
fn skip_interim(bytes: &mut Vec<u8>) {
    while let Some(end) = head_end(bytes) {
        let status = bytes.get(9..12).unwrap_or_default();
        if status.first() != Some(&b'1') || status == b"101" {
            return;
        }
        bytes.drain(..end);
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// True of everything that may yet become `HTTP/1.`.
fn is_http_so_far(bytes: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    bytes.starts_with(START) || START.starts_with(bytes)
}

fn begins(bytes: &[u8]) -> Begins {
    match bytes {
        [0x15 | 0x16, 0x03, ..] => Begins::Tls,
        [b'S', b'S', b'H', b'-', ..] => Begins::Ssh,
        // A frame of type SETTINGS on stream 0.
        [0, _, _, 4, _, 0, 0, 0, 0, ..] => Begins::Http2,
        [b'<', ..] => Begins::Markup,
        other => Begins::Other(String::from_utf8_lossy(&other[..other.len().min(24)]).escape_debug().to_string()),
    }
}

/// Fields whose values a reader may want; of more there is nothing to be had but a long report.
const FIELDS_MAX: usize = 200;

fn described(head: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let fields = lines.filter_map(|line| line.split_once(':')).take(FIELDS_MAX);
    let fields = fields.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
    Answer { status, fields, head_bytes: head.len(), ..Answer::default() }
}

fn looks(answer: &Answer, body: &[u8]) -> Looks {
    let text = String::from_utf8_lossy(body);
    let has = |part: &str| text.contains(part);
    let server = answer.field("server").unwrap_or_default().to_ascii_lowercase();
    let of_type =
        |kind: &str| answer.field("content-type").is_some_and(|value| value.to_ascii_lowercase().contains(kind));
    let failed = ["PHP Fatal error: ", "PHP Parse error: "].into_iter().any(|words| answer.status >= 500 && has(words));
    if failed || has("<b>Fatal error</b>: ") || has("<b>Parse error</b>: ") {
        Looks::PhpError
    } else if has("plain HTTP request was sent to HTTPS port")
        || has("speaking plain HTTP to an SSL-enabled server port")
        || body.starts_with(b"Client sent an HTTP request to an HTTPS server")
    {
        Looks::WantsTls
    } else if body.starts_with(b"File not found.") {
        Looks::PhpNotFound
    } else if has("<center>nginx") || matches!(answer.status, 502 | 504) && server.starts_with("nginx") {
        Looks::NginxError
    } else if has("<address>Apache") || matches!(answer.status, 502 | 504) && server.starts_with("apache") {
        Looks::ApacheError
    } else if answer.field("proxy-status").is_some_and(|value| value.starts_with("evenkeel; error=")) {
        Looks::Evenkeel
    } else if body.is_empty() {
        Looks::Empty
    } else if of_type("json") {
        Looks::Json
    } else if of_type("html") {
        Looks::Markup
    } else {
        Looks::Other
    }
}

/// FNV-1a: two bodies are compared, nobody attacks.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Connects and waits a moment: whether a tcp service takes the connection, speaks first, or ends it.
pub fn greet(to: SocketAddr, from: Option<IpAddr>, patience: Duration) -> Try {
    let began = Instant::now();
    let (connected, outcome) = match dial(to, from, patience) {
        Err(failure) => (None, Outcome::Failed(failure)),
        Ok(stream) => {
            let connected = began.elapsed();
            let mut link = Link::Plain(stream);
            let relayed = match read(&mut link, &mut [0; 4096], Instant::now() + GREETING.min(patience)) {
                Piece::Bytes(count) => Relayed::Said(count),
                Piece::End => Relayed::ClosedAtOnce,
                Piece::Reset => Relayed::ResetAtOnce,
                Piece::Late => Relayed::Quiet,
            };
            (Some(connected), Outcome::Relayed(relayed))
        }
    };
    Try { connected, head: None, whole: began.elapsed(), outcome }
}
