//! Where clients of the admin side come in: an address, with or without TLS, and a socket in the file system.
//!
//! The doors follow the plan. An address or socket that cannot be had leaves the ones before open: an operator must not lose
//! the pages over a typing error. What stays open in a reload keeps its connections, but not what they may do: tokens are looked
//! up for each request.
//!
//! Nobody holds a place for long by being slow: handshake, head, body and each piece of an answer have their time (`patient`),
//! and the number of connections is bounded.

mod patient;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::{Extension, Router};
use evenkeel_model::limits;
use evenkeel_plan::Admin as Settings;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::guard::{Came, Door, Tokens};
use super::{Admin, router};
use patient::Patient;

const PATIENCE: Duration = Duration::from_secs(limits::ADMIN_PATIENCE.value);

/// After an error of the system, such as no files, the next try comes this much later.
const PAUSE: Duration = Duration::from_millis(100);

/// The open doors of a node.
pub struct Doors {
    pages: Router,
    /// What may change under a door that stays open.
    kept: Arc<Kept>,
    places: Arc<Semaphore>,
    address: Option<(SocketAddr, JoinHandle<()>)>,
    socket: Option<(PathBuf, JoinHandle<()>)>,
    /// Of what is listened at, by address or path: for the process that takes this one's place.
    copies: HashMap<String, OwnedFd>,
    history: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    tokens: Tokens,
    tls: RwLock<Option<TlsAcceptor>>,
}

impl Doors {
    /// None is open yet.
    pub fn new(admin: Arc<Admin>) -> Doors {
        Doors {
            kept: Arc::default(),
            places: Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS.value as usize)),
            address: None,
            socket: None,
            copies: HashMap::new(),
            history: tokio::spawn(Arc::clone(&admin).keep_history()),
            pages: router(admin),
        }
    }

    /// Opens and closes doors as the plan says. Sockets that another process `left` are used where they fit.
    ///
    /// # Errors
    /// Says which cannot be opened. Those that were open stay so.
    pub async fn follow(
        &mut self,
        settings: Option<&Settings>,
        mut left: Vec<(String, OwnedFd)>,
    ) -> Result<(), String> {
        let mut left = |name: &str| {
            let found = left.iter().position(|(at, _)| at == name);
            found.map(|at| left.swap_remove(at).1)
        };
        let address = settings.and_then(|settings| settings.listen);
        let socket = settings.and_then(|settings| settings.socket.clone());
        // Both are tried before either is changed.
        let listener = match address {
            Some(wanted) if self.address.as_ref().is_none_or(|(open, _)| *open != wanted) => {
                let listener = match left(&wanted.to_string()) {
                    Some(socket) => TcpListener::from_std(socket.into()),
                    None => TcpListener::bind(wanted).await,
                };
                let cannot = |error| format!("admin: cannot listen on {wanted}: {error}");
                let listener = listener.map_err(cannot)?;
                let copy = listener.as_fd().try_clone_to_owned().map_err(cannot)?;
                Some((wanted, listener, copy))
            }
            _ => None,
        };
        let path = match socket.as_deref() {
            Some(wanted) if self.socket.as_ref().is_none_or(|(open, _)| open != wanted) => {
                let shown = wanted.display();
                let listener = match left(&shown.to_string()) {
                    Some(socket) => UnixListener::from_std(socket.into()),
                    None => bind(wanted),
                };
                let cannot = |error| format!("admin: cannot listen on \"{shown}\": {error}");
                let listener = listener.map_err(cannot)?;
                let copy = listener.as_fd().try_clone_to_owned().map_err(cannot)?;
                Some((wanted.to_owned(), listener, copy))
            }
            _ => None,
        };
        // Before anybody can come in by a new door.
        let tokens = settings.map_or_else(|| Arc::new([]) as Arc<[_]>, |settings| settings.tokens.as_slice().into());
        self.kept.tokens.set(tokens);
        let tls =
            settings.and_then(|settings| settings.tls.as_ref()).map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
        *self.kept.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        if let Some((open, task)) = self.address.take_if(|(open, _)| Some(*open) != address) {
            self.copies.remove(&open.to_string());
            task.abort();
        }
        if let Some((open, task)) = self.socket.take_if(|(open, _)| Some(&*open) != socket.as_ref()) {
            task.abort();
            self.copies.remove(&open.display().to_string());
            let _ = fs::remove_file(open);
        }
        if let Some((address, listener, copy)) = listener {
            self.copies.insert(address.to_string(), copy);
            self.address = Some((address, tokio::spawn(self.hall().take_in(address, listener))));
        }
        if let Some((path, listener, copy)) = path {
            self.copies.insert(path.display().to_string(), copy);
            self.socket = Some((path, tokio::spawn(self.hall().take_in_local(listener))));
        }
        Ok(())
    }

    /// Copies of the listening sockets, by address or path.
    ///
    /// # Errors
    /// When the process is out of files.
    pub fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.copies.iter().map(|(name, socket)| Ok((name.clone(), socket.try_clone()?))).collect()
    }

    /// Another process has the same sockets: it takes in who comes from now on, and the one in the file system stays.
    pub fn leave(mut self) {
        let socket = self.socket.take();
        if let Some((_, task)) = socket {
            task.abort();
        }
    }

    fn hall(&self) -> Hall {
        Hall { pages: self.pages.clone(), kept: Arc::clone(&self.kept), places: Arc::clone(&self.places) }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.history.abort();
        if let Some((_, task)) = &self.address {
            task.abort();
        }
        if let Some((path, task)) = &self.socket {
            task.abort();
            let _ = fs::remove_file(path);
        }
    }
}

/// What is behind a door.
#[derive(Clone)]
struct Hall {
    pages: Router,
    kept: Arc<Kept>,
    places: Arc<Semaphore>,
}

impl Hall {
    async fn take_in(self, address: SocketAddr, listener: TcpListener) {
        let door = if address.ip().is_loopback() { Door::Loopback } else { Door::Network };
        loop {
            let place = self.place().await;
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // Answers are small, and each is written whole.
            let _ = stream.set_nodelay(true);
            let hall = self.clone();
            let tls = self.kept.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
            tokio::spawn(async move {
                match tls {
                    None => hall.serve(stream, door, place).await,
                    Some(tls) => {
                        // Whoever fails the handshake, or takes too long for it, has been told by TLS or has gone.
                        if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                            hall.serve(stream, door, place).await;
                        }
                    }
                }
            });
        }
    }

    async fn take_in_local(self, listener: UnixListener) {
        loop {
            let place = self.place().await;
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            tokio::spawn(self.clone().serve(stream, Door::Socket, place));
        }
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.places).acquire_owned().await.expect("nobody closes it")
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin, door: Door, place: OwnedSemaphorePermit) {
        let came = Extension(Came { door, tokens: self.kept.tokens.clone() });
        let service = TowerToHyperService::new(self.pages.layer(came));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_header_size(limits::ADMIN_HEAD.value as usize)
            .serve_connection(TokioIo::new(Patient::new(stream)), service);
        // A client that goes away, or is too slow, is nobody's business but its own.
        let _ = connection.await;
        drop(place);
    }
}

/// Binds a socket in the file system that owner and group may open. One that a dead process left is replaced; one that
/// somebody listens on, and a file of another kind, are not.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let in_use = |what: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, what.to_owned()));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return in_use("there is a file of another kind"),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return in_use("another process listens there");
        }
        Ok(_) | Err(_) => {}
    }
    // Bound beside it and moved there, so that nobody can open it before it has its mode.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    let ready =
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o660)).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = ready {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    Ok(listener)
}
