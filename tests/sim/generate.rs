//! Draws stories: requests good and bad, what backends do about them, how clients behave.

use std::time::Duration;

use evenkeel_reactor::sim::{Dice, Faults, Segments};

use crate::book::{After, Answer, Ends, Form, Framed, Reply, Request, Shared, chunked, pattern};
use crate::client::{Leaves, Pace, Script};

/// What may be in a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Well-formed requests, backends that answer, clients that stay: everything must succeed.
    Kind,
    /// Anything.
    Rough,
}

/// How large things may be so that a run over a network of single bytes still ends soon.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub body: u64,
    pub rare: u64,
}

impl Sizes {
    pub fn for_network(faults: &Faults) -> Sizes {
        let narrow = faults.send_buffer.min(faults.receive_window);
        if faults.segments == Segments::OneByte || narrow < 100 {
            Sizes { body: 120, rare: 300 }
        } else if narrow < 4096 {
            Sizes { body: 600, rare: 3000 }
        } else {
            Sizes { body: 3000, rare: 400_000 }
        }
    }
}

pub struct Generator<'a> {
    pub dice: &'a mut Dice,
    pub book: &'a Shared,
    pub temper: Temper,
    pub sizes: Sizes,
    pub next_id: u64,
    /// One request for a stream of HTTP/2, which can only say what its codec can write.
    pub for_stream: bool,
}

impl Generator<'_> {
    fn one_in(&mut self, n: u64) -> bool {
        self.dice.below(n) == 0
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.dice.below(most + 1))
    }

    /// Mostly no delay at all.
    fn sometimes(&mut self, most: u64) -> Duration {
        if self.one_in(3) { self.millis(most) } else { Duration::ZERO }
    }

    fn size(&mut self) -> usize {
        let most = match self.dice.below(20) {
            0..=4 => 0,
            5 => self.sizes.rare,
            _ => self.sizes.body,
        };
        self.dice.below(most + 1) as usize
    }

    pub fn script(&mut self) -> Script {
        let rough = self.temper == Temper::Rough;
        let count = if self.for_stream { 1 } else { 1 + self.dice.below(4) };
        let mut requests = Vec::new();
        for position in 1..=count {
            requests.push(self.request(position == count));
        }
        let pace = if self.one_in(2) { Pace::Pipelined } else { Pace::OneByOne(self.sometimes(3000)) };
        let leaves = match self.dice.below(10) {
            0 if rough => Leaves::Never,
            1 | 2 if rough => Leaves::Early { after: self.millis(3000), reset: self.one_in(2) },
            3 if rough => Leaves::HalfClosed,
            4 if rough => Leaves::Silent { thousandths: self.dice.below(1000) },
            5 => Leaves::Never,
            _ => Leaves::Content,
        };
        Script {
            requests,
            pace,
            leaves,
            start: self.sometimes(500),
            piece: self.dice.pick(&[1, 5, 50, 1_000_000, 1_000_000, 1_000_000]),
            gap: self.sometimes(5),
            deaf: if self.one_in(6) { self.millis(2000) } else { Duration::ZERO },
        }
    }

    /// Writes a request into the book. Some kinds can only be the last of their connection.
    fn request(&mut self, last: bool) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let rough = self.temper == Temper::Rough;
        let form = if rough && !self.for_stream && self.one_in(12) {
            if self.one_in(2) { Form::BadHead } else { Form::BadBody }
        } else {
            Form::Good
        };
        let request = match form {
            Form::Good if last && self.one_in(6) => self.upgrade(id),
            Form::Good => self.good(id, last),
            Form::BadHead => self.bad_head(id),
            Form::BadBody => self.bad_body(id),
        };
        self.book.borrow_mut().requests.insert(id, request);
        id
    }

    fn good(&mut self, id: u64, last: bool) -> Request {
        let method =
            self.dice.pick(&["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]);
        let http10 = !self.for_stream && self.one_in(6);
        let has_body = matches!(method, "POST" | "PUT" | "PATCH");
        let body = if has_body {
            let size = self.size();
            pattern(id, 1, size)
        } else {
            Vec::new()
        };
        let is_chunked = has_body && !http10 && self.one_in(2);
        let trailer = is_chunked && self.one_in(3);
        let expects = last && !http10 && !body.is_empty() && self.one_in(4);
        let mut head = format!("{method} /r{id} HTTP/1.{}\r\nHost: h{id}.example\r\nX-Id: {id}\r\n", u8::from(!http10));
        if is_chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if has_body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        if expects {
            head.push_str("Expect: 100-continue\r\n");
        }
        match (http10, self.dice.below(4)) {
            // Who says that this is all and goes on sending has itself to blame.
            (true, roll) if roll < 2 || (!last && self.temper == Temper::Kind) => {
                head.push_str("Connection: keep-alive\r\n")
            }
            (false, 0) if last => head.push_str("Connection: close\r\n"),
            _ => {}
        }
        head.push_str("\r\n");
        let mut wire = head.into_bytes();
        let head_len = wire.len();
        if is_chunked {
            let piece = 1 + self.dice.below(body.len() as u64 + 1) as usize;
            let field = trailer.then(|| format!("X-Sum: {id}"));
            wire.extend_from_slice(&chunked(&body, piece.max(body.len() / 40), field.as_deref()));
        } else {
            wire.extend_from_slice(&body);
        }
        let reply = self.reply(id, last && has_body && !expects);
        Request { method, http10, form: Form::Good, wire, head_len, body, trailer, expects, upgrade: None, reply }
    }

    fn upgrade(&mut self, id: u64) -> Request {
        let wire = format!(
            "GET /r{id} HTTP/1.1\r\nHost: h{id}.example\r\nX-Id: {id}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ZXZlbmtlZWwtdHVubmVsIQ==\r\n\r\n"
        )
        .into_bytes();
        let (theirs, ours) = (self.size(), self.size());
        let reply = match self.reply(id, false) {
            // Some garbage would be a proper answer here.
            Reply::Garbage(_) => Reply::Ends(Ends::Fin),
            Reply::Answer(answer) if self.one_in(4) => Reply::Answer(refusing(answer)),
            Reply::EndsOnce(ends, answer) if self.one_in(4) => Reply::EndsOnce(ends, refusing(answer)),
            other @ (Reply::Ends(_) | Reply::Never) if self.one_in(4) => other,
            _ => Reply::Switch(pattern(id, 3, theirs)),
        };
        let upgrade = matches!(reply, Reply::Switch(_)).then(|| pattern(id, 4, ours));
        Request {
            method: "GET",
            http10: false,
            form: Form::Good,
            head_len: wire.len(),
            wire,
            body: Vec::new(),
            trailer: false,
            expects: false,
            upgrade,
            reply,
        }
    }

    fn bad_head(&mut self, id: u64) -> Request {
        let good = format!("X-Id: {id}\r\nHost: a.example\r\n");
        let (line, fields, body) = self.dice.pick(&[
            ("HTTP/1.1", "Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
            ("HTTP/1.1", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            ("HTTP/1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("HTTP/1.0", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("HTTP/1.1", "Content-Length: +3\r\n", "abc"),
            ("HTTP/1.1", "Host: b.example\r\n", ""),
            ("HTTP/1.1", "X-Space : 1\r\n", ""),
            ("HTTP/1.1", "X-Fold: 1\r\n 2\r\n", ""),
            ("HTTP/1.1", "X-Bare: 1\n", ""),
            ("HTTP/2.0", "", ""),
        ]);
        let head = format!("POST /r{id} {line}\r\n{good}{fields}\r\n");
        self.bad(id, Form::BadHead, head, body.as_bytes())
    }

    fn bad_body(&mut self, id: u64) -> Request {
        let head =
            format!("POST /r{id} HTTP/1.1\r\nHost: a.example\r\nX-Id: {id}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let body = self.dice.pick(&[
            &b"3\r\nabcd\r\n0\r\n\r\n"[..],
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"xyz\r\nabc\r\n0\r\n\r\n",
            b"5\r\nabcde\r\nfffffffffffffffff\r\n",
            b"1\r\na\r\n\r\n",
        ]);
        self.bad(id, Form::BadBody, head, body)
    }

    fn bad(&mut self, id: u64, form: Form, head: String, body: &[u8]) -> Request {
        let mut wire = head.into_bytes();
        let head_len = wire.len();
        wire.extend_from_slice(body);
        let reply = Reply::Answer(self.answer(id, false));
        Request {
            method: "POST",
            http10: false,
            form,
            wire,
            head_len,
            body: b"no backend may see this as a whole".to_vec(),
            trailer: false,
            expects: false,
            upgrade: None,
            reply,
        }
    }

    fn reply(&mut self, id: u64, may_be_early: bool) -> Reply {
        let ends = self.dice.pick(&[Ends::Fin, Ends::Reset]);
        let rough = self.temper == Temper::Rough;
        match self.dice.below(16) {
            0 if rough => Reply::Never,
            1 if rough => Reply::Ends(ends),
            2 | 3 if rough => Reply::EndsOnce(ends, self.answer(id, false)),
            4 if rough => Reply::Garbage(self.garbage()),
            _ => Reply::Answer(self.answer(id, may_be_early)),
        }
    }

    fn garbage(&mut self) -> Vec<u8> {
        let table = [
            &b"\x16\x03\x01\x00\x00"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 101 Surprise\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 200 OK\r\nX",
            b"",
        ];
        if self.one_in(8) {
            let mut large = b"HTTP/1.1 200 OK\r\n".to_vec();
            large.extend_from_slice(&b"X-Large: 0123456789012345678901234567890123456789\r\n".repeat(30));
            return large;
        }
        self.dice.pick(&table).to_vec()
    }

    fn answer(&mut self, id: u64, may_be_early: bool) -> Answer {
        let rough = self.temper == Temper::Rough;
        let size = self.size();
        let framed =
            self.dice.pick(&[Framed::Length, Framed::Length, Framed::Chunked, Framed::Chunked, Framed::UntilClose]);
        let cut = (rough && self.one_in(6)).then(|| (self.dice.below(1000), self.dice.pick(&[Ends::Fin, Ends::Reset])));
        let after = match self.dice.below(8) {
            0 => After::Announced,
            1 | 2 if rough => After::Silent(self.millis(5000)),
            _ => After::Kept,
        };
        Answer {
            interim: self.dice.pick(&[&[][..], &[], &[103], &[103, 103], &[100]]).to_vec(),
            status: self.dice.pick(&[200, 200, 200, 201, 204, 304, 404, 500, 503]),
            framed,
            body: pattern(id, 2, size),
            trailer: self.one_in(3),
            early: may_be_early && self.one_in(4),
            delay: self.sometimes(400),
            pause: self.sometimes(400),
            cut,
            after,
        }
    }
}

/// Over HTTP/2 a tunnel that was asked for is opened by any 2xx, so who does not want it has to say so.
fn refusing(answer: Answer) -> Answer {
    let status = if answer.status < 300 { 404 } else { answer.status };
    Answer { status, ..answer }
}
