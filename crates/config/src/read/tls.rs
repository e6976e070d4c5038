//! What is encrypted and with which files: `[[listener.certificate]]`, `[listener.tls]`, `[pool.tls]`.
//!
//! Here a file is a path. What is in it is looked at when everything was read ([`crate::material`]).

use evenkeel_model::limits;
use evenkeel_tls::Policy;

use super::{file, inner, inner_or_empty, tables};
use crate::config::{At, Certificate, ClientCertificate, ListenerTls, PoolTls};
use crate::document::Table;
use crate::keys::Section;
use crate::reader::Reader;
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
    let mut reader = Reader::new(Section::PoolTls, &label, table, head.clone(), pool.notes());
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
    Some(tls)
}
