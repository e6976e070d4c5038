//! Single stories of relays: what must come first, what backends are told, and who ends them when.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::sim::{Backend, End, Ended, Faults};
use evenkeel_wire::proxy;

use crate::hello::behind;
use crate::world::{NODE, Record, World, backend_address, listener_address, plan};

/// All clients of the simulation come from 192.0.2.1.
const PROXIED: &str = "proxy_protocol = { from = [\"192.0.2.0/24\"] }\n";
const V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n";

struct Scene {
    world: World,
    backends: Vec<Backend>,
}

fn tcp_address(number: u8) -> SocketAddr {
    SocketAddr::new(backend_address(number).ip(), 8081)
}

/// A listener at port 82 in front of the pools "one" and "two" with a backend each; `listener` begins with its protocol.
fn text(listener: &str, pool: &str) -> String {
    let pools: String = ["one", "two"]
        .iter()
        .zip(1..)
        .map(|(name, number)| {
            format!("[[pool]]\nname = \"{name}\"\ncheck = \"off\"\nbackends = [\"{}\"]\n{pool}\n", tcp_address(number))
        })
        .collect();
    format!("[[listener]]\nname = \"raw\"\nlisten = \"{}\"\nprotocol = {listener}\n{pools}", listener_address(82))
}

impl Scene {
    fn new(faults: Faults, text: &str) -> Scene {
        let world = World::new(1, faults, text);
        let backends = [1, 2].map(|number| world.net.backend_listen(tcp_address(number)));
        Scene { world, backends: backends.into() }
    }

    fn client(&self) -> End {
        self.world.net.client_connect(listener_address(82))
    }

    /// Runs until `reached`, and says whether that came.
    fn until(&mut self, mut reached: impl FnMut() -> bool) -> bool {
        self.world.run(&mut |_, _| {}, |_| reached()) == Ended::Reached
    }

    /// The connection on which this many bytes have come to a backend, the first of which is number 1.
    fn met(&mut self, number: usize, size: usize) -> End {
        let backend = self.backends[number - 1].clone();
        let mut met = None;
        let reached = self.until(|| {
            met = met.take().or_else(|| backend.accept());
            met.as_ref().is_some_and(|end| end.received_len() >= size)
        });
        assert!(reached, "{:?} of {size} bytes came", met.map(|end| end.received_len()));
        met.expect("somebody was met")
    }

    fn pass(&mut self, time: Duration) {
        let net = self.world.net.clone();
        let at = net.now() + time;
        net.alarm(at);
        self.until(|| net.now() >= at);
    }

    /// Lets everything come to its end: the only outcome, with nothing left open.
    fn settle(mut self) -> Record {
        self.until(|| false);
        self.world.check_rest(&["raw"]);
        self.world.finish(&String::new);
        let records = self.world.records.all();
        let [record] = &records[..] else { panic!("not one outcome: {records:?}") };
        record.clone()
    }
}

fn hello(name: &str) -> Vec<u8> {
    crate::hello::hello(name, &["imap"])
}

fn tls(keys: &str) -> String {
    format!(
        "\"tls-passthrough\"\n{keys}[[listener.rule]]\nhost = \"a.example\"\npool = \"one\"\n\
         [[listener.rule]]\nhost = \"b.example\"\npool = \"two\"\n"
    )
}

#[test]
fn a_prelude_is_read_however_it_is_cut_and_all_behind_it_goes_on_untouched() {
    let sent = [V1, &hello("b.example"), b"and more"].concat();
    let config = text(&tls(PROXIED), "proxy_protocol = \"v1\"");
    for cut in 0..sent.len() {
        let mut scene = Scene::new(Faults::none(), &config);
        let client = scene.client();
        client.send(&sent[..cut]);
        scene.pass(Duration::from_millis(10));
        client.send(&sent[cut..]);
        // What the header said of the client is what the backend is told.
        let backend = scene.met(2, sent.len());
        assert_eq!(backend.received(), sent, "cut at {cut}");
        backend.send(b"answer");
        assert!(scene.until(|| client.received_len() == 6), "cut at {cut}");
        client.close();
        assert!(scene.until(|| backend.saw_fin()));
        backend.close();
        let record = scene.settle();
        assert_eq!((record.cause, record.client.to_string()), (None, "198.51.100.7:4711".to_owned()));
        assert_eq!((record.bytes_in, record.bytes_out), ((sent.len() - V1.len()) as u64, 6), "without the headers");
    }
}

#[test]
fn what_is_no_prelude_is_reset_with_its_cause_and_no_backend_hears_of_it() {
    let http = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    let proxied = |rest: &[u8]| [V1, rest].concat();
    let (other, elsewhere) = (hello("b.example"), hello("c.example"));
    let hello = hello("a.example");
    let record = |length: usize| [&[22, 3, 1][..], &behind(2, &vec![1; length])].concat();
    let tcp = text(&format!("\"tcp\"\npool = \"one\"\n{PROXIED}"), "");
    let plain = text(&tls(""), "");
    let both = text(&tls(PROXIED), "");
    let denied = text(&format!("{}[listener.access]\ndeny = [\"198.51.100.0/24\"]\n", tls(PROXIED)), "");
    let rules = text(&tls(PROXIED).replace("host = \"b.example\"", "host = \"b.example\"\nalpn = \"h2\""), "");
    let table: [(&str, Vec<u8>, Cause); 14] = [
        (&tcp, http.clone(), Cause::ClientProxyHeaderInvalid),
        (&tcp, hello.clone(), Cause::ClientProxyHeaderInvalid),
        (&tcp, b"PROXY TCP4 198.51.100.7 203.0.113.1 04711 443\r\n".to_vec(), Cause::ClientProxyHeaderInvalid),
        (&tcp, b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443 \r\n".to_vec(), Cause::ClientProxyHeaderInvalid),
        (
            &tcp,
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[0; 5000]].concat(),
            Cause::ClientProxyHeaderInvalid,
        ),
        (&plain, http.clone(), Cause::TlsHandshakeFailed),
        (&plain, proxied(&hello), Cause::TlsHandshakeFailed),
        (&plain, record(20_000), Cause::TlsHandshakeFailed),
        (&plain, record(1).repeat(2000), Cause::TlsHandshakeFailed),
        (&both, hello.clone(), Cause::ClientProxyHeaderInvalid),
        (&both, proxied(&http), Cause::TlsHandshakeFailed),
        (&both, proxied(&elsewhere), Cause::HostNotConfigured),
        (&rules, proxied(&other), Cause::RuleNotFound),
        (&denied, proxied(&hello), Cause::ClientDeniedByAcl),
    ];
    for (config, bytes, cause) in table {
        for piece in [bytes.len(), 7] {
            let mut scene = Scene::new(Faults::none(), config);
            let client = scene.client();
            for piece in bytes.chunks(piece) {
                if client.saw_reset() {
                    break;
                }
                client.send(piece);
                scene.pass(Duration::from_micros(100));
            }
            assert!(scene.until(|| client.saw_reset()), "{cause:?}");
            assert_eq!(scene.backends.iter().map(Backend::completed).sum::<u64>(), 0, "{cause:?}");
            let record = scene.settle();
            assert_eq!(record.cause, Some(cause), "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
            assert!(record.times.ended < Instant::START + Duration::from_secs(9), "{cause:?}: at once");
        }
    }
}

#[test]
fn a_prelude_has_one_deadline_however_it_drips() {
    let sent = [V1, &hello("a.example")].concat();
    for (upto, cause) in [
        (0, Cause::ClientProxyHeaderInvalid),
        (V1.len() - 1, Cause::ClientProxyHeaderInvalid),
        (V1.len(), Cause::TlsHandshakeFailed),
        (sent.len() - 1, Cause::TlsHandshakeFailed),
    ] {
        let mut scene = Scene::new(Faults::none(), &text(&tls(PROXIED), ""));
        let client = scene.client();
        for byte in &sent[..upto] {
            client.send(&[*byte]);
            scene.pass(Duration::from_millis(40));
        }
        assert!(scene.until(|| client.saw_reset()));
        let record = scene.settle();
        assert_eq!(record.cause, Some(cause), "after {upto} bytes");
        let took = record.times.ended - record.times.started;
        assert!(took >= Duration::from_secs(10) && took < Duration::from_millis(10_010), "{took:?}");
    }
}

#[test]
fn who_leaves_during_a_prelude_is_told_from_who_never_said_a_word() {
    type Leave = fn(&End);
    let table: [(&[u8], Leave, Cause); 5] = [
        (b"", End::close, Cause::ClientAborted),
        (b"", End::reset, Cause::ClientAborted),
        (b"PROXY", End::finish, Cause::ClientProxyHeaderInvalid),
        (b"PROXY", End::reset, Cause::ClientAborted),
        (V1, End::finish, Cause::ClientAborted),
    ];
    for (bytes, leave, cause) in table {
        let mut scene = Scene::new(Faults::none(), &text(&tls(PROXIED), ""));
        let client = scene.client();
        client.send(bytes);
        scene.pass(Duration::from_millis(10));
        leave(&client);
        assert_eq!(scene.settle().cause, Some(cause), "{bytes:?}");
    }
}

/// A removed listener's rules were looked up in the plan that came after its own.
#[test]
fn a_reload_in_the_middle_of_a_prelude_sends_nobody_to_another_pool() {
    let before = text(&tls(PROXIED), "");
    let without = before[before.find("[[pool]]").expect("there are pools")..].to_owned();
    let shifted = format!("[[pool]]\nname = \"zero\"\ncheck = \"off\"\nbackends = [\"10.0.1.9:1\"]\n{without}");
    let listener = "[[listener]]\nname = \"other\"\nlisten = \"10.0.0.1:83\"\nprotocol = \"tcp\"\npool = \"zero\"\n";
    for (after, what) in [(before.clone(), "the same"), (format!("{listener}{shifted}"), "the listener is gone")] {
        let sent = [V1, &hello("b.example")].concat();
        for cut in [0, 10, V1.len(), V1.len() + 20] {
            let mut scene = Scene::new(Faults::none(), &before);
            let client = scene.client();
            client.send(&sent[..cut]);
            scene.pass(Duration::from_millis(10));
            scene.world.operator.publish(&plan(&after), |_| true);
            scene.pass(Duration::from_millis(10));
            client.send(&sent[cut..]);
            let backend = scene.met(2, sent.len() - V1.len());
            client.close();
            assert!(scene.until(|| backend.saw_fin()));
            backend.close();
            assert_eq!(scene.settle().cause, None, "{what}, cut at {cut}");
        }
    }
}

#[test]
fn a_drain_lets_preludes_come_to_their_end_and_cuts_the_rest_at_its_deadline() {
    for finishes in [true, false] {
        let mut scene = Scene::new(Faults::none(), &text(&tls(PROXIED), ""));
        let client = scene.client();
        client.send(&V1[..10]);
        scene.pass(Duration::from_millis(10));
        let deadline = scene.world.net.now() + Duration::from_secs(5);
        scene.world.operator.drain(deadline);
        scene.pass(Duration::from_secs(1));
        assert!(!client.saw_reset(), "it has time until the deadline");
        let cause = if finishes {
            let hello = hello("a.example");
            client.send(&[&V1[10..], &hello].concat());
            let backend = scene.met(1, hello.len());
            client.close();
            assert!(scene.until(|| backend.saw_fin()));
            backend.close();
            None
        } else {
            assert!(scene.until(|| client.saw_reset()));
            assert!(scene.world.net.now() >= deadline);
            Some(Cause::BalancerDraining)
        };
        scene.until(|| false);
        assert!(scene.world.drained_at.is_some_and(|at| at <= deadline + Duration::from_millis(2)));
        assert_eq!(scene.settle().cause, cause);
    }
}

#[test]
fn a_backend_that_speaks_first_is_told_of_its_client_before_it_does() {
    for version in ["v1", "v2"] {
        let pool = format!("proxy_protocol = {{ version = \"{version}\" }}");
        let mut scene = Scene::new(Faults::none(), &text("\"tcp\"\npool = \"one\"\n", &pool));
        let client = scene.client();
        let backend = scene.met(1, 10);
        let bytes = backend.received();
        let proxy::Parsed::Whole(header, used) = proxy::parse(&bytes) else { panic!("{bytes:?}") };
        assert_eq!((header.client, used), (Some((client.local(), listener_address(82))), bytes.len()), "{version}");
        backend.send(b"220 ready\r\n");
        assert!(scene.until(|| client.received_len() == 11));
        client.send(b"QUIT\r\n");
        assert!(scene.until(|| backend.received().ends_with(b"\r\nQUIT\r\n")
            || version == "v2" && backend.received().ends_with(b"QUIT\r\n")));
        backend.close();
        assert!(scene.until(|| client.saw_fin()));
        client.close();
        let record = scene.settle();
        assert_eq!((record.cause, record.bytes_in, record.bytes_out), (None, 6, 11), "{version}");
    }
}

#[test]
fn values_beside_the_addresses_are_passed_on_where_they_are_known_and_asked_for() {
    let tlvs = "proxy_protocol = { version = \"v2\", tlvs = [\"authority\", \"alpn\", \"unique_id\"] }";
    let mut came_in = Vec::new();
    let (client, local) =
        ("198.51.100.7:4711".parse().expect("an address"), "203.0.113.1:443".parse().expect("an address"));
    let sent = |unique_id| proxy::Sent {
        client,
        local,
        datagram: false,
        authority: Some(b"told.example"),
        alpn: Some(b"told"),
        unique_id,
    };
    proxy::write_v2(&mut came_in, &sent(Some(b"theirs")));
    let hello = hello("a.example");
    let heard = |listener: &str, pool: &str, bytes: &[u8]| {
        let mut scene = Scene::new(Faults::none(), &text(listener, pool));
        let client = scene.client();
        client.send(bytes);
        let backend = scene.met(1, 28);
        scene.pass(Duration::from_millis(10));
        let heard = backend.received();
        client.close();
        assert!(scene.until(|| backend.saw_fin()));
        backend.close();
        let record = scene.settle();
        let proxy::Parsed::Whole(header, _) = proxy::parse(&heard) else { panic!("{heard:?}") };
        let own = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(header.client.map(|(client, _)| client), Some(record.client));
        (own(header.authority), own(header.alpn), own(header.unique_id), record.id.to_string())
    };
    let some = |text: &str| Some(text.to_owned());
    let tcp = format!("\"tcp\"\npool = \"one\"\n{PROXIED}");
    let (authority, alpn, id, _) = heard(&tcp, tlvs, &came_in);
    assert_eq!((authority, alpn, id), (some("told.example"), some("told"), some("theirs")), "what came in");
    let (authority, alpn, id, _) = heard(&tls(PROXIED), tlvs, &[&came_in[..], &hello].concat());
    assert_eq!((authority, alpn, id), (some("a.example"), some("imap"), some("theirs")), "what we read counts more");
    let (authority, alpn, id, own) = heard("\"tcp\"\npool = \"one\"\n", tlvs, b"x");
    assert_eq!((authority, alpn, id), (None, None, Some(own)), "what the log calls it");
    let (authority, alpn, id, _) = heard(&tcp, "proxy_protocol = { version = \"v2\", tlvs = [] }", &came_in);
    assert_eq!((authority, alpn, id), (None, None, None), "nothing was asked for");
}

#[test]
fn only_the_senders_named_may_say_who_the_client_is() {
    let config = text(&format!("\"tcp\"\npool = \"one\"\n{PROXIED}"), "");
    let mut scene = Scene::new(Faults::none(), &config);
    let stranger = IpAddr::from([198, 51, 100, 200]);
    let client = scene.world.net.client_connect_from(stranger, listener_address(82));
    client.send(V1);
    // To everybody else a header is a client's own bytes.
    let backend = scene.met(1, V1.len());
    assert_eq!(backend.received(), V1);
    client.close();
    assert!(scene.until(|| backend.saw_fin()));
    backend.close();
    assert_eq!(scene.settle().client.ip(), stranger);
}

#[test]
fn a_lifetime_ends_a_relay_however_busy_it_is() {
    let mut scene = Scene::new(Faults::none(), &text("\"tcp\"\npool = \"one\"\nlifetime = \"3s\"\n", ""));
    let client = scene.client();
    client.send(b"x");
    let backend = scene.met(1, 1);
    while !client.saw_reset() && !backend.saw_reset() {
        client.send(b"x");
        backend.send(b"y");
        scene.pass(Duration::from_millis(100));
    }
    let record = scene.settle();
    assert_eq!(record.cause, Some(Cause::RelayLifetimeOver));
    let took = record.times.ended - record.times.started;
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(3010), "{took:?}");
}

#[test]
fn a_fallen_verdict_resets_relays_only_where_the_pool_asks_for_it() {
    for policy in ["keep", "reset"] {
        let config = text("\"tcp\"\npool = \"one\"\n", &format!("on_unhealthy = \"{policy}\""));
        let mut scene = Scene::new(Faults::none(), &config);
        let client = scene.client();
        client.send(b"x");
        let backend = scene.met(1, 1);
        // Another pool's backend is another matter.
        let plan = plan(&config);
        scene.world.operator.publish(&plan, |address| address != tcp_address(2));
        scene.pass(Duration::from_millis(10));
        assert!(!client.saw_reset());
        scene.world.operator.publish(&plan, |address| address != tcp_address(1));
        scene.pass(Duration::from_millis(10));
        assert_eq!((client.saw_reset(), backend.saw_reset()), (policy == "reset", policy == "reset"));
        if policy == "keep" {
            client.close();
            assert!(scene.until(|| backend.saw_fin()));
            backend.close();
        }
        let cause = (policy == "reset").then_some(Cause::BackendTurnedUnhealthy);
        assert_eq!(scene.settle().cause, cause, "{policy}");
    }
}

/// The reset was passed on at once, and overtook what the backend had said before: clients whose upload was refused never
/// read why.
#[test]
fn a_backends_last_words_arrive_though_its_client_still_sends() {
    for slow_client in [false, true] {
        let faults = Faults { send_buffer: 5000, receive_window: 5000, ..Faults::none() };
        let mut scene = Scene::new(faults, &text("\"tcp\"\npool = \"one\"\n", ""));
        let client = scene.client();
        if slow_client {
            client.pause_reading();
        }
        client.send(b"upload");
        let backend = scene.met(1, 1);
        backend.pause_reading();
        client.send(&vec![b'x'; 200_000]);
        scene.pass(Duration::from_secs(1));
        backend.send(&[b'!'; 9000]);
        scene.pass(Duration::from_millis(100));
        backend.reset();
        for _ in 0..30 {
            scene.pass(Duration::from_millis(100));
            if slow_client && client.is_open() && !client.saw_reset() {
                client.read(1000);
            }
        }
        assert_eq!(client.received_len(), 9000, "slow: {slow_client}");
        assert!(scene.until(|| client.saw_reset()), "and then it is told");
        let record = scene.settle();
        assert_eq!((record.cause, record.bytes_out), (Some(Cause::BackendResetRelay), 9000));
    }
}

#[test]
fn a_reset_behind_a_silence_is_passed_on_at_once() {
    let mut scene = Scene::new(Faults::none(), &text("\"tcp\"\npool = \"one\"\n", ""));
    let client = scene.client();
    client.send(b"x");
    let backend = scene.met(1, 1);
    backend.send(b"y");
    scene.pass(Duration::from_secs(2));
    let at = scene.world.net.now();
    backend.reset();
    assert!(scene.until(|| client.saw_reset()));
    assert!(scene.world.net.now() < at + Duration::from_millis(10), "{:?}", scene.world.net.now() - at);
    assert_eq!(scene.settle().cause, Some(Cause::BackendResetRelay));
}

#[test]
fn connections_come_from_where_the_pool_says() {
    let from = |pool: &str| {
        let mut scene = Scene::new(Faults::none(), &text("\"tcp\"\npool = \"one\"\n", pool));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let client = scene.client();
            client.send(b"x");
            let backend = scene.met(1, 1);
            seen.push(backend.remote().ip());
            client.close();
            assert!(scene.until(|| backend.saw_fin()));
            backend.close();
        }
        scene.until(|| false);
        seen
    };
    let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
    assert_eq!(from(""), [NODE; 3]);
    let own = "source = [\"10.0.0.7\", \"10.0.0.8\"]";
    assert_eq!(from(own), ["10.0.0.7", "10.0.0.8", "10.0.0.7"].map(ip));
    assert_eq!(from("transparent = true"), [ip("192.0.2.1"); 3]);
}

#[test]
fn a_client_is_kept_by_its_address_and_moved_when_its_backend_falls() {
    let config = text("\"tcp\"\npool = \"one\"\n", "[pool.sticky]\nmode = \"address\"\ntimeout = \"60s\"").replace(
        "backends = [\"10.0.1.1:8081\"]",
        "schedule = \"rr\"\nbackends = [\"10.0.1.1:8081\", \"10.0.1.2:8081\"]",
    );
    let mut scene = Scene::new(Faults::none(), &config);
    let visit = |scene: &mut Scene, host: [u8; 4]| {
        let client = scene.world.net.client_connect_from(host.into(), listener_address(82));
        client.send(b"x");
        let backends = scene.backends.clone();
        let mut met = None;
        assert!(scene.until(|| {
            met = met.take().or_else(|| {
                backends
                    .iter()
                    .position(|backend| backend.completed() > 0 && backend.accept().inspect(End::close).is_some())
            });
            met.is_some() && client.saw_fin()
        }));
        client.close();
        met.expect("somebody was met") + 1
    };
    let first = visit(&mut scene, [198, 51, 100, 1]);
    for _ in 0..4 {
        assert_eq!(visit(&mut scene, [198, 51, 100, 1]), first, "kept");
    }
    let plan = plan(&config);
    scene.world.operator.publish(&plan, |address| address != tcp_address(first as u8));
    assert_ne!(visit(&mut scene, [198, 51, 100, 1]), first, "moved");
}
