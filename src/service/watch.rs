//! Tells when a config, or a file that it names, has other content.
//!
//! Folders are watched and not files: editors and deployments put a new file in the place of the old one, and Kubernetes swaps
//! a link three steps away. Every folder counts that a link on the way lies in. What happened there says nothing but that it
//! is time to look; whether anything has changed is told from the bytes.
//!
//! Nothing is read before the folders have rested for a moment (`limits::WATCH_SETTLE`), since a certificate comes before its key.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_model::limits;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use crate::files::{Content, digest};

const SETTLE: Duration = Duration::from_millis(limits::WATCH_SETTLE.value);
const SETTLE_MOST: Duration = Duration::from_millis(limits::WATCH_SETTLE_MOST.value);

/// Links on the way to a file; more is a circle.
const LINKS: usize = 40;

const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

pub struct Watch {
    /// It is no pipe, and read like one: bytes come when there are any. tokio has no other way to wait for a file that is not its own
    /// without unsafe code.
    inotify: Receiver,
    /// As it was read last.
    content: Content,
    touched: Option<Touched>,
}

#[derive(Clone, Copy)]
struct Touched {
    first: Instant,
    last: Instant,
}

impl Watch {
    /// Watches from now on; what happened since `content` was read is not missed.
    ///
    /// # Errors
    /// When the system gives no more watches.
    pub fn new(content: Content) -> io::Result<Watch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        for folder in content.keys().flat_map(|file| folders(file)).collect::<BTreeSet<_>>() {
            match inotify::add_watch(&inotify, &folder, EVENTS) {
                // What may not be listed, or has gone meanwhile: reading it will say so.
                Ok(_) | Err(rustix::io::Errno::ACCESS | rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let now = Instant::now();
        let touched = is_other(&content).then_some(Touched { first: now, last: now });
        Ok(Watch { inotify: Receiver::from_owned_fd_unchecked(inotify)?, content, touched })
    }

    /// Waits until there is other content, and has been for a moment. May be given up and asked again at any time.
    pub async fn changed(&mut self) {
        loop {
            let until = self.touched.map(|touched| (touched.last + SETTLE).min(touched.first + SETTLE_MOST));
            tokio::select! {
                ready = self.inotify.readable() => {
                    if ready.is_ok() {
                        drain(&self.inotify);
                    }
                    let now = Instant::now();
                    let first = self.touched.map_or(now, |touched| touched.first);
                    self.touched = Some(Touched { first, last: now });
                }
                () = async { tokio::time::sleep_until(until.unwrap_or_else(Instant::now)).await }, if until.is_some() => {
                    self.touched = None;
                    if is_other(&self.content) {
                        return;
                    }
                }
            }
        }
    }
}

/// Whether any file holds something else now.
fn is_other(content: &Content) -> bool {
    content.iter().any(|(file, held)| fs::read(file).ok().map(|bytes| digest(&bytes)) != *held)
}

fn drain(inotify: &Receiver) {
    let mut space = [0; 4096];
    while matches!(inotify.try_read(&mut space), Ok(1..)) {}
}

/// Every folder whose change can change what a path leads to.
fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut path =
        if file.is_absolute() { file.to_owned() } else { std::env::current_dir().unwrap_or_default().join(file) };
    for _ in 0..LINKS {
        // The first link on the way leads elsewhere; without one the way ends here.
        let link = path.ancestors().collect::<Vec<_>>().into_iter().rev().find_map(|step| {
            let to = fs::read_link(step).ok()?;
            Some((step.to_owned(), to))
        });
        let Some((link, to)) = link else { break };
        let folder = link.parent().unwrap_or(Path::new("/")).to_owned();
        let rest = path.strip_prefix(&link).map(Path::to_owned).unwrap_or_default();
        path = if rest.as_os_str().is_empty() { folder.join(to) } else { folder.join(to).join(rest) };
        found.insert(folder);
    }
    // One that is not there yet will appear in what there is of its way.
    let there = path.ancestors().skip(1).find(|folder| folder.is_dir());
    found.extend(there.map(Path::to_owned));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_folder_counts_that_a_link_on_the_way_lies_in() {
        let top = std::env::temp_dir().join(format!("evenkeel-watch-{}", std::process::id()));
        let top = fs::create_dir_all(top.join("mount/..first")).and_then(|()| top.canonicalize()).unwrap();
        let mount = top.join("mount");
        fs::write(mount.join("..first/node.toml"), "x").unwrap();
        symlink("..first", mount.join("..data")).unwrap();
        symlink("..data/node.toml", mount.join("node.toml")).unwrap();
        symlink("mount", top.join("config")).unwrap();
        let folders = folders(&top.join("config/node.toml"));
        assert!(
            folders.is_superset(&BTreeSet::from([top.clone(), mount.clone(), mount.join("..first")])),
            "{folders:?}"
        );
        // A circle has an end, and a file that is not there is waited for where it would be.
        symlink("round", top.join("round")).unwrap();
        assert!(!super::folders(&top.join("round")).is_empty());
        assert_eq!(super::folders(&top.join("absent/file")), BTreeSet::from([top.clone()]));
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn content_is_told_from_content_and_a_file_from_none() {
        let file = std::env::temp_dir().join(format!("evenkeel-content-{}", std::process::id()));
        let held = |bytes: Option<&[u8]>| Content::from([(file.clone(), bytes.map(digest))]);
        assert!(!is_other(&held(None)) && is_other(&held(Some(b""))));
        fs::write(&file, "x").unwrap();
        assert!(is_other(&held(None)) && is_other(&held(Some(b""))) && !is_other(&held(Some(b"x"))));
        fs::remove_file(&file).unwrap();
    }
}
