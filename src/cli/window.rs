//! `evenkeel window FILE`.
//!
//! The arithmetic is `health`'s; this reads the file, asks the running node what it has seen lately, and prints. A node
//! that cannot be asked is said so and no error: the file may be of tomorrow, or of another host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use evenkeel_diagnose::window::{self, Seen};
use evenkeel_plan::Plan;

use super::node;

#[derive(clap::Args)]
pub struct Arguments {
    file: PathBuf,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// The admin address of the running node, when it is not the one in the file.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// How long a healthy backend takes to answer a probe: a whole number with ms or s, such as 250ms.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    response: Duration,
}

pub fn window(arguments: &Arguments) -> ExitCode {
    let plan = match super::check::plan(&arguments.file) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    let pools = window::table(&plan, arguments.response);
    let seen = ask(&plan, arguments.admin);
    if arguments.json {
        println!("{}", window::json(&pools, &seen));
    } else {
        print!("{}", window::text(&pools, &seen));
    }
    ExitCode::SUCCESS
}

fn ask(plan: &Plan, admin: Option<SocketAddr>) -> Seen {
    let Some(address) = admin.or(plan.admin.as_ref().and_then(|admin| admin.listen)) else {
        let why = "the config has no admin address, and none was given by --admin".to_owned();
        return Seen { node: None, transitions: Err(why) };
    };
    let address = node::reachable(address);
    let transitions = node::status(address).map(|document| window::seen(&document));
    Seen { node: Some(address.to_string()), transitions }
}

fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..split].parse::<u32>().map_err(|_| "begin with a whole number, as in 250ms".to_owned())?;
    match &text[split..] {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        _ => Err("end with ms or s, as in 250ms or 2s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        for refused in ["", "ms", "2", "2 s", "2.5s", "-1s", "2min", "99999999999s", "é"] {
            assert!(time(refused).is_err(), "{refused:?}");
        }
    }
}
