//! The bytes of HTTP/1.1: what a head says, where a body ends, and what is passed on. And what is read before bytes
//! are merely relayed: a PROXY header, the ClientHello of TLS, the connection ids of QUIC.
//!
//! Decides one thing: how a message is delimited, or that it is not safe to say. Called by the L7
//! engine for both directions, and by the L4 engine for what comes first. Promises that an accepted message has exactly one reading under RFC
//! 9112, that what it writes is read the same way by any correct parser, and that feeding input in
//! other pieces never changes a result. It never guesses, repairs or picks one of two readings: a
//! balancer and a backend that read one message differently are how requests are smuggled.
//!
//! It opens no sockets and keeps no buffers; heads borrow the input they were read from.

mod address;
pub mod body;
pub mod client_hello;
pub mod cookie;
pub mod encoding;
pub mod field;
pub mod forward;
mod host;
mod message;
pub mod proxy;
pub mod quic;
pub mod request;
pub mod response;
pub mod rewrite;
mod scan;
pub mod trace_context;

pub use body::{BodyReader, Progress, is_refused_trailer};
pub use field::{FieldSlots, Fields, content_length};
pub use forward::{
    AnswerEdits, ClientCertificate, Connection, CookieMark, Forwarding, HeaderEdits, OutFraming, RequestEdits,
    ResponseEdits, TraceField, client_address, has_loop, write_request, write_request_edited, write_response,
    write_response_edited,
};
pub use host::host_fault;
pub use message::{Framing, Parsed, Refusal, Version};
pub use request::{RequestHead, parse_request};
pub use response::{Asked, ResponseHead, parse_response};
pub use rewrite::{https_location, redirect_location, rewrite_path};
