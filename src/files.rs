//! What a config needs of this host: the files it names (certificates, keys, authorities, the sticky secret, access lists)
//! and the host's own addresses.
//!
//! One value serves a process from its start through all reloads, since the ticket keys in it are what lets clients
//! resume their sessions after one. It judges nothing; what is in the files is for the config room to say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use evenkeel_config::Files;
use evenkeel_tls::{Clock, TicketSecrets, Tickets};
use sha2::{Digest, Sha256};

/// Far beyond any bundle of certificates; a path that leads to a device must not fill the memory.
const LARGEST: u64 = 16 << 20;

/// Where distributions keep the authorities they trust, in one file: Debian and Alpine, Fedora, openSUSE, others.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub struct DiskFiles {
    folder: PathBuf,
    tickets: Tickets,
    /// What was asked for since [`DiskFiles::forget`].
    seen: Content,
}

/// What files held, by a digest; `None`: it could not be read.
pub type Content = BTreeMap<PathBuf, Option<[u8; 32]>>;

/// The digest of a file's bytes.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl DiskFiles {
    /// For the config at `file`.
    pub fn beside(file: &Path) -> Self {
        DiskFiles::with_tickets(file, Tickets::new())
    }

    /// With the ticket keys of the process before.
    pub fn with_tickets(file: &Path, tickets: Tickets) -> Self {
        DiskFiles { folder: file.parent().unwrap_or(Path::new("")).to_owned(), tickets, seen: Content::new() }
    }

    /// Files that were read, or were not there, since they were forgotten last.
    pub fn seen(&self) -> &Content {
        &self.seen
    }

    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// For the process that takes this one's place, and nobody else.
    pub fn ticket_secrets(&self) -> Vec<TicketSecrets> {
        self.tickets.secrets()
    }
}

impl Files for DiskFiles {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let path = self.folder.join(path);
        let bytes = read(&path);
        self.seen.insert(path, bytes.as_deref().ok().map(digest));
        bytes
    }

    fn authorities(&mut self) -> Option<Vec<u8>> {
        authorities()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(WallClock)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        own_addresses()
    }

    fn tickets(&self) -> &Tickets {
        &self.tickets
    }
}

/// Those that the system trusts, as PEM.
pub fn authorities() -> Option<Vec<u8>> {
    // OpenSSL's name for it, which container images set.
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named.into_iter().chain(BUNDLES.map(PathBuf::from)).find_map(|path| read(&path).ok())
}

/// Those that a packet can come from without naming an interface: link-local ones need theirs said.
pub fn own_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut addresses: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    addresses.retain(|address| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let words = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(words)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    Ok(bytes)
}

#[derive(Debug)]
pub struct WallClock;

impl Clock for WallClock {
    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_begins_at_the_folder_of_the_config() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = DiskFiles::beside(&manifest.join("examples/web.toml"));
        assert!(files.read(Path::new("../Cargo.toml")).is_ok_and(|bytes| !bytes.is_empty()));
        assert!(files.read(&manifest.join("Cargo.toml")).is_ok());
        assert_eq!(files.read(Path::new("Cargo.toml")), Err("there is no such file".into()));
        assert_eq!(files.read(Path::new("")), Err("it is a folder".into()));
    }

    #[test]
    fn an_endless_file_is_refused() {
        let mut files = DiskFiles::beside(Path::new("evenkeel.toml"));
        assert_eq!(files.read(Path::new("/dev/zero")), Err("it is larger than 16 MiB".into()));
    }
}
