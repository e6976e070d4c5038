//! Backends of the TCP rows: ports that echo, ports that send without end, and ports that send and take.
//!
//! Echo is one thread and one epoll, because it runs beside the load on the same CPU and each thread switch
//! there would be taken from the load. The endless streams are few, so each has a blocking thread.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

/// Ports by what they do.
pub struct Ports {
    pub echo: Vec<u16>,
    pub source: Vec<u16>,
    pub both: Vec<u16>,
    pub answers: Vec<u16>,
    pub bursts: Vec<u16>,
}

pub fn run(ports: &Ports) -> io::Result<()> {
    for &port in &ports.source {
        with_threads(port, crate::bulk::send_stream)?;
    }
    for &port in &ports.both {
        with_threads(port, crate::both::serve)?;
    }
    for &port in &ports.answers {
        crate::answers::one_by_one(port)?;
    }
    for &port in &ports.bursts {
        crate::answers::in_bursts(port)?;
    }
    let listeners = ports
        .echo
        .iter()
        .map(|&port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
        .collect::<io::Result<Vec<_>>>()?;
    println!("ready");
    echo_for_ever(&listeners)
}

/// A thread for each client, which are few.
fn with_threads(port: u16, serve: fn(TcpStream)) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || serve(client));
        }
    });
    Ok(())
}

fn echo_for_ever(listeners: &[TcpListener]) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll::add(&poll, listener, EventData::new_u64(number as u64), EventFlags::IN)?;
    }
    // Clients are named by their descriptor, behind the listeners' numbers.
    let first_client = listeners.len() as u64;
    let mut clients: HashMap<u64, OwnedFd> = HashMap::new();
    let mut room = [MaybeUninit::uninit(); 256];
    loop {
        let (events, _) = match epoll::wait(&poll, &mut room, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        for event in events.iter() {
            let name = event.data.u64();
            if name < first_client {
                while let Ok(client) = accept_with(&listeners[name as usize], SocketFlags::NONBLOCK) {
                    let name = first_client + client.as_raw_fd() as u64;
                    epoll::add(&poll, &client, EventData::new_u64(name), EventFlags::IN)?;
                    clients.insert(name, client);
                }
            } else if clients.get(&name).is_some_and(|client| echo_once(client) == Client::Gone) {
                clients.remove(&name);
            }
        }
    }
}

#[derive(PartialEq)]
enum Client {
    Stays,
    Gone,
}

fn echo_once(client: &OwnedFd) -> Client {
    let mut bytes = [0u8; 4096];
    match recv(client, &mut bytes, RecvFlags::empty()) {
        Ok((0, _)) => Client::Gone,
        // A client sends 64 bytes and waits, so its window is empty and the echo fits in one send.
        Ok((read, _)) => match send(client, &bytes[..read], SendFlags::NOSIGNAL) {
            Ok(sent) if sent == read => Client::Stays,
            _ => Client::Gone,
        },
        Err(Errno::AGAIN | Errno::INTR) => Client::Stays,
        Err(_) => Client::Gone,
    }
}
