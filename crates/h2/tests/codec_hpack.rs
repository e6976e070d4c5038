//! HPACK: the examples of RFC 7541, blocks that break a rule, bombs, and another implementation at the other end.
//!
//! The other implementation shares no code with ours and judges both what we write and, where it is as strict, what we
//! accept.

use evenkeel_h2::frame::{ErrorCode, Fault};
use evenkeel_h2::hpack::{Decoded, Decoder, Encoder, FieldList};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};
use proptest::{prop_assert, prop_assert_eq};

const NO_LIMIT: usize = 1 << 20;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(list: &FieldList) -> Pairs {
    list.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn owned(fields: &[(&str, &str)]) -> Pairs {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| u8::try_from(digit).expect("4 bits"))
        .collect();
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Fault> {
    let mut list = FieldList::new();
    decoder.decode(block, &mut list).map(|decoded| {
        assert_eq!(decoded, Decoded::Whole);
        pairs(&list)
    })
}

fn encode(encoder: &mut Encoder, fields: &Pairs) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value) in fields {
        encoder.field(name, value, &mut block);
    }
    block
}

/// One connection's blocks with what they mean.
type Story = (u32, &'static [(&'static str, &'static [(&'static str, &'static str)])]);

#[rustfmt::skip]
const EXAMPLES: &[Story] = &[
    // C.2.1 to C.2.4
    (4096, &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &[("custom-key", "custom-header")])]),
    (4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")])]),
    (4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")])]),
    (4096, &[("82", &[(":method", "GET")])]),
    // C.3
    (4096, &[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]),
        ("8286 84be 5808 6e6f 2d63 6163 6865",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com"), ("cache-control", "no-cache")]),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            &[(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), (":authority", "www.example.com"), ("custom-key", "custom-value")]),
    ]),
    // C.4
    (4096, &[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]),
        ("8286 84be 5886 a8eb 1064 9cbf",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com"), ("cache-control", "no-cache")]),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            &[(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), (":authority", "www.example.com"), ("custom-key", "custom-value")]),
    ]),
    // C.5
    (256, &[
        ("4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e
          1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST),
        ("4803 3330 37c1 c0bf", SECOND),
        ("88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d
          4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572
          7369 6f6e 3d31", THIRD),
    ]),
    // C.6
    (256, &[
        ("4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b
          97c8 e9ae 82ae 43d3", FIRST),
        ("4883 640e ffc1 c0bf", SECOND),
        ("88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf
          cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07", THIRD),
    ]),
];

const FIRST: &[(&str, &str)] = &[
    (":status", "302"),
    ("cache-control", "private"),
    ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
    ("location", "https://www.example.com"),
];
const SECOND: &[(&str, &str)] = &[
    (":status", "307"),
    ("cache-control", "private"),
    ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
    ("location", "https://www.example.com"),
];
const THIRD: &[(&str, &str)] = &[
    (":status", "200"),
    ("cache-control", "private"),
    ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
    ("location", "https://www.example.com"),
    ("content-encoding", "gzip"),
    ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
];

#[test]
fn examples_of_the_rfc_mean_what_it_says() {
    for (table, story) in EXAMPLES {
        let mut decoder = Decoder::new(*table, NO_LIMIT);
        for (block, fields) in *story {
            assert_eq!(decode(&mut decoder, &hex(block)), Ok(owned(fields)), "{block}");
        }
    }
}

#[test]
fn every_cut_of_an_example_is_refused_or_means_its_first_fields() {
    for (table, story) in EXAMPLES {
        for (block, fields) in story.iter().take(1) {
            let block = hex(block);
            for cut in 0..block.len() {
                let mut decoder = Decoder::new(*table, NO_LIMIT);
                match decode(&mut decoder, &block[..cut]) {
                    Ok(part) => assert_eq!(part, owned(fields)[..part.len()], "{cut} bytes"),
                    Err(fault) => assert_eq!((fault.code, fault.connection), (ErrorCode::COMPRESSION_ERROR, true)),
                }
            }
        }
    }
}

#[test]
fn each_broken_rule_ends_the_connection_with_its_own_words() {
    const NUMBER: &str = "header block with a number above 28 bits (RFC 7541 5.1)";
    const CUT: &str = "header block ends inside a field (RFC 9113 4.3)";
    const OUTSIDE: &str = "header index outside both tables (RFC 7541 2.3.3)";
    const LONG: &str = "string longer than its header block (RFC 7541 5.2)";
    const LATE: &str = "table size update behind a field (RFC 7541 4.2)";
    const ABOVE: &str = "table size update above what we allowed (RFC 7541 6.3)";
    let rows = [
        ("80", "header index 0 (RFC 7541 6.1)"),
        ("be", OUTSIDE),
        ("ff 00", OUTSIDE),
        ("7f 00 01 61", OUTSIDE),
        ("0f 80 01 01 61", OUTSIDE),
        ("ff ff ff ff ff 0f", NUMBER),
        ("ff ff ff ff ff ff ff ff ff ff 01", NUMBER),
        ("ff 80 80 80 80 00", NUMBER),
        ("ff 80 80 80", CUT),
        ("ff", CUT),
        ("40", CUT),
        ("40 01 61", CUT),
        ("40 02 61", LONG),
        ("40 01 61 05 61", LONG),
        ("40 01 61 7f ff ff ff 7f", LONG),
        ("82 20", LATE),
        ("20 82 20", LATE),
        ("3f e2 1f", ABOVE),
        ("3f ff ff ff 7f", ABOVE),
        ("00 81 ff 00", "huffman padding of more than 7 bits (RFC 7541 5.2)"),
        ("00 81 18 00", "huffman padding that is not all ones (RFC 7541 5.2)"),
        ("00 84 ff ff ff ff 00", "huffman text with an end-of-string mark (RFC 7541 5.2)"),
    ];
    for (block, detail) in rows {
        let fault = Fault::connection(ErrorCode::COMPRESSION_ERROR, detail);
        assert_eq!(decode(&mut Decoder::new(4096, NO_LIMIT), &hex(block)), Err(fault), "{block}");
    }
}

#[test]
fn a_number_may_be_longer_than_it_needs_to_be() {
    let mut block = hex("00 01 61 7f 80 80 80 00");
    block.resize(block.len() + 127, b'v');
    let value = "v".repeat(127);
    assert_eq!(decode(&mut Decoder::new(4096, NO_LIMIT), &block), Ok(owned(&[("a", &value)])));
}

#[test]
fn odd_blocks_within_the_rules_are_read() {
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        // The limit itself, and several updates at the start.
        ("3f e1 1f 82", &[(":method", "GET")]),
        ("20 3f e1 1f 82", &[(":method", "GET")]),
        ("20", &[]),
        ("40 00 00", &[("", "")]),
        ("00 80 80", &[("", "")]),
    ];
    for (block, fields) in rows {
        assert_eq!(decode(&mut Decoder::new(4096, NO_LIMIT), &hex(block)), Ok(owned(fields)), "{block}");
    }
}

/// A block that puts one entry of about the table's size into it and refers to it so often.
fn bomb(value: usize, references: usize) -> Vec<u8> {
    let mut block = hex("40 01 61 7f");
    let rest = value - 127;
    assert!((128..1 << 14).contains(&rest), "two further bytes of length");
    block.extend([(rest & 0x7f) as u8 | 0x80, (rest >> 7) as u8]);
    block.resize(block.len() + value, b'x');
    block.resize(block.len() + references, 0xbe);
    block
}

#[test]
fn a_list_over_its_limit_is_cut_but_the_table_stays_in_step() {
    let mut decoder = Decoder::new(4096, 10_000);
    let mut list = FieldList::new();
    assert_eq!(decoder.decode(&bomb(4000, 5), &mut list), Ok(Decoded::TooLarge));
    assert_eq!(list.len(), 2);
    // The entry is there for the next block, and so is one that only came when the list was over its limit.
    assert_eq!(decode(&mut decoder, &hex("be")).expect("in step")[0].1.len(), 4000);
    let mut block = bomb(4000, 3);
    block.extend(hex("40 01 62 01 63 00 01 64 01 65 82"));
    assert_eq!(decoder.decode(&block, &mut list), Ok(Decoded::TooLarge));
    assert_eq!(decode(&mut decoder, &hex("be")), Ok(owned(&[("b", "c")])));
}

#[test]
fn a_list_is_counted_as_rfc_9113_counts() {
    // `:method: GET` counts 7 + 3 + 32.
    let mut list = FieldList::new();
    assert_eq!(Decoder::new(4096, 84).decode(&hex("82 82"), &mut list), Ok(Decoded::Whole));
    assert_eq!(Decoder::new(4096, 83).decode(&hex("82 82"), &mut list), Ok(Decoded::TooLarge));
    assert_eq!(pairs(&list), owned(&[(":method", "GET")]));
    assert_eq!(Decoder::new(4096, 67).decode(&hex("00 01 61 01 62 00 01 61 00"), &mut list), Ok(Decoded::Whole));
    assert_eq!(Decoder::new(4096, 66).decode(&hex("00 01 61 01 62 00 01 61 00"), &mut list), Ok(Decoded::TooLarge));
}

#[test]
fn a_bomb_ends_the_connection_before_it_is_read_to_its_end() {
    let mut decoder = Decoder::new(4096, 32 * 1024);
    let mut list = FieldList::new();
    let fault =
        Fault::connection(ErrorCode::ENHANCE_YOUR_CALM, "header list many times over its limit (RFC 9113 10.5.1)");
    // 60 MB of header list in 20 kB.
    assert_eq!(decoder.decode(&bomb(4000, 16_000), &mut list), Err(fault));
    // The same by names, which each insert copies.
    let mut decoder = Decoder::new(4096, 32 * 1024);
    let mut block = hex("40 7f 81 1d");
    block.resize(block.len() + 127 + (0x1d << 7) + 1, b'n');
    block.push(0);
    for _ in 0..2000 {
        block.extend(hex("7e 00"));
    }
    assert_eq!(decoder.decode(&block, &mut list), Err(fault));
}

#[test]
fn secrets_are_never_indexed_and_ids_do_not_wash_the_table_out() {
    let mut encoder = Encoder::new();
    let request = |id: u32| {
        owned(&[
            (":method", "GET"),
            (":authority", "shop.example"),
            ("authorization", "Bearer abcdefgh"),
            ("cookie", "a=1"),
            ("user-agent", "curl/8.5.0"),
            ("x-request-id", &format!("{id:016x}")),
        ])
    };
    let first = encode(&mut encoder, &request(0));
    for id in 1..1000 {
        let block = encode(&mut encoder, &request(id));
        // RFC 7541 §6.2.3: 0001 and the static index, in two bytes above 15.
        let never = |number: u8| block.windows(2).filter(|two| *two == [0x1f, number - 15]).count();
        assert_eq!((never(23), never(32)), (1, 1), "authorization and cookie");
        // Host and program are references; the id is not worth one.
        assert!(block.len() < first.len() - 15, "{} of {} bytes", block.len(), first.len());
    }
    let mut decoder = Decoder::new(4096, NO_LIMIT);
    let mut encoder = Encoder::new();
    for _ in 0..5 {
        let request = request(7);
        assert_eq!(decode(&mut decoder, &encode(&mut encoder, &request)), Ok(request));
    }
    assert_eq!(encode(&mut encoder, &request(7)).last(), Some(&0xbe), "what comes again is a reference");
}

/// A hash table with one place for each value had two of a browser's fields fight for one place in every fourth
/// connection, and both were sent as literals for ever.
#[test]
fn fields_that_stay_become_references_whatever_they_are() {
    for connection in 0..200 {
        let fields: Pairs = (0..15)
            .map(|field| (format!("x-{field}").into_bytes(), format!("{connection} {field} value").into_bytes()))
            .collect();
        let mut encoder = Encoder::new();
        let blocks: Vec<Vec<u8>> = (0..4).map(|_| encode(&mut encoder, &fields)).collect();
        let references = blocks[3].iter().filter(|byte| *byte & 0x80 != 0).count();
        assert!(blocks[3].len() == 15 && references == 15, "{} bytes in connection {connection}", blocks[3].len());
    }
}

#[test]
fn size_updates_are_said_once_with_their_smallest_first() {
    let fields = owned(&[("server", "a"), ("vary", "b")]);
    let mut encoder = Encoder::new();
    encode(&mut encoder, &fields);
    encoder.set_peer_limit(0);
    encoder.set_peer_limit(100);
    let block = encode(&mut encoder, &fields);
    assert_eq!(block[..3], [0x20, 0x3f, 100 - 31]);
    assert_ne!(block[3] & 0x80, 0x80, "the entries are gone");
    assert_eq!(encode(&mut encoder, &fields)[0] & 0x80, 0x80);
    encoder.set_peer_limit(1 << 30);
    assert_eq!(encode(&mut encoder, &fields)[..3], hex("3f e1 1f"), "no more than the default");
    encoder.set_peer_limit(4096);
    assert_eq!(encode(&mut encoder, &fields).len(), 2);
}

const NAMES: &[&str] = &[
    ":method",
    ":path",
    ":status",
    ":authority",
    "accept",
    "cookie",
    "set-cookie",
    "authorization",
    "content-length",
    "date",
    "user-agent",
    "x-id",
    "x-forwarded-for",
    "grpc-status",
    "etag",
    "",
    "via",
];
const VALUES: &[&str] = &[
    "",
    "GET",
    "/",
    "200",
    "gzip, deflate",
    "a",
    "trailers",
    "0123456789012345678901234",
    "Mon, 21 Oct 2013 20:13:21 GMT",
    "text/html; charset=utf-8",
    "\u{1f980}",
    "\n\u{0}",
];

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let known = |texts: &'static [&'static str]| select(texts).prop_map(|text| text.as_bytes().to_vec());
    let name = prop_oneof![4 => known(NAMES), 1 => vec(any::<u8>(), 0..40)];
    let value = prop_oneof![4 => known(VALUES), 2 => vec(any::<u8>(), 0..60), 1 => vec(Just(b'v'), 500..3000)];
    (name, value)
}

fn blocks() -> impl Strategy<Value = Vec<(Option<u32>, Pairs)>> {
    let limit = prop_oneof![Just(None), select(&[0_u32, 50, 200, 4096, 100_000][..]).prop_map(Some)];
    vec((limit, vec(field(), 1..20)), 1..20)
}

proptest! {
    #[test]
    fn what_we_encode_another_decoder_and_ours_read_back(blocks in blocks()) {
        let (mut encoder, mut ours) = (Encoder::new(), Decoder::new(4096, usize::MAX));
        let mut other = loona_hpack::Decoder::new();
        for (limit, fields) in blocks {
            if let Some(limit) = limit {
                encoder.set_peer_limit(limit);
            }
            let block = encode(&mut encoder, &fields);
            prop_assert_eq!(other.decode(&block).map_err(|error| format!("{error:?}")), Ok(fields.clone()));
            prop_assert_eq!(decode(&mut ours, &block), Ok(fields));
        }
    }

    #[test]
    fn what_another_encoder_writes_we_read(blocks in blocks()) {
        let (mut encoder, mut decoder) = (loona_hpack::Encoder::new(), Decoder::new(4096, usize::MAX));
        for (_, fields) in blocks {
            let block = encoder.encode(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
            prop_assert_eq!(decode(&mut decoder, &block), Ok(fields));
        }
    }

    #[test]
    fn a_damaged_block_is_refused_or_means_what_another_decoder_reads(
        fields in vec(field(), 0..10),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        tail in vec(any::<u8>(), 0..8),
    ) {
        let mut block = encode(&mut Encoder::new(), &fields);
        block.extend(tail);
        for (at, byte) in damage {
            if !block.is_empty() {
                let at = at.index(block.len());
                block[at] = byte;
            }
        }
        if let Ok(ours) = decode(&mut Decoder::new(4096, usize::MAX), &block) {
            match loona_hpack::Decoder::new().decode(&block) {
                Ok(theirs) => prop_assert_eq!(theirs, ours),
                // It wants a field behind every size update, which no RFC asks for.
                Err(error) => prop_assert_eq!(format!("{error:?}"), "SizeUpdateAtEnd"),
            }
        }
    }

    #[test]
    fn random_blocks_do_no_harm(blocks in vec(vec(any::<u8>(), 0..200), 1..5), limit in 0_usize..500) {
        let (mut decoder, mut list) = (Decoder::new(100, limit), FieldList::new());
        for block in blocks {
            let decoded = decoder.decode(&block, &mut list);
            let size: usize = list.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
            prop_assert!(size <= limit);
            if decoded.is_err() {
                break;
            }
        }
    }
}
