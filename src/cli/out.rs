//! What commands print. A reader that has seen enough, as `head` has, ends the command; that is no problem and no panic.
//!
//! The macros have the names of those in std, whose place they take in all files of the command line: a `println!` that
//! panics on a closed pipe cannot be written by mistake.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stdout};

/// Prints, and ends the process when nobody reads any more.
pub fn put(text: Arguments<'_>) {
    let mut out = stdout().lock();
    // Flushed at once: of what stands in a buffer nobody would ever hear that it cannot be written.
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("cannot write to standard output: {error}");
            std::process::exit(1);
        }
    }
}

macro_rules! print {
    ($($part:tt)*) => { $crate::cli::out::put(format_args!($($part)*)) };
}

macro_rules! println {
    () => { $crate::cli::out::put(format_args!("\n")) };
    ($($part:tt)*) => { $crate::cli::out::put(format_args!("{}\n", format_args!($($part)*))) };
}
