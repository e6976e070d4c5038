//! `evenkeel completions SHELL` and `evenkeel man [DIR]`: made from the same definition as `--help`.
//!
//! Made when asked for and not at the build: what a binary says of itself cannot be another version's.

use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

pub fn completions(mut command: Command, shell: Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "evenkeel", &mut text);
    print!("{}", String::from_utf8_lossy(&text));
    ExitCode::SUCCESS
}

/// One page of the whole to standard output, or one for each command into a folder.
pub fn man(command: Command, folder: Option<&Path>) -> ExitCode {
    let result = match folder {
        Some(folder) => write_pages(command, folder),
        None => page(command).map(|page| {
            print!("{}", String::from_utf8_lossy(&page));
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the manual pages: {error}");
            ExitCode::from(1)
        }
    }
}

fn page(command: Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(text)
}

fn write_pages(command: Command, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_page(&command, "evenkeel", folder)
}

fn write_page(command: &Command, name: &str, folder: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_page(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    let shown: &'static str = name.to_owned().leak();
    std::fs::write(folder.join(format!("{name}.1")), page(command.clone().name(shown))?)
}
