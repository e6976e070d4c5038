//! New snapshots and drains while exchanges run.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::sim::{Dice, Faults, Net};

use crate::count;
use crate::generate::Temper;
use crate::http::Story;
use crate::secured;
use crate::world::{Behind, Operator, Patience, TOLD, World, backend_address, config, config_with, plan};

/// All that a plan of these stories may have.
const LISTENERS: [(&str, u16); 5] =
    [("web", 80), ("side", 81), ("secure", 443), ("told", TOLD[0]), ("told-secure", TOLD[1])];

/// Something the operator, or the checks, do at a time.
enum Order {
    /// The same plan, other verdicts: the backends with these last bytes are out.
    Verdicts(Vec<u8>),
    /// Another plan: these backends and listeners.
    Plan { backends: Vec<u8>, listeners: Vec<&'static str> },
    /// Stop by then.
    Drain(Duration),
}

struct Orders {
    due: Vec<(Instant, Order)>,
    text: String,
    patience: Patience,
    behind: Behind,
    listeners: Vec<&'static str>,
    out: Vec<u8>,
    drain_deadline: Option<Instant>,
}

impl Orders {
    fn act(&mut self, net: &Net, operator: &mut Operator) {
        while self.due.first().is_some_and(|(at, _)| *at <= net.now()) {
            let (_, order) = self.due.remove(0);
            match order {
                Order::Verdicts(out) => self.out = out,
                Order::Plan { backends, listeners } => {
                    // Bind before publish, as the node does.
                    for (name, port) in LISTENERS {
                        if listeners.contains(&name) && !self.listeners.contains(&name) {
                            operator.listen(name, port);
                        }
                    }
                    self.text = config_with(self.patience, &backends, &listeners, self.behind);
                    self.listeners = listeners;
                }
                Order::Drain(timeout) => {
                    let deadline = net.now() + timeout;
                    self.drain_deadline = Some(deadline);
                    operator.drain(deadline);
                    continue;
                }
            }
            let plan = plan(&self.text);
            let out: Vec<SocketAddr> = self.out.iter().map(|number| backend_address(*number)).collect();
            operator.publish(&plan, |address| !out.contains(&address));
        }
    }
}

fn drawn(seed: u64, faults: Faults, patience: Patience, temper: Temper, dice: &mut Dice) -> (Story, Orders) {
    let text = config(patience, &[1, 2, 3, 4], &["web", "side"]);
    let world = World::new(seed, faults, &text);
    let mut story = Story::new(world, &[1, 2, 3, 4]);
    // In kind stories the clients are at the listener that stays.
    let ports: &[u16] = if temper == Temper::Kind { &[80] } else { &[80, 81] };
    story.draw(dice, temper, ports);
    let orders = orders(&story, dice, text, patience, Behind::default(), &[&["web"], &["web", "side"]]);
    (story, orders)
}

/// The same over TLS and HTTP/2.
fn drawn_mixed(seed: u64, faults: Faults, patience: Patience, temper: Temper, dice: &mut Dice) -> (Story, Orders) {
    // One that was away and comes back is a new one, and may cost a request another try.
    let (story, behind) = secured::drawn(seed, faults, patience, temper, 4, dice);
    let all = &LISTENERS.map(|(name, _)| name)[..];
    let text = config_with(patience, &[1, 2, 3, 4], all, behind);
    let choices = if temper == Temper::Kind { &[all][..] } else { &[&["web"], all, &["secure"], &["web", "secure"]] };
    let orders = orders(&story, dice, text, patience, behind, choices);
    (story, orders)
}

fn orders(
    story: &Story,
    dice: &mut Dice,
    text: String,
    patience: Patience,
    behind: Behind,
    choices: &[&[&'static str]],
) -> Orders {
    let mut due = Vec::new();
    for _ in 0..1 + dice.below(6) {
        let at = Instant::START + Duration::from_millis(dice.below(3000));
        let order = if dice.below(2) == 0 {
            // One is always left.
            Order::Verdicts((2..=4).filter(|_| dice.below(2) == 0).collect())
        } else {
            let mut backends: Vec<u8> = (2..=4).filter(|_| dice.below(2) == 0).collect();
            backends.push(1);
            let listeners = dice.pick(choices).to_vec();
            Order::Plan { backends, listeners }
        };
        due.push((at, order));
    }
    due.sort_by_key(|(at, _)| *at);
    for (at, _) in &due {
        story.world.net.alarm(*at);
    }
    let named = |name: &&str| text.contains(&format!("name = \"{name}\""));
    let listeners = LISTENERS.map(|(name, _)| name).into_iter().filter(named).collect();
    Orders { due, text, patience, behind, listeners, out: Vec::new(), drain_deadline: None }
}

fn run(story: &mut Story, orders: &mut Orders) {
    story.run_with(&mut |net, operator| orders.act(net, operator));
}

#[test]
fn reloads_lose_nothing_on_an_awkward_network() {
    for seed in count(150) {
        let mut dice = Dice::new(seed ^ 0x7265_6c6f_6164);
        let (mut story, mut orders) = drawn(seed, Faults::awkward(seed), Patience::Endless, Temper::Kind, &mut dice);
        run(&mut story, &mut orders);
        story.check(Temper::Kind);
        story.world.finish(&|| story.tell());
    }
}

#[test]
fn reloads_leave_nothing_behind_whatever_fails() {
    for seed in count(250) {
        let mut dice = Dice::new(seed ^ 0x7265_6c6f_6164);
        let (mut story, mut orders) = drawn(seed, Faults::from_seed(seed), Patience::Usual, Temper::Rough, &mut dice);
        run(&mut story, &mut orders);
        story.check(Temper::Rough);
        story.world.finish(&|| story.tell());
    }
}

#[test]
fn reloads_lose_nothing_over_tls_and_http2() {
    for seed in count(20) {
        let mut dice = Dice::new(seed ^ 0x6d69_7865_6421);
        let (mut story, mut orders) =
            drawn_mixed(seed, Faults::awkward(seed), Patience::Endless, Temper::Kind, &mut dice);
        run(&mut story, &mut orders);
        story.check(Temper::Kind);
        story.world.finish(&|| format!("{:?}\n{}", orders.behind, story.tell()));
    }
}

#[test]
fn reloads_leave_nothing_behind_over_tls_and_http2() {
    for seed in count(30) {
        let mut dice = Dice::new(seed ^ 0x6d69_7865_6421);
        let (mut story, mut orders) =
            drawn_mixed(seed, Faults::from_seed(seed), Patience::Usual, Temper::Rough, &mut dice);
        run(&mut story, &mut orders);
        story.check(Temper::Rough);
        story.world.finish(&|| format!("{:?}\n{}", orders.behind, story.tell()));
    }
}

#[test]
fn a_drain_ends_by_its_deadline_with_every_socket_closed() {
    let mut waited = 0;
    for seed in count(160) {
        let mut dice = Dice::new(seed ^ 0x6472_6169_6e21);
        let faults = if dice.below(2) == 0 { Faults::awkward(seed) } else { Faults::from_seed(seed) };
        let draw = if dice.below(3) == 0 { drawn_mixed } else { drawn };
        let (mut story, mut orders) = draw(seed, faults.clone(), Patience::Usual, Temper::Rough, &mut dice);
        let at = Instant::START + Duration::from_millis(dice.below(3000));
        let timeout = Duration::from_millis(dice.below(8000));
        orders.due.push((at, Order::Drain(timeout)));
        orders.due.sort_by_key(|(at, _)| *at);
        story.world.net.alarm(at);
        run(&mut story, &mut orders);
        let Some(deadline) = orders.drain_deadline else { panic!("SIM_SEED={seed}: no drain") };
        match story.world.drained_at {
            None => story.world.complain("the worker never said that it had drained"),
            // The wheel rounds up to its millisecond, and a node may be paused.
            Some(done) if done > deadline + faults.pause_max * 2 + Duration::from_millis(2) => {
                story.world.complain(format!("drained at {done:?}, the deadline was {deadline:?}"));
            }
            Some(done) => waited += u32::from(done + Duration::from_millis(1) > deadline),
        }
        for record in story.world.records.all() {
            if record.cause == Some(Cause::BalancerDraining)
                && record.times.ended < deadline.min(at + Duration::from_secs(30))
            {
                story.world.complain(format!("cut by a drain before the deadline {deadline:?}: {record:?}"));
            }
        }
        story.check(Temper::Rough);
        story.world.finish(&|| story.tell());
    }
    assert!(waited > 0 || std::env::var("SIM_SEED").is_ok(), "no drain had to wait for its deadline");
}
