//! PROXY headers: what is refused by name, what is read and how, and that what we write is read by others alike.
//!
//! Every row is read in all its prefixes, since whoever sends a header chooses the packets too. The crate `ppp` is the
//! second reader; where it and we differ stands in `proxy/second.rs` with the reason.

#[path = "proxy/second.rs"]
mod second;

use std::net::SocketAddr;

use evenkeel_wire::proxy::{Header, Parsed, Sent, parse, write_v1, write_v2};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};
use proptest::{prop_assert, prop_assert_eq};
use second::{DIFFERENCES, assert_agrees, signed};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("test address")
}

/// A header of version 2 whose length is right.
fn v2(command: u8, kind: u8, block: &[&[u8]]) -> Vec<u8> {
    let block = block.concat();
    let length = u16::try_from(block.len()).expect("test block").to_be_bytes();
    [SIGNATURE, &[command, kind], &length, &block].concat()
}

fn value(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).expect("test value").to_be_bytes(), value].concat()
}

/// The outcome of all prefixes is `Partial` or that of the whole, and never `Partial` again.
#[track_caller]
fn assert_same_for_every_cut(input: &[u8]) {
    let whole = parse(input);
    let mut decided = false;
    for cut in 0..input.len() {
        let part = parse(&input[..cut]);
        if part == Parsed::Partial {
            assert!(!decided, "undecided again after {cut} bytes: {}", input.escape_ascii());
            continue;
        }
        decided = true;
        assert_eq!(part, whole, "after {cut} bytes: {}", input.escape_ascii());
    }
    if let Parsed::Whole(_, used) = whole {
        assert_eq!(parse(&input[..used - 1]), Parsed::Partial, "{}", input.escape_ascii());
    }
}

#[test]
fn every_broken_header_is_refused_by_name() {
    const NEITHER: &str = "no PROXY header: neither signature begins like this (PROXY protocol, 2)";
    const LONG_LINE: &str = "PROXY line longer than 107 bytes (PROXY protocol, 2.1)";
    const NO_CRLF: &str = "PROXY line that does not end in CRLF (PROXY protocol, 2.1)";
    const PROTOCOL: &str = "PROXY line with an unknown protocol (PROXY protocol, 2.1)";
    const ADDRESS: &str = "PROXY line with a bad address (PROXY protocol, 2.1)";
    const PORT: &str = "PROXY line with a bad port (PROXY protocol, 2.1)";
    const WORDS: &str = "PROXY line with more words than it has (PROXY protocol, 2.1)";
    const COMMAND: &str = "PROXY header of an unknown version or command (PROXY protocol, 2.2)";
    const FAMILY: &str = "PROXY header of an unknown address family or protocol (PROXY protocol, 2.2)";
    const SHORT: &str = "PROXY header too short for its addresses (PROXY protocol, 2.2)";
    const LONG: &str = "PROXY header longer than 4096 bytes";
    const CUT: &str = "PROXY header with a value that is cut short (PROXY protocol, 2.2)";
    const TWICE: &str = "PROXY header that says one thing twice (PROXY protocol, 2.2)";
    const UNIQUE_ID: &str = "PROXY header with a unique id longer than 128 bytes (PROXY protocol, 2.2.5)";
    const SUM_LENGTH: &str = "PROXY header with a checksum that is not 4 bytes long (PROXY protocol, 2.2.3)";
    const SUM: &str = "PROXY header with a wrong checksum (PROXY protocol, 2.2.3)";

    let line = |text: &str| format!("{text}\r\n").into_bytes();
    let mut wrong_sum = signed(&v2(0x21, 0x11, &[&V4, &value(4, b"padding"), &value(3, &[0; 4])]));
    wrong_sum[20] ^= 1;
    let table: Vec<(Vec<u8>, &str)> = vec![
        (b"GET / HTTP/1.1\r\n".into(), NEITHER),
        (b"\x16\x03\x01".into(), NEITHER),
        (b"\0".into(), NEITHER),
        (b"proxy TCP4".into(), NEITHER),
        (b"POST / HTTP/1.1".into(), NEITHER),
        (b"PROXY\r\n".into(), NEITHER),
        (b"PROXY\tTCP4".into(), NEITHER),
        (b"\r\nGET".into(), NEITHER),
        (b"\r\n\r\n\0\r\nQUIX".into(), NEITHER),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n".into(), NO_CRLF),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\r\n".into(), NO_CRLF),
        (b"PROXY TCP4 192.0.2.7\r198.51.100.1 4711 443\r\n".into(), NO_CRLF),
        (b"PROXY UNKNOWN a\nb\r\n".into(), NO_CRLF),
        (format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).into(), LONG_LINE),
        ("PROXY TCP4 ".repeat(20).into(), LONG_LINE),
        (line("PROXY "), PROTOCOL),
        (line("PROXY  TCP4 192.0.2.7 198.51.100.1 4711 443"), PROTOCOL),
        (line("PROXY tcp4 192.0.2.7 198.51.100.1 4711 443"), PROTOCOL),
        (line("PROXY TCP 192.0.2.7 198.51.100.1 4711 443"), PROTOCOL),
        (line("PROXY UDP4 192.0.2.7 198.51.100.1 4711 443"), PROTOCOL),
        (line("PROXY UNKNOWNS"), PROTOCOL),
        (line("PROXY UNKNOWN\t"), PROTOCOL),
        (line("PROXY TCP4"), ADDRESS),
        (line("PROXY TCP4 192.0.2.7"), ADDRESS),
        (line("PROXY TCP4  192.0.2.7 198.51.100.1 4711 443"), ADDRESS),
        (line("PROXY TCP4 192.0.2.07 198.51.100.1 4711 443"), ADDRESS),
        (line("PROXY TCP4 192.0.2 198.51.100.1 4711 443"), ADDRESS),
        (line("PROXY TCP4 192.0.2.256 198.51.100.1 4711 443"), ADDRESS),
        (line("PROXY TCP4 0xc0.0.2.7 198.51.100.1 4711 443"), ADDRESS),
        (line("PROXY TCP4 3221225991 198.51.100.1 4711 443"), ADDRESS),
        (line("PROXY TCP4 2001:db8::7 2001:db8::1 4711 443"), ADDRESS),
        (line("PROXY TCP4 192.0.2.7 2001:db8::1 4711 443"), ADDRESS),
        (line("PROXY TCP6 192.0.2.7 198.51.100.1 4711 443"), ADDRESS),
        (line("PROXY TCP6 [2001:db8::7] 2001:db8::1 4711 443"), ADDRESS),
        (line("PROXY TCP6 fe80::7%eth0 2001:db8::1 4711 443"), ADDRESS),
        (line("PROXY TCP6 2001:db8::7::1 2001:db8::1 4711 443"), ADDRESS),
        (line("PROXY TCP6 2001:db8::00007 2001:db8::1 4711 443"), ADDRESS),
        (b"PROXY TCP4 192.0.2.7\xff 198.51.100.1 4711 443\r\n".into(), ADDRESS),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 04711 443"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 00 443"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 +4711 443"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 -1 443"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 65536 443"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 "), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 0x1bb"), PORT),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 "), WORDS),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 443"), WORDS),
        (v2(0x01, 0x11, &[&V4]), COMMAND),
        (v2(0x11, 0x11, &[&V4]), COMMAND),
        (v2(0x31, 0x11, &[&V4]), COMMAND),
        (v2(0x22, 0x11, &[&V4]), COMMAND),
        (v2(0x2f, 0x11, &[&V4]), COMMAND),
        (v2(0x21, 0x01, &[]), FAMILY),
        (v2(0x21, 0x10, &[&V4]), FAMILY),
        (v2(0x21, 0x13, &[&V4]), FAMILY),
        (v2(0x21, 0x33, &[&[0; 216]]), FAMILY),
        (v2(0x21, 0x41, &[&[0; 216]]), FAMILY),
        (v2(0x21, 0xff, &[&[0; 216]]), FAMILY),
        (v2(0x21, 0x11, &[]), SHORT),
        (v2(0x21, 0x11, &[&V4[..11]]), SHORT),
        (v2(0x21, 0x21, &[&[0; 35]]), SHORT),
        (v2(0x21, 0x31, &[&[0; 215]]), SHORT),
        ([SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(), LONG),
        ([SIGNATURE, &[0x20, 0x00, 0x0f, 0xf1]].concat(), LONG),
        (v2(0x21, 0x11, &[&V4, &[4]]), CUT),
        (v2(0x21, 0x11, &[&V4, &[4, 0]]), CUT),
        (v2(0x21, 0x11, &[&V4, &[4, 0, 1]]), CUT),
        (v2(0x21, 0x11, &[&V4, &[4, 0xff, 0xff, 0]]), CUT),
        (v2(0x21, 0x11, &[&V4, &value(4, b""), &[4, 0]]), CUT),
        (v2(0x21, 0x31, &[&[0; 216], &[0]]), CUT),
        (v2(0x21, 0x11, &[&V4, &value(1, b"h2"), &value(1, b"h2")]), TWICE),
        (v2(0x21, 0x11, &[&V4, &value(2, b"a"), &value(4, b""), &value(2, b"b")]), TWICE),
        (v2(0x21, 0x11, &[&V4, &value(5, b"a"), &value(5, b"b")]), TWICE),
        (v2(0x21, 0x11, &[&V4, &value(3, &[0; 4]), &value(3, &[0; 4])]), TWICE),
        (v2(0x21, 0x11, &[&V4, &value(5, &[0; 129])]), UNIQUE_ID),
        (v2(0x21, 0x11, &[&V4, &value(3, &[0; 3])]), SUM_LENGTH),
        (v2(0x21, 0x11, &[&V4, &value(3, &[0; 5])]), SUM_LENGTH),
        (v2(0x21, 0x11, &[&V4, &value(3, &[0; 4])]), SUM),
        (wrong_sum, SUM),
    ];
    for (input, expected) in table {
        assert_eq!(parse(&input), Parsed::Refused(expected), "{}", input.escape_ascii());
        assert_same_for_every_cut(&input);
        assert_agrees(&input);
    }
}

#[test]
fn of_the_families_and_protocols_only_the_seven_of_the_specification_are_taken() {
    let taken: Vec<u8> =
        (0..=255).filter(|&kind| matches!(parse(&v2(0x21, kind, &[&[0; 216]])), Parsed::Whole(..))).collect();
    // Behind the shorter addresses the zeros are values of a type nobody knows.
    assert_eq!(taken, [0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32]);
}

#[test]
fn every_good_header_is_read_in_one_way() {
    let pair = Some((address("192.0.2.7:4711"), address("198.51.100.1:443")));
    let six = Some((address("[2001:db8::7]:4711"), address("[2001:db8::1]:443")));
    let line = |text: &str| format!("{text}\r\n").into_bytes();
    let client = |client| Header { client, ..Header::default() };
    let mapped = |last: u8| [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, last]].concat();
    let v6 = [&mapped(7)[..], &mapped(8), &[0x12, 0x67, 0x01, 0xbb]].concat();
    let all = [
        value(1, b"h2"),
        value(2, b"a.example"),
        value(4, b"anything"),
        value(5, &[7; 128]),
        value(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3']),
        value(0x30, b"netns"),
        value(0xe0, &[0; 300]),
    ]
    .concat();
    let said = Header { authority: Some(b"a.example"), alpn: Some(b"h2"), unique_id: Some(&[7; 128]), ..client(pair) };
    let longest = v2(0x21, 0x11, &[&V4, &value(4, &[0; 4096 - 16 - 12 - 3])]);
    let table: Vec<(Vec<u8>, Header<'_>)> = vec![
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443"), client(pair)),
        (line("PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 4711 443"), client(six)),
        (line("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 4711 443"), client(pair)),
        (
            line("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535"),
            client(Some((address("0.0.0.0:0"), address("255.255.255.255:65535")))),
        ),
        (line("PROXY UNKNOWN"), client(None)),
        (line("PROXY UNKNOWN "), client(None)),
        (line("PROXY UNKNOWN 192.0.2.7 198.51.100.1 4711 443"), client(None)),
        (line(&format!("PROXY UNKNOWN {0} {0} 65535 65535", ["ffff"; 8].join(":"))), client(None)),
        (line("PROXY UNKNOWN what ever there is and more of the same"), client(None)),
        (v2(0x20, 0x00, &[]), client(None)),
        (v2(0x20, 0x11, &[&V4]), client(None)),
        (v2(0x20, 0xff, &[b"discarded"]), client(None)),
        (v2(0x21, 0x00, &[]), client(None)),
        (v2(0x21, 0x00, &[&value(2, b"a")]), client(None)),
        (v2(0x21, 0x00, &[b"no value"]), client(None)),
        (v2(0x21, 0x31, &[&[1; 216]]), client(None)),
        (v2(0x21, 0x32, &[&[1; 216], &value(1, b"h3")]), Header { alpn: Some(b"h3"), datagram: true, ..client(None) }),
        (v2(0x21, 0x11, &[&V4]), client(pair)),
        (v2(0x21, 0x12, &[&V4]), Header { datagram: true, ..client(pair) }),
        (v2(0x21, 0x21, &[&v6]), client(Some((address("192.0.2.7:4711"), address("192.0.2.8:443"))))),
        (v2(0x21, 0x11, &[&V4, &all]), said),
        (signed(&v2(0x21, 0x11, &[&V4, &value(3, &[0; 4])])), client(pair)),
        (signed(&v2(0x21, 0x11, &[&V4, &value(3, &[9; 4]), &all])), said),
        (longest, client(pair)),
    ];
    for (header, expected) in table {
        // What follows belongs to the connection, whatever it is.
        for behind in [&b""[..], b"\r\n", b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", &header, b"\xff"] {
            let input = [&header, behind].concat();
            assert_eq!(parse(&input), Parsed::Whole(expected, header.len()), "{}", input.escape_ascii());
            assert_same_for_every_cut(&input);
            assert_agrees(&input);
        }
    }
}

#[test]
fn where_the_second_reader_differs_it_does_so_for_a_known_reason() {
    for difference in DIFFERENCES {
        let example = (difference.example)();
        let (ours, theirs) = second::both(&example);
        assert_ne!(ours.is_some(), theirs.is_some(), "no difference any more: {}", difference.why);
    }
}

#[test]
fn a_header_has_the_bytes_of_the_specification() {
    let (client, local) = (address("192.0.2.7:4711"), address("198.51.100.1:443"));
    let mut out = b"kept".to_vec();
    write_v1(&mut out, client, local);
    assert_eq!(out.escape_ascii().to_string(), r"keptPROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n");
    let mut out = Vec::new();
    write_v1(&mut out, address("[::ffff:192.0.2.7]:4711"), address("[2001:db8::1]:443"));
    assert_eq!(out.escape_ascii().to_string(), r"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4711 443\r\n");

    let bare = Sent { client, local, datagram: false, authority: None, alpn: None, unique_id: None };
    let mut out = b"kept".to_vec();
    write_v2(&mut out, &bare);
    assert_eq!(out, [b"kept", &v2(0x21, 0x11, &[&V4])[..]].concat());
    let mut out = Vec::new();
    let long = [b'x'; 256];
    let full = Sent { authority: Some(b"a.example"), alpn: Some(b"h2"), unique_id: Some(b"id"), ..bare };
    write_v2(&mut out, &Sent { datagram: true, ..full });
    let values = [value(1, b"h2"), value(2, b"a.example"), value(5, b"id")].concat();
    assert_eq!(out, v2(0x21, 0x12, &[&V4, &values]));
    let mut out = Vec::new();
    write_v2(&mut out, &Sent { authority: Some(&long), alpn: Some(&long), unique_id: Some(&long[..129]), ..bare });
    assert_eq!(out, v2(0x21, 0x11, &[&V4]), "what nobody would take is left out");
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let v6 = any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    let mapped =
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| (std::net::Ipv4Addr::from(ip).to_ipv6_mapped(), port).into());
    let sparse = any::<(u8, u16)>().prop_map(|(last, port)| {
        let mut ip = [0; 16];
        (ip[1], ip[15]) = (last, last);
        SocketAddr::from((ip, port))
    });
    prop_oneof![v4, v6, mapped, sparse]
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Lines from words that a reader may trip over.
fn near_v1() -> impl Strategy<Value = Vec<u8>> {
    let protocol = select(vec!["TCP4", "TCP6", "UNKNOWN", "TCP", "UDP4", ""]);
    let word = select(vec![
        "192.0.2.7",
        "198.51.100.1",
        "2001:db8::7",
        "::",
        "::ffff:192.0.2.7",
        "192.0.2.07",
        "0",
        "443",
        "65535",
        "65536",
        "+1",
        "01",
        "",
        "\n",
        "\r",
        "é",
    ]);
    let end = select(vec!["\r\n", "\n", "\r", " \r\n", ""]);
    (protocol, vec(word, 0..7), end)
        .prop_map(|(protocol, words, end)| format!("PROXY {protocol} {}{end}", words.join(" ")).into_bytes())
}

fn near_v2() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![8 => Just(0x21), 2 => Just(0x20), 1 => any::<u8>()];
    let kind = prop_oneof![8 => select(vec![0x00, 0x11, 0x12, 0x21, 0x22, 0x31]), 1 => any::<u8>()];
    let kinds = prop_oneof![8 => select(vec![1, 2, 3, 4, 5, 0x20]), 1 => any::<u8>()];
    let lengths = select(vec![0_usize, 1, 4, 5, 128, 129]);
    let values = vec((kinds, lengths).prop_map(|(kind, length)| value(kind, &vec![kind; length])), 0..4);
    (command, kind, values, any::<bool>()).prop_map(|(command, kind, values, sign)| {
        let addresses = match kind >> 4 {
            1 => 12,
            2 => 36,
            3 => 216,
            _ => 0,
        };
        let header = v2(command, kind, &[&vec![7; addresses], &values.concat()]);
        if sign { signed(&header) } else { header }
    })
}

proptest! {
    #[test]
    fn what_we_write_we_and_the_second_reader_read_alike(
        client in any_address(), local in any_address(), datagram: bool,
        authority in proptest::option::of(vec(any::<u8>(), 0..=255)),
        alpn in proptest::option::of(vec(any::<u8>(), 0..=255)),
        unique_id in proptest::option::of(vec(any::<u8>(), 0..=128)),
        behind in vec(any::<u8>(), 0..20),
    ) {
        let both = Some((canonical(client), canonical(local)));
        let mut line = Vec::new();
        write_v1(&mut line, client, local);
        let length = line.len();
        prop_assert!(length <= 107);
        line.extend_from_slice(&behind);
        prop_assert_eq!(parse(&line), Parsed::Whole(Header { client: both, ..Header::default() }, length));
        prop_assert_eq!(second::read(&line).expect("theirs").client, both);

        let (authority, alpn, unique_id) = (authority.as_deref(), alpn.as_deref(), unique_id.as_deref());
        let mut header = Vec::new();
        write_v2(&mut header, &Sent { client, local, datagram, authority, alpn, unique_id });
        let length = header.len();
        header.extend_from_slice(&behind);
        let expected = Header { client: both, datagram, authority, alpn, unique_id };
        prop_assert_eq!(parse(&header), Parsed::Whole(expected, length));
        let theirs = second::read(&header).expect("theirs");
        prop_assert_eq!((theirs.client, theirs.used), (both, length));
        prop_assert_eq!(theirs.value(2), authority);
        prop_assert_eq!(theirs.value(1), alpn);
        prop_assert_eq!(theirs.value(5), unique_id);
    }

    #[test]
    fn cuts_change_nothing_and_both_readers_agree(
        header in prop_oneof![near_v1(), near_v2()], damage in vec((any::<Index>(), any::<u8>()), 0..3),
        behind in vec(any::<u8>(), 0..4),
    ) {
        let mut input = [header, behind].concat();
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        assert_same_for_every_cut(&input);
        assert_agrees(&input);
    }
}
