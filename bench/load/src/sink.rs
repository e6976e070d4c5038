//! Takes log lines over TCP and appends them to a file: the log server of haproxy's `ring`.
//!
//! It stands for a syslog daemon, runs beside the load, and is not counted as haproxy's.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

pub fn run(port: u16, file: &Path) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let mut lines = OpenOptions::new().create(true).append(true).open(file)?;
    let mut piece = vec![0; 1 << 18];
    // One sender at a time: haproxy opens one connection and keeps it.
    for sender in listener.incoming() {
        let mut sender = sender?;
        while let Ok(read) = sender.read(&mut piece) {
            if read == 0 {
                break;
            }
            lines.write_all(&piece[..read])?;
        }
    }
    Ok(())
}
