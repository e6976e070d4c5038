//! What a listener needs to speak TLS, made from files once per plan.
//!
//! All that can be wrong with it is found here, so that a handshake can only fail for what the client says.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};

use crate::certificate::{Certificate, certificates_of};
use crate::choice::{Choice, Held};
use crate::clock::{Clock, Told};
use crate::fault::{Fault, Part};
use crate::identity::Identity;
use crate::policy::Policy;

/// What a listener that terminates TLS needs. Made anew with each plan; sessions keep the one they began with.
#[derive(Clone, Debug)]
pub struct Server {
    pub config: Arc<ServerConfig>,
    pub(crate) choice: Arc<Choice>,
    identity: Identity,
}

/// Equal when made from equal settings.
impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

#[derive(Debug)]
pub struct ServerSettings<'a> {
    /// The first is shown to clients that name nothing. At least one.
    pub certificates: Vec<Certificate>,
    pub policy: Policy,
    /// PEM: the authorities whose certificates clients may show; `None` asks for none.
    pub client_ca: Option<&'a [u8]>,
    /// Whether a client without a certificate is turned away. Nothing without `client_ca`.
    pub client_required: bool,
    /// Whether ALPN offers `h2` before `http/1.1`.
    pub http2: bool,
    /// From [`crate::Tickets`]; `None` resumes no session.
    pub tickets: Option<Arc<dyn ProducesTickets>>,
    pub clock: Arc<dyn Clock>,
}

/// The settings of a listener, or what of them cannot be used.
pub fn server(settings: ServerSettings<'_>) -> Result<Server, Fault> {
    if settings.certificates.is_empty() {
        return Err(Fault::new(
            Part::Settings,
            "no_certificate",
            "speaks TLS, but has no certificate",
            "add a [[listener.certificate]] with certificate and key",
        ));
    }
    let identity = identity(&settings);
    let choice = Arc::new(Choice::new(&settings.certificates));
    let provider = settings.policy.provider();
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(Told(settings.clock)))
        .with_protocol_versions(settings.policy.protocol_versions())
        .map_err(|error| Fault::new(Part::Settings, "policy", error.to_string(), "use another tls policy"))?;
    let builder = match settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(authorities(ca, Part::ClientCa)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match settings.client_required {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| {
                Fault::new(
                    Part::ClientCa,
                    "broken_certificate",
                    format!("cannot be used: {error}"),
                    "give a file of CA certificates",
                )
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(choice.clone());
    config.alpn_protocols = match settings.http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    // Tickets only: rustls' store of 256 sessions would be one lock for all workers.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match settings.tickets {
        Some(tickets) => config.ticketer = tickets,
        None => config.send_tls13_tickets = 0,
    }
    // Records are sealed and opened by this room once the handshake is done (`records`).
    config.enable_secret_extraction = true;
    Ok(Server { config: Arc::new(config), choice, identity })
}

impl Server {
    /// The certificates clients may be shown, each once, sorted.
    pub fn certificates(&self) -> Vec<Held> {
        self.choice.held()
    }

    /// Whether some certificate bears this name: without one, a client that asks for it is refused.
    pub fn covers(&self, sni: &str) -> bool {
        self.choice.covers(sni)
    }
}

/// CA certificates of a PEM file; at least one of them must be usable.
pub(crate) fn authorities(pem: &[u8], part: Part) -> Result<RootCertStore, Fault> {
    let certificates = certificates_of(pem, part)?;
    let mut roots = RootCertStore::empty();
    // A bundle of a system has a handful that nobody can parse; one usable is enough to go on.
    let (usable, _) = roots.add_parsable_certificates(certificates);
    match usable {
        0 => Err(Fault::new(
            part,
            "broken_certificate",
            "holds no certificate that can be read",
            "give a file of CA certificates in PEM",
        )),
        _ => Ok(roots),
    }
}

fn identity(settings: &ServerSettings<'_>) -> Identity {
    let mut identity = Identity::new("server")
        .part(settings.policy.word().as_bytes())
        .maybe(settings.client_ca)
        .part(&[u8::from(settings.client_required), u8::from(settings.http2), u8::from(settings.tickets.is_some())]);
    for certificate in &settings.certificates {
        identity = identity.part(b"certificate").maybe(certificate.ocsp());
        for der in certificate.chain() {
            identity = identity.part(der);
        }
    }
    identity.finish()
}
