//! The same stories over TLS and HTTP/2, in every mix of what clients and backends speak.

use evenkeel_h2::Settings;
use evenkeel_reactor::sim::{Dice, Faults, Segments, Way};
use evenkeel_tls::Offers;

use std::time::Duration;

use crate::backend::Understands;
use crate::certificates;
use crate::client::{Caller, Speech};
use crate::count;
use crate::generate::Temper;
use crate::http::Story;
use crate::world::{Behind, Patience, TOLD, World, backend_address, config_with, listener_address};

/// What the peers allow the node on an HTTP/2 connection.
pub fn peer_settings(dice: &mut Dice, secure: bool) -> Settings {
    Settings {
        streams: 100,
        stream_window: dice.pick(&[500, 20_000, 65_535, 262_144]),
        connection_window: dice.pick(&[65_535, 1_048_576]),
        header_limit: 16_384,
        max_frame: 16_384,
        extended_connect: true,
        secure,
    }
}

/// A network on which a handshake of some kilobytes and a frame come through before somebody asks for his settings'
/// acknowledgement: what drips a byte at a time does it quickly.
fn quick_enough(faults: Faults) -> Faults {
    let narrow = faults.send_buffer.min(faults.receive_window) < 1000 || faults.segments == Segments::OneByte;
    if narrow && faults.latency + faults.jitter > Duration::from_millis(1) {
        let (latency, jitter) = (faults.latency.min(Duration::from_micros(100)), Duration::from_micros(50));
        return Faults { latency, jitter, ..faults };
    }
    faults
}

/// `up` says how many of the four backends are there at all.
pub fn drawn(
    seed: u64,
    faults: Faults,
    patience: Patience,
    temper: Temper,
    up: u8,
    dice: &mut Dice,
) -> (Story, Behind) {
    let faults = quick_enough(faults);
    let mut behind = Behind { tls: dice.below(2) == 0, http2: dice.below(2) == 0, ..Behind::default() };
    behind.header = !behind.http2 && dice.below(3) == 0;
    if temper == Temper::Rough {
        behind.try_timeout = dice.below(3) == 0;
        behind.hedge = dice.below(3) == 0;
        behind.limit = dice.pick(&[0, 0, 1, 2]);
    }
    let text = config_with(patience, &[1, 2, 3, 4], &["web", "side", "secure", "told", "told-secure"], behind);
    let world = World::new(seed, faults, &text);
    let understands = Understands {
        header: behind.header,
        tls: behind.tls.then(|| certificates::backend(behind.http2)),
        http2: behind.http2.then(|| {
            let mut settings = peer_settings(dice, behind.tls);
            if temper == Temper::Rough {
                settings.streams = dice.pick(&[1, 2, 100]);
            }
            settings
        }),
    };
    let numbers: Vec<u8> = (1..=up).collect();
    let mut story = Story::with(world, &numbers, &understands);
    // The others refuse, or are unreachable, or lost.
    for number in up + 1..=4 {
        let way = dice.pick(&[Way::Open, Way::Unreachable, Way::NoRoute, Way::BlackHole]);
        story.world.net.set_way(backend_address(number), way);
    }
    let http1 = certificates::client(Offers::Http1);
    let http2 = certificates::client(Offers::Http2);
    for _ in 0..1 + dice.below(3) {
        let (port, tls) =
            dice.pick(&[(80, false), (81, false), (443, true), (443, true), (TOLD[0], false), (TOLD[1], true)]);
        match dice.below(3) {
            0 => {
                let speech = if tls { Speech::Tls(http1.clone()) } else { Speech::Plain };
                story.draw_client(dice, temper, port, speech);
            }
            _ => {
                let users = 1 + dice.below(5) as usize;
                let settings = peer_settings(dice, tls);
                let caller = Caller::new(listener_address(port), tls.then(|| http2.clone()), settings, users);
                for _ in 0..users {
                    story.draw_client(dice, temper, port, Speech::Stream(caller.clone()));
                }
                story.callers.push(caller);
            }
        }
    }
    (story, behind)
}

fn tell(story: &Story, behind: Behind) -> String {
    format!("{behind:?}\n{}", story.tell())
}

#[test]
fn over_every_mix_well_behaved_peers_get_exactly_their_answers() {
    for seed in count(30) {
        let mut dice = Dice::new(seed ^ 0x7365_6375_7265);
        let up = 2 + dice.below(3) as u8;
        let (mut story, behind) = drawn(seed, Faults::awkward(seed), Patience::Endless, Temper::Kind, up, &mut dice);
        story.run();
        story.check(Temper::Kind);
        story.world.finish(&|| tell(&story, behind));
    }
}

#[test]
fn over_every_mix_rough_peers_leave_nothing_behind() {
    for seed in count(30) {
        let mut dice = Dice::new(seed ^ 0x7365_6375_7265);
        let up = 2 + dice.below(3) as u8;
        let (mut story, behind) = drawn(seed, Faults::awkward(seed), Patience::Usual, Temper::Rough, up, &mut dice);
        story.run();
        story.check(Temper::Rough);
        story.world.finish(&|| tell(&story, behind));
    }
}

#[test]
fn over_every_mix_whatever_fails_each_request_has_one_outcome() {
    for seed in count(60) {
        let mut dice = Dice::new(seed ^ 0x7365_6375_7265);
        let up = 2 + dice.below(3) as u8;
        let (mut story, behind) = drawn(seed, Faults::from_seed(seed), Patience::Usual, Temper::Rough, up, &mut dice);
        story.run();
        story.check(Temper::Rough);
        story.world.finish(&|| tell(&story, behind));
    }
}
