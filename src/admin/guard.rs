//! Who asks, and whether they may; what a browser must not be made to ask.
//!
//! Two attackers are meant. One can connect and has no token: nothing that tells or changes anything answers them. The other is
//! a page in an operator's browser, which can send requests to loopback though it is from elsewhere. It is stopped three times:
//! a name that leads to loopback (DNS rebinding) is no Host of ours, a request that says it comes from another page changes
//! nothing, and no answer ever says that another page may read it.

use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use evenkeel_plan::{AdminToken, Role};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::problem::{Problem, shown};

/// How a connection came in. Put into each of its requests by the door.
#[derive(Clone, Debug)]
pub struct Came {
    pub door: Door,
    pub tokens: Tokens,
}

/// Those that are known now. A reload changes them for connections that are open already.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<RwLock<Arc<[AdminToken]>>>);

impl Default for Tokens {
    fn default() -> Self {
        Tokens(Arc::new(RwLock::new(Arc::new([]))))
    }
}

impl Tokens {
    pub fn set(&self, tokens: Arc<[AdminToken]>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    fn now(&self) -> Arc<[AdminToken]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Whoever may open the file may operate.
    Socket,
    /// An address that only this host reaches.
    Loopback,
    /// An address that others reach.
    Network,
}

/// What somebody is called who came over loopback and needed no token.
pub const LOOPBACK: &str = "loopback";

/// Who asks, as events tell it: the name of a token, `socket` or `loopback`.
#[derive(Clone, Debug)]
pub struct Asker(pub Arc<str>);

/// What a path wants of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Nothing,
    Role(Role),
}

/// Lets a request through, or answers it.
pub async fn guard(State(pages): State<Arc<[&'static str]>>, mut request: Request, next: Next) -> Response {
    let Some(came) = request.extensions().get::<Came>().cloned() else {
        // Doors put it in; without it nobody is known.
        return Problem::stopping().into_response();
    };
    match admit(&came, request.method(), request.uri().path(), request.headers(), &pages) {
        Ok(asker) => {
            request.extensions_mut().insert(asker);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn admit(came: &Came, method: &Method, path: &str, headers: &HeaderMap, pages: &[&str]) -> Result<Asker, Problem> {
    let wants = wants(method, path, pages, came.door);
    let tokens = came.tokens.now();
    if came.door == Door::Loopback && tokens.is_empty() && path != "/ready" {
        names_us(headers)?;
    }
    let changes = !(method == Method::GET || method == Method::HEAD);
    if changes {
        from_our_page(headers)?;
    }
    let Wants::Role(wanted) = wants else { return Ok(Asker("anybody".into())) };
    let (name, role) = match (came.door, &*tokens) {
        (Door::Socket, _) => ("socket".into(), Role::Operate),
        (Door::Loopback, []) => (LOOPBACK.into(), Role::Operate),
        (Door::Loopback | Door::Network, tokens) => known(tokens, headers)?,
    };
    if role < wanted {
        let detail = format!("token \"{name}\" has role {}, and this wants {}", role.word(), wanted.word());
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(Asker(name))
}

fn wants(method: &Method, path: &str, pages: &[&str], door: Door) -> Wants {
    let looks = *method == Method::GET || *method == Method::HEAD;
    match path {
        "/ready" => Wants::Nothing,
        "/metrics" if looks && door != Door::Network => Wants::Nothing,
        // The dashboard's files hold nothing of the node.
        page if looks && pages.contains(&page) => Wants::Nothing,
        // It only asks.
        "/api/v1/route" => Wants::Role(Role::Read),
        _ if looks => Wants::Role(Role::Read),
        _ => Wants::Role(Role::Operate),
    }
}

/// Whose token it is.
fn known(tokens: &[AdminToken], headers: &HeaderMap) -> Result<(Arc<str>, Role), Problem> {
    let Some(sent) = headers.get(AUTHORIZATION) else {
        return Err(Problem::unknown("this wants a token: send it as Authorization: Bearer TOKEN"));
    };
    let sent = sent.as_bytes();
    let (scheme, token) = sent.split_at(sent.iter().position(|&byte| byte == b' ').unwrap_or(sent.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Problem::unknown("the Authorization is no Bearer token"));
    }
    let digest: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
    // All of them are compared, each to its end: how long it takes says nothing of any.
    let mut found = u32::MAX;
    for (position, token) in (0_u32..).zip(tokens) {
        let same: Choice = token.sha256.ct_eq(&digest);
        found.conditional_assign(&position, same);
    }
    let found = usize::try_from(found).ok().and_then(|position| tokens.get(position));
    let found = found.ok_or_else(|| Problem::unknown("the token is none that is known here"))?;
    Ok((Arc::clone(&found.name), found.role))
}

/// Without tokens, what protects loopback is that nobody else can connect. A page from elsewhere can, by a name of its own that
/// leads here; but browsers send that name along.
fn names_us(headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Problem::bad("there has to be one Host field"));
    };
    let name = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let name = name.as_ref().map(Authority::host).unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    if address.parse::<std::net::IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    let detail = format!(
        "Host is \"{}\", but without tokens only an IP address or localhost is answered, since any page in a browser can make \
         up a name that leads here",
        shown(&String::from_utf8_lossy(host.as_bytes()))
    );
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

/// Browsers say of a request from which page it comes; other clients say nothing.
fn from_our_page(headers: &HeaderMap) -> Result<(), Problem> {
    let elsewhere = || {
        let detail = "this request comes from another page, and only the node's own may change something";
        Problem::new(StatusCode::FORBIDDEN, detail)
    };
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(elsewhere());
    }
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match (origin, host) {
            (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => {}
            _ => return Err(elsewhere()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    const PAGES: &[&str] = &["/", "/app.js"];

    fn token(name: &str, role: Role) -> AdminToken {
        AdminToken { name: name.into(), role, sha256: Sha256::digest(format!("token-of-{name}")).into() }
    }

    fn came(door: Door, with_tokens: bool) -> Came {
        let tokens = Tokens::default();
        if with_tokens {
            tokens.set([token("ops", Role::Operate), token("grafana", Role::Read)].into());
        }
        Came { door, tokens }
    }

    /// Status of the refusal, or who was let in.
    fn asked(came: &Came, asked: &str, fields: &[(&str, &str)]) -> Result<String, u16> {
        let (method, path) = asked.split_once(' ').expect("a method and a path");
        let field = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        };
        let headers: HeaderMap = fields.iter().map(field).collect();
        let method = method.parse().expect("a method");
        match admit(came, &method, path, &headers, PAGES) {
            Ok(Asker(name)) => Ok(name.to_string()),
            Err(problem) => Err(problem.into_response().status().as_u16()),
        }
    }

    const HERE: (&str, &str) = ("host", "127.0.0.1:9900");
    const OPS: (&str, &str) = ("authorization", "Bearer token-of-ops");
    const GRAFANA: (&str, &str) = ("authorization", "bearer token-of-grafana");

    #[test]
    fn who_may_do_what_by_which_door() {
        let yes = |name: &str| Ok(name.to_owned());
        let (socket, loopback, network) =
            (came(Door::Socket, true), came(Door::Loopback, false), came(Door::Network, true));
        let guarded = came(Door::Loopback, true);
        #[rustfmt::skip]
        let table: &[(&str, [Result<String, u16>; 6])] = &[
            // asked                              socket         loopback         guarded        network       reader           ops
            ("GET /ready",                       [yes("anybody"), yes("anybody"), yes("anybody"), yes("anybody"), yes("anybody"), yes("anybody")]),
            ("GET /",                            [yes("anybody"), yes("anybody"), yes("anybody"), yes("anybody"), yes("anybody"), yes("anybody")]),
            ("POST /",                           [yes("socket"), yes("loopback"), Err(401), Err(401), Err(403), yes("ops")]),
            ("GET /metrics",                     [yes("anybody"), yes("anybody"), yes("anybody"), Err(401), yes("grafana"), yes("ops")]),
            ("GET /status",                      [yes("socket"), yes("loopback"), Err(401), Err(401), yes("grafana"), yes("ops")]),
            ("HEAD /api/v1/config",              [yes("socket"), yes("loopback"), Err(401), Err(401), yes("grafana"), yes("ops")]),
            ("GET /api/v1/nothing",              [yes("socket"), yes("loopback"), Err(401), Err(401), yes("grafana"), yes("ops")]),
            ("POST /api/v1/route",               [yes("socket"), yes("loopback"), Err(401), Err(401), yes("grafana"), yes("ops")]),
            ("POST /api/v1/config/reload",       [yes("socket"), yes("loopback"), Err(401), Err(401), Err(403), yes("ops")]),
            ("PUT /api/v1/config",               [yes("socket"), yes("loopback"), Err(401), Err(401), Err(403), yes("ops")]),
            ("DELETE /api/v1/pools/web",         [yes("socket"), yes("loopback"), Err(401), Err(401), Err(403), yes("ops")]),
        ];
        for (line, wanted) in table {
            let got = [
                asked(&socket, line, &[]),
                asked(&loopback, line, &[HERE]),
                asked(&guarded, line, &[HERE]),
                asked(&network, line, &[]),
                asked(&network, line, &[GRAFANA]),
                asked(&network, line, &[OPS]),
            ];
            assert_eq!(&got, wanted, "{line}");
        }
    }

    #[test]
    fn a_token_that_is_not_quite_one_opens_nothing() {
        let network = came(Door::Network, true);
        for sent in [
            "Bearer",
            "Bearer ",
            "Bearer token-of-op",
            "Bearer token-of-opss",
            "Basic token-of-ops",
            "token-of-ops",
            "",
        ] {
            assert_eq!(asked(&network, "GET /status", &[("authorization", sent)]), Err(401), "{sent:?}");
        }
    }

    #[test]
    fn a_name_of_somebody_else_that_leads_to_loopback_is_not_answered() {
        let loopback = came(Door::Loopback, false);
        for host in ["127.0.0.1:9900", "[::1]:9900", "localhost", "LOCALHOST:1", "10.1.2.3"] {
            assert!(asked(&loopback, "GET /status", &[("host", host)]).is_ok(), "{host}");
        }
        for host in ["evil.example", "evil.example:9900", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert_eq!(asked(&loopback, "GET /status", &[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(asked(&loopback, "GET /status", &[]), Err(400));
        assert_eq!(asked(&loopback, "GET /status", &[HERE, ("host", "evil.example")]), Err(400));
        // A token is not sent by a browser of its own accord, so with tokens any name will do.
        assert!(asked(&came(Door::Loopback, true), "GET /status", &[("host", "lb.example"), OPS]).is_ok());
    }

    #[test]
    fn a_page_from_elsewhere_changes_nothing() {
        let loopback = came(Door::Loopback, false);
        let order = "POST /api/v1/config/reload";
        assert!(asked(&loopback, order, &[HERE, ("origin", "http://127.0.0.1:9900")]).is_ok());
        assert!(asked(&loopback, order, &[HERE, ("sec-fetch-site", "same-origin")]).is_ok());
        for field in [
            ("origin", "http://evil.example"),
            ("origin", "http://127.0.0.1:8080"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(asked(&loopback, order, &[HERE, field]), Err(403), "{field:?}");
            assert_eq!(asked(&came(Door::Network, true), order, &[HERE, OPS, field]), Err(403), "{field:?}");
        }
    }
}
