//! HPACK (RFC 7541): header lists as a few bytes each, by tables that both sides keep alike.
//!
//! Both tables must change in step, so nothing here may be skipped or done twice: a block that was begun is decoded to its
//! end, and a block that was encoded must be sent. What a block may cost is bounded before it is spent: table,
//! list and every string are limited, and one byte of input never makes more than one field.
//!
//! It knows bytes and positions. What fields mean is judged by [`crate::text`].

mod decode;
mod encode;
mod fields;
mod huffman;
mod table;

pub use decode::{Decoded, Decoder};
pub use encode::Encoder;
pub use fields::{Field, FieldList};
