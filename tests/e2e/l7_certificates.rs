//! Certificates that change while clients are connected: who keeps what, who is shown what, and what a bad file does.

use std::fs;
use std::net::SocketAddr;

use crate::backend::{backend, polite};
use crate::daemon::{Daemon, free_address};
use crate::l7_speak::{Forge, Front, Issued, Talk};

fn listener(name: &str, address: SocketAddr, certificates: &[&Issued]) -> String {
    let tables: String =
        certificates.iter().map(|issued| format!("[[listener.certificate]]\n{}", issued.keys())).collect();
    format!("[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\nprotocol = \"https\"\npool = \"web\"\n{tables}")
}

/// Which of the certificates a client that asks for `name` is shown.
fn shown(forge: &Forge, address: SocketAddr, name: &str) -> Vec<u8> {
    forge.shown(address, name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn certificates_are_swapped_under_clients_that_notice_nothing_and_a_bad_one_is_refused() {
    let forge = Forge::new("swap");
    let address = free_address();
    let (a, b) = (forge.issue("a", &["a.test"]), forge.issue("b", &["b.test", "*.b.test"]));
    let web = format!("[[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(polite));
    let body = listener("web", address, &[&a, &b]) + &web;
    let daemon = Daemon::start("swap", &body);
    let first = a.der();
    assert_eq!(shown(&forge, address, "a.test"), first);
    assert_eq!(shown(&forge, address, "www.b.test"), b.der());
    let mut old: Vec<Talk> = [Front::Http1Tls, Front::Http2Tls]
        .map(|front| Talk::open_as(front, address, &forge, "a.test").expect("a handshake"))
        .into();
    for talk in &mut old {
        assert_eq!(talk.get("/before", "").status, 200);
    }

    // The same files with other content: a renewal.
    let renewed = forge.issue("renewed", &["a.test"]);
    for (from, to) in [(&renewed.certificate, &a.certificate), (&renewed.key, &a.key)] {
        fs::copy(from, to).expect("the folder can be written");
    }
    assert_eq!(shown(&forge, address, "a.test"), first, "nobody reads files without being told");
    let said = daemon.reload(&body);
    assert!(said.contains("node.reloaded"), "{said}");
    assert_ne!(renewed.der(), first);
    assert_eq!(shown(&forge, address, "a.test"), renewed.der());
    assert_eq!(shown(&forge, address, "www.b.test"), b.der());
    for talk in &mut old {
        assert_eq!(talk.get("/after", "").status, 200, "the connections of before go on");
    }

    // What cannot be served is refused whole, with the place in the config, and everything stays as it was.
    let other = forge.issue("other", &["a.test"]);
    let pem = |issued: &Issued| fs::read_to_string(&issued.certificate).expect("it was written");
    let table = [
        ("a key of another certificate", pem(&renewed), fs::read_to_string(&other.key).expect("it was written")),
        ("no PEM at all", "not a certificate\n".to_owned(), fs::read_to_string(&renewed.key).expect("it was written")),
        ("no key", pem(&renewed), String::new()),
    ];
    for (what, certificate, key) in table {
        fs::write(&a.certificate, certificate).expect("the folder can be written");
        fs::write(&a.key, key).expect("the folder can be written");
        let from = daemon.events().len();
        let said = daemon.reload(&body);
        assert!(said.contains("plan.refused"), "{what}: {said}");
        // The line of the config that names the file.
        let config = fs::read_to_string(daemon.config()).expect("it was written");
        let lines: Vec<String> = config
            .lines()
            .zip(1..)
            .filter(|(line, _)| line.contains("/a.pem") || line.contains("/a.key"))
            .map(|(_, number)| format!("evenkeel.toml:{number}"))
            .collect();
        let told = daemon.events()[from..].join("\n");
        assert!(lines.iter().any(|line| told.contains(line)), "{what}: neither of {lines:?} in {told}");
        assert_eq!(shown(&forge, address, "a.test"), renewed.der(), "{what}");
        for talk in &mut old {
            assert_eq!(talk.get("/still", "").status, 200, "{what}");
        }
    }
}
