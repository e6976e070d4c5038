//! `[admin]` and its tables: where operators come in, and who they are.
//!
//! Whether tokens are needed at all is for the relations to say, which know the address. A value that may be a token is never said back.

use std::net::SocketAddr;
use std::ops::Range;

use evenkeel_model::limits;
use evenkeel_plan::Role;

use super::{file, table, tables};
use crate::config::{Admin, AdminToken, At, Certificate, TokenOf};
use crate::document::{Table, Value};
use crate::keys::Section;
use crate::problem::{Notes, Quoted};
use crate::reader::Reader;
use crate::values::{self, Purpose, Refusal};

pub(super) fn admin<'d>(top: &mut Reader<'d, '_>, empty: &'d Table) -> Admin {
    let (table, head) = table(top, "admin", empty);
    let mut reader = Reader::new(Section::Admin, "admin", table, head, top.notes());
    let listen = listen(&mut reader);
    let socket = reader.text("socket", socket);
    let found = tables(&mut reader, "token", "[[admin.token]]");
    let tokens_written = !found.is_empty() || reader.was_written("token");
    let tokens = found.into_iter().enumerate();
    let tokens = tokens.filter_map(|(position, (table, head))| token(position, table, head, reader.notes())).collect();
    let found = tables(&mut reader, "certificate", "[[admin.certificate]]");
    let certificates_written = !found.is_empty() || reader.was_written("certificate");
    let certificates = found.into_iter().enumerate();
    let certificates = certificates
        .filter_map(|(position, (table, head))| certificate(position, table, head, reader.notes()))
        .collect();
    reader.finish();
    Admin { listen, socket, tokens, tokens_written, certificates, certificates_written }
}

/// `None` when it is off, or could not be read.
fn listen(reader: &mut Reader<'_, '_>) -> Option<At<SocketAddr>> {
    if !reader.was_written("listen") {
        reader.entry("listen");
        let value = limits::ADMIN_LISTEN.parse().expect("the default of the limits is an address");
        return Some(At { value, span: 0..0 });
    }
    match reader.table().get("listen").map(|entry| &entry.node.value) {
        Some(Value::Text(word)) if word == "off" => {
            reader.entry("listen");
            None
        }
        // A bare port, answered as in a listener.
        Some(Value::Integer(Some(number))) => {
            let entry = reader.entry("listen")?;
            let read = values::address(&number.to_string(), Purpose::Listen);
            let value = reader.accept(read, "listen", &entry.node)?;
            Some(At { value, span: entry.node.span.clone() })
        }
        _ => reader.text("listen", |text| values::address(text, Purpose::Listen)),
    }
}

/// The process may be started anywhere, so its path says all. The kernel takes 107 bytes.
fn socket(text: &str) -> Result<String, Refusal> {
    const LONGEST: usize = 107;
    let help = "write for example \"/run/evenkeel/admin.sock\"".to_owned();
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
        let what = format!("is {}, which is not the absolute path of a file", Quoted(text));
        return Err(Refusal { code: "invalid_path", what, help });
    }
    if text.len() > LONGEST {
        let what = format!("has {} bytes, and the path of a socket has at most {LONGEST}", text.len());
        return Err(Refusal { code: "invalid_path", what, help });
    }
    Ok(text.to_owned())
}

/// `None` when it could not be read, which was noted.
fn token(position: usize, table: &Table, head: Range<usize>, notes: &mut Notes) -> Option<AdminToken> {
    let label = match table.get("name").map(|entry| &entry.node.value) {
        Some(Value::Text(name)) => format!("admin token {}", Quoted(name)),
        _ => format!("admin token {}", position + 1),
    };
    let mut reader = Reader::new(Section::AdminToken, &label, table, head.clone(), notes);
    let help = "say whose it is: name = \"ops\"; the name stands in events";
    let name = reader.required_text("name", help, values::name);
    if !reader.was_written("role") {
        reader
            .missing("role", "write role = \"read\" to look, role = \"operate\" to give orders and change the config");
    }
    let word = reader.word("role");
    let role = Role::ALL.into_iter().find(|role| Some(role.word()) == word);
    let sha256 = reader.text("sha256", sha256);
    let file = file(&mut reader, "file");
    let of = match (reader.was_written("sha256"), table.get("file")) {
        (false, None) => {
            let help =
                "write sha256 = \"…\", as printf %s TOKEN | sha256sum prints it, or file = \"/etc/evenkeel/ops.token\"";
            reader.missing("sha256", help);
            None
        }
        (true, Some(entry)) => {
            let what = "stands beside sha256, and a token is said once".into();
            reader.refuse(
                Refusal { code: "keys_exclude_each_other", what, help: "remove one of them".into() },
                "file",
                &entry.node,
            );
            None
        }
        (true, None) => sha256.map(|digest| TokenOf::Sha256(digest.value)),
        (false, Some(_)) => file.map(TokenOf::File),
    };
    reader.finish();
    Some(AdminToken { label, head, name: name?, role: role?, of: of? })
}

fn sha256(text: &str) -> Result<[u8; 32], Refusal> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let bytes = digits.filter(|digits| digits.len() == 64).map(|digits| {
        let bytes = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
        bytes.collect::<Vec<u8>>()
    });
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| Refusal {
        // What was written may be the token itself, so it is not said back.
        code: "invalid_digest",
        what: "is not 64 hex digits".to_owned(),
        help: "write the digest and not the token: printf %s TOKEN | sha256sum".to_owned(),
    })
}

fn certificate(position: usize, table: &Table, head: Range<usize>, notes: &mut Notes) -> Option<Certificate> {
    let label = format!("admin certificate {}", position + 1);
    let mut reader = Reader::new(Section::AdminCertificate, &label, table, head, notes);
    let help = "add the path of the chain: certificate = \"/etc/evenkeel/admin.pem\"";
    let certificate = reader.required_text("certificate", help, values::file);
    let help = "add the path of the private key: key = \"/etc/evenkeel/admin.key\"";
    let key = reader.required_text("key", help, values::file);
    reader.finish();
    Some(Certificate { certificate: certificate?, key: key?, ocsp: None })
}
