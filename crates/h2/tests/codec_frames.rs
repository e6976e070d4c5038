//! Frames: every rule of RFC 9113 section 6 that one frame can break, and that ours are read back.
//!
//! What a frame breaks by coming at the wrong time is the connection's business and tested with it.

use evenkeel_h2::frame::{
    self, ErrorCode, FRAME_SIZE_DEFAULT, Fault, GoAway, HEAD_BYTES, Head, HeadersInProgress, Kind, flag, setting,
};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

const ALL_KINDS: [Kind; 12] = [
    Kind::Data,
    Kind::Headers,
    Kind::Priority,
    Kind::ResetStream,
    Kind::Settings,
    Kind::PushPromise,
    Kind::Ping,
    Kind::GoAway,
    Kind::WindowUpdate,
    Kind::Continuation,
    Kind::PriorityUpdate,
    Kind::Unknown(0xbe),
];

const fn head(length: u32, kind: Kind, flags: u8, stream: u32) -> Head {
    Head { length, kind, flags, stream }
}

fn connection(code: ErrorCode, detail: &'static str) -> Result<(), Fault> {
    Err(Fault { code, connection: true, detail })
}

fn stream(code: ErrorCode, detail: &'static str) -> Result<(), Fault> {
    Err(Fault { code, connection: false, detail })
}

#[test]
#[rustfmt::skip]
fn heads_are_judged_before_their_payload_comes() {
    use ErrorCode as E;
    let rows = [
        (head(16_384, Kind::Data, 0, 1), Ok(())),
        (head(16_385, Kind::Data, 0, 1), connection(E::FRAME_SIZE_ERROR, "frame larger than allowed (RFC 9113 4.2)")),
        (head(0xff_ffff, Kind::Unknown(200), 0, 0), connection(E::FRAME_SIZE_ERROR, "frame larger than allowed (RFC 9113 4.2)")),
        (head(16_384, Kind::Unknown(200), 0xff, 0), Ok(())),
        (head(0, Kind::Data, 0, 0), connection(E::PROTOCOL_ERROR, "data without a stream (RFC 9113 6.1)")),
        (head(0, Kind::Headers, 0, 0), connection(E::PROTOCOL_ERROR, "headers without a stream (RFC 9113 6.2)")),
        (head(5, Kind::Priority, 0, 3), Ok(())),
        (head(5, Kind::Priority, 0, 0), connection(E::PROTOCOL_ERROR, "priority without a stream (RFC 9113 6.3)")),
        (head(4, Kind::Priority, 0, 3), stream(E::FRAME_SIZE_ERROR, "priority is not 5 bytes (RFC 9113 6.3)")),
        (head(4, Kind::ResetStream, 0, 1), Ok(())),
        (head(4, Kind::ResetStream, 0, 0), connection(E::PROTOCOL_ERROR, "rst_stream without a stream (RFC 9113 6.4)")),
        (head(5, Kind::ResetStream, 0, 1), connection(E::FRAME_SIZE_ERROR, "rst_stream is not 4 bytes (RFC 9113 6.4)")),
        (head(12, Kind::Settings, 0, 0), Ok(())),
        (head(0, Kind::Settings, flag::ACK, 0), Ok(())),
        (head(6, Kind::Settings, 0, 1), connection(E::PROTOCOL_ERROR, "settings on a stream (RFC 9113 6.5)")),
        (head(6, Kind::Settings, flag::ACK, 0), connection(E::FRAME_SIZE_ERROR, "settings acknowledgement with a payload (RFC 9113 6.5)")),
        (head(7, Kind::Settings, 0, 0), connection(E::FRAME_SIZE_ERROR, "settings are not 6 bytes each (RFC 9113 6.5)")),
        (head(8, Kind::PushPromise, 0, 1), connection(E::PROTOCOL_ERROR, "push that nobody may send us (RFC 9113 8.4)")),
        (head(8, Kind::Ping, 0, 0), Ok(())),
        (head(8, Kind::Ping, 0, 1), connection(E::PROTOCOL_ERROR, "ping on a stream (RFC 9113 6.7)")),
        (head(7, Kind::Ping, 0, 0), connection(E::FRAME_SIZE_ERROR, "ping is not 8 bytes (RFC 9113 6.7)")),
        (head(8, Kind::GoAway, 0, 0), Ok(())),
        (head(8, Kind::GoAway, 0, 1), connection(E::PROTOCOL_ERROR, "goaway on a stream (RFC 9113 6.8)")),
        (head(7, Kind::GoAway, 0, 0), connection(E::FRAME_SIZE_ERROR, "goaway of less than 8 bytes (RFC 9113 6.8)")),
        (head(4, Kind::WindowUpdate, 0, 0), Ok(())),
        (head(4, Kind::WindowUpdate, 0, 7), Ok(())),
        (head(3, Kind::WindowUpdate, 0, 7), connection(E::FRAME_SIZE_ERROR, "window_update is not 4 bytes (RFC 9113 6.9)")),
        (head(0, Kind::Continuation, 0, 0), connection(E::PROTOCOL_ERROR, "continuation without a stream (RFC 9113 6.10)")),
        (head(0, Kind::Continuation, 0, 1), Ok(())),
        (head(4, Kind::PriorityUpdate, 0, 0), Ok(())),
        (head(4, Kind::PriorityUpdate, 0, 1), connection(E::PROTOCOL_ERROR, "priority_update on a stream (RFC 9218 7.1)")),
        (head(3, Kind::PriorityUpdate, 0, 0), connection(E::FRAME_SIZE_ERROR, "priority_update of less than 4 bytes (RFC 9218 7.1)")),
    ];
    for (head, expected) in rows {
        assert_eq!(head.check(FRAME_SIZE_DEFAULT), expected, "{head:?}");
    }
}

#[test]
fn padding_is_cut_off_and_must_fit() {
    let padded = head(0, Kind::Data, flag::PADDED, 1);
    let size = "padded frame without a padding length (RFC 9113 6.1)";
    let longer = "padding longer than the frame (RFC 9113 6.1)";
    type Row = (&'static [u8], Result<&'static [u8], &'static str>);
    let rows: &[Row] = &[
        (b"\x00data", Ok(b"data")),
        (b"\x02da\0\0", Ok(b"da")),
        (b"\x04data", Ok(b"")),
        (b"\x00", Ok(b"")),
        (b"", Err(size)),
        (b"\x05data", Err(longer)),
        (b"\xff", Err(longer)),
    ];
    for (payload, expected) in rows {
        assert_eq!(frame::data(&padded, payload).map_err(|fault| fault.detail), *expected, "{payload:?}");
    }
    assert_eq!(frame::data(&head(0, Kind::Data, 0, 1), b"\x02da"), Ok(&b"\x02da"[..]));
}

#[test]
fn headers_lose_padding_and_priority() {
    let head = |flags| head(0, Kind::Headers, flags, 3);
    let both = flag::PADDED | flag::PRIORITY;
    type Row = (u8, &'static [u8], Result<(&'static [u8], bool), &'static str>);
    let rows: &[Row] = &[
        (0, b"block", Ok((b"block", false))),
        (flag::PADDED, b"\x01block", Ok((b"bloc", false))),
        (flag::PRIORITY, b"\x80\0\0\x01\x10block", Ok((b"block", false))),
        (flag::PRIORITY, b"\x80\0\0\x03\x10block", Ok((b"block", true))),
        (both, b"\x02\0\0\0\x03\x10block", Ok((b"blo", true))),
        (flag::PRIORITY, b"\0\0\0\x01", Err("headers too short for their priority (RFC 9113 6.2)")),
        (both, b"\x02\0\0\0\x01\0", Err("headers too short for their priority (RFC 9113 6.2)")),
        (both, b"\x07\0\0\0\x01\0", Err("padding longer than the frame (RFC 9113 6.1)")),
    ];
    for (flags, payload, expected) in rows {
        let read = frame::headers(&head(*flags), payload).map(|read| (read.block, read.depends_on_itself));
        assert_eq!(read.map_err(|fault| fault.detail), *expected, "{payload:?}");
    }
    let own = frame::priority(&self::head(5, Kind::Priority, 0, 3), b"\0\0\0\x03\0");
    assert_eq!((own, frame::priority(&self::head(5, Kind::Priority, 0, 3), b"\0\0\0\x01\0")), (Ok(true), Ok(false)));
}

#[test]
fn settings_have_their_ranges() {
    use ErrorCode as E;
    let frame_size = "max_frame_size outside 2^14 to 2^24-1 (RFC 9113 6.5.2)";
    let rows = [
        (setting::HEADER_TABLE_SIZE, u32::MAX, Ok(())),
        (setting::ENABLE_PUSH, 1, Ok(())),
        (setting::ENABLE_PUSH, 2, connection(E::PROTOCOL_ERROR, "enable_push is neither 0 nor 1 (RFC 9113 6.5.2)")),
        (setting::MAX_CONCURRENT_STREAMS, 0, Ok(())),
        (setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1, Ok(())),
        (
            setting::INITIAL_WINDOW_SIZE,
            1 << 31,
            connection(E::FLOW_CONTROL_ERROR, "initial_window_size above 2^31-1 (RFC 9113 6.5.2)"),
        ),
        (setting::MAX_FRAME_SIZE, 16_384, Ok(())),
        (setting::MAX_FRAME_SIZE, (1 << 24) - 1, Ok(())),
        (setting::MAX_FRAME_SIZE, 16_383, connection(E::PROTOCOL_ERROR, frame_size)),
        (setting::MAX_FRAME_SIZE, 1 << 24, connection(E::PROTOCOL_ERROR, frame_size)),
        (setting::MAX_HEADER_LIST_SIZE, 0, Ok(())),
        (
            setting::ENABLE_CONNECT_PROTOCOL,
            2,
            connection(E::PROTOCOL_ERROR, "enable_connect_protocol is neither 0 nor 1 (RFC 8441 3)"),
        ),
        (
            setting::NO_RFC7540_PRIORITIES,
            2,
            connection(E::PROTOCOL_ERROR, "no_rfc7540_priorities is neither 0 nor 1 (RFC 9218 2.1)"),
        ),
        (0x7777, u32::MAX, Ok(())),
    ];
    for (id, value, expected) in rows {
        let mut out = Vec::new();
        frame::write_settings(&[(setting::HEADER_TABLE_SIZE, 1), (id, value)], &mut out);
        let read = frame::settings(&out[HEAD_BYTES..]).map(Iterator::collect::<Vec<_>>);
        assert_eq!(read, expected.map(|()| vec![(1, 1), (id, value)]), "{id} = {value}");
    }
    assert!(frame::settings(&[0; 5]).is_err());
}

#[test]
fn a_window_grows_by_something() {
    let nothing = |connection| {
        let detail = "window_update of nothing (RFC 9113 6.9)";
        Err(Fault { code: ErrorCode::PROTOCOL_ERROR, connection, detail })
    };
    let on = |stream| head(4, Kind::WindowUpdate, 0, stream);
    assert_eq!(frame::window_update(&on(0), &[0, 0, 0, 0]), nothing(true));
    assert_eq!(frame::window_update(&on(5), &[0x80, 0, 0, 0]), nothing(false));
    assert_eq!(frame::window_update(&on(5), &[0xff; 4]), Ok((1 << 31) - 1));
    assert!(frame::window_update(&on(5), &[0; 3]).is_err());
}

#[test]
fn our_frames_are_read_back() {
    let mut out = Vec::new();
    frame::write_settings_ack(&mut out);
    frame::write_ping(*b"whenever", &mut out);
    frame::write_ping_ack(*b"whenever", &mut out);
    frame::write_window_update(9, 77, &mut out);
    frame::write_reset_stream(9, ErrorCode::CANCEL, &mut out);
    frame::write_go_away(9, ErrorCode::ENHANCE_YOUR_CALM, "too much", &mut out);
    frame::write_data_head(9, 0, true, &mut out);
    let expected: [(Kind, u8, u32, &[u8]); 7] = [
        (Kind::Settings, flag::ACK, 0, b""),
        (Kind::Ping, 0, 0, b"whenever"),
        (Kind::Ping, flag::ACK, 0, b"whenever"),
        (Kind::WindowUpdate, 0, 9, &[0, 0, 0, 77]),
        (Kind::ResetStream, 0, 9, &[0, 0, 0, 8]),
        (Kind::GoAway, 0, 0, b"\0\0\0\x09\0\0\0\x0btoo much"),
        (Kind::Data, flag::END_STREAM, 9, b""),
    ];
    let frames = frames(&out);
    assert_eq!(frames.len(), expected.len());
    for ((head, payload), (kind, flags, stream, said)) in frames.iter().zip(expected) {
        assert_eq!((head.kind, head.flags, head.stream, *payload), (kind, flags, stream, said));
        assert_eq!(head.check(FRAME_SIZE_DEFAULT), Ok(()));
    }
    let gone = GoAway { last_stream: 9, code: ErrorCode::ENHANCE_YOUR_CALM, debug: b"too much" };
    assert_eq!(frame::go_away(frames[5].1), Ok(gone));
    assert_eq!(frame::ping(frames[1].1), Ok(*b"whenever"));
    assert_eq!(frame::reset_stream(frames[4].1), Ok(ErrorCode::CANCEL));
    assert_eq!(ErrorCode::CANCEL.name(), "cancel");
}

fn frames(mut bytes: &[u8]) -> Vec<(Head, &[u8])> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let head = Head::read(head);
        let (payload, rest) = rest.split_at(head.length as usize);
        frames.push((head, payload));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "bytes behind the last frame");
    frames
}

proptest! {
    #[test]
    fn a_head_survives(length in 0_u32..1 << 24, kind in any::<u8>(), flags in any::<u8>(), stream in 0_u32..1 << 31) {
        let head = Head { length, kind: Kind::read(kind), flags, stream };
        prop_assert_eq!(head.kind.byte(), kind);
        let mut bytes = head.bytes();
        prop_assert_eq!(Head::read(&bytes), head);
        // The reserved bit means nothing.
        bytes[5] |= 0x80;
        prop_assert_eq!(Head::read(&bytes), head);
    }

    #[test]
    fn headers_are_split_at_the_frame_size_and_nowhere_else(
        block in vec(any::<u8>(), 0..200),
        frame_size in 1_u32..100,
        end_stream in any::<bool>(),
    ) {
        let mut out = b"before".to_vec();
        let headers = HeadersInProgress::begin(&mut out);
        out.extend_from_slice(&block);
        headers.finish(5, end_stream, frame_size, &mut out);
        let frames = frames(out.strip_prefix(b"before").expect("untouched"));
        let joined: Vec<u8> = frames.iter().flat_map(|(_, payload)| payload.iter().copied()).collect();
        prop_assert_eq!(joined, block);
        for (position, (head, _)) in frames.iter().enumerate() {
            let is_last = position + 1 == frames.len();
            prop_assert_eq!(head.kind, if position == 0 { Kind::Headers } else { Kind::Continuation });
            prop_assert_eq!(head.has(flag::END_HEADERS), is_last);
            prop_assert_eq!(head.flags & flag::END_STREAM != 0, end_stream && position == 0);
            prop_assert!(head.length <= frame_size && (is_last || head.length == frame_size) && head.stream == 5);
        }
    }

    #[test]
    fn no_payload_does_harm(payload in vec(any::<u8>(), 0..40), flags in any::<u8>(), stream in 0_u32..3) {
        for kind in ALL_KINDS {
            let head = Head { length: u32::try_from(payload.len()).expect("short"), kind, flags, stream };
            let checked = head.check(FRAME_SIZE_DEFAULT);
            let read = match kind {
                Kind::Data => frame::data(&head, &payload).err(),
                Kind::Headers => frame::headers(&head, &payload).err(),
                Kind::Priority => frame::priority(&head, &payload).err(),
                Kind::ResetStream => frame::reset_stream(&payload).err(),
                Kind::Settings => frame::settings(&payload).err(),
                Kind::Ping => frame::ping(&payload).err(),
                Kind::GoAway => frame::go_away(&payload).err(),
                Kind::WindowUpdate => frame::window_update(&head, &payload).err(),
                Kind::PushPromise | Kind::Continuation | Kind::PriorityUpdate | Kind::Unknown(_) => None,
            };
            // What the head alone shows to be too short or too long is seen in the payload too.
            if checked.is_ok() && matches!(kind, Kind::ResetStream | Kind::Ping | Kind::GoAway | Kind::Priority) {
                prop_assert_eq!(read, None);
            }
        }
    }
}
