//! The certificates of the stories: one authority, a server's certificate for the node and one for the backends.
//!
//! All keys are Ed25519, since its signatures have one length. Keys and handshakes are random all the same, which
//! changes bytes on the wire and never how many there are; so a seed still replays its story. For that, each world has
//! its own sessions to resume: what an earlier seed left behind would make a handshake shorter.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use evenkeel_config::Files;
use evenkeel_tls::{
    CertificateFiles, Client, ClientSettings, Clock, Offers, Policy, Server, ServerSettings, Tickets, certificate,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber};

/// 2026-11-22.
const TODAY: u64 = 1_795_305_600;

pub const NODE_NAME: &str = "node.example";
const BACKEND_NAME: &str = "backend.example";

#[derive(Debug)]
struct Calendar;

impl Clock for Calendar {
    fn unix_seconds(&self) -> u64 {
        TODAY
    }
}

struct Pair {
    chain: String,
    key: String,
}

struct Papers {
    authority: String,
    node: Pair,
    backend: Pair,
}

fn papers() -> &'static Papers {
    static PAPERS: OnceLock<Papers> = OnceLock::new();
    PAPERS.get_or_init(|| {
        let key = new_key();
        let mut params = params("authority", &[], 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = params.self_signed(&key).expect("an authority signs itself").pem();
        let issuer = Issuer::new(params, key);
        let node = leaf(&issuer, NODE_NAME, 2);
        let backend = leaf(&issuer, BACKEND_NAME, 3);
        Papers { authority, node, backend }
    })
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("keys can be made")
}

fn params(common_name: &str, names: &[&str], serial: u64) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
    let mut params = CertificateParams::new(names).expect("names are names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 6, 1);
    // A random one is now and then a byte shorter.
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

fn leaf(issuer: &Issuer<'_, KeyPair>, name: &str, serial: u64) -> Pair {
    let key = new_key();
    let chain = params(name, &[name], serial).signed_by(&key, issuer).expect("the authority signs").pem();
    Pair { chain, key: key.serialize_pem() }
}

/// What configs of stories name: `node.pem`, `node.key`, `authority.pem`.
#[derive(Default)]
pub struct Folder(Tickets);

impl Files for Folder {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let papers = papers();
        let text = match path.to_str() {
            Some("node.pem") => &papers.node.chain,
            Some("node.key") => &papers.node.key,
            Some("authority.pem") => &papers.authority,
            _ => return Err("it is in no story".into()),
        };
        Ok(text.clone().into_bytes())
    }

    fn authorities(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(Calendar)
    }

    fn addresses(&self) -> Vec<std::net::IpAddr> {
        Vec::new()
    }

    fn tickets(&self) -> &Tickets {
        &self.0
    }
}

/// As a client of the node.
pub fn client(offers: Offers) -> Client {
    let settings = ClientSettings {
        name: Some(NODE_NAME),
        ca: Some(papers().authority.as_bytes()),
        verify: true,
        certificate: None,
        offers,
        clock: Arc::new(Calendar),
    };
    evenkeel_tls::client(settings).expect("the papers of the stories are in order")
}

/// As a backend of the node.
pub fn backend(http2: bool) -> Server {
    let Pair { chain, key } = &papers().backend;
    let files = CertificateFiles { chain: chain.as_bytes(), key: key.as_bytes(), ocsp: None };
    let (certificate, _) = certificate(&files, TODAY).expect("the papers of the stories are in order");
    let settings = ServerSettings {
        certificates: vec![certificate],
        policy: Policy::Intermediate,
        client_ca: None,
        client_required: false,
        http2,
        tickets: None,
        clock: Arc::new(Calendar),
    };
    evenkeel_tls::server(settings).expect("the papers of the stories are in order")
}
