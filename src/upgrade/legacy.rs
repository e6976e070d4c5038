//! What a process leaves to the one that takes its place, and how it is written.
//!
//! JSON with the sockets beside it, in the order in which it names them. It carries secrets, and crosses a socket pair that nobody else
//! has; it is never written to a disk. A process of another version reads what it knows and does without the rest, as long as the
//! form is the same.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use evenkeel_balance::BackendKey;
use evenkeel_control::Memory;
use evenkeel_l4::Homes;
use evenkeel_tls::{TicketSecret, TicketSecrets};
use serde_json::{Value, json};

use crate::ports::Inherited;
use crate::side::state;
use crate::worker::Arrives;

/// Of the form below.
const FORM: u64 = 1;

#[derive(Debug, Default)]
pub struct Legacy {
    pub pid: u32,
    pub version: String,
    /// Of listeners, and whatever else listens.
    pub sockets: Vec<Inherited>,
    /// Of the admin side, by address or path.
    pub admin: Vec<(String, OwnedFd)>,
    pub memory: Option<Memory>,
    pub tickets: Vec<TicketSecrets>,
    /// What cookies are signed with where the config names no secret.
    pub secret: Option<[u8; 32]>,
    pub loop_id: Option<String>,
    /// Which backends clients were with, by pool.
    pub homes: Vec<(Arc<str>, Homes)>,
}

impl Legacy {
    /// The document and the sockets that go with it.
    pub fn write(self) -> (String, Vec<OwnedFd>) {
        let mut files = Vec::new();
        let mut sockets = Vec::new();
        for Inherited { address, arrives, sock, lent } in self.sockets {
            let arrives = match arrives {
                Arrives::Connections => "connections",
                Arrives::Datagrams => "datagrams",
            };
            sockets.push(json!({ "address": address.to_string(), "arrives": arrives, "lent": lent }));
            files.push(sock);
        }
        let mut admin = Vec::new();
        for (name, sock) in self.admin {
            admin.push(json!(name));
            files.push(sock);
        }
        let tickets: Vec<Value> = self
            .tickets
            .iter()
            .map(|secrets| {
                let keys = secrets.keys.iter();
                let keys: Vec<Value> = keys
                    .map(|key| json!({ "name": hex(&key.name), "secret": hex(&key.secret), "made": key.made }))
                    .collect();
                json!({ "of": hex(&secrets.of), "keys": keys })
            })
            .collect();
        let homes: Vec<Value> = self
            .homes
            .iter()
            .map(|(pool, homes)| {
                let clients: Vec<Value> =
                    homes.iter().map(|(client, backend)| json!([format!("{client:x}"), backend.0])).collect();
                json!({ "pool": &**pool, "clients": clients })
            })
            .collect();
        let document = json!({
            "evenkeel_legacy": FORM,
            "pid": self.pid,
            "version": self.version,
            "sockets": sockets,
            "admin": admin,
            "state": self.memory.as_ref().map(state::write_now),
            "tickets": tickets,
            "secret": self.secret.map(|secret| hex(&secret)),
            "loop_id": self.loop_id,
            "homes": homes,
        });
        (document.to_string(), files)
    }

    /// How many sockets belong to a document.
    pub fn count(document: &str) -> Result<usize, String> {
        let document = parse(document)?;
        let length = |name: &str| document[name].as_array().map_or(0, Vec::len);
        Ok(length("sockets") + length("admin"))
    }

    pub fn read(document: &str, files: Vec<OwnedFd>) -> Result<Legacy, String> {
        let document = parse(document)?;
        let broken = |what: &str| format!("what the process before left is broken: {what}");
        let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        let mut files = files.into_iter();
        let mut sockets = Vec::new();
        for value in list("sockets") {
            let arrives = match value["arrives"].as_str() {
                Some("connections") => Arrives::Connections,
                Some("datagrams") => Arrives::Datagrams,
                _ => return Err(broken("what arrives at a socket")),
            };
            let address = address(&value["address"]).ok_or_else(|| broken("the address of a socket"))?;
            let sock = files.next().ok_or_else(|| broken("a socket is missing"))?;
            sockets.push(Inherited { address, arrives, sock, lent: value["lent"] == true });
        }
        let mut admin = Vec::new();
        for value in list("admin") {
            let name = value.as_str().ok_or_else(|| broken("the admin address"))?;
            admin.push((name.to_owned(), files.next().ok_or_else(|| broken("a socket is missing"))?));
        }
        let memory = match document["state"].as_str() {
            Some(text) => Some(state::parse_now(text.as_bytes())?),
            None => None,
        };
        let tickets = list("tickets").iter().map(ticket_secrets).collect::<Option<_>>();
        let secret = match document["secret"].as_str() {
            Some(text) => Some(unhex(text).ok_or_else(|| broken("the secret"))?),
            None => None,
        };
        Ok(Legacy {
            pid: document["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).ok_or_else(|| broken("its pid"))?,
            version: document["version"].as_str().unwrap_or_default().to_owned(),
            sockets,
            admin,
            memory,
            tickets: tickets.ok_or_else(|| broken("ticket keys"))?,
            secret,
            loop_id: document["loop_id"].as_str().map(str::to_owned),
            homes: list("homes").iter().map(homes).collect::<Option<_>>().ok_or_else(|| broken("clients' backends"))?,
        })
    }
}

fn parse(document: &str) -> Result<Value, String> {
    let document: Value =
        serde_json::from_str(document).map_err(|error| format!("what the process before left is broken: {error}"))?;
    match document["evenkeel_legacy"].as_u64() {
        Some(FORM) => Ok(document),
        Some(other) => Err(format!(
            "the process before speaks form {other} of another version, and this one {FORM}: restart instead"
        )),
        None => Err("standard input is no process that hands over".to_owned()),
    }
}

fn ticket_secrets(value: &Value) -> Option<TicketSecrets> {
    let keys = value["keys"].as_array()?.iter().map(|key| {
        Some(TicketSecret {
            name: unhex(key["name"].as_str()?)?,
            secret: unhex(key["secret"].as_str()?)?,
            made: key["made"].as_u64()?,
        })
    });
    Some(TicketSecrets { of: unhex(value["of"].as_str()?)?, keys: keys.collect::<Option<_>>()? })
}

fn homes(value: &Value) -> Option<(Arc<str>, Homes)> {
    let clients = value["clients"]
        .as_array()?
        .iter()
        .map(|pair| Some((u128::from_str_radix(pair[0].as_str()?, 16).ok()?, BackendKey(pair[1].as_u64()?))));
    Some((value["pool"].as_str()?.into(), clients.collect::<Option<_>>()?))
}

fn address(value: &Value) -> Option<SocketAddr> {
    value.as_str()?.parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_is_written_is_read_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let admin = TcpListener::bind("[::1]:0").unwrap();
        let admin_address = admin.local_addr().unwrap();
        let sock = OwnedFd::from(listener);
        let key = TicketSecret { name: [1; 16], secret: [2; 32], made: 3 };
        let legacy = Legacy {
            pid: 77,
            version: "0.1.0".to_owned(),
            sockets: vec![Inherited { address, arrives: Arrives::Connections, sock, lent: true }],
            admin: vec![(admin_address.to_string(), OwnedFd::from(admin))],
            memory: Some(Memory::default()),
            tickets: vec![TicketSecrets { of: [9; 32], keys: vec![key.clone()] }],
            secret: Some([0xab; 32]),
            loop_id: Some("evenkeel-x".to_owned()),
            homes: vec![("web".into(), vec![(u128::MAX, BackendKey(u64::MAX)), (0, BackendKey(1))])],
        };
        let (document, files) = legacy.write();
        assert_eq!(Legacy::count(&document), Ok(files.len()));
        let read = Legacy::read(&document, files).unwrap();
        assert_eq!((read.pid, read.version.as_str(), read.secret), (77, "0.1.0", Some([0xab; 32])));
        assert_eq!((read.sockets[0].address, read.sockets[0].lent), (address, true));
        assert_eq!(read.admin[0].0, admin_address.to_string());
        assert_eq!((read.tickets[0].of, &read.tickets[0].keys), ([9; 32], &vec![key]));
        assert!(read.memory.is_some_and(|memory| memory.backends.is_empty()));
        assert_eq!(read.loop_id.as_deref(), Some("evenkeel-x"));
        assert_eq!(read.homes[0].1, [(u128::MAX, BackendKey(u64::MAX)), (0, BackendKey(1))]);
    }

    #[test]
    fn something_else_at_standard_input_and_another_form_are_told_from_each_other() {
        assert!(Legacy::read("{}", Vec::new()).unwrap_err().contains("no process"));
        assert!(Legacy::read("{\"evenkeel_legacy\":2}", Vec::new()).unwrap_err().contains("form 2"));
        let missing = "{\"evenkeel_legacy\":1,\"pid\":1,\"admin\":[\"127.0.0.1:1\"]}";
        assert!(Legacy::read(missing, Vec::new()).unwrap_err().contains("missing"));
    }
}
