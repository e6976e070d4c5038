//! A network that exists only in memory, and the driver that stands in it.
//!
//! Serving code is generic over [`crate::Driver`], so with [`SimDriver`] the code that ships runs in a
//! test: with one-byte reads, partial writes, resets and black holes at every point, and a clock
//! that jumps from one happening to the next. The same seed gives the same run, to the last byte.
//!
//! How it behaves was read off Linux, and `tests/sim` runs the same scripts against this driver and
//! against epoll and compares. What Linux does and one might not expect:
//! - a reset does not throw away bytes that wait unread; they are read first, then `ECONNRESET` once;
//! - after the other side's FIN a reset shows only in `send` (`EPIPE`), `recv` goes on saying the end;
//! - closing with unread bytes sends a reset instead of a FIN;
//! - an event carries all that is ready at that moment, not only what caused it, and `finish`
//!   causes one by itself.
//!
//! What is not modelled: retransmission of data (nothing is lost between two ends unless a black hole
//! swallowed it, and then for good), TIME_WAIT, urgent data, path MTU.
//!
//! | file | question it answers |
//! |---|---|
//! | `net` | what a test can set up, ask and break |
//! | `world` | what exists, what time it is, what happens next |
//! | `connect` | how a connection begins |
//! | `datagrams` | how datagrams travel, alone and in batches |
//! | `refusals` | how freely a host says that a port is closed |
//! | `flow` | how bytes, FIN and RST travel |
//! | `socket` | what one socket remembers and when it is ready |
//! | `driver` | the `Driver` on top of it |
//! | `peer` | clients and backends that a test plays |
//! | `run` | the loop that turns nodes and moves the clock |
//! | `faults`, `trace` | what goes wrong, what was seen |

mod connect;
mod datagrams;
mod driver;
mod faults;
mod flow;
mod net;
mod peer;
mod refusals;
mod run;
mod socket;
mod trace;
mod world;

pub use driver::{SimDriver, SimWaker};
pub use faults::{Chance, Dice, Faults, Segments, Strike};
pub use net::{DriverId, Net, OpenSocket, Totals, Way};
pub use peer::{Backend, End, UdpService};
pub use refusals::Refuses;
pub use run::{Ended, Node, run, seeds};
pub use trace::{Fact, Mark};
