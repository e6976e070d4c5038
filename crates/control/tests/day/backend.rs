//! One backend of the day: what state it is in, how long that lasts, and what a probe of it finds.

use std::time::Duration;

use evenkeel_health::settings::Timing;
use evenkeel_health::window::{Failing, detection, recovery};
use evenkeel_model::Instant;
use evenkeel_model::finding::{Failure, FailureReason, Finding, Pass, ProbeKind, ProbePhase, ProbeResult, Void};
use evenkeel_model::standing::Verdict;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn time(&mut self, from: Duration, to: Duration) -> Duration {
        from + Duration::from_nanos(self.below((to - from).as_nanos() as u64 + 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Well,
    /// The process is gone, the host is not.
    Refuses,
    /// Nothing comes back.
    Silent,
}

/// How often a backend changes.
#[derive(Clone, Copy, Debug)]
enum Rhythm {
    /// Fails for minutes, once in hours.
    Steady,
    /// Minutes up, minutes down.
    Slow,
    /// Seconds up, seconds down: no state lasts long enough for a verdict, or it only just does.
    Fast,
    /// Up and down by the clock, the worst that a check at a fixed pace can meet.
    Even(Duration),
    /// Fails together with the rest of its rack, every few minutes.
    Rack(u64),
}

pub struct Backend {
    pub state: State,
    pub since: Instant,
    pub until: Instant,
    rhythm: Rhythm,
    /// Probes since the state began that say nothing; each makes the window longer.
    void: u32,
}

/// A rack's backends fail within one second.
const RACK_PERIOD: Duration = Duration::from_secs(200);
const RACK_DOWN: Duration = Duration::from_secs(60);
const RACK: usize = 50;

/// The slowest answer of a backend that is well.
const SLOWEST: Duration = Duration::from_millis(40);

impl Backend {
    pub fn new(index: usize, dice: &mut Dice) -> Self {
        let rhythm = match dice.below(20) {
            _ if index % 1000 < RACK => Rhythm::Rack((index / 1000) as u64),
            0..13 => Rhythm::Steady,
            13..17 => Rhythm::Slow,
            17..19 => Rhythm::Fast,
            _ => Rhythm::Even(Duration::from_secs(1 + dice.below(20))),
        };
        let mut backend = Backend { state: State::Well, since: Instant::START, until: Instant::START, rhythm, void: 0 };
        backend.until = Instant::START + backend.lasts(dice);
        backend
    }

    /// How long the state that has just begun lasts.
    fn lasts(&self, dice: &mut Dice) -> Duration {
        let secs = Duration::from_secs;
        let well = self.state == State::Well;
        match self.rhythm {
            Rhythm::Steady if well => dice.time(secs(60), secs(14_400)),
            Rhythm::Steady => dice.time(secs(1), secs(600)),
            Rhythm::Slow => dice.time(secs(5), secs(300)),
            Rhythm::Fast => dice.time(Duration::from_millis(1), secs(30)),
            Rhythm::Even(half) => half,
            Rhythm::Rack(rack) if self.since == Instant::START => {
                secs(20 + 7 * rack) + dice.time(Duration::ZERO, secs(1))
            }
            Rhythm::Rack(_) if well => RACK_PERIOD - RACK_DOWN,
            Rhythm::Rack(_) => RACK_DOWN,
        }
    }

    /// The next state begins; says when it ends.
    pub fn change(&mut self, now: Instant, dice: &mut Dice) -> Instant {
        self.state = match self.state {
            State::Well if dice.below(3) == 0 => State::Silent,
            State::Well => State::Refuses,
            State::Refuses | State::Silent => State::Well,
        };
        (self.since, self.void) = (now, 0);
        self.until = now + self.lasts(dice);
        self.until
    }

    /// What a probe that starts now will have found.
    pub fn probe(&mut self, now: Instant, timing: &Timing, dice: &mut Dice) -> Finding {
        let failed = |phase, reason| ProbeResult::Failed(Failure { phase, reason });
        let took = |duration, result| Finding { kind: ProbeKind::Tcp, started: now, ended: now + duration, result };
        if dice.below(200) == 0 {
            self.void += 1;
            let by = Duration::from_millis(300);
            return took(timing.timeout + by, ProbeResult::Void(Void::Late { by }));
        }
        match self.state {
            State::Refuses => took(Duration::from_micros(200), failed(ProbePhase::Connect, FailureReason::Refused)),
            State::Silent => took(timing.timeout, failed(ProbePhase::Connect, FailureReason::TimedOut)),
            State::Well => {
                let answers = dice.time(Duration::from_micros(100), SLOWEST);
                match self.until.since(now) {
                    // It dies over it.
                    left if left < answers => took(left, failed(ProbePhase::Read, FailureReason::Reset)),
                    _ => took(answers, ProbeResult::Passed(Pass::Connected)),
                }
            }
        }
    }

    /// The verdict that this state leads to, and after what time at the latest, whatever state went before.
    pub fn wanted(&self, timing: &Timing) -> (Verdict, Duration) {
        let (verdict, span) = match self.state {
            State::Well => (Verdict::Healthy, recovery(timing, Failing::Silent, SLOWEST)),
            State::Refuses => {
                (Verdict::Unhealthy, detection(timing, Failing::After(Duration::from_micros(200)), timing.timeout))
            }
            State::Silent => (Verdict::Unhealthy, detection(timing, Failing::Silent, timing.timeout)),
        };
        // One that began before the state did may be void as well.
        let void = (timing.timeout + Duration::from_millis(300) + timing.longest_steady()) * (self.void + 1);
        (verdict, span.worst + void)
    }
}
