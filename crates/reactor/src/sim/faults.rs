//! What the virtual network does to those who use it, and the dice that decide when.
//!
//! Every fault can be off. A run with all of them off is still a network: it has latency and bounded
//! buffers, because code that only works without those does not work.

use std::time::Duration;

/// Random numbers that replay: `splitmix64` (Steele, Lea, Flood 2014), which needs no crate and has
/// no bad seeds.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Dice { state: seed }
    }

    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is below 2^-32 for the bounds of a test.
        self.roll().checked_rem(bound).unwrap_or(0)
    }

    pub fn happens(&mut self, chance: Chance) -> bool {
        chance.0 > 0 && self.below(1_000_000) < u64::from(chance.0)
    }

    /// Any time up to and including `longest`.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.below(nanos.saturating_add(1)))
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// How often something happens, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance(u32);

impl Chance {
    pub const NEVER: Chance = Chance(0);
    pub const ALWAYS: Chance = Chance(1_000_000);

    pub const fn per_mille(n: u32) -> Self {
        Chance(n * 1000)
    }

    pub const fn per_million(n: u32) -> Self {
        Chance(n)
    }
}

/// How a stream of bytes is cut on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// As much as the receiver's window takes.
    Whole,
    /// Each byte by itself, at its own time.
    OneByte,
    /// Anything between, by the dice.
    Random,
}

/// What a packet of data or its FIN can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// A middlebox resets both ends.
    Reset,
    /// It vanishes, as does all that follows on its connection, both ways.
    BlackHole,
}

#[derive(Clone, Debug)]
pub struct Faults {
    /// One way.
    pub latency: Duration,
    /// Added to the latency, up to this. Packets of one direction still arrive in order.
    pub jitter: Duration,
    pub segments: Segments,
    /// Bytes a node's socket takes before it is full.
    pub send_buffer: usize,
    /// Bytes that wait unread before the other side must stop sending.
    pub receive_window: usize,
    /// Connections that wait to be accepted before further SYNs are dropped.
    pub backlog: usize,
    /// Chance of a [`Strike::Reset`], for each packet of data or FIN.
    pub reset: Chance,
    /// Chance of a [`Strike::BlackHole`], likewise.
    pub black_hole: Chance,
    /// One strike at the n-th such packet of the run, counted from 0. A test that goes through all
    /// n until nothing is struck has tried every point.
    pub strike: Option<(u64, Strike)>,
    /// Chance that a SYN is lost; it is repeated after 1 s, 3 s, 7 s as Linux does.
    pub syn_loss: Chance,
    /// Chance that a datagram, or the ICMP answer to it, is lost.
    pub datagram_loss: Chance,
    /// Chance that a datagram arrives twice, each at its own time.
    pub datagram_double: Chance,
    /// Chance that a node's socket for datagrams is full; it has room again some time later.
    pub datagram_full: Chance,
    /// Chance that waiting datagrams of one size and sender are received as one packet (GRO).
    pub datagram_together: Chance,
    /// Chance, for each happening, that the nodes do not run for up to `pause_max` after it.
    pub pause: Chance,
    pub pause_max: Duration,
    /// Chance that `accept` fails for want of files. The connection stays in the queue, and no new edge
    /// tells of it.
    pub accept_error: Chance,
    /// Chance that `accept` finds that the connection died in the queue.
    pub accept_abort: Chance,
    /// Chance that `dial` or `dial_udp` fails at once: out of files or source ports.
    pub dial_error: Chance,
    /// Chance that `watch` fails for want of memory.
    pub watch_error: Chance,
    /// Chance that `send` finds that the kernel gave the connection up (`ETIMEDOUT`).
    pub send_error: Chance,
    /// Chance that a `poll` reports a part of what is ready and the rest only next time.
    pub short_poll: Chance,
    /// Chance that an event for both directions comes as two. epoll never does that; the interface
    /// allows it, and code that takes `readable: false` for "not readable" breaks on another driver.
    pub split_events: Chance,
}

impl Faults {
    /// A network that only takes time, with buffers large enough not to be met by short messages.
    pub const fn none() -> Self {
        Faults {
            latency: Duration::from_micros(100),
            jitter: Duration::ZERO,
            segments: Segments::Whole,
            send_buffer: 65_536,
            receive_window: 65_536,
            backlog: 4096,
            reset: Chance::NEVER,
            black_hole: Chance::NEVER,
            strike: None,
            syn_loss: Chance::NEVER,
            datagram_loss: Chance::NEVER,
            datagram_double: Chance::NEVER,
            datagram_full: Chance::NEVER,
            datagram_together: Chance::NEVER,
            pause: Chance::NEVER,
            pause_max: Duration::ZERO,
            accept_error: Chance::NEVER,
            accept_abort: Chance::NEVER,
            dial_error: Chance::NEVER,
            watch_error: Chance::NEVER,
            send_error: Chance::NEVER,
            short_poll: Chance::NEVER,
            split_events: Chance::NEVER,
        }
    }

    /// No failures, but every awkwardness that a healthy network may have: small buffers, odd segments,
    /// jitter, pauses. All exchanges must succeed under it.
    pub fn awkward(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x6177_6b77_6172_6421);
        Faults {
            latency: dice.pick(&[Duration::from_micros(1), Duration::from_micros(100), Duration::from_millis(40)]),
            jitter: dice.pick(&[Duration::ZERO, Duration::from_micros(50), Duration::from_millis(20)]),
            segments: dice.pick(&[Segments::Whole, Segments::OneByte, Segments::Random, Segments::Random]),
            send_buffer: dice.pick(&[1, 7, 100, 4096, 65_536]),
            receive_window: dice.pick(&[1, 5, 100, 4096, 65_536]),
            pause: dice.pick(&[Chance::NEVER, Chance::NEVER, Chance::per_mille(10)]),
            pause_max: Duration::from_millis(30),
            short_poll: dice.pick(&[Chance::NEVER, Chance::per_mille(200)]),
            split_events: dice.pick(&[Chance::NEVER, Chance::per_mille(300)]),
            datagram_full: dice.pick(&[Chance::NEVER, Chance::NEVER, Chance::per_mille(50)]),
            datagram_together: dice.pick(&[Chance::NEVER, Chance::per_mille(500), Chance::ALWAYS]),
            ..Faults::none()
        }
    }

    /// Awkwardness and failures. Each failure is on in about every third seed and off in the others:
    /// when all are always on, the early ones hide what the late ones would find.
    pub fn from_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x6661_756c_7473_2121);
        let mut rare = |often: u32| {
            let on = dice.below(3) == 0;
            if on { Chance::per_million(1 + dice.below(u64::from(often)) as u32) } else { Chance::NEVER }
        };
        Faults {
            reset: rare(20_000),
            black_hole: rare(5000),
            syn_loss: rare(100_000),
            datagram_loss: rare(200_000),
            accept_error: rare(100_000),
            accept_abort: rare(100_000),
            dial_error: rare(100_000),
            watch_error: rare(50_000),
            send_error: rare(20_000),
            datagram_double: rare(100_000),
            ..Faults::awkward(seed)
        }
    }
}
