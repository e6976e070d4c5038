//! What opens the admin address: digests of tokens, and its certificates.
//!
//! A token is forgotten once its digest is taken: what is not in memory cannot be in a dump or an answer.

use std::sync::Arc;

use evenkeel_model::limits;
use evenkeel_plan::AdminToken;
use evenkeel_tls::{Policy, Server, ServerSettings};
use sha2::{Digest, Sha256};

use super::Desk;
use crate::config::{self, Admin, TokenOf};
use crate::problem::{Note, Quoted};

#[derive(Debug, Default)]
pub(crate) struct AdminMaterial {
    pub tokens: Vec<AdminToken>,
    pub tls: Option<Arc<Server>>,
}

impl Desk<'_> {
    pub(super) fn admin(&mut self, admin: &Admin) -> AdminMaterial {
        let tokens = admin.tokens.iter().filter_map(|token| {
            let sha256 = match &token.of {
                TokenOf::Sha256(digest) => *digest,
                TokenOf::File(file) => self.token(&token.label, file)?,
            };
            Some(AdminToken { name: token.name.value.as_str().into(), role: token.role, sha256 })
        });
        let tokens = tokens.collect();
        AdminMaterial { tokens, tls: self.admin_server(admin).map(Arc::new) }
    }

    /// Only its digest is kept.
    fn token(&mut self, label: &str, file: &config::File) -> Option<[u8; 32]> {
        let bytes = self.bytes(label, "file", file)?;
        // An editor or echo ends the line, and nobody sends that.
        let token = bytes.trim_ascii();
        let least = limits::ADMIN_TOKEN.value;
        let refuse = |code, what: String, help: String| {
            let text = format!("{label}: file {} {what}", Quoted(&file.value));
            Note::error(code, file.span.clone(), text).help(help)
        };
        let make = format!("make one: openssl rand -hex 32 > {}", file.value);
        if (token.len() as u64) < least {
            let what = format!("has a token of {} characters, and one needs at least {least}", token.len());
            self.notes.add(refuse("secret_too_short", what, make));
            return None;
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            let what = "has something that no client can send as a token".to_owned();
            self.notes.add(refuse("invalid_token", what, make));
            return None;
        }
        Some(Sha256::digest(token).into())
    }

    fn admin_server(&mut self, admin: &Admin) -> Option<Server> {
        let label = "admin";
        let read = admin.certificates.iter().map(|files| {
            let config::Certificate { certificate, key, ocsp } = files;
            self.certificate(label, "certificate.", (certificate, key, ocsp.as_ref()))
        });
        let certificates: Vec<_> = read.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
        let head = admin.certificates.first()?.certificate.span.clone();
        let settings = ServerSettings {
            certificates,
            policy: Policy::default(),
            client_ca: None,
            client_required: false,
            http2: false,
            tickets: None,
            clock: Arc::clone(&self.clock),
        };
        match evenkeel_tls::server(settings) {
            Ok(server) => Some(server),
            Err(fault) => self.refuse(&|_| ("admin:".to_owned(), head.clone()), fault),
        }
    }
}
