//! What holds for every list: `wire` finds in the text what the list said, and the text becomes the list again.

use evenkeel_h2::text::{
    Body, RequestOptions, ResponseAsked, ResponseOptions, SendOptions, SentRequest, request_fields, response_fields,
};
use evenkeel_model::Cause;
use evenkeel_wire::{Asked, FieldSlots, Framing, Parsed, parse_request, parse_response};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};
use proptest::{prop_assert, prop_assert_eq};

use super::{Pairs, encoded, list, request, response};

const NAMES: &[&str] = &[
    "host",
    "cookie",
    "content-length",
    "te",
    "expect",
    "x-a",
    "accept",
    "connection",
    "transfer-encoding",
    "upgrade",
    ":path",
    ":method",
    "x_forwarded_for",
    "x-forwarded-for",
    "trailer",
    "sec-websocket-key",
    "sec-websocket-accept",
    "set-cookie",
];
const VALUES: &[&str] = &[
    "",
    "a",
    "5",
    "0",
    "trailers",
    "100-continue",
    "chunked",
    "/",
    "a=1; b=2",
    "close",
    "websocket",
    "a\tb",
    "\u{e9}",
    "a, b",
    "18446744073709551615",
    "dGhlIHNhbXBsZSBub25jZQ==",
];
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "get", "M-SEARCH", "PRI"];
const PATHS: &[&str] = &["/", "*", "/a?b=c", "//b/", "/%00;x=\"<>\\^`{|}'", "", "http://a/", "/a#b", "/ b", "?x"];
const HOSTS: &[&str] = &["a", "A.example:80", "[::1]", "", "a@b", "a:b", "a_b.", "1.2.3.4:5", "a b", "[::1]:0"];
const STATUSES: &[&str] = &["200", "204", "304", "100", "103", "101", "404", "500", "599", "600", "099", "2 0", ""];
const SHARP: &[char] = &['\r', '\n', '\0', ' ', '\t', ':', '\u{7f}', '\u{ff}', 'A', 'a', '#', ',', ';', '"', '/', '@'];

fn known(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(texts).prop_map(str::to_owned)
}

fn regular() -> impl Strategy<Value = (String, String)> {
    let odd = || vec(select(SHARP), 0..5).prop_map(String::from_iter);
    (
        prop_oneof![20 => known(NAMES), 30 => Just("x-b".to_owned()), 1 => odd()],
        prop_oneof![20 => known(VALUES), 1 => odd()],
    )
}

/// Mostly good lists, some with one character too many.
fn lists(pseudo: impl Strategy<Value = Pairs>) -> impl Strategy<Value = Pairs> {
    let damage = prop_oneof![4 => Just(None), 1 => (any::<Index>(), any::<Index>(), select(SHARP)).prop_map(Some)];
    let order = prop_oneof![9 => Just(None), 1 => (any::<Index>(), any::<Index>()).prop_map(Some)];
    (pseudo, vec(regular(), 0..6), damage, order).prop_map(|(mut fields, regular, damage, order)| {
        fields.extend(regular);
        if fields.is_empty() {
            return fields;
        }
        if let Some((field, at, sharp)) = damage {
            let field = field.index(fields.len());
            let value = &mut fields[field].1;
            let at = at.index(value.chars().count() + 1);
            *value = value.chars().take(at).chain([sharp]).chain(value.chars().skip(at)).collect();
        }
        if let Some((one, other)) = order {
            let length = fields.len();
            fields.swap(one.index(length), other.index(length));
        }
        fields
    })
}

fn requests() -> impl Strategy<Value = Pairs> {
    let mostly = |good: &'static str, all| prop_oneof![6 => Just(good.to_owned()), 3 => known(all)];
    let parts = (
        mostly("GET", METHODS),
        mostly("/", PATHS),
        proptest::option::weighted(0.8, mostly("a", HOSTS)),
        proptest::option::weighted(0.1, Just("websocket".to_owned())),
    );
    lists(parts.prop_map(|(method, path, host, protocol)| {
        let own = |name: &str, value: String| (name.to_owned(), value);
        let mut fields = vec![own(":method", method), own(":scheme", "https".to_owned()), own(":path", path)];
        fields.extend(host.map(|host| own(":authority", host)));
        fields.extend(protocol.map(|protocol| own(":protocol", protocol)));
        fields
    }))
}

fn responses() -> impl Strategy<Value = Pairs> {
    let status = prop_oneof![6 => Just("200".to_owned()), 6 => known(STATUSES)];
    lists(status.prop_map(|status| vec![(":status".to_owned(), status)]))
}

fn as_list(fields: &Pairs) -> evenkeel_h2::hpack::FieldList {
    list(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn value(fields: &Pairs, name: &str) -> Option<String> {
    fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
}

/// How many lines the regular fields of a list make.
fn lines(fields: &Pairs, left_out: &[&str]) -> usize {
    let regular = || fields.iter().filter(|(name, _)| !name.starts_with(':'));
    let cookies = regular().filter(|(name, _)| name == "cookie").count();
    regular().filter(|(name, _)| !left_out.contains(&name.as_str())).count() - cookies.saturating_sub(1)
}

proptest! {
    #[test]
    fn what_request_text_accepts_wire_reads_alike(fields in requests(), end_stream in any::<bool>(), tunnels in any::<bool>()) {
        let options = RequestOptions { end_stream, tunnels };
        let Ok((text, shape)) = request(&as_list(&fields), options) else { return Ok(()) };
        let bytes = super::latin1(&text);
        let mut slots = FieldSlots::new();
        let head = match parse_request(&bytes, &mut slots, usize::MAX) {
            Parsed::Whole(head) => head,
            Parsed::Partial => return Err(proptest::test_runner::TestCaseError::fail(format!("half of {text:?}"))),
            Parsed::Refused(refusal) => {
                return Err(proptest::test_runner::TestCaseError::fail(format!("{}: {text:?}", refusal.detail)));
            }
        };
        prop_assert_eq!(head.len, bytes.len());
        let tunnel = shape.body == Body::Tunnel;
        let method = if tunnel { Some("GET".to_owned()) } else { value(&fields, ":method") };
        prop_assert_eq!(Some(super::text(head.method)), method);
        prop_assert_eq!(Some(super::text(head.path)), value(&fields, ":path"));
        let host = value(&fields, ":authority").or(value(&fields, "host"));
        prop_assert_eq!(head.host.map(super::text), host);
        prop_assert_eq!(head.upgrade, tunnel.then_some(&b"websocket"[..]));
        prop_assert_eq!(shape.is_head, head.is_head);
        let framing = match shape.body {
            // A tunnel's bytes are no body, and a POST without one says so.
            Body::Tunnel => Framing::Empty,
            Body::Empty if head.framing == Framing::Length(0) => Framing::Length(0),
            body => body.framing().expect("no tunnel"),
        };
        prop_assert_eq!(head.framing, framing);
        // Host is written for :authority, and the framing of a body or of nothing; a tunnel adds three and has no key of its own.
        let left_out: &[&str] = if tunnel { &["host", "sec-websocket-key"] } else { &["host"] };
        let framed = text.contains("transfer-encoding: chunked\r\n") && !fields.iter().any(|(_, value)| value == "chunked")
            || shape.body == Body::Chunked;
        let says_nothing = shape.body == Body::Empty && head.framing == Framing::Length(0);
        let added = 1 + if tunnel { 3 } else { usize::from(framed) + usize::from(says_nothing) };
        prop_assert_eq!(head.fields.len(), lines(&fields, left_out) + added, "{}", text);
    }

    #[test]
    fn a_request_read_and_sent_again_is_the_same_list(fields in requests(), end_stream in any::<bool>(), tunnels in any::<bool>()) {
        let Ok((text, shape)) = request(&as_list(&fields), RequestOptions { end_stream, tunnels }) else { return Ok(()) };
        let options = SendOptions { scheme: "https", tunnels };
        let sent = encoded(|encoder, out| request_fields(&super::latin1(&text), options, encoder, out));
        let (again, sent) = sent.map_err(proptest::test_runner::TestCaseError::fail)?;
        let pseudo = |fields: &Pairs| {
            let mut pseudo: Vec<_> = fields.iter().filter(|(name, _)| name.starts_with(':')).cloned().collect();
            pseudo.sort();
            pseudo
        };
        if value(&fields, ":authority").is_some() {
            prop_assert_eq!(pseudo(&again), pseudo(&fields));
        }
        prop_assert_eq!((sent.is_head, sent.key.is_some()), (shape.is_head, shape.body == Body::Tunnel));
        prop_assert!(sent.body == shape.body || (shape.body, sent.body) == (Body::Empty, Body::Length(0)));
        // A second time through changes nothing any more, but for the place of cookies.
        let same = request(&as_list(&again), RequestOptions { end_stream, tunnels });
        let (twice, _) = same.map_err(proptest::test_runner::TestCaseError::fail)?;
        let thrice = encoded(|encoder, out| request_fields(&super::latin1(&twice), options, encoder, out));
        let sorted = |(mut fields, sent): (Pairs, SentRequest)| {
            fields.sort();
            (fields, sent)
        };
        prop_assert_eq!(thrice.map(sorted), Ok(sorted((again, sent))));
    }

    #[test]
    fn what_response_text_accepts_wire_reads_alike(
        fields in responses(), end_stream in any::<bool>(), is_head in any::<bool>(), tunnel in any::<bool>(),
    ) {
        let key = (tunnel && !is_head).then_some(*b"dGhlIHNhbXBsZSBub25jZQ==");
        let options = ResponseOptions { end_stream, is_head, key };
        let Ok((text, shape)) = response(&as_list(&fields), options) else { return Ok(()) };
        let bytes = super::latin1(&text);
        let mut slots = FieldSlots::new();
        let asked = Asked { head: is_head, upgrade: key.is_some() };
        let Parsed::Whole(head) = parse_response(&bytes, &mut slots, usize::MAX, asked) else {
            return Err(proptest::test_runner::TestCaseError::fail(format!("wire refuses {text:?}")));
        };
        prop_assert_eq!(head.len, bytes.len());
        let switched = shape.body == Body::Tunnel;
        prop_assert_eq!(head.status, if switched { 101 } else { shape.status });
        prop_assert_eq!(Some(shape.status.to_string()), value(&fields, ":status"));
        prop_assert_eq!(head.upgrade, switched.then_some(&b"websocket"[..]));
        // Without a length and without a body, wire would wait for the end; that cannot happen for these.
        let framing = match shape.body {
            Body::Tunnel => Framing::Empty,
            Body::Empty if head.framing == Framing::Length(0) => Framing::Length(0),
            body => body.framing().expect("no tunnel"),
        };
        prop_assert_eq!(head.framing, framing);
        let asked = ResponseAsked { is_head, tunnel: key.is_some() };
        if let Ok((again, sent)) = encoded(|encoder, out| response_fields(&bytes, asked, encoder, out)) {
// Any success opens a tunnel, and the text has one word for them all.
            let status = if switched { Some("200".to_owned()) } else { value(&fields, ":status") };
            prop_assert_eq!(value(&again, ":status"), status);
            prop_assert!(sent.body == shape.body || (shape.body, sent.body) == (Body::Empty, Body::Length(0)));
        } else {
            return Err(proptest::test_runner::TestCaseError::fail(format!("we refuse our own {text:?}")));
        }
    }

    #[test]
    fn random_text_does_no_harm(text in vec(select(&b"GET / HTTP1.20OK:\r\n\r\nhostx-a\t"[..]), 0..80)) {
        let options = SendOptions { scheme: "http", tunnels: true };
        if let Ok((fields, _)) = encoded(|encoder, out| request_fields(&text, options, encoder, out)) {
            prop_assert!(fields.len() >= 4);
        }
        if let Ok((fields, _)) = encoded(|encoder, out| response_fields(&text, ResponseAsked::default(), encoder, out)) {
            prop_assert!(!fields.is_empty());
        }
    }
}

#[test]
fn too_many_fields_are_left_to_wire_which_has_a_cause_for_them() {
    let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    fields.resize(4 + 128, ("x", "y"));
    let (text, _) = request(&list(fields), RequestOptions { end_stream: true, tunnels: false }).expect("well-formed");
    match parse_request(text.as_bytes(), &mut FieldSlots::new(), usize::MAX) {
        Parsed::Refused(refusal) => assert_eq!(refusal.cause, Cause::ClientHeaderTooLarge),
        Parsed::Whole(_) | Parsed::Partial => panic!("129 fields passed"),
    }
}
