//! Carries the bytes of a relay both ways, and sees to it that a backend's last words arrive.
//!
//! A backend may answer, close, and reset because its client still sends: an upload that was refused, say. Had we passed the
//! reset on at once, it would overtake the answer and destroy it, in our socket or in the client's. So the relay reads on
//! until the backend's side is empty, throws away what the client still sends, and resets it a moment after the
//! last byte was handed over. Where nothing was said in that moment, the reset goes on at once.

use std::time::Duration;

use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_reactor::{Driver, Event, Recv};

use crate::core::Core;
use crate::machine::Received;
use crate::pump::{Socks, Then, pump_socks};

use super::{Ending, Relay, Stage};

const FAREWELL: Duration = Duration::from_millis(limits::RELAY_FAREWELL.value);

/// Which side of a relay broke.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    /// With whether something of it may still be read.
    Backend {
        readable: bool,
    },
}

impl<D: Driver> Relay<D> {
    pub(super) fn backend_ready(&mut self, event: Event) {
        if event.readable {
            self.down.readable(event.hangup);
        }
        if event.writable {
            self.up.writable();
        }
    }

    /// Both directions came to their end in good order.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Relaying) && self.up.is_finished() && self.down.is_finished()
    }

    /// Moves what can be moved, both ways.
    pub(super) fn pump(&mut self, core: &mut Core<D>, now: Instant) -> Option<Ending> {
        let backend_sock = self.backend_sock?;
        let before = (self.up.progress(), self.down.progress());
        let up = Socks { from: self.client_sock, to: backend_sock };
        let down = Socks { from: backend_sock, to: self.client_sock };
        let broken = pump_socks(core, &mut self.up, Then::after(&self.down), &mut self.up_pipe, up)
            .map(|broken| if broken.source { Side::Client } else { Side::Backend { readable: true } })
            .or_else(|| {
                pump_socks(core, &mut self.down, Then::after(&self.up), &mut self.down_pipe, down)
                    .map(|broken| if broken.source { Side::Backend { readable: false } } else { Side::Client })
            });
        if (self.up.progress(), self.down.progress()) != before {
            self.moved(before.1, now);
        }
        match broken? {
            Side::Client => Some(Ending::reset(Cause::ClientAborted, None)),
            Side::Backend { readable } => self.begin_parting(core, readable, now),
        }
    }

    fn moved(&mut self, down_before: (u64, usize), now: Instant) {
        let idle = self.listener.read(|settings| settings.idle_timeout);
        self.deadline = (now + idle).min(self.ends);
        if self.down.progress() != down_before {
            self.heard = now;
            if self.times.first_byte.is_none() && self.down.bytes() > 0 {
                self.times.first_byte = Some(now);
            }
        }
    }

    /// No byte for too long, or the lifetime is over.
    pub(super) fn timed_out(&self, now: Instant) -> Ending {
        let (idle, lifetime) = self.listener.read(|settings| (settings.idle_timeout, settings.lifetime));
        if now >= self.ends {
            return Ending::reset(Cause::RelayLifetimeOver, lifetime.map(Detail::Timeout));
        }
        Ending::reset(Cause::RelayIdleTimeout, Some(Detail::Timeout(idle)))
    }

    #[cold]
    fn begin_parting(&mut self, core: &mut Core<D>, readable: bool, now: Instant) -> Option<Ending> {
        self.stage = Stage::Parting { told_end: self.down.is_finished() };
        // What the pipe holds is lost with it.
        self.up_pipe = None;
        self.up.abandon();
        if readable {
            // The send took the error that would have told of it.
            self.down.readable(true);
        } else {
            self.down.received(Received::End);
        }
        self.part(core, now)
    }

    /// Hands over what the backend had said before it reset the connection, then resets the client.
    pub(super) fn part(&mut self, core: &mut Core<D>, now: Instant) -> Option<Ending> {
        let Stage::Parting { told_end } = self.stage else { return None };
        let socks = Socks { from: self.backend_sock?, to: self.client_sock };
        let before = self.down.progress();
        // Behind a failed send an end looks like one in good order, so it is not passed on as one: `Then::Close`.
        let broken = pump_socks(core, &mut self.down, Then::Close, &mut self.down_pipe, socks);
        if self.down.progress() != before {
            self.moved(before, now);
        }
        let client = match broken {
            Some(broken) if !broken.source => Left::ByReset,
            Some(_) => {
                self.down.received(Received::End);
                self.throw_away(core)
            }
            None => self.throw_away(core),
        };
        // Who has heard the end and has ended too has nothing left to lose.
        let is_content = client == Left::InGoodOrder && told_end;
        if client == Left::ByReset || (self.down.is_ended() && self.down.is_clear()) {
            if client == Left::ByReset || is_content || now >= self.heard + FAREWELL {
                return Some(Ending::reset(Cause::BackendResetRelay, None));
            }
            self.deadline = (self.heard + FAREWELL).min(self.ends);
        }
        None
    }

    /// Reads what the client still sends to nobody, so that it comes to read itself. How it left, if it has.
    fn throw_away(&mut self, core: &mut Core<D>) -> Left {
        while self.up.wants_read() {
            let mut scratch = core.scratch();
            let received = core.driver.recv(self.client_sock, &mut scratch);
            let room = scratch.len();
            core.give_back(scratch);
            match received {
                Recv::Bytes(bytes) => self.up.received(if bytes < room { Received::Short } else { Received::Full }),
                Recv::Dry => self.up.received(Received::Dry),
                Recv::End => self.up.received(Received::End),
                Recv::Failed(_) => return Left::ByReset,
            }
        }
        if self.up.is_ended() { Left::InGoodOrder } else { Left::Not }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Not,
    InGoodOrder,
    ByReset,
}
