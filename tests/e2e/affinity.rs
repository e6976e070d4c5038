//! Stickiness by client address, below HTTP: a pool behind a tcp and a udp listener, on two workers.
//!
//! Which worker gets a connection is the kernel's choice, so what a client meets in a row of new connections and sessions shows
//! that all workers know where it belongs. The schedule is `rr`, by which no client would stay anywhere.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use crate::backend::serve;
use crate::daemon::{Daemon, PATIENCE, free_address, own_ip};

/// A server that says its address over TCP and UDP. Its threads end with the process.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((own_ip(), 0)).expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    serve(listener, move |mut stream| {
        let _ = stream.write_all(address.to_string().as_bytes());
    });
    let socket = UdpSocket::bind(address).expect("the address is nobody else's");
    std::thread::spawn(move || {
        let mut space = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut space) {
            let _ = socket.send_to(address.to_string().as_bytes(), from);
        }
    });
    address
}

struct Site {
    tcp: SocketAddr,
    udp: SocketAddr,
}

impl Site {
    fn config(&self, backends: &[(SocketAddr, u32)]) -> String {
        let listener = |protocol: &str, listen| {
            format!(
                "[[listener]]\nname = \"{protocol}\"\nlisten = \"{listen}\"\nprotocol = \"{protocol}\"\npool = \"game\"\n"
            )
        };
        let backend =
            |(address, weight): &(SocketAddr, u32)| format!("{{ address = \"{address}\", weight = {weight} }}");
        let backends: Vec<String> = backends.iter().map(backend).collect();
        listener("tcp", self.tcp)
            + &listener("udp", self.udp)
            + &format!(
                "[[pool]]\nname = \"game\"\nschedule = \"rr\"\nbackends = [{}]\ncheck = \"off\"\n\
                 [pool.sticky]\nmode = \"address\"\ntimeout = \"10m\"\n",
                backends.join(", ")
            )
    }

    /// Whom a new connection from 127.0.0.1 meets.
    fn connect(&self) -> SocketAddr {
        let mut stream = TcpStream::connect(self.tcp).expect("the listener is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        let mut name = String::new();
        stream.read_to_string(&mut name).expect("a server says its name");
        name.parse().expect("an address")
    }

    /// Whom a new session from an address meets.
    fn ask(&self, from: Ipv4Addr) -> SocketAddr {
        let socket = UdpSocket::bind((from, 0)).expect("all of 127.0.0.0/8 is ours");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        socket.send_to(b"who", self.udp).expect("loopback takes datagrams");
        let mut space = [0; 64];
        let (count, answerer) = socket.recv_from(&mut space).expect("a server says its name");
        assert_eq!(answerer, self.udp, "answers come from where was asked");
        String::from_utf8_lossy(&space[..count]).parse().expect("an address")
    }
}

#[test]
fn a_client_stays_by_its_address_over_workers_listeners_and_reloads() {
    let servers = [server(), server(), server()];
    let whole = servers.map(|server| (server, 100));
    let site = Site { tcp: free_address(), udp: free_address() };
    let daemon = Daemon::start("affinity", &site.config(&whole));
    assert_eq!(daemon.status()["pools"][0]["sticky"], "address");
    let here = Ipv4Addr::LOCALHOST;

    let home = site.connect();
    for _ in 0..10 {
        assert_eq!((site.connect(), site.ask(here)), (home, home));
    }
    // Others go by turns, and stay as well.
    let others: Vec<Ipv4Addr> = (2..20).map(|host| Ipv4Addr::new(127, 0, 0, host)).collect();
    let homes: Vec<SocketAddr> = others.iter().map(|other| site.ask(*other)).collect();
    assert_eq!(homes.iter().collect::<BTreeSet<_>>().len(), 3, "{homes:?}");
    for _ in 0..3 {
        assert_eq!(others.iter().map(|other| site.ask(*other)).collect::<Vec<_>>(), homes);
    }

    // Without weight it keeps whom it has and gets nobody new.
    let light = whole.map(|(server, weight)| (server, if server == home { 0 } else { weight }));
    assert!(daemon.reload(&site.config(&light)).contains("node.reloaded"));
    for _ in 0..5 {
        assert_eq!((site.connect(), site.ask(here)), (home, home));
    }
    assert!((20..30).all(|host| site.ask(Ipv4Addr::new(127, 0, 0, host)) != home));

    // Gone, it loses them; and they have a new home when it is back.
    let rest: Vec<(SocketAddr, u32)> = whole.into_iter().filter(|(server, _)| *server != home).collect();
    assert!(daemon.reload(&site.config(&rest)).contains("node.reloaded"));
    let second = site.connect();
    assert_ne!(second, home);
    assert!(daemon.reload(&site.config(&whole)).contains("node.reloaded"));
    for _ in 0..10 {
        assert_eq!(site.connect(), second);
    }
    assert_eq!(site.ask(here), second);
}
