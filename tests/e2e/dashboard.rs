//! The dashboard: that the files in the binary are those that its sources give, and that a browser can use it.
//!
//! Both need Node; a build of evenkeel does not. The sources are copied and built in a folder of the target directory, so that
//! nothing of it lies beside the sources, and a second run finds what the first one installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::tools::have_all;

/// The tests of this file share a folder.
static TOOLS: Mutex<()> = Mutex::new(());

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_dashboard_in_the_binary_is_what_its_sources_give() {
    let test = "the_dashboard_in_the_binary_is_what_its_sources_give";
    if !have_all(test, &["node", "npm"], &[]) {
        return;
    }
    let _only_one = TOOLS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let tools = installed();
    for step in [&["run", "-s", "check"][..], &["run", "-s", "test"][..]] {
        done(Command::new("npm").args(step).current_dir(&tools));
    }
    let built = tools.join("dist");
    done(Command::new("node").arg("build.mjs").arg(&built).current_dir(&tools));
    let (kept, made) = (contents(&project().join("web/dist")), contents(&built));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&kept), names(&made), "files of web/dist; run npm ci and npm run build in web/");
    for ((name, kept), (_, made)) in kept.iter().zip(&made) {
        assert!(kept == made, "web/dist/{name} is not what web/src gives; run npm ci and npm run build in web/");
    }
}

#[test]
fn the_dashboard_is_used_in_a_browser() {
    if !have_all("the_dashboard_is_used_in_a_browser", &["node", "npm", "chromium"], &[]) {
        return;
    }
    let _only_one = TOOLS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let tools = installed();
    let mut command = Command::new("node");
    command.arg("--test").args(["tests/web/dashboard.test.mjs", "tests/web/made_up.test.mjs"]);
    command.env("EVENKEEL", env!("CARGO_BIN_EXE_evenkeel")).env("EVENKEEL_WEB_TOOLS", &tools);
    done(command.current_dir(project()));
}

/// The folder with the sources as they are now, and what `npm ci` installs for them.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web/inside");
    let sources = project().join("web");
    for part in ["src", "test", "out", "dist"] {
        let _ = fs::remove_dir_all(folder.join(part));
    }
    fs::create_dir_all(&folder).expect("the target folder can be written");
    copy(&sources, &folder);
    // A test reads the table of causes.
    let causes = "crates/model/src/cause.rs";
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web").join(causes);
    fs::create_dir_all(beside.parent().expect("it is in a folder")).expect("the target folder can be written");
    fs::copy(project().join(causes), beside).expect("the project has its causes");
    let lock = fs::read(sources.join("package-lock.json")).expect("the lock file is committed");
    let stamp = folder.join("node_modules/.installed");
    if fs::read(&stamp).ok().as_ref() != Some(&lock) {
        done(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder));
        fs::write(stamp, lock).expect("npm has just written there");
    }
    folder
}

/// Sources only: neither what was installed nor what was built beside them.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the sources can be read").flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        if ["node_modules", "out", "dist"].iter().any(|skipped| name == *skipped) {
            continue;
        }
        let to = to.join(&name);
        if path.is_dir() {
            fs::create_dir_all(&to).expect("the target folder can be written");
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("a source can be copied");
        }
    }
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| {
            let bytes = fs::read(entry.path()).expect("a file that was built can be read");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

/// Runs a program to its end, which must be a good one.
fn done(command: &mut Command) {
    let told = command.stdin(Stdio::null()).output().expect("it was looked for");
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{command:?} ended with {}:\n{out}\n{err}", told.status);
}
