//! `evenkeel demo`: the main job on an embedded default.

use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    /// Run the story once, check its claims, and exit 0 or 1.
    #[arg(long)]
    pub once: bool,
}

pub fn run(_arguments: &Arguments) -> ExitCode {
    ExitCode::from(2)
}
