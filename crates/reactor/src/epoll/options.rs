//! What sockets are told before they are used: where they listen, where they come from, when to give up.
//!
//! Options that the kernel refuses are errors when a socket is made, since the operator has asked for them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use evenkeel_model::limits;
use nix::sys::socket::{SetSockOpt, setsockopt, sockopt as nix_option};
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use rustix::io::Errno as Os;
use rustix::net::{SocketFlags, SocketType, sockopt};

use super::family;
use crate::driver::{ListenOptions, Source, TcpOptions};

sockopt_impl!(
    /// `TCP_FASTOPEN` of a listening socket; nix has that of dialling ones only.
    FastOpen,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    u32
);

sockopt_impl!(
    /// `TCP_DEFER_ACCEPT`, in seconds.
    DeferAccept,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);

sockopt_impl!(
    /// `SO_ATTACH_FILTER`: a classic BPF program that says which packets of a socket count.
    AttachFilter,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_ATTACH_FILTER,
    libc::sock_fprog
);

sockopt_impl!(
    /// `SO_DETACH_FILTER`; the value is not looked at.
    DetachFilter,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_DETACH_FILTER,
    u32
);

/// Drops what opens a connection (SYN without ACK) and lets everything else pass. The program sees a packet from its TCP
/// header on: the flags are its byte 13.
const NO_NEW: [libc::sock_filter; 5] = [
    statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 13),
    statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0x12),
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: 1, k: 0x02 },
    statement(libc::BPF_RET | libc::BPF_K, 0),
    statement(libc::BPF_RET | libc::BPF_K, u32::MAX),
];

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(limits::KEEPALIVE_INTERVAL.value);

/// Opens a listening socket that shares its address with those of the other workers.
///
/// # Errors
/// The operating system's answer, for example that the address is in use.
pub fn bind_tcp(address: SocketAddr, options: &ListenOptions) -> std::io::Result<OwnedFd> {
    let fd = shared(address, SocketType::STREAM)?;
    // Accepted sockets inherit it, which saves a call for each.
    sockopt::set_tcp_nodelay(&fd, true)?;
    rustix::net::bind(&fd, &address)?;
    tune(fd.as_fd(), options)?;
    Ok(fd)
}

/// Opens a socket for the datagrams of an address, which it shares with those of the other workers. The kernel
/// gives all datagrams between two addresses to the same one while their number stays.
///
/// # Errors
/// The operating system's answer, for example that the address is in use.
pub fn bind_udp(address: SocketAddr) -> std::io::Result<OwnedFd> {
    let fd = shared(address, SocketType::DGRAM)?;
    prepare_udp(fd.as_fd(), address)?;
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

/// Gives a socket for the datagrams of an address what we need of it.
///
/// # Errors
/// The operating system's answer.
pub fn prepare_udp(fd: BorrowedFd<'_>, address: SocketAddr) -> std::io::Result<()> {
    let room = limits::UDP_RECEIVE_BUFFER.value as usize;
    if sockopt::set_socket_recv_buffer_size_force(fd, room).is_err() {
        sockopt::set_socket_recv_buffer_size(fd, room)?;
    }
    // Answers must leave from the address that was asked, and where a socket has several, each datagram
    // has to tell its own.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => set(fd, nix_option::Ipv4PacketInfo, &true)?,
        IpAddr::V6(ip) if ip.is_unspecified() => set(fd, nix_option::Ipv6RecvPacketInfo, &true)?,
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    super::udp::keep_together(fd);
    Ok(())
}

/// A socket of its own for each worker, all of one address.
fn shared(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Os> {
    let fd = rustix::net::socket_with(family(address), kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if kind == SocketType::STREAM {
        // A UDP socket must not have it: it would let anybody of the same user take the address over.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    sockopt::set_socket_reuseport(&fd, true)?;
    if address.is_ipv6() {
        // An operator who writes [::] and 0.0.0.0 means two listeners, whatever the system's default.
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    Ok(fd)
}

/// Gives a bound TCP socket its options and starts to listen, or goes on with a new backlog.
pub fn tune(fd: BorrowedFd<'_>, options: &ListenOptions) -> Result<(), Os> {
    if options.tcp.keepalive.is_none() {
        sockopt::set_socket_keepalive(fd, false)?;
    }
    if options.tcp.user_timeout.is_none() {
        sockopt::set_tcp_user_timeout(fd, 0)?;
    }
    keep_watch(fd, &options.tcp)?;
    // Rounded up: a time of 0 s would switch it off.
    let seconds = options.defer_accept.map_or(0, |time| time.as_millis().div_ceil(1000));
    set(fd, DeferAccept, &u32::try_from(seconds).unwrap_or(u32::MAX))?;
    rustix::net::listen(fd, i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    set(fd, FastOpen, &options.fast_open)
}

/// Lets handshakes that have begun at a listening socket come to their end, and none begin: a socket that is closed resets
/// what has not been accepted, and between the last `accept` and the `close` there is always room for one more. A client that comes now
/// asks again a second later and is refused then, or served where somebody has taken the address.
///
/// # Errors
/// Where the process may not (seccomp): then what comes in between is reset.
pub fn refuse_new(fd: BorrowedFd<'_>) -> Result<(), Os> {
    let mut program = NO_NEW;
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(fd, AttachFilter, &program)
}

/// Undoes [`refuse_new`]; nothing where there is nothing to undo.
pub fn take_new(fd: BorrowedFd<'_>) {
    let _ = set(fd, DetachFilter, &0);
}

/// How the kernel finds out that the other side is gone.
pub fn keep_watch(fd: BorrowedFd<'_>, options: &TcpOptions) -> Result<(), Os> {
    if let Some(idle) = options.keepalive {
        sockopt::set_tcp_keepidle(fd, idle)?;
        sockopt::set_tcp_keepintvl(fd, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(fd, limits::KEEPALIVE_PROBES.value as u32)?;
        sockopt::set_socket_keepalive(fd, true)?;
    }
    if let Some(timeout) = options.user_timeout {
        sockopt::set_tcp_user_timeout(fd, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

/// Whether sockets of one address may have the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// When they go to different places. The port is then chosen by `connect`, which knows where to; one chosen by
    /// `bind` would be taken for all places, and an address has some 28,000.
    Shared,
    /// For datagrams the kernel does not do that.
    Own,
}

/// Binds a socket that is to be connected to where it shall come from.
pub fn come_from(fd: BorrowedFd<'_>, source: Source, ports: Ports) -> Result<(), Os> {
    let address = match source {
        Source::Kernel => return Ok(()),
        Source::Own(address) => address,
        Source::Foreign(address) => {
            // The one option serves both families.
            set(fd, nix_option::IpTransparent, &true)?;
            address
        }
    };
    if ports == Ports::Shared {
        set(fd, nix_option::IpBindAddressNoPort, &true)?;
    }
    rustix::net::bind(fd, &SocketAddr::new(address, 0))
}

/// Makes a connected socket for datagrams report what routers and our own host say of them too.
pub fn hear_unreachable(fd: BorrowedFd<'_>) -> Result<(), Os> {
    let address = SocketAddr::try_from(rustix::net::getsockname(fd)?).map_err(|_| Os::AFNOSUPPORT)?;
    match address {
        SocketAddr::V4(_) => set(fd, nix_option::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => set(fd, nix_option::Ipv6RecvErr, &true),
    }
}

/// Makes the next `close` of a connection send nothing. False without the right to it.
pub fn fall_silent(fd: BorrowedFd<'_>) -> bool {
    set(fd, nix_option::TcpRepair, &1).is_ok()
}

/// Whether somebody outside this process listens on the address already. `SO_REUSEPORT` would let us
/// bind beside an older process of the same user and share its clients in silence.
pub fn address_in_use(address: SocketAddr) -> bool {
    probe(address, SocketType::STREAM) == Err(Os::ADDRINUSE)
}

/// The same for datagrams.
pub fn udp_address_in_use(address: SocketAddr) -> bool {
    probe(address, SocketType::DGRAM) == Err(Os::ADDRINUSE)
}

fn probe(address: SocketAddr, kind: SocketType) -> Result<(), Os> {
    let fd = rustix::net::socket_with(family(address), kind, SocketFlags::CLOEXEC, None)?;
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)
}

pub fn set<O: SetSockOpt>(fd: BorrowedFd<'_>, option: O, value: &O::Val) -> Result<(), Os> {
    setsockopt(&fd, option, value).map_err(|error| Os::from_raw_os_error(error as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_takes_nobody_new_still_has_those_who_came_before() {
        use std::io::ErrorKind;
        use std::net::TcpStream;
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let fd = bind_tcp(loopback.parse().unwrap(), &ListenOptions::plain(16)).unwrap();
            let address = SocketAddr::try_from(rustix::net::getsockname(&fd).unwrap()).unwrap();
            let early = TcpStream::connect(address).unwrap();
            refuse_new(fd.as_fd()).unwrap();
            let late = TcpStream::connect_timeout(&address, Duration::from_millis(100));
            assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
            let (accepted, _) = rustix::net::acceptfrom(&fd).unwrap();
            assert_eq!(rustix::net::acceptfrom(&fd).unwrap_err(), Os::AGAIN);
            // Who was accepted is served: the rule is only for those who come.
            drop(fd);
            rustix::io::write(&accepted, b"x").unwrap();
            let mut byte = [0];
            std::io::Read::read_exact(&mut &early, &mut byte).unwrap();
        }
    }

    #[test]
    fn a_socket_can_take_new_ones_again() {
        let fd = bind_tcp("127.0.0.1:0".parse().unwrap(), &ListenOptions::plain(16)).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&fd).unwrap()).unwrap();
        refuse_new(fd.as_fd()).unwrap();
        take_new(fd.as_fd());
        take_new(fd.as_fd());
        std::net::TcpStream::connect(address).unwrap();
    }

    #[test]
    fn what_is_asked_for_is_what_the_kernel_has() {
        let fd = rustix::net::socket(rustix::net::AddressFamily::INET, SocketType::STREAM, None).expect("a file");
        let asked =
            TcpOptions { keepalive: Some(Duration::from_secs(7)), user_timeout: Some(Duration::from_millis(3500)) };
        assert_eq!(keep_watch(fd.as_fd(), &asked), Ok(()));
        assert_eq!(sockopt::socket_keepalive(&fd), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(&fd), Ok(Duration::from_secs(7)));
        assert_eq!(sockopt::tcp_keepintvl(&fd), Ok(KEEPALIVE_INTERVAL));
        assert_eq!(sockopt::tcp_keepcnt(&fd), Ok(limits::KEEPALIVE_PROBES.value as u32));
        assert_eq!(sockopt::tcp_user_timeout(&fd), Ok(3500));
        // What is not asked for stays as it is.
        assert_eq!(keep_watch(fd.as_fd(), &TcpOptions::default()), Ok(()));
        assert_eq!((sockopt::socket_keepalive(&fd), sockopt::tcp_user_timeout(&fd)), (Ok(true), Ok(3500)));
    }
}
