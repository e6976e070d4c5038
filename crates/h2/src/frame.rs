//! Frames: nine bytes of head, a payload with rules of its own, and how ours are written.
//!
//! Judges what one frame says by itself (RFC 9113 sections 4 and 6): lengths, stream numbers, padding, values of
//! settings. Whether it may come now is for the connection to say. A head can be judged before a byte of its
//! payload was read, so that nobody makes us wait for or keep what will be refused.
//!
//! Payloads are borrowed and padding is cut off, never copied.

/// What a client says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of every frame's head.
pub const HEAD_BYTES: usize = 9;

/// The largest payload before the other side allowed more; also what we allow.
pub const FRAME_SIZE_DEFAULT: u32 = 16_384;

/// The largest payload a frame can have.
pub const FRAME_SIZE_MAX: u32 = (1 << 24) - 1;

/// Windows and stream numbers have 31 bits.
pub const WINDOW_MAX: u32 = (1 << 31) - 1;

/// The window of a stream and of a connection before anybody said otherwise.
pub const WINDOW_DEFAULT: u32 = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Data,
    Headers,
    Priority,
    ResetStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// RFC 9218: read and dropped.
    PriorityUpdate,
    /// RFC 9113 section 4.1: must be ignored.
    Unknown(u8),
}

impl Kind {
    pub const fn read(byte: u8) -> Kind {
        match byte {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::ResetStream,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            16 => Kind::PriorityUpdate,
            other => Kind::Unknown(other),
        }
    }

    pub const fn byte(self) -> u8 {
        match self {
            Kind::Data => 0,
            Kind::Headers => 1,
            Kind::Priority => 2,
            Kind::ResetStream => 3,
            Kind::Settings => 4,
            Kind::PushPromise => 5,
            Kind::Ping => 6,
            Kind::GoAway => 7,
            Kind::WindowUpdate => 8,
            Kind::Continuation => 9,
            Kind::PriorityUpdate => 16,
            Kind::Unknown(other) => other,
        }
    }
}

/// Flags, which mean something for some kinds only.
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Names of settings (RFC 9113 section 6.5.2, RFC 8441 section 3).
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
    /// RFC 9218: 1 says that the priorities of RFC 7540 are not looked at.
    pub const NO_RFC7540_PRIORITIES: u16 = 9;
}

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(4);
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    pub const CANCEL: ErrorCode = ErrorCode(8);
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(10);
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
    pub const INADEQUATE_SECURITY: ErrorCode = ErrorCode(12);
    pub const HTTP_1_1_REQUIRED: ErrorCode = ErrorCode(13);

    /// The name in the RFC, in lower case for logs.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "no_error",
            1 => "protocol_error",
            2 => "internal_error",
            3 => "flow_control_error",
            4 => "settings_timeout",
            5 => "stream_closed",
            6 => "frame_size_error",
            7 => "refused_stream",
            8 => "cancel",
            9 => "compression_error",
            10 => "connect_error",
            11 => "enhance_your_calm",
            12 => "inadequate_security",
            13 => "http_1_1_required",
            _ => "unknown",
        }
    }
}

/// The broken rule, and whether the stream or the whole connection ends for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: ErrorCode,
    /// The connection ends, not only the stream.
    pub connection: bool,
    pub detail: &'static str,
}

impl Fault {
    pub const fn connection(code: ErrorCode, detail: &'static str) -> Fault {
        Fault { code, connection: true, detail }
    }

    pub const fn stream(code: ErrorCode, detail: &'static str) -> Fault {
        Fault { code, connection: false, detail }
    }
}

const fn size_error<T>(detail: &'static str) -> Result<T, Fault> {
    Err(Fault::connection(ErrorCode::FRAME_SIZE_ERROR, detail))
}

const fn protocol_error<T>(detail: &'static str) -> Result<T, Fault> {
    Err(Fault::connection(ErrorCode::PROTOCOL_ERROR, detail))
}

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the payload; 24 bits.
    pub length: u32,
    pub kind: Kind,
    pub flags: u8,
    /// 31 bits; the reserved one is dropped when reading, as RFC 9113 section 4.1 asks.
    pub stream: u32,
}

impl Head {
    pub const fn read(bytes: &[u8; HEAD_BYTES]) -> Head {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Head {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind::read(kind),
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & WINDOW_MAX,
        }
    }

    pub fn bytes(&self) -> [u8; HEAD_BYTES] {
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind.byte(), self.flags, s0, s1, s2, s3]
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Judges what the head alone shows, before the payload has come. `frame_size` is what we allowed.
    ///
    /// # Errors
    /// Names the rule. A frame that is too long but means nothing for the state of the connection ends only its
    /// stream; RFC 9113 section 4.2 leaves us the choice and its payload would have to be read past, so it is not used.
    pub const fn check(&self, frame_size: u32) -> Result<(), Fault> {
        if self.length > frame_size {
            return size_error("frame larger than allowed (RFC 9113 4.2)");
        }
        match (self.kind, self.stream) {
            (Kind::Data, 0) => protocol_error("data without a stream (RFC 9113 6.1)"),
            (Kind::Headers, 0) => protocol_error("headers without a stream (RFC 9113 6.2)"),
            (Kind::Priority, 0) => protocol_error("priority without a stream (RFC 9113 6.3)"),
            (Kind::Priority, _) if self.length != 5 => {
                Err(Fault::stream(ErrorCode::FRAME_SIZE_ERROR, "priority is not 5 bytes (RFC 9113 6.3)"))
            }
            (Kind::ResetStream, 0) => protocol_error("rst_stream without a stream (RFC 9113 6.4)"),
            (Kind::ResetStream, _) if self.length != 4 => size_error("rst_stream is not 4 bytes (RFC 9113 6.4)"),
            (Kind::Settings, 1..) => protocol_error("settings on a stream (RFC 9113 6.5)"),
            (Kind::Settings, 0) if self.has(flag::ACK) && self.length > 0 => {
                size_error("settings acknowledgement with a payload (RFC 9113 6.5)")
            }
            (Kind::Settings, 0) if !self.length.is_multiple_of(6) => {
                size_error("settings are not 6 bytes each (RFC 9113 6.5)")
            }
            // Clients may not push, and we tell backends that we do not want it.
            (Kind::PushPromise, _) => protocol_error("push that nobody may send us (RFC 9113 8.4)"),
            (Kind::Ping, 1..) => protocol_error("ping on a stream (RFC 9113 6.7)"),
            (Kind::Ping, 0) if self.length != 8 => size_error("ping is not 8 bytes (RFC 9113 6.7)"),
            (Kind::GoAway, 1..) => protocol_error("goaway on a stream (RFC 9113 6.8)"),
            (Kind::GoAway, 0) if self.length < 8 => size_error("goaway of less than 8 bytes (RFC 9113 6.8)"),
            (Kind::WindowUpdate, _) if self.length != 4 => size_error("window_update is not 4 bytes (RFC 9113 6.9)"),
            (Kind::Continuation, 0) => protocol_error("continuation without a stream (RFC 9113 6.10)"),
            (Kind::PriorityUpdate, 1..) => protocol_error("priority_update on a stream (RFC 9218 7.1)"),
            (Kind::PriorityUpdate, 0) if self.length < 4 => {
                size_error("priority_update of less than 4 bytes (RFC 9218 7.1)")
            }
            _ => Ok(()),
        }
    }
}

/// The payload of DATA without its padding. The whole payload counts against windows, padding included.
///
/// # Errors
/// When the padding does not fit.
pub fn data<'p>(head: &Head, payload: &'p [u8]) -> Result<&'p [u8], Fault> {
    unpadded(head, payload)
}

/// What HEADERS carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'p> {
    /// A piece of the compressed block; all of it with END_HEADERS.
    pub block: &'p [u8],
    /// Its priority names its own stream. RFC 7540 section 5.3.1 made that a stream error of PROTOCOL_ERROR; RFC 9113 no longer
    /// speaks of it. The block must be decoded whatever becomes of the stream.
    pub depends_on_itself: bool,
}

/// The payload of HEADERS without padding and priority.
///
/// # Errors
/// When padding or priority do not fit.
pub fn headers<'p>(head: &Head, payload: &'p [u8]) -> Result<Headers<'p>, Fault> {
    let rest = unpadded(head, payload)?;
    if !head.has(flag::PRIORITY) {
        return Ok(Headers { block: rest, depends_on_itself: false });
    }
    match rest.split_first_chunk::<5>() {
        Some((priority, block)) => Ok(Headers { block, depends_on_itself: dependency(priority) == head.stream }),
        None => size_error("headers too short for their priority (RFC 9113 6.2)"),
    }
}

/// Whether a PRIORITY frame names its own stream; see [`Headers::depends_on_itself`].
///
/// # Errors
/// When it is not 5 bytes.
pub fn priority(head: &Head, payload: &[u8]) -> Result<bool, Fault> {
    match <&[u8; 5]>::try_from(payload) {
        Ok(priority) => Ok(dependency(priority) == head.stream),
        Err(_) => Err(Fault::stream(ErrorCode::FRAME_SIZE_ERROR, "priority is not 5 bytes (RFC 9113 6.3)")),
    }
}

const fn dependency(priority: &[u8; 5]) -> u32 {
    u32::from_be_bytes([priority[0], priority[1], priority[2], priority[3]]) & WINDOW_MAX
}

fn unpadded<'p>(head: &Head, payload: &'p [u8]) -> Result<&'p [u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let Some((&padding, rest)) = payload.split_first() else {
        return size_error("padded frame without a padding length (RFC 9113 6.1)");
    };
    match rest.len().checked_sub(usize::from(padding)) {
        Some(kept) => Ok(&rest[..kept]),
        None => protocol_error("padding longer than the frame (RFC 9113 6.1)"),
    }
}

/// Why the other side ended a stream.
///
/// # Errors
/// When it is not 4 bytes.
pub fn reset_stream(payload: &[u8]) -> Result<ErrorCode, Fault> {
    match <[u8; 4]>::try_from(payload) {
        Ok(code) => Ok(ErrorCode(u32::from_be_bytes(code))),
        Err(_) => size_error("rst_stream is not 4 bytes (RFC 9113 6.4)"),
    }
}

/// The settings of a SETTINGS frame in their order. Unknown ones are among them and must be ignored.
///
/// # Errors
/// When the length or one of the values is not allowed.
pub fn settings(payload: &[u8]) -> Result<impl Iterator<Item = (u16, u32)> + '_, Fault> {
    let (pairs, []) = payload.as_chunks::<6>() else {
        return size_error("settings are not 6 bytes each (RFC 9113 6.5)");
    };
    let read =
        |&[i0, i1, v0, v1, v2, v3]: &[u8; 6]| (u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]));
    for (id, value) in pairs.iter().map(read) {
        setting_value(id, value)?;
    }
    Ok(pairs.iter().map(read))
}

const fn setting_value(id: u16, value: u32) -> Result<(), Fault> {
    match (id, value) {
        (setting::ENABLE_PUSH, 2..) => protocol_error("enable_push is neither 0 nor 1 (RFC 9113 6.5.2)"),
        (setting::INITIAL_WINDOW_SIZE, value) if value > WINDOW_MAX => {
            Err(Fault::connection(ErrorCode::FLOW_CONTROL_ERROR, "initial_window_size above 2^31-1 (RFC 9113 6.5.2)"))
        }
        (setting::MAX_FRAME_SIZE, value) if value < FRAME_SIZE_DEFAULT || value > FRAME_SIZE_MAX => {
            protocol_error("max_frame_size outside 2^14 to 2^24-1 (RFC 9113 6.5.2)")
        }
        (setting::ENABLE_CONNECT_PROTOCOL, 2..) => {
            protocol_error("enable_connect_protocol is neither 0 nor 1 (RFC 8441 3)")
        }
        (setting::NO_RFC7540_PRIORITIES, 2..) => {
            protocol_error("no_rfc7540_priorities is neither 0 nor 1 (RFC 9218 2.1)")
        }
        _ => Ok(()),
    }
}

/// What a PING wants back.
///
/// # Errors
/// When it is not 8 bytes.
pub fn ping(payload: &[u8]) -> Result<[u8; 8], Fault> {
    match <[u8; 8]>::try_from(payload) {
        Ok(opaque) => Ok(opaque),
        Err(_) => size_error("ping is not 8 bytes (RFC 9113 6.7)"),
    }
}

/// The last words of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway<'p> {
    /// Streams above it were not looked at and may be tried again elsewhere.
    pub last_stream: u32,
    pub code: ErrorCode,
    /// Whatever the other side wanted to say.
    pub debug: &'p [u8],
}

/// Reads GOAWAY.
///
/// # Errors
/// When it is shorter than 8 bytes.
pub fn go_away(payload: &[u8]) -> Result<GoAway<'_>, Fault> {
    match payload.split_first_chunk::<8>() {
        Some((&[l0, l1, l2, l3, c0, c1, c2, c3], debug)) => Ok(GoAway {
            last_stream: u32::from_be_bytes([l0, l1, l2, l3]) & WINDOW_MAX,
            code: ErrorCode(u32::from_be_bytes([c0, c1, c2, c3])),
            debug,
        }),
        None => size_error("goaway of less than 8 bytes (RFC 9113 6.8)"),
    }
}

/// By how much a window grows; 1 to 2^31-1.
///
/// # Errors
/// When it is not 4 bytes, or grows by nothing: that ends the stream it is for, or the connection.
pub fn window_update(head: &Head, payload: &[u8]) -> Result<u32, Fault> {
    let Ok(bytes) = <[u8; 4]>::try_from(payload) else {
        return size_error("window_update is not 4 bytes (RFC 9113 6.9)");
    };
    match u32::from_be_bytes(bytes) & WINDOW_MAX {
        0 => Err(Fault {
            code: ErrorCode::PROTOCOL_ERROR,
            connection: head.stream == 0,
            detail: "window_update of nothing (RFC 9113 6.9)",
        }),
        increment => Ok(increment),
    }
}

fn put(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("our control frames are a few bytes");
    Head { length, kind, flags, stream }.write(out);
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub fn write_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let length = u32::try_from(settings.len() * 6).expect("there are a handful of settings");
    Head { length, kind: Kind::Settings, flags: 0, stream: 0 }.write(out);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub fn write_settings_ack(out: &mut Vec<u8>) {
    put(out, Kind::Settings, flag::ACK, 0, &[]);
}

pub fn write_ping(opaque: [u8; 8], out: &mut Vec<u8>) {
    put(out, Kind::Ping, 0, 0, &opaque);
}

pub fn write_ping_ack(opaque: [u8; 8], out: &mut Vec<u8>) {
    put(out, Kind::Ping, flag::ACK, 0, &opaque);
}

/// Appends WINDOW_UPDATE; stream 0 is the connection.
pub fn write_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    put(out, Kind::WindowUpdate, 0, stream, &increment.to_be_bytes());
}

pub fn write_reset_stream(stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    put(out, Kind::ResetStream, 0, stream, &code.0.to_be_bytes());
}

/// Appends GOAWAY. `detail` is one of our fixed sentences.
pub fn write_go_away(last_stream: u32, code: ErrorCode, detail: &str, out: &mut Vec<u8>) {
    let length = u32::try_from(8 + detail.len()).expect("our sentences are short");
    Head { length, kind: Kind::GoAway, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(detail.as_bytes());
}

/// Appends the head of DATA; `length` bytes of payload must follow.
pub fn write_data_head(stream: u32, length: u32, end_stream: bool, out: &mut Vec<u8>) {
    let flags = if end_stream { flag::END_STREAM } else { 0 };
    Head { length, kind: Kind::Data, flags, stream }.write(out);
}

/// HEADERS being written: room for the head is left, the block is appended to the same buffer, then
/// [`finish`](HeadersInProgress::finish) fills the head in. So a block is encoded where it is sent from.
#[derive(Debug)]
#[must_use = "without `finish` nine zero bytes stand where the frame's head belongs"]
pub struct HeadersInProgress {
    at: usize,
}

impl HeadersInProgress {
    pub fn begin(out: &mut Vec<u8>) -> HeadersInProgress {
        let at = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        HeadersInProgress { at }
    }

    /// Takes back what was begun, the block included.
    pub fn abandon(self, out: &mut Vec<u8>) {
        out.truncate(self.at);
    }

    /// Everything appended since `begin` becomes HEADERS and, above `frame_size`, CONTINUATIONs.
    pub fn finish(self, stream: u32, end_stream: bool, frame_size: u32, out: &mut Vec<u8>) {
        let block = out.len() - self.at - HEAD_BYTES;
        let end_stream = if end_stream { flag::END_STREAM } else { 0 };
        let frame_size = frame_size as usize;
        if block <= frame_size {
            let length = u32::try_from(block).expect("a frame's size has 24 bits");
            let head = Head { length, kind: Kind::Headers, flags: end_stream | flag::END_HEADERS, stream };
            out[self.at..self.at + HEAD_BYTES].copy_from_slice(&head.bytes());
        } else {
            self.split(stream, end_stream, frame_size, out);
        }
    }

    #[cold]
    fn split(self, stream: u32, end_stream: u8, frame_size: usize, out: &mut Vec<u8>) {
        let block = out.split_off(self.at + HEAD_BYTES);
        out.truncate(self.at);
        let pieces = block.len().div_ceil(frame_size);
        for (position, piece) in block.chunks(frame_size).enumerate() {
            let (kind, first) = if position == 0 { (Kind::Headers, end_stream) } else { (Kind::Continuation, 0) };
            let last = if position + 1 == pieces { flag::END_HEADERS } else { 0 };
            put(out, kind, first | last, stream, piece);
        }
    }
}
