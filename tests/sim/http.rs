//! HTTP under an awkward network, under one that fails, and with a strike at every packet.

use std::rc::Rc;
use std::time::Duration;

use evenkeel_model::Instant;
use evenkeel_reactor::sim::{Chance, Dice, Ended, Faults, Net, Segments, Strike, Way};

use crate::backend::{HttpServer, Understands};
use crate::book::Shared;
use crate::check::check_http;
use crate::client::{Caller, Client, Speech};
use crate::count;
use crate::generate::{Generator, Sizes, Temper};
use crate::world::{DEADLINES, Operator, Patience, World, backend_address, config, listener_address};

pub struct Story {
    pub world: World,
    pub book: Shared,
    pub clients: Vec<Client>,
    /// The HTTP/2 connections that some of the clients share.
    pub callers: Vec<Rc<Caller>>,
    pub servers: Vec<HttpServer>,
    last_id: u64,
}

impl Story {
    pub fn new(world: World, servers: &[u8]) -> Story {
        Story::with(world, servers, &Understands::default())
    }

    pub fn with(world: World, servers: &[u8], understands: &Understands) -> Story {
        let book = Shared::default();
        let server = |number: &u8| HttpServer::new(&world.net, backend_address(*number), understands, &book);
        let servers = servers.iter().map(server).collect();
        Story { world, book, clients: Vec::new(), callers: Vec::new(), servers, last_id: 0 }
    }

    /// Adds clients as the dice say.
    pub fn draw(&mut self, dice: &mut Dice, temper: Temper, ports: &[u16]) {
        let sizes = Sizes::for_network(&self.world.faults);
        let mut generator = Generator { dice, book: &self.book, temper, sizes, next_id: 0, for_stream: false };
        let count = 2 + generator.dice.below(4);
        for _ in 0..count {
            let script = generator.script();
            let port = generator.dice.pick(ports);
            self.clients.push(Client::new(&self.book, listener_address(port), Speech::Plain, script));
        }
    }

    /// Adds one who speaks `speech` at this port.
    pub fn draw_client(&mut self, dice: &mut Dice, temper: Temper, port: u16, speech: Speech) {
        let sizes = Sizes::for_network(&self.world.faults);
        let for_stream = matches!(speech, Speech::Stream(_));
        let mut generator = Generator { dice, book: &self.book, temper, sizes, next_id: self.last_id, for_stream };
        let script = generator.script();
        self.last_id = generator.next_id;
        self.clients.push(Client::new(&self.book, listener_address(port), speech, script));
    }

    pub fn run(&mut self) {
        self.run_with(&mut |_, _| {});
    }

    /// Until all is at rest, with an operator who acts first at each happening.
    pub fn run_with(&mut self, operate: &mut dyn FnMut(&Net, &mut Operator)) {
        let Story { world, clients, callers, servers, book, .. } = self;
        let mut act = |net: &Net, operator: &mut Operator| {
            operate(net, operator);
            for server in servers.iter_mut() {
                server.act(net);
            }
            for caller in callers.iter() {
                caller.act(net, book);
            }
            for client in clients.iter_mut() {
                client.act(net);
            }
        };
        let ended = world.run(&mut act, |_| false);
        assert_eq!(ended, Ended::Quiet);
    }

    pub fn check(&mut self, temper: Temper) {
        let listeners = ["web", "side", "raw", "secure", "told", "told-secure"];
        self.world.check_rest(&listeners);
        let Story { world, book, clients, .. } = self;
        check_http(world, &book.borrow(), clients, temper);
        // A client whose connection fell into a black hole waits for ever; one that the node still holds must not.
        let held = |client: &&Client| client.voice.as_ref().is_some_and(|voice| !client.over && voice.is_held());
        let waits = |client: &&Client| temper == Temper::Kind && !client.over;
        for client in clients.iter().filter(|client| held(client) || waits(client)) {
            world.complaints.push(format!("client {:?} is still waiting: {:?}", client.address, client.script));
        }
    }

    pub fn tell(&self) -> String {
        let mut out = String::new();
        for client in &self.clients {
            out.push_str(&format!(
                "client {:?} {} {:?}\n  got {} answers, {} bytes; fin {} reset {} left {} refused {}\n",
                client.address,
                client.speech.word(),
                client.script,
                client.views.len(),
                client.received,
                client.saw_fin,
                client.saw_reset,
                client.left,
                client.refused
            ));
            for view in &client.views {
                out.push_str(&format!("  {} whole {} {:?}\n", view.id, view.whole, view.message.head));
            }
        }
        let book = self.book.borrow();
        for (id, request) in &book.requests {
            out.push_str(&format!(
                "request {id}: {} http10 {} {:?} body {} expects {} -> {}\n  seen {:?}\n",
                request.method,
                request.http10,
                request.form,
                request.body.len(),
                request.expects,
                crate::backend::text(format!("{:?}", request.reply).as_bytes()),
                book.seen(*id)
            ));
        }
        out
    }
}

fn drawn(seed: u64, faults: Faults, patience: Patience, temper: Temper) -> Story {
    let mut dice = Dice::new(seed ^ 0x7374_6f72_7921);
    let up = 2 + dice.below(3) as u8;
    let world = World::new(seed, faults, &config(patience, &[1, 2, 3, 4], &["web", "side"]));
    let numbers: Vec<u8> = (1..=up).collect();
    let mut story = Story::new(world, &numbers);
    // The others refuse, or are unreachable, or lost.
    for number in up + 1..=4 {
        let way = dice.pick(&[Way::Open, Way::Unreachable, Way::NoRoute, Way::BlackHole]);
        story.world.net.set_way(backend_address(number), way);
    }
    story.draw(&mut dice, temper, &[80, 81]);
    story
}

#[test]
fn well_behaved_peers_get_exactly_their_answers_over_an_awkward_network() {
    for seed in count(300) {
        let mut story = drawn(seed, Faults::awkward(seed), Patience::Endless, Temper::Kind);
        story.run();
        story.check(Temper::Kind);
        story.world.finish(&|| story.tell());
    }
}

#[test]
fn rough_peers_on_an_awkward_network_leave_nothing_behind() {
    for seed in count(500) {
        let mut story = drawn(seed, Faults::awkward(seed), Patience::Usual, Temper::Rough);
        story.run();
        story.check(Temper::Rough);
        story.world.finish(&|| story.tell());
    }
}

#[test]
fn whatever_fails_each_request_has_one_outcome_and_no_byte_is_anothers() {
    for seed in count(700) {
        let mut story = drawn(seed, Faults::from_seed(seed), Patience::Usual, Temper::Rough);
        story.run();
        story.check(Temper::Rough);
        story.world.finish(&|| story.tell());
    }
}

#[test]
fn a_strike_at_any_packet_hurts_one_client_at_most() {
    for seed in count(4) {
        for strike in [Strike::Reset, Strike::BlackHole] {
            let mut struck = 0;
            for point in 0.. {
                let faults = Faults {
                    segments: Segments::Whole,
                    send_buffer: 500,
                    receive_window: 500,
                    ..Faults::awkward(seed)
                };
                let faults = Faults { strike: Some((point, strike)), ..faults };
                let mut story = drawn(seed, faults, Patience::Usual, Temper::Kind);
                story.run();
                if story.world.net.packets() <= point {
                    break;
                }
                struck += 1;
                // What the strike hit is not kind any more; the rest has to be.
                story.check(Temper::Rough);
                let hurt = story.clients.iter().filter(|client| {
                    let wanted = client.script.requests.len();
                    let closed = client
                        .views
                        .last()
                        .is_some_and(|view| view.whole && view.message.head.has("connection", "close"));
                    let failed = client.views.iter().any(|view| {
                        view.message.head.field("proxy-status").is_some_and(|value| value.contains("details="))
                    });
                    failed || !(closed || client.views.len() == wanted) || client.views.iter().any(|view| !view.whole)
                });
                let hurt = hurt.count();
                if hurt > 1 {
                    story.world.complain(format!("{strike:?} at {point} hurt {hurt} clients"));
                }
                story.world.finish(&|| story.tell());
            }
            assert!(struck > 5, "SIM_SEED={seed}: only {struck} points");
        }
    }
}

#[test]
fn nobody_lives_longer_than_all_deadlines_together() {
    for seed in count(200) {
        // Buffers that keep the messages small: peers that drip a byte each few milliseconds shall end soon.
        let lossy =
            Faults { black_hole: Chance::per_mille(20), send_buffer: 1000, receive_window: 1000, ..Faults::none() };
        let mut story = drawn(seed, lossy, Patience::Usual, Temper::Rough);
        story.run();
        story.check(Temper::Rough);
        // Peers act for some seconds; a connection carries up to four exchanges.
        let latest = Instant::START + Duration::from_secs(30) + DEADLINES * 4;
        if story.world.net.now() > latest {
            let now = story.world.net.now();
            story.world.complain(format!("rest came at {now:?}, later than {latest:?}"));
        }
        story.world.finish(&|| story.tell());
    }
}
