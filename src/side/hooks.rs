//! Tells hooks of changes of verdict: by one POST over a connection of its own, or to a command on its input.
//!
//! The hands of [`Teller`], which decides what is told and when. A connection each time, because hooks are told rarely and a kept one
//! would be found dead just when it is needed. Redirects are not followed: the config says where events go.

use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_model::Instant;
use evenkeel_model::event::{Event, TrafficFailed, VerdictChanged, What};
use evenkeel_model::finding::ProbeResult;
use evenkeel_model::standing::Verdict;
use evenkeel_plan::{Hook, HookOn, HookTo};
use evenkeel_tls::{ClientSettings, Offers};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::commands::conclude;
use super::program::Program;
use super::teller::{self, News, Output, Teller};
use crate::files;

/// The hooks of the plan.
#[derive(Default)]
pub struct Hooks {
    kept: Vec<Kept>,
    next: u64,
}

struct Kept {
    /// What a telling is known by that outlasts a reload.
    number: u64,
    hook: Arc<Hook>,
    teller: Teller,
}

/// What is to be done for a hook.
pub enum Act {
    /// Run [`Telling::carry_out`] and hand what it gives to [`Hooks::told`].
    Tell(Telling),
    Note(evenkeel_model::event::Beside),
}

pub struct Telling {
    pub number: u64,
    hook: Arc<Hook>,
    news: Arc<News>,
}

impl Hooks {
    /// Takes over the hooks of a plan. One that stays keeps what waits for it.
    pub fn follow(&mut self, hooks: &[Hook]) {
        let mut before = std::mem::take(&mut self.kept);
        for hook in hooks {
            if let Some(position) = before.iter().position(|kept| *kept.hook == *hook) {
                self.kept.push(before.swap_remove(position));
                continue;
            }
            self.next += 1;
            let teller = Teller::new(name(&hook.to).into());
            self.kept.push(Kept { number: self.next, hook: Arc::new(hook.clone()), teller });
        }
    }

    pub fn wants(&self, event: &Event) -> bool {
        self.kept.iter().any(|kept| wants(kept.hook.on, event))
    }

    /// `json` is the event as it is told.
    pub fn happened(&mut self, event: &Event, json: String, now: Instant) {
        let Some((pool, backend)) = about(event) else { return };
        let news = Arc::new(News { name: event.name(), json, pool, backend });
        for kept in self.kept.iter_mut().filter(|kept| wants(kept.hook.on, event)) {
            kept.teller.handle(teller::Event::Happened(Arc::clone(&news)), now);
        }
    }

    pub fn told(&mut self, number: u64, result: Result<(), Arc<str>>, now: Instant) {
        // One that a reload took away has nobody to tell.
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.number == number) else { return };
        let event = match result {
            Ok(()) => teller::Event::Told,
            Err(why) => teller::Event::Failed { why },
        };
        kept.teller.handle(event, now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for kept in &mut self.kept {
            kept.teller.handle_timeout(now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.kept.iter().filter_map(|kept| kept.teller.poll_timeout()).min()
    }

    pub fn poll_output(&mut self) -> Option<Act> {
        self.kept.iter_mut().find_map(|kept| {
            Some(match kept.teller.poll_output()? {
                Output::Tell(news) => Act::Tell(Telling { number: kept.number, hook: Arc::clone(&kept.hook), news }),
                Output::Note(beside) => Act::Note(beside),
            })
        })
    }

    pub fn are_telling(&self) -> bool {
        self.kept.iter().any(|kept| kept.teller.is_telling())
    }
}

/// How events call it. A path may hold a secret, as those of chat services do, so of an address only the place is said.
fn name(to: &HookTo) -> String {
    match to {
        HookTo::Command(words) => words.first().cloned().unwrap_or_default(),
        HookTo::Url(url) => match url.parse::<Uri>() {
            Ok(uri) => {
                let place = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                format!("{}://{place}", uri.scheme_str().unwrap_or("http"))
            }
            Err(_) => "url".to_owned(),
        },
    }
}

/// A first verdict that is good is no news: nobody was told that the backend was not.
fn wants(on: HookOn, event: &Event) -> bool {
    match &event.what {
        What::VerdictChanged(VerdictChanged { from, to, .. }) => match (from, to) {
            (_, Verdict::Unhealthy) => on.unhealthy,
            (Verdict::Unhealthy, Verdict::Healthy) => on.healthy,
            (_, Verdict::Healthy | Verdict::Unknown) => false,
        },
        What::TrafficFailed(TrafficFailed { ejected_for, .. }) => on.ejected && ejected_for.is_some(),
        _ => false,
    }
}

fn about(event: &Event) -> Option<(String, SocketAddr)> {
    match &event.what {
        What::VerdictChanged(changed) => Some((changed.pool.to_string(), changed.backend)),
        What::TrafficFailed(failed) => Some((failed.pool.to_string(), failed.backend)),
        _ => None,
    }
}

impl Telling {
    /// Says why not, when it is not heard within the hook's timeout.
    pub async fn carry_out(self) -> Result<(), Arc<str>> {
        let timeout = self.hook.timeout;
        match &self.hook.to {
            HookTo::Url(url) => {
                match tokio::time::timeout(timeout, post(url, self.news.json.clone(), files::authorities)).await {
                    Ok(result) => result.map_err(Into::into),
                    Err(_) => Err(format!("no answer within {timeout:?}").into()),
                }
            }
            HookTo::Command(words) => run(words, &self.news, timeout).await,
        }
    }
}

async fn run(words: &[String], news: &News, timeout: std::time::Duration) -> Result<(), Arc<str>> {
    let program = Program {
        words: words.into(),
        environment: vec![
            ("EVENKEEL_EVENT", news.name.to_owned()),
            ("EVENKEEL_POOL", news.pool.clone()),
            ("EVENKEEL_ADDRESS", news.backend.ip().to_string()),
            ("EVENKEEL_PORT", news.backend.port().to_string()),
        ],
        input: format!("{}\n", news.json).into_bytes(),
    };
    let ran = program.run(tokio::time::Instant::now() + timeout).await;
    // Whether we were late does not matter here: it was told, or it was not.
    match conclude(&ran, std::time::Duration::ZERO) {
        ProbeResult::Passed(_) => Ok(()),
        ProbeResult::Failed(failure) => Err(failure.reason.to_string().into()),
        ProbeResult::Void(void) => Err(void.to_string().into()),
    }
}

/// `authorities` are those that may vouch for the receiver; read for each telling, since the system renews its bundle and hooks are
/// told rarely.
async fn post(url: &str, json: String, authorities: fn() -> Option<Vec<u8>>) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("the url cannot be read: {error}"))?;
    let host = uri.host().ok_or("the url has no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream =
        TcpStream::connect((bare, port)).await.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
    let place = uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(HOST, place)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(json)))
        .map_err(|error| format!("the url makes no request: {error}"))?;
    if !secure {
        return ask(stream, request).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| format!("{host} cannot be in a certificate"))?;
    let connector =
        tokio::task::spawn_blocking(move || connector(authorities())).await.map_err(|error| error.to_string())??;
    let stream = connector.connect(name, stream).await.map_err(|error| format!("tls with {host}:{port}: {error}"))?;
    ask(stream, request).await
}

/// TLS as it is spoken to backends.
fn connector(ca: Option<Vec<u8>>) -> Result<TlsConnector, String> {
    let settings = ClientSettings {
        name: None,
        ca: ca.as_deref(),
        verify: true,
        certificate: None,
        offers: Offers::Http1,
        clock: Arc::new(files::WallClock),
    };
    let client = evenkeel_tls::client(settings).map_err(|fault| format!("the authorities: {}", fault.what))?;
    Ok(TlsConnector::from(client.config))
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(), String> {
    let words = |error: hyper::Error| format!("no answer in http: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.map_err(words)?,
        Err(error) = connection => return Err(words(error)),
    };
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    static AUTHORITY: OnceLock<Vec<u8>> = OnceLock::new();

    /// A receiver of one event whose certificate is for 127.0.0.1; gives what it was sent.
    async fn receiver(listener: TcpListener) -> Option<String> {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = ca.self_signed(&ca_key).expect("a certificate");
        AUTHORITY.get_or_init(|| authority.pem().into_bytes());
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config =
            ServerConfig::builder_with_provider(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()
                .expect("versions of TLS")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .expect("a certificate and its key");
        let (stream, _) = listener.accept().await.ok()?;
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"{}") {
            stream.read_buf(&mut bytes).await.ok().filter(|count| *count > 0)?;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
        stream.flush().await.ok()?;
        String::from_utf8(bytes).ok()
    }

    #[test]
    fn a_receiver_behind_tls_is_told_only_if_somebody_trusted_vouches_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            // The second receiver has another authority than the first one's, which is all that is trusted.
            for trusted in [true, false] {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
                let url = format!("https://{}/hook", listener.local_addr().expect("it is bound"));
                let authorities = || AUTHORITY.get().cloned();
                let (told, heard) = tokio::join!(post(&url, "{}".to_owned(), authorities), receiver(listener));
                if trusted {
                    assert_eq!(told, Ok(()));
                    assert!(heard.is_some_and(|text| text.starts_with("POST /hook HTTP/1.1\r\n")));
                } else {
                    let why = told.expect_err("the wrong authority vouches for it");
                    assert!(why.starts_with("tls with ") && why.contains("certificate"), "{why}");
                    assert_eq!(heard, None);
                }
            }
        });
    }

    #[test]
    fn a_hook_is_called_by_its_place_and_not_by_what_may_be_secret() {
        let table = [
            (HookTo::Url("https://hooks.example/services/T0/B0/s3cret".to_owned()), "https://hooks.example"),
            (HookTo::Url("http://me:s3cret@10.0.0.1:8080/".to_owned()), "http://10.0.0.1:8080"),
            (HookTo::Url("http://[::1]:81/x".to_owned()), "http://[::1]:81"),
            (HookTo::Command(vec!["/usr/bin/page".to_owned(), "s3cret".to_owned()]), "/usr/bin/page"),
        ];
        for (to, expected) in table {
            assert_eq!(name(&to), expected);
        }
    }

    #[test]
    fn a_hook_hears_of_what_it_asked_for_and_not_of_first_good_verdicts() {
        use Verdict::{Healthy, Unhealthy, Unknown};
        use evenkeel_model::event::{Against, Because};
        let backend: SocketAddr = "10.0.0.1:80".parse().expect("an address");
        let verdict = |from, to| {
            What::VerdictChanged(VerdictChanged {
                pool: "web".into(),
                backend,
                from,
                to,
                check: None,
                checks: 1,
                because: Because::CheckOff,
            })
        };
        let ejected = |ejected_for| {
            let against = Against::FailureRate { percent: 60, others_percent: 0 };
            What::TrafficFailed(TrafficFailed { pool: "web".into(), backend, against, ejected_for })
        };
        let none = HookOn { unhealthy: false, healthy: false, ejected: false };
        let (unhealthy, healthy) = (HookOn { unhealthy: true, ..none }, HookOn { healthy: true, ..none });
        let ejections = HookOn { ejected: true, ..none };
        let table = [
            (verdict(Unknown, Unhealthy), Some(unhealthy)),
            (verdict(Healthy, Unhealthy), Some(unhealthy)),
            (verdict(Unhealthy, Healthy), Some(healthy)),
            (verdict(Unknown, Healthy), None),
            (verdict(Healthy, Unknown), None),
            (verdict(Unhealthy, Unknown), None),
            (ejected(Some(std::time::Duration::from_secs(1))), Some(ejections)),
            (ejected(None), None),
        ];
        for (what, asked) in table {
            let event = Event { seq: 1, at: Instant::START, what };
            for on in [none, unhealthy, healthy, ejections] {
                assert_eq!(wants(on, &event), asked == Some(on), "{event:?} for {on:?}");
            }
            assert_eq!(wants(HookOn::default(), &event), asked.is_some(), "{event:?}");
        }
    }
}
