//! ClientHellos: what is refused by name, what is read, however it is cut, and that rustls reads the same.
//!
//! Real hellos are made by rustls's client, post-quantum keys included, and read by its acceptor as well. Hand-made
//! ones stand beside them for what no client of today sends.

use std::io::Cursor;
use std::sync::Arc;

use evenkeel_model::limits;
use evenkeel_wire::client_hello::{Parsed, parse};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::prop_assert_eq;
use proptest::sample::{Index, select};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What both readers say of a hello: the name, and the protocols.
type Said = (Option<String>, Vec<Vec<u8>>);

fn block(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("test block").to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &block(body)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &block(&[&[0][..], &block(name)].concat()))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let length = |protocol: &[u8]| u8::try_from(protocol.len()).expect("test protocol");
    let list: Vec<u8> = protocols.iter().flat_map(|protocol| [&[length(protocol)], *protocol].concat()).collect();
    extension(16, &block(&list))
}

/// What is behind the handshake's head, up to the extensions.
fn front() -> Vec<u8> {
    [&[3, 3][..], &[7; 32], &[0], &block(&[0x13, 0x01]), &[1, 0]].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("test body").to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

/// `message` in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|chunk| [&[22, 3, 1][..], &block(chunk)].concat()).collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&handshake(1, &[front(), block(&extensions.concat())].concat()), 1 << 14)
}

fn read(input: &[u8]) -> Option<Said> {
    match parse(input) {
        Parsed::Whole(hello) => {
            Some((hello.name.as_deref().map(str::to_owned), hello.alpn().map(<[u8]>::to_vec).collect()))
        }
        Parsed::Partial | Parsed::Refused(_) => None,
    }
}

/// The outcome of all prefixes is `Partial` or that of the whole, and never `Partial` again.
#[track_caller]
fn assert_same_for_every_cut(input: &[u8]) {
    let whole = parse(input);
    let mut decided = false;
    // Long ones are dull in the middle.
    for cut in (0..input.len()).step_by(if input.len() > 4096 { 97 } else { 1 }) {
        let part = parse(&input[..cut]);
        if part == Parsed::Partial {
            assert!(!decided, "undecided again after {cut} bytes");
            continue;
        }
        decided = true;
        assert_eq!(part, whole, "after {cut} bytes");
    }
}

/// Made by a real client. `size`: of its records.
fn real(name: &str, protocols: &[&[u8]], with_name: bool, post_quantum: bool, size: Option<usize>) -> Vec<u8> {
    let mut provider = default_provider();
    provider.kx_groups = if post_quantum { vec![kx_group::X25519MLKEM768] } else { vec![kx_group::X25519] };
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let mut config =
        config.expect("its own versions").with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_sni = with_name;
    config.max_fragment_size = size;
    let name = ServerName::try_from(name.to_owned()).expect("test name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut out = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut out).expect("a vector takes everything");
    }
    out
}

/// What rustls's server reads; `None`: it refuses, or wants more.
fn by_rustls(input: &[u8]) -> Option<Said> {
    let mut acceptor = Acceptor::default();
    let mut input = Cursor::new(input);
    while acceptor.read_tls(&mut input).ok()? > 0 {
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            return Some((name, hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect()).unwrap_or_default()));
        }
    }
    None
}

#[test]
fn the_hellos_of_a_real_client_are_read_as_its_server_reads_them() {
    for name in ["a.example", "UPPER.Example", "192.0.2.7", "2001:db8::7"] {
        for protocols in [&[][..], &[&b"h2"[..], b"http/1.1"]] {
            for (with_name, post_quantum, size) in [
                (true, false, None),
                (false, false, None),
                (true, true, None),
                (true, true, Some(64)),
                (true, false, Some(33)),
            ] {
                let input = real(name, protocols, with_name, post_quantum, size);
                assert_eq!(post_quantum, input.len() > 1200, "the post-quantum key is there or not");
                let named = with_name && name.contains("xample");
                let expected: Said = (
                    named.then(|| name.to_ascii_lowercase()),
                    protocols.iter().map(|protocol| protocol.to_vec()).collect(),
                );
                assert_eq!(read(&input), Some(expected.clone()), "{name} {size:?}");
                assert_eq!(by_rustls(&input), Some(expected), "{name} {size:?}");
                assert_same_for_every_cut(&input);
                assert_eq!(parse(&input[..input.len() - 1]), Parsed::Partial);
            }
        }
    }
}

#[test]
fn a_hello_in_records_of_any_size_is_the_same_hello() {
    let message = handshake(1, &[front(), block(&[sni(b"a.example"), alpn(&[b"h2"])].concat())].concat());
    for size in 1..=message.len() {
        // What comes behind it is the connection's own: early data, or the next message.
        let input = [&records(&message, size)[..], &[23, 3, 3, 0, 1, 0]].concat();
        assert_eq!(read(&input), Some((Some("a.example".to_owned()), vec![b"h2".to_vec()])), "{size}");
        assert_same_for_every_cut(&input);
    }
}

#[test]
fn every_odd_hello_is_read_in_one_way() {
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    let bare = records(&handshake(1, &front()), 1 << 14);
    type Row<'a> = (Vec<u8>, Option<&'a str>, &'a [&'a [u8]]);
    let table: Vec<Row<'_>> = vec![
        (bare, None, &[]),
        (hello(&[]), None, &[]),
        (hello(&[extension(0x0a0a, &[]), sni(b"a.example"), extension(41, &[0; 40])]), Some("a.example"), &[]),
        (hello(&[sni(b"A_b-9.eXample.")]), Some("a_b-9.example"), &[]),
        (hello(&[sni(b"localhost")]), Some("localhost"), &[]),
        (hello(&[sni(b"xn--bcher-kva.example")]), Some("xn--bcher-kva.example"), &[]),
        (hello(&[sni(long.as_bytes())]), Some(&long), &[]),
        (hello(&[sni(b"192.0.2.7"), alpn(&[b"h2"])]), None, &[b"h2"]),
        (hello(&[sni(b"2001:db8::7")]), None, &[]),
        (hello(&[alpn(&[b"acme-tls/1"])]), None, &[b"acme-tls/1"]),
        (hello(&[alpn(&[&[0xff; 255], b"\0", b"h2"])]), None, &[&[0xff; 255], b"\0", b"h2"]),
        // Of a record only the first byte of its version means anything.
        ([&[22, 3, 0][..], &hello(&[])[3..]].concat(), None, &[]),
        ([&[22, 3, 0xff][..], &hello(&[])[3..]].concat(), None, &[]),
    ];
    for (input, name, protocols) in table {
        let expected = (name.map(str::to_owned), protocols.iter().map(|protocol| protocol.to_vec()).collect());
        assert_eq!(read(&input), Some(expected), "{}", input.escape_ascii());
        assert_same_for_every_cut(&input);
    }
}

#[test]
fn everything_else_is_refused_by_name() {
    const RECORD: &str = "another TLS record instead of a ClientHello (RFC 8446 5.1)";
    const ALERT: &str = "a TLS alert instead of a ClientHello (RFC 8446 6)";
    const TEXT: &str = "not TLS: begins with plain text, such as http";
    const SSL2: &str = "not TLS: begins like a hello of SSL 2.0, or with random bytes (RFC 6176)";
    const NO_RECORD: &str = "not TLS: no record begins like this (RFC 8446 5.1)";
    const VERSION: &str = "not TLS: a record of an unknown version (RFC 8446 5.1)";
    const EMPTY: &str = "ClientHello with an empty record (RFC 8446 5.1)";
    const LONG_RECORD: &str = "TLS record longer than 16384 bytes (RFC 8446 5.1)";
    const MESSAGE: &str = "another handshake message instead of a ClientHello (RFC 8446 4)";
    const LONG: &str = "ClientHello longer than 65536 bytes";
    const RECORDS: &str = "ClientHello in more than 1024 records";
    const LENGTHS: &str = "ClientHello whose lengths do not fit (RFC 8446 4.1.2)";
    const TWICE: &str = "ClientHello with an extension twice (RFC 8446 4.2)";
    const ONE_NAME: &str = "ClientHello without exactly one host name in its server name (RFC 6066 3)";
    const NO_NAME: &str = "ClientHello with a server name that is none in DNS (RFC 6066 3)";
    const PROTOCOLS: &str = "ClientHello with a broken list of protocols (RFC 7301 3.1)";
    assert_eq!((limits::CLIENT_HELLO.value, limits::CLIENT_HELLO_RECORDS.value), (65_536, 1024), "the texts say so");

    let of = |body: Vec<u8>| records(&handshake(1, &body), 1 << 14);
    let front_with = |session: &[u8], suites: &[u8], compressions: &[u8]| {
        of([&[3, 3][..], &[7; 32], session, suites, compressions].concat())
    };
    let in_pieces = |input: Vec<u8>, kind: u8| {
        let mut input = records(&input[5..], 30);
        input[35] = kind;
        input
    };
    let host = |name: &[u8]| [&[0][..], &block(name)].concat();
    let padding = extension(21, &[0; 65_535]);
    let bytes = |count| {
        let message = handshake(1, &[front(), block(&extension(21, &vec![0; count]))].concat());
        (message.len(), records(&message, 1))
    };
    let ((most, at_most), (too_many, many)) = (bytes(973), bytes(974));
    assert_eq!((most, too_many), (1024, 1025));
    assert!(read(&at_most).is_some(), "1024 records are not too many");
    let table: Vec<(Vec<u8>, &str)> = vec![
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), TEXT),
        (b"\r\n".into(), NO_RECORD),
        (b"\0".into(), NO_RECORD),
        (b"\x80\x2e\x01\x03\x01".into(), SSL2),
        (b"\x15\x03\x01\0\x02\x02\x28".into(), ALERT),
        (b"\x17\x03\x03\0\x01\0".into(), RECORD),
        (b"\x14\x03\x03\0\x01\x01".into(), RECORD),
        (b"\x16\x02".into(), VERSION),
        (b"\x16\xfe\xfd".into(), VERSION),
        (b"\x16\x03\x01\0\0".into(), EMPTY),
        (b"\x16\x03\x01\x40\x01".into(), LONG_RECORD),
        (b"\x16\x03\x01\0\x05\x02".into(), MESSAGE),
        (b"\x16\x03\x01\0\x05\x00".into(), MESSAGE),
        (b"\x16\x03\x01\0\x05\x01\x00\xff\xfd".into(), LONG),
        (b"\x16\x03\x01\0\x05\x01\xff\xff\xff".into(), LONG),
        (in_pieces(hello(&[]), 21), ALERT),
        (in_pieces(hello(&[]), 23), RECORD),
        ([&records(&handshake(1, &[0; 100]), 50)[..55], &[22, 3, 1, 0, 0]].concat(), EMPTY),
        (many, RECORDS),
        // Its records' own bytes count as well.
        (records(&handshake(1, &[0; 65_500]), 700), LONG),
        (of([front(), block(&padding[..65_000])].concat()), LENGTHS),
        (of(vec![]), LENGTHS),
        (of(front()[..20].into()), LENGTHS),
        (of([&front()[..], &[0]].concat()), LENGTHS),
        (of([&front()[..], &[0, 1]].concat()), LENGTHS),
        (of([&front()[..], &[0, 0, 0]].concat()), LENGTHS),
        (of([front(), block(&[0, 0, 0])].concat()), LENGTHS),
        (of([front(), block(&[0, 21, 0, 1])].concat()), LENGTHS),
        (front_with(&[&[33][..], &[0; 33]].concat(), &block(&[0x13, 1]), &[1, 0]), LENGTHS),
        (front_with(&[0], &block(&[]), &[1, 0]), LENGTHS),
        (front_with(&[0], &block(&[0x13]), &[1, 0]), LENGTHS),
        (front_with(&[0], &block(&[0x13, 1]), &[0]), LENGTHS),
        (hello(&[sni(b"a.example"), extension(43, &[]), sni(b"b.example")]), TWICE),
        (hello(&[extension(0x0a0a, &[]), extension(0x0a0a, &[1])]), TWICE),
        (hello(&[extension(0, &[])]), ONE_NAME),
        (hello(&[extension(0, &block(&[]))]), ONE_NAME),
        (hello(&[extension(0, &block(&[host(b"a"), host(b"b")].concat()))]), ONE_NAME),
        (hello(&[extension(0, &block(&[1, 0, 1, b'a']))]), ONE_NAME),
        (hello(&[extension(0, &block(&[0, 0, 2, b'a']))]), ONE_NAME),
        (hello(&[extension(0, &[&block(&host(b"a"))[..], &[0]].concat())]), ONE_NAME),
        (hello(&[sni(b"")]), NO_NAME),
        (hello(&[sni(b".")]), NO_NAME),
        (hello(&[sni(b"a..b")]), NO_NAME),
        (hello(&[sni(b".a")]), NO_NAME),
        (hello(&[sni(b"a.example..")]), NO_NAME),
        (hello(&[sni(b"a.example\0.evil")]), NO_NAME),
        (hello(&[sni(b"a example")]), NO_NAME),
        (hello(&[sni(b"*.example")]), NO_NAME),
        (hello(&[sni(b"a.example:443")]), NO_NAME),
        (hello(&[sni(b"[2001:db8::7]")]), NO_NAME),
        (hello(&[sni("bücher.example".as_bytes())]), NO_NAME),
        (hello(&[sni(b"\xff")]), NO_NAME),
        (hello(&[sni("a".repeat(64).as_bytes())]), NO_NAME),
        (hello(&[sni(format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(62)).as_bytes())]), NO_NAME),
        (hello(&[extension(16, &[])]), PROTOCOLS),
        (hello(&[extension(16, &block(&[]))]), PROTOCOLS),
        (hello(&[alpn(&[b"h2", b""])]), PROTOCOLS),
        (hello(&[extension(16, &block(&[3, b'h', b'2']))]), PROTOCOLS),
        (hello(&[extension(16, &[&block(&[1, b'a'])[..], &[0]].concat())]), PROTOCOLS),
    ];
    for (input, expected) in table {
        let shown = input[..input.len().min(200)].escape_ascii();
        assert_eq!(parse(&input), Parsed::Refused(expected), "{shown}");
        assert_same_for_every_cut(&input);
        assert_eq!(by_rustls(&input).filter(|_| !is_ours_alone(expected)), None, "{expected}: {shown}");
    }
}

/// What rustls takes and we refuse: a name that is none is to it as if none was asked for, and it has no bound of ours.
fn is_ours_alone(fault: &str) -> bool {
    ["server name", "twice", "records", "longer"].iter().any(|word| fault.contains(word))
}

fn near_hello() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec!["a.example", "A", "192.0.2.7", "::1", "a.", "a..b", "é", "a_b", "1.2", "-a", ""]);
    let names = name.prop_map(|name| sni(name.as_bytes()));
    let protocols = vec(select(vec![&b"h2"[..], b"http/1.1", b"x", b""]), 0..3).prop_map(|protocols| alpn(&protocols));
    // Supported versions, groups, signatures and a key, without which rustls looks no further.
    let needed = Just(
        [
            extension(43, &[2, 3, 4]),
            extension(10, &block(&[0, 29])),
            extension(13, &block(&[4, 3, 8, 4])),
            extension(51, &block(&[&[0, 29][..], &block(&[9; 32])].concat())),
        ]
        .concat(),
    );
    let other = (any::<u16>(), vec(any::<u8>(), 0..5)).prop_map(|(kind, body)| extension(kind, &body));
    let one = prop_oneof![3 => names, 2 => protocols, 1 => other];
    (vec(one, 0..4), needed, any::<Option<Index>>(), 1..200_usize).prop_map(|(extensions, needed, damage, size)| {
        let mut message = handshake(1, &[front(), block(&[extensions.concat(), needed].concat())].concat());
        if let Some(damage) = damage {
            let at = damage.index(message.len());
            message[at] ^= 1;
        }
        records(&message, size)
    })
}

proptest! {
    #[test]
    fn cuts_change_nothing_and_rustls_reads_the_same_name(
        hello in near_hello(), damage in vec((any::<Index>(), any::<u8>()), 0..2),
    ) {
        let mut input = hello;
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        assert_same_for_every_cut(&input);
        match (parse(&input), read(&input), by_rustls(&input)) {
            (_, Some(ours), Some(theirs)) => prop_assert_eq!(ours, theirs),
            (Parsed::Refused(fault), _, Some(_)) => assert!(is_ours_alone(fault), "only rustls takes it: {}", fault),
            // It reads all of the hello, and we only what says where to.
            (_, _, None) | (Parsed::Whole(_), None, _) => {}
            (Parsed::Partial, _, Some(_)) => panic!("rustls knows already"),
        }
    }

    #[test]
    fn noise_never_panics(noise in vec(any::<u8>(), 0..300), size in 1..40_usize) {
        assert_same_for_every_cut(&noise);
        assert_same_for_every_cut(&records(&handshake(1, &noise), size));
        assert_same_for_every_cut(&hello(&[noise]));
    }
}
