//! Where the node is: as given, else as its config says, else where a node is unless told otherwise.
//!
//! A config that is broken, or not there, still has an answer, for that is when somebody wants to ask the node. The socket of
//! a config is taken before its address, where it is there: whoever may open it needs no token.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use evenkeel::files::{self, DiskFiles, WallClock};
use evenkeel_config::{Format, Source, admin_place, compile_with};
use evenkeel_model::limits;
use evenkeel_tls::{ClientSettings, Offers};
use rustls::pki_types::ServerName;

use super::Node;
use super::client::{Client, Place};

/// Where a config is looked for when nobody says.
pub const CONFIG: &str = "/etc/evenkeel/evenkeel.toml";
/// Where packages put the socket.
const SOCKET: &str = "/run/evenkeel/admin.sock";
/// Names a file with a token.
const TOKEN_FILE: &str = "EVENKEEL_TOKEN_FILE";

/// # Errors
/// What is wrong with the arguments.
pub fn find(node: &Node) -> Result<Client, String> {
    let named = node.token_file.clone().or_else(|| std::env::var_os(TOKEN_FILE).map(Into::into));
    let token = named.map(|file| token(&file)).transpose()?;
    let place = match (&node.socket, &node.admin) {
        (Some(path), _) => Place::Socket(path.clone()),
        (None, Some(given)) => given_place(given, node.ca.as_deref())?,
        (None, None) => of_config(&node.config, node.ca.as_deref())?,
    };
    Ok(Client { place, token })
}

fn token(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read the token file \"{}\": {error}", file.display()))?;
    let token = text.trim();
    // Anything else would break out of the line that carries it.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("\"{}\" holds no token: one word of visible ASCII", file.display()));
    }
    Ok(token.to_owned())
}

fn given_place(given: &str, ca: Option<&Path>) -> Result<Place, String> {
    let (secured, rest) = match given.split_once("://") {
        None | Some(("http", _)) => (false, given.trim_start_matches("http://")),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => return Err(format!("--admin speaks http and https, not {scheme}")),
    };
    let at = rest.trim_end_matches('/');
    let host = at.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map(|(host, _)| host);
    let Some(host) = host.filter(|host| !host.is_empty() && !at.contains('/')) else {
        return Err(format!("--admin \"{given}\" is no address with a port; write it 10.0.0.2:9900"));
    };
    if secured { secure(at, host, ca) } else { Ok(Place::Plain(at.to_owned())) }
}

fn secure(at: &str, host: &str, ca: Option<&Path>) -> Result<Place, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| format!("{host} cannot stand in a certificate"))?;
    let ca = match ca {
        None => files::authorities(),
        Some(file) => {
            let read = std::fs::read(file);
            Some(read.map_err(|error| format!("cannot read \"{}\": {error}", file.display()))?)
        }
    };
    let clock = Arc::new(WallClock);
    let (ca, offers) = (ca.as_deref(), Offers::Http1);
    let settings = ClientSettings { name: None, ca, verify: true, certificate: None, offers, clock };
    let client = evenkeel_tls::client(settings).map_err(|fault| format!("the authorities: {}", fault.what))?;
    Ok(Place::Secured { at: at.to_owned(), name, tls: client.config })
}

fn of_config(file: &Path, ca: Option<&Path>) -> Result<Place, String> {
    let usual = || match Path::new(SOCKET).exists() {
        true => Place::Socket(SOCKET.into()),
        false => Place::Plain(limits::ADMIN_LISTEN.to_owned()),
    };
    let name = file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        // Nobody named it, and nobody needs it: it may be another user's to read.
        Err(_) if file == Path::new(CONFIG) => return Ok(usual()),
        Err(error) => return Err(format!("cannot read \"{name}\": {error}")),
    };
    let source = Source { name: &name, text: &text, format: Format::of_path(&name) };
    let found = admin_place(&source);
    if let Some(path) = found.socket.as_ref().filter(|path| Path::new(path).exists()) {
        return Ok(Place::Socket(path.into()));
    }
    let Some(listen) = found.listen else {
        return Err(format!("\"{name}\" has no admin address; --admin ADDRESS says where the node is"));
    };
    let at = super::super::node::reachable(listen).to_string();
    if !found.secured {
        return Ok(Place::Plain(at));
    }
    // The address is the config's, so its certificate is asked for by a name that is in it.
    let plan = compile_with(&source, &mut DiskFiles::beside(file)).plan;
    let tls = plan.and_then(|plan| plan.admin?.tls);
    let named = tls.and_then(|tls| tls.certificates().into_iter().find_map(|held| held.names.first().cloned()));
    let host = named.filter(|name| !name.starts_with('*')).unwrap_or_else(|| host_of(listen));
    secure(&at, &host, ca)
}

fn host_of(address: SocketAddr) -> String {
    address.ip().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_scheme_and_needs_a_port() {
        let table = [
            ("10.0.0.2:9900", Ok("10.0.0.2:9900")),
            ("http://10.0.0.2:9900/", Ok("10.0.0.2:9900")),
            ("[::1]:9900", Ok("[::1]:9900")),
            ("lb.example.com:9900", Ok("lb.example.com:9900")),
            ("https://lb.example.com:9900", Ok("https://lb.example.com:9900")),
            ("https://[2001:db8::1]:9900", Ok("https://[2001:db8::1]:9900")),
            ("10.0.0.2", Err("--admin \"10.0.0.2\" is no address with a port; write it 10.0.0.2:9900")),
            (":9900", Err("--admin \":9900\" is no address with a port; write it 10.0.0.2:9900")),
            ("ftp://x:1", Err("--admin speaks http and https, not ftp")),
        ];
        for (given, expected) in table {
            let found = given_place(given, None).map(|place| place.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{given}");
        }
    }

    #[test]
    fn a_config_is_asked_for_the_place_though_it_is_broken() {
        let folder = std::env::temp_dir().join(format!("evenkeel-place-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for files");
        let file = folder.join("evenkeel.toml");
        let socket = folder.join("admin.sock");
        let put = |text: &str| std::fs::write(&file, text).expect("the folder is ours");
        let place = || of_config(&file, None).map(|place| place.to_string());
        put("[admin]\nlisten = \"0.0.0.0:9901\"\n[[pool]]\nnam = 7\n");
        assert_eq!(place(), Ok("127.0.0.1:9901".to_owned()), "a node that listens everywhere is asked here");
        put("[[listener]]\n");
        assert_eq!(place(), Ok(limits::ADMIN_LISTEN.to_owned()));
        put("[admin]\nlisten = \"off\"\n");
        assert!(place().is_err_and(|why| why.contains("has no admin address")));
        put(&format!("[admin]\nsocket = \"{}\"\n", socket.display()));
        assert_eq!(place(), Ok(limits::ADMIN_LISTEN.to_owned()), "a socket that is not there is no way in");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("the folder is ours");
        assert_eq!(place(), Ok(socket.display().to_string()));
        assert!(of_config(&folder.join("other.toml"), None).is_err_and(|why| why.starts_with("cannot read")));
        std::fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
