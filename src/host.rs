//! What is so on this host, as far as a plan depends on it: capabilities, kernel settings, addresses, policy routing.
//!
//! It reads and changes nothing. Whether it is enough for a plan is for `evenkeel_diagnose::host` to say; what cannot be
//! read is left open.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use evenkeel_diagnose::host::{Facts, ForeignBind, PolicyRule, Routing};
use evenkeel_model::Cidr;
use evenkeel_plan::{Plan, Source};
use serde_json::Value;

use crate::files::own_addresses;

/// Bits of CapEff.
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

/// The `ip` command is run only for plans that need its answer.
pub fn facts(plan: &Plan) -> Facts {
    let transparent = plan.pools.iter().any(|pool| pool.source == Source::Client);
    let status = fs::read_to_string("/proc/self/status").ok();
    let capabilities = status.as_deref().and_then(effective);
    let groups = status.as_deref().map(groups);
    let has = |bit: u32| capabilities.map(|bits| bits >> bit & 1 == 1);
    Facts {
        net_admin: has(NET_ADMIN),
        net_raw: has(NET_RAW),
        fast_open: setting("net/ipv4/tcp_fastopen"),
        accept_queue: setting("net/core/somaxconn"),
        receive_buffer: setting("net/core/rmem_max"),
        source_ports: fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|text| range(&text)),
        echo_requests: fs::read_to_string("/proc/sys/net/ipv4/ping_group_range")
            .ok()
            .and_then(|text| Some(is_within(&groups?, &text))),
        foreign_bind: ForeignBind {
            ipv4: setting("net/ipv4/ip_nonlocal_bind") == Some(1),
            ipv6: setting("net/ipv6/ip_nonlocal_bind") == Some(1),
        },
        addresses: Some(own_addresses()).filter(|addresses| !addresses.is_empty()),
        ipv4: if transparent { routing("-4") } else { None },
        ipv6: if transparent { routing("-6") } else { None },
    }
}

fn setting(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Groups in whose name the process acts: the effective one, and all it belongs to.
fn groups(status: &str) -> Vec<u32> {
    let numbers = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().filter_map(|number| number.parse().ok()).collect::<Vec<u32>>()
    };
    numbers("Gid:").get(1).copied().into_iter().chain(numbers("Groups:")).collect()
}

fn is_within(groups: &[u32], range: &str) -> bool {
    let mut bounds = range.split_whitespace().map(str::parse::<u32>);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) => groups.iter().any(|group| (first..=last).contains(group)),
        _ => false,
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => Some((first, last)),
        _ => None,
    }
}

fn routing(family: &str) -> Option<Routing> {
    let rules = ip(&[family, "-json", "rule", "show"])?;
    let routes = ip(&[family, "-json", "route", "show", "table", "all", "type", "local"])?;
    Some(Routing { rules: rules.iter().filter_map(rule).collect(), to_us: routes.iter().filter_map(to_us).collect() })
}

/// The list that an `ip` command prints; `None` without the command or its answer.
fn ip(arguments: &[&str]) -> Option<Vec<Value>> {
    let said = Command::new("ip").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    // Without a single entry nothing is printed, not even an empty list.
    match (said.status.success(), said.stdout.trim_ascii()) {
        (true, b"") => Some(Vec::new()),
        (true, text) => serde_json::from_slice(text).ok(),
        (false, _) => None,
    }
}

fn rule(rule: &Value) -> Option<PolicyRule> {
    let port = |name: &str| rule[name].as_u64().and_then(|port| u16::try_from(port).ok());
    let from = match rule["src"].as_str()? {
        "all" => None,
        text => {
            let address: IpAddr = text.parse().ok()?;
            let whole = if address.is_ipv4() { 32 } else { 128 };
            let length = rule["srclen"].as_u64().map_or(Some(whole), |length| u8::try_from(length).ok())?;
            Some(Cidr::new(address, length).ok()?)
        }
    };
    Some(PolicyRule {
        from,
        protocol: rule["ipproto"].as_str().map(str::to_owned),
        ports: port("sport").map(|port| (port, port)).or_else(|| Some((port("sport_start")?, port("sport_end")?))),
        table: rule["table"].as_str()?.to_owned(),
    })
}

/// The table of a route that delivers whatever it is asked for to this host.
fn to_us(route: &Value) -> Option<String> {
    let everything = matches!(route["dst"].as_str(), Some("default" | "0.0.0.0/0" | "::/0"));
    everything.then(|| route["table"].as_str().map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Value> {
        serde_json::from_str(text).expect("JSON")
    }

    // As iproute2 6.1 prints them.
    #[test]
    fn what_ip_prints_is_understood() {
        let rules = list(
            r#"[{"priority":0,"src":"all","table":"local"},
                {"priority":32763,"src":"10.1.0.0","srclen":16,"iif":"lo","table":"100"},
                {"priority":32764,"src":"all","fwmark":"0x1","fwmask":"0xff","table":"101"},
                {"priority":32765,"src":"10.0.0.11","ipproto":"tcp","sport":8080,"table":"100"},
                {"priority":32765,"src":"2001:db8::1","ipproto":"udp","sport_start":53,"sport_end":60,"table":"100"}]"#,
        );
        let cidr = |text: &str| Some(text.parse().expect("a prefix"));
        let made = |from, protocol: Option<&str>, ports, table: &str| PolicyRule {
            from,
            protocol: protocol.map(str::to_owned),
            ports,
            table: table.into(),
        };
        let read: Vec<PolicyRule> = rules.iter().filter_map(rule).collect();
        assert_eq!(
            read,
            [
                made(None, None, None, "local"),
                made(cidr("10.1.0.0/16"), None, None, "100"),
                made(None, None, None, "101"),
                made(cidr("10.0.0.11"), Some("tcp"), Some((8080, 8080)), "100"),
                made(cidr("2001:db8::1"), Some("udp"), Some((53, 60)), "100"),
            ]
        );
        let routes = list(
            r#"[{"type":"local","dst":"default","dev":"lo","table":"100","scope":"host","flags":[]},
                {"type":"local","dst":"127.0.0.0/8","dev":"lo","table":"local","protocol":"kernel","flags":[]}]"#,
        );
        assert_eq!(routes.iter().filter_map(to_us).collect::<Vec<_>>(), ["100"]);
    }

    #[test]
    fn capabilities_and_ports_are_read_from_what_the_kernel_writes() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000003000\nSeccomp:\t0\n";
        let bits = effective(status).expect("a line of capabilities");
        assert_eq!((bits >> NET_ADMIN & 1, bits >> NET_RAW & 1, bits >> 14), (1, 1, 0));
        assert_eq!(effective("Name:\tx\n"), None);
        let status = "Gid:\t1000\t33\t1000\t1000\nGroups:\t27 100 \n";
        assert_eq!(groups(status), [33, 27, 100]);
        let within = |range| is_within(&groups(status), range);
        assert_eq!(["1\t0\n", "0\t2147483647\n", "100\t100\n", "1000\t1000\n"].map(within), [false, true, true, false]);
        assert_eq!(range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(range("32768"), None);
    }
}
