//! The dashboard: four files that were built from web/ and lie in the binary.
//!
//! Nothing of it is secret, so it is served without a token: the page itself asks for one where the API wants it. It takes nothing
//! from elsewhere, and the policy it is sent with tells browsers to refuse whatever would. The files are committed as built, so
//! that a build of evenkeel needs no Node; tests/e2e/dashboard.rs builds them anew and compares.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

/// Scripts, styles, pictures and questions of the page go to the node it came from, or nowhere; nobody may frame it, where a click on a
/// button could be stolen.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

static FILES: [File; 4] = [
    File { path: "/", kind: "text/html; charset=utf-8", bytes: include_bytes!("../../web/dist/index.html") },
    File { path: "/app.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("../../web/dist/app.js") },
    File { path: "/app.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("../../web/dist/app.css") },
    File { path: "/icon.svg", kind: "image/svg+xml", bytes: include_bytes!("../../web/dist/icon.svg") },
];

static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| FILES.iter().map(|file| tag(file.bytes)).collect());

/// Where they are.
pub fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.path)
}

pub fn router() -> Router {
    FILES.iter().zip(TAGS.iter()).fold(Router::new(), |router, (file, tag)| {
        router.route(file.path, get(move |asked: HeaderMap| async move { answer(file, tag, &asked) }))
    })
}

/// A browser that has the file already is told so: after an upgrade it gets the new one, and else nothing.
fn answer(file: &'static File, tag: &'static HeaderValue, asked: &HeaderMap) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(file.kind)),
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if knows(asked, tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, file.bytes).into_response()
}

/// RFC 9110 section 13.1.2: tags are compared weakly, for what stands between may have marked ours so.
fn knows(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let named = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.trim_start_matches("W/").as_bytes() == tag.as_bytes())
}

fn tag(bytes: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(bytes);
    let mut text = String::from("\"");
    for byte in digest.iter().take(12) {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
    HeaderValue::from_str(&text).expect("hexadecimal digits may stand in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(tags: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(tags).expect("visible characters"))])
    }

    #[test]
    fn the_page_comes_with_a_policy_that_lets_nothing_in_from_elsewhere() {
        for (file, tag) in FILES.iter().zip(TAGS.iter()) {
            let answer = answer(file, tag, &HeaderMap::new());
            assert_eq!(answer.status(), StatusCode::OK);
            let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
            assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(answer.headers()[header::CONTENT_TYPE], file.kind);
        }
    }

    #[test]
    fn a_browser_that_has_the_file_is_not_sent_it_again() {
        let (file, tag) = (&FILES[1], &TAGS[1]);
        let own = tag.to_str().expect("ASCII");
        for tags in [own.to_string(), format!("W/{own}"), format!("\"other\", {own}"), "*".to_string()] {
            assert_eq!(answer(file, tag, &asked(&tags)).status(), StatusCode::NOT_MODIFIED, "{tags}");
        }
        assert_eq!(answer(file, tag, &asked("\"other\"")).status(), StatusCode::OK);
        assert_ne!(TAGS[0], TAGS[1]);
    }

    #[test]
    fn the_document_has_nothing_inline_that_the_policy_forbids() {
        let document = std::str::from_utf8(FILES[0].bytes).expect("UTF-8");
        assert!(!document.contains("<style") && !document.contains("style=") && !document.contains("javascript:"));
        for script in document.split("<script").skip(1) {
            let (attributes, body) = script.split_once('>').expect("a tag ends");
            assert!(attributes.contains("src=") && body.starts_with("</script>"), "an inline script: {script}");
        }
    }
}
