//! One backend under one check, struck and healed: what the table of failures and the random configurations are made of.
//!
//! Every backend has an address of its own on the backends' host, so that any number of them can suffer at once, each from
//! something else.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_health::settings::Timing;
use evenkeel_health::window::{Failing, Span, detection, recovery};

use crate::daemon::{Daemon, Folder, Setup, until};
use crate::health_expected::{Expected, Fault, Kind, Took, expected};
use crate::health_servers::{Keys, Mood, Server, Speaks, address_of};
use crate::health_times::{Bounds, Change, Lasted, Metronome, Observed, Within, changes, first, now};
use crate::lab::{Lab, nft, run, try_run};

/// The host of the backends, and what all of them share.
pub struct Scene<'a> {
    lab: &'a Lab,
    pub keys: Arc<Keys>,
    folder: Folder,
    /// Answers for the names of backends that have one.
    names: Mutex<Server>,
}

/// Where the name server of the lab is.
const NAME_SERVER: &str = "10.98.0.5:53";

impl<'a> Scene<'a> {
    pub fn new(lab: &'a Lab, name: &str) -> Scene<'a> {
        // A kernel answers one host with some ICMP errors a second; here are many firewalls on one host.
        for setting in ["icmp_ratelimit=0", "icmp_msgs_per_sec=100000"] {
            run(&["ip", "netns", "exec", &lab.back, "sysctl", "-qw", &format!("net.ipv4.{setting}")]);
        }
        // Who may send echo requests, and is nobody by default in a namespace of its own.
        run(&["ip", "netns", "exec", &lab.front, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"]);
        // Or it would take three seconds to be sure that a neighbour is gone.
        run(&["ip", "netns", "exec", &lab.front, "sysctl", "-qw", "net.ipv4.neigh.veth0.retrans_time_ms=50"]);
        for (set, what) in [("dropped", "drop"), ("rejected", "reject with icmp type admin-prohibited")] {
            nft(&lab.back, &format!("add set inet t {set} {{ type ipv4_addr; }}"));
            lab.firewall(&format!("ip daddr @{set} {what}"));
        }
        let (folder, keys) = (Folder::new(name), Keys::new(name));
        run(&["ip", "-n", &lab.back, "addr", "add", "10.98.0.5/24", "dev", "veth0"]);
        let names = Server::start(lab, &keys, Speaks::Addresses, NAME_SERVER.parse().expect("an address"));
        let scene = Scene { lab, keys, folder, names: Mutex::new(names) };
        let text = "#!/bin/sh\nexec curl -fs -o /dev/null http://$EVENKEEL_ADDRESS:$EVENKEEL_PORT/health\n";
        fs::write(scene.program(), text).expect("the folder can be written");
        fs::set_permissions(scene.program(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        scene
    }

    /// Questions about names since these were struck or healed.
    pub fn names_asked(&self) -> u64 {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).asked()
    }

    fn names_be(&self, mood: Mood) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).be(mood);
    }

    fn program(&self) -> PathBuf {
        self.folder.0.join("probe")
    }

    /// A daemon that probes all of them, started on the balancer's host.
    pub fn daemon(&self, name: &str, subjects: &[Subject]) -> Daemon {
        let pool = &subjects[0].pool;
        let mut body = format!("[[listener]]\nlisten = \"10.98.0.1:80\"\nprotocol = \"tcp\"\npool = \"{pool}\"\n");
        for subject in subjects {
            let Timing { timeout, interval, unhealthy_interval, transition_interval, jitter, .. } = subject.timing;
            let Timing { healthy_threshold, unhealthy_threshold, .. } = subject.timing;
            let ms = |time: Duration| format!("\"{}ms\"", time.as_millis());
            let _ = write!(
                body,
                "[[pool]]\nname = \"{}\"\nbackends = [\"{}\"]\ncheck = {{ timeout = {}, interval = {}, \
                 unhealthy_interval = {}, transition_interval = {}, jitter = {jitter}, \
                 healthy_threshold = {healthy_threshold}, unhealthy_threshold = {unhealthy_threshold}, {} }}\n",
                subject.pool,
                subject.backend(),
                ms(timeout),
                ms(interval),
                ms(unhealthy_interval),
                ms(transition_interval),
                subject.kind.keys(&self.keys, &self.program()),
            );
        }
        let namespace = Some(self.lab.front.as_str());
        let node = format!(
            "allow_commands = true\nresolver = {{ servers = [\"{NAME_SERVER}\"], timeout = \"500ms\", min_ttl = \"200ms\" }}\n"
        );
        Daemon::start_with(&Setup { name, node: &node, body: &body, namespace })
    }
}

pub struct Subject {
    pub kind: Kind,
    pub fault: Fault,
    pub expected: Expected,
    pub timing: Timing,
    pub pool: String,
    address: SocketAddr,
    server: Option<Server>,
    /// When it was struck, and when it was healed: before and behind the command.
    pub struck: [Duration; 2],
    pub healed: [Duration; 2],
}

/// What was seen of one, each beside its bounds. Nothing where the verdict had to stay, and no rise where the machine was too
/// slow for a well backend to answer its probes.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub fell: Option<(Within, Bounds)>,
    pub rose: Option<(Within, Bounds)>,
    pub void: u64,
}

impl Subject {
    /// The `number` is of its address.
    pub fn new(scene: &Scene<'_>, number: usize, kind: Kind, fault: Fault, timing: Timing) -> Subject {
        let address = SocketAddr::from((address_of(number), 8000));
        run(&["ip", "-n", &scene.lab.back, "addr", "add", &format!("{}/24", address.ip()), "dev", "veth0"]);
        let server = kind.server().map(|speaks| Server::start(scene.lab, &scene.keys, speaks, address));
        let pool = format!("{number}-{kind:?}-{fault:?}").to_lowercase();
        let never = [Duration::ZERO; 2];
        let expected = expected(kind, fault);
        Subject { kind, fault, expected, timing, pool, address, server, struck: never, healed: never }
    }

    /// As the config has it.
    fn backend(&self) -> String {
        match self.fault {
            Fault::NameGone => format!("{}.health.test:{}", self.pool, self.address.port()),
            _ => self.address.to_string(),
        }
    }

    pub fn strike(&mut self, scene: &Scene<'_>) {
        let (back, front, address) = (&scene.lab.back, &scene.lab.front, self.address.ip());
        let begun = now();
        match (self.fault.mood(), &mut self.server) {
            (Some(mood), Some(server)) => server.be(mood),
            (Some(_), None) => {}
            (None, _) => match self.fault {
                Fault::Drops => nft(back, &format!("add element inet t dropped {{ {address} }}")),
                Fault::NameGone => scene.names_be(Mood::Sick),
                Fault::Rejects => nft(back, &format!("add element inet t rejected {{ {address} }}")),
                _ => {
                    run(&["ip", "-n", back, "addr", "del", &format!("{address}/24"), "dev", "veth0"]);
                    // Nobody may have asked for it lately.
                    try_run(&["ip", "-n", front, "neigh", "del", &address.to_string(), "dev", "veth0"]);
                }
            },
        }
        self.struck = [begun, now()];
    }

    pub fn heal(&mut self, scene: &Scene<'_>) {
        let (back, address) = (&scene.lab.back, self.address.ip());
        let begun = now();
        match (self.fault, &mut self.server) {
            (Fault::Drops, _) => nft(back, &format!("delete element inet t dropped {{ {address} }}")),
            (Fault::Rejects, _) => nft(back, &format!("delete element inet t rejected {{ {address} }}")),
            (Fault::NameGone, _) => scene.names_be(Mood::Well),
            (Fault::HostGone, _) => run(&["ip", "-n", back, "addr", "add", &format!("{address}/24"), "dev", "veth0"]),
            (_, Some(server)) => server.be(Mood::Well),
            (_, None) => {}
        }
        self.healed = [begun, now()];
    }

    /// Sick for so many probes, well for so many, and so on.
    pub fn flap(&mut self, sick: u64, well: u64) {
        if let Some(server) = &mut self.server {
            server.be(Mood::Turns { sick, well });
        }
    }

    /// Conversations since its server's mood was chosen.
    pub fn asked(&self) -> u64 {
        self.server.as_ref().map_or(0, Server::asked)
    }

    pub fn has_fallen(&self, changes: &[Change]) -> bool {
        !matches!(self.expected, Expected::Falls(..)) || first(changes, &self.pool, true, self.struck[0]).is_some()
    }

    pub fn has_risen(&self, changes: &[Change]) -> bool {
        !matches!(self.expected, Expected::Falls(..)) || first(changes, &self.pool, false, self.healed[0]).is_some()
    }

    /// Compares what was seen with what must be.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn judge(&self, changes: &[Change], lasted: &Lasted, metronome: &Metronome) -> Result<Seen, String> {
        let void = lasted.void;
        let fell = first(changes, &self.pool, true, self.struck[0]);
        let (evidence, took) = match self.expected {
            Expected::Falls(evidence, took) => (evidence, took),
            Expected::Stays(_) | Expected::NoSuch => {
                return match fell {
                    Some(fell) => Err(format!("it fell, and was to stay: {}", fell.because)),
                    None => Ok(Seen { fell: None, rose: None, void }),
                };
            }
        };
        let fell = fell.ok_or("it never fell")?;
        let rose = first(changes, &self.pool, false, self.healed[0]).ok_or("it never rose again")?;
        if !evidence.iter().any(|expected| fell.last_finding() == *expected) {
            return Err(format!("its evidence is \"{}\", and one of {evidence:?} is expected", fell.last_finding()));
        }
        let timing = &self.timing;
        for (change, threshold) in [(fell, timing.unhealthy_threshold), (rose, timing.healthy_threshold)] {
            if !change.counts(threshold) {
                return Err(format!("its threshold is {threshold}, and it changed because {}", change.because));
            }
        }
        let bounds = took.bounds(detection, timing, lasted);
        let down = Observed { begun: self.struck[0], done: self.struck[1], verdict: fell, void };
        let down = (down.within(&bounds, timing, timing.unhealthy_threshold, metronome)?, bounds);
        let bounds = took.bounds(recovery, timing, lasted);
        let up = Observed { begun: self.healed[0], done: self.healed[1], verdict: rose, void };
        let up = match up.within(&bounds, timing, timing.healthy_threshold, metronome) {
            Ok(up) => Some((up, bounds)),
            // A backend that was well did not get to answer in time: its run of passes began anew.
            Err(_) if lasted.last_failed > self.healed[1] => None,
            Err(outside) => return Err(outside),
        };
        Ok(Seen { fell: Some(down), rose: up, void })
    }
}

impl Took {
    /// From the best that the quickest failing probes allow to the worst of the slowest, where such probes were seen to take
    /// so long.
    fn bounds(self, span: fn(&Timing, Failing, Duration) -> Span, timing: &Timing, lasted: &Lasted) -> Bounds {
        let [quick, slow] = match self {
            Took::NoTime => [Failing::Refused, Failing::After(lasted.failed)],
            Took::Timeout => [Failing::Silent, Failing::Silent],
            Took::Between => [Failing::Refused, Failing::Silent],
        };
        // A probe that was under way makes a fall shorter, and one that takes its time makes a rise longer.
        let best = span(timing, quick, Duration::ZERO).best.min(span(timing, quick, lasted.passed).best);
        Bounds { best, worst: span(timing, slow, lasted.passed).worst }
    }
}

/// Waits until `there` holds for every one, and names those for which it does not.
pub fn wait_for(daemon: &Daemon, subjects: &[Subject], what: &str, there: impl Fn(&Subject, &[Change]) -> bool) {
    let mut last = 0;
    until(&format!("all to be {what}"), || {
        let changes = changes(daemon);
        let missing = subjects.iter().filter(|subject| !there(subject, &changes));
        let (some, count) = (missing.clone().take(8).map(|subject| subject.pool.as_str()), missing.clone().count());
        if count != last {
            last = count;
            eprintln!("{count} are not yet {what}: {} …", some.collect::<Vec<_>>().join(" "));
        }
        (count == 0).then_some(())
    });
}
