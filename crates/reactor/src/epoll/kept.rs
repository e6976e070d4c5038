//! Sockets that are dialled again: for connections that are many and short, as those of probes.
//!
//! A connection costs the kernel a packet or two, but its socket costs a file, an inode, an entry of the epoll and
//! their removal, more than half of what a probe costs in all. A connection can be dissolved and its socket
//! dialled anew (`connect` to nowhere); with it goes the port, and what was received or learnt of the other side.
//!
//! ```text
//!           dial                    close: reset
//!   Spare ────────► InUse ─────────────────────────────► Spare
//!                     │  close: orderly, and the other     ▲
//!                     │  side has closed                   │ all is acknowledged
//!                     └───────────────────► Parting ───────┘
//! ```
//!
//! An orderly close where the other side has not closed yet may take as long as it likes, so that socket is let go for good and
//! the kernel finishes alone. So is one beyond the number that are kept.
//!
//! The epoll file knows such a socket by its place here and not by a token, which is another one at each dial.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use evenkeel_model::limits;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno as Os;
use rustix::net::{Shutdown, SocketType, sockopt};
use slab::Slab;

use super::options;
use crate::driver::{Close, Dial, Handshake, Sock, Token};

/// Marks what epoll reports as a place in [`Kept`]. Tokens of those who dial stay below it.
pub const PLACE: u64 = 1 << 63;

#[derive(Default)]
pub struct Kept {
    sockets: Slab<Socket>,
    /// By [`Flavour`], the last one used first: the kernel's memory of it may still be in the cache.
    spare: [Vec<usize>; 4],
}

/// What cannot be changed any more, as an index.
type Flavour = usize;

struct Socket {
    sock: Sock,
    flavour: Flavour,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    InUse { token: Token, left: bool },
    Parting,
    Spare,
}

/// What is to be done with a socket whose owner lets it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parted {
    Stays,
    /// Out of the books: close the file.
    Closes,
}

const fn flavour(dial: &Dial) -> Flavour {
    (dial.to.is_ipv6() as usize) << 1 | matches!(dial.handshake, Handshake::HalfOpen) as usize
}

/// A new socket with the options of its flavour.
pub fn open(dial: &Dial) -> Result<OwnedFd, Os> {
    let fd = super::socket(dial.to, SocketType::STREAM)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    if dial.handshake == Handshake::HalfOpen {
        // On a dialling socket it withholds the last ACK, as TCP_QUICKACK=0 does, but is not forgotten with
        // the connection.
        options::set(fd.as_fd(), options::DeferAccept, &1)?;
    }
    Ok(fd)
}

impl Kept {
    /// Sockets that nobody uses.
    pub fn idle(&self) -> usize {
        self.sockets.iter().filter(|(_, socket)| !matches!(socket.state, State::InUse { .. })).count()
    }

    /// A spare socket for this dial, which is in use from now on under `token`.
    pub fn take(&mut self, dial: &Dial, token: Token) -> Option<Sock> {
        let place = self.spare[flavour(dial)].pop()?;
        let socket = &mut self.sockets[place];
        socket.state = State::InUse { token, left: false };
        Some(socket.sock)
    }

    /// Watches a new socket, which is in use under `token`; says at which place it is.
    pub fn add(
        &mut self,
        epoll: &OwnedFd,
        sock: Sock,
        fd: BorrowedFd<'_>,
        dial: &Dial,
        token: Token,
    ) -> Result<usize, Os> {
        let entry = self.sockets.vacant_entry();
        let place = entry.key();
        epoll::add(epoll, fd, EventData::new_u64(PLACE | place as u64), super::WATCH)?;
        entry.insert(Socket { sock, flavour: flavour(dial), state: State::InUse { token, left: false } });
        Ok(place)
    }

    /// Whom an event of this place is for. `Err` is a socket that nobody uses, or none.
    pub fn owner(&mut self, place: usize, flags: EventFlags) -> Result<Token, Option<Sock>> {
        let Some(socket) = self.sockets.get_mut(place) else { return Err(None) };
        match &mut socket.state {
            State::InUse { token, left } => {
                *left |= flags.contains(EventFlags::RDHUP);
                Ok(*token)
            }
            State::Parting | State::Spare => Err(Some(socket.sock)),
        }
    }

    /// Ends the connection of a socket that was in use.
    pub fn part(&mut self, place: usize, fd: BorrowedFd<'_>, how: Close) -> Parted {
        let socket = &mut self.sockets[place];
        let State::InUse { left, .. } = socket.state else { unreachable!("only a socket in use has an owner") };
        match how {
            Close::Reset => self.dissolve(place, fd),
            Close::Orderly if left => {
                // Fails where the connection is gone already, which its event says.
                let _ = rustix::net::shutdown(fd, Shutdown::Write);
                socket.state = State::Parting;
                Parted::Stays
            }
            Close::Orderly | Close::Silent => self.forget(place),
        }
    }

    /// Takes news of a socket that nobody uses.
    pub fn parted(&mut self, place: usize, fd: BorrowedFd<'_>, flags: EventFlags) -> Parted {
        let over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        match self.sockets[place].state {
            State::Parting if over => self.dissolve(place, fd),
            State::Parting | State::Spare | State::InUse { .. } => Parted::Stays,
        }
    }

    /// Ends what is left of a connection, by a reset where it still stands, and keeps the socket.
    fn dissolve(&mut self, place: usize, fd: BorrowedFd<'_>) -> Parted {
        let spare = self.spare.iter().map(Vec::len).sum::<usize>();
        if spare >= limits::SPARE_SOCKETS.value as usize || rustix::net::connect_unspec(fd).is_err() {
            return self.forget(place);
        }
        let socket = &mut self.sockets[place];
        socket.state = State::Spare;
        self.spare[socket.flavour].push(place);
        Parted::Stays
    }

    fn forget(&mut self, place: usize) -> Parted {
        self.sockets.remove(place);
        Parted::Closes
    }
}
