//! Reads one HTTP/1.1 answer and says when it is whole, and whether it is the one that was asked for.
//!
//! Knows only what the backends of the bench send: a status line, a Content-Length, a body. Whatever else comes is an
//! error, so that a proxy cannot be fast by answering something shorter.

pub struct Answer {
    bytes: Vec<u8>,
    /// Where the body begins, once the head is whole.
    body_at: Option<usize>,
    expected: usize,
}

impl Answer {
    pub fn expecting(body_length: usize) -> Self {
        Self { bytes: Vec::with_capacity(body_length + 1024), body_at: None, expected: body_length }
    }

    pub fn reset(&mut self) {
        self.bytes.clear();
        self.body_at = None;
    }

    /// Takes what was read; true when the answer is whole and right.
    pub fn take(&mut self, read: &[u8]) -> Result<bool, String> {
        self.bytes.extend_from_slice(read);
        let body_at = match self.body_at {
            Some(known) => known,
            None => {
                let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
                self.judge_head(end)?;
                self.body_at = Some(end + 4);
                end + 4
            }
        };
        let body = self.bytes.len() - body_at;
        if body > self.expected {
            return Err(format!("{body} bytes of body where {} were announced", self.expected));
        }
        Ok(body == self.expected)
    }

    fn judge_head(&self, end: usize) -> Result<(), String> {
        let head = String::from_utf8_lossy(&self.bytes[..end]).to_ascii_lowercase();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("http/1.1 200") {
            return Err(format!("the answer is {status:?}"));
        }
        let length = lines.filter_map(|line| line.strip_prefix("content-length:")).next().map(str::trim);
        if length != Some(&self.expected.to_string()) {
            return Err(format!("content-length is {length:?}, not {}", self.expected));
        }
        Ok(())
    }
}

pub fn request(path: &str, host: &str, connection: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn an_answer_in_single_bytes_is_whole_with_its_last_one() {
        let mut answer = Answer::expecting(5);
        for (place, byte) in WHOLE.iter().enumerate() {
            assert_eq!(answer.take(&[*byte]), Ok(place + 1 == WHOLE.len()));
        }
    }

    #[test]
    fn other_statuses_lengths_and_bytes_behind_the_end_are_errors() {
        let wrong: [&[u8]; 4] = [
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!",
        ];
        for bytes in wrong {
            assert!(Answer::expecting(5).take(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
