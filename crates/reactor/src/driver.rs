//! The narrow interface between serving code and the world: sockets, readiness, the clock.
//!
//! Two drivers stand behind it: `epoll` for the real world and `sim` for tests, with a virtual
//! clock and virtual sockets. Serving code is generic over [`Driver`], so what the simulation runs is what
//! ships.
//!
//! Readiness is edge-triggered. An event says that a socket *became* readable, writable or hung up;
//! the code behind it then reads until [`Recv::Dry`] or a short read, and writes until a short write.
//! After an event with `hangup` only [`Recv::Dry`], [`Recv::End`] or [`Recv::Failed`] means "read up",
//! since the end of the stream may lie right behind a short read.
//!
//! Sockets for datagrams differ: they are not called writable when they are opened, nor whenever a datagram has
//! left, which would be an event for each. `writable` comes to those who were told that such a socket was full.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use evenkeel_model::Instant;

use crate::Batch;

/// A socket of the driver. A closed one's number may be given out again; events carry tokens, not numbers, so
/// whoever makes tokens tells old from new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sock(pub u32);

/// What the owner of a socket wants to see in its events. The driver does not look into it. The highest bit is the
/// driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
    /// The other side closed its sending direction, or the socket failed.
    pub hangup: bool,
}

/// Token of the event that [`Driver::poll`] reports when the driver's waker was used.
pub const WOKEN: Token = Token(u64::MAX);

/// Errno of a socket operation, kept as a number because it is evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// At least one byte.
    Bytes(usize),
    /// Nothing there now.
    Dry,
    /// The other side has sent all it will send.
    End,
    Failed(Errno),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    /// So many bytes were taken; 0 when the socket is full.
    Taken(usize),
    Failed(Errno),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvMany {
    /// So many packets were added to the batch, at least one if it had room. `drained` says that nothing was left
    /// behind them.
    Some { packets: usize, drained: bool },
    /// Nothing there now.
    Dry,
    /// What an earlier datagram of ours met (ICMP). Others may wait behind it, so go on reading.
    Failed(Errno),
}

/// What became of packets that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendMany {
    /// So many of them were taken, in their order. When it is fewer than asked for and nothing failed, the socket
    /// is full. A packet of several datagrams may then have been sent in part.
    pub taken: usize,
    /// The packet behind them was not sent, for this reason, and those behind it were not tried. On a dialled
    /// socket it may be what an earlier one met (ICMP).
    pub failed: Option<Errno>,
}

/// How to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    pub to: SocketAddr,
    pub from: Source,
    pub handshake: Handshake,
    pub options: TcpOptions,
    pub life: Life,
}

impl Dial {
    /// With nothing out of the ordinary.
    pub const fn to(to: SocketAddr) -> Self {
        let options = TcpOptions { keepalive: None, user_timeout: None };
        Dial { to, from: Source::Kernel, handshake: Handshake::Full, options, life: Life::Once }
    }
}

/// Where a connection or datagram of ours comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The kernel's choice.
    #[default]
    Kernel,
    /// An address of this host.
    Own(IpAddr),
    /// An address of somebody else, whose answers are routed back to us (`IP_TRANSPARENT`).
    Foreign(IpAddr),
}

/// How the kernel finds out that the other side of a connection is gone; `None` leaves it to our own timeouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Time of quiet before the kernel asks (`SO_KEEPALIVE`, `TCP_KEEPIDLE`).
    pub keepalive: Option<Duration>,
    /// Longest time that sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
}

/// What a listening TCP socket is made with. Accepted connections inherit the `tcp` part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    pub tcp: TcpOptions,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Connections that may wait with data in their SYN (`TCP_FASTOPEN`); 0 is off.
    pub fast_open: u32,
    /// Only connections that have sent something wait to be accepted, for this time (`TCP_DEFER_ACCEPT`).
    pub defer_accept: Option<Duration>,
}

impl ListenOptions {
    /// With nothing out of the ordinary.
    pub const fn plain(backlog: u32) -> Self {
        let tcp = TcpOptions { keepalive: None, user_timeout: None };
        ListenOptions { tcp, backlog, fast_open: 0, defer_accept: None }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    #[default]
    Full,
    /// Withhold the final ACK, so that a [`Close::Reset`] right after the SYN+ACK leaves the
    /// peer's application unaware (`TCP_QUICKACK=0`; DESIGN 5). What is sent first carries it, which saves a packet
    /// for those who speak first.
    HalfOpen,
}

/// What becomes of a dialled socket when it is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    #[default]
    Once,
    /// The driver may dial it again, which is cheaper for connections that are many and short. Its owner sees no difference.
    Again,
}

/// How a socket is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// FIN after what was sent.
    Orderly,
    /// RST: what was sent and not delivered is thrown away (`SO_LINGER` 0).
    Reset,
    /// Nothing is sent (`TCP_REPAIR`): the other side learns of it when it sends something itself, which meets no
    /// connection any more. A reset where we have not the right (CAP_NET_ADMIN).
    Silent,
}

pub trait Driver {
    /// What a listener is made from: an open file in the real world, an address in the simulation.
    type Bound;

    /// A place in the kernel for bytes on their way from one socket to another.
    type Pipe;

    fn now(&self) -> Instant;

    /// Waits until something happened, `until` has come, or the waker was used, then replaces the
    /// contents of `events`. `None` waits without end.
    fn poll(&mut self, events: &mut Vec<Event>, until: Option<Instant>);

    /// Starts listening; readiness to accept comes as `readable`.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    fn listen(&mut self, bound: Self::Bound, token: Token) -> Result<Sock, Errno>;

    /// Gives a listening TCP socket other options.
    fn tune(&mut self, listener: Sock, options: &ListenOptions);

    /// Takes one waiting connection: its address, and a socket that reports nothing until
    /// [`Driver::watch`] is called, so that a connection that is refused at once costs no registration.
    ///
    /// # Errors
    /// When the process is out of files or the connection died in the queue.
    fn accept(&mut self, listener: Sock) -> Result<Option<(Sock, SocketAddr)>, Errno>;

    /// The address a connected socket was reached at.
    fn local_address(&self, sock: Sock) -> Option<SocketAddr>;

    /// Reports the socket's readiness under `token` from now on. Readiness that is already there is
    /// reported too.
    ///
    /// # Errors
    /// When the kernel cannot watch another socket.
    fn watch(&mut self, sock: Sock, token: Token) -> Result<(), Errno>;

    /// Opens a TCP connection; `writable` or `hangup` tells that it is decided, then
    /// [`Driver::connected`] says how. The socket is watched from the start.
    ///
    /// # Errors
    /// When it fails at once: no route, no file, no source port.
    fn dial(&mut self, dial: Dial, token: Token) -> Result<Sock, Errno>;

    /// How a dialled connection was decided: `None` while it is still open. An event that is `writable`
    /// without `hangup` says that it stands, and saves the call; see [`Driver::dialed`].
    fn connected(&mut self, sock: Sock) -> Option<Result<(), Errno>>;

    /// How `event` decided a dialled connection.
    fn dialed(&mut self, sock: Sock, event: Event) -> Option<Result<(), Errno>> {
        match (event.writable, event.hangup) {
            (true, false) => Some(Ok(())),
            (false, false) => None,
            (_, true) => self.connected(sock),
        }
    }

    /// Starts to hear whatever is sent to a UDP address. What becomes of its own datagrams is not told.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    fn listen_udp(&mut self, bound: Self::Bound, token: Token) -> Result<Sock, Errno>;

    /// Opens a UDP socket that talks to one address. ICMP refusals come back as [`Recv::Failed`].
    ///
    /// # Errors
    /// When it fails at once: no route, no file, no source port.
    fn dial_udp(&mut self, to: SocketAddr, from: Source, token: Token) -> Result<Sock, Errno>;

    /// Reports for a dialled UDP socket from now on also what the way says, as "host unreachable". The kernel keeps
    /// that from UDP sockets because it may pass, which traffic can wait for and a probe cannot.
    fn hear_unreachable(&mut self, sock: Sock);

    /// Opens a socket for ICMP echo requests to one host (a "ping socket"). What is sent and received begins with
    /// the ICMP header, in which the kernel writes checksum and identifier; replies to other sockets do not come here,
    /// those to an earlier one of the same identifier may. What the way says comes back as [`Recv::Failed`].
    ///
    /// # Errors
    /// [`crate::errno::EPERM`] when this process may not have such a socket (`net.ipv4.ping_group_range`); else
    /// as [`Driver::dial_udp`].
    fn dial_icmp(&mut self, to: IpAddr, from: Source, token: Token) -> Result<Sock, Errno>;

    /// Adds the packets that wait at a UDP socket to `into`, as many as have room there.
    fn recv_many(&mut self, sock: Sock, into: &mut Batch) -> RecvMany;

    /// Sends `packets` of a batch: a socket that listens each to its peer from its local address, a dialled one all
    /// to the address it talks to, whatever stands beside them.
    fn send_many(&mut self, sock: Sock, batch: &Batch, packets: Range<usize>) -> SendMany;

    /// Reads into `into`. For UDP one datagram, cut to what fits; an empty one looks like [`Recv::End`]. A socket
    /// whose datagrams may come several at once is read with [`Driver::recv_many`].
    fn recv(&mut self, sock: Sock, into: &mut [u8]) -> Recv;

    /// Whether something (bytes, the end, an error) waits to be read, without taking it.
    fn peek(&mut self, sock: Sock) -> Recv;

    fn send(&mut self, sock: Sock, from: &[u8]) -> Send;

    /// The same for the last bytes before [`Driver::finish`] or [`Driver::close`], which must follow at once: the
    /// kernel may hold them back to send the end in the same packet, and does so for 200 ms at most.
    fn send_final(&mut self, sock: Sock, from: &[u8]) -> Send;

    fn send_vectored(&mut self, sock: Sock, from: &[IoSlice<'_>]) -> Send;

    /// # Errors
    /// When the process is out of files.
    fn pipe(&mut self) -> Result<Self::Pipe, Errno>;

    /// Moves bytes from a socket into an empty pipe. [`Recv::Bytes`] never means "read up": the pipe may
    /// have been full.
    fn fill(&mut self, from: Sock, pipe: &mut Self::Pipe) -> Recv;

    /// Moves `bytes` that the pipe holds to a socket, as many as that takes.
    fn drain(&mut self, pipe: &mut Self::Pipe, bytes: usize, to: Sock) -> Send;

    /// Sends FIN; receiving goes on.
    fn finish(&mut self, sock: Sock);

    /// Lets the socket go.
    fn close(&mut self, sock: Sock, how: Close);
}
