//! The driver for the real world: non-blocking sockets on edge-triggered epoll.
//!
//! Each socket is registered once and never modified: readiness of both directions is remembered by the
//! code above, so a request costs no `epoll_ctl`. Waiting uses `epoll_pwait2` (Linux 5.11), whose
//! nanosecond timeout keeps probes on time; `epoll_wait` would round to milliseconds.

mod kept;
mod options;
mod udp;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::{Instant, limits};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno as Os;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use slab::Slab;

use crate::driver::{
    Close, Dial, Driver, Errno, Event, Handshake, Life, ListenOptions, Recv, RecvMany, Send, SendMany, Sock, Source,
    TcpOptions, Token, WOKEN,
};
use crate::{Batch, Clock, errno};

use kept::{Kept, Parted};
pub use options::{address_in_use, bind_tcp, bind_udp, prepare_udp, refuse_new, take_new, tune, udp_address_in_use};
use udp::{Mode, Receiving};

/// Events taken from the kernel at once.
const BATCH: usize = 256;

/// Everything we want to hear of a connected socket, once, from the start.
const WATCH: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

const SPLICE: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

pub struct EpollDriver {
    clock: Clock,
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    socks: Slab<Held>,
    /// Made with the first UDP socket; most drivers never have one.
    receiving: Option<Receiving>,
    kept: Kept,
}

/// An open socket. As large as a bare file and a place in the slab would be, since there is one for each connection.
struct Held {
    fd: OwnedFd,
    mode: Mode,
    /// Datagrams: events come with it, needed to ask for `writable` late. Kept sockets: their place.
    token: Token,
    /// Datagrams: larger ones are not given to the kernel several at once, because it said no.
    segment_max: u16,
    /// Datagrams: somebody was told that the socket is full.
    room_wanted: bool,
}

/// Interrupts a driver's `poll` from another thread.
#[derive(Clone, Debug)]
pub struct Waker {
    wake: Arc<OwnedFd>,
}

impl Waker {
    pub fn wake(&self) {
        // The counter can only be full when a wake-up is pending already, which is all we want.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl EpollDriver {
    /// # Errors
    /// When the process is out of files.
    pub fn new(clock: Clock) -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(number)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(number)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WOKEN.0), EventFlags::IN | EventFlags::ET).map_err(number)?;
        Ok(EpollDriver {
            clock,
            epoll,
            wake: Arc::new(wake),
            socks: Slab::with_capacity(BATCH),
            receiving: None,
            kept: Kept::default(),
        })
    }

    pub fn waker(&self) -> Waker {
        Waker { wake: Arc::clone(&self.wake) }
    }

    /// Sockets in use now, listeners included.
    pub fn open_sockets(&self) -> usize {
        self.socks.len() - self.kept.idle()
    }

    /// Sockets that nobody uses and that may be dialled again.
    pub fn idle_sockets(&self) -> usize {
        self.kept.idle()
    }

    fn fd(&self, sock: Sock) -> BorrowedFd<'_> {
        self.socks[sock.0 as usize].fd.as_fd()
    }

    fn keep(&mut self, fd: OwnedFd) -> Sock {
        self.hold(fd, Mode::Stream, Token(0))
    }

    fn hold(&mut self, fd: OwnedFd, mode: Mode, token: Token) -> Sock {
        let held = Held { fd, mode, token, segment_max: u16::MAX, room_wanted: false };
        Sock(u32::try_from(self.socks.insert(held)).expect("a process cannot have 2^32 files"))
    }
}

impl EpollDriver {
    /// Dials with a socket that was dialled before, if there is one.
    fn dial_again(&mut self, dial: &Dial, token: Token) -> Result<Sock, Errno> {
        let sock = match self.kept.take(dial, token) {
            Some(sock) => sock,
            None => {
                let sock = self.hold(kept::open(dial).map_err(number)?, Mode::Kept, token);
                let held = &mut self.socks[sock.0 as usize];
                match self.kept.add(&self.epoll, sock, held.fd.as_fd(), dial, token) {
                    Ok(place) => held.token = Token(place as u64),
                    Err(error) => {
                        self.socks.remove(sock.0 as usize);
                        return Err(number(error));
                    }
                }
                sock
            }
        };
        match rustix::net::connect(self.fd(sock), &dial.to) {
            Ok(()) | Err(Os::INPROGRESS) => Ok(sock),
            Err(error) => {
                self.close(sock, Close::Reset);
                Err(number(error))
            }
        }
    }

    /// To close a file is not enough while somebody else holds a copy of it, be it a child that was started a moment ago: until that becomes
    /// another program, the epoll file goes on reporting the socket, at a place that may be another's by then.
    fn unwatch(&self, fd: &OwnedFd) {
        // Fails for one that was never watched.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Whom an event of a kept socket is for; what it means for one that nobody uses is done here.
    fn owner_at(&mut self, place: usize, flags: EventFlags) -> Option<Token> {
        match self.kept.owner(place, flags) {
            Ok(token) => Some(token),
            Err(None) => None,
            Err(Some(sock)) => {
                if self.kept.parted(place, self.socks[sock.0 as usize].fd.as_fd(), flags) == Parted::Closes {
                    let Held { fd, .. } = self.socks.remove(sock.0 as usize);
                    self.unwatch(&fd);
                }
                None
            }
        }
    }
}

/// Both ends of a pipe.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Driver for EpollDriver {
    type Bound = OwnedFd;
    type Pipe = Pipe;

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn poll(&mut self, events: &mut Vec<Event>, until: Option<Instant>) {
        events.clear();
        let mut space = [const { MaybeUninit::uninit() }; BATCH];
        let timeout = until.map(|until| timespec(until.since(self.clock.now())));
        let raw: &[epoll::Event] = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
            Ok((raw, _)) => raw,
            Err(Os::INTR) => &[],
            Err(error) => unreachable!("epoll_pwait2 on our own epoll file: {error}"),
        };
        for raw in raw {
            let flags = raw.flags;
            let token = match raw.data.u64() {
                woken if woken == WOKEN.0 => {
                    // Taking the count down re-arms the edge.
                    let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
                    WOKEN
                }
                place if place & kept::PLACE != 0 => match self.owner_at((place & !kept::PLACE) as usize, flags) {
                    Some(token) => token,
                    None => continue,
                },
                token => Token(token),
            };
            let hangup = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            events.push(Event {
                token,
                readable: hangup || flags.contains(EventFlags::IN),
                writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                hangup,
            });
        }
    }

    fn listen(&mut self, bound: OwnedFd, token: Token) -> Result<Sock, Errno> {
        epoll::add(&self.epoll, &bound, EventData::new_u64(token.0), EventFlags::IN | EventFlags::ET)
            .map_err(number)?;
        Ok(self.hold(bound, Mode::Accepts, token))
    }

    fn tune(&mut self, listener: Sock, options: &ListenOptions) {
        // What the kernel took when the socket was made it takes again; values are checked with the config.
        let _ = options::tune(self.fd(listener), options);
    }

    fn accept(&mut self, listener: Sock) -> Result<Option<(Sock, SocketAddr)>, Errno> {
        let accepted = rustix::net::acceptfrom_with(self.fd(listener), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
        match accepted {
            Ok((fd, address)) => {
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                // Only a client that is gone already has no address.
                let address = address.ok_or(errno::ECONNABORTED)?;
                Ok(Some((self.keep(fd), address)))
            }
            Err(Os::AGAIN) => Ok(None),
            Err(error) => Err(number(error)),
        }
    }

    fn local_address(&self, sock: Sock) -> Option<SocketAddr> {
        rustix::net::getsockname(self.fd(sock)).ok().and_then(|address| SocketAddr::try_from(address).ok())
    }

    fn watch(&mut self, sock: Sock, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, self.fd(sock), EventData::new_u64(token.0), WATCH).map_err(number)
    }

    fn dial(&mut self, dial: Dial, token: Token) -> Result<Sock, Errno> {
        // What else a socket is told stays with it.
        if dial.life == Life::Again && dial.from == Source::Kernel && dial.options == TcpOptions::default() {
            return self.dial_again(&dial, token);
        }
        let fd = socket(dial.to, SocketType::STREAM).map_err(number)?;
        match dial.handshake {
            Handshake::Full => sockopt::set_tcp_nodelay(&fd, true),
            Handshake::HalfOpen => sockopt::set_tcp_quickack(&fd, false),
        }
        .and_then(|()| options::keep_watch(fd.as_fd(), &dial.options))
        .and_then(|()| options::come_from(fd.as_fd(), dial.from, options::Ports::Shared))
        .map_err(number)?;
        match rustix::net::connect(&fd, &dial.to) {
            Ok(()) | Err(Os::INPROGRESS) => {}
            Err(error) => return Err(number(error)),
        }
        epoll::add(&self.epoll, &fd, EventData::new_u64(token.0), WATCH).map_err(number)?;
        Ok(self.keep(fd))
    }

    fn connected(&mut self, sock: Sock) -> Option<Result<(), Errno>> {
        let fd = self.fd(sock);
        // Most dials succeed, and this alone tells it. An error that came afterwards is met by whoever reads.
        match rustix::net::getpeername(fd) {
            Ok(_) => Some(Ok(())),
            Err(Os::NOTCONN) => match sockopt::socket_error(fd) {
                Ok(Ok(())) => None,
                Ok(Err(error)) | Err(error) => Some(Err(number(error))),
            },
            Err(error) => Some(Err(number(error))),
        }
    }

    fn listen_udp(&mut self, bound: OwnedFd, token: Token) -> Result<Sock, Errno> {
        self.prepare_receiving()?;
        let mode = Mode::of_listening(bound.as_fd());
        epoll::add(&self.epoll, &bound, EventData::new_u64(token.0), udp::WATCH).map_err(number)?;
        Ok(self.hold(bound, mode, token))
    }

    fn dial_udp(&mut self, to: SocketAddr, from: Source, token: Token) -> Result<Sock, Errno> {
        self.prepare_receiving()?;
        let fd = socket(to, SocketType::DGRAM).map_err(number)?;
        options::come_from(fd.as_fd(), from, options::Ports::Own)
            .and_then(|()| rustix::net::connect(&fd, &to))
            .map_err(udp::dial_error)?;
        epoll::add(&self.epoll, &fd, EventData::new_u64(token.0), udp::WATCH).map_err(number)?;
        Ok(self.hold(fd, Mode::Dialled { together: false }, token))
    }

    fn hear_unreachable(&mut self, sock: Sock) {
        // Without it the probe hears as much as traffic does.
        let _ = options::hear_unreachable(self.fd(sock));
    }

    fn dial_icmp(&mut self, to: IpAddr, from: Source, token: Token) -> Result<Sock, Errno> {
        let to = SocketAddr::new(to, 0);
        let protocol = if to.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = match rustix::net::socket_with(family(to), SocketType::DGRAM, flags, Some(protocol)) {
            Ok(fd) => fd,
            // Connecting can say so as well, where a route prohibits it; that is another matter.
            Err(Os::ACCESS | Os::PERM) => return Err(errno::EPERM),
            Err(error) => return Err(number(error)),
        };
        options::come_from(fd.as_fd(), from, options::Ports::Own)
            .and_then(|()| options::hear_unreachable(fd.as_fd()))
            .and_then(|()| rustix::net::connect(&fd, &to))
            .map_err(udp::dial_error)?;
        epoll::add(&self.epoll, &fd, EventData::new_u64(token.0), udp::WATCH).map_err(number)?;
        Ok(self.hold(fd, Mode::Dialled { together: false }, token))
    }

    fn recv_many(&mut self, sock: Sock, into: &mut Batch) -> RecvMany {
        let held = &mut self.socks[sock.0 as usize];
        let receiving = self.receiving.as_mut().expect("a UDP socket was opened, which prepares receiving");
        receiving.recv_many(held, into)
    }

    fn send_many(&mut self, sock: Sock, batch: &Batch, packets: Range<usize>) -> SendMany {
        let asked = packets.len();
        let sent = udp::send_many(&mut self.socks[sock.0 as usize], batch, packets);
        self.mind_room(sock, sent.taken < asked && sent.failed.is_none());
        sent
    }

    fn recv(&mut self, sock: Sock, into: &mut [u8]) -> Recv {
        received(rustix::net::recv(self.fd(sock), into, RecvFlags::empty()).map(|(taken, _)| taken))
    }

    fn peek(&mut self, sock: Sock) -> Recv {
        let mut one = [0_u8; 1];
        received(rustix::net::recv(self.fd(sock), &mut one, RecvFlags::PEEK).map(|(taken, _)| taken))
    }

    fn send(&mut self, sock: Sock, from: &[u8]) -> Send {
        let mut result = rustix::net::send(self.fd(sock), from, SendFlags::NOSIGNAL);
        if result == Err(Os::NOBUFS) && matches!(self.socks[sock.0 as usize].mode, Mode::Dialled { .. }) {
            // A socket that hears what the way says is also told that our own interface threw the datagram away, as
            // one without a cable does. To all others that is a datagram that was lost on its way.
            result = Ok(from.len());
        }
        let full = result == Err(Os::AGAIN);
        let sent = sent(result);
        self.mind_room(sock, full);
        sent
    }

    fn send_final(&mut self, sock: Sock, from: &[u8]) -> Send {
        sent(rustix::net::send(self.fd(sock), from, SendFlags::NOSIGNAL | SendFlags::MORE))
    }

    fn send_vectored(&mut self, sock: Sock, from: &[IoSlice<'_>]) -> Send {
        // Rust's runtime ignores SIGPIPE, so the plainer call is safe.
        sent(rustix::io::writev(self.fd(sock), from))
    }

    fn pipe(&mut self) -> Result<Pipe, Errno> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).map_err(number)?;
        // Unprivileged users have a budget for large pipes; a small one works too, with more calls.
        let _ = fcntl_setpipe_size(&into, limits::PIPE.value as usize);
        Ok(Pipe { out, into })
    }

    fn fill(&mut self, from: Sock, pipe: &mut Pipe) -> Recv {
        received(splice(self.fd(from), None, &pipe.into, None, limits::PIPE.value as usize, SPLICE))
    }

    fn drain(&mut self, pipe: &mut Pipe, bytes: usize, to: Sock) -> Send {
        sent(splice(&pipe.out, None, self.fd(to), None, bytes, SPLICE))
    }

    fn finish(&mut self, sock: Sock) {
        // Fails only when the connection is gone, which the next read reports.
        let _ = rustix::net::shutdown(self.fd(sock), Shutdown::Write);
    }

    fn close(&mut self, sock: Sock, how: Close) {
        let held = &self.socks[sock.0 as usize];
        if held.mode == Mode::Kept && self.kept.part(held.token.0 as usize, held.fd.as_fd(), how) == Parted::Stays {
            return;
        }
        let Held { fd, mode, .. } = self.socks.remove(sock.0 as usize);
        if mode == Mode::Kept || mode.is_shared() {
            self.unwatch(&fd);
        }
        match how {
            Close::Orderly => {}
            Close::Silent if options::fall_silent(fd.as_fd()) => {}
            // Without it the close is orderly, which is the best that is left then.
            Close::Reset | Close::Silent => {
                let _ = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
            }
        }
    }
}

fn socket(to: SocketAddr, kind: SocketType) -> Result<OwnedFd, Os> {
    rustix::net::socket_with(family(to), kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn number(error: Os) -> Errno {
    Errno(error.raw_os_error())
}

fn received(result: Result<usize, Os>) -> Recv {
    match result {
        Ok(0) => Recv::End,
        Ok(bytes) => Recv::Bytes(bytes),
        Err(Os::AGAIN | Os::INTR) => Recv::Dry,
        Err(error) => Recv::Failed(number(error)),
    }
}

fn sent(result: Result<usize, Os>) -> Send {
    match result {
        Ok(bytes) => Send::Taken(bytes),
        Err(Os::AGAIN | Os::INTR) => Send::Taken(0),
        Err(error) => Send::Failed(number(error)),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// A program was started while a probe ran, and the probe's socket was closed before the child had become that program.
    #[test]
    fn a_closed_socket_is_not_heard_of_though_somebody_holds_a_copy_of_it() {
        let (clock, _) = Clock::start();
        let mut driver = EpollDriver::new(clock).expect("the process has files left");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let dial = Dial { life: Life::Again, ..Dial::to(listener.local_addr().expect("it is bound")) };
        let sock = driver.dial(dial, Token(7)).expect("it listens");
        let copy = driver.fd(sock).try_clone_to_owned().expect("the process has files left");
        let (mut backend, _) = listener.accept().expect("it is dialled");
        // The backend has not closed, so the socket is not kept.
        driver.close(sock, Close::Orderly);
        backend.write_all(b"anybody there?").expect("the copy is");
        let mut events = Vec::new();
        let now = driver.now();
        driver.poll(&mut events, Some(now));
        assert_eq!(events, []);
        drop(copy);
    }
}
