//! Reads what must come before a relay can dial, and finds the pool it leads to.
//!
//! What it means is the [`Prelude`]'s to say, whether its client may be served the gate's, and where its TLS goes the
//! listener's rules'.

use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::{Driver, Recv};

use crate::arena::Key;
use crate::core::Core;
use crate::machine::{Received, Refusal, Step};

use super::{Ending, Relay, Relays, Stage};

impl<D: Driver> Relays<D> {
    /// Reads on, and dials once enough is there.
    pub(super) fn hear_prelude(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> Option<Ending> {
        let relay = self.relays.get_mut(key)?;
        loop {
            let Stage::Prelude(prelude) = &mut relay.stage else { return None };
            match prelude.step() {
                Step::More if !relay.up.wants_read() => return None,
                Step::More => {
                    if let Some(ending) = relay.read_prelude(core) {
                        return Some(ending);
                    }
                }
                Step::Introduced => {
                    if let Some(ending) = relay.introduced(now) {
                        return Some(ending);
                    }
                }
                Step::Refused(refusal) => return Some(refusal.into()),
                Step::Done => break,
            }
        }
        match relay.prelude_done(now) {
            Some(ending) => Some(ending),
            None => self.dial_next(core, key, now),
        }
    }
}

impl<D: Driver> Relay<D> {
    fn read_prelude(&mut self, core: &mut Core<D>) -> Option<Ending> {
        let Stage::Prelude(prelude) = &mut self.stage else { return None };
        let mut scratch = core.scratch();
        let room = prelude.room().min(scratch.len());
        let ended = match core.driver.recv(self.client_sock, &mut scratch[..room]) {
            Recv::Bytes(bytes) => {
                self.up.received(if bytes < room { Received::Short } else { Received::Full });
                prelude.received(&scratch[..bytes]);
                None
            }
            Recv::Dry => {
                self.up.received(Received::Dry);
                None
            }
            Recv::End => Some(prelude.ended().into()),
            Recv::Failed(_) => Some(Ending::reset(Cause::ClientAborted, None)),
        };
        core.give_back(scratch);
        ended
    }

    /// The PROXY header has named the client, or said that the proxy speaks for itself.
    fn introduced(&mut self, now: Instant) -> Option<Ending> {
        let Stage::Prelude(prelude) = &self.stage else { return None };
        if let Some((client, _)) = prelude.told().client {
            self.client = client;
        }
        let turned = self.listener.known(&mut self.pass, self.client.ip(), now).err()?;
        let how = self.listener.read(|settings| settings.refuse);
        Some(Ending::refused(turned.cause, turned.detail, how))
    }

    /// All is told: what was read goes on to the backends of the pool that it leads to.
    fn prelude_done(&mut self, now: Instant) -> Option<Ending> {
        let Stage::Prelude(prelude) = std::mem::replace(&mut self.stage, Stage::Dialing) else { return None };
        self.deadline = Instant::NEVER;
        self.times.head = Some(now);
        let (told, bytes) = prelude.finish();
        if !bytes.is_empty() {
            self.up.preload(&bytes);
        }
        let ruled = told.hello.as_ref().map(|hello| {
            let found = |settings: &evenkeel_plan::Listener| {
                settings.names.find(hello.name.as_deref(), hello.alpn()).map(|rule| rule.pool)
            };
            self.listener.read(found)
        });
        self.told = Some(Box::new(told));
        let missed = match ruled {
            Some(Ok(id)) => {
                self.pool = self.listener.ruled(id);
                None
            }
            Some(Err(miss)) => Some(miss.cause()),
            None => None,
        };
        // What no rule takes goes to the listener's own pool, which `open` has put there.
        if self.pool.is_some() {
            return None;
        }
        Some(Ending::reset(missed.unwrap_or(Cause::NoBackendConfigured), None))
    }

    /// The name the client asked for, as far as a ClientHello was read.
    pub(super) fn sni(&self) -> Option<&str> {
        self.told.as_ref()?.name()
    }
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        let Refusal { cause, detail } = refusal;
        Ending::reset(cause, detail)
    }
}
