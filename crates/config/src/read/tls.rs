//! What is encrypted and with which files: `[[listener.certificate]]`, `[listener.tls]`, `[pool.tls]`, `tls` of `[pool.check]`.
//!
//! Here a file is a path. What is in it is looked at when everything was read ([`crate::material`]).

use std::ops::Range;

use evenkeel_model::limits;
use evenkeel_tls::Policy;

use super::{file, inner, inner_or_empty, tables};
use crate::config::{At, Certificate, CheckTls, ClientCertificate, ListenerTls, PoolTls};
use crate::document::{Table, Value};
use crate::keys::Section;
use crate::problem::Notes;
use crate::reader::{Reader, wrong_type};
use crate::values;

/// And whether one of them could not be read.
pub(super) fn certificates(listener: &mut Reader<'_, '_>) -> (Vec<Certificate>, bool) {
    let mut found = Vec::new();
    let mut incomplete = false;
    for (position, (table, head)) in tables(listener, "certificate", "[[listener.certificate]]").into_iter().enumerate()
    {
        let label = format!("{} certificate {}", listener.label(), position + 1);
        let mut reader = Reader::new(Section::Certificate, &label, table, head, listener.notes());
        let help = "add the path of the chain: certificate = \"/etc/evenkeel/chain.pem\"";
        let certificate = reader.required_text("certificate", help, values::file);
        let help = "add the path of the private key: key = \"/etc/evenkeel/key.pem\"";
        let key = reader.required_text("key", help, values::file);
        let ocsp = file(&mut reader, "ocsp");
        reader.finish();
        match (certificate, key) {
            (Some(certificate), Some(key)) => found.push(Certificate { certificate, key, ocsp }),
            _ => incomplete = true,
        }
    }
    incomplete |= listener.was_written("certificate") && found.is_empty();
    (found, incomplete)
}

pub(super) fn of_listener(listener: &mut Reader<'_, '_>) -> ListenerTls {
    let (empty, label) = (Table::default(), listener.label().to_owned());
    let help = "TLS itself is protocol = \"https\"; leave tls out for its defaults";
    let (table, head) = inner_or_empty(listener, "tls", help, &empty);
    let mut reader = Reader::new(Section::ListenerTls, &label, table, head, listener.notes());
    let tls = ListenerTls {
        policy: {
            let word = reader.word("policy");
            Policy::ALL.into_iter().find(|policy| Some(policy.word()) == word).unwrap_or_default()
        },
        client_ca: file(&mut reader, "client_ca"),
        client_certificate: match reader.word("client_certificate") {
            Some("optional") => ClientCertificate::Optional,
            _ => ClientCertificate::Required,
        },
        handshake_timeout: reader.duration(limits::HANDSHAKE_TIMEOUT),
        tickets: reader.flag("tickets"),
        written: Vec::new(),
    };
    ListenerTls { written: reader.finish(), ..tls }
}

/// `None` when it is off.
pub(super) fn of_pool(pool: &mut Reader<'_, '_>) -> Option<PoolTls> {
    let help = "write tls = {} to speak TLS to the backends; leave it out to speak plain HTTP";
    let (table, head) = inner(pool, "tls", help)?;
    let label = pool.label().to_owned();
    Some(to_backends(&label, table, head, pool.notes()))
}

/// `tls` of `[pool.check]`; a table has the keys of `[pool.tls]`.
pub(super) fn of_check(check: &mut Reader<'_, '_>) -> Option<At<CheckTls>> {
    let entry = check.entry("tls")?;
    let span = entry.node.span.clone();
    let value = match &entry.node.value {
        Value::Flag(false) => CheckTls::Off,
        Value::Flag(true) => CheckTls::On,
        Value::Table(table) => {
            // Of one among several the label says already that it is a check.
            let one = check.full_name("") == "check.";
            let label = if one { format!("{} check", check.label()) } else { check.label().to_owned() };
            CheckTls::Own(to_backends(&label, table, span.clone(), check.notes()))
        }
        other => {
            let help = "write true, false, or a table with the keys of [pool.tls]: tls = { name = \"app.internal\" }";
            check.refuse(wrong_type(other, "true, false or a table", help), "tls", &entry.node);
            return None;
        }
    };
    Some(At { value, span })
}

fn to_backends(label: &str, table: &Table, head: Range<usize>, notes: &mut Notes) -> PoolTls {
    let mut reader = Reader::new(Section::PoolTls, label, table, head.clone(), notes);
    let verify = At {
        value: reader.flag("verify"),
        span: table.get("verify").map_or_else(|| head.clone(), |entry| entry.node.span.clone()),
    };
    let tls = PoolTls {
        head,
        name: reader.text("name", values::http::server_name),
        ca: file(&mut reader, "ca"),
        verify,
        certificate: file(&mut reader, "certificate"),
        key: file(&mut reader, "key"),
    };
    let (certificate, key) = (reader.was_written("certificate"), reader.was_written("key"));
    if certificate && !key {
        reader.missing("key", "add the path of the certificate's private key: key = \"/etc/evenkeel/client.key\"");
    } else if key && !certificate {
        reader.missing(
            "certificate",
            "add the path of the key's certificate: certificate = \"/etc/evenkeel/client.pem\"",
        );
    }
    reader.finish();
    tls
}
