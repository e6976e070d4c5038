//! Moves bytes and tells the time behind one narrow interface; decides nothing.
//!
//! Called by the data plane rooms and the prober. It promises edge-triggered readiness with the same
//! meaning from every driver, and it will never look into the bytes.

mod clock;
mod driver;
pub mod epoll;
pub mod errno;
pub mod sim;
mod wheel;

pub use clock::Clock;
pub use driver::{Close, Dial, Driver, Errno, Event, Handshake, Recv, Send, Sock, Source, TcpOptions, Token, WOKEN};
pub use wheel::Wheel;
