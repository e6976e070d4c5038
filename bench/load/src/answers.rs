//! Backends of the UDP rows: ports that answer each datagram with one of its length, and ports that answer with a burst.
//!
//! One blocking thread for each port. Datagrams come and go many in a call, because these threads share a CPU with
//! the load, and what they take is missing there.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};

use crate::datagram::{ANSWERS, LARGE, answer, answer_with_many};

/// Datagrams in one call.
const AT_ONCE: usize = 64;

/// Holds the bursts of all clients at once. Whatever a row loses is then lost in the proxy.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Makes room for bursts, as far as this user may.
pub fn widen(socket: &UdpSocket) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    Ok(())
}

fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    widen(&socket)?;
    Ok(socket)
}

/// Answers each question by itself, for ever.
pub fn one_by_one(port: u16) -> io::Result<()> {
    let socket = bind(port)?;
    std::thread::spawn(move || {
        let mut room = vec![[0; 2048]; AT_ONCE];
        loop {
            // A client that is gone shows up as an error of some later call; it is nobody's fault.
            let _ = answer_some(&socket, &mut room);
        }
    });
    Ok(())
}

fn answer_some(socket: &UdpSocket, room: &mut [[u8; 2048]]) -> nix::Result<()> {
    let mut came = [(0, None); AT_ONCE];
    let mut count = 0;
    {
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(AT_ONCE, None);
        let mut slices: Vec<_> = room.iter_mut().map(|bytes| [IoSliceMut::new(bytes)]).collect();
        let wait = MsgFlags::MSG_WAITFORONE;
        for message in recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), wait, None)? {
            came[count] = (message.bytes, message.address);
            count += 1;
        }
    }
    let (mut slices, mut addresses) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (bytes, (length, address)) in room.iter_mut().zip(&came[..count]) {
        if answer(&mut bytes[..*length]) {
            slices.push([IoSlice::new(&bytes[..*length])]);
            addresses.push(*address);
        }
    }
    let mut from = 0;
    while from < slices.len() {
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(slices.len() - from, None);
        let rest = &addresses[from..];
        from += sendmmsg(socket.as_raw_fd(), &mut headers, slices[from..].iter(), rest, [], MsgFlags::empty())?.count();
    }
    Ok(())
}

/// Answers each question with a burst that leaves in one call, as QUIC servers send, for ever.
pub fn in_bursts(port: u16) -> io::Result<()> {
    let socket = bind(port)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &(LARGE as i32))?;
    std::thread::spawn(move || {
        let (mut question, mut answers) = ([0; 2048], vec![0; ANSWERS * LARGE]);
        loop {
            let Ok((length, client)) = socket.recv_from(&mut question) else { continue };
            if answer_with_many(&question[..length], &mut answers) {
                let _ = socket.send_to(&answers, client);
            }
        }
    });
    Ok(())
}
