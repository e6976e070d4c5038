//! Answers that are compressed on their way: payload out of its framing, through the compressor, into chunks of our own.
//!
//! What the backend has sent is let out whenever it pauses, so that a stream of events is not held back for the sake of
//! a better ratio.

use evenkeel_l4::{Core, Key};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::Driver;
use evenkeel_wire::encoding::{write_chunk, write_last_chunk};

use crate::answering::Next;
use crate::client::{Client, Follows};
use crate::http::Http;
use crate::machine::Failed;

/// How much of what the compressor holds is to come out now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upto {
    /// What it gives by itself.
    Ready,
    /// All that was pushed.
    Here,
    End,
}

impl Http {
    /// The same as `pass_body` for an answer that is compressed.
    pub(crate) fn pass_coded<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        mut head: Vec<u8>,
        bytes: &[u8],
        now: Instant,
    ) -> Next {
        let Some(client) = self.clients.get_mut(key) else { return Next::Stop };
        let mut payload = Vec::new();
        let (consumed, done) = match client.exchange.answer_body(bytes, &mut payload) {
            Ok(progress) => progress,
            Err(detail) => {
                let _ = client.send(&mut core.driver, &mut self.carriers, &mut head, &[], Follows::End);
                self.put_head_back(head);
                self.cut(core, key, Cause::BackendMalformedBody, Some(Detail::Text(detail)), now);
                return Next::Stop;
            }
        };
        let pausing = client.attempt.backend.and_then(|made| self.backends.get(made)).is_none_or(|made| !made.readable);
        let upto = match (done, pausing) {
            (true, _) => Upto::End,
            (false, true) => Upto::Here,
            (false, false) => Upto::Ready,
        };
        if let Err(detail) = code(client, &payload, upto, &mut head) {
            self.put_head_back(head);
            self.cut(core, key, Cause::BalancerInternal, Some(Detail::Text(detail)), now);
            return Next::Stop;
        }
        let then = if done && client.exchange.closes() { Follows::End } else { Follows::More };
        let sent = client.send(&mut core.driver, &mut self.carriers, &mut head, &[], then);
        self.put_head_back(head);
        let Some(client) = self.clients.get_mut(key) else { return Next::Stop };
        if sent.is_err() {
            self.client_gone(core, key, now);
            return Next::Stop;
        }
        if done {
            self.answer_complete(core, key, consumed < bytes.len(), now);
            return Next::Stop;
        }
        client.wait_on_exchange(now);
        Next::More
    }

    /// The end of the backend's connection was the end of the answer: what the compressor holds goes out. False when the
    /// exchange ended over it.
    pub(crate) fn finish_coded<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if client.coder.is_none() {
            return true;
        }
        let mut out = Vec::new();
        if let Err(detail) = code(client, &[], Upto::End, &mut out) {
            self.cut(core, key, Cause::BalancerInternal, Some(Detail::Text(detail)), now);
            return false;
        }
        if client.send(&mut core.driver, &mut self.carriers, &mut out, &[], Follows::More).is_err() {
            self.client_gone(core, key, now);
            return false;
        }
        true
    }
}

fn code(client: &mut Client, payload: &[u8], upto: Upto, out: &mut Vec<u8>) -> Result<(), Failed> {
    let Some(coder) = &mut client.coder else { return Ok(()) };
    let mut coded = Vec::new();
    coder.push(payload, &mut coded)?;
    match upto {
        Upto::Ready => {}
        Upto::Here => coder.flush(&mut coded)?,
        Upto::End => coder.finish(&mut coded)?,
    }
    if client.exchange.is_chunked_anew() {
        write_chunk(out, &coded);
        if upto == Upto::End {
            write_last_chunk(out, &[]);
        }
    } else {
        out.extend_from_slice(&coded);
    }
    Ok(())
}
