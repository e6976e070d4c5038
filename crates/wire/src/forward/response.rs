//! The head for the client.
//!
//! Framing and connection are said in our own words, since both sides have their own connection to us; what the
//! backend says about the content passes untouched.

use super::edits::{HeaderEdits, ours};
use super::{ADDED, Rewrite, put_field, tidy_length};
use crate::cookie;
use crate::field::{Fields, Kind, list};
use crate::message::{Framing, Version};
use crate::response::ResponseHead;

/// What the client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    KeepAlive,
    Close,
    /// With a 101 only.
    Upgrade,
}

/// How the body behind the head is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutFraming {
    /// As it came: [`crate::BodyReader::advance`].
    AsIs,
    /// Without chunk framing, ended by closing: [`crate::BodyReader::advance_decoding`]. For HTTP/1.0 clients.
    Decoded,
    /// In a framing we make ourselves: [`crate::encoding::write_chunk`] for a client of HTTP/1.1, the bare payload and
    /// then the end of the connection for one of HTTP/1.0.
    Chunked,
}

#[derive(Clone, Copy, Debug)]
pub struct ResponseEdits<'a> {
    pub client_version: Version,
    pub connection: Connection,
    pub framing: OutFraming,
    /// Our own entry, written behind those of the proxies before us.
    pub proxy_status: Option<&'a [u8]>,
}

/// What rules, stickiness, HSTS and compression change in a final answer. Interim ones are not edited.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerEdits<'a> {
    /// A rule's word on Strict-Transport-Security wins over the listener's. Set-Cookie of a rule concerns what the
    /// backend sent and not `set_cookie`.
    pub headers: HeaderEdits<'a>,
    /// In the place of the backend's own: who ends TLS knows whether it will be there tomorrow.
    pub strict_transport_security: Option<&'a [u8]>,
    /// A cookie of ours, behind those of the backend.
    pub set_cookie: Option<&'a [u8]>,
    /// The backend's cookie that gets our token.
    pub cookie: Option<CookieMark<'a>>,
    /// The content coding that the body will have. Goes with a framing of our own: [`OutFraming::Chunked`], or
    /// [`OutFraming::Decoded`] for a client of HTTP/1.0.
    pub coding: Option<&'a [u8]>,
    /// The answer depends on Accept-Encoding, whether or not it is coded now: caches must know.
    pub vary: bool,
}

impl AnswerEdits<'_> {
    pub const NONE: AnswerEdits<'static> = AnswerEdits {
        headers: HeaderEdits::NONE,
        strict_transport_security: None,
        set_cookie: None,
        cookie: None,
        coding: None,
        vary: false,
    };
}

/// `token` goes in front of the value of the first cookie called `name` that the backend sets, with
/// [`crate::cookie::SEPARATOR`] between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieMark<'a> {
    pub name: &'a [u8],
    pub token: &'a [u8],
}

/// Appends the head to send to the client.
///
/// An interim answer is written with [`Connection::KeepAlive`]: whether the connection stays is said by the
/// final one.
pub fn write_response(head: &ResponseHead<'_, '_>, edits: &ResponseEdits<'_>, out: &mut Vec<u8>) {
    write_response_edited(head, edits, &AnswerEdits::NONE, out);
}

/// The same with edits.
pub fn write_response_edited(
    head: &ResponseHead<'_, '_>,
    edits: &ResponseEdits<'_>,
    answer: &AnswerEdits<'_>,
    out: &mut Vec<u8>,
) {
    const STATUS_LINE: usize = "HTTP/1.1 200".len();
    let fields = head.fields;
    out.reserve(fields.head.len() + ADDED);
    let mut copy = Rewrite { fields, out, from: 0 };
    if head.version == Version::Http10 {
        let word = Version::Http11.word().as_bytes();
        copy.out.extend_from_slice(word);
        copy.from = word.len();
    }
    if fields.head[STATUS_LINE] != b' ' {
        copy.up_to(STATUS_LINE);
        copy.out.push(b' ');
    }
    let own_framing = edits.framing == OutFraming::Chunked || answer.coding.is_some();
    let without_length = head.status < 200 || head.status == 204 || own_framing;
    let mut editor = Editor::new(answer);
    for (position, kind) in fields.kinds.iter().enumerate() {
        let kept = match kind {
            kind if editor.busy && !ours(*kind) && editor.field(&mut copy, position) => continue,
            Kind::Plain
            | Kind::Host
            | Kind::Expect
            | Kind::UserAgent
            | Kind::CdnLoop
            | Kind::Forwarded
            | Kind::XForwardedFor
            | Kind::XForwardedProto
            | Kind::XForwardedHost
            | Kind::XForwardedPort
            | Kind::XForwardedOther
            | Kind::XRealIp
            | Kind::ClientCertificate => true,
            Kind::ContentLength if without_length => false,
            Kind::ContentLength => {
                let value = fields.headers[position].value;
                let tidy = tidy_length(value);
                if tidy.len() < value.len() {
                    copy.replace(position, tidy);
                    continue;
                }
                true
            }
            Kind::Trailer => edits.framing == OutFraming::AsIs,
            Kind::Connection | Kind::HopByHop | Kind::TransferEncoding | Kind::Te | Kind::Upgrade | Kind::Nominated => {
                false
            }
        };
        if kept { copy.keep(position) } else { copy.skip(position) }
    }
    copy.up_to(fields.head.len() - 2);

    if editor.busy {
        editor.end(out);
    }
    let chunked = match edits.framing {
        OutFraming::AsIs => head.framing == Framing::Chunked,
        OutFraming::Decoded => false,
        OutFraming::Chunked => edits.client_version == Version::Http11 && head.framing != Framing::Empty,
    };
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(entry) = edits.proxy_status {
        put_field(out, &[b"Proxy-Status: "], entry);
    }
    match (edits.connection, edits.client_version) {
        (Connection::KeepAlive, Version::Http11) => {}
        (Connection::KeepAlive, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (Connection::Close, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (Connection::Upgrade, _) => {
            put_field(out, &[b"Connection: upgrade\r\nUpgrade: "], head.upgrade.unwrap_or_default());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Edits field by field.
struct Editor<'a> {
    answer: &'a AnswerEdits<'a>,
    /// There is anything to edit.
    busy: bool,
    cookie_marked: bool,
    vary_said: bool,
}

impl<'a> Editor<'a> {
    fn new(answer: &'a AnswerEdits<'a>) -> Self {
        let busy = !answer.headers.is_empty()
            || answer.strict_transport_security.is_some()
            || answer.set_cookie.is_some()
            || answer.cookie.is_some()
            || answer.coding.is_some()
            || answer.vary;
        Editor { answer, busy, cookie_marked: false, vary_said: false }
    }

    /// Deals with one field of the backend; false leaves it as it is.
    #[cold]
    fn field(&mut self, copy: &mut Rewrite<'_, '_, '_>, position: usize) -> bool {
        let header = copy.fields.headers[position];
        let (name, value) = (header.name.as_bytes(), header.value);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let coded = self.answer.coding.is_some();
        let left_out = self.answer.headers.replaces(name)
            || is(HSTS) && self.answer.strict_transport_security.is_some()
            || coded && ABOUT_THE_BYTES.iter().any(|known| is(known));
        if left_out {
            copy.skip(position);
        } else if is("set-cookie") && !self.cookie_marked && self.mark_cookie(copy, position) {
            self.cookie_marked = true;
        } else if is("etag") && coded && value.starts_with(b"\"") {
            copy.replace_with(position, &[b"W/", value]);
        } else if is("vary") && (coded || self.answer.vary) && !self.vary_said {
            self.vary_said = true;
            if varies_by_coding(&copy.fields) {
                return false;
            }
            let between: &[u8] = if value.is_empty() { b"" } else { b", " };
            copy.replace_with(position, &[value, between, b"Accept-Encoding"]);
        } else {
            return false;
        }
        true
    }

    fn mark_cookie(&self, copy: &mut Rewrite<'_, '_, '_>, position: usize) -> bool {
        let Some(CookieMark { name, token }) = self.answer.cookie else { return false };
        let value = copy.fields.headers[position].value;
        let Some((front, behind)) = cookie::mark_place(value, name) else { return false };
        copy.replace_with(position, &[front, token, &[cookie::SEPARATOR], behind]);
        true
    }

    /// Writes what is new.
    #[cold]
    fn end(&self, out: &mut Vec<u8>) {
        let AnswerEdits { headers, strict_transport_security, set_cookie, coding, vary, .. } = *self.answer;
        if let Some(policy) = strict_transport_security
            && !headers.replaces(HSTS.as_bytes())
        {
            put_field(out, &[b"Strict-Transport-Security: "], policy);
        }
        // The coding is that of the bytes we send; a rule cannot know it.
        headers.write(out, |name| coding.is_some() && name.eq_ignore_ascii_case(b"content-encoding"));
        if let Some(coding) = coding {
            put_field(out, &[b"Content-Encoding: "], coding);
        }
        if (coding.is_some() || vary) && !self.vary_said {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
        if let Some(cookie) = set_cookie {
            put_field(out, &[b"Set-Cookie: "], cookie);
        }
    }
}

const HSTS: &str = "strict-transport-security";

/// What a backend says about the very bytes it sends, in lower case: untrue once they are coded anew. Ranges of what we
/// made ourselves cannot be asked for.
const ABOUT_THE_BYTES: &[&str] = &["accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"];

fn varies_by_coding(fields: &Fields<'_, '_>) -> bool {
    let vary = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"vary"));
    vary.flat_map(|(_, value)| list(value))
        .any(|member| member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding"))
}
