//! Paths inside values: of files that are read, of programs that are run.
//!
//! Nothing is opened here, so that a path is good says only that it could be one.

use evenkeel_model::limits;

use super::{Refusal, refuse};
use crate::problem::Quoted;

/// Path of a file, absolute or relative to the folder of the config.
pub(crate) fn file(text: &str) -> Result<String, Refusal> {
    if text.starts_with("-----BEGIN") {
        let what = "is the text of a file, not its path";
        return refuse("invalid_path", what, "put the text in a file and write its path");
    }
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        let what = format!("is {}, which is not the path of a file", Quoted(text));
        return refuse("invalid_path", what, "write its path, absolute or relative to the folder of this config");
    }
    Ok(text.to_owned())
}

/// A program by its whole path, and its arguments: nothing is looked up and no shell is asked.
pub(crate) fn command(words: &[&str]) -> Result<Vec<String>, Refusal> {
    const EXAMPLE: &str = "write the whole path of the program first: [\"/usr/lib/checks/app\", \"--quick\"]";
    let most = limits::PROBE_COMMAND.value;
    let Some(program) = words.first() else { return refuse("invalid_command", "is an empty list", EXAMPLE) };
    if words.len() as u64 > most {
        let what = format!("has {} words, more than {most}", words.len());
        return refuse("out_of_range", what, "put what is long into a script, and name that");
    }
    if !program.starts_with('/') || program.ends_with('/') {
        let what = format!("begins with {}, which is not the absolute path of a program", Quoted(program));
        return refuse("invalid_command", what, EXAMPLE);
    }
    if let Some(bad) = words.iter().find(|word| word.contains('\0')) {
        let what = format!("has {}, and no argument has a zero byte", Quoted(bad));
        return refuse("invalid_command", what, "remove it");
    }
    Ok(words.iter().map(|&word| word.to_owned()).collect())
}
