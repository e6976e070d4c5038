//! How words and sockets cross from one process to the other.
//!
//! A document is its length and its bytes; sockets follow in messages of one byte. Words of the conversation are lines.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Sockets in one message. Linux takes 253.
const AT_ONCE: usize = 128;

/// More than the state of 100,000 backends.
const LARGEST: u64 = 1 << 30;

/// # Errors
/// When the other process has gone, or does not read.
pub fn send(stream: &mut UnixStream, document: &str, sockets: &[OwnedFd]) -> io::Result<()> {
    stream.write_all(&(document.len() as u64).to_be_bytes())?;
    stream.write_all(document.as_bytes())?;
    for some in sockets.chunks(AT_ONCE) {
        let files: Vec<_> = some.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::Error::other("no room for the sockets of one message"));
        }
        sendmsg(&*stream, &[IoSlice::new(b"s")], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// `count` says how many sockets belong to a document.
///
/// # Errors
/// When the other process has gone, or says what it should not.
pub fn receive(
    stream: &mut UnixStream,
    count: impl FnOnce(&str) -> Result<usize, String>,
) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > LARGEST {
        return Err(io::Error::other("the other process says something endless"));
    }
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes)?;
    let document = String::from_utf8(bytes).map_err(io::Error::other)?;
    let wanted = count(&document).map_err(io::Error::other)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    while sockets.len() < wanted {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let got = recvmsg(&*stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = sockets.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                sockets.extend(files);
            }
        }
        if sockets.len() == before {
            // The kernel leaves those out that we may not have.
            return Err(io::Error::other("a message came without its sockets; is the file limit lower than before?"));
        }
    }
    Ok((document, sockets))
}

/// # Errors
/// When the other process has gone.
pub fn say(stream: &mut UnixStream, word: &str) -> io::Result<()> {
    stream.write_all(format!("{word}\n").as_bytes())
}

/// Waits for one word; a byte at a time, so that nothing of the next is taken.
///
/// # Errors
/// When the other process has gone, says another word, or nothing in time.
pub fn hear(stream: &mut UnixStream, word: &str) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > 64 {
            break;
        }
    }
    if line.trim_ascii_end() == word.as_bytes() {
        return Ok(());
    }
    Err(io::Error::other(format!("heard {:?} instead of \"{word}\"", String::from_utf8_lossy(&line))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn sockets_cross_in_their_order_however_many_there_are() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let listeners: Vec<std::net::TcpListener> =
            (0..AT_ONCE * 2 + 7).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let sockets: Vec<OwnedFd> = listeners.into_iter().map(OwnedFd::from).collect();
        let count = sockets.len();
        let sender = std::thread::spawn(move || {
            send(&mut here, "what they are", &sockets).unwrap();
            say(&mut here, "go").unwrap();
        });
        let (document, sockets) = receive(&mut there, |_| Ok(count)).unwrap();
        hear(&mut there, "go").unwrap();
        sender.join().unwrap();
        assert_eq!(document, "what they are");
        let crossed: Vec<u16> =
            sockets.into_iter().map(|fd| std::net::TcpListener::from(fd).local_addr().unwrap().port()).collect();
        assert_eq!(crossed, ports);
    }

    #[test]
    fn whoever_goes_in_the_middle_or_says_something_else_is_an_error() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        send(&mut here, "one socket", &[OwnedFd::from(File::open("/dev/null").unwrap())]).unwrap();
        drop(here);
        assert!(receive(&mut there, |_| Ok(2)).is_err());
        let (mut here, mut there) = UnixStream::pair().unwrap();
        say(&mut here, "stop").unwrap();
        assert!(hear(&mut there, "go").unwrap_err().to_string().contains("stop"));
        here.write_all(&u64::MAX.to_be_bytes()).unwrap();
        assert!(receive(&mut there, |_| Ok(0)).is_err());
    }
}
