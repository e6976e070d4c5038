//! `evenkeel run`: a node until SIGTERM.

use std::path::Path;
use std::process::ExitCode;

use evenkeel::service;

pub fn run(file: &Path) -> ExitCode {
    service::run(file, |plan| evenkeel_diagnose::host::text(&super::check::missing(plan)))
}
