//! Single stories over TLS and HTTP/2, and of requests that wait: what drawn stories seldom hit, told plainly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_h2::{Close, Role, Settings, frame};
use evenkeel_model::{Cause, Instant};
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_plan::Plan;
use evenkeel_reactor::sim::{Backend, End, Ended, Faults, Way};
use evenkeel_tls::{Offers, Session};

use crate::certificates;
use crate::line::Line;
use crate::trunk::{SharedTrunk, Stream, Trunk};
use crate::world::{Behind, Patience, World, backend_address, config_with, listener_address, plan};

pub const GET: &[u8] = b"GET /r HTTP/1.1\r\nHost: a.example\r\n\r\n";
const POST: &[u8] = b"POST /r HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbody";
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LISTENERS: [&str; 3] = ["web", "secure", "raw"];

pub struct Scene {
    pub world: World,
    pub text: String,
    pub backends: Vec<Backend>,
    pub trunks: Vec<SharedTrunk>,
}

impl Scene {
    pub fn new(backends: &[u8], behind: Behind) -> Scene {
        Scene::with(backends, behind, Faults::none(), |_| {})
    }

    /// The same on another network, with a plan that was changed.
    pub fn with(backends: &[u8], behind: Behind, faults: Faults, change: impl FnOnce(&mut Plan)) -> Scene {
        let text = config_with(Patience::Usual, backends, &LISTENERS, behind);
        let mut plan = plan(&text);
        change(Arc::make_mut(&mut plan));
        let world = World::of(1, faults, &plan);
        let backends = backends.iter().map(|number| world.net.backend_listen(backend_address(*number))).collect();
        Scene { world, text, backends, trunks: Vec::new() }
    }

    /// Runs until `reached`, and says whether that came.
    pub fn until(&mut self, mut reached: impl FnMut() -> bool) -> bool {
        let Scene { world, trunks, .. } = self;
        let act = &mut |net: &evenkeel_reactor::sim::Net, _: &mut crate::world::Operator| {
            trunks.iter().for_each(|trunk| trunk.borrow_mut().act(net));
        };
        world.run(act, |_| reached()) == Ended::Reached
    }

    pub fn pass(&mut self, time: Duration) {
        let net = self.world.net.clone();
        let at = net.now() + time;
        net.alarm(at);
        self.until(|| net.now() >= at);
    }

    pub fn client(&self) -> End {
        self.world.net.client_connect(listener_address(80))
    }

    /// A client's HTTP/2 connection with prior knowledge.
    pub fn caller(&mut self) -> SharedTrunk {
        let line = Line::new(self.client(), None);
        let trunk = Trunk::new(line, Role::Client, &settings(), &self.world.net);
        self.trunks.push(trunk.clone());
        trunk
    }

    /// The next connection that some backend accepts.
    pub fn met(&mut self) -> End {
        let backends = self.backends.clone();
        let mut met = None;
        let reached = self.until(|| {
            met = met.take().or_else(|| backends.iter().find_map(Backend::accept));
            met.is_some()
        });
        assert!(reached, "nobody came");
        met.expect("somebody was met")
    }

    /// The same, with what was asked on it.
    pub fn asked(&mut self) -> End {
        let end = self.met();
        assert!(self.until(|| end.received_len() > 0), "nothing was asked");
        end
    }

    /// The same, of one who speaks HTTP/2.
    pub fn met_trunk(&mut self) -> SharedTrunk {
        let line = Line::new(self.met(), None);
        let trunk = Trunk::new(line, Role::Server, &settings(), &self.world.net);
        self.trunks.push(trunk.clone());
        trunk
    }

    pub fn next_stream(&mut self, trunk: &SharedTrunk) -> Stream {
        let mut opened = None;
        let reached = self.until(|| {
            opened = opened.take().or_else(|| trunk.borrow_mut().next_opened());
            opened.is_some()
        });
        assert!(reached, "no stream was opened");
        Stream::new(trunk, opened)
    }

    pub fn causes(&self) -> Vec<Option<Cause>> {
        self.world.records.all().iter().map(|record| record.cause).collect()
    }

    /// How often an answer of this backend of `web` was waited for in vain, as its metric has it.
    fn failures_of(&self, backend: SocketAddr) -> u64 {
        let label = BackendLabel { pool: "web".into(), backend: backend.to_string().into() };
        self.world.registry.sum_backend(&label, |metrics| metrics.causes.read(Cause::BackendResponseTimeout))
    }

    pub fn settle(&mut self) {
        for trunk in std::mem::take(&mut self.trunks) {
            trunk.borrow_mut().close();
        }
        self.until(|| false);
        self.world.check_rest(&LISTENERS);
        self.world.finish(&String::new);
    }
}

pub fn settings() -> Settings {
    Settings {
        streams: 100,
        stream_window: 65_535,
        connection_window: 1_048_576,
        header_limit: 16_384,
        max_frame: 16_384,
        extended_connect: true,
        secure: false,
    }
}

pub fn text(end: &End) -> String {
    String::from_utf8_lossy(&end.received()).into_owned()
}

pub fn ask(trunk: &SharedTrunk, request: &[u8]) -> Stream {
    let mut stream = Stream::new(trunk, None);
    stream.send(request);
    stream
}

pub const HTTP2: Behind = Behind { tls: false, http2: true, try_timeout: false, hedge: false, header: false, limit: 0 };

/// Refused without being looked at, so even a POST may be sent elsewhere.
#[test]
fn a_post_that_goaway_refuses_is_answered_by_another_backend() {
    let mut scene = Scene::new(&[1, 2], HTTP2);
    let client = scene.client();
    client.send(POST);
    let first = scene.asked();
    let mut bytes = Vec::new();
    frame::write_settings(&[], &mut bytes);
    frame::write_go_away(0, frame::ErrorCode::NO_ERROR, "", &mut bytes);
    first.send(&bytes);
    let second = scene.met_trunk();
    let mut stream = scene.next_stream(&second);
    assert!(scene.until(|| stream.saw_fin()));
    assert!(stream.take().ends_with(b"body"));
    stream.send(OK);
    stream.close(Close::Orderly);
    assert!(scene.until(|| text(&client).ends_with("ok")), "{}", text(&client));
    client.close();
    first.close();
    scene.settle();
    let records = scene.world.records.all();
    assert_eq!((records[0].status, records[0].attempts.len()), (Some(200), 2), "{records:?}");
}

#[test]
fn requests_on_a_connection_that_dies_are_each_tried_elsewhere() {
    let mut scene = Scene::new(&[1], HTTP2);
    let clients: Vec<End> = (0..3).map(|_| scene.client()).collect();
    clients.iter().for_each(|client| client.send(GET));
    let first = scene.met_trunk();
    let streams: Vec<Stream> = (0..3).map(|_| scene.next_stream(&first)).collect();
    scene.world.operator.publish(&plan(&config_with(Patience::Usual, &[1, 2], &LISTENERS, HTTP2)), |_| true);
    scene.backends.push(scene.world.net.backend_listen(backend_address(2)));
    scene.pass(Duration::from_millis(10));
    first.borrow_mut().reset();
    drop(streams);
    let second = scene.met_trunk();
    for _ in 0..3 {
        let mut stream = scene.next_stream(&second);
        stream.send(OK);
        stream.close(Close::Orderly);
    }
    for client in &clients {
        assert!(scene.until(|| text(client).ends_with("ok")), "{}", text(client));
        client.close();
    }
    scene.settle();
    assert_eq!(scene.causes(), [None; 3]);
}

/// The answer was in the node as a whole; that its bringer had gone away made it a part.
#[test]
fn a_slow_client_gets_all_of_an_answer_whose_backend_has_gone() {
    let mut scene = Scene::new(&[1], HTTP2);
    let client = scene.client();
    client.pause_reading();
    client.send(GET);
    let trunk = scene.met_trunk();
    let mut stream = scene.next_stream(&trunk);
    let body = "x".repeat(240_000);
    stream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    assert!(scene.until(|| !stream.owes()));
    scene.pass(Duration::from_millis(100));
    trunk.borrow_mut().close();
    scene.pass(Duration::from_secs(1));
    client.resume_reading();
    assert!(scene.until(|| text(&client).ends_with(&body)), "{} bytes came", client.received_len());
    client.close();
    scene.settle();
    assert_eq!(scene.causes(), [None]);
}

#[test]
fn a_stream_that_is_not_read_stops_no_other() {
    let mut scene = Scene::new(&[1], Behind::default());
    let caller = scene.caller();
    let mut deaf = ask(&caller, GET);
    deaf.pause_reading();
    let backend = scene.asked();
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    backend.send(&vec![b'x'; 1_000_000]);
    scene.pass(Duration::from_secs(1));
    assert!(backend.unsent() > 0, "the stall has to reach the backend");
    let mut other = ask(&caller, GET);
    let second = scene.asked();
    second.send(OK);
    assert!(scene.until(|| other.saw_fin()));
    assert!(other.take().ends_with(b"ok"));
    other.close(Close::Orderly);
    deaf.resume_reading();
    let mut bytes = 0;
    let whole = scene.until(|| {
        bytes += deaf.take().len();
        deaf.saw_fin()
    });
    assert!(whole, "{bytes} bytes came, reset {}, {:?}", deaf.saw_reset(), scene.causes());
    assert!(bytes > 1_000_000, "{bytes}");
    deaf.close(Close::Orderly);
    backend.close();
    second.close();
    scene.settle();
    assert_eq!(scene.causes(), [None; 2]);
}

#[test]
fn running_streams_finish_during_a_drain_and_then_the_node_ends() {
    let mut scene = Scene::new(&[1], Behind::default());
    let caller = scene.caller();
    let mut streams = [ask(&caller, GET), ask(&caller, POST)];
    let backends = [scene.asked(), scene.asked()];
    let deadline = scene.world.net.now() + Duration::from_secs(20);
    scene.world.operator.drain(deadline);
    scene.pass(Duration::from_secs(3));
    assert!(scene.world.worker.is_some(), "streams are running");
    let mut late = ask(&caller, GET);
    backends.iter().for_each(|backend| backend.send(OK));
    for stream in &mut streams {
        assert!(scene.until(|| stream.saw_fin()));
        assert!(stream.take().ends_with(b"ok"));
        stream.close(Close::Orderly);
    }
    assert!(late.turned_away || late.saw_reset(), "a new stream behind GOAWAY");
    backends.iter().for_each(End::close);
    scene.settle();
    assert!(scene.world.drained_at.is_some_and(|at| at < deadline), "{:?}", scene.world.drained_at);
    assert_eq!(scene.causes(), [None; 2]);
}

#[test]
fn a_stream_of_a_removed_listener_finishes_and_its_connection_ends() {
    let mut scene = Scene::new(&[1], Behind::default());
    let caller = scene.caller();
    let mut stream = ask(&caller, GET);
    let backend = scene.asked();
    scene.world.operator.publish(&plan(&config_with(Patience::Usual, &[1], &["secure"], Behind::default())), |_| true);
    scene.pass(Duration::from_secs(2));
    backend.send(OK);
    assert!(scene.until(|| stream.saw_fin()));
    assert!(stream.take().ends_with(b"ok"));
    stream.close(Close::Orderly);
    assert!(scene.until(|| caller.borrow().over), "the connection goes on");
    backend.close();
    scene.settle();
    assert_eq!(scene.causes(), [None]);
}

/// Whoever sits between could have ended the connection, so the part must not look like the whole.
#[test]
fn an_answer_until_close_that_ends_without_goodbye_is_cut() {
    for rude in [true, false] {
        let mut scene = Scene::new(&[1], Behind { tls: true, ..Behind::default() });
        let client = scene.client();
        client.send(GET);
        let session = Session::server(&certificates::backend(false)).expect("the papers are in order");
        let mut backend = Line::new(scene.met(), Some(session));
        let mut came = Vec::new();
        assert!(scene.until(|| {
            came.extend(backend.take());
            came.ends_with(b"\r\n\r\n")
        }));
        backend.send(b"HTTP/1.1 200 OK\r\n\r\na part");
        assert!(scene.until(|| text(&client).contains("a part")));
        if rude {
            backend.end().close()
        } else {
            backend.close()
        }
        assert!(scene.until(|| client.saw_fin() || client.saw_reset()));
        let cut =
            client.saw_reset() || !text(&client).ends_with("a part\r\n0\r\n\r\n") && text(&client).contains("chunked");
        assert_eq!(cut, rude, "{}", text(&client));
        client.close();
        scene.settle();
        assert_eq!(scene.causes()[0].is_some(), rude, "{:?}", scene.causes());
    }
}

#[test]
fn a_handshake_that_stops_half_way_is_ended_and_told_of() {
    let mut scene = Scene::new(&[1], Behind::default());
    let client = scene.world.net.client_connect(listener_address(443));
    let hello = Session::client(&certificates::client(Offers::Http2), client.remote().ip()).expect("papers in order");
    client.send(&hello.output()[..100]);
    scene.until(|| client.saw_fin() || client.saw_reset());
    client.close();
    scene.settle();
    assert_eq!(scene.causes(), [Some(Cause::TlsHandshakeFailed)]);
    assert!(scene.world.net.now() < Instant::START + Duration::from_secs(20), "{:?}", scene.world.net.now());
}

#[test]
fn who_leaves_the_queue_gives_his_place_to_the_next() {
    let mut scene = Scene::new(&[1], Behind { limit: 1, ..Behind::default() });
    let caller = scene.caller();
    let mut first = ask(&caller, GET);
    let backend = scene.asked();
    let mut leaves = ask(&caller, GET);
    scene.pass(Duration::from_millis(100));
    let mut stays = ask(&caller, GET);
    scene.pass(Duration::from_millis(100));
    leaves.close(Close::Cut);
    scene.pass(Duration::from_millis(100));
    for stream in [&mut first, &mut stays] {
        assert!(scene.until(|| backend.received_len() > 0), "nobody has the free place");
        backend.take();
        backend.send(OK);
        assert!(scene.until(|| stream.saw_fin()));
        assert!(stream.take().ends_with(b"ok"));
        stream.close(Close::Orderly);
    }
    backend.close();
    scene.settle();
    let causes = scene.causes();
    assert_eq!(causes.iter().filter(|cause| **cause == Some(Cause::ClientAborted)).count(), 1, "{causes:?}");
    assert_eq!(causes.len(), 3);
}

/// A stream is given up while its backend is being dialled, while it answers nothing, and while it answers.
#[test]
fn a_stream_that_its_client_resets_leaves_nothing_behind_in_any_phase() {
    for behind in [Behind::default(), HTTP2, Behind { hedge: true, ..Behind::default() }] {
        for phase in 0..3 {
            let mut scene = Scene::new(&[1], behind);
            if phase == 0 {
                scene.world.net.set_way(backend_address(1), Way::BlackHole);
            }
            let caller = scene.caller();
            let mut stream = ask(&caller, GET);
            let mut backend = None;
            if phase > 0 && behind.http2 {
                let trunk = scene.met_trunk();
                let mut asked = scene.next_stream(&trunk);
                if phase == 2 {
                    asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                }
            } else if phase > 0 {
                let end = scene.asked();
                if phase == 2 {
                    end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                }
                backend = Some(end);
            }
            scene.pass(Duration::from_millis(500));
            stream.close(Close::Cut);
            scene.pass(Duration::from_millis(500));
            assert_eq!(scene.causes(), [Some(Cause::ClientAborted)], "{behind:?} {phase}");
            if let Some(end) = backend {
                assert!(end.saw_fin() || end.saw_reset(), "the backend was not told: {behind:?} {phase}");
                end.close();
            }
            scene.settle();
        }
    }
}

#[test]
fn a_request_is_rescued_when_the_verdict_on_its_backend_turns() {
    for behind in [Behind::default(), HTTP2] {
        let mut scene = Scene::new(&[1, 2], behind);
        let client = scene.client();
        client.send(GET);
        let silent = scene.asked();
        let address = silent.local();
        scene.pass(Duration::from_secs(1));
        let plan = plan(&scene.text);
        scene.world.operator.publish(&plan, |backend| backend != address);
        if behind.http2 {
            let trunk = scene.met_trunk();
            let mut stream = scene.next_stream(&trunk);
            stream.send(OK);
            stream.close(Close::Orderly);
        } else {
            let second = scene.asked();
            assert_ne!(second.local(), address);
            second.send(OK);
        }
        assert!(scene.until(|| text(&client).ends_with("ok")), "{behind:?} {}", text(&client));
        client.close();
        silent.close();
        scene.settle();
        assert_eq!(scene.causes(), [None]);
    }
}

#[test]
fn a_silent_backend_costs_a_try_and_not_the_request() {
    for (try_timeout, hedge) in [(true, false), (false, true), (true, true)] {
        let mut scene = Scene::new(&[1, 2], Behind { try_timeout, hedge, ..Behind::default() });
        let client = scene.client();
        client.send(GET);
        let silent = scene.asked();
        let second = scene.asked();
        assert_ne!(second.local(), silent.local());
        second.send(OK);
        assert!(scene.until(|| text(&client).ends_with("ok")), "{}", text(&client));
        assert!(scene.world.net.now() < Instant::START + Duration::from_secs(2));
        let first = (silent.local(), scene.world.records.all()[0].attempts[0]);
        client.close();
        silent.close();
        second.close();
        scene.settle();
        assert_eq!(scene.causes(), [None]);
        // Whose time was over has failed; whoever was merely slower than the other has not.
        let failed = (!hedge).then_some(Cause::BackendResponseTimeout);
        assert_eq!((first.1.backend, first.1.cause), (first.0, failed));
        assert_eq!(scene.failures_of(first.0), u64::from(!hedge));
    }
}

/// Only the first attempt had its `try_timeout`; the second silent backend was waited for to the end.
#[test]
fn each_silent_backend_costs_one_try() {
    let mut scene = Scene::new(&[1, 2, 3], Behind { try_timeout: true, ..Behind::default() });
    let client = scene.client();
    client.send(GET);
    let silent = [scene.asked(), scene.asked()];
    let third = scene.asked();
    let tries = Duration::from_secs(2);
    assert!(scene.world.net.now() >= Instant::START + tries, "each has its second");
    assert!(scene.world.net.now() < Instant::START + tries + Duration::from_millis(100), "and no more");
    // Nobody is left to be asked: the last one has the whole response timeout.
    scene.pass(Duration::from_secs(5));
    third.send(OK);
    assert!(scene.until(|| text(&client).ends_with("ok")), "{}", text(&client));
    let timeout = Some(Cause::BackendResponseTimeout);
    let tried: Vec<_> = scene.world.records.all()[0].attempts.iter().map(|attempt| attempt.cause).collect();
    assert_eq!(tried, [timeout, timeout, None]);
    client.close();
    silent.iter().chain([&third]).for_each(End::close);
    scene.settle();
    assert_eq!(scene.causes(), [None]);
}

#[test]
fn of_two_answers_at_once_the_client_gets_one() {
    let mut scene = Scene::new(&[1, 2], Behind { hedge: true, ..Behind::default() });
    let client = scene.client();
    client.send(GET);
    let backends = [scene.asked(), scene.asked()];
    backends.iter().for_each(|backend| backend.send(OK));
    scene.pass(Duration::from_secs(1));
    assert_eq!(text(&client).matches("HTTP/1.1").count(), 1, "{}", text(&client));
    assert!(text(&client).ends_with("ok"));
    // The connection serves the next one.
    client.take();
    client.send(GET);
    scene.pass(Duration::from_millis(10));
    let answered = backends.iter().filter(|backend| backend.received_len() > GET.len() && backend.is_open());
    answered.for_each(|backend| backend.send(OK));
    client.close();
    backends.iter().for_each(End::close);
    scene.settle();
}

#[test]
fn a_second_backend_that_refuses_changes_nothing() {
    let mut scene = Scene::new(&[1], Behind { hedge: true, ..Behind::default() });
    scene.world.operator.publish(
        &plan(&config_with(Patience::Usual, &[1, 2], &LISTENERS, Behind { hedge: true, ..Behind::default() })),
        |_| true,
    );
    scene.pass(Duration::from_millis(1));
    let client = scene.client();
    client.send(GET);
    let backend = scene.asked();
    scene.pass(Duration::from_secs(2));
    backend.send(OK);
    assert!(scene.until(|| text(&client).ends_with("ok")), "{}", text(&client));
    client.close();
    backend.close();
    scene.settle();
    assert_eq!(scene.causes(), [None]);
}
