//! The nouns of the balancer: ids, time, causes, numbers, and the records the rooms hand each other.
//!
//! It decides nothing and depends on nothing but std. Every other room reads these words; a word
//! that two rooms share is defined here once and explained in `docs/lexicon.md`.

pub mod cause;
pub mod cidr;
pub mod event;
pub mod exchange;
pub mod finding;
pub mod ids;
pub mod limits;
pub mod standing;
pub mod time;

pub use cause::{Blame, Cause, Phase};
pub use cidr::{Cidr, CidrSet};
pub use ids::{BackendId, ListenerId, PoolId, TargetId};
pub use time::{Epoch, Instant};
