//! Tells hooks of changes of verdict: by one POST over a connection of its own, or to a command on its input.
//!
//! The hands of [`Teller`], which decides what is told and when.

use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_model::Instant;
use evenkeel_model::event::{Event, TrafficFailed, VerdictChanged, What};
use evenkeel_model::finding::ProbeResult;
use evenkeel_model::standing::Verdict;
use evenkeel_plan::{Hook, HookOn, HookTo};
use hyper::Uri;

use super::commands::conclude;
use super::post::post;
use super::program::Program;
use super::teller::{self, News, Output, Teller};
use crate::files;

/// The hooks of the plan.
#[derive(Default)]
pub struct Hooks {
    kept: Vec<Kept>,
    next: u64,
}

struct Kept {
    /// What a telling is known by that outlasts a reload.
    number: u64,
    hook: Arc<Hook>,
    teller: Teller,
}

/// What is to be done for a hook.
pub enum Act {
    /// Run [`Telling::carry_out`] and hand what it gives to [`Hooks::told`].
    Tell(Telling),
    Note(evenkeel_model::event::Beside),
}

pub struct Telling {
    pub number: u64,
    hook: Arc<Hook>,
    news: Arc<News>,
}

impl Hooks {
    /// Takes over the hooks of a plan. One that stays keeps what waits for it.
    pub fn follow(&mut self, hooks: &[Hook]) {
        let mut before = std::mem::take(&mut self.kept);
        for hook in hooks {
            if let Some(position) = before.iter().position(|kept| *kept.hook == *hook) {
                self.kept.push(before.swap_remove(position));
                continue;
            }
            self.next += 1;
            let teller = Teller::new(name(&hook.to).into());
            self.kept.push(Kept { number: self.next, hook: Arc::new(hook.clone()), teller });
        }
    }

    pub fn wants(&self, event: &Event) -> bool {
        self.kept.iter().any(|kept| wants(kept.hook.on, event))
    }

    /// `json` is the event as it is told.
    pub fn happened(&mut self, event: &Event, json: String, now: Instant) {
        let Some((pool, backend)) = about(event) else { return };
        let news = Arc::new(News { name: event.name(), json, pool, backend });
        for kept in self.kept.iter_mut().filter(|kept| wants(kept.hook.on, event)) {
            kept.teller.handle(teller::Event::Happened(Arc::clone(&news)), now);
        }
    }

    pub fn told(&mut self, number: u64, result: Result<(), Arc<str>>, now: Instant) {
        // One that a reload took away has nobody to tell.
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.number == number) else { return };
        let event = match result {
            Ok(()) => teller::Event::Told,
            Err(why) => teller::Event::Failed { why },
        };
        kept.teller.handle(event, now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for kept in &mut self.kept {
            kept.teller.handle_timeout(now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.kept.iter().filter_map(|kept| kept.teller.poll_timeout()).min()
    }

    pub fn poll_output(&mut self) -> Option<Act> {
        self.kept.iter_mut().find_map(|kept| {
            Some(match kept.teller.poll_output()? {
                Output::Tell(news) => Act::Tell(Telling { number: kept.number, hook: Arc::clone(&kept.hook), news }),
                Output::Note(beside) => Act::Note(beside),
            })
        })
    }

    pub fn are_telling(&self) -> bool {
        self.kept.iter().any(|kept| kept.teller.is_telling())
    }
}

/// How events call it. A path may hold a secret, as those of chat services do, so of an address only the place is said.
fn name(to: &HookTo) -> String {
    match to {
        HookTo::Command(words) => words.first().cloned().unwrap_or_default(),
        HookTo::Url(url) => match url.parse::<Uri>() {
            Ok(uri) => {
                let place = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                format!("{}://{place}", uri.scheme_str().unwrap_or("http"))
            }
            Err(_) => "url".to_owned(),
        },
    }
}

/// A first verdict that is good is no news: nobody was told that the backend was not.
fn wants(on: HookOn, event: &Event) -> bool {
    match &event.what {
        What::VerdictChanged(VerdictChanged { from, to, .. }) => match (from, to) {
            (_, Verdict::Unhealthy) => on.unhealthy,
            (Verdict::Unhealthy, Verdict::Healthy) => on.healthy,
            (_, Verdict::Healthy | Verdict::Unknown) => false,
        },
        What::TrafficFailed(TrafficFailed { ejected_for, .. }) => on.ejected && ejected_for.is_some(),
        _ => false,
    }
}

fn about(event: &Event) -> Option<(String, SocketAddr)> {
    match &event.what {
        What::VerdictChanged(changed) => Some((changed.pool.to_string(), changed.backend)),
        What::TrafficFailed(failed) => Some((failed.pool.to_string(), failed.backend)),
        _ => None,
    }
}

impl Telling {
    /// Says why not, when it is not heard within the hook's timeout.
    pub async fn carry_out(self) -> Result<(), Arc<str>> {
        let timeout = self.hook.timeout;
        match &self.hook.to {
            HookTo::Url(url) => {
                let json = self.news.json.clone().into_bytes();
                match tokio::time::timeout(timeout, post(url, "application/json", json, files::authorities)).await {
                    Ok(result) => result.map_err(|why| why.to_string().into()),
                    Err(_) => Err(format!("no answer within {timeout:?}").into()),
                }
            }
            HookTo::Command(words) => run(words, &self.news, timeout).await,
        }
    }
}

async fn run(words: &[String], news: &News, timeout: std::time::Duration) -> Result<(), Arc<str>> {
    let program = Program {
        words: words.into(),
        environment: vec![
            ("EVENKEEL_EVENT", news.name.to_owned()),
            ("EVENKEEL_POOL", news.pool.clone()),
            ("EVENKEEL_ADDRESS", news.backend.ip().to_string()),
            ("EVENKEEL_PORT", news.backend.port().to_string()),
        ],
        input: format!("{}\n", news.json).into_bytes(),
    };
    let ran = program.run(tokio::time::Instant::now() + timeout).await;
    // Whether we were late does not matter here: it was told, or it was not.
    match conclude(&ran, std::time::Duration::ZERO) {
        ProbeResult::Passed(_) => Ok(()),
        ProbeResult::Failed(failure) => Err(failure.reason.to_string().into()),
        ProbeResult::Void(void) => Err(void.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_called_by_its_place_and_not_by_what_may_be_secret() {
        let table = [
            (HookTo::Url("https://hooks.example/services/T0/B0/s3cret".to_owned()), "https://hooks.example"),
            (HookTo::Url("http://me:s3cret@10.0.0.1:8080/".to_owned()), "http://10.0.0.1:8080"),
            (HookTo::Url("http://[::1]:81/x".to_owned()), "http://[::1]:81"),
            (HookTo::Command(vec!["/usr/bin/page".to_owned(), "s3cret".to_owned()]), "/usr/bin/page"),
        ];
        for (to, expected) in table {
            assert_eq!(name(&to), expected);
        }
    }

    #[test]
    fn a_hook_hears_of_what_it_asked_for_and_not_of_first_good_verdicts() {
        use Verdict::{Healthy, Unhealthy, Unknown};
        use evenkeel_model::event::{Against, Because};
        let backend: SocketAddr = "10.0.0.1:80".parse().expect("an address");
        let verdict = |from, to| {
            What::VerdictChanged(VerdictChanged {
                pool: "web".into(),
                backend,
                from,
                to,
                check: None,
                checks: 1,
                because: Because::CheckOff,
            })
        };
        let ejected = |ejected_for| {
            let against = Against::FailureRate { percent: 60, others_percent: 0 };
            What::TrafficFailed(TrafficFailed { pool: "web".into(), backend, against, ejected_for })
        };
        let none = HookOn { unhealthy: false, healthy: false, ejected: false };
        let (unhealthy, healthy) = (HookOn { unhealthy: true, ..none }, HookOn { healthy: true, ..none });
        let ejections = HookOn { ejected: true, ..none };
        let table = [
            (verdict(Unknown, Unhealthy), Some(unhealthy)),
            (verdict(Healthy, Unhealthy), Some(unhealthy)),
            (verdict(Unhealthy, Healthy), Some(healthy)),
            (verdict(Unknown, Healthy), None),
            (verdict(Healthy, Unknown), None),
            (verdict(Unhealthy, Unknown), None),
            (ejected(Some(std::time::Duration::from_secs(1))), Some(ejections)),
            (ejected(None), None),
        ];
        for (what, asked) in table {
            let event = Event { seq: 1, at: Instant::START, what };
            for on in [none, unhealthy, healthy, ejections] {
                assert_eq!(wants(on, &event), asked == Some(on), "{event:?} for {on:?}");
            }
            assert_eq!(wants(HookOn::default(), &event), asked.is_some(), "{event:?}");
        }
    }
}
