//! What a driver promises, as scripts that both drivers must answer alike.
//!
//! The expected lines were not invented: they are what Linux says. A script that fails on the real driver
//! means the promise is wrong, one that fails on the simulated driver that the simulation is.

use std::io::IoSlice;

use evenkeel_reactor::sim::{Chance, Faults, Segments, seeds};
use evenkeel_reactor::{Close, Dial, Driver, Event, Handshake, Recv, Send, Sock, Source, Token, WOKEN};

use crate::worlds::{Far, RealWorld, SimWorld, World};

const T: Token = Token(7);

/// Makes a test of a script: run it in both worlds, compare with what is expected.
macro_rules! on_both {
    ($($name:ident: $expected:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let expected: &[&str] = &$expected;
                assert_eq!(script::$name(&mut RealWorld::new()), expected, "the real driver");
                assert_eq!(script::$name(&mut SimWorld::new(0, Faults::none())), expected, "the simulated driver");
                for seed in seeds(20) {
                    // Segments and events stay whole, because scripts count the bytes of one read.
                    let faults = Faults {
                        segments: Segments::Whole,
                        send_buffer: 4096,
                        receive_window: 4096,
                        split_events: Chance::NEVER,
                        datagram_full: Chance::NEVER,
                        ..Faults::awkward(seed)
                    };
                    let seen = script::$name(&mut SimWorld::new(seed, faults));
                    assert_eq!(seen, expected, "the simulated driver, SIM_SEED={seed}");
                }
            }
        )*
    };
}
pub(crate) use on_both;

on_both! {
    watch_reports_what_is_there_already: [
        "accepted another: false", "before watch: []", "readable writable", "Bytes(5)", "Dry", "then: []",
    ];
    an_edge_is_told_once_even_if_nobody_reads: [
        "readable writable", "Bytes(1)", "then: []", "Bytes(2)", "Dry", "readable writable", "Bytes(2)",
    ];
    a_listener_tells_of_new_connections_once: [
        "readable", "then: []", "accepted: true", "then: []", "readable", "accepted: true", "accepted: true", "accepted: false",
    ];
    addresses_are_those_of_the_connection: ["from the far side: true", "at the listener: true"];
    peek_takes_nothing: [
        "Dry", "Bytes(1)", "Bytes(1)", "Bytes(3)", "Dry", "readable writable hangup", "End", "End", "End",
    ];
    the_far_side_can_stop_sending_and_go_on_reading: [
        "readable writable hangup", "Bytes(4)", "End", "Taken(6)", "far read answer", "writable after finish: true", "far end: 0 bytes, fin",
    ];
    finish_stops_our_sending_only: [
        "far end: 3 bytes, fin", "readable writable", "Bytes(4)", "Failed(Errno(32))", "readable writable hangup", "End",
    ];
    bytes_that_wait_survive_a_reset_which_is_then_told_once: [
        "readable writable hangup", "Bytes(5)", "Failed(Errno(104))", "End", "Failed(Errno(32))",
    ];
    a_reset_is_told_to_whoever_asks_first: [
        "readable writable hangup", "Failed(Errno(104))", "Failed(Errno(32))", "End",
    ];
    peek_tells_of_a_reset_and_takes_it: ["Failed(Errno(104))", "End"];
    a_reset_after_the_end_shows_only_in_send: [
        "readable writable hangup", "readable writable hangup", "End", "Failed(Errno(32))", "Failed(Errno(32))",
    ];
    writing_to_a_closed_far_side_brings_a_reset: [
        "readable writable hangup", "End", "Taken(1)", "readable writable hangup", "Failed(Errno(32))", "End",
    ];
    an_orderly_close_delivers_and_then_ends: ["Taken(5)", "far end: 5 bytes, fin"];
    closing_with_unread_bytes_resets: ["far end: 0 bytes, reset"];
    a_reset_close_resets: ["far end: 0 bytes, reset"];
    a_full_socket_takes_nothing_and_tells_when_there_is_room: [
        "full: true", "then: []", "far read it all: true", "writable", "Taken(1)",
    ];
    a_full_socket_that_is_finished_is_writable_to_say_so: ["then: []", "writable", "Failed(Errno(32))"];
    slices_are_sent_as_one: ["Taken(6)", "far read abcdef"];
    a_dialled_connection_is_writable_when_it_is_there: [
        "writable", "Some(Ok(()))", "Some(Ok(()))", "far accepted: true", "Taken(2)", "far read hi",
    ];
    a_refused_dial_fails_and_says_why: [
        "readable writable hangup", "Some(Err(Errno(111)))", "End", "Failed(Errno(32))",
    ];
    a_refused_dial_says_why_to_a_reader_too: ["readable writable hangup", "Failed(Errno(111))", "End"];
    a_half_open_dial_is_never_seen_by_the_application: ["writable", "Some(Ok(()))", "far accepted: false"];
    a_full_dial_is_seen_by_the_application: [
        "writable", "Some(Ok(()))", "far accepted: true", "far end: 0 bytes, reset",
    ];
    a_half_open_dial_that_sends_is_a_connection: ["Taken(2)", "far accepted: true", "far read hi"];
    a_closed_listener_resets_those_who_wait: ["far end: 0 bytes, reset"];
    a_connection_that_was_reset_while_it_waited_is_accepted_dead: [
        "accepted: true", "readable writable hangup", "Failed(Errno(104))", "End",
    ];
    a_closed_socket_tells_nothing: ["then: []"];
    a_wakeup_is_reported_once: ["woken: true", "woken: false"];
    a_refused_datagram_comes_back_as_an_error: [
        "Taken(4)", "readable writable hangup", "Failed(Errno(111))", "Dry", "Taken(4)", "Failed(Errno(111))", "Taken(4)",
    ];
    datagrams_keep_their_borders: [
        "Taken(3)", "then: []", "far got ask", "readable", "Bytes(1)", "Bytes(2)", "Bytes(3)", "Dry",
    ];
    two_wakes_before_a_poll_are_one: ["woken: true", "woken: false"];
}

mod script {
    use super::*;

    type Seen = Vec<String>;

    pub fn watch_reports_what_is_there_already<W: World>(world: &mut W) -> Seen {
        let (listener, at) = world.listen(Token(1));
        let mut far = world.far_connect(at);
        far.send(b"hello");
        world.wait(Token(1), |event| event.readable);
        let sock = accept(world, listener).expect("one waits");
        let another = accept(world, listener).is_some();
        let before = told(world);
        world.driver().watch(sock, T).expect("nothing is short");
        let event = world.wait(T, |event| event.readable);
        vec![
            format!("accepted another: {another}"),
            format!("before watch: {before}"),
            words(event),
            recv(world, sock, 100),
            recv(world, sock, 100),
            format!("then: {}", told(world)),
        ]
    }

    pub fn an_edge_is_told_once_even_if_nobody_reads<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        far.send(b"abc");
        let mut seen = vec![words(world.wait(T, |event| event.readable)), recv(world, sock, 1)];
        seen.push(format!("then: {}", told(world)));
        seen.push(recv(world, sock, 100));
        seen.push(recv(world, sock, 100));
        far.send(b"de");
        seen.push(words(world.wait(T, |event| event.readable)));
        seen.push(recv(world, sock, 100));
        seen
    }

    pub fn a_listener_tells_of_new_connections_once<W: World>(world: &mut W) -> Seen {
        let (listener, at) = world.listen(T);
        let _first = world.far_connect(at);
        let _second = world.far_connect(at);
        let mut seen = vec![words(world.wait(T, |event| event.readable)), format!("then: {}", told(world))];
        seen.push(format!("accepted: {}", accept(world, listener).is_some()));
        seen.push(format!("then: {}", told(world)));
        let _third = world.far_connect(at);
        seen.push(words(world.wait(T, |event| event.readable)));
        for _ in 0..3 {
            seen.push(format!("accepted: {}", accept(world, listener).is_some()));
        }
        seen
    }

    pub fn addresses_are_those_of_the_connection<W: World>(world: &mut W) -> Seen {
        let (listener, at) = world.listen(T);
        let far = world.far_connect(at);
        world.wait(T, |event| event.readable);
        let (sock, from) = world.driver().accept(listener).expect("nothing is short").expect("one waits");
        vec![
            format!("from the far side: {}", from == far.local()),
            format!("at the listener: {}", world.driver().local_address(sock) == Some(at)),
        ]
    }

    pub fn peek_takes_nothing<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        let mut seen = vec![peek(world, sock)];
        far.send(b"abc");
        world.wait(T, |event| event.readable);
        seen.extend([peek(world, sock), peek(world, sock), recv(world, sock, 100), peek(world, sock)]);
        far.finish();
        seen.push(words(world.wait(T, |event| event.hangup)));
        seen.extend([peek(world, sock), recv(world, sock, 100), recv(world, sock, 100)]);
        seen
    }

    pub fn the_far_side_can_stop_sending_and_go_on_reading<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        far.send(b"last");
        far.finish();
        let mut seen = vec![words(world.wait(T, |event| event.hangup))];
        seen.extend([recv(world, sock, 100), recv(world, sock, 100), send(world, sock, b"answer")]);
        seen.push(format!("far read {}", String::from_utf8_lossy(&far.read(6))));
        world.driver().finish(sock);
        let event = world.wait(T, |event| event.writable);
        seen.push(format!("writable after finish: {}", event.writable));
        seen.push(format!("far end: {}", far.end()));
        seen
    }

    pub fn finish_stops_our_sending_only<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        send(world, sock, b"bye");
        world.driver().finish(sock);
        let mut seen = vec![format!("far end: {}", far.end())];
        far.send(b"well");
        seen.push(words(world.wait(T, |event| event.readable)));
        seen.extend([recv(world, sock, 100), send(world, sock, b"x")]);
        far.finish();
        seen.push(words(world.wait(T, |event| event.hangup)));
        seen.push(recv(world, sock, 100));
        seen
    }

    pub fn bytes_that_wait_survive_a_reset_which_is_then_told_once<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        far.send(b"hello");
        far.reset();
        let mut seen = vec![words(world.wait(T, |event| event.hangup))];
        seen.extend((0..3).map(|_| recv(world, sock, 100)));
        seen.push(send(world, sock, b"x"));
        seen
    }

    pub fn a_reset_is_told_to_whoever_asks_first<W: World>(world: &mut W) -> Seen {
        let (sock, far) = world.served(T);
        far.reset();
        let mut seen = vec![words(world.wait(T, |event| event.hangup))];
        seen.extend([send(world, sock, b"x"), send(world, sock, b"x"), recv(world, sock, 100)]);
        seen
    }

    pub fn peek_tells_of_a_reset_and_takes_it<W: World>(world: &mut W) -> Seen {
        let (sock, far) = world.served(T);
        far.reset();
        world.wait(T, |event| event.hangup);
        vec![peek(world, sock), recv(world, sock, 100)]
    }

    pub fn a_reset_after_the_end_shows_only_in_send<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        far.finish();
        let mut seen = vec![words(world.wait(T, |event| event.hangup))];
        world.poll_now();
        far.reset();
        seen.push(words(world.wait(T, |event| event.hangup)));
        seen.extend([recv(world, sock, 100), send(world, sock, b"x"), send(world, sock, b"x")]);
        seen
    }

    pub fn writing_to_a_closed_far_side_brings_a_reset<W: World>(world: &mut W) -> Seen {
        let (sock, far) = world.served(T);
        far.close();
        let mut seen = vec![words(world.wait(T, |event| event.hangup))];
        world.poll_now();
        seen.extend([recv(world, sock, 100), send(world, sock, b"x")]);
        seen.push(words(world.wait(T, |event| event.hangup)));
        seen.extend([send(world, sock, b"x"), recv(world, sock, 100)]);
        seen
    }

    pub fn an_orderly_close_delivers_and_then_ends<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        let sent = send(world, sock, b"hello");
        world.driver().close(sock, Close::Orderly);
        vec![sent, format!("far end: {}", far.end())]
    }

    pub fn closing_with_unread_bytes_resets<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        far.send(b"unread");
        world.wait(T, |event| event.readable);
        world.driver().close(sock, Close::Orderly);
        vec![format!("far end: {}", far.end())]
    }

    pub fn a_reset_close_resets<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        world.driver().close(sock, Close::Reset);
        vec![format!("far end: {}", far.end())]
    }

    pub fn a_full_socket_takes_nothing_and_tells_when_there_is_room<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        let taken = fill(world, sock);
        let mut seen = vec![format!("full: {}", taken > 0), format!("then: {}", told(world))];
        seen.push(format!("far read it all: {}", far.read(taken) == vec![7; taken]));
        seen.push(words(world.wait(T, |event| event.writable)));
        seen.push(send(world, sock, b"x"));
        seen
    }

    pub fn a_full_socket_that_is_finished_is_writable_to_say_so<W: World>(world: &mut W) -> Seen {
        let (sock, _far) = world.served(T);
        fill(world, sock);
        let before = told(world);
        world.driver().finish(sock);
        vec![format!("then: {before}"), words(world.wait(T, |event| event.writable)), send(world, sock, b"x")]
    }

    pub fn slices_are_sent_as_one<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        let slices = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"def")];
        let sent = format!("{:?}", world.driver().send_vectored(sock, &slices));
        vec![sent, format!("far read {}", String::from_utf8_lossy(&far.read(6)))]
    }

    pub fn a_dialled_connection_is_writable_when_it_is_there<W: World>(world: &mut W) -> Seen {
        let at = world.far_listen();
        let sock = dial(world, at, Handshake::Full);
        let mut seen = vec![words(world.wait(T, |event| event.writable))];
        seen.extend([connected(world, sock), connected(world, sock)]);
        let far = world.far_accept();
        seen.push(format!("far accepted: {}", far.is_some()));
        seen.push(send(world, sock, b"hi"));
        let bytes = far.map(|mut far| far.read(2)).unwrap_or_default();
        seen.push(format!("far read {}", String::from_utf8_lossy(&bytes)));
        seen
    }

    pub fn a_refused_dial_fails_and_says_why<W: World>(world: &mut W) -> Seen {
        let at = world.closed_port();
        let sock = dial(world, at, Handshake::Full);
        let mut seen = vec![words(world.wait(T, |event| event.hangup))];
        seen.extend([connected(world, sock), recv(world, sock, 100), send(world, sock, b"x")]);
        seen
    }

    pub fn a_refused_dial_says_why_to_a_reader_too<W: World>(world: &mut W) -> Seen {
        let at = world.closed_port();
        let sock = dial(world, at, Handshake::Full);
        let event = words(world.wait(T, |event| event.hangup));
        vec![event, recv(world, sock, 100), recv(world, sock, 100)]
    }

    pub fn a_half_open_dial_is_never_seen_by_the_application<W: World>(world: &mut W) -> Seen {
        let at = world.far_listen();
        let sock = dial(world, at, Handshake::HalfOpen);
        let seen = vec![words(world.wait(T, |event| event.writable)), connected(world, sock)];
        world.driver().close(sock, Close::Reset);
        with_accepted(world, seen).0
    }

    pub fn a_full_dial_is_seen_by_the_application<W: World>(world: &mut W) -> Seen {
        let at = world.far_listen();
        let sock = dial(world, at, Handshake::Full);
        let seen = vec![words(world.wait(T, |event| event.writable)), connected(world, sock)];
        world.driver().close(sock, Close::Reset);
        let (mut seen, far) = with_accepted(world, seen);
        seen.extend(far.map(|mut far| format!("far end: {}", far.end())));
        seen
    }

    pub fn a_half_open_dial_that_sends_is_a_connection<W: World>(world: &mut W) -> Seen {
        let at = world.far_listen();
        let sock = dial(world, at, Handshake::HalfOpen);
        world.wait(T, |event| event.writable);
        let seen = vec![send(world, sock, b"hi")];
        let (mut seen, far) = with_accepted(world, seen);
        seen.extend(far.map(|mut far| format!("far read {}", String::from_utf8_lossy(&far.read(2)))));
        seen
    }

    pub fn a_closed_listener_resets_those_who_wait<W: World>(world: &mut W) -> Seen {
        let (listener, at) = world.listen(T);
        let mut far = world.far_connect(at);
        world.wait(T, |event| event.readable);
        world.driver().close(listener, Close::Orderly);
        vec![format!("far end: {}", far.end())]
    }

    pub fn a_connection_that_was_reset_while_it_waited_is_accepted_dead<W: World>(world: &mut W) -> Seen {
        let (listener, at) = world.listen(Token(1));
        let far = world.far_connect(at);
        world.wait(Token(1), |event| event.readable);
        far.reset();
        world.settle();
        let accepted = accept(world, listener);
        let mut seen = vec![format!("accepted: {}", accepted.is_some())];
        let sock = accepted.expect("the line above says so");
        world.driver().watch(sock, T).expect("nothing is short");
        seen.push(words(world.wait(T, |event| event.hangup)));
        seen.extend([recv(world, sock, 100), recv(world, sock, 100)]);
        seen
    }

    pub fn a_closed_socket_tells_nothing<W: World>(world: &mut W) -> Seen {
        let (sock, mut far) = world.served(T);
        far.send(b"too late");
        world.settle();
        world.driver().close(sock, Close::Orderly);
        vec![format!("then: {}", told(world))]
    }

    pub fn a_wakeup_is_reported_once<W: World>(world: &mut W) -> Seen {
        world.wake();
        (0..2).map(|_| woken(world)).collect()
    }

    pub fn two_wakes_before_a_poll_are_one<W: World>(world: &mut W) -> Seen {
        world.wake();
        world.wake();
        (0..2).map(|_| woken(world)).collect()
    }

    pub fn a_refused_datagram_comes_back_as_an_error<W: World>(world: &mut W) -> Seen {
        let at = world.closed_port();
        let sock = world.driver().dial_udp(at, Source::Kernel, T).expect("nothing is short");
        let mut seen = vec![send(world, sock, b"ping")];
        seen.push(words(world.wait(T, |event| event.hangup)));
        seen.extend([recv(world, sock, 100), recv(world, sock, 100), send(world, sock, b"ping")]);
        world.wait(T, |event| event.hangup);
        seen.extend([send(world, sock, b"ping"), send(world, sock, b"ping")]);
        seen
    }

    pub fn datagrams_keep_their_borders<W: World>(world: &mut W) -> Seen {
        let at = world.far_udp();
        let sock = world.driver().dial_udp(at, Source::Kernel, T).expect("nothing is short");
        let mut seen = vec![send(world, sock, b"ask"), format!("then: {}", told(world))];
        let asked = world.far_udp_answer(&[b"1", b"22", b"a third one"]);
        seen.push(format!("far got {}", String::from_utf8_lossy(&asked)));
        seen.push(words(world.wait(T, |event| event.readable)));
        world.settle();
        // What does not fit is cut off and gone.
        seen.extend((0..4).map(|_| recv(world, sock, 3)));
        seen
    }

    /// Sends sevens until nothing is taken even after all that can move has moved; how many it were.
    fn fill<W: World>(world: &mut W, sock: Sock) -> usize {
        let piece = [7_u8; 5000];
        let (mut taken, mut refused) = (0, 0);
        while refused < 2 {
            match world.driver().send(sock, &piece) {
                Send::Taken(0) => {
                    refused += 1;
                    world.poll_now();
                }
                Send::Taken(bytes) => {
                    refused = 0;
                    taken += bytes;
                }
                Send::Failed(errno) => panic!("nobody closed: {errno:?}"),
            }
        }
        taken
    }

    fn accept<W: World>(world: &mut W, listener: Sock) -> Option<Sock> {
        world.driver().accept(listener).expect("nothing is short").map(|(sock, _)| sock)
    }

    fn dial<W: World>(world: &mut W, to: std::net::SocketAddr, handshake: Handshake) -> Sock {
        world.driver().dial(Dial { handshake, ..Dial::to(to) }, T).expect("nothing is short")
    }

    fn connected<W: World>(world: &mut W, sock: Sock) -> String {
        format!("{:?}", world.driver().connected(sock))
    }

    fn with_accepted<W: World>(world: &mut W, mut seen: Seen) -> (Seen, Option<W::Far>) {
        let far = world.far_accept();
        seen.push(format!("far accepted: {}", far.is_some()));
        (seen, far)
    }

    fn recv<W: World>(world: &mut W, sock: Sock, room: usize) -> String {
        let mut into = vec![0; room];
        let received: Recv = world.driver().recv(sock, &mut into);
        format!("{received:?}")
    }

    fn peek<W: World>(world: &mut W, sock: Sock) -> String {
        format!("{:?}", world.driver().peek(sock))
    }

    fn send<W: World>(world: &mut W, sock: Sock, bytes: &[u8]) -> String {
        format!("{:?}", world.driver().send(sock, bytes))
    }

    fn told<W: World>(world: &mut W) -> String {
        let events: Vec<String> = world.poll_now().into_iter().map(words).collect();
        format!("{events:?}")
    }

    fn woken<W: World>(world: &mut W) -> String {
        format!("woken: {}", world.poll_now().iter().any(|event| event.token == WOKEN))
    }

    fn words(event: Event) -> String {
        let words = [(event.readable, "readable"), (event.writable, "writable"), (event.hangup, "hangup")];
        let said: Vec<&str> = words.into_iter().filter(|&(is, _)| is).map(|(_, word)| word).collect();
        said.join(" ")
    }
}
