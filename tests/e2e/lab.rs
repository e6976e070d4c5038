//! Two hosts and a cable for whole daemons: the balancer's namespace with its clients in front, and a namespace
//! with the addresses of several backends behind it.
//!
//! Loopback has no firewall in between and no host that stays silent. What is made here has names of its own and
//! goes away with the lab, by a panic too.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::daemon::{has, skipped};

pub const BACKENDS: [&str; 3] = ["10.98.0.11", "10.98.0.12", "10.98.0.13"];

pub struct Lab {
    pub front: String,
    pub back: String,
}

impl Lab {
    /// Builds the hosts; says so and gives `None` where that is not possible.
    pub fn build(test: &str) -> Option<Lab> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        if let Some(tool) = ["ip", "nft"].into_iter().find(|tool| !has(tool)) {
            skipped(test, tool);
            return None;
        }
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let name = |role| format!("evenkeel-e2e-{}-{number}-{role}", std::process::id());
        let lab = Lab { front: name("front"), back: name("back") };
        if !rustix::process::geteuid().is_root() || !try_run(&["ip", "netns", "add", &lab.front]) {
            skipped(test, "root, to make network namespaces");
            return None;
        }
        run(&["ip", "netns", "add", &lab.back]);
        let Lab { front, back } = &lab;
        run(&["ip", "-n", front, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", back]);
        run(&["ip", "-n", front, "addr", "add", "10.98.0.1/24", "dev", "veth0"]);
        for address in BACKENDS {
            run(&["ip", "-n", back, "addr", "add", &format!("{address}/24"), "dev", "veth0"]);
        }
        for host in [front, back] {
            run(&["ip", "-n", host, "link", "set", "lo", "up"]);
            run(&["ip", "-n", host, "link", "set", "veth0", "up"]);
        }
        nft(back, "add table inet t");
        nft(back, "add chain inet t c { type filter hook input priority 0; }");
        Some(lab)
    }

    /// Runs `work` on the balancer's host, on a thread of its own.
    pub fn on_front<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                enter(&self.front);
                work()
            });
            done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The same on the backends' host.
    pub fn on_back<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                enter(&self.back);
                work()
            });
            done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Makes the backends' host send ICMP refusals as Linux does unless told otherwise: one a second to each address.
    pub fn ration_icmp(&self) {
        self.on_back(|| {
            for (setting, value) in [("icmp_ratelimit", "1000"), ("icmp_ratemask", "6168")] {
                std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("root may set it");
            }
        });
    }

    /// Refusals that the backends' host has held back so far, because its budget was used up.
    pub fn icmp_held_back(&self) -> u64 {
        // `/proc/net` is the network of the process, whatever that of the thread.
        let read = || std::fs::read_to_string("/proc/thread-self/net/snmp").expect("the kernel counts");
        let text = self.on_back(read);
        let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
        let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { panic!("{text}") };
        let counts = names.split_whitespace().zip(numbers.split_whitespace());
        let held_back = counts.filter(|(name, _)| name.starts_with("OutRateLimit"));
        held_back.map(|(_, count)| count.parse::<u64>().expect("a count is a number")).sum()
    }

    /// One firewall rule for what comes in at the backends.
    pub fn firewall(&self, rule: &str) {
        nft(&self.back, &format!("add rule inet t c {rule}"));
    }

    pub fn open_firewall(&self) {
        nft(&self.back, "flush chain inet t c");
    }

    /// A command that will run on the backends' host; `ip netns exec` becomes it, so the child is it.
    pub fn backend_command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.back, program]);
        command
    }

    /// Whether somebody listens at `address` on the backends' host.
    pub fn listens(&self, address: &str, port: u16) -> bool {
        let ip: IpAddr = address.parse::<Ipv4Addr>().expect("an address").into();
        std::thread::scope(|scope| {
            let looked = scope.spawn(|| {
                enter(&self.back);
                crate::daemon::tcp_table()
                    .iter()
                    .any(|row| row.state == crate::daemon::State::LISTEN && row.local == (ip, port).into())
            });
            looked.join().expect("looking does not panic")
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.front, &self.back] {
            try_run(&["ip", "netns", "del", namespace]);
        }
    }
}

/// Moves this thread into a namespace, for good.
pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the lab made it");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
}

pub fn nft(namespace: &str, rule: &str) {
    run(&["ip", "netns", "exec", namespace, "nft", rule]);
}

pub fn run(words: &[&str]) {
    assert!(try_run(words), "{words:?} failed");
}

pub fn try_run(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
