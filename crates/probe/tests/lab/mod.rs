//! Two hosts and a cable: network namespaces joined by a veth pair, and a capture on the backend's end.
//!
//! Loopback hides what probes are about: which packets go out, what a firewall answers, an absent host. Everything
//! made here has a name of its own and goes away when the lab is dropped, by a panic too.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub const PROBER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
pub const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2));
pub const BACKEND_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2));
/// On the cable's network, but no host has it.
pub const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 77));

/// Port that ends a capture: a datagram to it is the last packet asked for.
const FENCE: u16 = 9;

pub struct Lab {
    prober: String,
    backend: String,
}

impl Lab {
    /// Builds the two hosts; says so and gives `None` where that is not possible, unless `./test` or CI promised
    /// that it is.
    pub fn build() -> Option<Lab> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        for tool in [["ip", "-V"], ["tcpdump", "--version"], ["nft", "--version"]] {
            let found = Command::new(tool[0]).arg(tool[1]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                return skipped(tool[0]);
            }
        }
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let name = |role| format!("evenkeel-{}-{number}-{role}", std::process::id());
        let lab = Lab { prober: name("prober"), backend: name("backend") };
        if !rustix::process::geteuid().is_root() || !try_run(&["ip", "netns", "add", &lab.prober]) {
            return skipped("root");
        }
        run(&["ip", "netns", "add", &lab.backend]);
        let Lab { prober, backend } = &lab;
        run(&["ip", "-n", prober, "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", backend]);
        for (host, last) in [(prober, "1"), (backend, "2")] {
            run(&["ip", "-n", host, "addr", "add", &format!("10.99.0.{last}/24"), "dev", "veth0"]);
            // Without duplicate address detection the address works at once.
            run(&["ip", "-n", host, "addr", "add", &format!("fd99::{last}/64"), "dev", "veth0", "nodad"]);
            run(&["ip", "-n", host, "link", "set", "lo", "up"]);
            run(&["ip", "-n", host, "link", "set", "veth0", "up"]);
        }
        Some(lab)
    }

    pub fn on_prober<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on(&self.prober, work)
    }

    pub fn on_backend<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on(&self.backend, work)
    }

    /// One rule for what comes in at the backend, for example `tcp dport 80 drop`.
    pub fn backend_firewall(&self, rule: &str) {
        run(&["ip", "netns", "exec", &self.backend, "nft", "add table inet t"]);
        let chain = "add chain inet t c { type filter hook input priority 0; }";
        run(&["ip", "netns", "exec", &self.backend, "nft", chain]);
        run(&["ip", "netns", "exec", &self.backend, "nft", &format!("add rule inet t c {rule}")]);
    }

    pub fn unplug(&self) {
        run(&["ip", "-n", &self.backend, "link", "set", "veth0", "down"]);
    }

    /// Makes the prober's host give up on an absent neighbour after some milliseconds instead of three seconds.
    pub fn hasten_arp(&self) {
        let setting = "/proc/sys/net/ipv4/neigh/veth0/retrans_time_ms";
        self.on_prober(|| std::fs::write(setting, "20").expect("root may set it"));
    }

    /// Lets everybody on the prober's host send echo requests, which a new network allows nobody.
    pub fn allow_echo(&self) {
        let setting = "/proc/sys/net/ipv4/ping_group_range";
        self.on_prober(|| std::fs::write(setting, "0 2147483647").expect("root may set it"));
    }

    /// Makes the backend's host spend its ICMP as Linux does unless told otherwise, whatever the machine it runs on says.
    pub fn ration_icmp(&self) {
        self.on_backend(|| {
            for (setting, value) in [("icmp_ratelimit", "1000"), ("icmp_ratemask", "6168")] {
                std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("root may set it");
            }
        });
    }

    /// ICMP refusals that the backend's host has sent so far, and those it has held back for want of a budget.
    pub fn icmp_spent(&self) -> (u64, u64) {
        // `/proc/net` is the network of the process, whatever that of the thread.
        let text =
            self.on_backend(|| std::fs::read_to_string("/proc/thread-self/net/snmp").expect("the kernel counts"));
        let mut lines = text.lines().filter(|line| line.starts_with("Icmp:"));
        let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { panic!("{text}") };
        let count = |wanted: &str| {
            let at = names.split_whitespace().position(|name| name == wanted);
            let number = at.and_then(|at| numbers.split_whitespace().nth(at));
            number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {wanted} in {names}"))
        };
        (count("OutDestUnreachs"), count("OutRateLimitHost") + count("OutRateLimitGlobal"))
    }

    /// Leaves the prober's host one port for all its outgoing connections.
    pub fn only_port_of_prober(&self, port: u16) {
        let setting = "/proc/sys/net/ipv4/ip_local_port_range";
        self.on_prober(|| std::fs::write(setting, format!("{port} {port}")).expect("root may set it"));
    }

    /// Starts a capture on the backend's end of the cable and waits until it runs.
    pub fn capture(&self) -> Capture {
        let fence = self.on_backend(|| UdpSocket::bind((BACKEND, FENCE)).expect("nobody else has the port"));
        let filter = format!("tcp or icmp or icmp6[0] == 1 or udp port {FENCE}");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.backend, "tcpdump", "-n", "-t", "-l", "-U", "--immediate-mode"]);
        command.args(["-i", "veth0", &filter]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // `ip netns exec` becomes tcpdump, so this child is tcpdump itself.
        let mut tcpdump = command.spawn().expect("it was found before");
        let lines = BufReader::new(tcpdump.stdout.take().expect("stdout is piped"));
        let mut said = BufReader::new(tcpdump.stderr.take().expect("stderr is piped")).lines();
        let listening = said.by_ref().map_while(Result::ok).any(|line| line.starts_with("listening on veth0"));
        assert!(listening, "tcpdump ended before it listened");
        // Somebody has to read what it says, or it could block.
        thread::spawn(move || said.count());
        Capture { tcpdump, lines, fence }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.prober, &self.backend] {
            try_run(&["ip", "netns", "del", namespace]);
        }
    }
}

pub struct Capture {
    tcpdump: Child,
    lines: BufReader<ChildStdout>,
    fence: UdpSocket,
}

impl Capture {
    /// Everything captured until now, oldest first. A last packet is sent over the cable and waited for, on
    /// the backend and in the capture: what is not here was not on the wire.
    pub fn packets(mut self, lab: &Lab) -> Vec<String> {
        lab.on_prober(|| {
            let socket = UdpSocket::bind((PROBER, 0)).expect("the prober's host has free ports");
            socket.send_to(b"fence", (BACKEND, FENCE)).expect("the cable is plugged in");
        });
        self.fence.recv_from(&mut [0; 16]).expect("the fence arrives");
        let mut packets = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("tcpdump writes text");
            assert!(read > 0, "tcpdump ended; captured so far: {packets:#?}");
            if line.contains(&format!("{BACKEND}.{FENCE}: UDP")) {
                return packets;
            }
            packets.push(line.trim_end().to_owned());
        }
    }

    /// The TCP packets among them as `> S` (from the prober) and `< S.` (from the backend), in tcpdump's letters.
    pub fn tcp_flags(self, lab: &Lab, port: u16) -> Vec<String> {
        let to_backend = format!(" > {BACKEND}.{port}: Flags [");
        let flags = |line: &String| {
            let flags = line.split_once("Flags [")?.1.split_once(']')?.0;
            Some(format!("{} {flags}", if line.contains(&to_backend) { '>' } else { '<' }))
        };
        self.packets(lab).iter().filter_map(flags).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about either.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

/// Runs `work` on a thread inside the namespace. Sockets it opens stay there wherever they go.
fn on<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/run/netns/{namespace}");
    let worker = move || {
        let link = File::open(&path).expect("the namespace exists as long as the lab");
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&link), Some(LinkNameSpaceType::Network))
            .expect("root may enter a namespace");
        work()
    };
    thread::scope(|scope| match scope.spawn(worker).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

pub fn backend(port: u16) -> SocketAddr {
    SocketAddr::new(BACKEND, port)
}

fn try_run(command: &[&str]) -> bool {
    let output = Command::new(command[0]).args(&command[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

fn run(command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).output().expect("the tool was found before");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Straight to stderr: the test harness swallows what a passing test prints.
fn skipped(missing: &str) -> Option<Lab> {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let text = format!("{test} skipped: needs root and iproute2, tcpdump, nft; missing here: {missing}\n");
    assert!(std::env::var_os("EVENKEEL_REQUIRE_ALL").is_none(), "{text}EVENKEEL_REQUIRE_ALL allows no skipping");
    let _ = std::io::stderr().write_all(text.as_bytes());
    None
}
