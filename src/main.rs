//! The command line. Each command is a thin shell over the library; `--help` is the reference.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
