//! One POST over a connection of its own, for hooks and for spans: both are sent rarely, and a kept connection would be found
//! dead just when it is needed. Redirects are not followed: the config says where things go.

use std::fmt;
use std::sync::Arc;

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

use crate::files;

/// Why something was not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The answer's, which is none of success.
    Status(u16),
    /// There was no answer.
    Absent(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Absent(why) => f.write_str(why),
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Absent(why)
    }
}

/// `authorities` are those that may vouch for the receiver; read each time, since the system renews its bundle.
pub async fn post(
    url: &str,
    kind: &'static str,
    body: Vec<u8>,
    authorities: fn() -> Option<Vec<u8>>,
) -> Result<(), Failure> {
    let uri: Uri = url.parse().map_err(|error| format!("the url cannot be read: {error}"))?;
    let host = uri.host().ok_or_else(|| "the url has no host".to_owned())?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream =
        TcpStream::connect((bare, port)).await.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
    let place = uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(HOST, place)
        .header(CONTENT_TYPE, kind)
        .header(USER_AGENT, concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
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
) -> Result<(), Failure> {
    let words = |error: hyper::Error| format!("no answer in http: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer.map_err(words)?,
        Err(error) = connection => return Err(words(error).into()),
    };
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(Failure::Status(status.as_u16())) }
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
                let (told, heard) =
                    tokio::join!(post(&url, "application/json", b"{}".to_vec(), authorities), receiver(listener));
                if trusted {
                    assert_eq!(told, Ok(()));
                    assert!(heard.is_some_and(|text| text.starts_with("POST /hook HTTP/1.1\r\n")));
                } else {
                    let why = told.expect_err("the wrong authority vouches for it").to_string();
                    assert!(why.starts_with("tls with ") && why.contains("certificate"), "{why}");
                    assert_eq!(heard, None);
                }
            }
        });
    }
}
