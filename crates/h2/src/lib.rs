//! HTTP/2 as a machine: frames, HPACK, streams, flow control, for both ends of a connection.
//!
//! Each stream looks to its user like a connection that carries one HTTP/1.1 exchange: what comes out of it and goes into
//! it is HTTP/1.1 text, so that one strict parser judges all requests, however they came.

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
