//! Compresses the body of one answer while it streams by.
//!
//! Payload in, coded bytes out, in whatever pieces the backend sends. What was pushed may stay inside until
//! [`Compressor::flush`]: flush when the backend pauses, so that a slow page or an event stream is not held back, and
//! not after every read, since each flush costs a few bytes and some compression.
//!
//! Memory per stream is bounded by the choice of windows and tables (`limits::COMPRESSOR_BYTES` has the figures). That
//! is why brotli is cut into blocks here: it keeps all of a block until it is full, and would fill megabytes first.
//! `examples/compressors.rs` measures it.
//!
//! Whether an answer may be compressed is decided by `evenkeel_wire::encoding`.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};
use evenkeel_model::limits;
use evenkeel_plan::Coding;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

/// Why a stream cannot go on: text for the detail of `balancer_internal`. No input can cause it.
pub type Failed = &'static str;

const OUT_OF_MEMORY: Failed = "the compressor got no memory";
const BROKEN: Failed = "the compressor lost its state";

/// Room made for output at a time. A coded block of the usual reads fits.
const ROOM: usize = 16 * 1024;

/// The stream of one answer.
pub struct Compressor {
    coder: Coder,
    coding: Coding,
    level: u32,
    /// Something was pushed since the last flush.
    holds: bool,
}

enum Coder {
    Gzip(Compress),
    Br(Box<Brotli>),
    Zstd(CCtx<'static>),
}

struct Brotli {
    encoder: BrotliEncoderStateStruct<StandardAlloc>,
    /// Payload bytes of the block that is not out yet.
    block: usize,
}

impl Compressor {
    /// `level`: 1, fast, to 9, small.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(coding: Coding, level: u32) -> Result<Self, Failed> {
        let level = level.clamp(1, 9);
        let coder = match coding {
            // The whole window gzip has.
            Coding::Gzip => Coder::Gzip(Compress::new_gzip(Compression::new(level), 15)),
            Coding::Br => Coder::Br(Box::new(Brotli::new(level))),
            Coding::Zstd => Coder::Zstd(zstd(level).ok_or(OUT_OF_MEMORY)?),
        };
        Ok(Compressor { coder, coding, level, holds: false })
    }

    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Takes payload in; what comes out of it by now is appended to `out`.
    ///
    /// # Errors
    /// The stream is broken and the answer must be cut.
    pub fn push(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        if payload.is_empty() {
            return Ok(());
        }
        self.holds = true;
        match &mut self.coder {
            Coder::Gzip(encoder) => deflate(encoder, payload, FlushCompress::None, out),
            Coder::Br(brotli) => brotli.push(payload, out),
            Coder::Zstd(context) => run_zstd(context, payload, ZSTD_EndDirective::ZSTD_e_continue, out),
        }
    }

    /// Everything pushed so far comes out, so that the client can read up to here. Nothing when nothing is held.
    ///
    /// # Errors
    /// As for [`Compressor::push`].
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        if !self.holds {
            return Ok(());
        }
        self.holds = false;
        match &mut self.coder {
            Coder::Gzip(encoder) => deflate(encoder, &[], FlushCompress::Sync, out),
            Coder::Br(brotli) => brotli.cut(out),
            Coder::Zstd(context) => run_zstd(context, &[], ZSTD_EndDirective::ZSTD_e_flush, out),
        }
    }

    /// The end of the payload: the rest comes out. Nothing may be pushed after it.
    ///
    /// # Errors
    /// As for [`Compressor::push`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        self.holds = false;
        match &mut self.coder {
            Coder::Gzip(encoder) => deflate(encoder, &[], FlushCompress::Finish, out),
            Coder::Br(brotli) => brotli.run(&[], BrotliEncoderOperation::BROTLI_OPERATION_FINISH, out),
            Coder::Zstd(context) => run_zstd(context, &[], ZSTD_EndDirective::ZSTD_e_end, out),
        }
    }

    /// Makes it ready for another stream, wherever it was. False when this coding cannot.
    fn reset(&mut self) -> bool {
        self.holds = false;
        match &mut self.coder {
            Coder::Gzip(encoder) => {
                encoder.reset();
                true
            }
            Coder::Br(_) => false,
            Coder::Zstd(context) => context.reset(ResetDirective::SessionOnly).is_ok(),
        }
    }
}

fn deflate(encoder: &mut Compress, mut payload: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> Result<(), Failed> {
    loop {
        out.reserve(ROOM);
        let (room, before) = (out.capacity() - out.len(), encoder.total_in());
        let written = out.len();
        let status = encoder.compress_vec(payload, out, flush).map_err(|_| BROKEN)?;
        // Never more than it was given.
        payload = &payload[(encoder.total_in() - before) as usize..];
        // Room left over means that nothing more wanted to come out.
        let is_dry = out.len() - written < room;
        match status {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError if !payload.is_empty() => {}
            Status::Ok | Status::BufError if matches!(flush, FlushCompress::Finish) && !is_dry => {}
            Status::Ok | Status::BufError if matches!(flush, FlushCompress::Finish) => return Err(BROKEN),
            Status::Ok | Status::BufError if is_dry => return Ok(()),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Payload bytes after which a block is ended. Each costs a few bytes; longer ones would be held whole.
const BLOCK: usize = 32 * 1024;

impl Brotli {
    fn new(level: u32) -> Self {
        let mut encoder = BrotliEncoderStateStruct::new(StandardAlloc::default());
        // Quality 4 has little over 3 in blocks this short. At 5 the tables alone take a MiB; pages of some hundred KiB
        // become a tenth smaller with it, while longer answers lose more by the short window than they gain.
        let quality = match level {
            ..=2 => 2,
            3..=5 => 3,
            _ => 5,
        };
        // Both are read at the first byte and in their range, so they are never refused.
        encoder.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, quality);
        encoder.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, 17);
        Brotli { encoder, block: 0 }
    }

    fn push(&mut self, mut payload: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        while !payload.is_empty() {
            let (now, later) = payload.split_at(payload.len().min(BLOCK - self.block));
            self.run(now, BrotliEncoderOperation::BROTLI_OPERATION_PROCESS, out)?;
            self.block += now.len();
            payload = later;
            if self.block == BLOCK {
                self.cut(out)?;
            }
        }
        Ok(())
    }

    fn cut(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        self.block = 0;
        self.run(&[], BrotliEncoderOperation::BROTLI_OPERATION_FLUSH, out)
    }

    fn run(&mut self, payload: &[u8], operation: BrotliEncoderOperation, out: &mut Vec<u8>) -> Result<(), Failed> {
        let (mut left, mut at) = (payload.len(), 0);
        loop {
            let encoder = &mut self.encoder;
            // No output is offered a place here; it is taken below without another copy.
            let ran = encoder.compress_stream(
                operation,
                &mut left,
                payload,
                &mut at,
                &mut 0,
                &mut [],
                &mut 0,
                &mut None,
                &mut |_, _, _, _| {},
            );
            if !ran {
                return Err(BROKEN);
            }
            let progressed = encoder.has_more_output();
            while encoder.has_more_output() {
                let mut size = 0;
                let ready = encoder.take_output(&mut size);
                out.extend_from_slice(&ready[..size]);
            }
            let is_last = operation == BrotliEncoderOperation::BROTLI_OPERATION_FINISH;
            if left == 0 && (encoder.is_finished() || !is_last && !progressed) {
                return Ok(());
            }
            if left == 0 && !progressed {
                return Err(BROKEN);
            }
        }
    }
}

/// A window of 64 KiB: with twice that, blocks of twice the size alone go over a MiB.
fn zstd(level: u32) -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    let parameters = [
        CParameter::CompressionLevel(level as i32),
        CParameter::WindowLog(16),
        CParameter::HashLog(15),
        CParameter::ChainLog(15),
    ];
    for parameter in parameters {
        context.set_parameter(parameter).ok()?;
    }
    Some(context)
}

fn run_zstd(
    context: &mut CCtx<'static>,
    payload: &[u8],
    directive: ZSTD_EndDirective,
    out: &mut Vec<u8>,
) -> Result<(), Failed> {
    let mut input = InBuffer::around(payload);
    loop {
        out.reserve(ROOM);
        let written = out.len();
        let mut output = OutBuffer::around_pos(out, written);
        let left = context.compress_stream2(&mut output, &mut input, directive).map_err(|_| OUT_OF_MEMORY)?;
        let is_done = match directive {
            ZSTD_EndDirective::ZSTD_e_continue => input.pos() == payload.len(),
            ZSTD_EndDirective::ZSTD_e_flush | ZSTD_EndDirective::ZSTD_e_end => left == 0,
        };
        if is_done {
            return Ok(());
        }
    }
}

/// A worker's compressors: making one costs up to 0.2 ms for clearing its tables, to use one again costs microseconds.
#[derive(Default)]
pub struct Compressors {
    spare: Vec<Compressor>,
}

const SPARE: usize = limits::SPARE_COMPRESSORS.value as usize;

impl Compressors {
    /// One for a new stream.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn take(&mut self, coding: Coding, level: u32) -> Result<Compressor, Failed> {
        let level = level.clamp(1, 9);
        let fits = |spare: &Compressor| spare.coding == coding && spare.level == level;
        match self.spare.iter().rposition(fits) {
            Some(position) => Ok(self.spare.remove(position)),
            None => Compressor::new(coding, level),
        }
    }

    /// Takes one back, finished or not. The one unused for longest goes when there are too many, so that those of
    /// an old level go too.
    pub fn give_back(&mut self, mut compressor: Compressor) {
        if compressor.reset() {
            self.spare.push(compressor);
            if self.spare.len() > SPARE {
                self.spare.remove(0);
            }
        }
    }

    pub fn spare(&self) -> usize {
        self.spare.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zstd_stream_stays_under_a_mebibyte_at_every_level() {
        for level in 1..=9 {
            let mut context = zstd(level).expect("memory");
            let mut out = Vec::new();
            let text: Vec<u8> = (0..100_000_u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
            run_zstd(&mut context, &text, ZSTD_EndDirective::ZSTD_e_continue, &mut out).expect("pushed");
            assert!(context.sizeof() < 1 << 20, "level {level}: {}", context.sizeof());
        }
    }

    #[test]
    fn brotli_never_holds_more_than_a_block() {
        let mut compressor = Compressor::new(Coding::Br, 5).expect("memory");
        let mut out = Vec::new();
        compressor.push(&vec![b'x'; BLOCK - 1], &mut out).expect("pushed");
        assert!(out.is_empty(), "it is still filling");
        compressor.push(b"xy", &mut out).expect("pushed");
        assert!(!out.is_empty(), "the block was full");
        let Coder::Br(brotli) = &compressor.coder else { panic!("brotli") };
        assert_eq!(brotli.block, 1);
    }
}
