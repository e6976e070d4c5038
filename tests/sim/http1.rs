//! A second reader of HTTP/1, written naively and byte by byte, so that the code under test is not judged by its own
//! parser.

use std::fmt;

#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    pub fn has(&self, name: &str, token: &str) -> bool {
        self.fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .any(|(_, value)| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    }

    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    pub fn is_final(&self) -> bool {
        let status = self.status();
        status >= 200 || status == 101
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Nothing,
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    pub fn of_request(head: &Head) -> Framing {
        if head.has("transfer-encoding", "chunked") {
            Framing::Chunked
        } else {
            head.number("content-length").map_or(Framing::Nothing, |length| Framing::Length(length as usize))
        }
    }

    pub fn of_answer(head: &Head, to_head: bool) -> Framing {
        let status = head.status();
        if to_head || status < 200 || status == 204 || status == 304 {
            Framing::Nothing
        } else if head.has("transfer-encoding", "chunked") {
            Framing::Chunked
        } else {
            head.number("content-length").map_or(Framing::UntilClose, |length| Framing::Length(length as usize))
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Message {
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// Whether the one trailer of the stories is there, and nothing else.
    pub fn has_sum(&self, id: u64) -> bool {
        matches!(&self.trailers[..], [(name, value)] if name.eq_ignore_ascii_case("x-sum") && *value == id.to_string())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    Size,
    Data(usize),
    DataEnd,
    Trailers,
    UntilClose,
    Broken,
}

/// What one byte brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// The head is whole, and more follows.
    Head,
    /// The message is whole.
    Done,
}

pub struct Reader {
    state: State,
    line: Vec<u8>,
    pub message: Message,
    /// The head of `message` is whole.
    pub begun: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Reader { state: State::Head, line: Vec::new(), message: Message::default(), begun: false }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {:?} of {:?}", self.state, self.message.body.len(), self.message.head.start)
    }
}

impl Reader {
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// The message that `Done` spoke of; the next byte begins another.
    pub fn take(&mut self) -> Message {
        std::mem::take(self).message
    }

    pub fn feed(&mut self, byte: u8, framing: impl FnOnce(&Head) -> Framing) -> Step {
        match self.state {
            State::Head => {
                let Some(line) = self.line(byte) else { return Step::Nothing };
                if !line.is_empty() {
                    self.head_line(&line);
                    return Step::Nothing;
                }
                self.begun = true;
                self.state = match framing(&self.message.head) {
                    Framing::Nothing | Framing::Length(0) => return Step::Done,
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => State::Size,
                    Framing::UntilClose => State::UntilClose,
                };
                return Step::Head;
            }
            State::Length(left) => {
                self.message.body.push(byte);
                if left == 1 {
                    return Step::Done;
                }
                self.state = State::Length(left - 1);
            }
            State::Size => {
                let Some(line) = self.line(byte) else { return Step::Nothing };
                let digits = line.split(';').next().unwrap_or_default();
                self.state = match usize::from_str_radix(digits, 16) {
                    Ok(0) => State::Trailers,
                    Ok(size) => State::Data(size),
                    Err(_) => State::Broken,
                };
            }
            State::Data(left) => {
                self.message.body.push(byte);
                self.state = if left == 1 { State::DataEnd } else { State::Data(left - 1) };
            }
            State::DataEnd => {
                let Some(line) = self.line(byte) else { return Step::Nothing };
                self.state = if line.is_empty() { State::Size } else { State::Broken };
            }
            State::Trailers => {
                let Some(line) = self.line(byte) else { return Step::Nothing };
                let Some((name, value)) = line.split_once(':') else { return Step::Done };
                self.message.trailers.push((name.to_owned(), value.trim().to_owned()));
            }
            State::UntilClose => self.message.body.push(byte),
            State::Broken => {}
        }
        Step::Nothing
    }

    /// A whole line without its CRLF.
    fn line(&mut self, byte: u8) -> Option<String> {
        self.line.push(byte);
        if byte != b'\n' {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        Some(String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap_or(&line)).into_owned())
    }

    fn head_line(&mut self, line: &str) {
        let head = &mut self.message.head;
        if head.start.is_empty() {
            head.start = line.to_owned();
        } else if let Some((name, value)) = line.split_once(':') {
            head.fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}
