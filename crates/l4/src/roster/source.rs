//! Where what goes to a pool's backends comes from, and how the kernel is to watch over it.
//!
//! The addresses of a list take turns on each worker by itself. Where none of them is of the backend's family, nor the
//! client's own is, one is named all the same: the kernel refuses it, and the cause says so. To leave the choice to the
//! kernel would go past what a firewall was told.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use evenkeel_plan as plan;
use evenkeel_reactor::{Dial, Source, TcpOptions};

use super::PoolSlot;

impl PoolSlot {
    /// How a connection to `to` is made that serves `client`.
    pub fn dial(&self, client: IpAddr, to: SocketAddr) -> Dial {
        self.read(|settings| {
            let plan::SocketTcp { keepalive, user_timeout } = settings.tcp;
            let from = from(&settings.source, &self.turn, client, to);
            Dial { from, options: TcpOptions { keepalive, user_timeout }, ..Dial::to(to) }
        })
    }

    /// Where datagrams of `client` to `to` come from.
    pub fn source(&self, client: IpAddr, to: SocketAddr) -> Source {
        self.read(|settings| from(&settings.source, &self.turn, client, to))
    }
}

fn from(source: &plan::Source, turn: &Cell<usize>, client: IpAddr, to: SocketAddr) -> Source {
    match source {
        plan::Source::Kernel => Source::Kernel,
        plan::Source::Client => Source::Foreign(client.to_canonical()),
        plan::Source::Own(addresses) => {
            let first = turn.get();
            let places = || (first..first + addresses.len()).map(|place| place % addresses.len());
            let of_family = |place: &usize| addresses[*place].is_ipv4() == to.is_ipv4();
            // An empty list is no list; config makes none.
            let Some(place) = places().find(of_family).or_else(|| places().next()) else { return Source::Kernel };
            turn.set(place + 1);
            Source::Own(addresses[place])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_backends_family_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let (client, four, six) = (ip("::ffff:198.51.100.7"), "10.0.0.1:80", "[2001:db8::1]:80");
        let own = |list: &[&str]| plan::Source::Own(list.iter().map(|text| ip(text)).collect());
        let taken = |source: &plan::Source, to: &str, times: usize| -> Vec<Source> {
            let turn = Cell::default();
            (0..times).map(|_| from(source, &turn, client, to.parse().expect("an address"))).collect()
        };
        let mixed = own(&["192.0.2.1", "2001:db8::a", "192.0.2.2", "2001:db8::b"]);
        let expected = ["192.0.2.1", "192.0.2.2", "192.0.2.1"].map(|text| Source::Own(ip(text)));
        assert_eq!(taken(&mixed, four, 3), expected);
        let expected = ["2001:db8::a", "2001:db8::b", "2001:db8::a"].map(|text| Source::Own(ip(text)));
        assert_eq!(taken(&mixed, six, 3), expected);
        // The kernel says no to it, as it should.
        assert_eq!(taken(&own(&["192.0.2.1"]), six, 1), [Source::Own(ip("192.0.2.1"))]);
        assert_eq!(taken(&own(&[]), four, 1), [Source::Kernel]);
        assert_eq!(taken(&plan::Source::Kernel, four, 1), [Source::Kernel]);
        assert_eq!(taken(&plan::Source::Client, four, 1), [Source::Foreign(ip("198.51.100.7"))]);
    }
}
