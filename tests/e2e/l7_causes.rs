//! The causes of requests, each by a real fault, over HTTP/1.1 and HTTP/2, plain and inside TLS.
//!
//! A row is one fault and is played in every way a request can come. Whatever is spoken, client, `Proxy-Status`, access log,
//! metric and `evenkeel explain` must tell the same story. What is peculiar to TLS or to frames has tables of its own.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use evenkeel_model::Cause;

use crate::backend::{backend, hold, polite, read_head, reset, says};
use crate::causes::{deaf, explains, until_taken};
use crate::client::{Answer, End, Wire};
use crate::daemon::{Daemon, Setup, free_address, until};
use crate::l7_speak::{
    ACK, DATA, END_HEADERS, END_STREAM, Forge, Frames, Front, HEADERS, Issued, NAME, RST_STREAM, SETTINGS, Site, Talk,
    block, frame, in_tls,
};

/// What the client of a row saw.
enum Seen {
    /// A whole answer with the cause's status and `Proxy-Status`.
    Told(Answer),
    /// The backend's own error, passed on.
    Passed(Answer),
    /// A good head, and then an end where the body should have gone on.
    Cut(Answer),
    /// The client left.
    Nothing,
}

/// A row being played in one way.
struct Play<'a> {
    front: Front,
    site: Site,
    forge: &'a Forge,
}

impl Play<'_> {
    fn talk(&self) -> Talk {
        Talk::open(self.front, self.site, self.forge)
    }
}

type Client = Box<dyn Fn(&Play<'_>) -> Seen>;

struct Row {
    name: &'static str,
    cause: Cause,
    /// The status in the log; what the client was sent before a cut.
    status: Option<u16>,
    listener: String,
    /// `None`: the listener has no default pool.
    pool: Option<String>,
    backends: Vec<SocketAddr>,
    client: Client,
    fronts: &'static [Front],
}

impl Row {
    fn new(name: &'static str, cause: Cause, client: impl Fn(&Play<'_>) -> Seen + 'static) -> Row {
        let (status, client) = (cause.entry().status, Box::new(client));
        Row {
            name,
            cause,
            status,
            listener: String::new(),
            pool: Some(String::new()),
            backends: Vec::new(),
            client,
            fronts: &Front::ALL,
        }
    }

    fn at(mut self, backend: SocketAddr) -> Row {
        self.backends.push(backend);
        self
    }

    fn listener(mut self, keys: &str) -> Row {
        self.listener = keys.into();
        self
    }

    fn pool(mut self, keys: &str) -> Row {
        self.pool = Some(keys.into());
        self
    }

    fn no_pool(mut self) -> Row {
        self.pool = None;
        self
    }

    fn only_http1(mut self) -> Row {
        self.fronts = &[Front::Http1, Front::Http1Tls];
        self
    }

    fn status(mut self, status: u16) -> Row {
        self.status = Some(status);
        self
    }
}

fn told(request: impl Into<String>) -> impl Fn(&Play<'_>) -> Seen {
    let request = request.into();
    move |play| {
        let mut talk = play.talk();
        talk.send(&request);
        Seen::Told(talk.answer().unwrap_or_else(|end| panic!("no answer over {}: {end:?}", play.front.word())))
    }
}

fn get() -> impl Fn(&Play<'_>) -> Seen {
    told("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n")
}

/// Not idempotent, so it is never repeated and the first failure is the answer.
fn post() -> impl Fn(&Play<'_>) -> Seen {
    told("POST / HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n\r\n")
}

fn cut() -> impl Fn(&Play<'_>) -> Seen {
    |play| {
        let mut talk = play.talk();
        talk.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        match talk.answer() {
            Ok(answer) => Seen::Cut(answer),
            // A reset may overtake what came before it on its stream.
            Err(End::Reset) if play.front.is_http2() => Seen::Nothing,
            Err(end) => panic!("no head before the cut: {end:?}"),
        }
    }
}

/// Asks until it is told that it asks too often; a bucket may be shared with the row's other ways.
fn too_often() -> impl Fn(&Play<'_>) -> Seen {
    |play| {
        let mut talk = play.talk();
        let answers = (0..20).map(|_| talk.get("/", "")).find(|answer| answer.status != 200);
        Seen::Told(answers.expect("twenty requests at once are too many"))
    }
}

/// A request that takes up the only place at the backend, then one more.
fn beside_another() -> impl Fn(&Play<'_>) -> Seen {
    |play| {
        let mut first = play.talk();
        first.send("POST /first HTTP/1.1\r\nHost: e2e.test\r\nContent-Length: 0\r\n\r\n");
        // Its 100 says that the backend has it.
        assert_eq!(first.answer().expect("an interim answer").status, 103);
        let seen = get()(play);
        drop(first);
        seen
    }
}

/// Says that it has the request, and nothing more.
fn busy() -> SocketAddr {
    backend(|mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n");
            hold(stream);
        }
    })
}

/// An HTTP/2 backend that answers each request with the frames that `make` gives for its stream, each sent when the one
/// before was read.
fn frames_behind(make: impl Fn(u32) -> Vec<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    backend(move |mut stream| {
        let mut preface = [0; 24];
        if stream.read_exact(&mut preface).is_err() || stream.write_all(&frame(SETTINGS, 0, 0, &[])).is_err() {
            return;
        }
        let reading = Frames { pipe: stream.try_clone().expect("a socket can be cloned") };
        for asked in reading {
            let answers = match asked.kind {
                SETTINGS if asked.flags & ACK == 0 => vec![frame(SETTINGS, ACK, 0, &[])],
                HEADERS => make(asked.stream),
                _ => Vec::new(),
            };
            for answer in answers {
                let _ = stream.write_all(&answer);
                until_taken(&stream);
            }
        }
    })
}

fn rows(forge: &Forge) -> Vec<Row> {
    use Cause as C;
    let long = "x".repeat(2000);
    let partly = |bytes: &'static [u8]| {
        backend(move |mut stream| {
            if read_head(&mut stream).is_some() {
                let _ = stream.write_all(bytes);
                hold(stream);
            }
        })
    };
    let (got, heard) = channel();
    let got = Mutex::new(got);
    let listens_and_tells = backend(move |mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = got.lock().expect("no thread panics with it").send(());
            hold(stream);
        }
    });
    let tls_backend =
        |issued: Issued| backend(in_tls(&issued, |mut pipe| while matches!(pipe.read(&mut [0; 999]), Ok(1..)) {}));
    let trusting = |name: &str| format!("tls = {{ ca = \"{}\", name = \"{name}\" }}", forge.ca());
    let stranger = Forge::new("stranger");
    let strange = stranger.issue("strange", &["backend.test"]);
    vec![
        // The client's own faults.
        Row::new(
            "head-too-large",
            C::ClientHeaderTooLarge,
            told(format!("GET / HTTP/1.1\r\nHost: e\r\nA: {long}\r\n\r\n")),
        )
        .at(backend(polite))
        .listener("header_limit = \"1KiB\""),
        // HTTP/2 has no request line, only a list of fields that is too large.
        Row::new("uri-too-long", C::ClientUriTooLong, told(format!("GET /{long} HTTP/1.1\r\nHost: e\r\n\r\n")))
            .at(backend(polite))
            .listener("header_limit = \"1KiB\"")
            .only_http1(),
        Row::new(
            "body-too-large",
            C::ClientBodyTooLarge,
            told("POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 11\r\n\r\nhello world"),
        )
        .at(backend(polite))
        .listener("body_limit = \"10B\""),
        Row::new(
            "chunks-too-large",
            C::ClientBodyTooLarge,
            told("POST / HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"),
        )
        .at(backend(hold))
        .listener("body_limit = \"10B\""),
        Row::new("slow-body", C::ClientBodyTimeout, told("POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 9\r\n\r\nhel"))
            .at(backend(hold))
            .listener("body_timeout = \"150ms\""),
        Row::new("leaves", C::ClientAborted, move |play| {
            let mut talk = play.talk();
            talk.send("GET / HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
            heard.recv().expect("the backend was asked");
            let _ = talk.socket.shutdown(Shutdown::Both);
            Seen::Nothing
        })
        .at(listens_and_tells),
        // Who may come, and how often.
        Row::new("denied-behind-proxy", C::ClientDeniedByAcl, |play| {
            let mut talk = play.talk();
            assert_eq!(talk.get("/", "X-Forwarded-For: 198.51.100.1\r\n").status, 200, "another client of the proxy");
            Seen::Told(talk.get("/", "X-Forwarded-For: 192.0.2.7\r\n"))
        })
        .at(backend(polite))
        .listener("trusted = [\"127.0.0.0/8\"]\naccess = { deny = [\"192.0.2.0/24\"] }"),
        Row::new("not-allowed-behind-proxy", C::ClientDeniedByAcl, |play| {
            let mut talk = play.talk();
            assert_eq!(talk.get("/", "X-Forwarded-For: 198.51.100.1\r\n").status, 200, "an allowed client");
            Seen::Told(talk.get("/", "X-Forwarded-For: 192.0.2.7\r\n"))
        })
        .at(backend(polite))
        .listener("trusted = [\"127.0.0.0/8\"]\naccess = { allow = [\"198.51.100.0/24\"] }"),
        Row::new("client-asks-often", C::ClientRateLimited, too_often())
            .at(backend(polite))
            .listener("limit = { client_requests_per_second = { rate = 1, burst = 2 } }"),
        Row::new("all-ask-often", C::ClientRateLimited, too_often())
            .at(backend(polite))
            .listener("limit = { requests_per_second = { rate = 1, burst = 2 } }"),
        // The operator's.
        Row::new("no-such-host", C::HostNotConfigured, get())
            .no_pool()
            .listener("rule = [{ host = \"other.test\", answer = { body = \"other\" } }]"),
        Row::new("no-such-path", C::RuleNotFound, get())
            .no_pool()
            .listener("rule = [{ host = \"e2e.test\", path = \"/only\", answer = { body = \"only\" } }]"),
        Row::new(
            "loop",
            C::LoopDetected,
            told("GET / HTTP/1.1\r\nHost: e\r\nCDN-Loop: other, evenkeel-e2e;v=1\r\n\r\n"),
        )
        .at(backend(polite)),
        Row::new("empty-pool", C::NoBackendConfigured, get()),
        // No place at the backends.
        Row::new("queue-full", C::BackendQueueFull, beside_another()).at(busy()).pool("backend_limit = 1\nqueue = 0"),
        Row::new("queue-timeout", C::BackendQueueTimeout, beside_another())
            .at(busy())
            .pool("backend_limit = 1\nqueue_timeout = \"150ms\""),
        // The backend's, before a connection.
        Row::new("unhealthy", C::AllBackendsUnhealthy, get())
            .at(free_address())
            .pool("check = { kind = \"tcp\", interval = \"1s\", timeout = \"1s\" }"),
        Row::new("refused", C::BackendConnectRefused, get()).at(free_address()),
        Row::new("connect-timeout", C::BackendConnectTimeout, get()).at(deaf()).pool("connect_timeout = \"200ms\""),
        Row::new("certificate-expired", C::BackendTlsFailed, get())
            .at(tls_backend(forge.expired("old", &["backend.test"])))
            .pool(&trusting("backend.test")),
        Row::new("certificate-of-another", C::BackendTlsFailed, get())
            .at(tls_backend(forge.issue("another", &["another.test"])))
            .pool(&trusting("backend.test")),
        Row::new("certificate-of-a-stranger", C::BackendTlsFailed, get())
            .at(tls_backend(strange))
            .pool(&trusting("backend.test")),
        Row::new("no-tls-there", C::BackendTlsFailed, get())
            .at(backend(|mut stream| {
                if matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
                }
            }))
            .pool(&trusting("backend.test")),
        // Before an answer.
        Row::new("reset", C::BackendResetBeforeResponse, post()).at(backend(|mut stream| {
            read_head(&mut stream);
            reset(&stream);
        })),
        Row::new("closed", C::BackendClosedBeforeResponse, post()).at(backend(|mut stream| {
            read_head(&mut stream);
        })),
        Row::new("not-http", C::BackendMalformedResponse, get()).at(backend(says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))),
        Row::new("http1-for-http2", C::BackendMalformedResponse, get())
            .at(backend(says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")))
            .pool("protocol = \"h2\""),
        Row::new("data-before-head", C::BackendMalformedResponse, get())
            .at(frames_behind(|stream| vec![frame(DATA, END_STREAM, stream, b"hello")]))
            .pool("protocol = \"h2\""),
        Row::new("uppercase-from-http2", C::BackendMalformedResponse, get())
            .at(frames_behind(|stream| {
                vec![frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200"), ("Upper", "x")]))]
            }))
            .pool("protocol = \"h2\""),
        Row::new("huge-head", C::BackendHeaderTooLarge, get())
            .at(backend(says(
                format!("HTTP/1.1 200 OK\r\nSet-Cookie: {long}\r\nContent-Length: 0\r\n\r\n").leak().as_bytes(),
            )))
            .listener("header_limit = \"1KiB\""),
        Row::new("silent", C::BackendResponseTimeout, get()).at(backend(hold)).pool("response_timeout = \"150ms\""),
        Row::new("silent-http2", C::BackendResponseTimeout, get())
            .at(frames_behind(|_| Vec::new()))
            .pool("protocol = \"h2\"\nresponse_timeout = \"150ms\""),
        Row::new("error", C::BackendAnsweredError, |play| Seen::Passed(play.talk().get("/", "")))
            .at(backend(says(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops")))
            .status(500),
        // In the middle of an answer: cut, and never a success.
        Row::new("closes-in-body", C::BackendResetMidResponse, cut())
            .at(backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")))
            .status(200),
        Row::new("closes-in-chunks", C::BackendResetMidResponse, cut())
            .at(backend(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")))
            .status(200),
        Row::new("resets-in-endless", C::BackendResetMidResponse, cut())
            .at(backend(|mut stream| {
                if read_head(&mut stream).is_some() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npart");
                    until_taken(&stream);
                    reset(&stream);
                }
            }))
            .status(200),
        Row::new("stops-in-body", C::BackendBodyTimeout, cut())
            .at(partly(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"))
            .pool("body_timeout = \"150ms\"")
            .status(200),
        Row::new("bad-chunks", C::BackendMalformedBody, cut())
            .at(partly(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"))
            .status(200),
        Row::new("resets-stream-in-body", C::BackendResetMidResponse, cut())
            .at(frames_behind(|stream| {
                let head = block(&[(":status", "200"), ("content-length", "100")]);
                vec![
                    frame(HEADERS, END_HEADERS, stream, &head),
                    frame(DATA, 0, stream, b"part"),
                    frame(RST_STREAM, 0, stream, &2u32.to_be_bytes()),
                ]
            }))
            .pool("protocol = \"h2\"")
            .status(200),
    ]
}

/// Plays a row in one way and compares what client, log and metric say.
fn check(daemon: &Daemon, row: &Row, play: &Play<'_>) {
    let Row { name, cause, .. } = row;
    let entry = cause.entry();
    let (code, way) = (entry.code, format!("{name} over {}", play.front.word()));
    let listener = if play.front.is_tls() { format!("{name}-tls") } else { (*name).to_owned() };
    let ours = || {
        let lines = daemon.log().into_iter();
        let lines = lines.filter(|line| line["listener"] == *listener && line["cause"] == code);
        // What came of a head that was not understood has no version.
        let version = play.front.version();
        lines.filter(|line| line["version"].as_str().is_none_or(|it| it.starts_with(version))).collect::<Vec<_>>()
    };
    eprintln!("fault: {way}");
    let before = ours().len();
    let seen = (row.client)(play);
    let token = entry.token.map(|token| format!("error={token}"));
    match &seen {
        Seen::Told(answer) => {
            assert_eq!(Some(answer.status), row.status, "{way}: {}", answer.head);
            assert_eq!(answer.end, End::Framed, "{way}: {}", answer.head);
            let status = answer.field("proxy-status").unwrap_or_default();
            assert!(status.contains(&format!("details=\"{code}\"")), "{way}: Proxy-Status is {status}");
            assert!(token.is_none_or(|token| status.contains(&token)), "{way}: Proxy-Status is {status}");
        }
        Seen::Passed(answer) => {
            assert_eq!(answer.field("proxy-status"), Some("evenkeel; received-status=500"), "{way}");
            assert_eq!((answer.status, answer.end), (500, End::Framed), "{way}");
            assert_eq!(answer.body, b"oops", "{way}: the backend's own words are passed on");
        }
        Seen::Cut(answer) => {
            assert_eq!(Some(answer.status), row.status, "{way}: {}", answer.head);
            assert_ne!(answer.end, End::Framed, "{way}: the client took a part for the whole");
            // On HTTP/2 the end of a stream would be the end of the body.
            assert!(!play.front.is_http2() || answer.end == End::Reset, "{way}: {:?}", answer.end);
        }
        Seen::Nothing => {}
    }
    let line = until(&format!("the access-log line of {way}"), || ours().into_iter().nth(before));
    assert_eq!(line["blame"], entry.blame.word(), "{way}: {line}");
    assert_eq!(
        line["phase"],
        if *cause == Cause::ClientAborted { "response_head" } else { entry.phase.word() },
        "{way}"
    );
    assert_eq!(line["status"].as_u64(), row.status.map(u64::from), "{way}: {line}");
    let labels =
        [format!("listener=\"{listener}\""), format!("cause=\"{code}\""), format!("blame=\"{}\"", entry.blame.word())];
    let labels = labels.each_ref().map(String::as_str);
    assert!(daemon.metric("evenkeel_failures_total", &labels) >= 1.0, "{way}: no metric with {labels:?}");
}

fn config(forge: &Forge, rows: &[Row], sites: &[Site]) -> String {
    let certificate = forge.issue("listener", &[NAME]);
    let mut config = String::new();
    for (row, site) in rows.iter().zip(sites) {
        let Row { name, listener, pool, backends, .. } = row;
        let Some(pool) = pool else {
            config += &forge.listeners(name, *site, &certificate, listener);
            continue;
        };
        let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
        let check = if pool.contains("check =") { "" } else { "check = \"off\"" };
        config += &forge.listeners(name, *site, &certificate, &format!("pool = \"{name}\"\n{listener}"));
        config += &format!("[[pool]]\nname = \"{name}\"\nbackends = [{}]\n{check}\n{pool}\n", backends.join(", "));
    }
    config
}

#[test]
fn every_fault_has_one_name_however_the_request_came() {
    let forge = Forge::new("l7-causes");
    let rows = rows(&forge);
    let sites: Vec<Site> = rows.iter().map(|_| Site { plain: free_address(), tls: free_address() }).collect();
    let config = config(&forge, &rows, &sites);
    let daemon =
        Daemon::start_with(&Setup { name: "l7-causes", node: "cluster = \"e2e\"", body: &config, namespace: None });
    for row in rows.iter().filter(|row| row.cause == Cause::AllBackendsUnhealthy) {
        daemon.wait_verdict(row.name, &row.backends[0].to_string(), "unhealthy");
    }
    for (row, site) in rows.iter().zip(&sites) {
        for &front in row.fronts {
            check(&daemon, row, &Play { front, site: *site, forge: &forge });
        }
    }
    // Nobody else failed, but for the requests that took up a place and were let go.
    for line in daemon.log().iter().filter(|line| !line["cause"].is_null()) {
        let listener = line["listener"].as_str().unwrap_or_default().trim_end_matches("-tls").to_owned();
        let row = rows.iter().find(|row| row.name == listener).expect("every line has a listener of ours");
        let first = line["target"] == "/first" && line["cause"] == "client_aborted";
        assert!(line["cause"] == row.cause.code() || first, "{}: {line}", row.name);
    }
    let codes: BTreeSet<&str> = rows.iter().map(|row| row.cause.code()).collect();
    codes.into_iter().for_each(explains);
}

#[test]
fn a_request_that_comes_back_is_stopped_at_the_first_node_that_knows_it() {
    // A backend that calls the balancer, as one with a wrong address in its own config does; and two nodes of a cluster.
    let (own, front, behind) = (free_address(), free_address(), free_address());
    let calls_back = backend(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let mut wire = Wire::open(own);
            wire.send(&head);
            let answer = wire.answer().expect("the balancer answers");
            if stream.write_all(&[answer.head.as_bytes(), &answer.body].concat()).is_err() {
                return;
            }
        }
    });
    let listener = |name: &str, address: SocketAddr, to: SocketAddr| {
        format!(
            "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\npool = \"{name}\"\n\
             [[pool]]\nname = \"{name}\"\nbackends = [\"{to}\"]\ncheck = \"off\"\n"
        )
    };
    let start = |name, body: &str| {
        Daemon::start_with(&Setup { name, node: "cluster = \"one-cluster\"", body, namespace: None })
    };
    let first = start("loop-first", &(listener("own", own, calls_back) + &listener("front", front, behind)));
    let second = start("loop-second", &listener("behind", behind, backend(polite)));
    let forge = Forge::new("loop");
    let table = [("own", own, &first, "own"), ("two nodes", front, &second, "behind")];
    for (what, address, stopped_by, listener) in table {
        for front in [Front::Http1, Front::Http2] {
            let mut talk =
                Talk::open_as(front, address, &forge, NAME).unwrap_or_else(|error| panic!("{what}: {error}"));
            let target = format!("/{listener}-{}", front.word());
            let answer = talk.get(&target, "");
            assert_eq!(answer.status, 508, "{what}: {}", answer.head);
            let status: Vec<&str> = answer.fields("proxy-status").collect();
            assert!(
                status.join(", ").contains("received-status=508"),
                "{what}: the outer one passes it on: {status:?}"
            );
            let line = stopped_by.wait_log_where(&target, |line| {
                line["target"] == *target && line["listener"] == listener && line["cause"] == "loop_detected"
            });
            assert_eq!((&line["status"], &line["phase"]), (&508.into(), &"rule".into()), "{line}");
        }
    }
    let turns = first.log().iter().filter(|line| line["listener"] == "own").count();
    assert_eq!(turns, 4, "each request came round once");
    assert!(second.metric("evenkeel_failures_total", &["listener=\"behind\"", "cause=\"loop_detected\""]) >= 2.0);
}
