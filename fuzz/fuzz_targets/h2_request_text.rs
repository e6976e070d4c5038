//! Header lists to text: what we accept, `wire` and a naive reader accept whole and find the same in, and it becomes
//! the same list again.
//!
//! The first byte chooses the settings. Byte 255 stands between a name and its value, 254 between fields.

#![no_main]

use evenkeel_h2::hpack::{Decoded, Decoder, Encoder, FieldList};
use evenkeel_h2::text::{
    Body, RequestOptions, ResponseAsked, ResponseOptions, SendOptions, request_fields, request_text, response_fields,
    response_text,
};
use evenkeel_model::Cause;
use evenkeel_wire::{Asked, FieldSlots, Framing, Parsed, parse_request, parse_response};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/wire/tests/naive/mod.rs"]
mod naive;

fn value<'l>(list: &'l FieldList, name: &[u8]) -> Option<&'l [u8]> {
    list.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn framing(body: Body, said: Framing) -> Framing {
    match body {
        Body::Tunnel => Framing::Empty,
        Body::Empty if said == Framing::Length(0) => said,
        body => body.framing().expect("no tunnel"),
    }
}

fn check_request(list: &FieldList, options: RequestOptions) {
    let mut text = Vec::new();
    let Ok(shape) = request_text(list, options, &mut text) else {
        assert!(text.is_empty());
        return;
    };
    let mut slots = FieldSlots::new();
    let head = match parse_request(&text, &mut slots, usize::MAX) {
        Parsed::Whole(head) => head,
        Parsed::Refused(refusal) if refusal.cause == Cause::ClientHeaderTooLarge => return,
        _ => panic!("wire does not take {}", text.escape_ascii()),
    };
    let tunnel = shape.body == Body::Tunnel;
    assert_eq!(head.len, text.len());
    assert_eq!(Some(head.method), if tunnel { Some(&b"GET"[..]) } else { value(list, b":method") });
    assert_eq!(Some(head.path), value(list, b":path"));
    assert_eq!(head.host, value(list, b":authority").or(value(list, b"host")));
    assert_eq!(head.framing, framing(shape.body, head.framing));
    assert_eq!(head.upgrade.is_some(), tunnel);
    let reading = naive::request(&text).expect("a naive reader must accept it too");
    assert_eq!((reading.framing, reading.length), (head.framing, head.len));
    let regular =
        list.iter().filter(|(name, _)| !name.starts_with(b":") && !matches!(*name, b"cookie" | b"host")).count();
    assert!((regular..=regular + 6).contains(&(head.fields.len() + usize::from(tunnel))), "{}", text.escape_ascii());

    let (mut encoder, mut block, mut again) = (Encoder::new(), Vec::new(), FieldList::new());
    let send = SendOptions { scheme: "https", tunnels: options.tunnels };
    let sent = request_fields(&text, send, &mut encoder, &mut block).expect("our own text");
    assert_eq!(Decoder::new(4096, usize::MAX).decode(&block, &mut again), Ok(Decoded::Whole));
    assert_eq!(sent.key.is_some(), tunnel);
    // Names of protocols are the same in any case (RFC 9110 7.8); ours is in lower case.
    let protocol = value(list, b":protocol").map(<[u8]>::to_ascii_lowercase);
    assert_eq!(value(&again, b":protocol"), protocol.as_deref());
    for name in [&b":method"[..], b":path"] {
        assert_eq!(value(&again, name), value(list, name));
    }
}

fn check_response(list: &FieldList, options: ResponseOptions) {
    let mut text = Vec::new();
    let Ok(shape) = response_text(list, options, &mut text) else {
        assert!(text.is_empty());
        return;
    };
    let asked = Asked { head: options.is_head, upgrade: options.key.is_some() };
    let mut slots = FieldSlots::new();
    let head = match parse_response(&text, &mut slots, usize::MAX, asked) {
        Parsed::Whole(head) => head,
        Parsed::Refused(refusal) if refusal.cause == Cause::BackendHeaderTooLarge => return,
        _ => panic!("wire does not take {}", text.escape_ascii()),
    };
    assert_eq!(head.len, text.len());
    assert_eq!(head.status, if shape.body == Body::Tunnel { 101 } else { shape.status });
    assert_eq!(head.framing, framing(shape.body, head.framing));
    let reading = naive::response(&text, asked.head).expect("a naive reader must accept it too");
    assert_eq!((reading.framing, reading.length), (head.framing, head.len));
    let asked = ResponseAsked { is_head: options.is_head, tunnel: options.key.is_some() };
    response_fields(&text, asked, &mut Encoder::new(), &mut Vec::new()).expect("our own text");
}

fuzz_target!(|data: &[u8]| {
    let [settings, input @ ..] = data else { return };
    let mut list = FieldList::new();
    for field in input.split(|&byte| byte == 254) {
        let mut parts = field.splitn(2, |&byte| byte == 255);
        list.push(parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    }
    let end_stream = settings & 1 != 0;
    check_request(&list, RequestOptions { end_stream, tunnels: settings & 2 != 0 });
    let is_head = settings & 4 != 0;
    let key = (settings & 8 != 0 && !is_head).then_some(*b"dGhlIHNhbXBsZSBub25jZQ==");
    check_response(&list, ResponseOptions { end_stream, is_head, key });
});
