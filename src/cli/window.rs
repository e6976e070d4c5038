//! `evenkeel window FILE`.
//!
//! The arithmetic is `health`'s; this reads the file and prints. It asks no running node.

use std::path::Path;
use std::process::ExitCode;

pub fn window(file: &Path, json: bool) -> ExitCode {
    let plan = match super::check::plan(file) {
        Ok(plan) => plan,
        Err(code) => return code,
    };
    let rows = evenkeel_diagnose::window::table(&plan);
    if json {
        println!("{}", evenkeel_diagnose::window::json(&rows));
    } else {
        print!("{}", evenkeel_diagnose::window::text(&rows));
    }
    ExitCode::SUCCESS
}
