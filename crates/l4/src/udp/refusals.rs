//! Datagrams that nobody will get, and the lines that say so.
//!
//! Each is counted at once. To the log they go together: one line for each listener and cause in a second
//! ([`limits::REFUSED_LINES`]), with their number. A line for each datagram would let anybody with a raw socket fill the
//! disk, and no line at all would leave the operator in the dark.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use evenkeel_model::{Instant, limits};

use crate::gate::Turned;
use crate::roster::ListenerSlot;

const GATHER: Duration = Duration::from_secs(limits::REFUSED_LINES.value);

/// What became of one kind of datagrams within a second.
pub struct Refused {
    pub listener: Rc<ListenerSlot>,
    /// As it was for the first of them.
    pub turned: Turned,
    /// Who sent the first of them.
    pub client: SocketAddr,
    pub since: Instant,
    pub last: Instant,
    pub datagrams: u64,
    pub bytes: u64,
}

#[derive(Default)]
pub struct Refusals {
    /// A handful: as many as there are udp listeners times causes at most.
    gathered: Vec<Refused>,
}

impl Refusals {
    pub fn note(
        &mut self,
        listener: &Rc<ListenerSlot>,
        turned: Turned,
        client: SocketAddr,
        (datagrams, bytes): (u64, u64),
        now: Instant,
    ) {
        listener.metrics.causes.add(turned.cause, datagrams);
        let alike =
            |refused: &&mut Refused| Rc::ptr_eq(&refused.listener, listener) && refused.turned.cause == turned.cause;
        match self.gathered.iter_mut().find(alike) {
            Some(refused) => {
                refused.datagrams += datagrams;
                refused.bytes += bytes;
                refused.last = now;
            }
            None => {
                let listener = Rc::clone(listener);
                self.gathered.push(Refused { listener, turned, client, since: now, last: now, datagrams, bytes });
            }
        }
    }

    /// When the next line is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.gathered.iter().map(|refused| refused.since + GATHER).min()
    }

    /// One whose second is over.
    pub fn due(&mut self, now: Instant) -> Option<Refused> {
        let position = self.gathered.iter().position(|refused| now >= refused.since + GATHER)?;
        Some(self.gathered.swap_remove(position))
    }

    /// All that were gathered: the worker ends.
    pub fn take(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.gathered)
    }
}
