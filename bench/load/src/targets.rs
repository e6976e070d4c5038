//! Targets of probes, as many as a row asks for: every address of the loopback network has the same three ports.
//!
//! One listener at the wildcard address stands for 100,000 targets, since what is measured is the checker. One thread
//! serves all and does as little as an answer needs: it shares its CPU with nobody who is measured, but at 20,000 probes
//! a second it must not become the limit.
//!
//! It also counts, for a checker must not look cheap by probing less than it was told to.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use nix::libc::in_pktinfo;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

/// One port for each kind of probe, and one that tells the counts.
pub struct Ports {
    pub tcp: u16,
    pub http: u16,
    pub udp: u16,
    pub counts: u16,
}

/// What was done so far.
#[derive(Default)]
struct Counts {
    accepted: u64,
    answered: u64,
    datagrams: u64,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Names of the sockets that stay; a connection is named by its descriptor behind them.
const TCP: u64 = 0;
const HTTP: u64 = 1;
const UDP: u64 = 2;
const COUNTS: u64 = 3;
const FIRST_CLIENT: u64 = 4;

/// A second of a row with the most targets may wait while this thread has no CPU.
const BACKLOG: i32 = 32_768;

pub fn run(ports: &Ports) -> io::Result<()> {
    let listeners = [ports.tcp, ports.http, ports.counts].map(|port| -> io::Result<TcpListener> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    let [tcp, http, counts] = listeners;
    let (tcp, http, counts) = (tcp?, http?, counts?);
    let udp = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, ports.udp)))?;
    udp.set_nonblocking(true)?;
    crate::answers::widen(&udp)?;
    // The answer has to come from the address that was asked.
    setsockopt(&udp, sockopt::Ipv4PacketInfo, &true)?;

    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &tcp, EventData::new_u64(TCP), EventFlags::IN)?;
    epoll::add(&poll, &http, EventData::new_u64(HTTP), EventFlags::IN)?;
    epoll::add(&poll, &udp, EventData::new_u64(UDP), EventFlags::IN)?;
    epoll::add(&poll, &counts, EventData::new_u64(COUNTS), EventFlags::IN)?;
    println!("ready");
    let mut done = Counts::default();
    let mut clients: HashMap<u64, OwnedFd> = HashMap::new();
    let mut room = [MaybeUninit::uninit(); 256];
    loop {
        let (events, _) = match epoll::wait(&poll, &mut room, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for event in events.iter() {
            match event.data.u64() {
                TCP => {
                    while accept_with(&tcp, SocketFlags::NONBLOCK).is_ok() {
                        done.accepted += 1;
                    }
                }
                HTTP => {
                    while let Ok(client) = accept_with(&http, SocketFlags::NONBLOCK) {
                        done.accepted += 1;
                        if !answer(&client, &mut done) {
                            let name = FIRST_CLIENT + client.as_raw_fd() as u64;
                            epoll::add(&poll, &client, EventData::new_u64(name), EventFlags::IN)?;
                            clients.insert(name, client);
                        }
                    }
                }
                UDP => while echo(&udp).is_ok() {
                    done.datagrams += 1;
                },
                COUNTS => {
                    while let Ok((mut asker, _)) = counts.accept() {
                        let Counts { accepted, answered, datagrams } = done;
                        // Whoever asks and does not listen gets nothing.
                        let _ = writeln!(
                            asker,
                            "{{\"accepted\": {accepted}, \"answered\": {answered}, \"datagrams\": {datagrams}}}"
                        );
                    }
                }
                name => {
                    if clients.get(&name).is_some_and(|client| answer(client, &mut done)) {
                        clients.remove(&name);
                    }
                }
            }
        }
    }
}

/// Answers a request whose head came in one piece, which those of probes do. False: it is still to come.
fn answer(client: &OwnedFd, done: &mut Counts) -> bool {
    let mut bytes = [0_u8; 4096];
    match recv(client, &mut bytes, RecvFlags::empty()) {
        Err(Errno::AGAIN) => return false,
        Ok((1.., _)) => {
            let sent = send(client, ANSWER, SendFlags::NOSIGNAL);
            done.answered += u64::from(sent == Ok(ANSWER.len()));
        }
        // Gone without a question.
        Ok((0, _)) | Err(_) => {}
    }
    true
}

/// Sends one datagram back where it came from.
fn echo(socket: &UdpSocket) -> nix::Result<()> {
    let mut bytes = [0_u8; 2048];
    let mut space = nix::cmsg_space!(in_pktinfo);
    let (from, local, length) = {
        let mut into = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::empty())?;
        let local = got.cmsgs()?.find_map(|told| match told {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
            _ => None,
        });
        (got.address, local, got.bytes)
    };
    let local = local.map(|info| in_pktinfo { ipi_ifindex: 0, ..info });
    let source = local.as_ref().map(ControlMessage::Ipv4PacketInfo);
    let back = [IoSlice::new(&bytes[..length])];
    // A checker that is gone, or has no room, shows up in what it says of its targets.
    let _ = sendmsg(socket.as_raw_fd(), &back, source.as_slice(), MsgFlags::empty(), from.as_ref());
    Ok(())
}
