//! One small HTTP server with switches: it can be killed, hang, or fail its health page, and come back.
//!
//! A thread and a `poll` loop for all its connections, because a killed server must reset them all at one moment
//! and a hanging one must hold hundreds of them.
//!
//! A second socket stays bound to the port and never listens. The kernel refuses connections to it as it would to a
//! free port, and gives the port to nobody else while the server is dead.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use super::HEALTH_PATH;
use super::record::Mode;

/// Connections that may wait to be accepted; more than the node ever opens at once.
const BACKLOG: i32 = 1024;
/// Longest request that is waited for; the client's and the probes' have some hundred bytes.
const REQUEST_MAX: usize = 65_536;

pub struct Backend {
    pub name: &'static str,
    pub address: SocketAddr,
    orders: SyncSender<Order>,
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Mode { mode: Mode, done: SyncSender<io::Result<()>> },
    Stop,
}

impl Backend {
    pub fn start(name: &'static str) -> io::Result<Backend> {
        let reserved = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = SocketAddr::try_from(getsockname(&reserved)?)?;
        let listener = Some(listening(address)?);
        let (bell, rung) = UnixStream::pair()?;
        rung.set_nonblocking(true)?;
        let (orders, ordered) = sync_channel(1);
        let thread = thread::Builder::new().name(format!("backend-{name}")).spawn(move || {
            let mut server = Server {
                name,
                address,
                mode: Mode::Works,
                listener,
                rung,
                ordered,
                connections: Vec::new(),
                _reserved: reserved,
            };
            while server.turn() {}
        })?;
        Ok(Backend { name, address, orders, bell, thread: Some(thread) })
    }

    /// Changes how the backend behaves. When this returns, it does.
    ///
    /// # Errors
    /// When it cannot listen again, or its thread is gone.
    pub fn switch(&self, mode: Mode) -> io::Result<()> {
        let (done, answer) = sync_channel(1);
        self.tell(Order::Mode { mode, done });
        answer.recv().unwrap_or(Err(io::Error::from(ErrorKind::BrokenPipe)))
    }

    fn tell(&self, order: Order) {
        // A thread that is gone is found out by who waits for its answer.
        let _ = self.orders.send(order);
        let _ = (&self.bell).write(&[0]);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.tell(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    name: &'static str,
    address: SocketAddr,
    mode: Mode,
    /// `None` while it is killed.
    listener: Option<TcpListener>,
    rung: UnixStream,
    ordered: Receiver<Order>,
    connections: Vec<Connection>,
    _reserved: OwnedFd,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Server {
    /// Waits for something and does it; false after [`Order::Stop`].
    fn turn(&mut self) -> bool {
        let Some(ready) = self.wait() else { return true };
        if ready.bell && !self.obey() {
            return false;
        }
        if ready.listener {
            self.accept();
        }
        let (name, mode) = (self.name, self.mode);
        let mut position = 0;
        self.connections.retain_mut(|connection| {
            let readable = ready.connections.get(position).copied().unwrap_or(false);
            position += 1;
            !readable || connection.read().is_ok() && (mode == Mode::Hangs || connection.answer(name, mode).is_ok())
        });
        true
    }

    fn wait(&self) -> Option<Ready> {
        let mut fds = vec![PollFd::new(&self.rung, PollFlags::IN)];
        fds.extend(self.connections.iter().map(|connection| PollFd::new(&connection.stream, PollFlags::IN)));
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return None,
            Err(_) => {
                // Out of memory; the next turn may have some.
                thread::sleep(Duration::from_millis(1));
                return None;
            }
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let bell = ready.next().unwrap_or(false);
        let connections: Vec<bool> = ready.by_ref().take(self.connections.len()).collect();
        Some(Ready { bell, listener: ready.next().unwrap_or(false), connections })
    }

    fn obey(&mut self) -> bool {
        let mut rings = [0; 16];
        let _ = (&self.rung).read(&mut rings);
        while let Ok(order) = self.ordered.try_recv() {
            match order {
                Order::Mode { mode, done } => {
                    // Who asked may have stopped waiting.
                    let _ = done.send(self.change_to(mode));
                }
                Order::Stop => return false,
            }
        }
        true
    }

    fn change_to(&mut self, mode: Mode) -> io::Result<()> {
        let before = std::mem::replace(&mut self.mode, mode);
        if mode == Mode::Killed {
            self.listener = None;
            for Connection { stream, .. } in self.connections.drain(..) {
                // What a process that dies with unread bytes leaves behind: closing sends a reset.
                let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
        } else if self.listener.is_none() {
            self.listener = Some(listening(self.address)?);
        }
        if before == Mode::Hangs {
            let name = self.name;
            self.connections.retain_mut(|connection| connection.answer(name, mode).is_ok());
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok() {
                self.connections.push(Connection { stream, input: Vec::new() });
            }
        }
    }
}

struct Ready {
    bell: bool,
    listener: bool,
    connections: Vec<bool>,
}

impl Connection {
    /// Takes what is there. An error means that the connection is over.
    fn read(&mut self) -> io::Result<()> {
        let mut space = [0; 4096];
        loop {
            match self.stream.read(&mut space) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(bytes) => self.input.extend_from_slice(&space[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if self.input.len() > REQUEST_MAX {
                return Err(io::Error::from(ErrorKind::InvalidData));
            }
        }
        Ok(())
    }

    /// Answers every whole request that has come.
    fn answer(&mut self, name: &str, mode: Mode) -> io::Result<()> {
        while let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = self.input.drain(..end + 4).collect();
            let answer = answer(&head, name, mode);
            // Some hundred bytes into a socket that was empty are taken whole, or the other side is not reading.
            self.stream.write_all(&answer)?;
            if answer.starts_with(b"HTTP/1.1 405") {
                return Err(io::Error::from(ErrorKind::Unsupported));
            }
        }
        Ok(())
    }
}

fn answer(head: &[u8], name: &str, mode: Mode) -> Vec<u8> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_health = path.split('?').next() == Some(HEALTH_PATH);
    let (status, body) = match method {
        "GET" | "HEAD" if is_health && mode == Mode::HealthFails => {
            ("500 Internal Server Error", "not well\n".to_owned())
        }
        "GET" | "HEAD" if is_health => ("200 OK", "well\n".to_owned()),
        "GET" | "HEAD" => ("200 OK", format!("hello from backend {name}\n")),
        // A body would have to be read to find the next request behind it.
        _ => ("405 Method Not Allowed\r\nAllow: GET, HEAD\r\nConnection: close", "only GET and HEAD\n".to_owned()),
    };
    let length = body.len();
    let shown = if method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nX-Backend: {name}\r\n\r\n{shown}"
    )
    .into_bytes()
}

fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    // With this on both, a listener and the reservation may share the port, and connections of an earlier
    // life in TIME_WAIT do not keep it.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &address)?;
    Ok(fd)
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let fd = bound(address)?;
    listen(fd.as_fd(), BACKLOG)?;
    Ok(TcpListener::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(stream: &mut TcpStream, path: &str) -> io::Result<String> {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut space = [0; 1024];
        let bytes = stream.read(&mut space)?;
        Ok(String::from_utf8_lossy(&space[..bytes]).into_owned())
    }

    #[test]
    fn a_killed_backend_resets_who_is_there_refuses_who_comes_and_returns_on_its_port() {
        let backend = Backend::start("a").expect("loopback");
        let mut stream = TcpStream::connect(backend.address).expect("it listens");
        assert!(ask(&mut stream, "/").expect("it works").ends_with("hello from backend a\n"));
        backend.switch(Mode::Killed).expect("killing opens nothing");
        let kind = stream.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionReset));
        let kind = TcpStream::connect(backend.address).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionRefused));
        backend.switch(Mode::Works).expect("the port was kept for it");
        let mut stream = TcpStream::connect(backend.address).expect("it listens again");
        assert!(ask(&mut stream, "/").expect("it works").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_hanging_backend_takes_requests_and_answers_them_when_it_wakes() {
        let backend = Backend::start("b").expect("loopback");
        backend.switch(Mode::Hangs).expect("hanging opens nothing");
        let mut stream = TcpStream::connect(backend.address).expect("it accepts");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("room in the socket");
        stream.set_nonblocking(true).expect("a socket");
        let kind = stream.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::WouldBlock), "nothing came");
        stream.set_nonblocking(false).expect("a socket");
        backend.switch(Mode::Works).expect("it listens already");
        let mut space = [0; 1024];
        let bytes = stream.read(&mut space).expect("an answer");
        assert!(space[..bytes].starts_with(b"HTTP/1.1 200"));
    }

    #[test]
    fn a_failing_health_page_leaves_the_rest_working() {
        let backend = Backend::start("c").expect("loopback");
        backend.switch(Mode::HealthFails).expect("it listens already");
        let mut stream = TcpStream::connect(backend.address).expect("it listens");
        assert!(ask(&mut stream, HEALTH_PATH).expect("an answer").starts_with("HTTP/1.1 500"));
        assert!(ask(&mut stream, "/").expect("an answer").starts_with("HTTP/1.1 200"));
        let head = answer(b"HEAD /health HTTP/1.1\r\n\r\n", "c", Mode::Works);
        assert!(head.ends_with(b"\r\n\r\n"), "no body after HEAD");
    }
}
