//! Moves bytes and tells the time behind one narrow interface; decides nothing.
//!
//! Called by the data plane rooms and the prober. It promises edge-triggered readiness with the same
//! meaning from every driver, and it will never look into the bytes.

mod clock;
mod datagrams;
mod driver;
pub mod epoll;
pub mod errno;
pub mod sim;
mod wheel;

pub use clock::Clock;
pub use datagrams::Batch;
pub use driver::{
    Close, Dial, Driver, Errno, Event, Handshake, Life, ListenOptions, Recv, RecvMany, Send, SendMany, Sock, Source,
    TcpOptions, Token, WOKEN,
};
pub use wheel::Wheel;
