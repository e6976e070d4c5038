//! Who the client is: told to us by PROXY headers, and by us to backends, by header or by where a connection comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_h2::{Close, Role};
use evenkeel_model::{Cause, Cidr, CidrSet, Instant};
use evenkeel_plan::{Access, Listener, Plan, Pool, ProxyDatagrams, ProxyProtocol, ProxyVersion, Source};
use evenkeel_reactor::sim::{End, Faults};
use evenkeel_tls::{Offers, Session};
use evenkeel_wire::proxy::{self, Parsed, Sent, write_v1, write_v2};

use crate::certificates;
use crate::line::Line;
use crate::mixed::{GET, HTTP2, OK, Scene, ask, settings, text};
use crate::trunk::Trunk;
use crate::world::{Behind, NODE, listener_address};

/// In front of us; its connections begin with a header.
const SENDER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 9));

const CLIENT: &str = "192.0.2.7:4711";
const REACHED: &str = "203.0.113.5:8443";

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn set(cidrs: &[&str]) -> CidrSet {
    CidrSet::new(cidrs.iter().map(|text| text.parse::<Cidr>().expect("a range")))
}

fn each_listener(plan: &mut Plan, change: impl Fn(&mut Listener)) {
    plan.listeners.iter_mut().for_each(|listener| change(Arc::make_mut(listener)));
}

fn each_pool(plan: &mut Plan, change: impl Fn(&mut Pool)) {
    plan.pools.iter_mut().for_each(|pool| change(Arc::make_mut(pool)));
}

/// Where headers are expected from `SENDER`.
fn behind_sender(change: impl Fn(&mut Listener)) -> Scene {
    Scene::with(&[1], Behind::default(), Faults::none(), |plan| {
        each_listener(plan, |listener| {
            listener.proxies = set(&["10.0.9.0/24"]);
            change(listener);
        });
    })
}

fn sender(scene: &Scene, port: u16) -> End {
    scene.world.net.client_connect_from(SENDER, listener_address(port))
}

fn v1() -> Vec<u8> {
    let mut header = Vec::new();
    write_v1(&mut header, socket(CLIENT), socket(REACHED));
    header
}

fn v2() -> Vec<u8> {
    let mut header = Vec::new();
    let (client, local) = (socket(CLIENT), socket(REACHED));
    write_v2(
        &mut header,
        &Sent { client, local, datagram: false, authority: Some(b"a.example"), alpn: None, unique_id: None },
    );
    header
}

/// The sender's own connection (LOCAL).
const OF_NOBODY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

fn field(request: &str, name: &str) -> Option<String> {
    let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.and_then(|line| Some(line.split_once(": ")?.1.to_owned()))
}

#[test]
fn whom_a_header_names_is_the_client_for_the_backend_and_for_the_log() {
    for header in [v1(), v2()] {
        for at_once in [true, false] {
            let mut scene = behind_sender(|_| {});
            let client = sender(&scene, 80);
            let all = [&header[..], GET].concat();
            if at_once {
                client.send(&all);
            } else {
                for byte in all {
                    client.send(&[byte]);
                    scene.pass(Duration::from_millis(1));
                }
            }
            let backend = scene.asked();
            let asked = text(&backend);
            assert_eq!(field(&asked, "x-forwarded-for").as_deref(), Some("192.0.2.7"), "{asked}");
            assert_eq!(field(&asked, "x-forwarded-port").as_deref(), Some("8443"), "{asked}");
            backend.send(OK);
            assert!(scene.until(|| text(&client).ends_with("ok")), "{}", text(&client));
            // The header names the client of the whole connection.
            client.send(GET);
            let asked_again = || text(&backend).matches("\r\nX-Forwarded-For: 192.0.2.7\r\n").count() == 2;
            assert!(scene.until(asked_again), "{}", text(&backend));
            backend.send(OK);
            assert!(scene.until(|| text(&client).matches("\r\n\r\nok").count() == 2));
            client.close();
            backend.close();
            scene.settle();
            let clients: Vec<_> = scene.world.records.all().iter().map(|record| record.client).collect();
            assert_eq!(clients, [socket(CLIENT); 2]);
        }
    }
}

#[test]
fn a_header_goes_before_tls_and_before_http2() {
    for (header, http2) in [(v1(), false), (v2(), false), (v1(), true), (v2(), true)] {
        let mut scene = behind_sender(|_| {});
        let end = sender(&scene, 443);
        end.send(&header);
        let offers = if http2 { Offers::Http2 } else { Offers::Http1 };
        let session = Session::client(&certificates::client(offers), NODE).expect("the settings were accepted");
        let mut line = Line::new(end, Some(session));
        let backend = if http2 {
            let trunk = Trunk::new(line, Role::Client, &settings_over_tls(), &scene.world.net);
            scene.trunks.push(trunk.clone());
            let mut stream = ask(&trunk, GET);
            let backend = scene.asked();
            backend.send(OK);
            let mut received = Vec::new();
            assert!(scene.until(|| {
                received.extend(stream.take());
                received.ends_with(b"ok")
            }));
            stream.close(Close::Orderly);
            backend
        } else {
            line.send(GET);
            let backend = {
                let backends = scene.backends.clone();
                let mut met = None;
                assert!(scene.until(|| {
                    line.take();
                    met = met.take().or_else(|| backends[0].accept());
                    met.as_ref().is_some_and(|end| end.received_len() > 0)
                }));
                met.expect("somebody was met")
            };
            backend.send(OK);
            let mut received = Vec::new();
            assert!(scene.until(|| {
                received.extend(line.take());
                received.ends_with(b"ok")
            }));
            line.close();
            backend
        };
        assert_eq!(field(&text(&backend), "x-forwarded-for").as_deref(), Some("192.0.2.7"));
        assert_eq!(field(&text(&backend), "x-forwarded-port").as_deref(), Some("8443"));
        backend.close();
        scene.settle();
        let records = scene.world.records.all();
        assert_eq!((records[0].client, records[0].cause), (socket(CLIENT), None));
    }
}

fn settings_over_tls() -> evenkeel_h2::Settings {
    evenkeel_h2::Settings { secure: true, ..settings() }
}

#[test]
fn http2_with_prior_knowledge_begins_behind_the_header() {
    let mut scene = behind_sender(|_| {});
    let end = sender(&scene, 80);
    end.send(&v2());
    let trunk = Trunk::new(Line::new(end, None), Role::Client, &settings(), &scene.world.net);
    scene.trunks.push(trunk.clone());
    let streams = [ask(&trunk, GET), ask(&trunk, GET)];
    for _ in &streams {
        let backend = scene.asked();
        assert_eq!(field(&text(&backend), "x-forwarded-for").as_deref(), Some("192.0.2.7"));
        backend.send(OK);
        scene.pass(Duration::from_millis(10));
        backend.close();
    }
    streams.into_iter().for_each(|mut stream| stream.close(Close::Orderly));
    scene.settle();
    assert!(scene.world.records.all().iter().all(|record| record.client == socket(CLIENT)));
}

#[test]
fn a_sender_that_sends_no_good_header_is_reset_with_the_cause() {
    let begins: [&[u8]; 4] = [GET, b"PROXY TCP4 192.0.2.7\r\n", b"PROXY TCP4 192.0.2.256 ", b"\x16\x03\x01"];
    for port in [80, 443] {
        for begin in begins {
            let mut scene = behind_sender(|_| {});
            let client = sender(&scene, port);
            client.send(begin);
            assert!(scene.until(|| client.saw_reset()), "{begin:?}");
            assert_eq!(client.received_len(), 0);
            scene.settle();
            assert_eq!(scene.causes(), [Some(Cause::ClientProxyHeaderInvalid)]);
            assert_eq!(scene.world.records.all()[0].client.ip(), SENDER);
        }
    }
}

#[test]
fn a_header_has_its_time_and_its_end() {
    for port in [80, 443] {
        for begin in [&b""[..], &v2()[..20]] {
            let mut scene = behind_sender(|_| {});
            let client = sender(&scene, port);
            client.send(begin);
            assert!(scene.until(|| client.saw_reset()));
            // `header_timeout` of these stories.
            assert!(scene.world.net.now() >= Instant::START + Duration::from_secs(10));
            scene.settle();
            assert_eq!(scene.causes(), [Some(Cause::ClientProxyHeaderInvalid)]);
        }
        let mut scene = behind_sender(|_| {});
        let (probe, broken) = (sender(&scene, port), sender(&scene, port));
        probe.finish();
        broken.send(&v1()[..20]);
        broken.finish();
        assert!(scene.until(|| probe.saw_fin() && broken.saw_reset()));
        probe.close();
        scene.settle();
        assert_eq!(scene.causes(), [Some(Cause::ClientProxyHeaderInvalid)], "who says nothing has done nothing wrong");
    }
}

#[test]
fn nobody_else_may_send_a_header() {
    let mut scene = behind_sender(|_| {});
    let client = scene.client();
    client.send(&[&v1()[..], GET].concat());
    assert!(scene.until(|| text(&client).starts_with("HTTP/1.1 400 ")), "{}", text(&client));
    client.close();
    scene.settle();
    assert_eq!(scene.causes(), [Some(Cause::ClientMalformedRequest)]);
    assert_eq!(scene.world.records.all()[0].client, client.local());
}

#[test]
fn lists_and_limits_look_at_whom_the_header_names() {
    let denied = Access { allow: CidrSet::default(), deny: set(&["192.0.2.7/32"]) };
    let mut scene = behind_sender(|listener| listener.access = denied.clone());
    let client = sender(&scene, 80);
    client.send(&[&v1()[..], GET].concat());
    assert!(scene.until(|| text(&client).starts_with("HTTP/1.1 403 ")), "{}", text(&client));
    assert!(text(&client).contains("client_denied_by_acl"));
    client.close();
    // There is no status before TLS.
    let client = sender(&scene, 443);
    client.send(&v1());
    assert!(scene.until(|| client.saw_reset()));
    assert_eq!(client.received_len(), 0);
    // Another client of the same sender comes in, and so does the sender itself.
    let other = b"PROXY TCP4 192.0.2.8 203.0.113.5 4711 80\r\n";
    for header in [&other[..], OF_NOBODY] {
        let client = sender(&scene, 80);
        client.send(&[header, GET].concat());
        let backend = scene.asked();
        let named = if header == OF_NOBODY { SENDER.to_string() } else { "192.0.2.8".into() };
        assert_eq!(field(&text(&backend), "x-forwarded-for"), Some(named));
        backend.send(OK);
        assert!(scene.until(|| text(&client).ends_with("ok")));
        client.close();
        backend.close();
    }
    scene.settle();
    let turned = Some(Cause::ClientDeniedByAcl);
    assert_eq!(scene.causes(), [turned, turned, None, None]);
    assert_eq!(scene.world.records.all()[1].client, socket(CLIENT));
}

/// First the header, then `trusted`: the address it names is the one whose fields are believed, or not.
#[test]
fn trusted_is_asked_of_whom_the_header_names_and_not_of_its_sender() {
    let request = b"GET /r HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n";
    let believed = ("192.0.2.0/24", "198.51.100.9, 192.0.2.7");
    let replaced = ("10.0.9.0/24", "192.0.2.7");
    for (trusted, expected) in [believed, replaced] {
        let mut scene = behind_sender(|listener| {
            listener.http.trusted = vec![trusted.parse().expect("a range")];
        });
        let client = sender(&scene, 80);
        client.send(&[&v1()[..], request].concat());
        let backend = scene.asked();
        assert_eq!(field(&text(&backend), "x-forwarded-for").as_deref(), Some(expected), "trusted = {trusted}");
        backend.send(OK);
        assert!(scene.until(|| text(&client).ends_with("ok")));
        client.close();
        backend.close();
        scene.settle();
    }
}

const V1: ProxyProtocol = ProxyProtocol {
    version: ProxyVersion::V1,
    authority: false,
    alpn: false,
    unique_id: false,
    datagrams: ProxyDatagrams::First,
};
const V2: ProxyProtocol =
    ProxyProtocol { version: ProxyVersion::V2, authority: true, alpn: true, unique_id: true, ..V1 };

/// What a connection told of its client, and what is behind it.
fn introduced(bytes: &[u8]) -> (SocketAddr, SocketAddr, Option<String>, &[u8]) {
    let Parsed::Whole(header, used) = proxy::parse(bytes) else { panic!("no header: {bytes:?}") };
    let (client, local) = header.client.expect("a client is named");
    let id = header.unique_id.map(|id| String::from_utf8_lossy(id).into_owned());
    (client, local, id, &bytes[used..])
}

#[test]
fn a_backend_hears_of_the_client_first_and_serves_it_once_on_a_connection() {
    for protocol in [V1, V2] {
        for faults in [Faults::none(), Faults { send_buffer: 3, receive_window: 3, ..Faults::none() }] {
            let mut scene = Scene::with(&[1], Behind::default(), faults, |plan| {
                each_pool(plan, |pool| pool.proxy_protocol = Some(protocol));
            });
            let client = scene.client();
            for turn in 1..=2 {
                client.send(GET);
                let backend = scene.met();
                assert!(scene.until(|| backend.received().ends_with(b"\r\n\r\n") && backend.received_len() > 100));
                let bytes = backend.received();
                let (named, local, id, request) = introduced(&bytes);
                assert_eq!((named, local), (client.local(), listener_address(80)));
                let request = String::from_utf8_lossy(request).into_owned();
                assert!(request.starts_with("GET /r HTTP/1.1\r\n"), "{request}");
                assert_eq!(field(&request, "connection").as_deref(), Some("close"), "{request}");
                backend.send(OK);
                assert!(scene.until(|| text(&client).matches("\r\n\r\nok").count() == turn));
                // It is not kept for anybody.
                assert!(scene.until(|| backend.saw_fin()));
                backend.close();
                let record = scene.world.records.all().pop().expect("of this request");
                let logged = format!("{:016x}{:016x}", record.id.process, record.id.sequence);
                assert_eq!(id, (protocol == V2).then_some(logged));
            }
            client.close();
            scene.settle();
            assert_eq!(scene.causes(), [None, None]);
        }
    }
}

#[test]
fn a_tunnel_begins_behind_the_header_too() {
    let mut scene = Scene::with(&[1], Behind::default(), Faults::none(), |plan| {
        each_pool(plan, |pool| pool.proxy_protocol = Some(V2));
    });
    let client = scene.client();
    client.send(b"GET /r HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let backend = scene.met();
    assert!(scene.until(|| backend.received().ends_with(b"\r\n\r\n") && backend.received_len() > 100));
    let bytes = backend.take();
    let request = String::from_utf8_lossy(introduced(&bytes).3).into_owned();
    assert_eq!(field(&request, "connection").as_deref(), Some("upgrade"), "{request}");
    backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(scene.until(|| text(&client).ends_with("\r\n\r\n")));
    client.send(b"ping");
    assert!(scene.until(|| backend.received() == b"ping"));
    client.close();
    assert!(scene.until(|| backend.saw_fin()));
    backend.close();
    scene.settle();
}

#[test]
fn over_http2_to_backends_each_request_has_its_own_connection_with_its_own_header() {
    let mut scene = Scene::with(&[1], HTTP2, Faults::none(), |plan| {
        each_pool(plan, |pool| pool.proxy_protocol = Some(V1));
    });
    let clients = [scene.client(), scene.client()];
    for client in &clients {
        client.send(GET);
        let end = scene.met();
        let header = format!("PROXY TCP4 {} 10.0.0.1 {} 80\r\n", client.local().ip(), client.local().port());
        assert!(scene.until(|| end.received_len() > header.len()));
        let bytes = end.take();
        assert_eq!(&bytes[..header.len()], header.as_bytes());
        let trunk = Trunk::new(Line::new(end.clone(), None), Role::Server, &settings(), &scene.world.net);
        trunk.borrow_mut().hear(&bytes[header.len()..], &scene.world.net);
        scene.trunks.push(trunk.clone());
        let mut stream = scene.next_stream(&trunk);
        stream.send(OK);
        stream.close(Close::Orderly);
        assert!(scene.until(|| text(client).ends_with("ok")), "{}", text(client));
        assert!(scene.until(|| end.saw_fin()), "it is not kept for anybody");
    }
    clients.iter().for_each(End::close);
    scene.settle();
    assert_eq!(scene.causes(), [None, None]);
}

#[test]
fn before_tls_to_a_backend_goes_the_header() {
    let behind = Behind { tls: true, ..Behind::default() };
    let mut scene = Scene::with(&[1], behind, Faults::none(), |plan| {
        each_pool(plan, |pool| pool.proxy_protocol = Some(V2));
    });
    let client = scene.client();
    client.send(GET);
    let backend = scene.asked();
    let header = backend.take();
    let (named, _, _, rest) = introduced(&header);
    assert_eq!((named, rest), (client.local(), &b""[..]));
    assert!(scene.until(|| backend.received_len() > 0));
    assert_eq!(backend.received()[0], 22, "a record of a handshake");
    client.close();
    backend.close();
    scene.settle();
}

#[test]
fn a_backend_that_resets_over_the_header_costs_a_try() {
    let mut scene = Scene::with(&[1, 2], Behind::default(), Faults { send_buffer: 3, ..Faults::none() }, |plan| {
        each_pool(plan, |pool| pool.proxy_protocol = Some(V2));
    });
    let client = scene.client();
    client.send(GET);
    let first = scene.met();
    first.reset();
    let second = scene.met();
    assert_ne!(first.local(), second.local());
    second.send(OK);
    assert!(scene.until(|| text(&client).ends_with("ok")), "{}", text(&client));
    client.close();
    second.close();
    scene.settle();
    assert_eq!(scene.causes(), [None]);
}

#[test]
fn connections_in_a_clients_name_are_no_other_clients() {
    for behind in [Behind::default(), HTTP2] {
        let mut scene =
            Scene::with(&[1], behind, Faults::none(), |plan| each_pool(plan, |pool| pool.source = Source::Client));
        let hosts = [3, 4].map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 7, last)));
        let clients = hosts.map(|host| scene.world.net.client_connect_from(host, listener_address(80)));
        for (client, host) in clients.iter().zip(hosts) {
            client.send(GET);
            let end = scene.met();
            assert_eq!(end.remote().ip(), host);
            if behind == HTTP2 {
                let trunk = Trunk::new(Line::new(end.clone(), None), Role::Server, &settings(), &scene.world.net);
                scene.trunks.push(trunk.clone());
                let mut stream = scene.next_stream(&trunk);
                stream.send(OK);
                stream.close(Close::Orderly);
            } else {
                assert!(scene.until(|| end.received_len() > 0));
                end.send(OK);
            }
            assert!(scene.until(|| text(client).ends_with("ok")));
            assert!(scene.until(|| end.saw_fin()), "it is not kept for anybody");
            end.close();
        }
        clients.iter().for_each(End::close);
        scene.settle();
        assert_eq!(scene.causes(), [None, None]);
    }
}

#[test]
fn sources_take_turns_and_their_connections_are_kept() {
    let own = ["10.0.0.11", "10.0.0.12"].map(|text| text.parse::<IpAddr>().expect("an address"));
    let mut scene = Scene::with(&[1], Behind::default(), Faults::none(), |plan| {
        each_pool(plan, |pool| pool.source = Source::Own(own.into()));
    });
    let clients = [scene.client(), scene.client()];
    clients.iter().for_each(|client| client.send(GET));
    let backends = [scene.asked(), scene.asked()];
    assert_eq!(backends.each_ref().map(|end| end.remote().ip()), own);
    backends.iter().for_each(|backend| backend.send(OK));
    assert!(scene.until(|| clients.iter().all(|client| text(client).ends_with("ok"))));
    clients[0].send(GET);
    assert!(scene.until(|| backends.iter().any(|backend| backend.received_len() > 2 * GET.len() + 60)));
    clients.iter().for_each(End::close);
    backends.iter().for_each(End::close);
    scene.settle();
}
