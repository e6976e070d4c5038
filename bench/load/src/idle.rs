//! Holds many connections that do nothing, so that somebody can look at what they cost.
//!
//! Each asks once when it is new and once more at the end, and both times the answer has to be its own. So a
//! connection that the proxy has given up, or never took to a backend, is not counted as held.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const MESSAGE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// Says `ready` and the number of good connections as a line of JSON, waits for a line, asks all again and says the same.
pub fn run(target: SocketAddr, connections: usize) -> Result<(), String> {
    let mut held = Vec::with_capacity(connections);
    let mut problems = Vec::new();
    for number in 0..connections {
        let opened = TcpStream::connect_timeout(&target, PATIENCE).and_then(|mut stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(&mut stream, number as u64)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => held.push(stream),
            Err(error) => problems.push(format!("connection {number}: {error}")),
        }
        if problems.len() > 10 {
            break;
        }
    }
    tell(held.len(), &problems);
    std::io::stdin().lock().read_line(&mut String::new()).map_err(|error| error.to_string())?;
    let mut good = 0;
    for (number, stream) in held.iter_mut().enumerate() {
        match exchange(stream, (connections + number) as u64) {
            Ok(()) => good += 1,
            Err(error) => problems.push(format!("a held connection: {error}")),
        }
    }
    tell(good, &problems);
    Ok(())
}

fn exchange(stream: &mut TcpStream, serial: u64) -> std::io::Result<()> {
    let mut message = [0; MESSAGE];
    for piece in message.chunks_exact_mut(8) {
        piece.copy_from_slice(&serial.to_le_bytes());
    }
    stream.write_all(&message)?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer)?;
    if answer == message { Ok(()) } else { Err(std::io::Error::new(ErrorKind::InvalidData, "wrong bytes came back")) }
}

fn tell(good: usize, problems: &[String]) {
    let first = problems.first().map_or("null".to_owned(), |text| format!("{text:?}"));
    println!("{{\"good\": {good}, \"errors\": {}, \"first_error\": {first}}}", problems.len());
}
