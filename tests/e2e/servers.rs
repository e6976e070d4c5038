//! Real servers on loopback, each with a config of its own in a folder that goes away: nginx, Dovecot, HAProxy.
//!
//! They run in the foreground as children of the test, so none outlives it, and they are asked only once they listen.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::daemon::{Folder, until};

/// A running server.
pub struct Server {
    child: Child,
    log: PathBuf,
    folder: Folder,
}

impl Server {
    /// nginx with this in its `http` block.
    pub fn nginx(listens: &[SocketAddr], http: &str) -> Server {
        let folder = Folder::new("nginx");
        let place = folder.0.display().to_string();
        let text = format!(
            "daemon off; master_process off; pid {place}/pid; error_log {place}/server.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {place}/body;\n{http}\n}}\n"
        );
        let config = written(&folder, "nginx.conf", &text);
        let mut command = Command::new("nginx");
        command.args(["-p", &place, "-c"]).arg(config);
        Server::start(command, folder, listens)
    }

    /// Dovecot for one user with one password, with these tables of services and keys.
    pub fn dovecot(listens: &[SocketAddr], user: &str, password: &str, text: &str) -> Server {
        let folder = Folder::new("dovecot");
        // Its processes of other users reach for their sockets here, and a path of a socket is short.
        let base = std::env::temp_dir().join(folder.0.file_name().expect("a folder has a name"));
        let place = folder.0.display();
        let text = format!(
            "base_dir = {base}\nstate_dir = {base}\nlog_path = {place}/server.log\nprotocols = imap pop3\nssl = no\n\
             disable_plaintext_auth = no\nlisten = 127.0.0.1\nmail_location = maildir:{base}/mail/%u\n\
             first_valid_uid = 1\nfirst_valid_gid = 1\n\
             passdb {{\n driver = static\n args = user={user} password={password}\n}}\n\
             userdb {{\n driver = static\n args = uid=mail gid=mail home={base}/mail/%u\n}}\n{text}\n",
            base = base.display()
        );
        let config = written(&folder, "dovecot.conf", &text);
        fs::create_dir_all(base.join("mail")).expect("the temporary folder can be written");
        let given = Command::new("chown").args(["-R", "mail:mail"]).arg(base.join("mail")).status();
        assert!(given.is_ok_and(|status| status.success()), "root may give a folder away");
        let mut command = Command::new("dovecot");
        command.arg("-F").arg("-c").arg(config);
        Server::start(command, folder, listens)
    }

    pub fn haproxy(listens: &[SocketAddr], text: &str) -> Server {
        let folder = Folder::new("haproxy");
        let defaults = "defaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n";
        let config = written(&folder, "haproxy.cfg", &format!("{defaults}{text}\n"));
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        Server::start(command, folder, listens)
    }

    fn start(mut command: Command, folder: Folder, listens: &[SocketAddr]) -> Server {
        let log = folder.0.join("server.log");
        let said = folder.0.join("said");
        let out = fs::File::create(&said).expect("the folder can be written");
        let also = out.try_clone().expect("a file can be shared");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(also).spawn().expect("it was found before");
        let mut server = Server { child, log, folder };
        for address in listens {
            until(&format!("{command:?} to listen at {address}"), || {
                if let Ok(Some(status)) = server.child.try_wait() {
                    panic!("{command:?} ended with {status}: {}", fs::read_to_string(&said).unwrap_or_default());
                }
                TcpStream::connect(address).ok()
            });
        }
        server
    }

    /// Waits for a line of its log with all of `words`.
    pub fn wait_log(&self, words: &[&str]) -> String {
        until(&format!("a log line with {words:?} in {}", self.log.display()), || {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            text.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    }

    /// The lines of its log so far with all of `words`.
    pub fn log_lines(&self, words: &[&str]) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dovecot's master takes its children along when it is asked to end, and cannot when it is killed.
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
        if let Some(name) = self.folder.0.file_name() {
            let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
        }
    }
}

fn written(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.0.join(Path::new(name));
    fs::write(&path, text).expect("the folder can be written");
    path
}
