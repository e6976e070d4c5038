//! Commands that ask or change a running node, over its admin API.
//!
//! Exit codes: 0, 1 (no node answers, or it refuses), 2 (what was asked makes no sense).

pub mod client;
pub mod config;
pub mod events;
pub mod orders;
pub mod place;
pub mod seen;
pub mod status;

use std::process::ExitCode;

use client::Failure;

/// How to get to the node, and how its answers are shown.
#[derive(clap::Args)]
pub struct Node {
    /// The node's config, which says where its admin socket or address is.
    #[arg(long, short, value_name = "FILE", default_value = place::CONFIG)]
    config: std::path::PathBuf,
    /// The node's admin address, when it is not the one in the config: 10.0.0.2:9900, or https://NAME:PORT.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "socket")]
    admin: Option<String>,
    /// The node's admin socket.
    #[arg(long, value_name = "FILE")]
    socket: Option<std::path::PathBuf>,
    /// A file with the token; else the one that EVENKEEL_TOKEN_FILE names.
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
    /// A file with the authorities that vouch for an https address, in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<std::path::PathBuf>,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Runs a command and says what went wrong.
pub fn carry_out(node: &Node, command: impl FnOnce(&client::Client) -> Result<ExitCode, Failure>) -> ExitCode {
    let client = match place::find(node) {
        Ok(client) => client,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    command(&client).unwrap_or_else(|failure| {
        tell(&failure, node.json);
        ExitCode::from(failure.code())
    })
}

fn tell(failure: &Failure, json: bool) {
    match failure {
        // Whoever reads JSON gets the problem as the node said it.
        Failure::Refused(problem) if json && !problem.body.is_null() => println!("{:#}", problem.body),
        failure => eprintln!("{failure}"),
    }
}
