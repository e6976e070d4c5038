//! HTTP/2 as a machine: frames, HPACK, streams, flow control, for both ends of a connection.
//!
//! Each stream looks to its user like a connection that carries one HTTP/1.1 exchange: what comes out of it and goes into
//! it is HTTP/1.1 text, so that one strict parser judges all requests, however they came.
//!
//! Decides which frames may come when, what they mean for which stream, what may be sent now and by whom next. Called by the
//! L7 engine, which moves bytes between [`Connection`] and a socket or a TLS session:
//!
//! 1. what was read goes to [`Connection::receive`]; an error is the end, with GOAWAY in the output;
//! 2. [`Connection::next_event`] is asked until it is silent;
//! 3. streams are read with [`Connection::recv`], written with [`Connection::send`], and closed, each once;
//! 4. [`Connection::output`] is written out and confirmed with [`Connection::sent`]; then 2 again, as there may be room now.
//!
//! Promises that text it hands out has one reading, that a body arrives byte for byte or not as a whole message, that
//! nothing the other side sends makes it panic or hold more than `connection.rs` states, and that cuts of the input
//! change no result. It has no sockets, no clock and no queue of bodies: who cannot send now is told when it can.

mod blocks;
mod connection;
mod defence;
mod flow;
pub mod frame;
pub mod hpack;
mod receiving;
mod sending;
mod stream;
mod table;
pub mod text;

pub use connection::{Close, Connection, Event, Failure, Role, Settings};
pub use sending::SendFault;
pub use stream::{StreamId, StreamRecv};
