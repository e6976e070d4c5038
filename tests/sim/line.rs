//! A peer's end of a connection, plain or inside TLS, with the face of an [`End`].

use evenkeel_reactor::sim::End;
use evenkeel_tls::Session;

pub struct Line {
    end: End,
    tls: Option<Box<Session>>,
    plain: Vec<u8>,
    /// What came breaks TLS.
    pub broken: Option<String>,
    finishing: bool,
}

impl Line {
    pub fn new(end: End, tls: Option<Session>) -> Line {
        let mut line = Line { end, tls: tls.map(Box::new), plain: Vec::new(), broken: None, finishing: false };
        line.flush();
        line
    }

    pub fn end(&self) -> &End {
        &self.end
    }

    fn flush(&mut self) {
        let Some(session) = &mut self.tls else { return };
        let output = session.output();
        if !output.is_empty() && self.end.is_open() {
            self.end.send(output);
            let all = output.len();
            session.sent(all);
        }
        if self.finishing && !session.is_handshaking() && self.end.is_open() {
            self.finishing = false;
            self.end.finish();
        }
    }

    pub fn take(&mut self) -> Vec<u8> {
        if self.end.received_len() == 0 {
            return Vec::new();
        }
        let mut bytes = self.end.take();
        let Some(session) = &mut self.tls else { return bytes };
        if let Err(failed) = session.receive(&mut bytes, &mut self.plain) {
            self.broken.get_or_insert(format!("{failed:?}"));
        }
        self.flush();
        std::mem::take(&mut self.plain)
    }

    pub fn has_received(&self) -> bool {
        self.end.received_len() > 0
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            // After a failure nothing more can be said.
            Some(session) => {
                let _ = session.send(bytes);
                self.flush();
            }
            None => self.end.send(bytes),
        }
    }

    pub fn finish(&mut self) {
        match &mut self.tls {
            Some(session) => {
                session.close();
                self.finishing = true;
                self.flush();
            }
            None => self.end.finish(),
        }
    }

    pub fn close(&mut self) {
        if let Some(session) = &mut self.tls {
            session.close();
        }
        self.finishing = false;
        self.flush();
        self.end.close();
    }

    pub fn reset(&mut self) {
        self.end.reset();
    }

    /// The other side said that nothing more comes, in a way that nobody between could have said.
    pub fn saw_fin(&self) -> bool {
        match &self.tls {
            Some(session) => session.has_closed(),
            None => self.end.saw_fin(),
        }
    }

    /// The end came, and not in good order.
    pub fn saw_reset(&self) -> bool {
        let cut = self.tls.as_ref().is_some_and(|session| self.end.saw_fin() && !session.has_closed());
        self.end.saw_reset() || cut || self.broken.is_some()
    }
}
