//! A client of the admin API that says exactly what it is told to: fields, bodies, nothing of its own but the Host.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::client::Wire;
use crate::daemon::{Daemon, PATIENCE};

/// An answer of the API.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Told {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The detail of a problem, after looking that it is one.
    pub fn problem(&self) -> String {
        assert!(self.head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["type"], "about:blank");
        problem["detail"].as_str().expect("a problem has a detail").to_owned()
    }
}

/// A request as it goes over the wire; the body is JSON.
pub fn written(host: &str, asked: &str, fields: &[&str], body: Option<&str>) -> String {
    let mut text = format!("{asked} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for field in fields {
        text += &format!("{field}\r\n");
    }
    if let Some(body) = body {
        let kind = fields.iter().any(|field| field.to_ascii_lowercase().starts_with("content-type"));
        let kind = if kind { "" } else { "Content-Type: application/json\r\n" };
        text += &format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len());
    } else {
        text += "\r\n";
    }
    text
}

fn read(asked: &str, text: &[u8]) -> Told {
    let text = String::from_utf8_lossy(text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {asked}: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
    Told { status, head: head.to_owned(), text: body.to_owned() }
}

/// Over the network: `asked` is method and path.
pub fn ask(admin: SocketAddr, asked: &str, fields: &[&str], body: Option<&str>) -> Told {
    let mut wire = Wire::open(admin);
    wire.send(written(&admin.to_string(), asked, fields, body));
    read(asked, &wire.rest().0)
}

/// By the socket in the file system.
pub fn ask_by(socket: &Path, asked: &str, body: Option<&str>) -> Told {
    let mut stream = UnixStream::connect(socket).expect("the socket is there");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    stream.write_all(written("evenkeel", asked, &[], body).as_bytes()).expect("the node reads");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("the node answers");
    read(asked, &text)
}

/// A JSON page that has to be there.
pub fn get(daemon: &Daemon, path: &str) -> Value {
    let told = ask(daemon.admin, &format!("GET {path}"), &[], None);
    assert_eq!(told.status, 200, "{path}: {told:?}");
    told.json()
}

pub fn post(daemon: &Daemon, path: &str, body: &str) -> Told {
    ask(daemon.admin, &format!("POST {path}"), &[], Some(body))
}

/// Events that are sent as they happen.
pub struct Stream(Wire, String);

impl Stream {
    pub fn open(admin: SocketAddr, path: &str, fields: &[&str]) -> Stream {
        let mut wire = Wire::open(admin);
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n{fields}\r\n"));
        Stream(wire, String::new())
    }

    /// Reads on until `wanted` is in what has come, and gives all of it.
    pub fn until(&mut self, wanted: &str) -> &str {
        while !self.1.contains(wanted) {
            let mut space = [0; 4096];
            self.0.stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket takes a timeout");
            let count = self.0.stream.read(&mut space).unwrap_or_else(|error| panic!("{error} after {}", self.1));
            assert!(count > 0, "the stream ended before {wanted}: {}", self.1);
            self.1 += &String::from_utf8_lossy(&space[..count]);
        }
        &self.1
    }
}
