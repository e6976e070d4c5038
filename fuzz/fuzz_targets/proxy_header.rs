//! PROXY headers: our own strictness against a second reader, and what was read against what we would write.
//!
//! The references are those of the crate's tests, so that a finding here becomes a row there.
#![no_main]

use evenkeel_wire::proxy::{Header, Parsed, Sent, parse, write_v1, write_v2};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/wire/tests/proxy/second.rs"]
#[allow(dead_code)]
mod second;

fuzz_target!(|data: &[u8]| {
    for input in [data, &second::signed(data)] {
        second::assert_agrees(input);
        let Parsed::Whole(header, used) = parse(input) else {
            // Once refused, refused for good: a later packet must not change it.
            if let Parsed::Refused(fault) = parse(input) {
                assert_eq!(parse(&[input, b"\r\n"].concat()), Parsed::Refused(fault));
            }
            continue;
        };
        assert_eq!(parse(&input[..used]), Parsed::Whole(header, used));
        for cut in 0..used {
            assert_eq!(parse(&input[..cut]), Parsed::Partial);
        }
        let Some((client, local)) = header.client else { continue };
        let mut line = Vec::new();
        write_v1(&mut line, client, local);
        assert_eq!(parse(&line), Parsed::Whole(Header { client: header.client, ..Header::default() }, line.len()));
        let Header { datagram, authority, alpn, unique_id, .. } = header;
        if authority.into_iter().chain(alpn).all(|value| value.len() <= 255) {
            let mut written = Vec::new();
            write_v2(&mut written, &Sent { client, local, datagram, authority, alpn, unique_id });
            assert_eq!(parse(&written), Parsed::Whole(header, written.len()));
        }
    }
});
