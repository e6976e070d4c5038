//! TCP relays: bytes both ways, half-closes, resets, silence, and backends that are not there.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::Cause;
use evenkeel_model::Instant;
use evenkeel_reactor::sim::{Backend, Dice, End, Ended, Faults, Net, Way};

use crate::book::pattern;
use crate::count;
use crate::generate::{Sizes, Temper};
use crate::world::{Operator, Patience, World, backend_address, config, listener_address};

/// What one side of a relayed connection does.
#[derive(Clone, Debug)]
pub struct Side {
    bytes: Vec<u8>,
    piece: usize,
    gap: Duration,
    then: Then,
    /// Reads nothing for so long at first.
    deaf: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Finishes,
    /// Finishes only when the other side has.
    FinishesSecond,
    Resets,
    /// Says nothing more and does not go.
    Stays,
}

struct Talker {
    side: Side,
    end: End,
    sent: usize,
    next: Instant,
    done: bool,
    received: Vec<u8>,
    over: bool,
    begun: bool,
}

impl Talker {
    fn new(end: End, side: Side) -> Self {
        Talker {
            side,
            end,
            sent: 0,
            next: Instant::START,
            done: false,
            received: Vec::new(),
            over: false,
            begun: false,
        }
    }

    fn act(&mut self, net: &Net) {
        if self.over {
            return;
        }
        let now = net.now();
        if !self.begun {
            self.begun = true;
            if !self.side.deaf.is_zero() {
                self.end.pause_reading();
                net.alarm(now + self.side.deaf);
                self.side.deaf += now.since(Instant::START);
            }
        }
        if !self.side.deaf.is_zero() && now.since(Instant::START) >= self.side.deaf {
            self.side.deaf = Duration::ZERO;
            self.end.resume_reading();
        }
        self.received.extend(self.end.take());
        if self.end.saw_reset() || matches!(self.end.connected(), Some(Err(_))) {
            self.end.close();
            self.over = true;
            return;
        }
        while self.sent < self.side.bytes.len() && self.next <= now {
            let size = self.side.piece.min(self.side.bytes.len() - self.sent);
            self.end.send(&self.side.bytes[self.sent..self.sent + size]);
            self.sent += size;
            self.next = now + self.side.gap;
            net.alarm(self.next);
        }
        let heard_all = self.end.saw_fin() && self.side.deaf.is_zero();
        if self.sent == self.side.bytes.len() && !self.done && now >= self.next {
            match self.side.then {
                Then::Finishes => self.finish(),
                Then::FinishesSecond if heard_all => self.finish(),
                Then::FinishesSecond | Then::Stays => {}
                Then::Resets => {
                    self.end.reset();
                    self.over = true;
                    return;
                }
            }
        }
        if heard_all && (self.done || self.side.then == Then::Stays) {
            self.end.close();
            self.over = true;
        }
    }

    fn finish(&mut self) {
        self.done = true;
        self.end.finish();
    }
}

struct Pair {
    client: Option<Talker>,
    start: Instant,
    first: Side,
    second: Side,
}

struct TcpServer {
    listening: Backend,
    /// Connections whose first line has not come.
    unknown: Vec<End>,
    known: Vec<(usize, Talker)>,
}

/// The first line of a client says which pair it belongs to.
fn greeting(pair: usize) -> Vec<u8> {
    format!("pair {pair:06}\n").into_bytes()
}

const GREETING: usize = 12;

struct Story {
    world: World,
    pairs: Vec<Pair>,
    servers: Vec<TcpServer>,
    headers: Headers,
}

/// Who is told by a PROXY header whom a connection is for.
#[derive(Clone, Copy, Debug)]
struct Headers {
    node: bool,
    servers: bool,
}

impl Headers {
    /// The config of a story with them.
    fn config(self, patience: Patience) -> String {
        let mut text = config(patience, &[1, 2, 3, 4], &["raw"]);
        if self.node {
            let time = if patience == Patience::Endless { "3000s" } else { "10s" };
            let keys = format!("proxy_protocol = {{ from = [\"192.0.2.0/24\"] }}\nheader_timeout = \"{time}\"\n");
            text = text.replace("protocol = \"tcp\"\n", &format!("protocol = \"tcp\"\n{keys}"));
        }
        if self.servers {
            text = text.replace("[[pool]]\nname = \"raw\"\n", "[[pool]]\nname = \"raw\"\nproxy_protocol = \"v1\"\n");
        }
        text
    }
}

/// Whom the proxy in front of the node speaks for.
fn named(pair: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], 4000 + pair as u16))
}

fn header(client: SocketAddr) -> Vec<u8> {
    let local = listener_address(82);
    format!("PROXY TCP4 {} {} {} {}\r\n", client.ip(), local.ip(), client.port(), local.port()).into_bytes()
}

fn side(dice: &mut Dice, sizes: Sizes, temper: Temper, pair: usize, salt: u64, greets: bool) -> Side {
    let most = if dice.below(6) == 0 { sizes.rare } else { sizes.body };
    let size = dice.below(most + 1) as usize;
    let mut bytes = if greets { greeting(pair) } else { Vec::new() };
    bytes.extend(pattern(pair as u64, salt, size));
    let then = match dice.below(8) {
        0 if temper == Temper::Rough => Then::Resets,
        1 if temper == Temper::Rough => Then::Stays,
        // Two that both wait for the other would wait for ever: only servers do.
        2 | 3 if !greets => Then::FinishesSecond,
        _ => Then::Finishes,
    };
    Side {
        piece: dice.pick(&[1 + size / 20, 1 + size / 3, 1_000_000]),
        gap: if dice.below(3) == 0 { Duration::from_millis(dice.below(50)) } else { Duration::ZERO },
        then,
        deaf: if dice.below(5) == 0 { Duration::from_millis(dice.below(3000)) } else { Duration::ZERO },
        bytes,
    }
}

fn tcp_address(number: u8) -> SocketAddr {
    SocketAddr::new(backend_address(number).ip(), 8081)
}

fn drawn(seed: u64, faults: Faults, patience: Patience, temper: Temper) -> Story {
    let mut dice = Dice::new(seed ^ 0x7463_7072_656c);
    let headers = Headers { node: dice.below(3) == 0, servers: dice.below(3) == 0 };
    let world = World::new(seed, faults, &headers.config(patience));
    let sizes = Sizes::for_network(&world.faults);
    let up = 2 + dice.below(3) as u8;
    let servers = (1..=up).map(|number| TcpServer {
        listening: world.net.backend_listen(tcp_address(number)),
        unknown: Vec::new(),
        known: Vec::new(),
    });
    let servers = servers.collect();
    for number in up + 1..=4 {
        let way = dice.pick(&[Way::Open, Way::Unreachable, Way::NoRoute, Way::BlackHole]);
        world.net.set_way(tcp_address(number), way);
    }
    let pairs = (0..2 + dice.below(4) as usize).map(|pair| Pair {
        client: None,
        start: Instant::START + Duration::from_millis(dice.below(200)),
        first: side(&mut dice, sizes, temper, pair, 1, true),
        second: side(&mut dice, sizes, temper, pair, 2, false),
    });
    let pairs = pairs.collect();
    Story { world, pairs, servers, headers }
}

impl Story {
    fn run(&mut self) {
        let Story { world, pairs, servers, headers } = self;
        for pair in pairs.iter() {
            world.net.alarm(pair.start);
        }
        let mut complaints = Vec::new();
        let mut act = |net: &Net, _: &mut Operator| {
            for (number, pair) in pairs.iter_mut().enumerate() {
                if pair.client.is_none() && net.now() >= pair.start {
                    let mut says = pair.first.clone();
                    if headers.node {
                        says.bytes.splice(..0, header(named(number)));
                    }
                    pair.client = Some(Talker::new(net.client_connect(listener_address(82)), says));
                }
                if let Some(client) = &mut pair.client {
                    client.act(net);
                }
            }
            for server in servers.iter_mut() {
                server.act(net, pairs, *headers, &mut complaints);
            }
        };
        let ended = world.run(&mut act, |_| false);
        assert_eq!(ended, Ended::Quiet);
        world.complaints.extend(complaints);
    }

    fn check(&mut self, temper: Temper) {
        self.world.check_rest(&["raw"]);
        let mut complaints = Vec::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            let Some(client) = &pair.client else { continue };
            let servers: Vec<&Talker> = self
                .servers
                .iter()
                .flat_map(|server| &server.known)
                .filter(|(of, _)| *of == number)
                .map(|(_, talker)| talker)
                .collect();
            let sent = &pair.second.bytes;
            if !sent.starts_with(&client.received) {
                complaints.push(format!("pair {number}: the client got bytes that its server never sent"));
            }
            if servers.len() > 1 {
                complaints.push(format!("pair {number}: the client's bytes reached {} servers", servers.len()));
            }
            for server in &servers {
                if !pair.first.bytes[GREETING..].starts_with(&server.received) {
                    complaints.push(format!("pair {number}: the server got bytes that its client never sent"));
                }
            }
            if client.end.other_side_is_open() && !client.over {
                complaints.push(format!("pair {number}: the client is still waiting"));
            }
            let mut records = self.world.records.of(client.end.local());
            records.extend(self.world.records.of(named(number)));
            if records.len() > 1 {
                complaints.push(format!("pair {number}: {} outcomes", records.len()));
            }
            for record in &records {
                if (client.received.len() as u64) > record.bytes_out {
                    complaints.push(format!("pair {number}: the client got more than the outcome counts: {record:?}"));
                }
                let clean = client.end.saw_fin() && client.received == *sent && !client.end.saw_reset();
                if record.cause.is_none() && !clean && client.over && client.side.then != Then::Resets {
                    let lossy = temper == Temper::Rough;
                    if !lossy {
                        complaints.push(format!("pair {number}: no cause, and the client did not get everything"));
                    }
                }
            }
            if temper == Temper::Kind {
                let [server] = servers[..] else {
                    complaints.push(format!("pair {number} never met its server: {records:?}"));
                    continue;
                };
                if client.received != *sent || server.received != pair.first.bytes[GREETING..] {
                    complaints.push(format!(
                        "pair {number} lost bytes: {} of {} to the client, {} of {} to the server",
                        client.received.len(),
                        sent.len(),
                        server.received.len() + GREETING,
                        pair.first.bytes.len()
                    ));
                }
                let [record] = &records[..] else { continue };
                if record.cause.is_some()
                    || record.bytes_in != pair.first.bytes.len() as u64
                    || record.bytes_out != sent.len() as u64
                {
                    complaints.push(format!("pair {number} was relayed in full, and its outcome says {record:?}"));
                }
            }
        }
        self.world.complaints.extend(complaints);
    }

    fn tell(&self) -> String {
        let mut out = format!("{:?}\n", self.headers);
        for (number, pair) in self.pairs.iter().enumerate() {
            let short = |side: &Side| {
                format!(
                    "{} bytes in {} every {:?}, then {:?}, deaf {:?}",
                    side.bytes.len(),
                    side.piece,
                    side.gap,
                    side.then,
                    side.deaf
                )
            };
            let got = pair.client.as_ref().map(|client| {
                (client.end.local(), client.received.len(), client.end.saw_fin(), client.end.saw_reset(), client.over)
            });
            out.push_str(&format!(
                "pair {number}: {}\n  {}\n  client {got:?}\n",
                short(&pair.first),
                short(&pair.second)
            ));
        }
        out
    }
}

impl TcpServer {
    fn act(&mut self, net: &Net, pairs: &[Pair], headers: Headers, complaints: &mut Vec<String>) {
        while let Some(end) = self.listening.accept() {
            self.unknown.push(end);
        }
        let known = &mut self.known;
        self.unknown.retain(|end| {
            let heard = end.received();
            let told = match heard.iter().position(|byte| *byte == b'\n') {
                _ if !headers.servers => Some(0),
                position => position.map(|position| position + 1),
            };
            let told = told.filter(|told| heard.len() >= told + GREETING);
            let Some(told) = told else {
                if end.saw_reset() || end.saw_fin() {
                    end.close();
                    return false;
                }
                return true;
            };
            let line = heard[..told].to_vec();
            let mut bytes = end.take().split_off(told);
            let rest = bytes.split_off(GREETING);
            let Some(pair) = (0..pairs.len()).find(|pair| greeting(*pair) == bytes) else {
                complaints.push(format!("a server was greeted with {bytes:?}"));
                end.close();
                return false;
            };
            let client = pairs[pair].client.as_ref().map(|client| client.end.local());
            let client = if headers.node { Some(named(pair)) } else { client };
            if headers.servers && client.map(header) != Some(line) {
                complaints.push(format!("the server of pair {pair} was told of another client"));
            }
            let mut talker = Talker::new(end.clone(), pairs[pair].second.clone());
            talker.received = rest;
            known.push((pair, talker));
            false
        });
        for (_, talker) in &mut self.known {
            talker.act(net);
        }
    }
}

#[test]
fn every_byte_gets_through_an_awkward_network_both_ways() {
    for seed in count(150) {
        let mut story = drawn(seed, Faults::awkward(seed), Patience::Endless, Temper::Kind);
        story.run();
        story.check(Temper::Kind);
        story.world.finish(&|| story.tell());
    }
}

#[test]
fn whatever_fails_a_relay_passes_prefixes_and_ends_once() {
    for seed in count(400) {
        let mut story = drawn(seed, Faults::from_seed(seed), Patience::Usual, Temper::Rough);
        story.run();
        story.check(Temper::Rough);
        story.world.finish(&|| story.tell());
    }
}

#[test]
fn nobody_to_dial_is_told_by_a_reset_at_once() {
    let mut world = World::new(1, Faults::none(), &config(Patience::Usual, &[1, 2], &["raw"]));
    let client = world.net.client_connect(listener_address(82));
    world.run(&mut |_, _| {}, |_| client.saw_reset());
    assert!(world.net.now() < Instant::START + Duration::from_millis(10), "{:?}", world.net.now());
    assert_eq!(world.records.all()[0].cause, Some(Cause::BackendConnectRefused));
    assert_eq!(world.records.all()[0].attempts.len(), 2, "both were tried");
}
