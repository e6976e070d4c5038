//! What only the host knows: what the files hold that a config names (certificates, keys, authorities, the sticky secret,
//! access lists), and which addresses are its own.
//!
//! This room opens no file. The caller brings [`Files`]: the binary's reads the disk, a test's a map. What is wrong with
//! a file is said at the place of its path, for all files at once; a file that is named twice is read once.

mod admin;
mod lists;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use evenkeel_health::settings::HttpVersion;
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::limits;
use evenkeel_plan::{Access, HostPattern, Protocol, Speaks};
use evenkeel_tls::{
    Certificate, CertificateFiles, Client, ClientSettings, Clock, Fault, Offers, Part, Server, ServerSettings, Tickets,
    Warning,
};

use crate::config::{self, At, Check, ClientCertificate, Config, File, Listener, Pool, PoolTls};
use crate::lower::checks::{ProbeTls, Probing, kind_of, tls_of_probes, version_of};
use crate::lower::{listener_name, used_by_http};
use crate::problem::{Note, Notes, Quoted};
use admin::AdminMaterial;
use lists::Addresses;

/// As much of the world as a plan needs besides the text of its config.
pub trait Files {
    /// The bytes of a file the config names. A relative path is relative to the folder of the config.
    ///
    /// # Errors
    /// Says why not, in words that follow "cannot be read: ".
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String>;

    /// The authorities this system trusts, in PEM; `None` when it has no such bundle.
    fn authorities(&mut self) -> Option<Vec<u8>>;

    /// What time it is, now and whenever a handshake asks.
    fn clock(&self) -> Arc<dyn Clock>;

    /// The addresses of this host, for sources that are written as prefixes.
    fn addresses(&self) -> Vec<IpAddr>;

    /// Has to be the same at each reload, or every client needs a whole handshake after it.
    fn tickets(&self) -> &Tickets;
}

/// For configs that name no files.
#[derive(Debug, Default)]
pub(crate) struct NoFiles(Tickets);

impl Files for NoFiles {
    fn read(&mut self, _path: &Path) -> Result<Vec<u8>, String> {
        Err("files are not looked at here".into())
    }

    fn authorities(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(NoClock)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    fn tickets(&self) -> &Tickets {
        &self.0
    }
}

/// Without certificates nobody asks for the time.
#[derive(Debug)]
struct NoClock;

impl Clock for NoClock {
    fn unix_seconds(&self) -> u64 {
        0
    }
}

#[derive(Debug, Default)]
pub(crate) struct Material {
    pub sticky_secret: Option<Arc<[u8]>>,
    pub admin: AdminMaterial,
    /// In the order of the listeners; `None` where there is no TLS, or something is wrong.
    pub servers: Vec<Option<Arc<Server>>>,
    /// In the order of the pools.
    pub clients: Vec<Option<Arc<Client>>>,
    /// In the order of the listeners.
    pub access: Vec<Access>,
    /// In the order of the pools; empty where the kernel chooses.
    pub sources: Vec<Arc<[IpAddr]>>,
    /// In the order of the pools, and in each in the order of its checks.
    pub probing: Vec<Vec<Probing>>,
}

pub(crate) fn material(config: &Config, files: &mut dyn Files, notes: &mut Notes) -> Material {
    let mut desk = Desk { clock: files.clock(), files, read: HashMap::new(), notes };
    let sticky_secret = config.node.sticky_secret.as_ref().and_then(|file| desk.secret(file));
    let admin = desk.admin(&config.admin);
    let servers = config.listeners.iter().map(|listener| desk.server(listener).map(Arc::new)).collect();
    let clients: Vec<_> = config.pools.iter().map(|pool| desk.client(pool).map(Arc::new)).collect();
    let access = config.listeners.iter().map(|listener| desk.access(listener)).collect();
    let addresses = Addresses::of(config, desk.files);
    let sources = config.pools.iter().map(|pool| {
        let taken = pool.source.as_ref().map(|sources| addresses.taken(&pool.label, "source", sources, desk.notes));
        taken.unwrap_or_default().into()
    });
    let sources = sources.collect();
    let probing = config.pools.iter().zip(&clients).map(|(pool, of_pool)| {
        let checks = pool.checks.iter().map(|check| {
            let tls = desk.check_client(config, pool, check, of_pool.as_ref());
            let key = format!("{}source", check.prefix);
            let sources = check.source.as_ref();
            let taken = sources.map(|sources| addresses.taken(&check.label, &key, sources, desk.notes));
            Probing { sources: taken.unwrap_or_default().into(), tls }
        });
        checks.collect()
    });
    let probing = probing.collect();
    Material { sticky_secret, admin, servers, clients, access, sources, probing }
}

/// Where the files of one config are laid out.
struct Desk<'a> {
    files: &'a mut dyn Files,
    clock: Arc<dyn Clock>,
    read: HashMap<String, Result<Arc<[u8]>, String>>,
    notes: &'a mut Notes,
}

/// What a fault speaks of, as problems call it, and where that stands.
type Places<'c> = &'c dyn Fn(Part) -> (String, std::ops::Range<usize>);

impl Desk<'_> {
    fn bytes(&mut self, label: &str, key: &str, file: &File) -> Option<Arc<[u8]>> {
        let files = &mut *self.files;
        let known = self.read.entry(file.value.clone());
        let read = known.or_insert_with_key(|path| files.read(Path::new(path)).map(Arc::from));
        match read {
            Ok(bytes) => Some(Arc::clone(bytes)),
            Err(why) => {
                let text = format!("{label}: {key} {} cannot be read: {why}", Quoted(&file.value));
                let help = if file.value.starts_with('/') {
                    "look at the path, and whether the user evenkeel runs as may read the file"
                } else {
                    "a relative path is relative to the folder of this config; look also whether the user evenkeel \
                     runs as may read the file"
                };
                self.notes.add(Note::error("unreadable_file", file.span.clone(), text).help(help));
                None
            }
        }
    }

    fn secret(&mut self, file: &File) -> Option<Arc<[u8]>> {
        let bytes = self.bytes("node", "sticky_secret", file)?;
        let least = limits::STICKY_SECRET.value;
        if (bytes.len() as u64) < least {
            let text = format!(
                "node: sticky_secret {} has {} bytes, and a secret needs at least {least}",
                Quoted(&file.value),
                bytes.len()
            );
            self.notes.add(
                Note::error("secret_too_short", file.span.clone(), text)
                    .help(format!("make one: head -c {least} /dev/urandom > {}", file.value)),
            );
            return None;
        }
        Some(bytes)
    }

    fn certificate(&mut self, label: &str, prefix: &str, files: (&File, &File, Option<&File>)) -> Option<Certificate> {
        let (certificate, key, ocsp) = files;
        let chain_bytes = self.bytes(label, &format!("{prefix}certificate"), certificate);
        let key_bytes = self.bytes(label, &format!("{prefix}key"), key);
        let ocsp_bytes = ocsp.map(|ocsp| self.bytes(label, &format!("{prefix}ocsp"), ocsp));
        let (chain, key_bytes) = (chain_bytes?, key_bytes?);
        let ocsp_bytes = match ocsp_bytes {
            Some(bytes) => Some(bytes?),
            None => None,
        };
        let given = CertificateFiles { chain: &chain, key: &key_bytes, ocsp: ocsp_bytes.as_deref() };
        let places = |part: Part| {
            let (name, file) = match (part, ocsp) {
                (Part::Key, _) => ("key", key),
                (Part::Ocsp, Some(ocsp)) => ("ocsp", ocsp),
                (Part::Ocsp | Part::Chain | Part::ClientCa | Part::Ca | Part::Name | Part::Settings, _) => {
                    ("certificate", certificate)
                }
            };
            (format!("{label}: {prefix}{name} {}", Quoted(&file.value)), file.span.clone())
        };
        match evenkeel_tls::certificate(&given, self.clock.unix_seconds()) {
            Ok((certificate, warnings)) => {
                for warning in warnings {
                    self.warn(&places, warning);
                }
                Some(certificate)
            }
            Err(fault) => self.refuse(&places, fault),
        }
    }

    /// `None` also when the listener speaks no TLS.
    fn server(&mut self, listener: &Listener) -> Option<Server> {
        if listener.protocol != Some(Protocol::Https) {
            return None;
        }
        let label = &listener.label;
        let certificates: Vec<Option<Certificate>> = listener
            .certificates
            .iter()
            .map(|files| {
                let config::Certificate { certificate, key, ocsp } = files;
                self.certificate(label, "", (certificate, key, ocsp.as_ref()))
            })
            .collect();
        let client_ca = listener.tls.client_ca.as_ref();
        let client_ca_bytes = client_ca.map(|file| self.bytes(label, "tls.client_ca", file));
        // Without a certificate there is a problem already, and the authorities are judged with it or not at all.
        let certificates: Vec<Certificate> = certificates.into_iter().collect::<Option<_>>()?;
        if certificates.is_empty() {
            return None;
        }
        let client_ca_bytes = match client_ca_bytes {
            Some(bytes) => Some(bytes?),
            None => None,
        };
        let places = |part: Part| match (part, client_ca) {
            (Part::ClientCa, Some(file)) => {
                (format!("{label}: tls.client_ca {}", Quoted(&file.value)), file.span.clone())
            }
            (Part::Chain | Part::Key | Part::Ocsp | Part::ClientCa | Part::Ca | Part::Name | Part::Settings, _) => {
                (format!("{label}:"), listener.head.clone())
            }
        };
        let client_required = listener.tls.client_certificate == ClientCertificate::Required;
        let tickets = if listener.tls.tickets {
            let name = listener_name(listener).unwrap_or_default();
            match self.files.tickets().of(&name, client_ca_bytes.as_deref(), client_required) {
                Ok(tickets) => Some(tickets),
                Err(fault) => return self.refuse(&places, fault),
            }
        } else {
            None
        };
        let settings = ServerSettings {
            certificates,
            policy: listener.tls.policy,
            client_ca: client_ca_bytes.as_deref(),
            client_required,
            http2: listener.http2.enabled,
            tickets,
            clock: Arc::clone(&self.clock),
        };
        match evenkeel_tls::server(settings) {
            Ok(server) => {
                self.uncovered(listener, &server);
                Some(server)
            }
            Err(fault) => self.refuse(&places, fault),
        }
    }

    /// Hosts of rules that no client can ask for, because no certificate bears their name.
    fn uncovered(&mut self, listener: &Listener, server: &Server) {
        for rule in &listener.rules {
            for host in rule.hosts.iter().filter(|host| !is_address(&host.value)) {
                let asked = match &host.value {
                    HostPattern::Exact(name) => name.to_string(),
                    // A certificate's wildcard stands for one label; that much has to be there.
                    HostPattern::Wildcard(behind) => format!("any.{behind}"),
                };
                if !server.covers(&asked) {
                    let shown = host.value.to_string();
                    let text =
                        format!("{}: no certificate of the listener bears the name {}", rule.label, Quoted(&shown));
                    self.notes.add(
                        Note::warning("no_certificate_for_host", host.span.clone(), text)
                            .help("clients that ask for it are refused in the handshake; add a certificate with that name")
                            .about_the_file(),
                    );
                }
            }
        }
    }

    /// `None` also when the pool speaks no TLS.
    fn client(&mut self, pool: &Pool) -> Option<Client> {
        let offers = match pool.speaks {
            Speaks::Http1 => Offers::Http1,
            Speaks::Http2 => Offers::Http2,
        };
        self.client_of(&pool.label, pool.tls.as_ref()?, offers)
    }

    /// `None` also when the check's probes speak no TLS.
    fn check_client(
        &mut self,
        config: &Config,
        pool: &Pool,
        check: &Check,
        of_pool: Option<&Arc<Client>>,
    ) -> Option<Arc<Client>> {
        let offers = match (kind_of(config, pool, check), pool.speaks) {
            // A handshake finds out whether traffic's would succeed, so it offers the same.
            (ProbeKind::Tls, _) if !used_by_http(config, pool) => Offers::Nothing,
            (ProbeKind::Tls, Speaks::Http2) | (ProbeKind::Grpc, _) => Offers::Http2,
            (ProbeKind::Tcp, _) => Offers::Nothing,
            (ProbeKind::Http, _) if version_of(pool, check) == HttpVersion::Http2 => Offers::Http2,
            _ => Offers::Http1,
        };
        let label = if check.prefix.is_empty() { check.label.clone() } else { format!("{} check", check.label) };
        let client = match tls_of_probes(config, pool, check)? {
            ProbeTls::OfPool => of_pool?.for_probes(offers),
            ProbeTls::Own(tls) => self.client_of(&label, tls, offers)?.for_probes(offers),
            ProbeTls::Defaults(head) => {
                let verify = At { value: true, span: head.clone() };
                let tls = PoolTls { head, name: None, ca: None, verify, certificate: None, key: None };
                self.client_of(&label, &tls, offers)?.for_probes(offers)
            }
        };
        Some(Arc::new(client))
    }

    fn client_of(&mut self, label: &str, tls: &PoolTls, offers: Offers) -> Option<Client> {
        let ca = match &tls.ca {
            Some(file) => self.bytes(label, "tls.ca", file).map(Some),
            None if tls.verify.value => Some(self.files.authorities().map(Arc::from)),
            None => Some(None),
        };
        let certificate = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => self.certificate(label, "tls.", (certificate, key, None)).map(Some),
            (None, _) | (_, None) => Some(None),
        };
        let (ca, certificate): (Option<Arc<[u8]>>, Option<Certificate>) = (ca?, certificate?);
        let settings = ClientSettings {
            name: tls.name.as_ref().map(|at| at.value.as_str()),
            ca: ca.as_deref(),
            verify: tls.verify.value,
            certificate,
            offers,
            clock: Arc::clone(&self.clock),
        };
        let places = |part: Part| match (part, &tls.ca, &tls.name) {
            (Part::Ca, Some(file), _) => (format!("{label}: tls.ca {}", Quoted(&file.value)), file.span.clone()),
            (Part::Ca, None, _) => (format!("{label}: tls.ca"), tls.head.clone()),
            (Part::Name, _, Some(At { span, .. })) => (format!("{label}: tls.name"), span.clone()),
            (Part::Chain | Part::Key | Part::Ocsp | Part::ClientCa | Part::Name | Part::Settings, _, _) => {
                (format!("{label}: tls"), tls.head.clone())
            }
        };
        match evenkeel_tls::client(settings) {
            Ok(client) => Some(client),
            Err(fault) => self.refuse(&places, fault),
        }
    }

    fn refuse<T>(&mut self, places: Places<'_>, fault: Fault) -> Option<T> {
        let (of, span) = places(fault.part);
        self.notes.add(Note::error(fault.code, span, format!("{of} {}", fault.what)).help(fault.help));
        None
    }

    fn warn(&mut self, places: Places<'_>, warning: Warning) {
        let (of, span) = places(warning.part);
        self.notes.add(Note::warning(warning.code, span, format!("{of} {}", warning.what)).help(warning.help));
    }
}

/// Clients send no name for those, and get the first certificate.
fn is_address(host: &HostPattern) -> bool {
    match host {
        HostPattern::Exact(name) => name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok(),
        HostPattern::Wildcard(_) => false,
    }
}
