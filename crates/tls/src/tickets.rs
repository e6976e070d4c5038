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
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;

use crate::fault::{Fault, Part};
use crate::identity::Identity;

/// Seconds after which a key makes no new tickets; what it made is accepted for as long again.
pub const TICKET_KEY_SECONDS: u64 = 6 * 60 * 60;

const NAME: usize = 16;
const SECRET: usize = 32;

/// The ticket keys of a process. They are in memory only and random: a restart forgets them, and a process that takes this one's place gets
/// them from it.
#[derive(Default)]
pub struct Tickets {
    kept: Mutex<HashMap<Identity, Arc<Keys>>>,
    /// Left by the process before, for whoever asks first.
    inherited: Mutex<HashMap<Identity, Vec<TicketSecret>>>,
}

/// One key, to be told to the process that takes this one's place and to nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecret {
    pub name: [u8; NAME],
    pub secret: [u8; SECRET],
    /// When it was made, in seconds since 1970.
    pub made: u64,
}

/// The keys of one listener: the newest first.
pub struct TicketSecrets {
    pub of: [u8; 32],
    pub keys: Vec<TicketSecret>,
}

impl Tickets {
    pub fn new() -> Self {
        Tickets::default()
    }

    /// With what another process had.
    pub fn inherited(secrets: Vec<TicketSecrets>) -> Self {
        let inherited = secrets.into_iter().map(|secrets| (Identity::from_bytes(secrets.of), secrets.keys)).collect();
        Tickets { kept: Mutex::default(), inherited: Mutex::new(inherited) }
    }

    /// Everything there is, for the process that takes this one's place.
    pub fn secrets(&self) -> Vec<TicketSecrets> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let secrets = kept.iter().map(|(identity, keys)| TicketSecrets { of: *identity.array(), keys: keys.secrets() });
        secrets.collect()
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
        let inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner).remove(&identity);
        let now = UnixTime::now().as_secs();
        let keys = Keys::new(&inherited.unwrap_or_default(), now).ok_or_else(|| {
            let help = "look at the node's entropy source; tickets = false does without them";
            Fault::new(Part::Settings, "no_random", "needs ticket keys, but the system gave no random bytes", help)
        })?;
        let keys = Arc::new(keys);
        kept.insert(identity, Arc::clone(&keys));
        Ok(keys)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSecret").field("made", &self.made).finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSecrets").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// One listener's keys. rustls' own cannot be handed on, so they are ours: AES-256-GCM with a random nonce under a key that lives
/// for hours, far from the number of tickets at which nonces could meet.
///
/// `name ‖ nonce ‖ session, sealed ‖ tag`; the name is authenticated too.
struct Keys(RwLock<Vec<Key>>);

struct Key {
    secret: TicketSecret,
    seal: LessSafeKey,
}

impl Key {
    fn new(secret: TicketSecret) -> Option<Key> {
        let seal = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret.secret).ok()?);
        Some(Key { secret, seal })
    }

    fn random(now: u64) -> Option<Key> {
        let mut secret = TicketSecret { name: [0; NAME], secret: [0; SECRET], made: now };
        rand::fill(&mut secret.name).ok()?;
        rand::fill(&mut secret.secret).ok()?;
        Key::new(secret)
    }

    fn opens(&self, now: u64) -> bool {
        now < self.secret.made.saturating_add(2 * TICKET_KEY_SECONDS)
    }

    fn seals(&self, now: u64) -> bool {
        now < self.secret.made.saturating_add(TICKET_KEY_SECONDS)
    }
}

impl Keys {
    fn new(inherited: &[TicketSecret], now: u64) -> Option<Keys> {
        let keys = inherited.iter().cloned().filter_map(Key::new).filter(|key| key.opens(now));
        let mut keys: Vec<Key> = keys.collect();
        if keys.is_empty() {
            keys.push(Key::random(now)?);
        }
        Some(Keys(RwLock::new(keys)))
    }

    fn secrets(&self) -> Vec<TicketSecret> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| key.secret.clone()).collect()
    }

    fn encrypt_at(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        {
            let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = keys.first().filter(|key| key.seals(now)) {
                return sealed(key, plain);
            }
        }
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !keys.first().is_some_and(|key| key.seals(now)) {
            keys.insert(0, Key::random(now)?);
            keys.retain(|key| key.opens(now));
        }
        sealed(keys.first()?, plain)
    }

    fn decrypt_at(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.iter().find(|key| key.secret.name == name && key.opens(now))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = sealed.to_vec();
        let length = key.seal.open_in_place(nonce, Aad::from(key.secret.name), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

fn sealed(key: &Key, plain: &[u8]) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).ok()?;
    let mut bytes = plain.to_vec();
    let aad = Aad::from(key.secret.name);
    key.seal.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes).ok()?;
    Some([&key.secret.name[..], &nonce, &bytes].concat())
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl ProducesTickets for Keys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        2 * TICKET_KEY_SECONDS as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, UnixTime::now().as_secs())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, UnixTime::now().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_ticket_opens_with_its_key_for_as_long_as_that_is_kept_and_with_no_other() {
        let keys = Keys::new(&[], NOW).unwrap();
        let ticket = keys.encrypt_at(b"session", NOW).unwrap();
        assert_eq!(keys.decrypt_at(&ticket, NOW).as_deref(), Some(&b"session"[..]));
        // The next key makes tickets, the first still opens them, and then it is gone.
        let later = keys.encrypt_at(b"later", NOW + TICKET_KEY_SECONDS).unwrap();
        assert_ne!(later[..NAME], ticket[..NAME]);
        let last = NOW + 2 * TICKET_KEY_SECONDS;
        assert!(keys.decrypt_at(&ticket, last - 1).is_some());
        assert!(keys.decrypt_at(&ticket, last).is_none());
        assert!(keys.decrypt_at(&later, last).is_some());
        assert!(Keys::new(&[], NOW).unwrap().decrypt_at(&ticket, NOW).is_none());
    }

    #[test]
    fn whatever_byte_of_a_ticket_is_lost_or_changed_it_does_not_open() {
        let keys = Keys::new(&[], NOW).unwrap();
        let ticket = keys.encrypt_at(b"session", NOW).unwrap();
        for end in 0..ticket.len() {
            assert!(keys.decrypt_at(&ticket[..end], NOW).is_none(), "cut at {end}");
        }
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert!(keys.decrypt_at(&changed, NOW).is_none(), "changed at {at}");
        }
    }

    #[test]
    fn the_next_process_opens_the_tickets_of_this_one() {
        let tickets = Tickets::new();
        let keys = tickets.of("web", None, false).unwrap();
        let ticket = keys.encrypt(b"session").unwrap();
        let next = Tickets::inherited(tickets.secrets());
        assert_eq!(next.of("web", None, false).unwrap().decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert!(next.of("web", Some(b"authority"), true).unwrap().decrypt(&ticket).is_none());
        assert!(!format!("{:?}", tickets.secrets()).contains("secret:"));
    }
}
