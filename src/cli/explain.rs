//! `evenkeel explain [CODE]`.
//!
//! The words are `diagnose`'s. An unknown code is an error with the closest one as a proposal, never a guess.

use std::process::ExitCode;

use evenkeel_diagnose::explain as diagnose;
use evenkeel_model::Cause;

pub fn explain(code: Option<&str>, json: bool) -> ExitCode {
    let Some(code) = code else {
        print!("{}", if json { diagnose::all_json() } else { diagnose::all() });
        return ExitCode::SUCCESS;
    };
    let Some(cause) = Cause::from_code(code) else {
        eprint!("there is no cause \"{code}\"");
        match diagnose::closest(code) {
            Some(close) => eprintln!("; did you mean \"{}\"?", close.code()),
            None => eprintln!("; `evenkeel explain` lists all"),
        }
        return ExitCode::from(1);
    };
    print!("{}", if json { diagnose::cause_json(cause) } else { diagnose::cause(cause) });
    ExitCode::SUCCESS
}
