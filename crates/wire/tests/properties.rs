//! What holds for every message, good, nearly good or random.
//!
//! Messages are built from parts that parsers trip over, then damaged at random, so that most cases lie
//! near the border between accepted and refused. `naive` reads every accepted head a second time.

mod naive;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use evenkeel_wire::{
    AnswerEdits, Asked, BodyReader, Connection, FieldSlots, Forwarding, Framing, HeaderEdits, OutFraming, Parsed,
    RequestEdits, RequestHead, ResponseEdits, Version, has_loop, parse_request, parse_response, write_request,
    write_request_edited, write_response, write_response_edited,
};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};

const LIMIT: usize = 2048;

/// Field lines that mean something to a balancer, in good and bad spellings.
const TELLING: &[&str] = &[
    "Host: a",
    "host: example.com:8080",
    "Host:",
    "Content-Length: 5",
    "content-length:0",
    "Content-Length: 05",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length: 18446744073709551616",
    "Transfer-Encoding: chunked",
    "TRANSFER-ENCODING: Chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\tchunked",
    "Connection: close",
    "Connection: keep-alive, upgrade",
    "Connection: content-length, host, transfer-encoding, x-plain",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "TE: trailers",
    "Expect: 100-continue",
    "Trailer: X",
    "Keep-Alive: timeout=5",
    "X-Forwarded-For: 203.0.113.5, 10.0.0.1",
    "X-Forwarded-Proto: https",
    "X_Forwarded_For: 1",
    "Forwarded: for=203.0.113.5;proto=https",
    "CDN-Loop: other",
    "X-Plain: y",
    "X-Plain:  odd spacing \t",
    "X-Empty:",
    " folded",
];

/// Bytes that end, split or hide things.
const SHARP: &[u8] = b"\r\n\t :,;0\0\x7f\x80\xff\"/?#@*";

fn request_line() -> impl Strategy<Value = String> {
    let method = select(vec!["GET", "POST", "HEAD", "OPTIONS", "PUT", "CONNECT", "X-1"]);
    let target =
        select(vec!["/", "/a?b=c", "*", "http://a/", "http://example.com:8080", "https://a/x", "a:80", "/%00"]);
    let version = prop_oneof![8 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0")];
    (method, target, version).prop_map(|(method, target, version)| format!("{method} {target} {version}"))
}

fn status_line() -> impl Strategy<Value = String> {
    let version = prop_oneof![8 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0")];
    let status = prop_oneof![6 => Just(200_u16), 4 => select(vec![100, 101, 103, 204, 304, 404, 502]), 2 => 0..700_u16];
    let reason = select(vec![" OK", "", " ", " two words"]);
    (version, status, reason).prop_map(|(version, status, reason)| format!("{version} {status:03}{reason}"))
}

fn head(first: impl Strategy<Value = String>, sure: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (first, vec(select(TELLING), 0..6), vec(any::<u8>(), 0..8)).prop_map(move |(first, fields, behind)| {
        let lines = [&[first.as_str()], sure, fields.as_slice()].concat();
        [format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes(), &behind].concat()
    })
}

#[derive(Clone, Debug)]
enum Damage {
    Replace(u8),
    Insert(u8),
    Remove,
    Repeat(usize),
}

fn damage() -> impl Strategy<Value = (Index, Damage)> {
    let byte = || prop_oneof![3 => select(SHARP), 1 => any::<u8>()];
    let damage = prop_oneof![
        byte().prop_map(Damage::Replace),
        byte().prop_map(Damage::Insert),
        Just(Damage::Remove),
        (1..40_usize).prop_map(Damage::Repeat),
    ];
    (any::<Index>(), damage)
}

fn damaged(input: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (input, vec(damage(), 0..3)).prop_map(|(mut input, damages)| {
        for (place, damage) in damages {
            if input.is_empty() {
                break;
            }
            let at = place.index(input.len());
            match damage {
                Damage::Replace(byte) => input[at] = byte,
                Damage::Insert(byte) => input.insert(at, byte),
                Damage::Remove => drop(input.remove(at)),
                Damage::Repeat(count) => {
                    let piece = input[at..].iter().take(count).copied().collect::<Vec<_>>();
                    input.splice(at..at, piece);
                }
            }
        }
        input
    })
}

fn forwarding() -> impl Strategy<Value = Forwarding<'static>> {
    let client = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
    ];
    (client, any::<(bool, bool, bool, u16)>()).prop_map(|(client, (trusted_peer, x_forwarded, forwarded, port))| {
        Forwarding {
            client,
            client_port: port,
            local: SocketAddr::from(([127, 0, 0, 1], port)),
            scheme: "http",
            trusted_peer,
            trusted: &[],
            x_forwarded,
            forwarded,
            loop_id: b"keel",
            default_host: b"default.example",
        }
    })
}

/// The parse as text, so that results of different inputs can be compared.
fn request_result(input: &[u8]) -> String {
    match parse_request(input, &mut FieldSlots::new(), LIMIT) {
        Parsed::Whole(head) => format!(
            "{:?} {:?} {:?} {:?} {} {} {}",
            head.framing, head.host, head.path, head.upgrade, head.keep_alive, head.expect_continue, head.len
        ),
        Parsed::Partial => "partial".to_owned(),
        Parsed::Refused(refusal) => format!("{refusal:?}"),
    }
}

fn response_result(input: &[u8], asked: Asked) -> String {
    match parse_response(input, &mut FieldSlots::new(), LIMIT, asked) {
        Parsed::Whole(head) => format!(
            "{} {:?} {:?} {:?} {} {}",
            head.status, head.reason, head.framing, head.upgrade, head.keep_alive, head.len
        ),
        Parsed::Partial => "partial".to_owned(),
        Parsed::Refused(refusal) => format!("{refusal:?}"),
    }
}

/// A prefix is undecided or gives the final result already.
fn same_for_every_prefix(input: &[u8], read: impl Fn(&[u8]) -> String) -> Result<(), String> {
    let whole = read(input);
    let mut decided = false;
    for cut in 0..input.len() {
        let part = read(&input[..cut]);
        if part == "partial" && !decided {
            continue;
        }
        decided = true;
        if part != whole {
            return Err(format!("after {cut} of {} bytes {part}, in the end {whole}", input.len()));
        }
    }
    Ok(())
}

fn check_request(input: &[u8], forwarding: &Forwarding<'_>) -> Result<(), TestCaseError> {
    let mut slots = FieldSlots::new();
    let head = match parse_request(input, &mut slots, LIMIT) {
        Parsed::Whole(head) => head,
        Parsed::Partial => return Ok(()),
        Parsed::Refused(refusal) => {
            // The words for "the fast reader balked and the slow one does not know why".
            prop_assert!(!refusal.detail.contains("is not http/1.1 (RFC 9112)"));
            return Ok(());
        }
    };
    let naive = naive::request(input).map_err(TestCaseError::fail)?;
    prop_assert_eq!(naive.framing, head.framing);
    prop_assert_eq!(naive.length, head.len);
    prop_assert_eq!(naive.fields.len(), head.fields.len());

    let mut out = Vec::new();
    write_request(&head, forwarding, &mut out);
    let sent = naive::request(&out).map_err(TestCaseError::fail)?;
    prop_assert_eq!((sent.framing, sent.length), (head.framing, out.len()));
    if !nominates_plain(&naive) {
        prop_assert_eq!(naive.values("x-plain"), sent.values("x-plain"));
    }
    if forwarding.x_forwarded || !forwarding.trusted_peer {
        prop_assert_eq!(sent.values("x-forwarded-for").len(), usize::from(forwarding.x_forwarded));
        prop_assert_eq!(sent.values("x-real-ip").len(), usize::from(forwarding.x_forwarded));
    }
    prop_assert_eq!(sent.values("host").len(), 1);
    let mut slots = FieldSlots::new();
    let Parsed::Whole(again) = parse_request(&out, &mut slots, usize::MAX) else {
        return Err(TestCaseError::fail(format!("we refuse our own {}", out.escape_ascii())));
    };
    prop_assert_eq!(again.version, Version::Http11);
    prop_assert_eq!((again.framing, again.len), (head.framing, out.len()));
    prop_assert_eq!((again.method, again.path, again.upgrade), (head.method, head.path, head.upgrade));
    prop_assert_eq!(again.host, Some(head.host.unwrap_or(forwarding.default_host)));
    prop_assert_eq!(again.trailers_accepted, head.trailers_accepted);
    prop_assert!(has_loop(&again, forwarding.loop_id));
    check_request_edits(&head, forwarding)
}

/// Edits, sensible or not, change neither the framing nor how many hosts there are.
fn check_request_edits(head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>) -> Result<(), TestCaseError> {
    let edited =
        ["x-plain", "Content-Length", "Transfer-Encoding", "Host", "Connection", "X-Forwarded-For", "CDN-Loop"];
    let remove = edited.map(Box::from);
    let set = edited.map(|name| (Box::from(name), Box::from("7")));
    for headers in [
        HeaderEdits { remove: &remove, ..HeaderEdits::NONE },
        HeaderEdits { set: &set, ..HeaderEdits::NONE },
        HeaderEdits { add: &set, ..HeaderEdits::NONE },
    ] {
        let edits = RequestEdits { headers, path: Some(b"/other"), close: true, ..RequestEdits::NONE };
        let mut out = Vec::new();
        write_request_edited(head, forwarding, &edits, &mut out);
        let sent = naive::request(&out).map_err(TestCaseError::fail)?;
        prop_assert_eq!((sent.framing, sent.length), (head.framing, out.len()));
        prop_assert_eq!(sent.values("host").len(), 1);
        let mut slots = FieldSlots::new();
        let Parsed::Whole(again) = parse_request(&out, &mut slots, usize::MAX) else {
            return Err(TestCaseError::fail(format!("we refuse our own {}", out.escape_ascii())));
        };
        prop_assert_eq!((again.method, again.path, again.keep_alive), (head.method, b"/other".as_slice(), false));
        prop_assert!(has_loop(&again, forwarding.loop_id));
    }
    Ok(())
}

fn nominates_plain(reading: &naive::Reading) -> bool {
    reading.values("connection").iter().any(|value| value.to_ascii_lowercase().contains("x-plain"))
}

fn check_response(input: &[u8], asked: Asked, edits: &ResponseEdits<'_>) -> Result<(), TestCaseError> {
    let mut slots = FieldSlots::new();
    let head = match parse_response(input, &mut slots, LIMIT, asked) {
        Parsed::Whole(head) => head,
        Parsed::Partial => return Ok(()),
        Parsed::Refused(refusal) => {
            prop_assert!(!refusal.detail.contains("is not http/1.1 (RFC 9112)"));
            return Ok(());
        }
    };
    let naive = naive::response(input, asked.head).map_err(TestCaseError::fail)?;
    prop_assert_eq!((naive.framing, naive.length), (head.framing, head.len));

    let edits = match head.upgrade {
        Some(_) => ResponseEdits { connection: Connection::Upgrade, ..*edits },
        None => *edits,
    };
    let mut out = Vec::new();
    write_response(&head, &edits, &mut out);
    let sent = naive::response(&out, asked.head).map_err(TestCaseError::fail)?;
    let expected = match (head.framing, edits.framing) {
        (Framing::Chunked, OutFraming::Decoded) => Framing::UntilClose,
        (framing, _) => framing,
    };
    prop_assert_eq!((sent.framing, sent.length), (expected, out.len()));
    let mut slots = FieldSlots::new();
    let Parsed::Whole(again) = parse_response(&out, &mut slots, usize::MAX, asked) else {
        return Err(TestCaseError::fail(format!("we refuse our own {}", out.escape_ascii())));
    };
    prop_assert_eq!((again.status, again.reason, again.upgrade), (head.status, head.reason, head.upgrade));
    prop_assert_eq!((again.framing, again.version), (expected, Version::Http11));

    // A coded body is framed by us, whatever the backend said of its own.
    let chunked = ResponseEdits { framing: OutFraming::Chunked, client_version: Version::Http11, ..edits };
    let coded = AnswerEdits { coding: Some(b"gzip"), vary: true, ..AnswerEdits::NONE };
    let mut out = Vec::new();
    write_response_edited(&head, &chunked, &coded, &mut out);
    let sent = naive::response(&out, asked.head).map_err(TestCaseError::fail)?;
    let expected = if head.framing == Framing::Empty { Framing::Empty } else { Framing::Chunked };
    prop_assert_eq!((sent.framing, sent.length), (expected, out.len()));
    Ok(())
}

fn asked() -> impl Strategy<Value = Asked> {
    any::<(bool, bool)>().prop_map(|(head, upgrade)| Asked { head, upgrade })
}

fn edits() -> impl Strategy<Value = ResponseEdits<'static>> {
    let connection = select(vec![Connection::KeepAlive, Connection::Close]);
    let framing = select(vec![OutFraming::AsIs, OutFraming::Decoded]);
    let client_version = select(vec![Version::Http10, Version::Http11]);
    let proxy_status = select(vec![None, Some(b"evenkeel; error=connection_refused".as_slice())]);
    (connection, framing, client_version, proxy_status).prop_map(
        |(connection, framing, client_version, proxy_status)| ResponseEdits {
            client_version,
            connection,
            framing,
            proxy_status,
        },
    )
}

/// A good chunked body and its payload.
fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let extension = select(vec!["", ";a", ";a=b", ";a=\"b;\\\"c\"", ";a;b=1"]);
    let chunk = (vec(any::<u8>(), 1..40), extension.clone(), any::<bool>());
    let trailers = select(vec!["", "X: y\r\n", "Grpc-Status: 0\r\nGrpc-Message:\r\n"]);
    (vec(chunk, 0..5), extension, trailers).prop_map(|(chunks, last_extension, trailers)| {
        let (mut body, mut payload) = (Vec::new(), Vec::new());
        for (chunk, extension, upper) in chunks {
            let size = if upper { format!("{:X}", chunk.len()) } else { format!("00{:x}", chunk.len()) };
            body.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            body.extend_from_slice(&chunk);
            body.extend_from_slice(b"\r\n");
            payload.extend_from_slice(&chunk);
        }
        body.extend_from_slice(format!("0{last_extension}\r\n{trailers}\r\n").as_bytes());
        (body, payload)
    })
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::Empty),
        (0..60_u64).prop_map(Framing::Length),
        Just(Framing::UntilClose),
        Just(Framing::Chunked),
    ]
}

/// Payload, bytes consumed and end of a body fed in pieces that end at `cuts`.
fn body_result(framing: Framing, input: &[u8], cuts: &[Index]) -> (Vec<u8>, Result<(usize, bool), &'static str>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.push(input.len());
    cuts.sort_unstable();
    let mut plain = BodyReader::new(framing);
    let mut decoding = plain.clone();
    let mut payload = Vec::new();
    let (mut from, mut consumed) = (0, 0);
    for cut in cuts {
        let piece = &input[from..cut];
        let progress = plain.advance(piece);
        assert_eq!(progress, decoding.advance_decoding(piece, &mut payload));
        match progress {
            Ok(progress) => consumed += progress.consumed,
            Err(detail) => return (payload, Err(detail)),
        }
        from = cut;
    }
    assert_eq!(plain.payload_bytes(), payload.len() as u64);
    let done = plain.end_of_stream().is_ok();
    (payload, Ok((consumed, done)))
}

proptest! {
    #[test]
    fn a_request_is_accepted_only_if_it_has_one_reading_and_goes_on_with_the_same_framing(
        input in damaged(head(request_line(), &["Host: a"])), forwarding in forwarding(),
    ) {
        check_request(&input, &forwarding)?;
    }

    #[test]
    fn the_same_holds_without_a_host_to_start_with(
        input in damaged(head(request_line(), &[])), forwarding in forwarding(),
    ) {
        check_request(&input, &forwarding)?;
    }

    #[test]
    fn a_request_is_read_alike_however_it_is_cut(input in damaged(head(request_line(), &["Host: a"]))) {
        prop_assert_eq!(same_for_every_prefix(&input, request_result), Ok(()));
    }

    #[test]
    fn a_response_is_accepted_only_if_it_has_one_reading_and_goes_on_with_the_same_framing(
        input in damaged(head(status_line(), &[])), asked in asked(), edits in edits(),
    ) {
        check_response(&input, asked, &edits)?;
    }

    #[test]
    fn a_response_is_read_alike_however_it_is_cut(input in damaged(head(status_line(), &[])), asked in asked()) {
        prop_assert_eq!(same_for_every_prefix(&input, |part| response_result(part, asked)), Ok(()));
    }

    #[test]
    fn random_bytes_are_answered_and_alike_however_they_are_cut(
        input in vec(any::<u8>(), 0..200), asked in asked(), cuts in vec(any::<Index>(), 0..6),
    ) {
        prop_assert_eq!(same_for_every_prefix(&input, request_result), Ok(()));
        prop_assert_eq!(same_for_every_prefix(&input, |part| response_result(part, asked)), Ok(()));
        prop_assert_eq!(body_result(Framing::Chunked, &input, &[]), body_result(Framing::Chunked, &input, &cuts));
    }

    /// The other side of strictness: refusing everything would pass the properties above.
    #[test]
    fn a_clean_request_is_accepted(
        path in "/[!$-~]{0,40}",
        names in vec("[A-Za-z][A-Za-z0-9-]{0,20}-x", 0..10),
        value in "[ -~\t]{0,60}",
        length in any::<u64>(),
    ) {
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: example.com\r\nContent-Length: {length}\r\n");
        for name in &names {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut slots = FieldSlots::new();
        let Parsed::Whole(parsed) = parse_request(head.as_bytes(), &mut slots, usize::MAX) else {
            panic!("{}", request_result(head.as_bytes()));
        };
        prop_assert_eq!((parsed.framing, parsed.len), (Framing::Length(length), head.len()));
        prop_assert_eq!(parsed.path, path.as_bytes());
        prop_assert!(parsed.fields.iter().skip(2).all(|(_, found)| found == value.trim_matches([' ', '\t']).as_bytes()));
    }

    #[test]
    fn a_good_chunked_body_gives_its_payload_however_it_is_cut(
        (body, payload) in chunked(), behind in vec(any::<u8>(), 0..20), cuts in vec(any::<Index>(), 0..6),
    ) {
        let input = [body.as_slice(), &behind].concat();
        prop_assert_eq!(body_result(Framing::Chunked, &input, &cuts), (payload, Ok((body.len(), true))));
    }

    #[test]
    fn any_body_is_read_alike_however_it_is_cut(
        framing in framing(),
        input in damaged(chunked().prop_map(|(body, _)| body)),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let whole = body_result(framing, &input, &[]);
        let cut = body_result(framing, &input, &cuts);
        prop_assert_eq!(&whole, &cut);
        if let Ok((consumed, _)) = whole.1 {
            // What belongs to the message does not change when the next one follows.
            let longer = [&input[..consumed], b"GET / HTTP/1.1\r\n"].concat();
            if let (_, Ok((again, true))) = body_result(framing, &input[..consumed], &[]) && framing != Framing::UntilClose {
                prop_assert_eq!(body_result(framing, &longer, &cuts).1, Ok((again, true)));
            }
        }
    }

    #[test]
    fn a_body_of_known_length_ends_there(length in 0..500_u64, input in vec(any::<u8>(), 0..600)) {
        let (payload, result) = body_result(Framing::Length(length), &input, &[]);
        let expected = input.len().min(length as usize);
        prop_assert_eq!(payload.as_slice(), &input[..expected]);
        prop_assert_eq!(result, Ok((expected, input.len() >= length as usize)));
    }
}
