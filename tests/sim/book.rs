//! What was meant and what was seen: every request by its id, with what its client sends, what a backend
//! is to do about it, and what backends then saw and answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub type Shared = Rc<RefCell<Book>>;

#[derive(Default)]
pub struct Book {
    pub requests: BTreeMap<u64, Request>,
    /// What backends saw of each request, a row for each head that reached one.
    pub seen: BTreeMap<u64, Vec<Seen>>,
    /// What came through a tunnel to its backend.
    pub tunnelled: BTreeMap<u64, Vec<u8>>,
    /// Broken promises that were noticed on the way.
    pub complaints: Vec<String>,
}

impl Book {
    pub fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    pub fn seen(&self, id: u64) -> &[Seen] {
        self.seen.get(&id).map_or(&[], Vec::as_slice)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Good,
    /// The head breaks the rules: no backend may see any of it.
    BadHead,
    /// The body breaks the rules behind a good head: no backend may take it for whole.
    BadBody,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    pub http10: bool,
    pub form: Form,
    /// As it goes out.
    pub wire: Vec<u8>,
    pub head_len: usize,
    /// Without its coding.
    pub body: Vec<u8>,
    pub trailer: bool,
    /// The client waits for a 100 before it sends the body.
    pub expects: bool,
    /// Bytes the client sends once the protocol was switched.
    pub upgrade: Option<Vec<u8>>,
    pub reply: Reply,
}

impl Request {
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
    }
}

/// What a backend does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer(Answer),
    /// 101, these bytes, and then whatever the client sends is read to its end.
    Switch(Vec<u8>),
    /// Bytes that are no answer, then an end.
    Garbage(Vec<u8>),
    /// An end instead of an answer.
    Ends(Ends),
    /// The first to be asked ends without an answer; the next answers.
    EndsOnce(Ends, Answer),
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    Length,
    Chunked,
    UntilClose,
}

/// What becomes of the backend's connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Kept,
    /// `Connection: close`, and it is closed.
    Announced,
    /// Closed after a while without a word.
    Silent(Duration),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub interim: Vec<u16>,
    pub status: u16,
    pub framed: Framed,
    pub body: Vec<u8>,
    pub trailer: bool,
    /// At the request's head already, whatever of its body is still to come.
    pub early: bool,
    /// Before anything is sent.
    pub delay: Duration,
    /// Between the first and the second half of what is sent.
    pub pause: Duration,
    /// Only so many bytes of the final head and body (in thousandths of them) are sent.
    pub cut: Option<(u64, Ends)>,
    pub after: After,
}

/// One head that reached a backend.
#[derive(Clone, Debug)]
pub struct Seen {
    pub backend: SocketAddr,
    /// The whole request came.
    pub whole: bool,
}

/// What a client may get to see of an answer.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub body: Vec<u8>,
    pub trailer: bool,
    /// Nothing of it was held back. An answer until close that ends with FIN is whole for everybody.
    pub whole: bool,
}

/// Bytes that tell whose they are, wherever one looks.
pub fn pattern(id: u64, salt: u64, size: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(size + 24);
    while text.len() < size {
        text.extend_from_slice(format!("<{id}.{salt}@{}>", text.len()).as_bytes());
    }
    text.truncate(size);
    text
}

/// Bytes in the chunked coding, in pieces of the given size.
pub fn chunked(body: &[u8], piece: usize, trailer: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(piece.max(1)) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    if let Some(trailer) = trailer {
        out.extend_from_slice(format!("{trailer}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}
