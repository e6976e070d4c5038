//! Answers that are compressed on their way: payload out of its framing, through the compressor, into chunks of our own.
//!
//! What the backend has sent is let out whenever it pauses, so that a stream of events is not held back for the sake of
//! a better ratio.

use evenkeel_l4::{Arena, Core, Key};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::Driver;
use evenkeel_wire::encoding::{write_chunk, write_last_chunk};

use crate::backend::Backend;
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

/// Compresses payload of the answer under way into `out`. `done`: nothing follows it.
pub(crate) fn code_body(
    client: &mut Client,
    backends: &Arena<Backend>,
    payload: &[u8],
    done: bool,
    out: &mut Vec<u8>,
) -> Result<(), Failed> {
    let pausing = client.attempt.backend.and_then(|made| backends.get(made)).is_none_or(|made| !made.readable);
    let upto = match (done, pausing) {
        (true, _) => Upto::End,
        (false, true) => Upto::Here,
        (false, false) => Upto::Ready,
    };
    code(client, payload, upto, out)
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
