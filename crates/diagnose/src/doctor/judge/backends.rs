//! What the backends do when they are asked straight, and whose fault that is.
//!
//! One bad backend or all is the first question; the second, what a web server's own error page says of the application
//! behind it. A check that passes beside a request that fails is the page of health that a web server serves by itself.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::Cause;

use super::super::facts::{Backend, Begins, End, Facts, Failure, Looks, Pool, Relayed, Standing, Try};
use super::super::seen::{Condition, answer, is_mixed, list, tally, time, waited, worst};
use super::front::complaint;
use super::{Confidence, Judgement, Whose, is_elsewhere};

/// Answers that come later than this are slow whatever the timeout is.
const SLOW: Duration = Duration::from_secs(1);

struct Sick<'f> {
    backend: &'f Backend,
    condition: Condition,
}

/// The judgement that rests on backends that fail straight; with `cause`, on those that fail as the balancer said if there
/// are any. `None` when all are fit, or none could be asked.
pub(super) fn sick(facts: &Facts, cause: Option<Cause>) -> Option<Judgement> {
    let all: Vec<Sick<'_>> = facts
        .backends
        .iter()
        .filter_map(|backend| {
            let condition = worst(backend)?;
            let late = late(facts, backend);
            let unfit = !condition.is_fit() || late.is_some();
            unfit.then_some(Sick { backend, condition: late.unwrap_or(condition) })
        })
        .collect();
    let same = |sick: &&Sick<'_>| cause.is_some() && sick.condition.as_cause() == cause;
    // The same fault may look a little different from here, but a refusal is no explanation for a slow answer.
    let akin = |sick: &&Sick<'_>| {
        cause.is_none_or(|cause| sick.condition.as_cause().map(is_of_connect) == Some(is_of_connect(cause)))
    };
    let first = all.iter().find(same).or_else(|| all.iter().find(akin))?;
    let (kind, condition) = (first.condition.as_cause(), first.condition.clone());
    let same: Vec<&Sick<'_>> = all.iter().filter(|sick| sick.condition.as_cause() == kind).collect();
    let addresses: Vec<SocketAddr> = same.iter().map(|sick| sick.backend.address).collect();
    let who = who(&addresses, facts.backends.len());
    let judgement = judged(facts, &who, &condition, first.backend);
    let judgement = match kind {
        Some(kind) if judgement.cause.is_none() => judgement.cause(kind),
        _ => judgement,
    };
    let mut judgement = judgement.about(list(&addresses));
    match application(first.backend) {
        Some(Application::Runs) => {
            judgement = judgement.because("a script that is not there is answered by the application at once: it runs, and has workers free; it is this request that fails");
        }
        Some(Application::Down) => {
            judgement = judgement.because("a script that is not there ends in 502 too: it is the whole application, which is down or whose queue is full, and not this request");
        }
        Some(Application::Busy) => {
            judgement = judgement.because("a script that is not there is not answered either: all workers of the application are busy (php-fpm: pm.max_children)");
        }
        None if hangs(first.backend) => {
            judgement = judgement.because("neither a script nor the check's page is answered there: the whole server hangs, and not an application behind it");
        }
        None => {}
    }
    for sick in same.iter().take(3) {
        judgement = judgement.because(straight(sick.backend));
    }
    let fit: Vec<SocketAddr> = facts
        .backends
        .iter()
        .filter(|backend| {
            !all.iter().any(|sick| sick.backend.address == backend.address) && !backend.straight.is_empty()
        })
        .map(|backend| backend.address)
        .collect();
    if !fit.is_empty() {
        judgement = judgement.because(format!("{} answers well", list(&fit)));
    }
    if let Some(probe) = first.backend.probe.as_ref().filter(|probe| probe.passes && answers(&condition)) {
        judgement = judgement
            .because(format!(
                "the check's request {} {} passes there ({} in {}): the probes see a page that does not need what fails",
                probe.method,
                probe.path,
                Condition::of(&probe.seen).does(),
                time(waited(&probe.seen))
            ))
            .next("let the check ask for a page that needs the application (path of [pool.check]), or let traffic speak: [pool.passive] ejects a backend by its failures");
    }
    if same.iter().any(|sick| is_mixed(sick.backend)) {
        judgement = judgement.because("the same request is answered well at other times: it comes and goes");
    }
    if is_elsewhere(facts) && !answers(&condition) {
        judgement.confidence = judgement.confidence.min(Confidence::Likely);
        judgement = judgement.because("seen from this host, which is not known to be the balancer's");
    }
    Some(judgement)
}

/// Nobody felt it this time: the balancer keeps clients away, tries again, or the others were picked.
pub(super) fn hidden(facts: &Facts) -> Option<Judgement> {
    let fails = |backend: &Backend| worst(backend).is_some_and(|condition| !condition.is_fit());
    let failing = facts.backends.iter().filter(|backend| fails(backend)).count();
    // Who is not beside the node may lack the way to all of them.
    if failing == facts.backends.len() && is_elsewhere(facts) {
        return None;
    }
    let mut judgement = sick(facts, None)?;
    judgement.sentence.insert_str(0, "Requests through the balancer succeed, and yet: ");
    judgement.confidence = judgement.confidence.min(Confidence::Likely);
    let spared = match &facts.pool {
        Some(pool) if pool.retries > 0 => format!("clients are spared by verdicts and by retries = {}", pool.retries),
        Some(_) | None => "other backends were picked, or the verdict keeps clients away".to_owned(),
    };
    Some(judgement.because(spared))
}

/// A good answer that the balancer does not wait for.
fn late(facts: &Facts, backend: &Backend) -> Option<Condition> {
    let timeout = facts.pool.as_ref()?.response_timeout;
    let is_late = |attempt: &&Try| !timeout.is_zero() && waited(attempt) > timeout && answer(attempt).is_some();
    backend.straight.iter().any(|attempt| is_late(&attempt)).then_some(Condition::Failed(Failure::Silent))
}

const fn is_of_connect(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::BackendConnectRefused
            | Cause::BackendConnectTimeout
            | Cause::BackendUnreachable
            | Cause::BackendTlsFailed
    )
}

/// What a script that is not there says of the application that should run it.
enum Application {
    Runs,
    Down,
    Busy,
}

/// Whether nothing at all is answered there.
fn hangs(backend: &Backend) -> bool {
    let silent = |attempt: &Try| matches!(Condition::of(attempt), Condition::Failed(Failure::Silent));
    backend.neighbour.as_ref().is_some_and(silent) && backend.probe.as_ref().is_some_and(|probe| silent(&probe.seen))
}

fn application(backend: &Backend) -> Option<Application> {
    let neighbour = backend.neighbour.as_ref().filter(|_| !hangs(backend))?;
    if answer(neighbour).is_some_and(|answer| answer.looks == Looks::PhpNotFound) {
        return Some(Application::Runs);
    }
    match Condition::of(neighbour) {
        Condition::ServerError(502, _) => Some(Application::Down),
        Condition::ServerError(504, _) | Condition::Failed(Failure::Silent) => Some(Application::Busy),
        _ => None,
    }
}

/// The web server is there; it is the application, or the request, that is not.
const fn answers(condition: &Condition) -> bool {
    matches!(
        condition,
        Condition::ServerError(..)
            | Condition::PassedOn(..)
            | Condition::RefusedHead(..)
            | Condition::Cut(_)
            | Condition::Failed(Failure::Silent | Failure::Reset | Failure::Closed | Failure::HeadEndless { .. })
    )
}

fn who(addresses: &[SocketAddr], looked_at: usize) -> String {
    match (addresses, looked_at) {
        ([only], 1) => format!("The backend {only}"),
        ([only], of) => format!("One of {of} backends, {only},"),
        (several, of) if several.len() == of => format!("Each of the {of} backends"),
        (several, of) => format!("{} of {of} backends ({})", several.len(), list(several)),
    }
}

fn straight(backend: &Backend) -> String {
    let of = backend.straight.len();
    let parts: Vec<String> = tally(&backend.straight)
        .iter()
        .map(
            |(condition, count)| {
                if of > 1 { format!("{} ({count} of {of})", condition.does()) } else { condition.does() }
            },
        )
        .collect();
    let slowest = backend.straight.iter().map(waited).max().unwrap_or_default();
    format!("asked straight, {} {}, after {} at most", backend.address, parts.join("; "), time(slowest))
}

fn judged(facts: &Facts, who: &str, condition: &Condition, backend: &Backend) -> Judgement {
    if let Some((host, attempt)) = &backend.other_host
        && matches!(Condition::of(attempt), Condition::Good(_))
        && matches!(condition, Condition::Failed(Failure::Reset | Failure::Closed) | Condition::ServerError(..))
    {
        return wrong_host(facts, who, condition, host);
    }
    match condition {
        Condition::ServerError(status, looks) | Condition::PassedOn(status, looks) => {
            let slowest = backend.straight.iter().map(waited).max().unwrap_or_default();
            let (sentence, next) = match (application(backend), looks) {
                (Some(application), Looks::NginxError | Looks::ApacheError) => {
                    told_apart(&application, *status, slowest)
                }
                _ => server_error(*status, *looks, slowest),
            };
            let judgement =
                Judgement::fault(Whose::Backend, format!("{who} {sentence}")).cause(Cause::BackendAnsweredError);
            next.into_iter().fold(judgement, Judgement::next)
        }
        Condition::Explained(_, cause) => Judgement::fault(
            (*cause).into(),
            format!(
                "{who} is itself an evenkeel, or calls one, and that says {}: {}",
                cause.code(),
                cause.entry().meaning
            ),
        )
        .cause(*cause)
        .next(cause.entry().advice),
        Condition::Failed(failure) => failing(facts, who, failure, backend),
        Condition::RefusedHead(cause, detail) => head(facts, who, *cause, detail, backend),
        Condition::Cut(end) => broken(facts, who, end),
        Condition::Relayed(Relayed::ResetAtOnce) => {
            Judgement::fault(Whose::Backend, format!("{who} takes connections and resets them at once."))
                .next("the service there refuses this client or crashes on it; read its log")
        }
        Condition::Good(_) | Condition::ClientError(_) | Condition::Relayed(_) => {
            Judgement::fault(Whose::Backend, format!("{who} {}.", condition.does()))
        }
    }
}

/// The same request with the check's Host is answered well.
pub(super) fn wrong_host(facts: &Facts, who: &str, condition: &Condition, host: &str) -> Judgement {
    let sent = &facts.question.authority;
    Judgement::fault(
        Whose::Operator,
        format!("{who} {} when the Host is \"{sent}\", and serves \"{host}\": it knows the site by another name.", condition.does()),
    )
    .because(format!("the same request with Host: {host} is answered well"))
    .next(format!("add \"{}\" to the names the backend serves (server_name in nginx), or let a rule set the Host it knows: request_headers = {{ set = {{ Host = \"{host}\" }} }}", facts.question.host))
}

/// What a 5xx of a backend says, and what to do: the words behind "the backend".
pub(super) fn server_error(status: u16, looks: Looks, waited: Duration) -> (String, Vec<String>) {
    let logs = "read the web server's error log at this moment: \"(111: Connection refused)\" is an application that is down, \"(104: Connection reset\" a worker that was killed or ran into request_terminate_timeout, \"upstream timed out\" one that is slow or out of workers, \"too big header\" an answer over fastcgi_buffer_size";
    match (looks, status) {
        (Looks::NginxError | Looks::ApacheError, 502) if waited >= SLOW => (
            format!("answers 502 on its web server's own page after {}: the web server is well, and its application (php-fpm, say) broke off while it worked. A limit of time that kills the worker, such as request_terminate_timeout, does that; a crash does too.", time(waited)),
            vec![logs.to_owned(), "look why the script takes so long (php-fpm: slowlog, request_slowlog_timeout); raise request_terminate_timeout only for work that is meant to".to_owned()],
        ),
        (Looks::NginxError | Looks::ApacheError, 502) => (
            "answers 502 at once on its web server's own page: the web server is well, and its application (php-fpm, say) is down, or dies of this request, or answers with a head larger than the web server takes.".to_owned(),
            vec!["see whether the application runs: systemctl status 'php*-fpm'".to_owned(), logs.to_owned()],
        ),
        (Looks::NginxError | Looks::ApacheError, 504) => (
            format!("answers 504 on its web server's own page after {}: the web server is well, and its application did not answer in the time the web server gives it (fastcgi_read_timeout, proxy_read_timeout). The script is slow, or all workers are busy (pm.max_children of php-fpm).", time(waited)),
            vec!["php-fpm: look for \"server reached pm.max_children\" in its log, and at its status page for the listen queue".to_owned(), logs.to_owned()],
        ),
        (Looks::NginxError | Looks::ApacheError, 503) => (
            "answers 503 on its web server's own page: it is out of workers or connections, or was told to refuse (limit_req, limit_conn, maintenance).".to_owned(),
            vec![logs.to_owned()],
        ),
        (Looks::PhpError, status) => (
            format!("answers {status} with an error of PHP: the script itself fails."),
            vec!["read the error in the page and in php's error_log; nothing before the script is to blame".to_owned()],
        ),
        (_, 500) => (
            "answers 500: the application fails by itself.".to_owned(),
            vec!["read the application's own log at this moment; the balancer was only the messenger".to_owned()],
        ),
        (_, 508) => (
            "answers 508: the request goes in a circle behind the balancer.".to_owned(),
            vec!["find out whom the backend calls; the balancer's own address must not be among them".to_owned()],
        ),
        (_, status) => (
            format!("answers {status} by itself."),
            vec!["read the log of the application, and of what it calls in turn: a 502, 503 or 504 from there is one hop further back".to_owned()],
        ),
    }
}

/// The same, when a script that is not there has told whether the application runs.
fn told_apart(application: &Application, status: u16, slowest: Duration) -> (String, Vec<String>) {
    let (sentence, next) = match application {
        Application::Down => (
            format!(
                "answers {status} on its web server's own page for every script: its application (php-fpm, say) is down, or all its workers are busy and its queue is full."
            ),
            "systemctl status 'php*-fpm'; if it runs, its log says \"server reached pm.max_children\", and the web server's \"(11: Resource temporarily unavailable)\"",
        ),
        Application::Busy => (
            format!(
                "answers {status} on its web server's own page after {}: all workers of its application are busy (pm.max_children of php-fpm), so requests wait until the web server gives up.",
                time(slowest)
            ),
            "find out what keeps the workers: php-fpm's status page with ?full, its slowlog; then raise pm.max_children if memory allows",
        ),
        Application::Runs if status == 504 => (
            format!(
                "answers 504 on its web server's own page after {}: this script takes longer than the web server waits (fastcgi_read_timeout, proxy_read_timeout); the application runs and has workers free.",
                time(slowest)
            ),
            "php-fpm's slowlog says where this script spends its time",
        ),
        Application::Runs if slowest >= SLOW => (
            format!(
                "answers {status} on its web server's own page after {}: the worker was ended while this script ran, by a limit of time (request_terminate_timeout) or a crash; the application runs.",
                time(slowest)
            ),
            "php-fpm's log says \"execution timed out, terminating\" or \"exited on signal\"; its slowlog says where this script spends its time",
        ),
        Application::Runs => (
            format!(
                "answers {status} on its web server's own page at once for this request: the application runs, but its worker dies of this script, or answers with a head larger than the web server takes."
            ),
            "the web server's error log: \"(104: Connection reset\" or \"prematurely closed\" is a worker that died (php-fpm's log: \"exited on signal\"), \"too big header\" an answer over fastcgi_buffer_size",
        ),
    };
    (sentence, vec![next.to_owned()])
}

fn failing(facts: &Facts, who: &str, failure: &Failure, backend: &Backend) -> Judgement {
    let pool = facts.pool.as_ref();
    match failure {
        Failure::Refused => Judgement::fault(Whose::Backend, format!("{who} refuses connections: nothing listens on that port."))
            .next(format!("on the backend: ss -ltnp 'sport = :{}'; start the service, or mend the port in the config", backend.address.port()))
            .next("a firewall that rejects with resets looks the same: nft list ruleset"),
        Failure::NoAnswerToSyn => match backend.echo {
            Some(true) => Judgement::fault(Whose::Network, format!("{who} is up and answers pings, but not connection attempts on this port: a firewall drops them, or the accept queue is full."))
                .next("on the backend: nft list ruleset; iptables -S; security software")
                .next("on the backend: ss -ltn shows a full accept queue as Recv-Q above Send-Q; nstat -az TcpExtListenOverflows"),
            Some(false) | None => Judgement::fault(Whose::Network, format!("{who} does not answer connection attempts: the host is down, a firewall drops them, or the accept queue is full."))
                .next("is the host up? ip neigh; ping; its console")
                .next("if it is up: nft list ruleset, and ss -ltn for a full accept queue"),
        },
        Failure::Unreachable { text, .. } => Judgement::fault(Whose::Network, format!("{who} cannot be reached: {}. The network or a firewall that rejects says so; the service was not asked.", text.split(" (os error").next().unwrap_or(text)))
            .next(format!("ip route get {}; firewalls on the way and on the backend", backend.address.ip())),
        Failure::Tls(why) => secured(facts, who, why, backend),
        Failure::Silent => silent(facts, who, pool, backend),
        Failure::Reset => Judgement::fault(Whose::Backend, format!("{who} takes the request and resets the connection instead of an answer: the application crashes on it, or its worker is killed."))
            .next("read the application's log at this moment; dmesg for the kernel's OOM killer")
            .next("if every request ends so, the port may speak another protocol: php-fpm's own (FastCGI, usually port 9000), TLS, or one that wants a PROXY header"),
        Failure::Closed => Judgement::fault(Whose::Backend, format!("{who} takes the request and closes the connection without an answer."))
            .next("read the application's log at this moment; it may expect another protocol (TLS, a PROXY header) on that port"),
        Failure::HeadEndless { bytes } => Judgement::fault(Whose::Backend, format!("{who} sends a head of more than {bytes} bytes: more than any balancer takes."))
            .cause(Cause::BackendHeaderTooLarge)
            .next(Cause::BackendHeaderTooLarge.entry().advice),
        Failure::NotHttp { begins } => {
            let (what, next) = match begins {
                Begins::Tls => ("speaks TLS on that port, and the pool speaks to it without", "add [pool.tls], or use the backend's plain port"),
                Begins::Ssh => ("is an SSH server", "mend the port of the backend"),
                Begins::Http2 => ("speaks HTTP/2, and the pool HTTP/1.1", "set protocol = \"h2\" in the pool"),
                Begins::Markup => ("answers without a head, as HTTP/0.9 did or a script that writes no headers does", "let the application write a status line and headers"),
                Begins::Other(_) => ("does not answer in HTTP", "mend the port, or use a tcp listener for another protocol"),
            };
            Judgement::fault(Whose::Backend, format!("{who} {what}.")).cause(Cause::BackendMalformedResponse).next(next)
        }
        Failure::Here(why) => Judgement::fault(Whose::Balancer, format!("This host could not ask {who}: {why}.")).confidence(Confidence::Guess),
    }
}

fn silent(facts: &Facts, who: &str, pool: Option<&Pool>, backend: &Backend) -> Judgement {
    let slowest = backend.straight.iter().map(waited).max().unwrap_or_default();
    let answered = backend.straight.iter().any(|attempt| answer(attempt).is_some());
    let timeout = pool.map(|pool| pool.response_timeout).filter(|timeout| !timeout.is_zero());
    let sentence = match (timeout, answered) {
        (Some(timeout), true) => format!(
            "{who} answers, but only after {}, and the balancer waits {} (response_timeout).",
            time(slowest),
            time(timeout)
        ),
        (Some(timeout), false) => format!(
            "{who} takes the request and sends nothing for {}; the balancer waits {} (response_timeout).",
            time(slowest),
            time(timeout)
        ),
        (None, _) => format!("{who} takes the request and sends nothing for {}.", time(slowest)),
    };
    let judgement = Judgement::fault(Whose::Backend, sentence)
        .cause(Cause::BackendResponseTimeout)
        .next("look why the application is slow: out of workers (php-fpm: pm.max_children, its listen queue), a slow query, a lock, a call to somebody else that hangs")
        .next("raise response_timeout of the pool, or of a rule, only for work that is meant to take that long");
    let fast = backend.probe.as_ref().filter(|probe| waited(&probe.seen) < SLOW && probe.passes);
    match fast {
        Some(_) if facts.backends.len() > 1 => judgement,
        Some(_) => judgement.confidence(Confidence::Sure),
        None => judgement,
    }
}

fn head(facts: &Facts, who: &str, cause: Cause, detail: &str, backend: &Backend) -> Judgement {
    let bytes = backend.straight.iter().filter_map(answer).map(|answer| answer.head_bytes).max().unwrap_or_default();
    if cause == Cause::BackendHeaderTooLarge {
        let limit = facts.pool.as_ref().map_or(0, |pool| pool.header_limit);
        let longest = backend
            .straight
            .iter()
            .filter_map(answer)
            .flat_map(|answer| &answer.fields)
            .max_by_key(|(_, value)| value.len())
            .map(|(name, value)| format!("its longest field is {name} with {} bytes", value.len()));
        return Judgement::fault(
            Whose::Backend,
            format!("{who} answers with a head of {bytes} bytes, and the balancer takes {limit} (header_limit)."),
        )
        .cause(cause)
        .because_all(longest)
        .next(cause.entry().advice);
    }
    Judgement::fault(
        Whose::Backend,
        format!("{who} answers with a head that can be read in two ways or in none: {detail}."),
    )
    .cause(cause)
    .next(cause.entry().advice)
}

fn broken(facts: &Facts, who: &str, end: &End) -> Judgement {
    let (sentence, cause) = match end {
        End::Stalled => (format!("{who} begins its answer and then sends nothing more."), Cause::BackendBodyTimeout),
        End::BrokenChunks => (format!("{who} sends chunks that cannot be read."), Cause::BackendMalformedBody),
        End::Reset => {
            (format!("{who} resets the connection in the middle of its answer."), Cause::BackendResetMidResponse)
        }
        End::Short | End::Whole | End::NotReadOn => {
            (format!("{who} ends its answer before it is whole."), Cause::BackendResetMidResponse)
        }
    };
    let judgement = Judgement::fault(Whose::Backend, sentence).cause(cause).next(cause.entry().advice);
    match &facts.pool {
        Some(pool) if *end == End::Stalled => {
            judgement.because(format!("the balancer waits {} for more (body_timeout)", time(pool.body_timeout)))
        }
        Some(_) | None => judgement,
    }
}

fn secured(facts: &Facts, who: &str, why: &str, backend: &Backend) -> Judgement {
    let cause = Cause::BackendTlsFailed;
    let judgement = match &backend.tls {
        Some(seen) if !seen.chain.is_empty() => {
            let name = seen.name.clone().unwrap_or_else(|| backend.address.ip().to_string());
            let (complaint, _) = complaint(seen, seen.untrusted.as_deref().unwrap_or(why), facts.now, &name);
            Judgement::fault(
                Whose::Backend,
                format!("{who} shows a certificate that the balancer refuses. {complaint}"),
            )
            .because_all(seen.chain.first().map(super::super::steps::certificate))
            .next("renew or replace the certificate on the backend; [pool.tls] name and ca say what it is held against")
        }
        Some(_) | None
            if why.to_lowercase().contains("corrupt") || why.to_lowercase().contains("invalidcontenttype") =>
        {
            Judgement::fault(
                Whose::Operator,
                format!("{who} does not speak TLS on that port, and the pool does ([pool.tls])."),
            )
            .next("use the backend's TLS port, or leave [pool.tls] out")
        }
        Some(_) | None => Judgement::fault(Whose::Backend, format!("{who} does not finish the TLS handshake."))
            .next(cause.entry().advice),
    };
    judgement.cause(cause).because(format!("the handshake ends with: {why}"))
}

/// The newest failed probe of any check.
pub(in crate::doctor) fn last_failure(standing: &Standing) -> Option<&str> {
    let failed = |finding: &&super::super::facts::Finding| finding.result == "failed";
    let checks = standing.checks.iter().filter(|check| check.verdict == "unhealthy");
    checks.flat_map(|check| &check.recent).find(|finding| failed(finding)).map(|finding| finding.text.as_str())
}
