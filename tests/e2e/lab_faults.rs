//! The faults of the lab, by whose they are: the application's, its web server's, those of TLS, of the network, of the
//! operator, of the client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use evenkeel_model::Cause;

use crate::backend::{read_head, reset};
use crate::lab::run;
use crate::lab_rows::{Ask, Behind, Certificate, Row, Until, Verdict};
use crate::lab_sites::{FASTCGI_PORT, HOSTS, Place};

/// A page of health on a port of its own, served by somebody who stays well.
const ELSEWHERE: &str = "kind = \"http\"\nport = 8000\npath = \"/health.html\"\ntls = false";
const CONNECTS: &str = "kind = \"tcp\"";

/// The pools of processes of the php-fpm that lives.
pub const PHP_POOLS: [(&str, &str); 5] = [
    ("www", "pm = static\npm.max_children = 60"),
    ("busy", "pm = static\npm.max_children = 1"),
    ("backlog", "pm = static\npm.max_children = 1\nlisten.backlog = 1"),
    ("strict", "pm = static\npm.max_children = 4\nrequest_terminate_timeout = 1s"),
    ("tcp", "pm = static\npm.max_children = 2\nlisten = 0.0.0.0:9000"),
];

/// The pool of the php-fpm that is stopped.
pub const STOPPED_POOLS: [(&str, &str); 1] = [("stopped", "pm = static\npm.max_children = 2")];

/// All faults; two php-fpm of the stage are `PHP_POOLS` and `STOPPED_POOLS`.
pub fn rows(place: &Place, ca: &str) -> Vec<Row> {
    let mut rows = of_the_application(place);
    rows.extend(of_the_web_server(place));
    rows.extend(of_tls(ca));
    rows.extend(of_the_network(place));
    rows.extend(of_the_operator(place));
    rows.extend(of_the_client(place));
    rows
}

fn of_the_application(place: &Place) -> Vec<Row> {
    use Cause as C;
    let www = place.php("www", "");
    let unbuffered = place.php("www", "fastcgi_buffering off;");
    vec![
        Row::new(
            "php-busy",
            "php-fpm: every child is busy",
            "`pm.max_children = 1`, and that child works on a request that takes minutes. The page of health is a static file. `response_timeout = \"1s\"`.",
        )
        .nginx(&place.php("busy", ""))
        .pool("response_timeout = \"1s\"")
        .asks("hold")
        .by(Ask::BesideHeld(1, Until::Running))
        .gives(504, C::BackendResponseTimeout),
        Row::new(
            "php-backlog",
            "php-fpm: every child is busy, and its queue is full",
            "As before, with `listen.backlog = 1` and more requests than that waiting: nginx cannot even hand the request over.",
        )
        .nginx(&place.php("backlog", ""))
        .asks("hold")
        .by(Ask::BesideHeld(4, Until::TurnedAway))
        .gives(502, C::BackendAnsweredError),
        Row::new(
            "php-terminated",
            "php-fpm: the script ran into `request_terminate_timeout`",
            "`request_terminate_timeout = 1s`, and a script that takes 4 s: php-fpm kills the child, nginx answers 502.",
        )
        .nginx(&place.php("strict", ""))
        .asks("slow")
        .gives(502, C::BackendAnsweredError),
        Row::new(
            "php-down",
            "php-fpm is down on both hosts; the static page of health is fine",
            "php-fpm was stopped. nginx answers 502 for every script and 200 for the file that the check asks for.",
        )
        .nginx(&place.php("stopped", ""))
        .gives(502, C::BackendAnsweredError)
        .note("Probes and traffic are two facts, and `/status` shows both. Point the check at a script, or add `[pool.passive]`."),
        Row::new(
            "php-down-one",
            "php-fpm is down on one of two hosts; the static page of health is fine",
            "As before on one host, with `[pool.passive]`: five answers of 5xx in a row eject it.",
        )
        .behind(Behind::Unlike(place.php("stopped", ""), www.clone()))
        .pool("passive = {}")
        .by(Ask::UntilEjected)
        .gives(502, C::BackendAnsweredError),
        Row::new(
            "php-killed",
            "php-fpm: the child is killed before it answers",
            "The child gets SIGKILL in the middle of the request, as by the kernel when memory is short.",
        )
        .nginx(&www)
        .asks("killed")
        .gives(502, C::BackendAnsweredError),
        Row::new(
            "php-cut",
            "php-fpm: the child is killed in the middle of its answer",
            "The script said `Content-Length: 100000`, wrote 20,000 bytes and was killed. nginx closes the connection.",
        )
        .nginx(&www)
        .asks("cut")
        .gives(200, C::BackendResetMidResponse),
        Row::new(
            "php-chunk-cut",
            "The same in a chunked answer",
            "Without a length: nginx sends chunks, and no last one.",
        )
        .nginx(&www)
        .asks("chunk-cut")
        .gives(200, C::BackendResetMidResponse),
        Row::new(
            "php-half",
            "The application throws in the middle of its answer",
            "20,000 bytes without a length, then an exception: php ends the answer, and nginx sends a last chunk.",
        )
        .nginx(&www)
        .asks("half")
        .gives(200, None).blames("nothing_wrong")
        .note("Nothing on the wire tells this answer from a whole one; only the logs of nginx and php have it. Let scripts send a `Content-Length`."),
        Row::new(
            "php-stall",
            "The application stalls in the middle of its answer",
            "20,000 of 100,000 bytes, then nothing. `body_timeout = \"1s\"`.",
        )
        .nginx(&unbuffered)
        .pool("body_timeout = \"1s\"")
        .asks("stall")
        .gives(200, C::BackendBodyTimeout),
        Row::new("php-error", "The application throws", "An exception that nobody catches: php answers 500.")
            .nginx(&www)
            .asks("error")
            .gives(500, C::BackendAnsweredError),
        Row::new(
            "php-slow",
            "The answer is slower than our timeout",
            "The script takes 4 s, and `response_timeout = \"1s\"`.",
        )
        .nginx(&www)
        .pool("response_timeout = \"1s\"")
        .asks("slow")
        .gives(504, C::BackendResponseTimeout),
        Row::new(
            "nginx-gives-up",
            "The answer is slower than nginx's timeout",
            "The same script with `fastcgi_read_timeout 1s` in nginx and a minute here: the 504 is nginx's own.",
        )
        .nginx(&place.php("www", "fastcgi_read_timeout 1s;"))
        .asks("slow")
        .gives(504, C::BackendAnsweredError),
    ]
}

fn of_the_web_server(place: &Place) -> Vec<Row> {
    use Cause as C;
    vec![
        Row::new(
            "header-nginx",
            "The answer's header is larger than nginx's buffer",
            "A cookie of 6,000 bytes, and `fastcgi_buffer_size` of 4 KiB: nginx answers 502 (\"upstream sent too big header\").",
        )
        .nginx(&place.php("www", ""))
        .asks("header&size=6000")
        .gives(502, C::BackendAnsweredError),
        Row::new(
            "header-ours",
            "The answer's header is larger than ours",
            "A cookie of 40,000 bytes, nginx told to take it; `header_limit` of the listener is 32 KiB.",
        )
        .nginx(&place.php("www", "fastcgi_buffer_size 64k; fastcgi_buffers 8 64k;"))
        .asks("header&size=40000")
        .gives(502, C::BackendHeaderTooLarge),
        Row::new(
            "body-nginx",
            "The upload is larger than nginx takes",
            "40,000 bytes by POST, and `client_max_body_size 10k` in nginx.",
        )
        .nginx(&format!("client_max_body_size 10k;\n{}", place.php("www", "")))
        .by(Ask::Once(&["--data-binary", "@long", "-H", "Expect:"]))
        .gives(413, None).doctor(["-X", "POST", "--data", &"u".repeat(40_000)]).blames("backend")
        .note("A 4xx of a backend is passed on and is no failure here. Without `Proxy-Status` it is not ours."),
        Row::new(
            "wrong-host",
            "nginx does not know the Host",
            "nginx has the site under another name; its default server answers 404. The check names the right Host.",
        )
        .nginx(&format!(
            "if ($host != shop.lab.test) {{ return 404; }}\n{}",
            place.php("www", "")
        ))
        .check("kind = \"http\"\npath = \"/health.html\"\nhost = \"shop.lab.test\"")
        .gives(404, None).blames("operator")
        .note("A 4xx of a backend is passed on and is no failure here. Without `Proxy-Status` it is not ours."),
        Row::new(
            "wrong-host-444",
            "nginx does not know the Host and hangs up",
            "As before with `return 444`, which closes the connection without a word.",
        )
        .nginx(&format!(
            "if ($host != shop.lab.test) {{ return 444; }}\n{}",
            place.php("www", "")
        ))
        .check("kind = \"http\"\npath = \"/health.html\"\nhost = \"shop.lab.test\"")
        .gives(502, C::BackendClosedBeforeResponse).blames("operator"),
        Row::new(
            "check-host",
            "The check asks for the wrong Host",
            "The site is fine, but the check names no `host`, and nginx's default server answers 404.",
        )
        .nginx(&format!(
            "if ($host !~ check-host.lab.test) {{ return 404; }}\n{}",
            place.php("www", "")
        ))
        .is(Verdict::Unhealthy)
        .gives(502, C::AllBackendsUnhealthy).blames("operator"),
        Row::new(
            "check-path",
            "The check asks for a page that is gone",
            "The site is fine, but `path` of the check is 404 since a deployment.",
        )
        .nginx(&place.php("www", ""))
        .check("kind = \"http\"\npath = \"/healthz\"")
        .is(Verdict::Unhealthy)
        .gives(502, C::AllBackendsUnhealthy).blames("operator"),
        Row::new(
            "fastcgi-port",
            "The backend's port is that of php-fpm",
            "`backends` name port 9000, where php-fpm speaks FastCGI and no HTTP. The check is a tcp connect.",
        )
        .behind(Behind::Port(FASTCGI_PORT))
        .check(CONNECTS)
        .gives(502, C::BackendResetBeforeResponse),
        Row::new(
            "not-http",
            "The backend's port speaks something else",
            "The port is that of an SSH server. The check is a tcp connect.",
        )
        .behind(Behind::Script(|mut stream| {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
            pause(&mut stream);
        }))
        .check(CONNECTS)
        .gives(502, C::BackendMalformedResponse),
        Row::new(
            "loop",
            "The backend sends the request back to the balancer",
            "nginx has `proxy_pass` to the balancer's own address.",
        )
        .nginx(
            "location ~ \\.php$ { proxy_pass https://10.98.0.1; proxy_set_header Host $host;\n\
             proxy_ssl_server_name on; proxy_ssl_name loop.lab.test; }",
        )
        .gives(508, C::LoopDetected)
        .note("Two lines in the log: the inner request has the cause, the outer one got the inner one's answer from its backend."),
    ]
}

fn of_tls(ca: &str) -> Vec<Row> {
    use Cause as C;
    let tls = |name: &str| format!("[pool.tls]\nname = \"{name}.lab.test\"\nca = \"{ca}\"");
    vec![
        Row::new(
            "tls-expired",
            "The backend's certificate has expired",
            "`[pool.tls]` with `ca`; the certificate ended years ago. The check is a tcp connect.",
        )
        .behind(Behind::Tls(Certificate::Expired))
        .pool(&tls("tls-expired"))
        .check(CONNECTS)
        .gives(502, C::BackendTlsFailed),
        Row::new(
            "tls-expired-check",
            "The same, and the check speaks TLS too",
            "The default check of such a pool sees what clients would see.",
        )
        .behind(Behind::Tls(Certificate::Expired))
        .pool(&tls("tls-expired-check"))
        .is(Verdict::Unhealthy)
        .gives(502, C::AllBackendsUnhealthy),
        Row::new(
            "tls-name",
            "The backend's certificate is for another name",
            "`name` of `[pool.tls]` is not among the names of the certificate. The check is a tcp connect.",
        )
        .behind(Behind::Tls(Certificate::OtherName))
        .pool(&tls("tls-name"))
        .check(CONNECTS)
        .gives(502, C::BackendTlsFailed),
        Row::new(
            "tls-authority",
            "The backend's certificate is of an authority we do not know",
            "`[pool.tls]` without `ca`, so the system's authorities count. The check is a tcp connect.",
        )
        .behind(Behind::Tls(Certificate::Good))
        .pool("[pool.tls]\nname = \"tls-authority.lab.test\"")
        .check(CONNECTS)
        .gives(502, C::BackendTlsFailed),
        Row::new(
            "tls-to-plain",
            "We speak TLS to a port that does not",
            "`[pool.tls]`, and the port is plain HTTP. The check is a tcp connect.",
        )
        .nginx("")
        .pool(&tls("tls-to-plain"))
        .check(CONNECTS)
        .gives(502, C::BackendTlsFailed).blames("operator"),
        Row::new(
            "plain-to-tls",
            "We speak plain HTTP to a port of TLS",
            "No `[pool.tls]`, and the port wants TLS: nginx answers 400. The check is a tcp connect.",
        )
        .behind(Behind::Tls(Certificate::Good))
        .check(CONNECTS)
        .gives(400, None).blames("operator")
        .note("A 4xx of a backend is passed on and is no failure here. The text of nginx's page names the mistake; a check by HTTP would have seen it."),
    ]
}

fn of_the_network(place: &Place) -> Vec<Row> {
    use Cause as C;
    let www = place.php("www", "");
    vec![
        Row::new("refused", "Connects are refused", "Nobody listens on the port. The check asks another port.")
            .check(ELSEWHERE)
            .gives(502, C::BackendConnectRefused),
        Row::new(
            "refused-known",
            "Connects are refused, and the check has seen it",
            "As before, with the check on the same port.",
        )
        .is(Verdict::Unhealthy)
        .gives(502, C::AllBackendsUnhealthy),
        Row::new(
            "refused-one",
            "One of two hosts refuses",
            "A firewall resets what comes for the first host. The check asks another port, so it still gets its share.",
        )
        .nginx(&www)
        .check(ELSEWHERE)
        .strike(|lab, port| {
            lab.firewall(&format!("ip daddr {} tcp dport {port} reject with tcp reset", HOSTS[0]));
        })
        .by(Ask::UntilSeen)
        .gives(200, None)
        .blames("backend")
        .note("No client notices: the request went to the next backend. `attempts` says so."),
        Row::new(
            "refused-one-known",
            "One of two hosts refuses, and the check has seen it",
            "As before, with the check on the same port.",
        )
        .nginx(&www)
        .strike(|lab, port| {
            lab.firewall(&format!("ip daddr {} tcp dport {port} reject with tcp reset", HOSTS[0]));
        })
        .is(Verdict::FirstUnhealthy)
        .gives(200, None)
        .blames("backend")
        .note("No client notices: the first host gets no new work until its probes pass again."),
        Row::new(
            "dropped",
            "A firewall drops what we send",
            "nft `drop` on the port. `connect_timeout = \"1s\"`. The check asks another port.",
        )
        .nginx(&www)
        .pool("connect_timeout = \"1s\"")
        .check(ELSEWHERE)
        .strike(|lab, port| lab.firewall(&format!("tcp dport {port} drop")))
        .gives(504, C::BackendConnectTimeout),
        Row::new(
            "rejected",
            "A firewall rejects what we send",
            "nft `reject with icmp type admin-prohibited`. The check asks another port.",
        )
        .nginx(&www)
        .check(ELSEWHERE)
        .strike(|lab, port| lab.firewall(&format!("tcp dport {port} reject with icmp type admin-prohibited")))
        .gives(502, C::BackendUnreachable),
        Row::new(
            "reset-early",
            "The backend resets before it answers",
            "The program at the port takes the request and resets. The check is a tcp connect.",
        )
        .behind(Behind::Script(|mut stream| {
            read_head(&mut stream);
            reset(&stream);
        }))
        .check(CONNECTS)
        .by(Ask::Once(&["-X", "POST"]))
        .gives(502, C::BackendResetBeforeResponse)
        .doctor(["-X", "POST"]),
        Row::new(
            "reset-late",
            "The backend resets in the middle of its answer",
            "20,000 of 100,000 bytes, then a reset. The check is a tcp connect.",
        )
        .behind(Behind::Script(|mut stream| {
            if read_head(&mut stream).is_some() {
                let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n";
                let _ = stream.write_all(head).and_then(|()| stream.write_all(&[b'x'; 20_000]));
                pause(&mut stream);
                reset(&stream);
            }
        }))
        .check(CONNECTS)
        .gives(200, C::BackendResetMidResponse),
        Row::new(
            "chunk-cut",
            "The backend closes in the middle of a chunk",
            "A chunk of 30,000 bytes was announced and 20,000 came. The check is a tcp connect.",
        )
        .behind(Behind::Script(|mut stream| {
            if read_head(&mut stream).is_some() {
                let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n7530\r\n";
                let _ = stream.write_all(head).and_then(|()| stream.write_all(&[b'x'; 20_000]));
            }
        }))
        .check(CONNECTS)
        .gives(200, C::BackendResetMidResponse),
        Row::new(
            "chunk-broken",
            "The backend breaks the chunked coding",
            "A chunk, and then a line that is no chunk size. The check is a tcp connect.",
        )
        .behind(Behind::Script(|mut stream| {
            if read_head(&mut stream).is_some() {
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n<br>\r\n";
                let _ = stream.write_all(head);
                pause(&mut stream);
            }
        }))
        .check(CONNECTS)
        .gives(200, C::BackendMalformedBody),
        Row::new(
            "probe-blocked",
            "The backends' firewall lets clients in and probes not",
            "`source` of the check is 10.98.0.2, and the backends drop what comes from there. The site is fine.",
        )
        .nginx(&www)
        .check("kind = \"http\"\npath = \"/health.html\"\nsource = \"10.98.0.2\"")
        .strike(|lab, port| lab.firewall(&format!("ip saddr 10.98.0.2 tcp dport {port} drop")))
        .is(Verdict::Unhealthy)
        .gives(502, C::AllBackendsUnhealthy)
        .blames("network"),
    ]
}

fn of_the_operator(place: &Place) -> Vec<Row> {
    use Cause as C;
    let www = place.php("www", "");
    vec![
        Row::new("weightless", "Every weight is 0", "Both backends have `weight = 0`.")
            .nginx(&www)
            .gives(503, C::NoBackendConfigured),
        Row::new(
            "drained",
            "Every backend is drained",
            "`evenkeel drain` for one backend and `evenkeel maintain` for the other.",
        )
        .nginx(&www)
        .strike(|lab, port| {
            for (order, host) in ["drain", "maintain"].into_iter().zip(HOSTS) {
                let backend = format!("drained/{host}:{port}");
                let evenkeel = env!("CARGO_BIN_EXE_evenkeel");
                run(&["ip", "netns", "exec", &lab.front, evenkeel, order, &backend, "--admin", "127.0.0.1:9900"]);
            }
        })
        .gives(503, C::AllBackendsDrained),
        Row::new(
            "source",
            "The pool's source is no address of this host",
            "`source = \"10.98.0.250\"`, which is on no interface.",
        )
        .nginx(&www)
        .pool("source = \"10.98.0.250\"")
        .check(ELSEWHERE)
        .gives(502, C::SourceUnusable),
        Row::new(
            "queue-full",
            "The backends are at their limit and nobody may wait",
            "`backend_limit = 1` and `queue = 0`, and both backends work on a request.",
        )
        .nginx(&www)
        .pool("backend_limit = 1\nqueue = 0")
        .asks("hold")
        .by(Ask::BesideHeld(2, Until::AtBackends))
        .gives(503, C::BackendQueueFull),
        Row::new(
            "queue-slow",
            "The backends are at their limit for longer than anybody waits",
            "`backend_limit = 1` and `queue_timeout = \"500ms\"`, and both backends work on a request.",
        )
        .nginx(&www)
        .pool("backend_limit = 1\nqueue_timeout = \"500ms\"")
        .asks("hold")
        .by(Ask::BesideHeld(2, Until::AtBackends))
        .gives(503, C::BackendQueueTimeout),
        Row::new("host", "The host is not configured", "No rule names the host, and the listener has no default pool.")
            .at("https://nobody.lab.test/app.php?host")
            .is(Verdict::Unasked)
            .gives(404, C::HostNotConfigured)
            .blames("rule"),
        Row::new("path", "The path is not configured", "The host has a rule for `/api` alone.")
            .at("https://norule.lab.test/app.php?path")
            .is(Verdict::Unasked)
            .gives(404, C::RuleNotFound)
            .blames("rule"),
        Row::new(
            "no-certificate",
            "No certificate for the name",
            "The client asks for `shop.example`, and the listener's certificate is for `*.lab.test`.",
        )
        .at("https://shop.example/app.php?no-certificate")
        .is(Verdict::Unasked)
        .gives(None, C::TlsNoCertificateForName),
        Row::new("denied", "An access list refuses the client", "`[listener.access]` denies 10.98.0.3.")
            .at("http://www.lab.test/app.php?denied")
            .by(Ask::Once(&["--interface", "10.98.0.3"]))
            .is(Verdict::Unasked)
            .gives(403, C::ClientDeniedByAcl)
            .blames("nothing_wrong"),
    ]
}

fn of_the_client(place: &Place) -> Vec<Row> {
    use Cause as C;
    vec![
        Row::new(
            "rate",
            "The client asks too often",
            "`client_requests_per_second = { rate = 1, burst = 3 }`, and ten at once.",
        )
        .at("http://www.lab.test/app.php?rate")
        .by(Ask::Burst(10))
        .is(Verdict::Unasked)
        .gives(429, C::ClientRateLimited)
        .doctor(["--count", "10"]),
        Row::new("big-header", "The request's header is too large", "A cookie of 40,000 bytes.")
            .at("https://www.lab.test/app.php?big-header")
            .by(Ask::Once(&["-H", "@cookie"]))
            .is(Verdict::Unasked)
            .gives(431, C::ClientHeaderTooLarge)
            .doctor(["-H", &format!("Cookie: c={}", "c".repeat(40_000))]),
        Row::new("big-uri", "The request's URI is too long", "40,000 bytes of query.")
            .at("https://www.lab.test/app.php?big-uri")
            .by(Ask::Once(&["--get", "--data-urlencode", "uri@long"]))
            .is(Verdict::Unasked)
            .gives(414, C::ClientUriTooLong),
        Row::new("big-body", "The request's body is too large", "100,000 bytes, and `body_limit = \"50KiB\"`.")
            .at("https://www.lab.test/app.php?big-body")
            .by(Ask::Once(&["--data-binary", "@upload", "-H", "Expect:"]))
            .is(Verdict::Unasked)
            .gives(413, C::ClientBodyTooLarge)
            .doctor(["-X", "POST", "--data", &"u".repeat(100_000)]),
        Row::new(
            "impatient",
            "The client gives up before the application answers",
            "The script takes 4 s, and the client waits for three.",
        )
        .nginx(&place.php("www", ""))
        .asks("slow")
        .by(Ask::Once(&["--max-time", "3"]))
        .gives(None, C::ClientAborted)
        .blames("nothing_wrong"),
        Row::new("plain-on-tls", "Plain HTTP to the port of HTTPS", "`http://…:443`.")
            .at("http://www.lab.test:443/app.php?plain-on-tls")
            .is(Verdict::Unasked)
            .gives(400, C::TlsHandshakeFailed),
    ]
}

/// Lets pass on what was sent before the next thing is done, or ends with the other side.
fn pause(stream: &mut TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
    let _ = stream.read(&mut [0; 4096]);
}
