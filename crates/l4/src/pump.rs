//! Moves one direction's bytes from one end to another: the hands of [`Flow`].
//!
//! It keeps no state of its own: what may be read and what is owed is the flow's to say, so relays and tunnels
//! share these hands. What an end is made of is the caller's: a relay has two sockets, a tunnel may have TLS or a stream of
//! HTTP/2 on either side.

use evenkeel_model::limits;
use evenkeel_reactor::{Driver, Recv, Send, Sock};

use crate::core::Core;
use crate::machine::{Flow, Received};

/// The source or the sink of a direction failed.
pub struct Broken {
    pub source: bool,
}

impl Then {
    /// By the other direction.
    pub fn after(other: &Flow) -> Self {
        if other.is_finished() { Then::Close } else { Then::GoOn }
    }
}

/// The pipe of a direction, while it holds bytes.
pub type Piping<D> = Option<<D as Driver>::Pipe>;

/// What becomes of the sockets once this direction has passed its end on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The other direction goes on: the sink must be told the end.
    GoOn,
    /// The other direction has ended before: the caller closes both, which tells the end by itself.
    Close,
}

/// Where a direction begins and ends.
pub trait Ends<D: Driver> {
    fn recv(&mut self, driver: &mut D, into: &mut [u8]) -> Recv;
    fn send(&mut self, driver: &mut D, from: &[u8]) -> Send;
    /// Tells the sink that nothing more comes.
    fn finish(&mut self, driver: &mut D);
    /// Whether a read of `bytes` into room for `room` has left nothing behind.
    fn is_drained(&self, bytes: usize, room: usize) -> bool {
        bytes < room
    }
}

/// Two sockets.
#[derive(Clone, Copy, Debug)]
pub struct Socks {
    pub from: Sock,
    pub to: Sock,
}

impl<D: Driver> Ends<D> for Socks {
    fn recv(&mut self, driver: &mut D, into: &mut [u8]) -> Recv {
        driver.recv(self.from, into)
    }

    fn send(&mut self, driver: &mut D, from: &[u8]) -> Send {
        driver.send(self.to, from)
    }

    fn finish(&mut self, driver: &mut D) {
        driver.finish(self.to);
    }
}

/// Moves bytes until the source is dry or the sink is full.
pub fn pump<D: Driver>(core: &mut Core<D>, flow: &mut Flow, then: Then, ends: &mut impl Ends<D>) -> Option<Broken> {
    loop {
        let waiting = flow.to_send();
        if !waiting.is_empty() {
            match ends.send(&mut core.driver, waiting) {
                Send::Taken(taken) => flow.sent(taken),
                Send::Failed(_) => return Some(Broken { source: false }),
            }
            continue;
        }
        if !flow.wants_read() {
            break;
        }
        let broken = copy(core, flow, ends);
        if broken.is_some() {
            return broken;
        }
    }
    if flow.take_finish() && then == Then::GoOn {
        ends.finish(&mut core.driver);
    }
    None
}

/// The same between two sockets; bulk goes through the kernel.
pub fn pump_socks<D: Driver>(
    core: &mut Core<D>,
    flow: &mut Flow,
    then: Then,
    piping: &mut Piping<D>,
    mut socks: Socks,
) -> Option<Broken> {
    loop {
        let waiting = flow.to_send();
        if !waiting.is_empty() {
            match core.driver.send(socks.to, waiting) {
                Send::Taken(taken) => flow.sent(taken),
                Send::Failed(_) => return Some(Broken { source: false }),
            }
            continue;
        }
        if let (bytes @ 1.., Some(pipe)) = (flow.to_drain(), piping.as_mut()) {
            match core.driver.drain(pipe, bytes, socks.to) {
                Send::Taken(taken) => flow.drained(taken),
                Send::Failed(_) => return Some(Broken { source: false }),
            }
            continue;
        }
        if !flow.wants_read() {
            break;
        }
        let broken = if flow.is_bulk() { splice(core, flow, piping, socks.from) } else { copy(core, flow, &mut socks) };
        if broken.is_some() {
            return broken;
        }
    }
    if flow.is_clear()
        && let Some(pipe) = piping.take()
    {
        core.keep_pipe(pipe);
    }
    if flow.take_finish() && then == Then::GoOn {
        core.driver.finish(socks.to);
    }
    None
}

fn copy<D: Driver>(core: &mut Core<D>, flow: &mut Flow, ends: &mut impl Ends<D>) -> Option<Broken> {
    let mut scratch = core.scratch();
    let mut broken = None;
    match ends.recv(&mut core.driver, &mut scratch) {
        Recv::Bytes(bytes) => {
            flow.received(if ends.is_drained(bytes, scratch.len()) { Received::Short } else { Received::Full });
            match ends.send(&mut core.driver, &scratch[..bytes]) {
                Send::Taken(taken) => flow.passed(&scratch[..bytes], taken),
                Send::Failed(_) => broken = Some(Broken { source: false }),
            }
        }
        Recv::Dry => flow.received(Received::Dry),
        Recv::End => flow.received(Received::End),
        Recv::Failed(_) => broken = Some(Broken { source: true }),
    }
    core.give_back(scratch);
    broken
}

fn splice<D: Driver>(core: &mut Core<D>, flow: &mut Flow, piping: &mut Piping<D>, from: Sock) -> Option<Broken> {
    let Some(mut pipe) = piping.take().or_else(|| core.spare_pipe()) else {
        flow.copy();
        return None;
    };
    let received = core.driver.fill(from, &mut pipe);
    *piping = Some(pipe);
    match received {
        Recv::Bytes(bytes) => flow.piped(bytes),
        Recv::Dry => flow.received(Received::Dry),
        Recv::End => flow.received(Received::End),
        Recv::Failed(_) => return Some(Broken { source: true }),
    }
    None
}

impl<D: Driver> Core<D> {
    fn spare_pipe(&mut self) -> Option<D::Pipe> {
        self.pipes.pop().or_else(|| self.driver.pipe().ok())
    }

    /// Takes an empty pipe back for the next bulk transfer.
    pub(crate) fn keep_pipe(&mut self, pipe: D::Pipe) {
        if self.pipes.len() < limits::SPARE_PIPES.value as usize {
            self.pipes.push(pipe);
        }
    }
}
