//! Frames: no panic, payloads stay inside their frames, and what was read is written back alike.
//!
//! The input is what a client or a backend sends.

#![no_main]

use evenkeel_h2::frame::{self, FRAME_SIZE_DEFAULT, HEAD_BYTES, Head, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Some((bytes, behind)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let head = Head::read(bytes);
        let mut without_reserved = *bytes;
        without_reserved[5] &= 0x7f;
        assert_eq!(head.bytes(), without_reserved);
        if head.check(FRAME_SIZE_DEFAULT).is_err_and(|fault| fault.connection) || head.length as usize > behind.len() {
            return;
        }
        let (payload, behind) = behind.split_at(head.length as usize);
        rest = behind;
        let mut out = Vec::new();
        match head.kind {
            Kind::Data => {
                if let Ok(data) = frame::data(&head, payload) {
                    assert!(data.len() <= payload.len());
                }
            }
            Kind::Headers => {
                if let Ok(headers) = frame::headers(&head, payload) {
                    assert!(headers.block.len() <= payload.len());
                }
            }
            Kind::Priority => {
                assert_eq!(frame::priority(&head, payload).is_ok(), payload.len() == 5);
            }
            Kind::ResetStream => {
                let code = frame::reset_stream(payload).expect("the head was checked");
                frame::write_reset_stream(head.stream, code, &mut out);
                assert_eq!(out[HEAD_BYTES..], *payload);
            }
            Kind::Settings => {
                if let Ok(settings) = frame::settings(payload) {
                    frame::write_settings(&settings.collect::<Vec<_>>(), &mut out);
                    assert_eq!(out[HEAD_BYTES..], *payload);
                }
            }
            Kind::Ping => assert_eq!(frame::ping(payload).expect("the head was checked"), *payload),
            Kind::GoAway => {
                let gone = frame::go_away(payload).expect("the head was checked");
                assert_eq!(gone.debug.len(), payload.len() - 8);
            }
            Kind::WindowUpdate => {
                if let Ok(increment) = frame::window_update(&head, payload) {
                    assert!(increment > 0 && increment <= frame::WINDOW_MAX);
                }
            }
            Kind::Continuation | Kind::PriorityUpdate | Kind::Unknown(_) => {}
            Kind::PushPromise => panic!("the head is always refused"),
        }
    }
});
