//! Moves one direction's bytes between two sockets: the hands of [`Flow`].
//!
//! It keeps no state of its own: what may be read and what is owed is the flow's to say, so relays and tunnels
//! share these hands.

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

/// Moves bytes until the source is dry or the sink is full. With `piping`, bulk goes through the kernel.
pub fn pump<D: Driver>(
    core: &mut Core<D>,
    flow: &mut Flow,
    then: Then,
    mut piping: Option<&mut Piping<D>>,
    from: Sock,
    to: Sock,
) -> Option<Broken> {
    loop {
        let waiting = flow.to_send();
        if !waiting.is_empty() {
            match core.driver.send(to, waiting) {
                Send::Taken(taken) => flow.sent(taken),
                Send::Failed(_) => return Some(Broken { source: false }),
            }
            continue;
        }
        if let (bytes @ 1.., Some(Some(pipe))) = (flow.to_drain(), piping.as_deref_mut()) {
            match core.driver.drain(pipe, bytes, to) {
                Send::Taken(taken) => flow.drained(taken),
                Send::Failed(_) => return Some(Broken { source: false }),
            }
            continue;
        }
        if !flow.wants_read() {
            break;
        }
        let broken = match piping.as_deref_mut().filter(|_| flow.is_bulk()) {
            Some(piping) => splice(core, flow, piping, from),
            None => copy(core, flow, from, to),
        };
        if broken.is_some() {
            return broken;
        }
    }
    if let Some(piping) = piping
        && flow.is_clear()
        && let Some(pipe) = piping.take()
    {
        core.keep_pipe(pipe);
    }
    if flow.take_finish() && then == Then::GoOn {
        core.driver.finish(to);
    }
    None
}

fn copy<D: Driver>(core: &mut Core<D>, flow: &mut Flow, from: Sock, to: Sock) -> Option<Broken> {
    let mut scratch = core.scratch();
    let mut broken = None;
    match core.driver.recv(from, &mut scratch) {
        Recv::Bytes(bytes) => {
            flow.received(if bytes == scratch.len() { Received::Full } else { Received::Short });
            match core.driver.send(to, &scratch[..bytes]) {
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
