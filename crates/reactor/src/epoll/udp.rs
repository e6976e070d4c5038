//! Datagrams in batches: `recvmmsg` and `sendmmsg`, and several datagrams as one where the kernel can (GRO, GSO).
//!
//! The way through the kernel costs the same for 64 datagrams of one size and address as for one, and far more than
//! the call: in our runs 2600 ns for one sent by itself, 430 for one of 32 sent as one packet. So what
//! follows each other to the same place in the same size is sent as one packet, and what came as one is received as one.
//!
//! Receiving with ancillary data has its price (540 ns for each of a batch, 1200 for a single one). A dialled
//! socket with a datagram now and then is better off with plain calls (370 ns, and 210 for the one that finds
//! nothing), so it gets the rest with its first burst.
//!
//! The kernel may say no to that: a segment larger than the path takes whole, a device without checksums, IPsec.
//! Then the datagrams go one by one, and the socket remembers from which size on.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, sendmmsg, sockopt as nix_option,
};
use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno as Os;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::{EpollDriver, Held, number, options};
use crate::datagrams::{Batch, CAPACITY};
use crate::driver::{Errno, RecvMany, SendMany, Sock};
use crate::errno;

/// What we want to hear of a UDP socket. Not when it can be written to: each datagram that leaves would be an event.
pub const WATCH: EventFlags = EventFlags::IN.union(EventFlags::ET);

/// Datagrams that the kernel takes as one (`UDP_MAX_SEGMENTS` before Linux 6.9; it is 128 now).
const SEGMENTS_MAX: usize = 64;

/// Datagrams that wait at a dialled socket at once and make it one with bursts.
const BURST: usize = 4;

/// The sender at a dialled socket. Its owner knows; asking would cost a call.
const UNSAID: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// Bytes that it takes as one: what one datagram over IPv4 may have.
const TOGETHER_MAX: usize = 65_507;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Stream,
    /// Where connections come in.
    Accepts,
    /// A connection whose socket is dialled again.
    Kept,
    /// Talks to one address. `together`: several datagrams may be received as one packet.
    Dialled {
        together: bool,
    },
    /// Hears everybody, at one address of ours.
    Listens,
    /// Hears everybody, at all addresses of ours: each datagram has to say which.
    ListensEverywhere,
}

impl Mode {
    /// Whether other holders of the same socket may outlive this one.
    pub fn is_shared(self) -> bool {
        matches!(self, Mode::Accepts | Mode::Listens | Mode::ListensEverywhere)
    }

    pub fn of_listening(fd: BorrowedFd<'_>) -> Self {
        let address = rustix::net::getsockname(fd).ok().and_then(|address| SocketAddr::try_from(address).ok());
        match address {
            Some(address) if !address.ip().is_unspecified() => Mode::Listens,
            Some(_) | None => Mode::ListensEverywhere,
        }
    }
}

/// Lets the kernel hand over what came together as one packet. An old kernel, or one of a container that has
/// not got it, hands over the datagrams, which is right too.
pub fn keep_together(fd: BorrowedFd<'_>) {
    let _ = options::set(fd, nix_option::UdpGroSegment, &true);
}

/// Why a UDP socket could not be had. The kernel has two other names for having no port left.
pub fn dial_error(error: Os) -> Errno {
    match error {
        Os::AGAIN | Os::ADDRINUSE => errno::EADDRNOTAVAIL,
        error => number(error),
    }
}

impl EpollDriver {
    pub(super) fn prepare_receiving(&mut self) -> Result<(), Errno> {
        if self.receiving.is_none() {
            self.receiving = Some(Receiving::new()?);
        }
        Ok(())
    }

    /// Watches for room at a UDP socket that has none, and no longer at one that has.
    pub(super) fn mind_room(&mut self, sock: Sock, full: bool) {
        let held = &mut self.socks[sock.0 as usize];
        if matches!(held.mode, Mode::Stream | Mode::Accepts | Mode::Kept) || held.room_wanted == full {
            return;
        }
        let flags = if full { WATCH | EventFlags::OUT } else { WATCH };
        // Room that came since is reported at once. It fails for want of memory only, and then the next try to send
        // asks again.
        let changed = epoll::modify(&self.epoll, &held.fd, EventData::new_u64(held.token.0), flags);
        held.room_wanted = full && changed.is_ok();
    }
}

/// What receiving needs besides a socket: one for all sockets of a driver.
pub struct Receiving {
    calls: UdpSocketState,
    seen: Box<[RecvMeta]>,
}

impl Receiving {
    fn new() -> Result<Self, Errno> {
        // It sets options of the socket it is made with that a QUIC endpoint wants, so that one is thrown away.
        // Receiving with others is one plain recvmmsg.
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let unused = super::socket(any, SocketType::DGRAM).map_err(number)?;
        let calls = UdpSocketState::new((&unused).into()).map_err(errno_of)?;
        Ok(Receiving { calls, seen: vec![RecvMeta::default(); CAPACITY].into_boxed_slice() })
    }

    pub fn recv_many(&mut self, held: &mut Held, into: &mut Batch) -> RecvMany {
        if held.mode == (Mode::Dialled { together: false }) && into.has_room() {
            return recv_apart(held, into);
        }
        let mut free = into.free();
        let mut places: [IoSliceMut<'_>; CAPACITY] =
            std::array::from_fn(|_| IoSliceMut::new(free.next().unwrap_or_default()));
        drop(free);
        let offered = places.iter().take_while(|place| !place.is_empty()).count();
        if offered == 0 {
            return RecvMany::Some { packets: 0, drained: false };
        }
        let packets = match self.calls.recv((&held.fd).into(), &mut places[..offered], &mut self.seen) {
            Ok(packets) => packets,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return RecvMany::Dry,
            Err(error) => return RecvMany::Failed(errno_of(error)),
        };
        let dialled = held.mode != Mode::Listens && held.mode != Mode::ListensEverywhere;
        for packet in &self.seen[..packets] {
            let from = if dialled { UNSAID } else { packet.addr };
            into.received(packet.len, packet.stride, from, packet.dst_ip.filter(answers_from));
        }
        RecvMany::Some { packets, drained: packets < offered }
    }
}

/// Whether an answer can leave from the address that was asked. From one of many it cannot; the kernel chooses.
fn answers_from(local: &IpAddr) -> bool {
    let of_many = match local {
        IpAddr::V4(local) => local.is_multicast() || local.is_broadcast(),
        IpAddr::V6(local) => local.is_multicast(),
    };
    !of_many
}

/// Receives datagrams of a dialled socket one by one, and lets the kernel keep the next ones together if they come
/// in bursts.
fn recv_apart(held: &mut Held, into: &mut Batch) -> RecvMany {
    let mut packets = 0;
    while let Some(place) = into.place() {
        match rustix::net::recv(&held.fd, place, RecvFlags::empty()) {
            Ok((_, length)) => into.received(length, length, UNSAID, None),
            Err(Os::AGAIN) if packets == 0 => return RecvMany::Dry,
            Err(Os::AGAIN) => return RecvMany::Some { packets, drained: true },
            Err(error) if packets == 0 => return RecvMany::Failed(number(error)),
            // An ICMP error that came in between two calls. Told once, it is gone; what we send next brings another.
            Err(_) => return RecvMany::Some { packets, drained: false },
        }
        packets += 1;
        if packets == BURST {
            held.mode = Mode::Dialled { together: true };
            keep_together(held.fd.as_fd());
        }
    }
    RecvMany::Some { packets, drained: false }
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(errno::EPROTO.0))
}

/// Packets that go to the kernel as one message.
#[derive(Clone, Copy)]
struct Message {
    packets: usize,
    /// Size of its datagrams, when there are several.
    segment: Option<u16>,
    /// The kernel will not take them as one.
    apart: bool,
}

pub fn send_many(held: &mut Held, batch: &Batch, packets: Range<usize>) -> SendMany {
    let mut taken = 0;
    while taken < packets.len() {
        let (sent, error) = send_some(held, batch, packets.start + taken..packets.end);
        taken += sent;
        match error {
            None => {}
            Some(Os::AGAIN) => break,
            Some(error) => return SendMany { taken, failed: Some(number(error)) },
        }
    }
    SendMany { taken, failed: None }
}

/// Sends the first packets, as many as one call can: how many went, and what kept the next one back.
///
/// A short count of the kernel hides the reason, which the next call then meets. An ICMP error that came in just
/// between two messages of a call is lost with it; the datagrams that follow will bring others.
fn send_some(held: &mut Held, batch: &Batch, packets: Range<usize>) -> (usize, Option<Os>) {
    let first = message(held, batch, packets.clone());
    if first.apart {
        return send_apart(held, batch, packets.start..packets.start + first.packets);
    }
    let mut starts = [packets.start; CAPACITY + 1];
    let (mut count, mut at) = (1, packets.start + first.packets);
    // One call has one set of ancillary data for all its messages.
    while at < packets.end {
        let next = message(held, batch, at..packets.end);
        if next.apart || next.segment != first.segment || !same_way(held, batch, packets.start, at) {
            break;
        }
        starts[count] = at;
        at += next.packets;
        count += 1;
    }
    starts[count] = at;
    if count == 1 && first.segment.is_none() {
        return match send_one(held, batch, packets.start, batch.bytes(packets.start)) {
            Ok(()) => (1, None),
            Err(error) => (0, Some(error)),
        };
    }
    let slices: [IoSlice<'_>; CAPACITY] = std::array::from_fn(|offset| {
        let at_offset = packets.start + offset;
        IoSlice::new(if at_offset < at { batch.bytes(at_offset) } else { &[] })
    });
    let mut messages: [&[IoSlice<'_>]; CAPACITY] = [&[]; CAPACITY];
    for (message, bounds) in messages.iter_mut().zip(starts.windows(2)).take(count) {
        *message = &slices[bounds[0] - packets.start..bounds[1] - packets.start];
    }
    match send_messages(held, batch, &starts[..count], &messages[..count], first.segment) {
        Ok(sent) => (starts[sent.min(count)] - packets.start, None),
        Err(error) if first.segment.is_some() && matches!(error, Os::INVAL | Os::IO | Os::MSGSIZE) => {
            if error == Os::IO {
                // The device cannot do it at all.
                held.segment_max = 0;
            } else if let (Mode::Dialled { .. }, Some(size)) = (held.mode, first.segment) {
                // The way to this address does not take such a size whole. A listening socket has other ways too.
                held.segment_max = held.segment_max.min(size - 1);
            }
            send_apart(held, batch, packets.start..packets.start + first.packets)
        }
        Err(error) => (0, Some(error)),
    }
}

/// What can go as one message, from the first of `packets` on.
fn message(held: &Held, batch: &Batch, packets: Range<usize>) -> Message {
    let first = packets.start;
    let size = batch.bytes(first).len();
    if let Some(segment) = batch.segment(first) {
        // However many they are, the same kernel put them together.
        let fits = segment <= held.segment_max && size <= TOGETHER_MAX;
        return Message { packets: 1, segment: fits.then_some(segment), apart: !fits };
    }
    let mut count = 1;
    if 0 < size && size <= usize::from(held.segment_max) {
        let mut total = size;
        for next in first + 1..packets.end {
            let length = batch.bytes(next).len();
            total += length;
            if batch.segment(next).is_some()
                || !(1..=size).contains(&length)
                || total > TOGETHER_MAX
                || count == SEGMENTS_MAX
                || !same_place(held, batch, first, next)
            {
                break;
            }
            count += 1;
            // A shorter one can only be the last.
            if length < size {
                break;
            }
        }
    }
    Message { packets: count, segment: u16::try_from(size).ok().filter(|_| count > 1), apart: false }
}

fn same_place(held: &Held, batch: &Batch, one: usize, other: usize) -> bool {
    matches!(held.mode, Mode::Dialled { .. })
        || (batch.peer(one) == batch.peer(other) && same_way(held, batch, one, other))
}

/// Whether two packets can be messages of one call.
fn same_way(held: &Held, batch: &Batch, one: usize, other: usize) -> bool {
    match held.mode {
        Mode::Dialled { .. } | Mode::Stream | Mode::Accepts | Mode::Kept => true,
        Mode::Listens => batch.peer(one).is_ipv4() == batch.peer(other).is_ipv4(),
        Mode::ListensEverywhere => {
            batch.local(one) == batch.local(other) && batch.peer(one).is_ipv4() == batch.peer(other).is_ipv4()
        }
    }
}

/// Sends each datagram for itself. Where one is kept back, its packet counts as not sent.
fn send_apart(held: &Held, batch: &Batch, packets: Range<usize>) -> (usize, Option<Os>) {
    for at in packets.clone() {
        for datagram in batch.each(at) {
            if let Err(error) = send_one(held, batch, at, datagram) {
                return (at - packets.start, Some(error));
            }
        }
    }
    (packets.len(), None)
}

/// Sends one datagram on the way of packet `at`.
fn send_one(held: &Held, batch: &Batch, at: usize, datagram: &[u8]) -> Result<(), Os> {
    match held.mode {
        Mode::Dialled { .. } | Mode::Stream | Mode::Accepts | Mode::Kept => {
            rustix::net::send(&held.fd, datagram, SendFlags::empty()).map(drop)
        }
        Mode::Listens => rustix::net::sendto(&held.fd, datagram, SendFlags::empty(), &batch.peer(at)).map(drop),
        Mode::ListensEverywhere => send_messages(held, batch, &[at], &[&[IoSlice::new(datagram)]], None).map(drop),
    }
}

/// Sends messages that go the same way: the addresses of each are those of the packet it starts with.
fn send_messages(
    held: &Held,
    batch: &Batch,
    starts: &[usize],
    messages: &[&[IoSlice<'_>]],
    segment: Option<u16>,
) -> Result<usize, Os> {
    let first = starts[0];
    let everywhere = held.mode == Mode::ListensEverywhere;
    let local = batch.local(first).filter(|local| everywhere && local.is_ipv4() == batch.peer(first).is_ipv4());
    HEADERS.with_borrow_mut(|headers| match (held.mode, batch.peer(first)) {
        (Mode::Dialled { .. } | Mode::Stream | Mode::Accepts | Mode::Kept, _) => {
            headers.dialled.send(held.fd.as_fd(), messages, &[None; CAPACITY], None, segment)
        }
        (Mode::Listens | Mode::ListensEverywhere, SocketAddr::V4(_)) => {
            let mut peers: [Option<SockaddrIn>; CAPACITY] = [None; CAPACITY];
            for (peer, &at) in peers.iter_mut().zip(starts) {
                *peer = v4(batch.peer(at)).map(SockaddrIn::from);
            }
            headers.v4.send(held.fd.as_fd(), messages, &peers, local, segment)
        }
        (Mode::Listens | Mode::ListensEverywhere, SocketAddr::V6(_)) => {
            let mut peers: [Option<SockaddrIn6>; CAPACITY] = [None; CAPACITY];
            for (peer, &at) in peers.iter_mut().zip(starts) {
                *peer = v6(batch.peer(at)).map(SockaddrIn6::from);
            }
            headers.v6.send(held.fd.as_fd(), messages, &peers, local, segment)
        }
    })
}

fn v4(address: SocketAddr) -> Option<std::net::SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    }
}

fn v6(address: SocketAddr) -> Option<std::net::SocketAddrV6> {
    match address {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(address) => Some(address),
    }
}

thread_local! {
    /// Kept from call to call, since each is some kilobytes. They hold pointers, so they stay on their thread.
    static HEADERS: RefCell<AllHeaders> = RefCell::default();
}

#[derive(Default)]
struct AllHeaders {
    dialled: Headers<()>,
    v4: Headers<SockaddrIn>,
    v6: Headers<SockaddrIn6>,
}

/// The headers of a call, by what ancillary data its messages have: none, a segment, a local address, both. They
/// must have room for exactly that.
struct Headers<S> {
    by_ancillary: [Option<MultiHeaders<S>>; 4],
}

impl<S> Default for Headers<S> {
    fn default() -> Self {
        Headers { by_ancillary: [None, None, None, None] }
    }
}

impl<S: SockaddrLike + Copy> Headers<S> {
    fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        messages: &[&[IoSlice<'_>]],
        peers: &[Option<S>],
        local: Option<IpAddr>,
        segment: Option<u16>,
    ) -> Result<usize, Os> {
        let kind = usize::from(segment.is_some()) + 2 * usize::from(local.is_some());
        let headers = self.by_ancillary[kind].get_or_insert_with(|| {
            let mut room = Vec::new();
            if segment.is_some() {
                room.extend(nix::cmsg_space!(u16));
            }
            match local {
                Some(IpAddr::V4(_)) => room.extend(nix::cmsg_space!(libc::in_pktinfo)),
                Some(IpAddr::V6(_)) => room.extend(nix::cmsg_space!(libc::in6_pktinfo)),
                None => {}
            }
            room.shrink_to_fit();
            MultiHeaders::preallocate(CAPACITY, (!room.is_empty()).then_some(room))
        });
        let (v4, v6) = (info_v4(local), info_v6(local));
        let size = segment.unwrap_or_default();
        let size = segment.is_some().then_some(ControlMessage::UdpGsoSegments(&size));
        let local = match local {
            Some(IpAddr::V4(_)) => Some(ControlMessage::Ipv4PacketInfo(&v4)),
            Some(IpAddr::V6(_)) => Some(ControlMessage::Ipv6PacketInfo(&v6)),
            None => None,
        };
        let flags = MsgFlags::empty();
        let fd = fd.as_raw_fd();
        let sent = match (size, local) {
            (None, None) => sendmmsg(fd, headers, messages, peers, [], flags),
            (Some(one), None) | (None, Some(one)) => sendmmsg(fd, headers, messages, peers, [one], flags),
            (Some(one), Some(other)) => sendmmsg(fd, headers, messages, peers, [one, other], flags),
        };
        sent.map(Iterator::count).map_err(|error| Os::from_raw_os_error(error as i32))
    }
}

fn info_v4(local: Option<IpAddr>) -> libc::in_pktinfo {
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    let from = if let Some(IpAddr::V4(from)) = local { from } else { any };
    let number = |address: std::net::Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: number(from), ipi_addr: number(any) }
}

fn info_v6(local: Option<IpAddr>) -> libc::in6_pktinfo {
    let from = if let Some(IpAddr::V6(from)) = local { from } else { std::net::Ipv6Addr::UNSPECIFIED };
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 }
}
