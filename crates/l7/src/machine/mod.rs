//! The parts of HTTP forwarding that decide: what a request owes its backend, what may be tried again,
//! whom we wait for. No sockets, no clock; told bytes, connects, failures and the time.

mod compress;
mod exchange;
mod grpc;
mod line;
mod patience;
mod retry;
mod wait;

pub use compress::{Compressor, Compressors, Failed};
pub use exchange::{Begun, Exchange, Stage};
pub use grpc::{GrpcStatus, answer_type, is_grpc, write_message};
pub use line::Line;
pub use patience::Patience;
pub use retry::{Failure, Retry, Tried};
pub use wait::{LINGER, Timeouts, Wait};
