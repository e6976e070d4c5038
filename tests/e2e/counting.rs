//! Clients that count: every request that was sent, every answer that came, and what became of each connection.
//!
//! They behave as good clients do. They stop using a connection when they are told to (`Connection: close`, GOAWAY, the end of
//! it) and look before they ask again. What they count as a loss is therefore nobody's fault but the balancer's: a request
//! without its answer, a connection that was made and then cut, a datagram without its echo. That nobody listens where nobody
//! should is no loss.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::End;
use crate::daemon::{PATIENCE, own_ip};
use crate::l7_speak::{Forge, Front, NAME, Talk};

/// How a client behaves.
#[derive(Clone, Debug)]
pub enum Who {
    /// Asks over one connection for as long as it may.
    Keeps(Front, SocketAddr),
    /// Asks once over each connection.
    Comes(Front, SocketAddr),
    /// The same in plain HTTP where listeners come and go; asks one after the other.
    Visits(Vec<SocketAddr>),
    /// One connection for its whole life, a line and its echo at a time.
    Relayed(SocketAddr),
    /// One port for its whole life, a datagram and its echo at a time.
    Datagrams(SocketAddr),
}

impl Who {
    fn word(&self) -> String {
        match self {
            Who::Keeps(front, _) => format!("{} kept", front.word()),
            Who::Comes(front, _) => format!("{} new", front.word()),
            Who::Visits(_) => "http1 where listeners come and go".to_owned(),
            Who::Relayed(_) => "tcp".to_owned(),
            Who::Datagrams(_) => "udp".to_owned(),
        }
    }
}

/// What clients of one kind saw.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub asked: u64,
    pub answered: u64,
    pub connections: u64,
    /// Connections that were ended in good order.
    pub told_to_leave: u64,
    /// Nobody listened.
    pub refused: u64,
    /// HTTP/2 streams given back unserved, to be asked again (RFC 9113 section 8.7). A good client does; nothing is lost.
    pub given_back: u64,
    /// Relayed connections and sessions whose backend saw somebody new.
    pub moved: u64,
    pub lost: Vec<String>,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} asked, {} answered, {} connections, {} told to leave, {} refused, {} given back, {} moved, {} LOST",
            self.asked,
            self.answered,
            self.connections,
            self.told_to_leave,
            self.refused,
            self.given_back,
            self.moved,
            self.lost.len()
        )
    }
}

/// Clients at work.
pub struct Crew {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    books: BTreeMap<String, Arc<Mutex<Ledger>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What one client needs.
struct Client {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    book: Arc<Mutex<Ledger>>,
    forge: Arc<Forge>,
    gap: Duration,
}

impl Crew {
    /// Each asks once per `gap` at most.
    pub fn start(forge: &Arc<Forge>, gap: Duration, clients: &[Who]) -> Crew {
        let mut crew =
            Crew { stop: Arc::default(), answered: Arc::default(), books: BTreeMap::new(), threads: Vec::new() };
        for who in clients {
            let client = Client {
                stop: Arc::clone(&crew.stop),
                answered: Arc::clone(&crew.answered),
                book: Arc::clone(crew.books.entry(who.word()).or_default()),
                forge: Arc::clone(forge),
                gap,
            };
            let who = who.clone();
            crew.threads.push(std::thread::spawn(move || client.work(&who)));
        }
        crew
    }

    /// Answers so far, of all.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> BTreeMap<String, Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a counting client does not panic");
        }
        self.books
            .into_iter()
            .map(|(who, book)| (who, book.lock().expect("no client panics with it").clone()))
            .collect()
    }
}

/// The books as a table, and every loss.
pub fn told(books: &BTreeMap<String, Ledger>) -> String {
    let mut text = String::new();
    for (who, ledger) in books {
        text += &format!("{who:34} {ledger}\n");
        for lost in ledger.lost.iter().take(20) {
            text += &format!("    {lost}\n");
        }
    }
    text
}

impl Client {
    fn work(&self, who: &Who) {
        match who {
            Who::Keeps(front, address) => self.keep(*front, *address),
            Who::Comes(front, address) => self.repeat(|| self.come(*front, *address)),
            Who::Visits(addresses) => {
                let mut at = 0;
                self.repeat(|| {
                    at += 1;
                    self.come(Front::Http1, addresses[at % addresses.len()]);
                });
            }
            Who::Relayed(address) => self.relayed(*address),
            Who::Datagrams(address) => self.datagrams(*address),
        }
    }

    fn repeat(&self, mut turn: impl FnMut()) {
        while !self.stop.load(Ordering::Relaxed) {
            turn();
            std::thread::park_timeout(self.gap);
        }
    }

    fn note(&self, note: impl FnOnce(&mut Ledger)) {
        note(&mut self.book.lock().expect("no client panics with it"));
    }

    fn answered_one(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.note(|book| book.answered += 1);
    }

    /// A connection, if somebody listens.
    fn open(&self, front: Front, address: SocketAddr) -> Option<Talk> {
        match Talk::open_as(front, address, &self.forge, NAME) {
            Ok(talk) => {
                self.note(|book| book.connections += 1);
                Some(talk)
            }
            Err(error) if error.contains("onnection refused") => {
                self.note(|book| book.refused += 1);
                None
            }
            Err(error) => {
                self.note(|book| book.lost.push(format!("connect to {address}: {error}")));
                None
            }
        }
    }

    /// Asks; true when the connection may be used again.
    fn ask(&self, talk: &mut Talk) -> bool {
        self.note(|book| book.asked += 1);
        talk.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
        // Silence is a panic elsewhere; here it is one loss of many.
        let answer = catch_unwind(AssertUnwindSafe(|| talk.answer()));
        let answer = answer.unwrap_or_else(|_| {
            let from = talk.socket.peer_addr();
            self.note(|book| book.lost.push(format!("silence of {from:?}")));
            Err(End::Closed)
        });
        match answer {
            Ok(answer) if answer.status == 200 && answer.end != End::Reset => {
                self.answered_one();
                if answer.says_close() {
                    self.note(|book| book.told_to_leave += 1);
                }
                !answer.says_close()
            }
            Ok(answer) => {
                let why = answer.field("proxy-status").unwrap_or("no word why").to_owned();
                self.note(|book| book.lost.push(format!("status {} ({:?}): {why}", answer.status, answer.end)));
                false
            }
            Err(_) if talk.was_given_back() => {
                self.note(|book| {
                    book.asked -= 1;
                    book.given_back += 1;
                });
                false
            }
            Err(end) => {
                self.note(|book| book.lost.push(format!("no answer: {end:?}")));
                false
            }
        }
    }

    fn come(&self, front: Front, address: SocketAddr) {
        if let Some(mut talk) = self.open(front, address) {
            self.ask(&mut talk);
        }
    }

    fn keep(&self, front: Front, address: SocketAddr) {
        let mut kept: Option<Talk> = None;
        self.repeat(|| {
            if kept.as_mut().is_some_and(|talk| !talk.may_ask()) {
                self.note(|book| book.told_to_leave += 1);
                kept = None;
            }
            if let Some(mut talk) = kept.take().or_else(|| self.open(front, address)) {
                kept = self.ask(&mut talk).then_some(talk);
            }
        });
    }

    fn relayed(&self, address: SocketAddr) {
        let mut kept: Option<(TcpStream, Option<String>)> = None;
        self.repeat(|| {
            if kept.is_none() {
                match TcpStream::connect_timeout(&address, PATIENCE) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
                        stream.set_nodelay(true).expect("a socket takes the option");
                        self.note(|book| book.connections += 1);
                        kept = Some((stream, None));
                    }
                    Err(error) => return self.note(|book| book.lost.push(format!("connect: {error}"))),
                }
            }
            let Some((stream, seen)) = &mut kept else { return };
            self.note(|book| book.asked += 1);
            let mut line = Vec::new();
            let mut byte = [0];
            let echoed = stream.write_all(b"?\n").and_then(|()| {
                while !line.ends_with(b"\n") {
                    stream.read_exact(&mut byte)?;
                    line.push(byte[0]);
                }
                Ok(())
            });
            match echoed {
                Ok(()) => {
                    self.answered_one();
                    self.seen_as(seen, &line);
                }
                Err(error) => {
                    self.note(|book| book.lost.push(format!("relayed connection: {error}")));
                    kept = None;
                }
            }
        });
    }

    fn datagrams(&self, address: SocketAddr) {
        let socket = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
        socket.connect(address).expect("there is a way");
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket takes a timeout");
        let (mut number, mut seen) = (0_u64, None);
        self.repeat(|| {
            number += 1;
            self.note(|book| book.asked += 1);
            let asked = format!("{number}\n");
            let mut space = [0; 256];
            let mut wait = || -> std::io::Result<usize> {
                socket.send(asked.as_bytes())?;
                loop {
                    let count = socket.recv(&mut space)?;
                    // An echo that was given up may still come.
                    if space[..count].ends_with(format!(" {asked}").as_bytes()) {
                        return Ok(count);
                    }
                }
            };
            match wait() {
                Ok(count) => {
                    self.answered_one();
                    let who: Vec<u8> = space[..count].split(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
                    self.seen_as(&mut seen, &who);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.note(|book| book.lost.push(format!("datagram {number}: nobody has the port")));
                }
                Err(error) => self.note(|book| book.lost.push(format!("datagram {number}: {error}"))),
            }
        });
    }

    /// The backend says whom it sees.
    fn seen_as(&self, seen: &mut Option<String>, who: &[u8]) {
        let who = String::from_utf8_lossy(who).into_owned();
        if seen.as_ref().is_some_and(|before| *before != who) {
            self.note(|book| book.moved += 1);
        }
        *seen = Some(who);
    }
}

/// Answers each line with who it sees.
pub fn line_echo(mut stream: TcpStream) {
    let Ok(client) = stream.peer_addr() else { return };
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) {
        if byte == *b"\n" && writeln!(stream, "{client}").is_err() {
            return;
        }
    }
}

/// Answers each datagram with whom it sees, a space, and what came.
pub fn datagram_echo() -> SocketAddr {
    let socket = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
    let address = socket.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        let mut space = [0; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut space) {
            let _ = socket.send_to(&[format!("{from} ").as_bytes(), &space[..count]].concat(), from);
        }
    });
    address
}

/// Numbers from a seed, for scripts that a failed test can play again.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        // xorshift64*, as good as scripts need.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    pub fn heads(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn of<'a, T>(&mut self, choice: &'a [T]) -> &'a T {
        &choice[self.below(choice.len())]
    }
}

/// A number from the environment, for runs longer than everybody's.
pub fn rounds(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().expect("a number of rounds"))
}
