//! A small client for the admin API: one request, one answer, over TCP, TLS or a unix socket; or a stream of events.
//!
//! Blocking, since a command asks one thing at a time, and HTTP/1.0, since an answer that ends with its connection needs no
//! framing. Everything is bounded: whatever answers there may be something else.

use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// For a connection, and for each piece of an answer. An order to a node with 100,000 backends may take a while.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a whole answer.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(60);
/// Largest document: 100,000 checks with ten findings each are less.
const SIZE_MAX: u64 = 1 << 28;
/// Largest head of an answer.
const HEAD_MAX: u64 = 64 << 10;
/// A stream that is silent for longer than its keep-alive lines come is dead.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);

/// Where a node is asked.
#[derive(Clone, Debug)]
pub enum Place {
    Socket(PathBuf),
    /// `host:port`.
    Plain(String),
    Secured {
        at: String,
        name: ServerName<'static>,
        tls: Arc<ClientConfig>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Socket(path) => write!(f, "{}", path.display()),
            Place::Plain(at) => f.write_str(at),
            Place::Secured { at, .. } => write!(f, "https://{at}"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Client {
    pub place: Place,
    pub token: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nobody is there, or what is there is no evenkeel node.
    NoNode { place: String, why: String },
    /// The node will not.
    Refused(Box<Problem>),
    /// What was asked makes no sense, and nobody was asked.
    Usage(String),
}

/// What the node says when it will not (RFC 9457).
#[derive(Debug)]
pub struct Problem {
    pub place: String,
    pub status: u16,
    pub body: Value,
    /// Whether a token was shown.
    pub with_token: bool,
}

impl Failure {
    pub const fn code(&self) -> u8 {
        match self {
            Failure::NoNode { .. } | Failure::Refused(_) => 1,
            Failure::Usage(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoNode { place, why } => {
                writeln!(f, "no evenkeel node answers on {place}: {why}")?;
                write!(f, "      --config FILE, --admin ADDRESS or --socket FILE says where one is")
            }
            Failure::Usage(text) => f.write_str(text),
            Failure::Refused(problem) => problem.fmt(f),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.body["detail"].as_str().or(self.body["title"].as_str());
        match (self.status, self.with_token) {
            (401, false) => {
                write!(f, "the node at {} wants a token: --token-file FILE", self.place)?;
            }
            (401, true) => write!(f, "the node at {} does not know this token", self.place)?,
            (403, _) => write!(f, "the node at {} does not allow it: {}", self.place, detail.unwrap_or("forbidden"))?,
            (status, _) => match detail {
                Some(detail) => f.write_str(detail)?,
                None => write!(f, "the node at {} answers {status}", self.place)?,
            },
        }
        for error in self.body["errors"].as_array().into_iter().flatten() {
            let text = |key: &str| error[key].as_str().unwrap_or_default();
            let place = format!("{}:{}", error["line"], error["column"]);
            write!(f, "\n{}: {place}: {} [{}]", text("severity"), text("text"), text("code"))?;
            if let Some(help) = error["help"].as_str() {
                write!(f, "\n      {help}")?;
            }
        }
        Ok(())
    }
}

/// What is sent along.
pub struct Body<'a> {
    pub media_type: &'a str,
    pub bytes: &'a [u8],
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
}

impl Client {
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let bytes = body.to_string();
        self.ask("POST", path, Some(Body { media_type: "application/json", bytes: bytes.as_bytes() }))
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<Body<'_>>) -> Result<Value, Failure> {
        let (status, answer) = self.exchange(method, path, body)?;
        let document = match answer.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&answer),
        };
        match (status, document) {
            (200..=299, Ok(document)) => Ok(document),
            (200..=299, Err(_)) => Err(self.strange()),
            (status, document) => Err(self.refused(status, document.unwrap_or(Value::Null))),
        }
    }

    /// A stream of events behind number `after`. It goes on until the node ends or the caller drops it.
    pub fn events(&self, path: &str, after: Option<u64>) -> Result<Stream, Failure> {
        let last = after.map(|after| format!("Last-Event-ID: {after}\r\n")).unwrap_or_default();
        let mut link = self.open(STREAM_PATIENCE)?;
        let head = format!("GET {path} HTTP/1.0\r\n{}Accept: text/event-stream\r\n{last}\r\n", self.fields());
        link.write_all(head.as_bytes()).map_err(|error| self.gone(&error))?;
        let mut reader = BufReader::new(link);
        let status = read_head(&mut reader).map_err(|error| self.gone(&error))?.ok_or_else(|| self.strange())?;
        if status == 200 {
            return Ok(Stream { reader });
        }
        let mut answer = Vec::new();
        let _ = reader.take(HEAD_MAX).read_to_end(&mut answer);
        Err(self.refused(status, serde_json::from_slice(&answer).unwrap_or(Value::Null)))
    }

    fn exchange(&self, method: &str, path: &str, body: Option<Body<'_>>) -> Result<(u16, Vec<u8>), Failure> {
        let until = Instant::now() + PATIENCE_IN_ALL;
        let mut link = self.open(PATIENCE)?;
        let sent = body.as_ref().map_or_else(String::new, |body| {
            format!("Content-Type: {}\r\nContent-Length: {}\r\n", body.media_type, body.bytes.len())
        });
        let head = format!("{method} {path} HTTP/1.0\r\n{}Accept: application/json\r\n{sent}\r\n", self.fields());
        // One write: a node that refuses by the head alone must not make a second one fail before its answer is read.
        let mut request = head.into_bytes();
        request.extend_from_slice(body.map_or(&[][..], |body| body.bytes));
        let written = link.write_all(&request);
        let mut reader = BufReader::new(link);
        let status = match read_head(&mut reader) {
            Ok(Some(status)) => status,
            Ok(None) => return Err(self.strange()),
            // What could not be sent says more than what did not come.
            Err(error) => return Err(self.gone(&written.err().unwrap_or(error))),
        };
        let (mut answer, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok((status, answer)),
                Ok(read) => answer.extend_from_slice(&piece[..read]),
                // Some ends of TLS are not announced; whether all is there the JSON tells.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok((status, answer)),
                Err(error) => return Err(self.gone(&error)),
            }
            if answer.len() as u64 > SIZE_MAX || Instant::now() > until {
                return Err(self.no_node("its answer does not end".to_owned()));
            }
        }
    }

    fn fields(&self) -> String {
        let host = match &self.place {
            Place::Socket(_) => "localhost",
            Place::Plain(at) | Place::Secured { at, .. } => at,
        };
        let token = self.token.as_ref().map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        format!("Host: {host}\r\nUser-Agent: evenkeel/{}\r\n{token}", env!("CARGO_PKG_VERSION"))
    }

    fn open(&self, patience: Duration) -> Result<Link, Failure> {
        let timed = |stream: TcpStream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let link = match &self.place {
            Place::Socket(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Ok(Link::Socket(stream))
            }),
            Place::Plain(at) => dial(at).and_then(timed).map(Link::Plain),
            Place::Secured { at, name, tls } => dial(at).and_then(timed).and_then(|stream| {
                let session = ClientConnection::new(Arc::clone(tls), name.clone()).map_err(std::io::Error::other)?;
                Ok(Link::Secured(Box::new(StreamOwned::new(session, stream))))
            }),
        };
        link.map_err(|error| self.gone(&error))
    }

    fn gone(&self, error: &std::io::Error) -> Failure {
        self.no_node(match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "it says nothing in time".to_owned(),
            ErrorKind::NotFound => "there is no such socket".to_owned(),
            ErrorKind::PermissionDenied => "this user may not open it".to_owned(),
            _ => error.to_string(),
        })
    }

    fn strange(&self) -> Failure {
        self.no_node("what answers there is something else".to_owned())
    }

    fn no_node(&self, why: String) -> Failure {
        Failure::NoNode { place: self.place.to_string(), why }
    }

    fn refused(&self, status: u16, body: Value) -> Failure {
        let (place, with_token) = (self.place.to_string(), self.token.is_some());
        // Every refusal of a node is a problem document; what is none was said by somebody else.
        if status == 404 && body["status"].as_u64().is_none() {
            return self.strange();
        }
        Failure::Refused(Box::new(Problem { place, status, body, with_token }))
    }
}

/// The first address that answers.
fn dial(at: &str) -> std::io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = at.to_socket_addrs()?.collect();
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&super::super::node::reachable(address), PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

enum Link {
    Socket(UnixStream),
    Plain(TcpStream),
    Secured(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Link {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Link::Socket(stream) => stream.read(space),
            Link::Plain(stream) => stream.read(space),
            Link::Secured(stream) => stream.read(space),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Link::Socket(stream) => stream.write(bytes),
            Link::Plain(stream) => stream.write(bytes),
            Link::Secured(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Link::Socket(stream) => stream.flush(),
            Link::Plain(stream) => stream.flush(),
            Link::Secured(stream) => stream.flush(),
        }
    }
}

/// The status of an answer whose head has been read; `None` when it is none of HTTP.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<u16>> {
    let mut limited = reader.take(HEAD_MAX);
    let mut line = Vec::new();
    limited.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "it closes the connection without an answer"));
    }
    let first = String::from_utf8_lossy(&line).into_owned();
    loop {
        line.clear();
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if matches!(&line[..], b"\r\n" | b"\n") {
            break;
        }
    }
    Ok(first.strip_prefix("HTTP/1.").and_then(|rest| rest.split_ascii_whitespace().nth(1)?.parse().ok()))
}

/// Events as they come.
pub struct Stream {
    reader: BufReader<Link>,
}

impl Stream {
    /// The next one; `None` when the node has ended the stream.
    pub fn next(&mut self) -> std::io::Result<Option<Told>> {
        next_told(&mut self.reader)
    }
}

/// Reads one event as the HTML standard has them, without its leniencies for other line ends.
fn next_told(reader: &mut impl BufRead) -> std::io::Result<Option<Told>> {
    let (mut told, mut begun) = (Told::default(), false);
    loop {
        let mut line = Vec::new();
        reader.take(SIZE_MAX).read_until(b'\n', &mut line)?;
        // An event that was cut off is none.
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            if begun {
                return Ok(Some(told));
            }
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match key {
            "id" => told.id = Some(value.to_owned()),
            "event" => told.event = Some(value.to_owned()),
            "data" => {
                if !told.data.is_empty() {
                    told.data.push('\n');
                }
                told.data.push_str(value);
            }
            // A comment, to keep the connection alive, or a field of another version.
            _ => continue,
        }
        begun = true;
    }
}

/// One part of a path.
pub fn escaped(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => escaped.push(byte.into()),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Told> {
        let mut reader = text.as_bytes();
        std::iter::from_fn(|| next_told(&mut reader).expect("a slice can be read")).collect()
    }

    #[test]
    fn events_are_told_apart_by_blank_lines_and_one_that_is_cut_off_is_none() {
        let told = |id: Option<&str>, event: Option<&str>, data: &str| Told {
            id: id.map(str::to_owned),
            event: event.map(str::to_owned),
            data: data.to_owned(),
        };
        let table = [
            ("", vec![]),
            (": ping\n\n\n", vec![]),
            ("id: 7\ndata: {}\n\n", vec![told(Some("7"), None, "{}")]),
            ("id:7\r\ndata:{}\r\n\r\n", vec![told(Some("7"), None, "{}")]),
            (
                "data: a\ndata: b\n\n: ping\n\nevent: dropped\ndata: c\n\n",
                vec![told(None, None, "a\nb"), told(None, Some("dropped"), "c")],
            ),
            ("data: a\n\ndata: cut", vec![told(None, None, "a")]),
            ("data: a\n\ndata: cut\n", vec![told(None, None, "a")]),
            ("retry: 5\nunknown\n\n", vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(all(text), expected, "{text:?}");
        }
    }

    #[test]
    fn whatever_answers_is_either_http_or_something_else() {
        let table: [(&[u8], Option<u16>); 6] = [
            (b"HTTP/1.0 200 OK\r\ncontent-type: x\r\n\r\nbody", Some(200)),
            (b"HTTP/1.1 404\n\n", Some(404)),
            (b"SSH-2.0-OpenSSH\r\n\r\n", None),
            (b"HTTP/1.0 200 OK\r\nno end", None),
            (b"HTTP/1.0 \xff\xfe\r\n\r\n", None),
            (b"HTTP/2 200\r\n\r\n", None),
        ];
        for (bytes, expected) in table {
            let mut reader = bytes;
            assert_eq!(read_head(&mut reader).expect("a slice can be read"), expected, "{}", bytes.escape_ascii());
        }
        assert!(read_head(&mut &b""[..]).is_err(), "a connection that is closed at once says nothing");
    }

    #[test]
    fn a_problem_is_told_with_all_its_errors_and_a_missing_token_with_the_way_to_give_one() {
        let problem = |status, body: &str, with_token| {
            let body = serde_json::from_str(body).unwrap_or(Value::Null);
            Problem { place: "10.0.0.1:9900".to_owned(), status, body, with_token }.to_string()
        };
        let table = [
            (problem(401, "", false), "the node at 10.0.0.1:9900 wants a token: --token-file FILE"),
            (problem(401, "", true), "the node at 10.0.0.1:9900 does not know this token"),
            (
                problem(403, r#"{"detail":"the token \"eyes\" has role read"}"#, true),
                "the node at 10.0.0.1:9900 does not allow it: the token \"eyes\" has role read",
            ),
            (problem(500, "", true), "the node at 10.0.0.1:9900 answers 500"),
            (
                problem(
                    422,
                    r#"{"detail":"2 errors","errors":[{"severity":"error","code":"unknown_key","line":3,"column":7,"text":"no such key","help":"did you mean it"}]}"#,
                    false,
                ),
                "2 errors\nerror: 3:7: no such key [unknown_key]\n      did you mean it",
            ),
        ];
        for (told, expected) in table {
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn names_of_pools_can_stand_in_a_path() {
        assert_eq!(escaped("web"), "web");
        assert_eq!(escaped("a/b c%"), "a%2Fb%20c%25");
        assert_eq!(escaped("[2001:db8::1]:80"), "%5B2001:db8::1%5D:80");
    }
}
