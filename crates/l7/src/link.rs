//! What the bytes of one HTTP/1.1 conversation go over: a socket, a TLS session on one, or a stream of an HTTP/2 connection.
//!
//! The engine reads and writes all three alike, with the meanings of the [`Driver`]: readiness comes as edges, a short send
//! means full. Nothing here knows what the bytes say.

use std::io::IoSlice;

use evenkeel_l4::{Key, Owner, token};
use evenkeel_reactor::{Close, Driver, Errno, Recv, Send, Sock};

use crate::carriers::{Carriers, Lane};
use crate::secured::Secured;

pub(crate) enum Link {
    Plain(Sock),
    Tls(Box<Secured>),
    Stream(Lane),
}

impl Link {
    /// The socket below, when it is this link's alone.
    pub fn sock(&self) -> Option<Sock> {
        match self {
            Link::Plain(sock) => Some(*sock),
            Link::Tls(secured) => Some(secured.sock),
            Link::Stream(_) => None,
        }
    }

    pub fn is_stream(&self) -> bool {
        matches!(self, Link::Stream(_))
    }

    pub fn recv<D: Driver>(&mut self, driver: &mut D, carriers: &mut Carriers, into: &mut [u8]) -> Recv {
        match self {
            Link::Plain(sock) => driver.recv(*sock, into),
            Link::Tls(secured) => secured.recv(driver, &mut carriers.plain, into),
            Link::Stream(lane) => carriers.recv(*lane, into),
        }
    }

    /// Whether a read of `bytes` into room for `room` has left nothing behind.
    pub fn is_drained(&self, bytes: usize, room: usize) -> bool {
        match self {
            Link::Tls(secured) => secured.is_drained(),
            Link::Plain(_) => bytes < room,
            // Only a dry read has it report again, and costs no call of the kernel.
            Link::Stream(_) => false,
        }
    }

    /// Whether something waits to be read, without taking it.
    pub fn peek<D: Driver>(&mut self, driver: &mut D, carriers: &mut Carriers) -> Recv {
        match self {
            Link::Plain(sock) => driver.peek(*sock),
            Link::Tls(secured) => secured.peek(driver),
            Link::Stream(lane) => carriers.peek(*lane),
        }
    }

    pub fn send<D: Driver>(&mut self, driver: &mut D, carriers: &mut Carriers, from: &[u8]) -> Send {
        match self {
            Link::Plain(sock) => driver.send(*sock, from),
            Link::Tls(secured) => secured.send(driver, &[from], false),
            Link::Stream(lane) => carriers.send(*lane, &[from]),
        }
    }

    /// Sends what an HTTP/2 connection on this link has gathered.
    pub fn send_below<D: Driver>(&mut self, driver: &mut D, from: &[u8]) -> Send {
        match self {
            Link::Plain(sock) => driver.send(*sock, from),
            Link::Tls(secured) => secured.send(driver, &[from], false),
            // Streams carry no connections.
            Link::Stream(_) => Send::Taken(0),
        }
    }

    /// The last bytes before [`Link::finish`] or [`Link::close`], which must follow at once.
    pub fn send_final<D: Driver>(&mut self, driver: &mut D, carriers: &mut Carriers, from: &[u8]) -> Send {
        match self {
            Link::Plain(sock) => driver.send_final(*sock, from),
            Link::Tls(secured) => secured.send(driver, &[from], true),
            Link::Stream(lane) => carriers.send(*lane, &[from]),
        }
    }

    pub fn send_both<D: Driver>(&mut self, driver: &mut D, carriers: &mut Carriers, head: &[u8], body: &[u8]) -> Send {
        match self {
            Link::Plain(sock) => driver.send_vectored(*sock, &[IoSlice::new(head), IoSlice::new(body)]),
            Link::Tls(secured) => secured.send(driver, &[head, body], false),
            Link::Stream(lane) => carriers.send(*lane, &[head, body]),
        }
    }

    /// Whether all that was taken has gone on to the kernel, or to the connection that carries the stream.
    pub fn is_flushed(&self) -> bool {
        match self {
            Link::Tls(secured) => secured.is_flushed(),
            Link::Plain(_) | Link::Stream(_) => true,
        }
    }

    /// The socket takes bytes again.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn flush<D: Driver>(&mut self, driver: &mut D) -> Result<(), Errno> {
        match self {
            Link::Tls(secured) => secured.flush(driver, false),
            Link::Plain(_) | Link::Stream(_) => Ok(()),
        }
    }

    /// Has the readiness reported from now on. A stream's always is.
    ///
    /// # Errors
    /// When the kernel cannot watch another socket.
    pub fn watch<D: Driver>(&self, driver: &mut D, owner: Owner, key: Key) -> Result<(), Errno> {
        match self.sock() {
            Some(sock) => driver.watch(sock, token(owner, key)),
            None => Ok(()),
        }
    }

    /// Nothing more will be sent; receiving goes on.
    pub fn finish<D: Driver>(&mut self, driver: &mut D, carriers: &mut Carriers) {
        match self {
            Link::Plain(sock) => driver.finish(*sock),
            Link::Tls(secured) => secured.finish(driver),
            Link::Stream(lane) => carriers.finish(*lane),
        }
    }

    /// Whether all that has to be said before a close in good order is on its way.
    pub fn say_goodbye<D: Driver>(&mut self, driver: &mut D) -> bool {
        match self {
            Link::Tls(secured) => secured.say_goodbye(driver),
            Link::Plain(_) | Link::Stream(_) => true,
        }
    }

    pub fn close<D: Driver>(self, driver: &mut D, carriers: &mut Carriers, how: Close) {
        match self {
            Link::Plain(sock) => driver.close(sock, how),
            Link::Tls(secured) => secured.close(driver, how),
            Link::Stream(lane) => carriers.close(lane, how),
        }
    }
}
