//! What systemd is told, and what it gives: words at its notify socket (sd_notify(3)), and sockets of a socket unit.
//!
//! By hand as far as it is a datagram with a line; `listenfd` for the sockets, since to own a file by its number is nothing that safe
//! code can do.

use std::env;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};

use crate::ports::Inherited;
use crate::worker::Arrives;

/// Systemd's end, if there is a systemd that wants to hear.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    socket: Option<Arc<(UnixDatagram, UnixAddress)>>,
}

impl Notify {
    pub fn from_environment() -> Notify {
        let address = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let name = name.into_string().ok()?;
            // An abstract name is written with an @.
            match name.strip_prefix('@') {
                Some(name) => UnixAddress::from_abstract_name(name).ok(),
                None => UnixAddress::from_pathname(name).ok(),
            }
        });
        Notify { socket: address.and_then(|address| Some(Arc::new((UnixDatagram::unbound().ok()?, address)))) }
    }

    /// A change begins that [`Notify::ready`] ends.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}\n"));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining\n");
    }

    /// Another process is the service from now on.
    pub fn succeeded(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\n"));
    }

    /// We are alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1\n");
    }

    fn tell(&self, text: &str) {
        if let Some((socket, address)) = self.socket.as_deref() {
            // One that is gone restarts and asks for nothing that was said before.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// How often systemd wants to hear that we are alive: half of the time after which it ends us.
pub fn watchdog() -> Option<Duration> {
    let micros: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    // A process that took over has the number of the one before it here; as the main process it is meant all the same.
    (micros > 0 && env::var_os("NOTIFY_SOCKET").is_some()).then(|| Duration::from_micros(micros / 2))
}

/// Sockets of a socket unit.
#[derive(Debug, Default)]
pub struct Given {
    pub sockets: Vec<Inherited>,
    /// In the file system, by path.
    pub local: Vec<(String, OwnedFd)>,
    /// What was not used, and why.
    pub refused: Vec<String>,
}

/// What systemd gave this process. To be called once and before there are threads.
pub fn sockets() -> Given {
    let mut given = Given::default();
    let mut files = ListenFd::from_env();
    for place in 0..files.len() {
        if let Ok(Some(socket)) = files.take_tcp_listener(place) {
            match bound(&socket, TcpListener::local_addr, TcpListener::set_nonblocking) {
                Ok(address) => given.sockets.push(lent(address, Arrives::Connections, socket.into())),
                Err(error) => given.refused.push(format!("socket {place}: {error}")),
            }
        } else if let Ok(Some(socket)) = files.take_udp_socket(place) {
            match bound(&socket, UdpSocket::local_addr, UdpSocket::set_nonblocking) {
                Ok(address) => given.sockets.push(lent(address, Arrives::Datagrams, socket.into())),
                Err(error) => given.refused.push(format!("socket {place}: {error}")),
            }
        } else if let Ok(Some(socket)) = files.take_unix_listener(place) {
            let path = socket.local_addr().ok().and_then(|address| Some(address.as_pathname()?.display().to_string()));
            match (path, socket.set_nonblocking(true)) {
                (Some(path), Ok(())) => given.local.push((path, OwnedFd::from(socket))),
                _ => given.refused.push(format!("socket {place} has no path")),
            }
        } else {
            given.refused.push(format!("socket {place} is of no kind that a listener has"));
        }
    }
    given
}

fn bound<S>(
    socket: &S,
    address: impl FnOnce(&S) -> std::io::Result<SocketAddr>,
    nonblocking: impl FnOnce(&S, bool) -> std::io::Result<()>,
) -> std::io::Result<SocketAddr> {
    nonblocking(socket, true)?;
    address(socket)
}

fn lent(address: SocketAddr, arrives: Arrives, sock: OwnedFd) -> Inherited {
    Inherited { address, arrives, sock, lent: true }
}
