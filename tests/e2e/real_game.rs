//! Long-lived sessions as games have them, over UDP and TCP, while the balancer is reloaded and backends are drained,
//! called unhealthy, or die: who keeps what.
//!
//! The server is a lobby that greets each player with its own name and the number of words it heard from that
//! player's address and port. So a client sees when it is with another server, and when the server sees another client.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{End, Wire};
use crate::daemon::{Daemon, PATIENCE, free_address, own_ip, until};

/// A server for UDP and TCP on one port, and a port for the check.
struct Lobby {
    name: &'static str,
    address: SocketAddr,
    check: Option<TcpListener>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lobby {
    fn start(name: &'static str, ip: IpAddr, check_port: u16) -> Lobby {
        let tcp = TcpListener::bind((ip, 0)).expect("loopback has free ports");
        let address = tcp.local_addr().expect("it is bound");
        let udp = UdpSocket::bind(address).expect("nobody else uses this address");
        let check = TcpListener::bind((ip, check_port)).expect("nobody else uses this address");
        crate::backend::serve(tcp, move |stream| greet(stream, name));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        udp.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket takes a timeout");
        let thread = std::thread::spawn(move || {
            let mut heard: HashMap<SocketAddr, u32> = HashMap::new();
            let mut bytes = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((_, player)) = udp.recv_from(&mut bytes) else { continue };
                let count = heard.entry(player).or_default();
                *count += 1;
                let _ = udp.send_to(format!("{name} {count}").as_bytes(), player);
            }
        });
        Lobby { name, address, check: Some(check), stop, thread: Some(thread) }
    }

    /// Its UDP socket closes: whoever sends there is told by the kernel that nobody listens.
    fn die(&mut self) {
        self.check = None;
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a lobby does not panic");
        }
    }
}

impl Drop for Lobby {
    fn drop(&mut self) {
        self.die();
    }
}

fn greet(mut stream: TcpStream, name: &str) {
    let (mut bytes, mut count) = ([0; 2048], 0);
    while let Ok(1..) = stream.read(&mut bytes) {
        count += 1;
        if stream.write_all(format!("{name} {count}").as_bytes()).is_err() {
            return;
        }
    }
}

/// A player with one socket for the whole game.
struct Player {
    socket: UdpSocket,
}

impl Player {
    fn new(address: SocketAddr) -> Player {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        socket.connect(address).expect("an address of loopback");
        Player { socket }
    }

    /// Says a word; the answer, or `None` when none came in the time that a game would wait.
    fn try_say(&self, wait: Duration) -> Option<(String, u32)> {
        self.socket.set_read_timeout(Some(wait)).expect("a socket takes a timeout");
        self.socket.send(b"word").expect("the listener is there");
        let mut bytes = [0; 2048];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(parse(&bytes[..length]))
    }

    fn say(&self) -> (String, u32) {
        self.try_say(PATIENCE).expect("an answer")
    }
}

fn parse(bytes: &[u8]) -> (String, u32) {
    let text = String::from_utf8_lossy(bytes);
    let (name, count) = text.split_once(' ').unwrap_or_else(|| panic!("the lobby said {text:?}"));
    (name.to_owned(), count.parse().expect("a count"))
}

/// The same game over one TCP connection.
fn say(wire: &mut Wire) -> (String, u32) {
    wire.send("word");
    let (mut bytes, mut space) = (Vec::new(), [0; 64]);
    let length = wire.stream.read(&mut space).expect("the connection stands");
    assert!(length > 0, "the connection ended");
    bytes.extend_from_slice(&space[..length]);
    parse(&bytes)
}

struct Game {
    udp: SocketAddr,
    tcp: SocketAddr,
    lobbies: Vec<Lobby>,
    check_port: u16,
}

impl Game {
    fn set_up() -> Game {
        let ips: Vec<IpAddr> = (0..2).map(|_| own_ip().into()).collect();
        let check_port = TcpListener::bind((ips[0], 0)).and_then(|free| free.local_addr()).expect("a free port").port();
        let lobbies = ["north", "south"].into_iter().zip(ips);
        let lobbies = lobbies.map(|(name, ip)| Lobby::start(name, ip, check_port)).collect();
        Game { udp: free_address(), tcp: free_address(), lobbies, check_port }
    }

    /// `weights` are those of the lobbies; `pool` is what else the pool says.
    fn config(&self, weights: [u32; 2], pool: &str) -> String {
        let backends: Vec<String> = self
            .lobbies
            .iter()
            .zip(weights)
            .map(|(lobby, weight)| format!("{{ address = \"{}\", weight = {weight} }}", lobby.address))
            .collect();
        format!(
            "[[listener]]\nname = \"udp\"\nlisten = \"{}\"\nprotocol = \"udp\"\npool = \"game\"\n\
             [[listener]]\nname = \"tcp\"\nlisten = \"{}\"\nprotocol = \"tcp\"\npool = \"game\"\n\
             [[pool]]\nname = \"game\"\nschedule = \"rr\"\nbackends = [{}]\n{pool}\n\
             check = {{ kind = \"tcp\", port = {}, interval = \"100ms\", timeout = \"2s\", unhealthy_threshold = 2 }}\n",
            self.udp,
            self.tcp,
            backends.join(", "),
            self.check_port
        )
    }

    fn start(&self, name: &str, pool: &str) -> Daemon {
        let daemon = Daemon::start(name, &self.config([100, 100], pool));
        for lobby in &self.lobbies {
            daemon.wait_verdict("game", &lobby.address.to_string(), "healthy");
        }
        daemon
    }

    fn lobby(&mut self, name: &str) -> &mut Lobby {
        self.lobbies.iter_mut().find(|lobby| lobby.name == name).expect("a lobby of the game")
    }

    fn other(&self, name: &str) -> &'static str {
        self.lobbies.iter().map(|lobby| lobby.name).find(|other| *other != name).expect("there are two")
    }

    /// Weights that drain this lobby.
    fn without(&self, name: &str) -> [u32; 2] {
        [0, 1].map(|at| if self.lobbies[at].name == name { 0 } else { 100 })
    }
}

#[test]
fn sessions_outlive_reloads_and_a_drain_and_new_ones_go_elsewhere() {
    let game = Game::set_up();
    let daemon = game.start("game-drain", "");
    let (player, mut wire) = (Player::new(game.udp), Wire::open(game.tcp));
    let ((over_udp, _), (over_tcp, _)) = (player.say(), say(&mut wire));

    // A reload that changes the pool, and one that changes nothing: the same server sees the same client.
    let more = "connect_timeout = \"3s\"";
    for (round, pool) in [more, more, ""].into_iter().enumerate() {
        assert!(daemon.reload(&game.config([100, 100], pool)).contains(" node.reloaded "));
        let count = u32::try_from(round).expect("a few") + 2;
        assert_eq!(player.say(), (over_udp.clone(), count));
        assert_eq!(say(&mut wire), (over_tcp.clone(), count));
    }

    // Each one's server is drained: it keeps them, and gets nobody new.
    for drained in [over_udp.as_str(), over_tcp.as_str()] {
        assert!(daemon.reload(&game.config(game.without(drained), "")).contains(" node.reloaded "));
        for _ in 0..4 {
            assert_eq!(Player::new(game.udp).say(), (game.other(drained).to_owned(), 1));
            assert_eq!(say(&mut Wire::open(game.tcp)), (game.other(drained).to_owned(), 1));
        }
        assert_eq!(player.say().0, over_udp);
        assert_eq!(say(&mut wire).0, over_tcp);
    }
    assert_eq!((player.say().1, say(&mut wire).1), (7, 7), "not one word was lost");
}

#[test]
fn an_unhealthy_verdict_moves_udp_sessions_without_a_loss_and_leaves_tcp_connections() {
    let mut game = Game::set_up();
    let daemon = game.start("game-verdict", "");
    let (player, mut wire) = (Player::new(game.udp), Wire::open(game.tcp));
    let ((over_udp, _), (over_tcp, _)) = (player.say(), say(&mut wire));
    for failed in [over_udp.clone(), over_tcp.clone()] {
        // The check fails; the service itself goes on, so whoever stays is still served.
        let lobby = game.lobby(&failed);
        let (address, place) = (lobby.address.to_string(), lobby.check.take());
        drop(place);
        daemon.wait_verdict("game", &address, "unhealthy");
        if over_udp == over_tcp {
            break;
        }
        if failed == over_udp {
            assert_eq!(player.say().0, game.other(&failed), "moved with the first word after the verdict");
            let port = game.check_port;
            let lobby = game.lobby(&failed);
            lobby.check = Some(TcpListener::bind((lobby.address.ip(), port)).expect("it was ours before"));
            daemon.wait_verdict("game", &address, "healthy");
            assert_eq!(player.say().0, game.other(&failed), "it does not move back");
        }
    }
    assert_ne!(player.say().0, over_tcp, "its server is unhealthy now");
    assert_eq!(say(&mut wire), (over_tcp, 2), "`on_unhealthy` keeps connections unless told otherwise");
}

#[test]
fn on_unhealthy_reset_ends_sessions_and_connections_with_a_cause() {
    let mut game = Game::set_up();
    let daemon = game.start("game-reset", "on_unhealthy = \"reset\"");
    let (player, mut wire) = (Player::new(game.udp), Wire::open(game.tcp));
    let ((over_udp, _), (over_tcp, _)) = (player.say(), say(&mut wire));
    for failed in [&over_tcp, &over_udp] {
        game.lobby(failed).check = None;
    }
    assert_eq!(wire.rest().1, End::Reset);
    let line = daemon.wait_log_where("the connection", |line| line["listener"] == "tcp");
    assert_eq!(line["cause"], "backend_turned_unhealthy", "{line}");
    let line = daemon.wait_log_where("the session", |line| line["listener"] == "udp");
    assert_eq!(line["cause"], "backend_turned_unhealthy", "{line}");
    for listener in ["tcp", "udp"] {
        let labels = [&format!("listener=\"{listener}\""), "cause=\"backend_turned_unhealthy\""];
        assert_eq!(daemon.metric("evenkeel_failures_total", &labels.map(AsRef::as_ref)), 1.0, "{listener}");
    }
}

#[test]
fn a_dead_server_costs_its_udp_players_a_word_or_two() {
    let mut game = Game::set_up();
    let daemon = game.start("game-death", "");
    let players: Vec<Player> = (0..8).map(|_| Player::new(game.udp)).collect();
    let with: Vec<String> = players.iter().map(|player| player.say().0).collect();
    assert!(["north", "south"].iter().all(|name| with.iter().any(|other| other == name)), "{with:?}");
    let (address, orphans) =
        (game.lobby("north").address.to_string(), with.iter().filter(|name| *name == "north").count());
    game.lobby("north").die();

    // Each keeps talking, as games do, without waiting for a verdict.
    for (player, before) in players.iter().zip(&with) {
        let mut lost = 0;
        let (server, count) = until("an answer", || {
            let answer = player.try_say(Duration::from_millis(200));
            lost += u32::from(answer.is_none());
            answer
        });
        assert_eq!(server, "south");
        if before == "south" {
            assert_eq!((lost, count), (0, 2), "somebody else's server is no reason to lose a word");
        } else {
            assert!(lost <= 2, "{lost} words of one player were lost");
        }
    }
    let refused = |line: &serde_json::Value| line["cause"] == "backend_connect_refused";
    until("a line for each that was cut off", || {
        (daemon.log().iter().filter(|line| refused(line)).count() >= 1).then_some(())
    });
    let lines: Vec<_> = daemon.log().into_iter().filter(|line| line["listener"] == "udp").collect();
    assert!(lines.len() <= orphans && lines.iter().all(refused), "{lines:#?}");
    assert!(lines.iter().all(|line| line["backend"] == address), "{lines:#?}");
    let counted = daemon.metric("evenkeel_failures_total", &["listener=\"udp\"", "cause=\"backend_connect_refused\""]);
    assert_eq!(counted, lines.len() as f64);
}
