//! Streams in both directions at once over a few connections, and checks at both ends that they are the right streams.
//!
//! The client ends its direction; the backend, having read to that end, ends the other with a word on how many good
//! bytes it got. So bytes that were sent and never arrived are not counted, which a client alone could not tell.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bulk::{PERIOD, PIECE, byte_at};

const PATIENCE: Duration = Duration::from_secs(5);

/// The last bytes of the backend's stream: a word that the pattern does not contain, and a count.
const CLOSING: usize = 16;
const CLOSING_WORD: [u8; 8] = *b"received";

/// Writes the pattern until `enough` says so; the number of bytes written.
fn write_pattern(stream: &mut TcpStream, mut enough: impl FnMut() -> bool) -> std::io::Result<u64> {
    let pattern: Vec<u8> = (0..(PIECE + PERIOD) as u64).map(byte_at).collect();
    let mut position = 0u64;
    while !enough() {
        let phase = (position % PERIOD as u64) as usize;
        position += stream.write(&pattern[phase..phase + PIECE])? as u64;
    }
    Ok(position)
}

/// Whether both ends of a piece are what the pattern has there.
fn fits(piece: &[u8], position: u64) -> bool {
    piece.is_empty()
        || piece[0] == byte_at(position) && piece[piece.len() - 1] == byte_at(position + piece.len() as u64 - 1)
}

/// The backend's part, until the client has had enough.
pub fn serve(mut client: TcpStream) {
    let Ok(mut writing) = client.try_clone() else { return };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_pattern(&mut writing, || ended.load(Ordering::Relaxed)));
        let (mut piece, mut received) = (vec![0; PIECE], 0u64);
        let good = loop {
            match client.read(&mut piece) {
                Ok(0) => break true,
                Ok(read) if fits(&piece[..read], received) => received += read as u64,
                Ok(_) => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        ended.store(true, Ordering::Relaxed);
        if !good {
            // The writer may be waiting for a client that does not read any more.
            let _ = client.shutdown(Shutdown::Both);
        }
        if matches!(writer.join(), Ok(Ok(_))) && good {
            let closing = [CLOSING_WORD, received.to_le_bytes()].concat();
            let _ = client.write_all(&closing);
        }
    });
}

struct Done {
    bytes: u64,
    error: Option<String>,
}

pub fn run(target: SocketAddr, length: Duration, connections: usize) -> String {
    let start = Instant::now();
    let clients: Vec<_> =
        (0..connections).map(|_| std::thread::spawn(move || exchange(target, start + length))).collect();
    let done: Vec<Done> =
        clients.into_iter().map(|client| client.join().expect("a client thread has nothing that panics")).collect();
    let seconds = start.elapsed().as_secs_f64();
    let bytes: u64 = done.iter().map(|done| done.bytes).sum();
    let problems: Vec<&str> = done.iter().filter_map(|done| done.error.as_deref()).collect();
    let first = problems.first().map_or("null".to_owned(), |text| format!("{text:?}"));
    format!(
        "{{\"bytes\": {bytes}, \"seconds\": {seconds:.6}, \"errors\": {}, \"first_error\": {first}}}",
        problems.len()
    )
}

fn exchange(target: SocketAddr, end: Instant) -> Done {
    let streams = TcpStream::connect_timeout(&target, PATIENCE).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok((stream.try_clone()?, stream))
    });
    let (mut writing, mut reading) = match streams {
        Ok(streams) => streams,
        Err(error) => return Done { bytes: 0, error: Some(format!("connect: {error}")) },
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let sent = write_pattern(&mut writing, || Instant::now() >= end)?;
            writing.shutdown(Shutdown::Write)?;
            std::io::Result::Ok(sent)
        });
        let read = read_to_closing(&mut reading);
        let sent = writer.join().expect("the writer has nothing that panics");
        match (read, sent) {
            (Ok((bytes, received)), Ok(sent)) if received == sent => Done { bytes: bytes + received, error: None },
            (Ok((bytes, received)), Ok(sent)) => {
                Done { bytes, error: Some(format!("{sent} bytes were sent and {received} received")) }
            }
            (Err(error), _) => Done { bytes: 0, error: Some(error) },
            (_, Err(error)) => Done { bytes: 0, error: Some(format!("write: {error}")) },
        }
    })
}

/// Bytes of the stream, and what the backend says it received. The last bytes read are held back, since they may be
/// the closing word.
fn read_to_closing(stream: &mut TcpStream) -> Result<(u64, u64), String> {
    let (mut piece, mut held, mut position) = (vec![0; CLOSING + PIECE], 0, 0u64);
    loop {
        match stream.read(&mut piece[held..]) {
            Ok(0) => break,
            Ok(read) => {
                let stream_bytes = (held + read).saturating_sub(CLOSING);
                if !fits(&piece[..stream_bytes], position) {
                    return Err(format!("wrong byte behind {position}"));
                }
                position += stream_bytes as u64;
                piece.copy_within(stream_bytes..held + read, 0);
                held = held + read - stream_bytes;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("read: {error}")),
        }
    }
    match piece[..held].split_at_checked(8) {
        Some((word, count)) if word == CLOSING_WORD && count.len() == 8 => {
            Ok((position, u64::from_le_bytes(count.try_into().expect("eight bytes"))))
        }
        _ => Err(format!("the stream ended after {} bytes without its closing word", position + held as u64)),
    }
}
