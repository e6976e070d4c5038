//! Fifty configurations drawn at random: in every one, detection and recovery come inside the window computed for it.
//!
//! Drawn are the kind of probe, the failure, all that `health::window` computes with (timeout, the three gaps, jitter, both
//! thresholds), and the moments of the failure and of its end. `HEALTH_SEED=` draws the same again.

use std::time::Duration;

use evenkeel_health::settings::Timing;

use crate::daemon::{has, skipped, until};
use crate::health_expected::{Expected, Fault, Kind, expected};
use crate::health_scene::{Scene, Subject, wait_for};
use crate::health_times::{Faults, Metronome, Probes, changes, hold, last, now};
use crate::lab::Lab;

const CONFIGURATIONS: usize = 50;

/// xorshift: the same numbers for the same seed everywhere.
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Draw {
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    /// Gaps of their own in half of the cases, as operators have them or have not.
    fn timing(&mut self) -> Timing {
        let (timeout, interval) = (self.millis(500, 1000), self.millis(100, 600));
        let timing = Timing::new(timeout, interval, self.between(1, 4) as u32, self.between(1, 4) as u32);
        Timing {
            unhealthy_interval: if self.below(2) == 0 { interval } else { self.millis(100, 900) },
            transition_interval: if self.below(2) == 0 { interval } else { self.millis(50, 400) },
            jitter: if self.below(2) == 0 { 0 } else { self.between(1, 50) as u32 },
            ..timing
        }
    }

    /// A pair in which the probe sees the failure.
    fn pair(&mut self) -> (Kind, Fault) {
        loop {
            let (kind, fault) = (self.one_of(&Kind::ALL), self.one_of(&Fault::ALL));
            if matches!(expected(kind, fault), Expected::Falls(..)) {
                return (kind, fault);
            }
        }
    }
}

#[test]
fn in_fifty_configurations_drawn_at_random_every_verdict_comes_inside_its_window() {
    const TEST: &str = "in_fifty_configurations_drawn_at_random_every_verdict_comes_inside_its_window";
    if !has("curl") {
        return skipped(TEST, "curl");
    }
    let given = std::env::var("HEALTH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| now().as_nanos() as u64);
    println!("HEALTH_SEED={seed} draws these configurations again");
    hold(TEST, |lab| play(lab, seed));
}

fn play(lab: &Lab, seed: u64) -> Faults {
    let mut draw = Draw::new(seed);
    let scene = Scene::new(lab, "health-random");
    let mut subjects: Vec<Subject> = (0..CONFIGURATIONS)
        .map(|number| {
            let (kind, fault) = draw.pair();
            Subject::new(&scene, number, kind, fault, draw.timing())
        })
        .collect();
    let daemon = scene.daemon("health-random", &subjects);
    let metronome = Metronome::start();
    wait_for(&daemon, &subjects, "healthy", |it, changes| last(changes, &it.pool).is_some_and(|last| !last.unhealthy));
    let mut probes = Probes::default();
    probes.look(&daemon);
    for subject in &mut subjects {
        at_a_moment(&mut draw);
        subject.strike(&scene);
    }
    wait_for(&daemon, &subjects, "unhealthy", Subject::has_fallen);
    probes.look(&daemon);
    for subject in &mut subjects {
        at_a_moment(&mut draw);
        subject.heal(&scene);
    }
    wait_for(&daemon, &subjects, "healthy again", Subject::has_risen);
    probes.look(&daemon);

    let changes = changes(&daemon);
    let (mut outside, mut spoilt) = (Faults::new(), 0);
    for subject in &subjects {
        let Subject { kind, fault, timing, pool, .. } = subject;
        match subject.judge(&changes, &probes.of(pool), &metronome) {
            Ok(seen) => {
                let (fell, down) = seen.fell.expect("all of them fall");
                let rose = match seen.rose {
                    Some((rose, up)) => format!("{:?} (computed {up})", rose.took),
                    None => "a time this machine spoilt".to_owned(),
                };
                spoilt += usize::from(seen.rose.is_none());
                println!(
                    "{pool}: unhealthy after {:?} (computed {down}), healthy after {rose}, {} void",
                    fell.took, seen.void
                );
            }
            Err(fault_seen) => {
                outside.insert(pool.clone(), format!("HEALTH_SEED={seed} {kind:?} {fault:?} {timing:?}: {fault_seen}"));
            }
        }
    }
    if spoilt > CONFIGURATIONS / 4 {
        outside.insert("the machine".to_owned(), format!("in {spoilt} well backends did not get to answer"));
    }
    outside
}

/// Waits for a moment within the next tenth of a second.
fn at_a_moment(draw: &mut Draw) {
    let moment = now() + draw.millis(0, 100);
    until("the moment", || (now() >= moment).then_some(()));
}
