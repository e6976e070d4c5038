//! TLS without sockets: files to settings, names to certificates, bytes to bytes.
//!
//! Three questions are answered here. Are these certificate files any good ([`certificate()`])? What do a listener and a
//! pool need to speak TLS ([`server()`], [`client()`])? And what became of these bytes ([`Session`])? config asks the first
//! two when a plan is made, l7 and the probes the third.
//!
//! It is told the bytes of files and the time; it reads no file, opens no socket and asks no clock but the one it was given.
//! Handshakes are rustls'. Once one is done, records are opened and sealed here in place, since rustls' own way allocates
//! twice for each ([`Session`], docs/decisions/0014).
//!
//! What it promises: nothing that comes from the network panics, a session's memory is bounded, and every refusal says why in
//! words that fit a log line. What it will never do: speak anything below TLS 1.2, renegotiate, take early data (0-RTT can be
//! replayed, and requests are not all safe to repeat).

mod certificate;
mod choice;
mod client;
mod clock;
mod established;
mod failed;
mod fault;
mod handshake;
mod identity;
mod ocsp;
mod outgoing;
mod policy;
mod records;
mod server;
mod session;
mod subject;
mod tickets;
mod witness;

#[cfg(test)]
mod attackers;
#[cfg(test)]
extern crate self as evenkeel_tls;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use certificate::{Certificate, CertificateFiles, Kind, certificate};
pub use choice::Held;
pub use client::{Client, ClientSettings, Offers, client};
pub use clock::Clock;
pub use failed::Failed;
pub use fault::{Fault, Part, Warning};
pub use policy::Policy;
pub use rustls::pki_types::CertificateDer;
pub use rustls::server::ProducesTickets;
pub use server::{Server, ServerSettings, server};
pub use session::{Progress, Session};
pub use subject::{client_fingerprint, client_subject};
pub use tickets::{TICKET_KEY_SECONDS, TicketSecret, TicketSecrets, Tickets};
pub use witness::{Described, Seen, Witness};
