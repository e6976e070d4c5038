//! `evenkeel doctor --log FILE [URL]`: reads a captured access log line by line and prints what it comes to.
//!
//! What a line means is `evenkeel_diagnose::doctor::Log`'s. No line is kept, so a log of any size can be asked.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use evenkeel_diagnose::doctor::{Log, Wanted};

use super::exit_code;
use super::url::Url;

/// A longer line is none of ours.
const LINE_MAX: u64 = 1 << 20;

pub fn doctor(file: &Path, url: Option<&str>, json: bool) -> ExitCode {
    let wanted = match url.map(Url::read).transpose() {
        Ok(None) => Wanted::default(),
        // A URL without a path is about all of its host.
        Ok(Some(url)) => Wanted { host: Some(url.authority), path: Some(path(&url.path)).filter(|path| path != "/") },
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let read =
        File::open(file).map_err(|error| error.to_string()).and_then(|opened| read(BufReader::new(opened), wanted));
    match read {
        Ok(log) => {
            if json {
                println!(
                    "{}",
                    serde_json::to_string_pretty(&log.json()).expect("texts and numbers always have a JSON form")
                );
            } else {
                print!("{}", log.text());
            }
            exit_code(log.judge().outcome)
        }
        Err(why) => {
            eprintln!("the log {} cannot be read: {why}", file.display());
            ExitCode::from(2)
        }
    }
}

fn path(path: &str) -> String {
    path.split('?').next().unwrap_or(path).to_owned()
}

fn read(mut lines: impl BufRead, wanted: Wanted) -> Result<Log, String> {
    let mut log = Log::new(wanted);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut lines).take(LINE_MAX).read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        if count == 0 {
            return Ok(log);
        }
        log.line(&String::from_utf8_lossy(&line));
    }
}
