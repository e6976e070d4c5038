//! Sessions that last: what a mail client, a game or a database connection goes through in the life of a node.
//!
//! One connection, talked over all the time, while the config is changed under it, its backend leaves the pool, its check
//! fails, and the node is told to stop.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::backend::backend;
use crate::client::{End, Wire};
use crate::daemon::{Daemon, Setup, free_address, until};
use crate::hello::hello;

/// Says whose server it is, then gives back what it gets.
fn named(name: &'static str) -> SocketAddr {
    backend(move |mut stream| greet_and_echo(name, &mut stream))
}

fn greet_and_echo(name: &str, stream: &mut std::net::TcpStream) {
    use std::io::{Read, Write};
    let _ = stream.write_all(name.as_bytes());
    let mut space = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut space) {
        if stream.write_all(&space[..count]).is_err() {
            return;
        }
    }
}

fn talk(wire: &mut Wire, word: &str) {
    wire.send(word);
    assert_eq!(wire.exactly(word.len()), word.as_bytes());
}

#[test]
fn a_session_lives_through_reloads_a_failing_backend_and_the_drain_of_its_node() {
    let address = free_address();
    let check = std::net::TcpListener::bind((crate::daemon::own_ip(), 0)).expect("loopback has free ports");
    let check_address = check.local_addr().expect("it is bound");
    let first = std::net::TcpListener::bind((check_address.ip(), 0)).expect("loopback has free ports");
    let first_address = first.local_addr().expect("it is bound");
    crate::backend::serve(first, |mut stream| greet_and_echo("one", &mut stream));
    let second = named("two");
    let config = |backends: &str, listener: &str| {
        format!(
            "[[listener]]\nname = \"tcp\"\nlisten = \"{address}\"\nprotocol = \"tcp\"\npool = \"tcp\"\n{listener}\n\
             [[pool]]\nname = \"tcp\"\nbackends = [{backends}]\n\
             check = {{ kind = \"tcp\", port = {}, interval = \"100ms\", timeout = \"2s\", unhealthy_threshold = 2 }}\n",
            check_address.port()
        )
    };
    let with_first = format!("\"{first_address}\"");
    let body = config(&with_first, "");
    let node = "drain_timeout = \"3s\"";
    let mut daemon = Daemon::start_with(&Setup { name: "session", node, body: &body, namespace: None });
    daemon.wait_verdict("tcp", &with_first.replace('"', ""), "healthy");
    let mut wire = Wire::open(address);
    assert_eq!(wire.exactly(3), b"one");

    // Its listener changes, and changes back.
    assert!(daemon.reload(&config(&with_first, "idle_timeout = \"100s\"")).contains("node.reloaded"));
    talk(&mut wire, "after a reload");

    // Its backend fails its check.
    drop(check);
    daemon.wait_verdict("tcp", &with_first.replace('"', ""), "unhealthy");
    talk(&mut wire, "while its backend is out");
    let refused = Wire::try_open(address).map_or(End::Reset, |mut other| other.rest().1);
    assert_eq!(refused, End::Reset, "new sessions are refused");

    // Its backend leaves the pool for another.
    let both = config(&format!("\"{second}\""), "").replace("[[pool]]\nname = \"tcp\"", "[[pool]]\nname = \"tcp\"\n#");
    let both = both[..both.find("check = {").expect("a check")].to_owned() + "check = \"off\"\n";
    assert!(daemon.reload(&both).contains("node.reloaded"));
    talk(&mut wire, "when its backend is gone from the config");
    let mut other = Wire::open(address);
    assert_eq!(other.exactly(3), b"two", "new sessions go to the new one");
    drop(other);

    // The node is told to stop: it listens no more, and the session has its time.
    daemon.signal(Signal::TERM);
    until("the node to stop listening", || Wire::try_open(address).is_err().then_some(()));
    talk(&mut wire, "while the node drains");
    assert_eq!(wire.rest(), (Vec::new(), End::Reset), "until the deadline");
    let line = daemon.wait_log_where("the session", |line| line["cause"] == "balancer_draining");
    assert_eq!(line["backend"], first_address.to_string(), "{line}");
    assert!(line["duration_ms"].as_f64().is_some_and(|duration| duration >= 3000.0), "{line}");
    assert!(daemon.wait_exit().success());
}

#[test]
fn a_session_that_ends_by_itself_lets_a_draining_node_go_at_once() {
    let (address, server) = (free_address(), named("one"));
    let body = format!(
        "[[listener]]\nname = \"tcp\"\nlisten = \"{address}\"\nprotocol = \"tcp\"\npool = \"tcp\"\n\
         [[pool]]\nname = \"tcp\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n"
    );
    // A day: only the session's own end can end it within the test's patience.
    let node = "drain_timeout = \"24h\"";
    let mut daemon = Daemon::start_with(&Setup { name: "session-end", node, body: &body, namespace: None });
    let mut wire = Wire::open(address);
    assert_eq!(wire.exactly(3), b"one");
    daemon.signal(Signal::TERM);
    until("the node to stop listening", || Wire::try_open(address).is_err().then_some(()));
    talk(&mut wire, "while the node drains");
    drop(wire);
    assert!(daemon.wait_exit().success());
}

#[test]
fn tls_goes_by_name_to_its_servers_untouched_and_they_learn_of_the_client() {
    let (address, one, two) = (free_address(), named("one"), named("two"));
    let body = format!(
        "[[listener]]\nname = \"tls\"\nlisten = \"{address}\"\nprotocol = \"tls-passthrough\"\n\
         [[listener.rule]]\nhost = \"a.example\"\npool = \"one\"\n\
         [[listener.rule]]\nhost = \"*.b.example\"\npool = \"two\"\n\
         [[pool]]\nname = \"one\"\nbackends = [\"{one}\"]\ncheck = \"off\"\n\
         [[pool]]\nname = \"two\"\nbackends = [\"{two}\"]\ncheck = \"off\"\nproxy_protocol = \"v1\"\n"
    );
    let daemon = Daemon::start("passthrough", &body);
    for (name, server) in [("A.example", "one"), ("x.b.example", "two")] {
        let sent = hello(name, &["h2", "http/1.1"]);
        let mut wire = Wire::open(address);
        // In pieces: a hello need not come in one packet.
        let (front, back) = sent.split_at(20);
        wire.send(front);
        wire.send(back);
        let client = wire.stream.local_addr().expect("connected");
        let header = match server {
            "two" => format!("PROXY TCP4 {} {} {} {}\r\n", client.ip(), address.ip(), client.port(), address.port()),
            _ => String::new(),
        };
        let expected = [server.as_bytes(), header.as_bytes(), &sent].concat();
        assert_eq!(wire.exactly(expected.len()), expected, "{name}");
        talk(&mut wire, "more");
        drop(wire);
        let line = daemon.wait_log_where(name, |line| line["sni"] == name.to_ascii_lowercase());
        assert!(line["cause"].is_null(), "{line}");
        assert_eq!(line["bytes_in"], sent.len() + 4, "{line}");
    }
}
