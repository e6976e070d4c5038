//! The keys of session tickets: which listeners share one set, and how long it lasts.
//!
//! A ticket carries the whole session, so whoever can open it can resume: the workers of a node share the keys, and a
//! reload keeps them. What must not be shared is a ticket between listeners that ask different things of a client. rustls
//! does not look at that when it resumes, so a client let in without a certificate could carry its ticket to where one is
//! required; the keys are therefore kept by listener and by what it asks of clients, the authorities' bytes included.
//!
//! Nothing is stored per session. Memory for it would be the attacker's to fill, and a second node could not read it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

use crate::fault::{Fault, Part};
use crate::identity::Identity;

/// Seconds after which a key makes no new tickets; what it made is accepted for as long again. It is fixed in rustls'
/// ticketer, and here for the manual.
pub const TICKET_KEY_SECONDS: u64 = 6 * 60 * 60;

/// The ticket keys of a process. They are in memory only and random, so a restart forgets them.
#[derive(Default)]
pub struct Tickets {
    kept: Mutex<HashMap<Identity, Arc<dyn ProducesTickets>>>,
}

impl Tickets {
    pub fn new() -> Self {
        Tickets::default()
    }

    /// The keys of a listener, the same again for as long as settings made with them live.
    pub fn of(
        &self,
        listener: &str,
        client_ca: Option<&[u8]>,
        client_required: bool,
    ) -> Result<Arc<dyn ProducesTickets>, Fault> {
        let identity = Identity::new("tickets")
            .part(listener.as_bytes())
            .maybe(client_ca)
            .part(&[u8::from(client_required)])
            .finish();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|at, keys| *at == identity || Arc::strong_count(keys) > 1);
        if let Some(keys) = kept.get(&identity) {
            return Ok(keys.clone());
        }
        let keys = Ticketer::new().map_err(|_| {
            let help = "look at the node's entropy source; tickets = false does without them";
            Fault::new(Part::Settings, "no_random", "needs ticket keys, but the system gave no random bytes", help)
        })?;
        kept.insert(identity, keys.clone());
        Ok(keys)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}
