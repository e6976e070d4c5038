//! A request went through the balancer and came to no good end: who answered, and whose fault that is.
//!
//! Three things may have answered: the balancer with a cause of its own, a backend whose answer was passed on, or somebody
//! in front of both. They are told apart by `Proxy-Status`, which the balancer puts on every error it makes or passes on.

use evenkeel_model::Cause;

use super::super::facts::{Answer, Facts, Failure, Looks, Node, Relayed, Scheme};
use super::super::seen::{Condition, answer, often, shows_evenkeel, tally, time, waited, worst};
use super::{Confidence, Judgement, Outcome, Whose, backends, cause, unfit};

pub(super) fn failing(facts: &Facts) -> Option<Judgement> {
    let unfit = unfit(facts);
    let Some((condition, count)) = unfit.first() else { return refused_by_backend(facts) };
    let judgement = match condition {
        Condition::Explained(_, cause) => cause::explained(facts, *cause),
        Condition::PassedOn(status, looks) => passed_on(facts, *status, *looks),
        // A good status is passed on without a mark, whatever is in the page.
        Condition::ServerError(status @ ..500, looks) => passed_on(facts, *status, *looks),
        Condition::ServerError(status, looks) => unmarked(facts, *status, *looks),
        Condition::RefusedHead(_, detail) => Judgement::fault(
            Whose::Network,
            format!("What answers there does not speak HTTP as a balancer would ({detail}): it is something else, or something in between rewrites answers."),
        )
        .confidence(Confidence::Guess),
        Condition::Cut(_) => cut(facts, condition),
        Condition::Failed(failure) => failed(facts, failure),
        Condition::Relayed(Relayed::ResetAtOnce) => reset_at_once(facts),
        Condition::Good(_) | Condition::ClientError(_) | Condition::Relayed(_) => return None,
    };
    let seen = format!("through the balancer it {}, {}", condition.does(), often(*count, facts.through.len()));
    let mut judgement = judgement;
    judgement.evidence.insert(0, seen);
    for (other, count) in &unfit[1..] {
        judgement.evidence.insert(1, format!("and it {}, {}", other.does(), often(*count, facts.through.len())));
    }
    Some(judgement)
}

/// Nothing was sent as a client, as to udp; but the node says that it would turn everybody away.
pub(super) fn offers_nobody(facts: &Facts) -> Option<Judgement> {
    let refusal = Cause::from_code(facts.pool.as_ref()?.refusal.as_deref()?)?;
    facts
        .through
        .is_empty()
        .then(|| cause::explained(facts, refusal).because("the node says that the pool offers nobody"))
}

/// A 5xx that a backend made and the balancer passed on.
fn passed_on(facts: &Facts, status: u16, looks: Looks) -> Judgement {
    let cause = Cause::BackendAnsweredError;
    backends::sick(facts, Some(cause)).unwrap_or_else(|| {
        let (sentence, next) = backends::server_error(status, looks, slowest(facts));
        let it = if facts.backends.is_empty() { "A backend" } else { "The backend" };
        let judgement = Judgement::fault(Whose::Backend, format!("{it} {sentence}"))
            .cause(cause)
            .because("it is the backend's own answer, which the balancer only passed on");
        let judgement = next.into_iter().fold(judgement, Judgement::next);
        if facts.backends.is_empty() {
            return judgement;
        }
        // Straight it answers well: what differs is the way, the moment or the connection.
        judgement.confidence(Confidence::Likely).because(
            "asked straight just now the backends answer well, so it comes and goes: load, one of several workers, or what the balancer's request has besides",
        )
    })
}

/// A 5xx without a word of the balancer's.
fn unmarked(facts: &Facts, status: u16, looks: Looks) -> Judgement {
    let named = facts.through.iter().filter_map(answer).find_map(server);
    let who = named.map_or_else(String::new, |name| format!(" It calls itself \"{name}\"."));
    if facts.through.iter().filter_map(answer).any(shows_evenkeel) {
        return passed_on(facts, status, looks);
    }
    let judgement = Judgement::fault(
        Whose::Network,
        format!("The {status} was made in front of the balancer, or there is no evenkeel at that address: it lacks the Proxy-Status that evenkeel puts on every error.{who}"),
    )
    .confidence(Confidence::Likely);
    let judgement = match &facts.node {
        Node::Answered(told) => judgement.because(format!("the node at {} runs", told.place)),
        Node::Absent { place, why } => judgement.because(format!("no node was found at {place}: {why}")),
        Node::NotAsked => judgement,
    };
    judgement
        .next("ask the balancer's own address: --resolve HOST:ADDRESS; if that answers well, look at the CDN, filter or proxy in front")
        .next("if that address is the balancer's, look which program has the port: ss -ltnp")
}

fn server(answer: &Answer) -> Option<String> {
    answer.field("server").map(str::to_owned)
}

/// The answer broke off. The balancer cuts so that nobody takes a part for the whole; whose fault it was shows straight.
fn cut(facts: &Facts, condition: &Condition) -> Judgement {
    let cause = condition.as_cause();
    if let Some(judgement) = backends::sick(facts, cause) {
        return judgement;
    }
    let judgement = Judgement::fault(
        if facts.backends.is_empty() { Whose::Backend } else { Whose::Network },
        "The answer breaks off in the middle.",
    )
    .confidence(Confidence::Guess);
    let judgement = cause.map_or(judgement.clone(), |cause| judgement.cause(cause));
    if facts.backends.is_empty() {
        judgement.next("look into the access log for this request: its cause says whether the backend, the client or the balancer ended it")
    } else {
        judgement.because("asked straight the backends send it whole").next(
            "look at timeouts of proxies between here and the balancer, and at the access log's cause of this request",
        )
    }
}

/// Not even an answer.
fn failed(facts: &Facts, failure: &Failure) -> Judgement {
    match failure {
        Failure::Silent => silent(facts),
        Failure::Reset | Failure::Closed => {
            if let Some(judgement) = backends::sick(facts, None) {
                return judgement;
            }
            let judgement = Judgement::fault(Whose::Network, "The connection ends before there is an answer.")
                .confidence(Confidence::Guess);
            let judgement = match &facts.listener {
                Some(listener) if listener.expects_proxy => judgement
                    .cause(Cause::ClientProxyHeaderInvalid)
                    .because(format!("listener \"{}\" expects a PROXY header from some addresses; if this host is one of them, it was refused for lack of one", listener.name)),
                Some(listener) if listener.has_access_list => judgement
                    .cause(Cause::ClientDeniedByAcl)
                    .because(format!("listener \"{}\" has an access list", listener.name)),
                Some(_) | None => judgement,
            };
            judgement.next("look into the access log of the listener for the cause; without a line there, something in between ended it")
        }
        Failure::NotHttp { .. } => Judgement::fault(
            Whose::Operator,
            "What answers there does not speak HTTP: another program has the port, or the URL has the wrong scheme.",
        )
        .confidence(Confidence::Likely)
        .next("ss -ltnp on that host shows who has the port"),
        Failure::Here(why) => Judgement::new(Outcome::CannotTell, format!("This host could not send the request: {why}.")),
        Failure::HeadEndless { .. } | Failure::Tls(_) | Failure::Refused | Failure::NoAnswerToSyn | Failure::Unreachable { .. } => {
            Judgement::fault(Whose::Network, "Connections to the balancer do not always work.".to_owned())
                .confidence(Confidence::Likely)
                .because("the first connect worked, a later one did not")
                .next("look at the balancer's host: files, memory, accept queue (step \"host\"), and at what stands in front of it")
        }
    }
}

/// We gave up before the balancer did.
fn silent(facts: &Facts) -> Judgement {
    let patience = facts.question.timeout;
    if let Some(judgement) = backends::sick(facts, Some(Cause::BackendResponseTimeout)) {
        return judgement;
    }
    let judgement = Judgement::fault(Whose::Backend, format!("No answer came within {}.", time(patience)))
        .confidence(Confidence::Guess);
    match &facts.pool {
        Some(pool) if pool.response_timeout > patience => judgement
            .cause(Cause::BackendResponseTimeout)
            .because(format!(
                "response_timeout of the pool is {}, so the balancer still waits for its backend then",
                time(pool.response_timeout)
            ))
            .next(format!(
                "wait longer to hear the balancer's own word: --timeout {}s",
                pool.response_timeout.as_secs() + 5
            )),
        Some(_) | None => judgement.next("wait longer to hear the balancer's own word: --timeout 70s"),
    }
}

/// A tcp listener that has nobody, or does not want this client.
fn reset_at_once(facts: &Facts) -> Judgement {
    if let Some(refusal) = facts.pool.as_ref().and_then(|pool| Cause::from_code(pool.refusal.as_deref()?)) {
        return cause::explained(facts, refusal);
    }
    if let Some(judgement) = backends::sick(facts, None) {
        return judgement;
    }
    let judgement =
        Judgement::fault(Whose::Operator, "The connection is reset at once although backends could serve it.")
            .confidence(Confidence::Guess);
    let judgement = match &facts.listener {
        Some(listener) if listener.has_access_list || !listener.limits.is_empty() => judgement
            .cause(Cause::ClientDeniedByAcl)
            .because(format!("listener \"{}\" has {}", listener.name, what_it_limits(facts)))
            .confidence(Confidence::Likely),
        Some(_) | None => judgement,
    };
    judgement.next("look into the access log of the listener for the cause")
}

pub(super) fn what_it_limits(facts: &Facts) -> String {
    let Some(listener) = &facts.listener else { return "no limits that are known".to_owned() };
    let list = listener.has_access_list.then(|| "an access list".to_owned());
    let parts: Vec<String> = list.into_iter().chain(listener.limits.iter().cloned()).collect();
    if parts.is_empty() { "neither access lists nor limits".to_owned() } else { parts.join(", ") }
}

/// Good or bad, every answer was a 4xx of a backend: the question may be the wrong one.
fn refused_by_backend(facts: &Facts) -> Option<Judgement> {
    if facts.question.scheme == Scheme::Udp {
        return None;
    }
    let tallied = tally(&facts.through);
    let (Condition::ClientError(status), count) = tallied.first()? else { return None };
    let (status, count) = (*status, *count);
    let seen = format!("through the balancer it answers {status}, {}", often(count, facts.through.len()));
    let wrong_host = facts.backends.iter().find_map(|backend| {
        let (host, attempt) = backend.other_host.as_ref()?;
        matches!(Condition::of(attempt), Condition::Good(_)).then_some((backend.address, host))
    });
    if let Some((address, host)) = wrong_host {
        return Some(
            Judgement::fault(
                Whose::Operator,
                format!("The backends know the site as \"{host}\" and not as \"{}\": they answer {status} to the Host that clients send.", facts.question.authority),
            )
            .about(&facts.question.authority)
            .because(seen)
            .because(format!("backend {address} answers well when asked with Host: {host}"))
            .next(format!("add \"{}\" to the names the backend serves (server_name in nginx), or let a rule set the Host it knows: request_headers = {{ set = {{ Host = \"{host}\" }} }}", facts.question.host)),
        );
    }
    let wants_tls = facts
        .backends
        .iter()
        .flat_map(|backend| &backend.straight)
        .chain(&facts.through)
        .filter_map(answer)
        .any(|answer| answer.looks == Looks::WantsTls);
    if wants_tls {
        let pool = facts.pool.as_ref().map_or_else(|| "the pool".to_owned(), |pool| format!("pool \"{}\"", pool.name));
        return Some(
            Judgement::fault(
                Whose::Operator,
                format!("The backends want TLS on that port, and {pool} speaks to them without."),
            )
            .because(seen)
            .because("the answer says so in its page")
            .next("add [pool.tls] to the pool, or use the backends' plain port"),
        );
    }
    let one_host = facts.backends.iter().filter_map(worst).any(|condition| matches!(condition, Condition::Good(_)));
    let judgement = if matches!(status, 401 | 403 | 407 | 429) {
        Judgement::fault(
            Whose::Client,
            format!(
                "The application refuses the request with {status}: it wants a client that it knows, or fewer requests."
            ),
        )
        .confidence(Confidence::Likely)
        .next("send what a real client sends: --header \"Authorization: ...\" (it is left out of reports)")
    } else if matches!(status, 413 | 414 | 431) {
        let (what, keys) = match status {
            413 => ("body", "client_max_body_size of nginx, LimitRequestBody of Apache, post_max_size of php"),
            _ => ("head", "large_client_header_buffers of nginx, LimitRequestLine and LimitRequestFieldSize of Apache"),
        };
        Judgement::fault(
            Whose::Backend,
            format!("The backend's own limit of a request's {what} answers {status}; the balancer's let it pass."),
        )
        .next(format!("raise it there if such requests are meant to work: {keys}"))
    } else if one_host {
        Judgement::fault(
            Whose::Backend,
            format!("Some backends answer {status} and others do not: they are not the same."),
        )
        .confidence(Confidence::Likely)
        .next("compare what is deployed on them; the step \"backends\" says which is which")
    } else {
        Judgement::fault(Whose::Client, format!("The application has nothing at \"{}\" for this Host: it answers {status} itself.", facts.question.path))
            .confidence(Confidence::Likely)
            .next("look at the spelling of the URL, and at rewrite_path and the Host that the backend is sent (steps \"rule\" and \"backends\")")
    };
    let judgement = judgement.because(seen);
    Some(if facts.backends.is_empty() {
        judgement.because("it is not the balancer's own answer, which would carry Proxy-Status")
    } else {
        judgement.because("asked straight, the backends say the same or make the difference")
    })
}

/// How long clients waited for the answers that failed, at most.
pub(super) fn slowest(facts: &Facts) -> std::time::Duration {
    facts.through.iter().map(waited).max().unwrap_or_default()
}
