//! What goes through a compressor comes out of every decoder of its coding, however it was cut and flushed.
//!
//! Decoders are those of the same crates, and the command line tools where they are installed, because a crate may well
//! understand its own mistakes.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use evenkeel_l7::machine::{Compressor, Compressors};
use evenkeel_plan::Coding;

/// Text with repetitions near and far, then bytes without any.
fn payload(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut payload = Vec::with_capacity(length);
    while payload.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if payload.len() < length * 3 / 4 {
            payload.extend_from_slice(format!("<li class=\"item\">number {}</li>\n", state >> 54).as_bytes());
        } else {
            payload.extend_from_slice(&state.to_le_bytes());
        }
    }
    payload.truncate(length);
    payload
}

/// As much as can be read of a stream that may go on.
fn decode(coding: Coding, coded: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; 1 << 22];
    let length = match coding {
        Coding::Gzip => {
            let mut decoder = flate2::Decompress::new_gzip(15);
            decoder.decompress(coded, &mut payload, flate2::FlushDecompress::None).expect("good gzip");
            decoder.total_out() as usize
        }
        Coding::Br => {
            let mut decoder = brotli::Decompressor::new(coded, 4096);
            let mut at = 0;
            // An unfinished stream ends in an error behind all that could be read.
            while let Ok(read @ 1..) = decoder.read(&mut payload[at..]) {
                at += read;
            }
            at
        }
        Coding::Zstd => {
            let mut context = zstd_safe::DCtx::create();
            let mut input = zstd_safe::InBuffer::around(coded);
            let mut output = zstd_safe::OutBuffer::around(payload.as_mut_slice());
            while input.pos() < coded.len() {
                context.decompress_stream(&mut output, &mut input).expect("good zstd");
            }
            output.pos()
        }
    };
    payload.truncate(length);
    payload
}

fn compress(compressor: &mut Compressor, payload: &[u8], piece: usize, flushed: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in payload.chunks(piece) {
        compressor.push(piece, &mut out).expect("pushed");
        if flushed {
            compressor.flush(&mut out).expect("flushed");
        }
    }
    compressor.finish(&mut out).expect("finished");
    out
}

#[test]
fn every_coding_gives_back_what_went_in_however_it_was_cut() {
    for coding in Coding::ALL {
        for level in [1, 5, 6, 9] {
            for (length, piece) in [(0, 1), (1, 1), (5000, 7), (32_768, 32_768), (300_000, 9_999), (1_000_000, 262_144)]
            {
                for flushed in [false, true] {
                    let payload = payload(length);
                    let mut compressor = Compressor::new(coding, level).expect("memory");
                    let coded = compress(&mut compressor, &payload, piece, flushed);
                    assert!(decode(coding, &coded) == payload, "{coding:?} {level} {length} {piece} {flushed}");
                    if !flushed && length > 1 {
                        assert!(coded.len() < length * 2 / 3, "{coding:?} {level}: {} of {length}", coded.len());
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_pushed_can_be_read_once_it_is_flushed() {
    for coding in Coding::ALL {
        let payload = payload(100_000);
        let mut compressor = Compressor::new(coding, 5).expect("memory");
        let (mut out, mut pushed) = (Vec::new(), 0);
        for size in [10, 1, 40_000, 32_768, 5] {
            compressor.push(&payload[pushed..pushed + size], &mut out).expect("pushed");
            pushed += size;
            compressor.flush(&mut out).expect("flushed");
            assert!(decode(coding, &out) == payload[..pushed], "{coding:?} after {pushed}");
            let length = out.len();
            compressor.flush(&mut out).expect("flushed");
            assert_eq!(out.len(), length, "{coding:?}: a flush of nothing writes nothing");
        }
    }
}

#[test]
fn a_compressor_given_back_in_mid_stream_remembers_nothing() {
    let mut compressors = Compressors::default();
    let payload = payload(50_000);
    for coding in Coding::ALL {
        let mut first = compressors.take(coding, 5).expect("memory");
        let fresh = compress(&mut first, &payload, 5000, false);
        compressors.give_back(first);
        let mut broken_off = compressors.take(coding, 5).expect("memory");
        broken_off.push(&payload[..7000], &mut Vec::new()).expect("pushed");
        compressors.give_back(broken_off);
        let mut again = compressors.take(coding, 5).expect("memory");
        assert_eq!(compress(&mut again, &payload, 5000, false), fresh, "{coding:?}");
        compressors.give_back(again);
    }
    // Brotli's are not kept: that crate cannot begin anew.
    assert_eq!(compressors.spare(), 2);
    let other_level = compressors.take(Coding::Gzip, 6).expect("memory");
    assert_eq!(compressors.spare(), 2, "one of another level is another one");
    compressors.give_back(other_level);
    for _ in 0..20 {
        compressors.give_back(Compressor::new(Coding::Gzip, 1).expect("memory"));
    }
    assert_eq!(compressors.spare(), 8);
}

/// What `tool` makes of the coded bytes, `None` when it is not installed.
fn decoded_by(tool: &str, coded: &[u8]) -> Option<Vec<u8>> {
    let command = Command::new(tool).arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = command.ok()?;
    let mut stdin = child.stdin.take().expect("piped");
    let coded = coded.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&coded));
    let output = child.wait_with_output().expect("the tool's output");
    writer.join().expect("no panic").expect("the tool reads all");
    assert!(output.status.success(), "{tool}");
    Some(output.stdout)
}

#[test]
fn other_peoples_decoders_understand_us() {
    let payload = payload(200_000);
    for (coding, tool) in [(Coding::Gzip, "gzip"), (Coding::Br, "brotli"), (Coding::Zstd, "zstd")] {
        let mut compressor = Compressor::new(coding, 5).expect("memory");
        let coded = compress(&mut compressor, &payload, 20_000, true);
        match decoded_by(tool, &coded) {
            Some(decoded) => assert!(decoded == payload, "{tool}"),
            None => eprintln!("{tool} is not installed; only our crate's decoder was asked"),
        }
    }
}
