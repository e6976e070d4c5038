//! What a client meets before its request counts: the name, the port, the handshake, the certificate.
//!
//! Here the balancer may not be met at all, so little of it is taken for granted: an address that refuses connections may
//! be a balancer that is down or a name that leads elsewhere.

use std::net::SocketAddr;

use evenkeel_model::Cause;

use super::super::facts::{Facts, Failure, Handshake, Node, Resolution, Scheme};
use super::super::seen::{failed, list};
use super::{CLOCK_SKEW, Confidence, Judgement, Outcome, Whose};

pub(super) fn name(facts: &Facts) -> Option<Judgement> {
    let host = &facts.question.host;
    match facts.name.as_ref()? {
        Resolution::Address(_) | Resolution::Given(_) | Resolution::Found(_) => None,
        Resolution::Unknown(why) => Some(
            Judgement::fault(
                Whose::Operator,
                format!("The name \"{host}\" has no address here, so no client gets as far as the balancer."),
            )
            .about(host)
            .because(format!("the resolver says: {why}"))
            .next(format!("look at the spelling, and ask the name's own servers: dig {host}"))
            .next(format!("to ask the balancer past DNS: --resolve {host}:ADDRESS")),
        ),
        Resolution::Failed(why) => Some(
            Judgement::fault(
                Whose::Network,
                format!("The name \"{host}\" could not be looked up: the name servers of this host do not answer."),
            )
            .about(host)
            .confidence(Confidence::Likely)
            .because(format!("the resolver says: {why}"))
            .next("look at /etc/resolv.conf and the way to the servers it names")
            .next(format!("to ask the balancer past DNS: --resolve {host}:ADDRESS")),
        ),
    }
}

/// Nobody takes a connection at any of the addresses.
pub(super) fn connect(facts: &Facts) -> Option<Judgement> {
    if facts.question.scheme == Scheme::Udp {
        return None;
    }
    let failures: Vec<(SocketAddr, &Failure)> =
        facts.connects.iter().filter_map(|connect| Some((connect.to, connect.result.as_ref().err()?))).collect();
    if failures.is_empty() {
        return None;
    }
    if failures.len() < facts.connects.len() {
        // A client that tries the bad address first waits, or fails.
        let addresses: Vec<SocketAddr> = failures.iter().map(|(address, _)| *address).collect();
        let is_failing = !super::unfit(facts).is_empty();
        return (!is_failing).then(|| {
            Judgement::fault(
                Whose::Network,
                format!("Of {} addresses of \"{}\" {} cannot be connected to: clients that try it first wait or fail.", facts.connects.len(), facts.question.host, list(&addresses)),
            )
            .confidence(Confidence::Likely)
            .because_all(failures.iter().map(|(address, failure)| format!("{address} {}", failed(failure))))
            .next("start what should listen there, mend the way to it, or take the address out of DNS; IPv6 without a route from here is this host's own affair")
        });
    }
    let (address, failure) = failures[0];
    let evidence: Vec<String> =
        failures.iter().map(|(address, failure)| format!("{address} {}", failed(failure))).collect();
    let owner = facts.listener.as_ref();
    let judgement = match failure {
        Failure::Refused => match (&facts.node, owner) {
            (Node::Answered(told), Some(listener)) => Judgement::fault(
                Whose::Network,
                format!("{address} refuses connections although listener \"{}\" of the node at {} has that port: the packets do not get to this node.", listener.name, told.place),
            )
            .confidence(Confidence::Likely)
            .next("look whether the address is this node's: ip address; another host, or a firewall that rejects with a reset, may answer in its place"),
            (Node::Answered(told), None) => Judgement::fault(
                Whose::Operator,
                format!("Nothing listens on {address}: the node that answers at {} has no listener there.", told.place),
            )
            .next("add a listener for that address and port, or send clients to one that exists")
            .next("evenkeel check FILE lists what is configured"),
            (Node::Absent { .. } | Node::NotAsked, _) => Judgement::fault(
                Whose::Balancer,
                format!("Nothing listens on {address}: the balancer does not run there, or the name leads to another host."),
            )
            .confidence(Confidence::Likely)
            .next("on that host: systemctl status evenkeel; ss -ltnp")
            .next("compare the address with the one that the listener should have"),
        },
        Failure::NoAnswerToSyn => Judgement::fault(
            Whose::Network,
            format!("{address} does not answer connection attempts at all: a host that is down, a firewall that drops, or an accept queue that is full."),
        )
        .confidence(Confidence::Likely)
        .next("try from another network: only your side blocked means a firewall or provider in between")
        .next("on the balancer's host: ss -ltn shows Recv-Q beside Send-Q for a full accept queue; nft list ruleset"),
        Failure::Unreachable { .. } => Judgement::fault(
            Whose::Network,
            format!("The network says that {address} cannot be reached."),
        )
        .next("look at routes and firewalls between here and there: ip route get ADDRESS"),
        Failure::Here(why) => Judgement::new(Outcome::CannotTell, format!("This host could not even try: {why}.")),
        other => Judgement::fault(Whose::Network, format!("{address} {}.", failed(other))).confidence(Confidence::Guess),
    };
    Some(judgement.about(address.to_string()).because_all(evidence))
}

/// No handshake could be made, whatever certificate was accepted.
pub(super) fn handshake(facts: &Facts) -> Option<Judgement> {
    let seen = facts.tls.as_ref()?;
    let why = seen.failed.as_ref()?;
    let lower = why.to_lowercase();
    let host = &facts.question.host;
    let judgement = if lower.contains("unrecognisedname")
        || lower.contains("unrecognizedname")
        || lower.contains("unrecognized_name")
    {
        Judgement::fault(
            Whose::Operator,
            format!("No certificate of the listener covers \"{host}\", so the handshake is refused."),
        )
        .cause(Cause::TlsNoCertificateForName)
        .next("add a certificate for the name to the listener, or mend the DNS record that sends this name here")
    } else if lower.contains("corrupt") || lower.contains("invalidcontenttype") || lower.contains("invalid content") {
        Judgement::fault(Whose::Operator, "That port does not speak TLS: something answered in clear text.".to_owned())
            .next("use http:// for this port, or make the listener protocol = \"https\" with a certificate")
    } else if lower.contains("protocolversion") || lower.contains("handshakefailure") || lower.contains("no cipher") {
        Judgement::fault(Whose::Operator, "Client and listener have no TLS version or cipher in common.".to_owned())
            .cause(Cause::TlsHandshakeFailed)
            .next("look at [listener.tls] policy: \"modern\" speaks TLS 1.3 only")
    } else if lower.contains("certificaterequired") || lower.contains("certificate_required") {
        Judgement::fault(Whose::Client, "The listener wants a certificate of the client, and this one showed none.".to_owned())
            .cause(Cause::TlsHandshakeFailed)
            .next("this command has no client certificate to show; try from a client that has one, or set client_certificate = \"optional\"")
    } else {
        Judgement::fault(Whose::Network, format!("The TLS handshake with \"{host}\" did not finish."))
            .cause(Cause::TlsHandshakeFailed)
            .confidence(Confidence::Guess)
            .next("something on the way that ends handshakes (a provider's filter, a proxy) and a server that is no TLS server look alike; try from another network")
    };
    Some(judgement.about(host).because(format!("the handshake ended with: {why}")))
}

/// The handshake works for us, who accept everything; a browser would refuse it.
pub(super) fn certificate(facts: &Facts) -> Option<Judgement> {
    let seen = facts.tls.as_ref()?;
    let why = seen.untrusted.as_ref()?;
    let (sentence, next) = complaint(seen, why, facts.now, &facts.question.host);
    let certain = !why.to_lowercase().contains("unknownissuer");
    Some(
        Judgement::fault(Whose::Operator, sentence)
            .about(&facts.question.host)
            .confidence(if certain { Confidence::Sure } else { Confidence::Likely })
            .because(format!("a client that verifies says: {why}"))
            .because_all(seen.chain.first().map(super::super::steps::certificate))
            .because("the requests themselves were answered, because this command goes on with any certificate")
            .next(next),
    )
}

/// What is wrong with a certificate, and what mends it.
pub(in crate::doctor) fn complaint(seen: &Handshake, why: &str, now: u64, name: &str) -> (String, String) {
    let lower = why.to_lowercase();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let leaf = seen.chain.first();
    let days = |seconds: i64| seconds / 86_400;
    match leaf {
        Some(leaf) if leaf.not_after < now => (
            format!("The certificate of \"{name}\" expired {} days ago.", days(now - leaf.not_after)),
            "renew it, put the new files in place and reload".to_owned(),
        ),
        Some(leaf) if leaf.not_before > now.saturating_add(CLOCK_SKEW as i64) => (
            format!("The certificate of \"{name}\" is not valid yet, or this host's clock is slow."),
            "compare the clock (timedatectl) with the date in the certificate".to_owned(),
        ),
        Some(leaf) if lower.contains("notvalidforname") || lower.contains("not valid for name") => (
            format!("The certificate is for {} and not for \"{name}\".", list(&leaf.names)),
            "add a certificate for the name; the listener picks by SNI".to_owned(),
        ),
        Some(leaf) if leaf.subject == leaf.issuer && seen.chain.len() == 1 => (
            format!("The certificate of \"{name}\" vouches for itself: only who was given it beforehand accepts it."),
            "use a certificate of an authority that the clients trust".to_owned(),
        ),
        _ if lower.contains("unknownissuer") || lower.contains("unknown issuer") => (
            format!("The authority behind the certificate of \"{name}\" is not one that this host trusts, or the chain lacks an intermediate certificate."),
            "put the intermediate certificates behind the leaf in the certificate file; a private authority has to be known to the clients".to_owned(),
        ),
        _ => (format!("Clients refuse the certificate of \"{name}\"."), "read the verifier's words above".to_owned()),
    }
}
