//! Certificates and policy to rustls configs, and the choice of a certificate by name.
//!
//! It is told the bytes of files and the time, and answers with settings or with what is wrong about them. It reads
//! no file and opens no socket; sessions are driven by the rooms that own the sockets.

use std::sync::Arc;

/// What a listener that terminates TLS needs. Made anew with each plan; sessions keep the one they began with.
#[derive(Clone, Debug)]
pub struct Server {
    pub config: Arc<rustls::ServerConfig>,
}

/// What a pool that speaks TLS to its backends needs.
#[derive(Clone, Debug)]
pub struct Client {
    pub config: Arc<rustls::ClientConfig>,
    /// The name the backend's certificate is checked for and that is sent as SNI; `None` uses the backend's
    /// address.
    pub name: Option<rustls::pki_types::ServerName<'static>>,
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}
