//! What a pool needs to speak TLS to its backends, made from files once per plan.
//!
//! Whom it trusts is an operator's word: the web's authorities, his own, or, said out loud, anybody. A name is never taken from a
//! request, since a client could then choose which certificate passes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::certificate::Certificate;
use crate::clock::{Clock, Told};
use crate::fault::{Fault, Part};
use crate::identity::Identity;
use crate::policy::Policy;
use crate::server::authorities;
use crate::session::Session;
use crate::subject::days_left;

/// What a pool that speaks TLS to its backends needs.
#[derive(Clone, Debug)]
pub struct Client {
    pub config: Arc<ClientConfig>,
    /// The name the backend's certificate is checked for and that is sent as SNI; `None` uses the backend's
    /// address.
    pub name: Option<ServerName<'static>>,
    /// Whether sessions keep the backend's certificates when their handshake is done.
    pub(crate) keeps_certificates: bool,
    clock: Arc<dyn Clock>,
    identity: Identity,
}

/// Equal when made from equal settings.
impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Client {}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl Client {
    /// The same settings for sessions that find out about the backend instead of using it.
    ///
    /// Each makes a whole handshake: one that takes up an earlier session is shown no certificate, and would pass for as
    /// long as tickets live although every new client is refused. They keep the certificates they are shown.
    pub fn for_probes(&self, offers: Offers) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        config.alpn_protocols = offers.protocols();
        let identity = Identity::new("probes").part(self.identity.bytes()).part(&[offers.byte()]).finish();
        Client {
            config: Arc::new(config),
            name: self.name.clone(),
            keeps_certificates: true,
            clock: self.clock.clone(),
            identity,
        }
    }

    /// Whole days until the certificate ends that the backend showed in `session`; negative after its end. `None` before the
    /// handshake is done, when the session keeps no certificates, and when this one cannot be read.
    pub fn days_left(&self, session: &Session) -> Option<i64> {
        days_left(session.certificates()?, self.clock.unix_seconds())
    }
}

impl Offers {
    pub(crate) fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Offers::Nothing => Vec::new(),
            Offers::Http1 => vec![b"http/1.1".to_vec()],
            Offers::Http2 => vec![b"h2".to_vec()],
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Offers::Nothing => 0,
            Offers::Http1 => 1,
            Offers::Http2 => 2,
        }
    }
}

/// What is offered to the backend by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offers {
    Nothing,
    Http1,
    Http2,
}

#[derive(Debug)]
pub struct ClientSettings<'a> {
    pub name: Option<&'a str>,
    /// PEM: the authorities that vouch for the backends. Where the config names none, the system's bundle.
    pub ca: Option<&'a [u8]>,
    /// Whether the backend's certificate is looked at. Off, anybody on the way can be the backend.
    pub verify: bool,
    /// Shown to backends that ask for one.
    pub certificate: Option<Certificate>,
    pub offers: Offers,
    pub clock: Arc<dyn Clock>,
}

/// The settings of a pool, or what of them cannot be used.
pub fn client(settings: ClientSettings<'_>) -> Result<Client, Fault> {
    let identity = identity(&settings);
    let name = settings.name.map(server_name).transpose()?;
    // Backends are the operator's own, but an old one is no reason to speak what browsers no longer do.
    let policy = Policy::Intermediate;
    let provider = policy.provider();
    let clock = settings.clock;
    let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(Told(clock.clone())))
        .with_protocol_versions(policy.protocol_versions())
        .map_err(|error| Fault::new(Part::Settings, "policy", error.to_string(), "use another tls policy"))?;
    let verifier: Arc<dyn ServerCertVerifier> = match (settings.verify, settings.ca) {
        (false, _) => Arc::new(AnybodyMayBeTheBackend { provider }),
        (true, None) => {
            return Err(Fault::new(
                Part::Ca,
                "no_roots",
                "is left out, but this system has no bundle of authorities that could vouch for the backends",
                "install the system's ca-certificates, or name the authority of your backends with ca",
            ));
        }
        (true, Some(ca)) => {
            let roots = Arc::new(authorities(ca, Part::Ca)?);
            WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|error| {
                Fault::new(
                    Part::Ca,
                    "broken_certificate",
                    format!("cannot be used: {error}"),
                    "give a file of CA certificates",
                )
            })?
        }
    };
    // The one road rustls has for a verifier of the caller's choice; the usual one is chosen above unless verify is off.
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match settings.certificate {
        Some(certificate) => builder.with_client_cert_resolver(Arc::new(Shown(certificate.key))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = settings.offers.protocols();
    config.enable_secret_extraction = true;
    Ok(Client { config: Arc::new(config), name, keeps_certificates: false, clock, identity })
}

fn server_name(name: &str) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Fault::new(
            Part::Name,
            "not_a_name",
            format!("is \"{}\", but it takes a host name or an address", name.escape_default()),
            "write the name in the backends' certificate, without a scheme or port",
        )
    })
}

fn identity(settings: &ClientSettings<'_>) -> Identity {
    let mut identity = Identity::new("client")
        .maybe(settings.name.map(str::as_bytes))
        .maybe(settings.ca)
        .part(&[u8::from(settings.verify), settings.offers.byte()]);
    for der in settings.certificate.iter().flat_map(Certificate::chain) {
        identity = identity.part(der);
    }
    identity.finish()
}

/// One certificate for every backend that asks.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _roots: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).is_some().then(|| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// `verify = false`: the backend must own the key of the certificate it shows, but the certificate may be anybody's.
#[derive(Debug)]
struct AnybodyMayBeTheBackend {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnybodyMayBeTheBackend {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
