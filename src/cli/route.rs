//! `evenkeel route test METHOD URL`: which listener, rule, pool and backend a request would come to, and why; with
//! `tls://NAME:PORT` instead, where a client of a tls-passthrough listener would.
//!
//! The answer is `evenkeel::route`'s. No node is asked: a config is enough, and verdicts are not known. Exit code 1 means that
//! the balancer would refuse the request, 2 that there was nothing to ask.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use evenkeel::route::Question;
use evenkeel_control::Control;
use evenkeel_diagnose::route::{self, Report};
use evenkeel_model::Instant;
use evenkeel_plan::Plan;

#[derive(clap::Args)]
pub struct Arguments {
    /// The method, such as GET, and the whole URL, whose scheme, port and address choose the listener. For clients of
    /// tls-passthrough listeners only tls://NAME:PORT.
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD", "URL"])]
    asked: Vec<String>,
    /// A protocol that a client of a tls-passthrough listener offers; can be given several times.
    #[arg(long, value_name = "PROTOCOL")]
    alpn: Vec<String>,
    /// A field of the request; can be given several times. Host takes the place of the URL's.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The config: TOML, or YAML or JSON by its name.
    #[arg(long, short, default_value = "/etc/evenkeel/evenkeel.toml")]
    config: PathBuf,
    /// The client's address, for access lists and schedules that hash it.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The listener's name, when the URL does not tell which one.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

pub fn test(arguments: &Arguments) -> ExitCode {
    let plan = match super::check::plan(&arguments.config) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    match ask(plan, arguments) {
        Ok(report) => {
            let text = if arguments.json { route::json(&report) + "\n" } else { route::text(&report) };
            print!("{text}");
            if report.cause().is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

/// # Errors
/// Says what is wrong with the question.
fn ask(plan: Plan, arguments: &Arguments) -> Result<Report, String> {
    let (method, url) = match arguments.asked.as_slice() {
        [url] if !url.to_ascii_lowercase().starts_with("tls://") && url.contains("://") => {
            return Err("what is the method? write for example: evenkeel route test GET URL".to_string());
        }
        [url] => (None, url),
        [method, url] => (Some(method.clone()), url),
        _ => return Err("write a method and a URL".to_string()),
    };
    let field = |field: &String| match field.split_once(':') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("-H \"{}\" has no colon; write it \"Name: value\"", field.escape_debug())),
    };
    let question = Question {
        method,
        url: url.clone(),
        headers: arguments.headers.iter().map(field).collect::<Result<_, _>>()?,
        alpn: arguments.alpn.clone(),
        client: arguments.client,
        listener: arguments.listener.clone(),
    };
    evenkeel::route::ask(&Control::new(Arc::new(plan), Instant::START, 0).snapshot(), &question)
}

#[cfg(test)]
mod tests;
