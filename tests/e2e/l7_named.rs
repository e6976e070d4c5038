//! Who the client is, as real software says and hears it: nginx and HAProxy behind http and https listeners, HAProxy and
//! curl in front of them.
//!
//! Each answer says whom the server behind was told of, and curl says which address and port it had itself.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::backend::{backend, polite};
use crate::client::Wire;
use crate::daemon::{Daemon, Folder, free_address, has, skipped, until};
use crate::l7_speak::{Forge, NAME, Site};
use crate::tools::run;

/// A server of this test, by its own config.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, listens: SocketAddr) -> Server {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server(child.expect("it was found before"));
    until("the server to listen", || TcpStream::connect(listens).ok());
    server
}

/// An nginx that expects headers, plain and before TLS.
fn nginx(folder: &Path, forge: &Forge, listens: [SocketAddr; 2]) -> Server {
    let place = folder.display();
    let [plain, tls] = listens;
    let issued = forge.issue("nginx", &["nginx.example"]);
    let text = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_body_temp_path {place}/body;\n\
         server {{ listen {plain} proxy_protocol; listen {tls} ssl proxy_protocol;\n\
         ssl_certificate {}; ssl_certificate_key {};\n\
         location / {{ return 200 \"$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port $connection $connection_requests\\n\"; }} }} }}\n",
        issued.certificate.display(),
        issued.key.display()
    );
    let config = folder.join("nginx.conf");
    fs::write(&config, text).expect("the folder can be written");
    start(Command::new("nginx").args(["-p", &place.to_string(), "-c"]).arg(&config), plain)
}

fn haproxy(folder: &Path, name: &str, sections: &str, listens: SocketAddr) -> Server {
    let config = folder.join(format!("{name}.cfg"));
    let text = format!("defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n{sections}");
    fs::write(&config, text).expect("the folder can be written");
    start(Command::new("haproxy").args(["-db", "-f"]).arg(&config), listens)
}

/// What the server behind was told of the client, and what curl knows of itself.
struct Heard {
    status: String,
    told: Vec<String>,
    own: String,
}

fn curl(url: &str, forge: &Forge, arguments: &[&str]) -> Heard {
    let address = url.split('/').nth(2).expect("a URL has an authority").to_owned();
    let port = address.rsplit(':').next().expect("with a port").to_owned();
    let ip = address.split(':').next().expect("with an address").to_owned();
    let resolve = format!("{NAME}:{port}:{ip}");
    let url = url.replace(&ip, NAME);
    let ca = forge.ca();
    let mut all = vec!["-sS", "--max-time", "20", "--cacert", &ca, "--resolve", &resolve];
    all.extend(["-w", "%{http_code} %{local_ip}:%{local_port}"]);
    all.extend(arguments);
    all.push(&url);
    let said = run("curl", &all, "");
    let (body, known) = said.out.rsplit_once('\n').unwrap_or(("", &said.out));
    let mut known = known.split(' ').map(str::to_owned);
    Heard {
        status: known.next().unwrap_or_default(),
        own: known.next().unwrap_or_default(),
        told: body.split(' ').map(str::to_owned).collect(),
    }
}

const PLAIN: [&str; 1] = ["--http1.1"];
const PRIOR: [&str; 1] = ["--http2-prior-knowledge"];
const HTTP2: [&str; 1] = ["--http2"];

#[test]
fn nginx_hears_of_every_client_and_serves_it_once_on_a_connection() {
    let test = "nginx_hears_of_every_client_and_serves_it_once_on_a_connection";
    if let Some(tool) = ["nginx", "curl"].into_iter().find(|tool| !has(tool)) {
        skipped(test, tool);
        return;
    }
    let (folder, forge) = (Folder::new("named-nginx"), Forge::new("named"));
    let listens = [free_address(), free_address()];
    let _nginx = nginx(&folder.0, &forge, listens);
    let certificate = forge.issue("listener", &[NAME]);
    let trusted = format!("[pool.tls]\nca = \"{}\"\nname = \"nginx.example\"\n", forge.ca());
    let pools = [
        ("v1", listens[0], "proxy_protocol = \"v1\"\n"),
        ("v2", listens[0], "proxy_protocol = { version = \"v2\", tlvs = [\"authority\", \"alpn\", \"unique_id\"] }\n"),
        ("tls", listens[1], "proxy_protocol = \"v2\"\n"),
    ];
    let mut body = String::new();
    let mut sites = Vec::new();
    for (name, backend, keys) in pools {
        let site = Site { plain: free_address(), tls: free_address() };
        body += &forge.listeners(name, site, &certificate, &format!("pool = \"{name}\""));
        sites.push((name, site));
        body += &format!("[[pool]]\nname = \"{name}\"\nbackends = [\"{backend}\"]\ncheck = \"off\"\n{keys}");
        if name == "tls" {
            body += &trusted;
        }
    }
    let daemon = Daemon::start("named-nginx", &body);
    let mut connections = Vec::new();
    for &(name, site) in &sites {
        let fronts = [
            ("http", site.plain, PLAIN),
            ("http", site.plain, PRIOR),
            ("https", site.tls, PLAIN),
            ("https", site.tls, HTTP2),
        ];
        for (scheme, address, version) in fronts {
            for _ in 0..2 {
                let url = format!("{scheme}://{address}/{name}");
                let heard = curl(&url, &forge, &version);
                assert_eq!(heard.status, "200", "{url} {version:?}");
                let [client, reached, connection, requests] = &heard.told[..] else {
                    panic!("{url} {version:?}: {:?}", heard.told)
                };
                assert_eq!(*client, heard.own, "{url} {version:?}");
                assert_eq!(*reached, address.to_string(), "{url} {version:?}");
                assert_eq!(requests, "1", "{url} {version:?}");
                connections.push(connection.clone());
            }
        }
    }
    let all = connections.len();
    connections.sort();
    connections.dedup();
    assert_eq!(connections.len(), all, "no connection served two requests");
    // Clients that keep theirs share none either.
    let mut wire = Wire::open(sites[0].1.plain);
    let first = wire.get("/again").payload();
    let second = wire.get("/again").payload();
    assert_ne!(first, second);
    for line in daemon.log() {
        assert_eq!((&line["status"], &line["cause"]), (&200.into(), &serde_json::Value::Null), "{line}");
    }
}

#[test]
fn haproxy_behind_hears_the_name_and_the_id_of_the_log() {
    let test = "haproxy_behind_hears_the_name_and_the_id_of_the_log";
    if let Some(tool) = ["haproxy", "curl"].into_iter().find(|tool| !has(tool)) {
        skipped(test, tool);
        return;
    }
    let (folder, forge) = (Folder::new("named-haproxy"), Forge::new("named-haproxy"));
    let (behind, tls) = (free_address(), free_address());
    let _haproxy = haproxy(
        &folder.0,
        "behind",
        &format!(
            "frontend f\n mode http\n bind {behind} accept-proxy\n http-request return status 200 content-type text/plain \
             lf-string \"%[src]:%[src_port] %[fc_pp_authority] %[fc_pp_unique_id]\\n\"\n"
        ),
        behind,
    );
    let certificate = forge.issue("listener", &[NAME]);
    let body = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{tls}\"\nprotocol = \"https\"\npool = \"web\"\n\
         [[listener.certificate]]\n{}\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{behind}\"]\ncheck = \"off\"\n\
         proxy_protocol = {{ version = \"v2\", tlvs = [\"authority\", \"alpn\", \"unique_id\"] }}\n",
        certificate.keys()
    );
    let daemon = Daemon::start("named-haproxy", &body);
    for (version, target) in [(PLAIN, "/one"), (HTTP2, "/two")] {
        let heard = curl(&format!("https://{tls}{target}"), &forge, &version);
        let logged = daemon.wait_log(target);
        assert_eq!(heard.told, [heard.own.as_str(), NAME, logged["id"].as_str().expect("each line has one")]);
    }
}

#[test]
fn behind_haproxy_and_curl_the_client_is_whom_they_name() {
    let test = "behind_haproxy_and_curl_the_client_is_whom_they_name";
    if let Some(tool) = ["haproxy", "nginx", "curl"].into_iter().find(|tool| !has(tool)) {
        skipped(test, tool);
        return;
    }
    let (folder, forge) = (Folder::new("named-front"), Forge::new("named-front"));
    let listens = [free_address(), free_address()];
    let _nginx = nginx(&folder.0, &forge, listens);
    let site = Site { plain: free_address(), tls: free_address() };
    let fronts = [free_address(), free_address(), free_address(), free_address()];
    let mut sections = String::new();
    for (place, (front, (to, header))) in fronts
        .iter()
        .zip([
            (site.plain, "send-proxy"),
            (site.plain, "send-proxy-v2"),
            (site.tls, "send-proxy"),
            (site.tls, "send-proxy-v2"),
        ])
        .enumerate()
    {
        sections += &format!("listen l{place}\n mode tcp\n bind {front}\n server s {to} {header}\n");
    }
    let certificate = forge.issue("listener", &[NAME]);
    let keys = "pool = \"web\"\nproxy_protocol = { from = [\"127.0.0.0/8\"] }";
    let body = forge.listeners("web", site, &certificate, keys)
        + &format!(
            "[[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\nproxy_protocol = \"v2\"\n",
            listens[0]
        );
    let daemon = Daemon::start("named-front", &body);
    let _haproxy = haproxy(&folder.0, "front", &sections, fronts[0]);
    for (place, front) in fronts.into_iter().enumerate() {
        let (scheme, versions) = if place < 2 { ("http", [PLAIN, PRIOR]) } else { ("https", [PLAIN, HTTP2]) };
        for version in versions {
            let target = format!("/{place}{}", version[0]);
            let heard = curl(&format!("{scheme}://{front}{target}"), &forge, &version);
            // Not the address that HAProxy had towards us, and the address that the client had reached there.
            assert_eq!(heard.told[..2], [heard.own.clone(), front.to_string()], "{target}");
            assert_eq!(daemon.wait_log(&target)["client"], heard.own.as_str(), "{target}");
        }
    }
    // curl itself says who it is.
    for (scheme, address) in [("http", site.plain), ("https", site.tls)] {
        let target = format!("/curl-{scheme}");
        let heard = curl(&format!("{scheme}://{address}{target}"), &forge, &["--haproxy-protocol"]);
        assert_eq!(heard.told[..2], [heard.own.clone(), address.to_string()], "{target}");
    }
    // Without a word from it the connection is reset, since it comes from where headers come from.
    for (scheme, address, listener) in [("http", site.plain, "web"), ("https", site.tls, "web-tls")] {
        let heard = curl(&format!("{scheme}://{address}/unnamed"), &forge, &[]);
        assert_eq!(heard.status, "000");
        let line = daemon.wait_log_where("a refused header", |line| {
            line["listener"] == listener && line["cause"] == "client_proxy_header_invalid"
        });
        assert_eq!((&line["blame"], &line["phase"]), (&"operator".into(), &"accept".into()));
        assert!(line["detail"].as_str().is_some_and(|detail| detail.starts_with("no PROXY header")), "{line}");
        let labels = [format!("listener=\"{listener}\""), "cause=\"client_proxy_header_invalid\"".to_owned()];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert_eq!(daemon.metric("evenkeel_failures_total", &labels), 1.0);
    }
}

#[test]
fn connections_to_backends_come_from_the_sources_in_turn() {
    let test = "connections_to_backends_come_from_the_sources_in_turn";
    if let Some(tool) = ["haproxy", "curl"].into_iter().find(|tool| !has(tool)) {
        skipped(test, tool);
        return;
    }
    let (folder, forge) = (Folder::new("named-source"), Forge::new("named-source"));
    let (behind, plain) = (free_address(), free_address());
    let _haproxy = haproxy(
        &folder.0,
        "behind",
        &format!(
            "frontend f\n mode http\n bind {behind}\n http-request return status 200 content-type text/plain lf-string \"%[src]\\n\"\n"
        ),
        behind,
    );
    let body = |source: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nlisten = \"{plain}\"\npool = \"web\"\n[listener.tcp]\nkeepalive = \"60s\"\nuser_timeout = \"30s\"\n\
             [[pool]]\nname = \"web\"\nbackends = [\"{behind}\"]\ncheck = \"off\"\nidle_timeout = \"0s\"\nsource = {source}\n\
             [pool.tcp]\nkeepalive = \"45s\"\nuser_timeout = \"20s\"\n"
        )
    };
    let daemon = Daemon::start("named-source", &body("[\"127.7.7.1\", \"127.7.7.2\"]"));
    let mut seen: Vec<String> =
        (0..12).map(|_| curl(&format!("http://{plain}/"), &forge, &PLAIN).told.concat()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["127.7.7.1", "127.7.7.2"]);
    // One that this host does not have.
    daemon.reload(&body("\"192.0.2.77\""));
    let heard = curl(&format!("http://{plain}/nowhere"), &forge, &PLAIN);
    assert_eq!(heard.status, "502");
    let line = daemon.wait_log("/nowhere");
    assert_eq!(
        (&line["cause"], &line["blame"], &line["errno"]),
        (&"source_unusable".into(), &"operator".into(), &99.into())
    );
}

#[test]
fn the_kernel_watches_over_sockets_as_configured() {
    let test = "the_kernel_watches_over_sockets_as_configured";
    if !has("ss") {
        skipped(test, "ss");
        return;
    }
    let (behind, plain) = (backend(polite), free_address());
    let body = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{plain}\"\npool = \"web\"\n\
         [listener.tcp]\nkeepalive = \"600s\"\nuser_timeout = \"30s\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{behind}\"]\ncheck = \"off\"\n\
         [pool.tcp]\nkeepalive = \"1200s\"\nuser_timeout = \"20s\"\n"
    );
    let _daemon = Daemon::start("named-sockets", &body);
    let mut wire = Wire::open(plain);
    assert_eq!(wire.get("/").status, 200);
    // Both connections are kept and quiet: what is set is the timer to the next question.
    let timers = |filter: [&str; 2]| run("ss", &["-Htno", "state", "established", filter[0], filter[1]], "").out;
    let (client, pool) = (timers(["src", &plain.to_string()]), timers(["dst", &behind.to_string()]));
    assert!(pool.contains("timer:(keepalive,19min") || pool.contains("timer:(keepalive,20min"), "{pool}");
    assert!(client.contains("timer:(keepalive,9min") || client.contains("timer:(keepalive,10min"), "{client}");
}
