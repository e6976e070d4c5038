//! The URL that a doctor is asked about, and what its name stands for.
//!
//! Names are asked of the system, as most clients do: what they are told is what matters here, and not what is right.

use std::net::{IpAddr, ToSocketAddrs};

use evenkeel_diagnose::doctor::facts::{Resolution, Scheme};

#[derive(Debug, PartialEq)]
pub struct Url {
    pub scheme: Scheme,
    /// Host and port as written.
    pub authority: String,
    /// Without brackets.
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl Url {
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(text: &str) -> Result<Url, String> {
        let shown = text.escape_debug();
        if let Some(bad) = text.chars().find(|character| !character.is_ascii_graphic()) {
            return Err(format!("\"{shown}\" holds {bad:?}, which no URL can; write it percent-encoded"));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (scheme, usual_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
            "tcp" => (Scheme::Tcp, None),
            "udp" => (Scheme::Udp, None),
            _ => return Err(format!("\"{shown}\" is none of http, https, tcp and udp")),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("the URL names a user; send it as --header \"Authorization: ...\"".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colons inside brackets are the address's own.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if host.is_empty() {
            return Err(format!("\"{shown}\" has no host"));
        }
        let port = match (port.map(str::parse::<u16>), usual_port) {
            (Some(Ok(port)), _) if port > 0 => port,
            (None, Some(port)) => port,
            (None, None) => return Err(format!("\"{shown}\" has no port")),
            (Some(_), _) => return Err(format!("\"{shown}\" has a bad port; ports are 1 to 65535")),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Url { scheme, authority: authority.to_owned(), host, port, path })
    }
}

/// `NAME:ADDRESS`, as curl's `--resolve` without the port.
pub fn given(text: &str) -> Result<(String, IpAddr), String> {
    let read = text.split_once(':').and_then(|(name, address)| {
        let address = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        (!name.is_empty()).then(|| (name.to_ascii_lowercase(), address))
    });
    read.ok_or_else(|| "write NAME:ADDRESS, such as www.example.com:192.0.2.10".to_owned())
}

/// Addresses that are looked at; names with more are not told apart by them.
const ADDRESSES_MAX: usize = 8;

pub fn resolve(url: &Url, given: &[(String, IpAddr)]) -> (Resolution, Vec<IpAddr>) {
    if let Ok(address) = url.host.parse::<IpAddr>() {
        return (Resolution::Address(address), vec![address]);
    }
    let named: Vec<IpAddr> =
        given.iter().filter(|(name, _)| url.host.eq_ignore_ascii_case(name)).map(|(_, address)| *address).collect();
    if !named.is_empty() {
        return (Resolution::Given(named.clone()), named);
    }
    match (url.host.as_str(), url.port).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|address| address.ip()) {
                if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                    addresses.push(address);
                }
            }
            (Resolution::Found(addresses.clone()), addresses)
        }
        Err(error) => {
            let why = error.to_string();
            // EAI_AGAIN in the words of the C library.
            let failed = why.contains("Temporary failure");
            (if failed { Resolution::Failed(why) } else { Resolution::Unknown(why) }, Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_all_schemes_are_read_and_users_in_them_refused() {
        let url = Url::read("https://[2001:db8::1]:8443/a?b=c#d").expect("a URL");
        assert_eq!(
            (url.scheme, url.host.as_str(), url.port, url.path.as_str()),
            (Scheme::Https, "2001:db8::1", 8443, "/a?b=c")
        );
        assert_eq!(url.authority, "[2001:db8::1]:8443");
        let url = Url::read("www.example.com").expect("http is understood");
        assert_eq!((url.scheme, url.port, url.path.as_str()), (Scheme::Http, 80, "/"));
        assert_eq!(Url::read("tcp://db:3306").map(|url| (url.scheme, url.port)), Ok((Scheme::Tcp, 3306)));
        for refused in
            ["tcp://db", "ftp://x/", "http://u:p@x/", "http:///x", "http://x:0/", "http://x:99999/", "http://x/\u{e9}"]
        {
            let why = Url::read(refused).expect_err(refused);
            assert!(!why.contains("u:p"), "{why}");
        }
    }

    #[test]
    fn a_name_can_be_given_an_address_of_either_family() {
        assert_eq!(given("Www:10.0.0.1"), Ok(("www".to_owned(), "10.0.0.1".parse().expect("an address"))));
        assert_eq!(given("www:[::1]"), Ok(("www".to_owned(), "::1".parse().expect("an address"))));
        for refused in ["www", ":10.0.0.1", "www:x", "www:443:10.0.0.1"] {
            assert!(given(refused).is_err(), "{refused}");
        }
    }
}
