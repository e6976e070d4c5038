//! nginx with php-fpm on the backends' host, as Debian packs them and operators set them up: one site for each fault.
//!
//! All sites are in one nginx, each on a port of its own of two addresses, which stand for two hosts. What the sites
//! share are the processes of php; a fault that needs php-fpm in a state of its own has a pool of processes of its own
//! (php's word), or a whole php-fpm.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::until;
use crate::lab::{BACKENDS, Lab};
use crate::servers::Server;

/// The two hosts that every site is on.
pub const HOSTS: [&str; 2] = [BACKENDS[0], BACKENDS[1]];

/// Serves the page of health and nothing else; for sites whose own port is to fail.
pub const HEALTH_PORT: u16 = 8000;

/// Speaks FastCGI over TCP, for the operator who takes it for a web server.
pub const FASTCGI_PORT: u16 = 9000;

/// The program with its version in its name, as Debian has it.
pub fn php_fpm() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/sbin").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"))).max()
}

/// Where the files of the sites are. Below the temporary folder: a socket's path is short, and php runs as nobody.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Place {
        let path = std::env::temp_dir().join(format!("evenkeel-lab-{}", std::process::id()));
        fs::create_dir_all(path.join("root")).expect("the temporary folder can be written");
        fs::write(path.join("root/health.html"), "well\n").expect("the folder is ours");
        fs::write(path.join("root/app.php"), include_str!("php/app.php")).expect("the folder is ours");
        fs::write(path.join("upload"), vec![b'u'; 100_000]).expect("the folder is ours");
        fs::write(path.join("cookie"), format!("Cookie: c={}", "c".repeat(40_000))).expect("the folder is ours");
        fs::write(path.join("long"), "u".repeat(40_000)).expect("the folder is ours");
        // Scripts that are held leave a sign of it.
        fs::create_dir_all(path.join("held")).expect("the folder is ours");
        fs::set_permissions(path.join("held"), fs::Permissions::from_mode(0o777)).expect("the folder is ours");
        Place(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The lines of a site that has its scripts run by this pool of php.
    pub fn php(&self, pool: &str, keys: &str) -> String {
        format!(
            "location ~ \\.php$ {{ fastcgi_pass unix:{}; {keys}\n\
             fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n\
             fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;\n\
             fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length; }}\n",
            self.file(&format!("{pool}.sock"))
        )
    }

    /// A server of nginx at this port of some hosts.
    pub fn server(&self, hosts: &[&str], port: u16, tls: bool, lines: &str) -> String {
        let listens: String =
            hosts.iter().map(|host| format!("listen {host}:{port}{}; ", if tls { " ssl" } else { "" })).collect();
        format!("server {{ {listens}root {};\n{lines} }}\n", self.file("root"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// One php-fpm with its pools.
pub struct PhpFpm {
    child: Child,
}

impl PhpFpm {
    /// `pools`: a name, which is that of its socket too, and keys of its section.
    pub fn start(lab: &Lab, place: &Place, name: &str, pools: &[(&str, &str)]) -> PhpFpm {
        let mut text = format!(
            "[global]\npid = {}\nerror_log = {}\ndaemonize = no\n",
            place.file(&format!("{name}.pid")),
            place.file(&format!("{name}.log"))
        );
        for (pool, keys) in pools {
            let listen = if keys.contains("listen = ") {
                String::new()
            } else {
                format!("listen = {}\n", place.file(&format!("{pool}.sock")))
            };
            text += &format!("[{pool}]\nuser = nobody\ngroup = nogroup\n{listen}{keys}\n");
        }
        let config = place.file(&format!("{name}.conf"));
        fs::write(&config, text).expect("the folder is ours");
        let program = php_fpm().expect("it was found before");
        let said = fs::File::create(place.file(&format!("{name}.said"))).expect("the folder is ours");
        let mut command = lab.backend_command(&program.display().to_string());
        command.args(["--nodaemonize", "--fpm-config", &config]);
        let also = said.try_clone().expect("a file can be shared");
        let child = command.stdin(Stdio::null()).stdout(also).stderr(said).spawn().expect("it was found before");
        let mut fpm = PhpFpm { child };
        let log = PathBuf::from(place.file(&format!("{name}.log")));
        until("php-fpm to be ready", || {
            if let Ok(Some(status)) = fpm.child.try_wait() {
                let said = fs::read_to_string(place.file(&format!("{name}.said"))).unwrap_or_default();
                panic!("php-fpm ended with {status}: {said}");
            }
            fs::read_to_string(&log).is_ok_and(|text| text.contains("ready to handle connections")).then_some(())
        });
        fpm
    }

    /// Ends it as `systemctl stop` would if its children were given no time.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}

impl Drop for PhpFpm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// nginx on the backends' host with all these servers.
pub fn nginx(lab: &Lab, place: &Place, servers: &str, listens: &[SocketAddr]) -> Server {
    let health = place.server(&HOSTS, HEALTH_PORT, false, &place.php("www", ""));
    let http = format!(
        "fastcgi_temp_path {}; proxy_temp_path {};\n{health}{servers}",
        place.file("fastcgi"),
        place.file("proxy")
    );
    lab.on_back(|| Server::nginx(listens, &http))
}

/// Runs a program to its end on the balancer's host.
pub fn on_front(lab: &Lab, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.front, program]);
    command
}
