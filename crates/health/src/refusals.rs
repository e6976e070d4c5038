//! Whether the ICMP refusals of one host come through to one source address of ours now.
//!
//! Linux sends about one refusal a second to each address, and six after a quiet time, and whatever that address sends to
//! the host's closed ports uses them up: a dead service is refused to clients, and silent to the probe. So a udp probe sends
//! a second datagram right behind its own, to a port known to be closed. Budgets only grow between two datagrams, so if the
//! second one is refused, the first one would have been. Nothing else proves silence: a refusal some time before or
//! after says only that there was a budget then.
//!
//! These datagrams use the budget too, so they are paced: all probes of a host together send one in
//! [`limits::REFUSAL_GAP`], half of what the host has to give. What a probe without one of its own is worth is told by the
//! nearest one, no further away than that gap.
//!
//! Unless its service was refused before. A dead service that is probed often uses up the budget itself, and its silence in
//! between must not pass by the luck of a neighbour: from the first refusal on only a datagram of its own proves that it
//! is back. For that it may ask sooner than others.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use evenkeel_model::finding::{Doubt, Proof};
use evenkeel_model::{Instant, limits};

const GAP: Duration = Duration::from_millis(limits::REFUSAL_GAP.value);

/// A datagram without a refusal for this long has none to come, whatever the timeout of its probe.
const PATIENCE: Duration = Duration::from_millis(limits::REFUSAL_PATIENCE.value);

/// Datagrams remembered: more than a probe of the usual timeout has to look back on.
const REMEMBERED: usize = 16;

#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// Oldest first.
    samples: VecDeque<Sample>,
    last_refused: Option<Instant>,
    /// The closed port has answered, so it says nothing.
    answers: bool,
    /// Ports of services that were refused and not proved open since.
    dead: BTreeSet<u16>,
}

/// A datagram to a closed port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    sent: Instant,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Awaited,
    Refused,
    InVain,
}

impl Refusals {
    /// Whether a datagram to the closed port may be sent now, behind one to this service.
    pub fn wants(&self, service: u16, now: Instant) -> bool {
        let gap = if self.dead.contains(&service) { GAP / 2 } else { GAP };
        self.samples.back().is_none_or(|last| now.since(last.sent) >= gap)
    }

    /// It was sent.
    pub fn asked(&mut self, now: Instant) {
        self.push(Sample { sent: now, fate: Fate::Awaited });
    }

    /// The datagram to the closed port was refused.
    pub fn refused(&mut self, sent: Instant, now: Instant) {
        self.last_refused = Some(now);
        if let Some(sample) = self.sample(sent) {
            sample.fate = Fate::Refused;
            self.answers = false;
        }
    }

    /// One to a service was.
    pub fn service_refused(&mut self, service: u16, now: Instant) {
        self.last_refused = Some(now);
        self.dead.insert(service);
    }

    /// A service answered.
    pub fn service_answered(&mut self, service: u16) {
        self.dead.remove(&service);
    }

    /// The datagram to the closed port was waited for to the end.
    pub fn in_vain(&mut self, sent: Instant) {
        if let Some(sample) = self.sample(sent)
            && sample.fate == Fate::Awaited
        {
            sample.fate = Fate::InVain;
        }
    }

    /// The port that should be closed answered.
    pub fn answered(&mut self) {
        self.answers = true;
    }

    /// Nobody waits for the refusal any more, so that its absence says nothing.
    pub fn given_up(&mut self, sent: Instant) {
        self.samples.retain(|sample| sample.sent != sent || sample.fate != Fate::Awaited);
    }

    /// What it is worth that a datagram to a service of the host, `sent` then, has met silence until `now`.
    ///
    /// # Errors
    /// When it is worth nothing.
    pub fn weigh(&mut self, port: u16, service: u16, sent: Instant, now: Instant) -> Result<Proof, Doubt> {
        if self.answers {
            return Err(Doubt::PortAnswers { port });
        }
        let only_its_own = self.dead.contains(&service);
        let decided = self.samples.iter().filter_map(|sample| {
            let refused = match sample.fate {
                Fate::Refused => true,
                Fate::InVain => false,
                Fate::Awaited if now.since(sample.sent) >= PATIENCE => false,
                Fate::Awaited => return None,
            };
            Some((apart(sample.sent, sent), refused))
        });
        match decided.min_by_key(|&(apart, _)| apart) {
            Some((apart, true)) if apart.is_zero() || (apart <= GAP && !only_its_own) => {
                self.dead.remove(&service);
                Ok(Proof::Refusal { apart })
            }
            Some((apart, false)) if apart <= GAP => {
                let last = self.last_refused.map(|last| now.since(last));
                Err(Doubt::NothingRefused { port, last })
            }
            Some(_) | None => Err(Doubt::NotAsked { port }),
        }
    }

    /// When something was last learnt or asked; long ago, it can be forgotten.
    pub fn used(&self) -> Option<Instant> {
        self.samples.back().map(|sample| sample.sent)
    }

    fn sample(&mut self, sent: Instant) -> Option<&mut Sample> {
        self.samples.iter_mut().rev().find(|sample| sample.sent == sent)
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() == REMEMBERED {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

fn apart(one: Instant, other: Instant) -> Duration {
    one.since(other).max(other.since(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 1;
    const SERVICE: u16 = 53;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    fn proof(millis: u64) -> Result<Proof, Doubt> {
        Ok(Proof::Refusal { apart: Duration::from_millis(millis) })
    }

    fn exhausted(last: Option<u64>) -> Result<Proof, Doubt> {
        Err(Doubt::NothingRefused { port: PORT, last: last.map(Duration::from_millis) })
    }

    #[test]
    fn datagrams_to_the_closed_port_of_a_host_are_a_gap_apart() {
        let mut host = Refusals::default();
        let mut sent = Vec::new();
        for millis in (0..10_000).step_by(100) {
            if host.wants(SERVICE, at(millis)) {
                host.asked(at(millis));
                sent.push(millis);
            }
        }
        assert_eq!(sent, [0, 2000, 4000, 6000, 8000]);
        // Who has to prove that it is back may ask sooner.
        host.service_refused(SERVICE, at(8500));
        assert_eq!([8999, 9000].map(|millis| host.wants(SERVICE, at(millis))), [false, true]);
        assert!(!host.wants(SERVICE + 1, at(9000)));
    }

    // What became of the datagram to the closed port, and what silence met at the same time is worth.
    #[test]
    fn silence_is_worth_what_the_datagram_behind_it_met() {
        type Fate = fn(&mut Refusals);
        let table: [(&str, Fate, Result<Proof, Doubt>); 7] = [
            ("refused", |host| host.refused(at(5000), at(5001)), proof(0)),
            ("waited for in vain", |host| host.in_vain(at(5000)), exhausted(None)),
            ("not decided, and the time is up", |_| {}, exhausted(None)),
            ("given up before it was decided", |host| host.given_up(at(5000)), Err(Doubt::NotAsked { port: PORT })),
            ("answered", Refusals::answered, Err(Doubt::PortAnswers { port: PORT })),
            (
                "answered once, refused since",
                |host| {
                    host.answered();
                    host.refused(at(5000), at(5001));
                },
                proof(0),
            ),
            (
                "refused, and given up after that",
                |host| {
                    host.refused(at(5000), at(5001));
                    host.given_up(at(5000));
                    host.in_vain(at(5000));
                },
                proof(0),
            ),
        ];
        for (fate, happens, worth) in table {
            let mut host = Refusals::default();
            host.asked(at(5000));
            happens(&mut host);
            assert_eq!(host.weigh(PORT, SERVICE, at(5000), at(15_000)), worth, "{fate}");
        }
    }

    #[test]
    fn a_probe_without_one_of_its_own_goes_by_the_nearest_and_by_none_beyond_the_gap() {
        let mut host = Refusals::default();
        host.asked(at(10_000));
        host.refused(at(10_000), at(10_001));
        host.asked(at(12_000));
        host.in_vain(at(12_000));
        let now = at(30_000);
        let last = Some(19_999);
        let table = [
            (7999, Err(Doubt::NotAsked { port: PORT })),
            (8000, proof(2000)),
            (10_000, proof(0)),
            (10_900, proof(900)),
            (11_100, exhausted(last)),
            (14_000, exhausted(last)),
            (14_001, Err(Doubt::NotAsked { port: PORT })),
        ];
        for (sent, worth) in table {
            assert_eq!(host.weigh(PORT, SERVICE, at(sent), now), worth, "sent at {sent} ms");
        }
        assert_eq!(Refusals::default().weigh(PORT, SERVICE, at(0), now), Err(Doubt::NotAsked { port: PORT }));
    }

    #[test]
    fn one_that_is_still_awaited_is_passed_over_until_it_cannot_come_any_more() {
        let mut host = Refusals::default();
        host.asked(at(0));
        assert_eq!(host.weigh(PORT, SERVICE, at(100), at(999)), Err(Doubt::NotAsked { port: PORT }));
        assert_eq!(host.weigh(PORT, SERVICE, at(100), at(1000)), exhausted(None));
        // Late, but it came: whoever asks now is told so.
        host.refused(at(0), at(1500));
        assert_eq!(host.weigh(PORT, SERVICE, at(100), at(1600)), proof(100));
    }

    // It may have used up the budget itself: a neighbour's refusal is then luck.
    #[test]
    fn a_service_that_was_refused_is_proved_back_by_a_datagram_of_its_own_only() {
        let mut host = Refusals::default();
        host.service_refused(SERVICE, at(900));
        host.asked(at(1000));
        host.refused(at(1000), at(1001));
        assert_eq!(host.weigh(PORT, SERVICE, at(1500), at(3000)), Err(Doubt::NotAsked { port: PORT }));
        assert_eq!(
            host.weigh(PORT, SERVICE + 1, at(1500), at(3000)),
            proof(500),
            "of its neighbour nothing bad is known"
        );
        assert_eq!(host.weigh(PORT, SERVICE, at(1000), at(3000)), proof(0));
        assert_eq!(host.weigh(PORT, SERVICE, at(1500), at(3000)), proof(500), "it has proved itself");
        host.service_refused(SERVICE, at(4000));
        host.service_answered(SERVICE);
        assert_eq!(host.weigh(PORT, SERVICE, at(1500), at(5000)), proof(500));
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut host = Refusals::default();
        for number in 0..1000 {
            host.asked(at(number * 10));
        }
        assert_eq!(host.samples.len(), REMEMBERED);
        assert_eq!(host.used(), Some(at(9990)));
    }
}
