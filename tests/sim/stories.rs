//! Single stories: what the seeds found once, told plainly, and how memory stays bounded.

use std::time::Duration;

use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::sim::{Backend, Chance, End, Faults, Net, Segments};

use crate::world::{Operator, Patience, World, backend_address, config, listener_address};

struct Scene {
    world: World,
    backend: Backend,
}

impl Scene {
    fn new(faults: Faults) -> Scene {
        let world = World::new(1, faults, &config(Patience::Usual, &[1], &["web", "raw"]));
        let backend = world.net.backend_listen(backend_address(1));
        Scene { world, backend }
    }

    fn client(&self) -> End {
        self.world.net.client_connect(listener_address(80))
    }

    /// Runs until `reached`, and says whether that came.
    fn until(&mut self, mut reached: impl FnMut() -> bool) -> bool {
        let ended = self.world.run(&mut |_: &Net, _: &mut Operator| {}, |_| reached());
        ended == evenkeel_reactor::sim::Ended::Reached
    }

    /// The backend's end of the connection on which this request came.
    fn asked(&mut self, size: usize) -> End {
        let backend = self.backend.clone();
        let mut met = None;
        let reached = self.until(|| {
            met = met.take().or_else(|| backend.accept());
            met.as_ref().is_some_and(|end| end.received_len() >= size)
        });
        assert!(reached, "the request never came");
        met.expect("somebody was met")
    }

    fn pass(&mut self, time: Duration) {
        let net = self.world.net.clone();
        let at = net.now() + time;
        net.alarm(at);
        self.until(|| net.now() >= at);
    }

    fn settle(&mut self) {
        self.until(|| false);
        self.world.check_rest(&["web", "raw"]);
        self.world.finish(&String::new);
    }
}

fn text(end: &End) -> String {
    String::from_utf8_lossy(&end.received()).into_owned()
}

const GET: &[u8] = b"GET /r HTTP/1.1\r\nHost: a.example\r\n\r\n";
const UPGRADE: &[u8] = b"GET /r HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// The tunnel began while the answer's read buffer was in use; its first read had no room, which looks like the
/// end, so every upgraded request lost its backend's direction.
#[test]
fn a_switched_protocol_goes_on_both_ways() {
    let mut scene = Scene::new(Faults::none());
    let client = scene.client();
    client.send(UPGRADE);
    let backend = scene.asked(1);
    backend.take();
    backend.send(SWITCH.as_bytes());
    assert!(scene.until(|| text(&client).ends_with("\r\n\r\n")));
    client.send(b"ping");
    assert!(scene.until(|| backend.received() == b"ping"));
    assert!(!client.saw_fin(), "nobody has said that it was the end");
    backend.send(b"pong");
    assert!(scene.until(|| text(&client).ends_with("pong")));
    client.close();
    assert!(scene.until(|| backend.saw_fin()));
    backend.close();
    scene.settle();
}

/// A client that took an interim answer slowly got the 101 in the middle of it.
#[test]
fn an_interim_answer_goes_out_before_the_switch_that_came_with_it() {
    let mut scene = Scene::new(Faults { send_buffer: 3, receive_window: 3, ..Faults::none() });
    let client = scene.client();
    client.send(UPGRADE);
    let backend = scene.asked(UPGRADE.len());
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    backend.send(format!("{hint}{SWITCH}first bytes").as_bytes());
    backend.finish();
    assert!(scene.until(|| client.saw_fin()));
    let received = text(&client);
    assert!(received.starts_with(hint), "{received}");
    assert!(received[hint.len()..].starts_with("HTTP/1.1 101 "), "{received}");
    assert!(received.ends_with("\r\n\r\nfirst bytes"), "{received}");
    client.close();
    assert!(scene.until(|| backend.saw_fin()));
    backend.close();
    scene.settle();
    assert_eq!(scene.world.records.all()[0].bytes_out, received.len() as u64);
}

/// The time to read an answer was counted from its beginning, not from the last progress.
#[test]
fn a_client_that_reads_slowly_but_steadily_gets_everything() {
    let mut scene = Scene::new(Faults { send_buffer: 4096, receive_window: 4096, ..Faults::none() });
    let client = scene.client();
    client.pause_reading();
    client.send(GET);
    let backend = scene.asked(1);
    let body = "x".repeat(60_000);
    backend.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    // 4 KiB each ten seconds, with 20 s to make progress.
    for _ in 0..60 {
        client.read(4096);
        scene.pass(Duration::from_secs(10));
    }
    assert!(text(&client).ends_with(&body), "{} bytes came", client.received_len());
    client.close();
    scene.until(|| false);
    assert_eq!(scene.world.records.all()[0].cause, None);
}

/// Its event stood behind the backend's in one batch, so nobody knew of the second request, and the close over
/// it reset the first one's answer away.
#[test]
fn a_request_behind_the_last_answer_of_a_connection_does_not_destroy_it() {
    let mut scene = Scene::new(Faults::none());
    let client = scene.client();
    client.send(GET);
    let backend = scene.asked(1);
    // The answer's end and the second request arrive while the node does not run.
    scene.world.net.change_faults(|faults| {
        faults.pause = Chance::ALWAYS;
        faults.pause_max = Duration::from_millis(50);
    });
    backend.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
    backend.finish();
    client.send(GET);
    assert!(scene.until(|| client.saw_fin() || client.saw_reset()));
    assert!(text(&client).ends_with("until the end") && !client.saw_reset(), "{:?}", text(&client));
    client.close();
    backend.close();
    scene.settle();
}

/// The answer to a looped request forgot what was received behind it.
#[test]
fn a_request_behind_one_that_loops_is_answered() {
    let mut scene = Scene::new(Faults::none());
    let client = scene.client();
    client.send(&[b"GET /r HTTP/1.1\r\nHost: a.example\r\nCDN-Loop: evenkeel-sim\r\n\r\n", GET].concat());
    let backend = scene.asked(1);
    assert!(text(&client).starts_with("HTTP/1.1 508 "));
    backend.send(b"HTTP/1.1 204 No Content\r\n\r\n");
    assert!(scene.until(|| text(&client).contains("HTTP/1.1 204 ")));
    client.close();
    backend.close();
    scene.settle();
}

#[test]
fn a_refusal_is_read_by_a_client_that_goes_on_sending() {
    let mut scene = Scene::new(Faults::none());
    let client = scene.client();
    client.send(b"POST /r HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
    assert!(scene.until(|| client.received_len() > 0));
    for _ in 0..20 {
        client.send(&[b'x'; 1000]);
        scene.pass(Duration::from_millis(10));
    }
    assert!(client.saw_fin() && !client.saw_reset());
    assert!(text(&client).starts_with("HTTP/1.1 400 "));
    client.close();
    scene.settle();
}

/// A relay that still moved what it held was called idle, since only reading counted.
#[test]
fn a_relay_is_not_idle_while_the_slow_side_takes_bytes() {
    let mut scene = Scene::new(Faults { send_buffer: 1000, receive_window: 1000, ..Faults::none() });
    let raw = scene.world.net.backend_listen(std::net::SocketAddr::new(backend_address(1).ip(), 8081));
    let client = scene.world.net.client_connect(listener_address(82));
    client.pause_reading();
    scene.backend = raw;
    client.send(b"x");
    client.finish();
    let backend = scene.asked(1);
    // One read takes all of it, and then it is only passed on.
    scene.world.net.change_faults(|faults| faults.segments = Segments::Whole);
    backend.send(&[b'y'; 1000]);
    scene.pass(Duration::from_secs(1));
    backend.send(&[b'z'; 9000]);
    backend.finish();
    for _ in 0..200 {
        client.read(200);
        scene.pass(Duration::from_secs(10));
    }
    assert_eq!(client.received_len(), 10_000);
    assert!(client.saw_fin() && !client.saw_reset());
    client.close();
    scene.until(|| false);
    assert_eq!(scene.world.records.all()[0].cause, None);
}

/// More than a node may hold for one exchange: its buffers, and those of its sockets.
const HELD_MAX: usize = 1_500_000;

#[test]
fn a_client_that_does_not_read_stops_its_backend() {
    let mut scene = Scene::new(Faults::none());
    let client = scene.client();
    client.pause_reading();
    client.send(GET);
    let backend = scene.asked(1);
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n");
    backend.send(&vec![b'x'; 50_000_000]);
    scene.pass(Duration::from_secs(5));
    assert!(50_000_000 - backend.unsent() < HELD_MAX, "{} bytes left the backend", 50_000_000 - backend.unsent());
    scene.until(|| false);
    assert_eq!(scene.world.records.all()[0].cause, Some(Cause::ClientStalled));
    assert!(scene.world.net.now() < Instant::START + Duration::from_secs(60));
}

#[test]
fn a_backend_that_does_not_read_stops_its_client() {
    let mut scene = Scene::new(Faults::none());
    let client = scene.client();
    client.send(b"POST /r HTTP/1.1\r\nHost: a.example\r\nContent-Length: 50000000\r\n\r\n");
    let backend = scene.asked(1);
    backend.pause_reading();
    client.send(&vec![b'x'; 50_000_000]);
    scene.pass(Duration::from_secs(5));
    assert!(50_000_000 - client.unsent() < HELD_MAX, "{} bytes left the client", 50_000_000 - client.unsent());
    assert!(scene.until(|| client.received_len() > 0));
    assert!(text(&client).starts_with("HTTP/1.1 504 "), "{}", text(&client));
    assert_eq!(scene.world.records.all()[0].cause, Some(Cause::BackendWriteTimeout));
    client.close();
    scene.settle();
}

#[test]
fn either_side_of_a_relay_that_does_not_read_stops_the_other() {
    for client_reads in [true, false] {
        let mut scene = Scene::new(Faults::none());
        scene.backend = scene.world.net.backend_listen(std::net::SocketAddr::new(backend_address(1).ip(), 8081));
        let client = scene.world.net.client_connect(listener_address(82));
        client.send(b"x");
        let backend = scene.asked(1);
        let (deaf, talks) = if client_reads { (&backend, &client) } else { (&client, &backend) };
        deaf.pause_reading();
        talks.send(&vec![b'x'; 50_000_000]);
        scene.pass(Duration::from_secs(5));
        assert!(50_000_000 - talks.unsent() < HELD_MAX, "{} bytes were taken", 50_000_000 - talks.unsent());
        scene.until(|| false);
        assert_eq!(scene.world.records.all()[0].cause, Some(Cause::RelayIdleTimeout));
    }
}
