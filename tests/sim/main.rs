//! The serving code itself, in a network that exists only in memory.
//!
//! What runs here is the worker that ships, on the simulated driver: virtual clients send requests good and bad,
//! virtual backends answer well, badly or not at all, and the network delays, cuts, resets and swallows. Every
//! request and every answer says whose it is, so that one byte in the wrong place shows.
//!
//! Each test walks many seeds. A failure names its seed; `SIM_SEED=n cargo test --test sim name` shows it again,
//! to the last byte, or with TLS to the size of every packet (see `certificates`). `SIM_SEEDS=10` walks ten times as many.
//!
//! | file | question it answers |
//! |---|---|
//! | `world` | how the worker is put together, and what must hold when all is at rest |
//! | `book` | what was meant: each request, and what a backend is to do about it |
//! | `generate` | which stories there are |
//! | `client`, `backend` | the peers |
//! | `voice`, `line`, `trunk` | what peers speak over: connections, TLS, streams of HTTP/2 |
//! | `certificates` | who is who in TLS, and why its randomness changes no story |
//! | `hello` | what a client of TLS says first |
//! | `http1` | a second, naive reader of HTTP, so that the code under test does not judge itself |
//! | `check` | do clients, backends and outcomes tell the same |
//! | `http`, `secured`, `reload`, `tcp`, `tcp_stories`, `stories`, `mixed`, `named` | the tests |

mod backend;
mod book;
mod certificates;
mod check;
mod client;
mod generate;
mod hello;
mod http;
mod http1;
mod line;
mod mixed;
mod named;
mod reload;
mod secured;
mod stories;
mod tcp;
mod tcp_stories;
mod trunk;
mod udp;
mod udp_stories;
mod voice;
mod world;

/// The seeds of a test: `usual` of them, times `SIM_SEEDS`.
fn count(usual: usize) -> Vec<u64> {
    let times: usize = std::env::var("SIM_SEEDS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    evenkeel_reactor::sim::seeds(usual * times)
}
