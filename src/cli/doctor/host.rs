//! Kernel settings and counters of this host, from `/proc`. What cannot be read is left open.
//!
//! Counters that only ever grow are read twice, so that trouble of last year is not taken for today's.

use std::fs;

use evenkeel_diagnose::doctor::facts::Host;

/// `pid` is the node's, where it is known.
pub fn look(pid: Option<u32>) -> Host {
    let (overflows, drops) = read("/proc/net/netstat").map_or((None, None), |text| {
        (counter(&text, "TcpExt:", "ListenOverflows"), counter(&text, "TcpExt:", "ListenDrops"))
    });
    let source_ports = read("/proc/sys/net/ipv4/ip_local_port_range")
        .and_then(|text| pair(&text))
        .and_then(|(first, last)| Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?)));
    Host {
        rp_filter: rp_filter(),
        accept_queue: setting("net/core/somaxconn"),
        abort_on_overflow: setting("net/ipv4/tcp_abort_on_overflow"),
        reuse_time_wait: setting("net/ipv4/tcp_tw_reuse"),
        listen_overflows: overflows,
        listen_drops: drops,
        overflows_meanwhile: None,
        source_ports,
        ports_in_use: source_ports.map(ports_in_use),
        conntrack: setting("net/netfilter/nf_conntrack_count").zip(setting("net/netfilter/nf_conntrack_max")),
        files: pid.and_then(files_of),
        files_of_host: read("/proc/sys/fs/file-nr").and_then(|text| {
            let mut words = text.split_whitespace().map(str::parse);
            Some((words.next()?.ok()?, words.nth(1)?.ok()?))
        }),
        memory: read("/proc/meminfo").and_then(|text| Some((kib(&text, "MemAvailable:")?, kib(&text, "MemTotal:")?))),
        load: read("/proc/loadavg").and_then(|text| {
            let load: f64 = text.split_whitespace().next()?.parse().ok()?;
            let cpus = std::thread::available_parallelism().ok()?.get() as u64;
            Some(((load * 100.0) as u64, cpus))
        }),
    }
}

/// The same, with what has happened since.
pub fn look_again(pid: Option<u32>, before: &Host) -> Host {
    let now = look(pid);
    let more = now.listen_overflows.zip(before.listen_overflows).map(|(now, before)| now.saturating_sub(before));
    Host { overflows_meanwhile: more, ..now }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn setting(name: &str) -> Option<u64> {
    read(&format!("/proc/sys/{name}"))?.trim().parse().ok()
}

fn pair(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

/// The kernel takes the larger of `all` and the interface's own.
fn rp_filter() -> Vec<(String, u64)> {
    let all = setting("net/ipv4/conf/all/rp_filter").unwrap_or(0);
    let folder = fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten();
    let names = folder.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut found: Vec<(String, u64)> = names
        .filter(|name| name != "all" && name != "default" && name != "lo")
        .filter_map(|name| Some((name.clone(), setting(&format!("net/ipv4/conf/{name}/rp_filter"))?.max(all))))
        .collect();
    found.sort();
    found
}

/// A number of `/proc/net/netstat`: a line of names, and below it a line of numbers.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

fn ports_in_use((first, last): (u16, u16)) -> u64 {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let rows = tables.iter().filter_map(|path| read(path)).map(|text| in_range(&text, first, last));
    rows.sum()
}

/// Rows of `/proc/net/tcp` with a local port in the range that are no listening sockets.
fn in_range(table: &str, first: u16, last: u16) -> u64 {
    let in_use = |row: &str| {
        let mut words = row.split_whitespace();
        let port = words.nth(1).and_then(|local| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok())?;
        let state = words.nth(1)?;
        Some(state != "0A" && (first..=last).contains(&port))
    };
    table.lines().skip(1).filter(|row| in_use(row) == Some(true)).count() as u64
}

/// Open files of a process, and how many it may have.
fn files_of(pid: u32) -> Option<(u64, u64)> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let limits = read(&format!("/proc/{pid}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some((open, line.split_whitespace().next()?.parse().ok()?))
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_name_and_group() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\nIpExt: InNoRoutes ListenDrops\nIpExt: 7 8\n";
        assert_eq!(counter(text, "TcpExt:", "ListenOverflows"), Some(22));
        assert_eq!(counter(text, "TcpExt:", "ListenDrops"), Some(333));
        assert_eq!(counter(text, "TcpExt:", "Unheard"), None);
        assert_eq!(counter("", "TcpExt:", "ListenDrops"), None);
    }

    #[test]
    fn ports_are_in_use_by_connections_and_not_by_listeners() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:8000 00000000:0000 0A 0\n   1: 0100007F:8001 0100007F:0050 01 0\n   2: 0100007F:8002 0100007F:0050 06 0\n   3: 0100007F:0050 0100007F:8001 01 0\nrubbish\n";
        assert_eq!(in_range(table, 0x8000, 0x9000), 2);
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let host = look(Some(std::process::id()));
        assert!(host.files.is_some_and(|(open, most)| open > 0 && most > 0));
        assert!(host.source_ports.is_some() && host.ports_in_use.is_some());
    }
}
