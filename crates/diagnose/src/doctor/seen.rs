//! What one try, and several, come to: a condition. Both steps and judgement read tries by it only.
//!
//! A condition is what a client felt, without a reason: `Silent` is no answer in time, whoever was slow. What an answer of
//! the balancer itself says of its cause is in the condition; nobody else's word is taken for it.

use std::time::Duration;

use evenkeel_model::Cause;

use super::facts::{Answer, Backend, Begins, End, Failure, Looks, Outcome, Relayed, Try};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Below 400, and whole.
    Good(u16),
    /// 4xx of whoever is behind.
    ClientError(u16),
    /// 5xx, and who seems to have written it.
    ServerError(u16, Looks),
    /// An answer of the balancer's own, with its cause.
    Explained(u16, Cause),
    /// The balancer's mark for a 5xx that it only passed on.
    PassedOn(u16, Looks),
    /// A head that the balancer refuses, though a lenient client takes it.
    RefusedHead(Cause, String),
    Cut(End),
    Failed(Failure),
    Relayed(Relayed),
}

impl Condition {
    pub(super) fn of(attempt: &Try) -> Condition {
        match &attempt.outcome {
            Outcome::Failed(failure) => Condition::Failed(failure.clone()),
            Outcome::Relayed(relayed) => Condition::Relayed(relayed.clone()),
            Outcome::Answered(answer) => Condition::of_answer(answer),
        }
    }

    fn of_answer(answer: &Answer) -> Condition {
        match own_word(answer) {
            Some(Word::Cause(cause)) => return Condition::Explained(answer.status, cause),
            Some(Word::Received) => return Condition::PassedOn(answer.status, answer.looks),
            None => {}
        }
        if let Some((cause, detail)) = &answer.refused {
            return Condition::RefusedHead(*cause, detail.clone());
        }
        match (&answer.end, answer.status) {
            (End::Whole | End::NotReadOn, status @ 500..) => Condition::ServerError(status, answer.looks),
            (End::Whole | End::NotReadOn, status @ 100..400) if answer.looks == Looks::PhpError => {
                Condition::ServerError(status, Looks::PhpError)
            }
            (End::Whole | End::NotReadOn, status @ 400..500) => Condition::ClientError(status),
            (End::Whole | End::NotReadOn, status) => Condition::Good(status),
            (end, _) => Condition::Cut(end.clone()),
        }
    }

    /// Nothing is wrong with the way or with the server. A 4xx is an answer too: to a wrong question, perhaps.
    pub(super) const fn is_fit(&self) -> bool {
        matches!(
            self,
            Condition::Good(_)
                | Condition::ClientError(_)
                | Condition::Relayed(Relayed::Quiet | Relayed::Said(_) | Relayed::ClosedAtOnce)
        )
    }

    /// The cause by which the balancer would call it, had a backend done it.
    pub(super) fn as_cause(&self) -> Option<Cause> {
        Some(match self {
            Condition::Good(_) | Condition::ClientError(_) => return None,
            Condition::ServerError(..) | Condition::PassedOn(..) => Cause::BackendAnsweredError,
            Condition::Explained(_, cause) | Condition::RefusedHead(cause, _) => *cause,
            Condition::Cut(End::Short | End::Reset) => Cause::BackendResetMidResponse,
            Condition::Cut(End::Stalled) => Cause::BackendBodyTimeout,
            Condition::Cut(End::BrokenChunks) => Cause::BackendMalformedBody,
            Condition::Cut(End::Whole | End::NotReadOn) => return None,
            Condition::Relayed(Relayed::ResetAtOnce) => Cause::BackendResetRelay,
            Condition::Relayed(_) => return None,
            Condition::Failed(failure) => match failure {
                Failure::Refused => Cause::BackendConnectRefused,
                Failure::NoAnswerToSyn => Cause::BackendConnectTimeout,
                Failure::Unreachable { .. } => Cause::BackendUnreachable,
                Failure::Tls(_) => Cause::BackendTlsFailed,
                Failure::Reset => Cause::BackendResetBeforeResponse,
                Failure::Closed => Cause::BackendClosedBeforeResponse,
                Failure::Silent => Cause::BackendResponseTimeout,
                Failure::HeadEndless { .. } => Cause::BackendHeaderTooLarge,
                Failure::NotHttp { .. } => Cause::BackendMalformedResponse,
                Failure::Here(_) => return None,
            },
        })
    }

    /// In words that follow "it": "answers 200", "refuses the connection".
    pub(super) fn does(&self) -> String {
        match self {
            Condition::Good(status) | Condition::ClientError(status) => format!("answers {status}"),
            Condition::ServerError(status, looks) => format!("answers {status}{}", by(*looks)),
            Condition::Explained(status, cause) => format!("answers {status} {}", cause.code()),
            Condition::PassedOn(status, looks) => format!("answers {status}, passed on from a backend{}", by(*looks)),
            Condition::RefusedHead(cause, detail) => {
                format!("answers with a head that is refused ({}: {detail})", cause.code())
            }
            Condition::Cut(End::Short) => "ends in the middle of its answer".to_owned(),
            Condition::Cut(End::Reset) => "resets in the middle of its answer".to_owned(),
            Condition::Cut(End::Stalled) => "falls silent in the middle of its answer".to_owned(),
            Condition::Cut(End::BrokenChunks) => "sends chunks that cannot be read".to_owned(),
            Condition::Cut(End::Whole | End::NotReadOn) => "answers".to_owned(),
            Condition::Relayed(Relayed::Quiet) => "takes the connection and waits for the client to speak".to_owned(),
            Condition::Relayed(Relayed::Said(bytes)) => format!("takes the connection and says {bytes} bytes"),
            Condition::Relayed(Relayed::ClosedAtOnce) => "takes the connection and closes it at once".to_owned(),
            Condition::Relayed(Relayed::ResetAtOnce) => "takes the connection and resets it at once".to_owned(),
            Condition::Failed(failure) => failed(failure),
        }
    }
}

fn by(looks: Looks) -> &'static str {
    match looks {
        Looks::NginxError => " on nginx's own error page",
        Looks::ApacheError => " on Apache's own error page",
        Looks::PhpError => " with an error of PHP in the page",
        Looks::WantsTls => " and wants TLS on that port",
        Looks::Other | Looks::Empty | Looks::PhpNotFound | Looks::Evenkeel | Looks::Markup | Looks::Json => "",
    }
}

pub(super) fn failed(failure: &Failure) -> String {
    match failure {
        Failure::Refused => "refuses the connection".to_owned(),
        Failure::NoAnswerToSyn => "does not answer the connection attempt".to_owned(),
        Failure::Unreachable { errno, text } => {
            format!("cannot be reached: {} (errno {errno})", text.split(" (os error").next().unwrap_or(text))
        }
        Failure::Tls(why) => format!("fails the TLS handshake: {why}"),
        Failure::Reset => "resets the connection instead of an answer".to_owned(),
        Failure::Closed => "closes the connection without an answer".to_owned(),
        Failure::Silent => "takes the request and does not answer".to_owned(),
        Failure::HeadEndless { bytes } => format!("sends a head of more than {bytes} bytes"),
        Failure::NotHttp { begins } => match begins {
            Begins::Tls => "answers in TLS".to_owned(),
            Begins::Ssh => "answers as an SSH server".to_owned(),
            Begins::Http2 => "answers in HTTP/2".to_owned(),
            Begins::Markup => "answers with a page without a head".to_owned(),
            Begins::Other(text) => format!("answers with something that is no HTTP (\"{text}\")"),
        },
        Failure::Here(why) => format!("could not be asked: {why}"),
    }
}

enum Word {
    Cause(Cause),
    Received,
}

/// What an evenkeel says in `Proxy-Status`. Of several members the last is the nearest to us (RFC 9209 section 2).
fn own_word(answer: &Answer) -> Option<Word> {
    let members = answer.field("proxy-status")?.split(',').map(str::trim);
    let ours = members.rev().find(|member| member.split(';').next().is_some_and(|name| name.trim() == "evenkeel"))?;
    if ours.contains("received-status=") {
        return Some(Word::Received);
    }
    let details = ours.split(';').find_map(|part| part.trim().strip_prefix("details="))?;
    Cause::from_code(details.trim_matches('"')).map(Word::Cause)
}

/// Whether an answer shows that an evenkeel made or passed it. Good answers are passed on without a mark, so that `false`
/// says nothing.
pub(super) fn shows_evenkeel(answer: &Answer) -> bool {
    own_word(answer).is_some()
}

/// Conditions with how often each was seen, the most frequent first.
pub(super) fn tally(tries: &[Try]) -> Vec<(Condition, usize)> {
    let mut found: Vec<(Condition, usize)> = Vec::new();
    for condition in tries.iter().map(Condition::of) {
        match found.iter_mut().find(|(known, _)| *known == condition) {
            Some((_, count)) => *count += 1,
            None => found.push((condition, 1)),
        }
    }
    found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    found
}

/// The worst of a backend's own tries: what a client may meet there.
pub(super) fn worst(backend: &Backend) -> Option<Condition> {
    let tallied = tally(&backend.straight);
    let unfit = tallied.iter().find(|(condition, _)| !condition.is_fit());
    let refused = tallied.iter().find(|(condition, _)| matches!(condition, Condition::ClientError(_)));
    unfit.or(refused).or(tallied.first()).map(|(condition, _)| condition.clone())
}

/// Answers of a backend that are good some of the time only.
pub(super) fn is_mixed(backend: &Backend) -> bool {
    let conditions: Vec<Condition> = backend.straight.iter().map(Condition::of).collect();
    conditions.iter().any(Condition::is_fit) && conditions.iter().any(|condition| !condition.is_fit())
}

pub(super) fn answer(attempt: &Try) -> Option<&Answer> {
    match &attempt.outcome {
        Outcome::Answered(answer) => Some(answer),
        Outcome::Failed(_) | Outcome::Relayed(_) => None,
    }
}

/// To the head where one came; else to the end.
pub(super) fn waited(attempt: &Try) -> Duration {
    attempt.head.unwrap_or(attempt.whole)
}

/// `1.2 s`, `35 ms`, `0.4 ms`.
pub(super) fn time(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    if ms >= 1000.0 {
        format!("{:.1} s", ms / 1000.0)
    } else if ms >= 10.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{ms:.1} ms")
    }
}

/// `2 times in 5`, `each time`, `once`.
pub(super) fn often(count: usize, of: usize) -> String {
    match (count, of) {
        (1, 1) => "once".to_owned(),
        (count, of) if count == of => format!("{of} times in {of}"),
        (count, of) => format!("{count} times in {of}"),
    }
}

/// `10.0.0.1:80, 10.0.0.2:80 and 3 more`.
pub(super) fn list<T: std::fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    match items.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}
