//! The loop that turns nodes and moves the clock, and knows a livelock from work.
//!
//! The clock jumps to the next happening, so nothing ever waits. It jumps only when every node is at rest: then
//! a result depends on the seed and on nothing else.

use super::faults::Dice;
use super::net::Net;

/// Code under test that owns a [`super::SimDriver`].
pub trait Node {
    /// One pass of its loop: polls the driver once, handles the events and the timers that are due. A
    /// pass without either must do nothing.
    fn turn(&mut self);
}

impl<F: FnMut()> Node for F {
    fn turn(&mut self) {
        self();
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// What was waited for came.
    Reached,
    /// Nothing will ever happen again: no packet is on its way and no node waits for a time.
    Quiet,
}

/// Turns of the nodes at one moment before it is called a livelock. A worker that accepts a batch and
/// serves it takes some dozen.
const TURNS_MAX: u32 = 10_000;

/// Runs until `reached` says so or nothing can happen any more. After each happening the actors get a
/// chance to act, then the nodes are turned until all of them wait.
///
/// # Panics
/// With the end of the story, when a node never comes to rest or the run takes more steps than
/// [`Net::limit_steps`] allows.
pub fn run(
    net: &Net,
    nodes: &mut [&mut dyn Node],
    actors: &mut [&mut dyn FnMut(&Net)],
    mut reached: impl FnMut(&Net) -> bool,
) -> Ended {
    let steps_max = net.world.borrow().steps_max;
    for _ in 0..steps_max {
        for actor in actors.iter_mut() {
            actor(net);
        }
        settle(net, nodes);
        if reached(net) {
            return Ended::Reached;
        }
        if !net.advance() {
            return Ended::Quiet;
        }
    }
    panic!("no end after {steps_max} steps, at {:?} (seed {})\n{}", net.now(), net.seed(), net.story());
}

/// Turns the nodes until each has polled in vain, unless they are paused.
fn settle(net: &Net, nodes: &mut [&mut dyn Node]) {
    for _ in 0..TURNS_MAX {
        if net.world.borrow().paused_until > net.now() {
            return;
        }
        for node in nodes.iter_mut() {
            node.turn();
        }
        if nodes.is_empty() || all_quiet(net) {
            return;
        }
    }
    panic!(
        "livelock at {:?} (seed {}): after {TURNS_MAX} turns a driver still has events or a time that has come; \
         is a driver's node missing from the run?\n{}",
        net.now(),
        net.seed(),
        net.story()
    );
}

fn all_quiet(net: &Net) -> bool {
    let world = net.world.borrow();
    world.drivers.iter().all(|driver| driver.gone || (driver.quiet && driver.ready.is_empty() && !driver.woken))
}

/// The seeds of a test: `count` of them, the same in every run, or only the one in `SIM_SEED`, to see
/// a failure again.
///
/// # Panics
/// When `SIM_SEED` is not a number.
pub fn seeds(count: usize) -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => {
            // Spread out, so that a seed near another one is not in the same corner.
            let mut dice = Dice::new(0);
            (0..count).map(|_| dice.roll() >> 16).collect()
        }
    }
}
