//! New binaries that do not get as far as serving: the running process goes on, untouched, and says why.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use crate::counting::{Crew, told};
use crate::daemon::{BINARY, Daemon, Folder, Setup, until};
use crate::upgrade::Site;

#[test]
fn a_new_binary_that_ends_refuses_or_lies_leaves_the_old_one_serving() {
    let site = Site::new("upgrade_fails");
    let place = Folder::new("upgrade_fails_binary");
    let binary = place.0.join("evenkeel");
    symlink(BINARY, &binary).expect("the folder can be written");
    let setup = Setup { name: "upgrade_fails", node: "", body: &site.config, namespace: None };
    let mut daemon = Daemon::start_as(&setup, &binary);
    let pid = daemon.pid();
    let crew = Crew::start(&site.forge, Duration::from_millis(15), &site.clients());
    // Its standard input is the old process: 8 bytes of length, the document, the sockets.
    let table = [
        ("ends at once", "exit 7", "exit status: 7"),
        ("ends in the middle of the document", "head -c 20 >/dev/null; exit 8", "ended before it served"),
        ("is killed", "kill -9 $$", "signal: 9"),
        ("says that it is ready and ends", "printf 'ready\\n' >&0; exit 9", "ended before it served"),
        ("listens, and ends before it serves", "printf 'ready\\n' >&0; sleep 0.2; exit 10", "ended before it served"),
        ("says something else", "printf 'HTTP/1.1 400\\n' >&0; sleep 60", "instead of \"ready\""),
    ];
    for (what, script, why) in table {
        let before = crew.answered();
        until("traffic", || (crew.answered() >= before + 30).then_some(()));
        fs::remove_file(&binary).expect("it was made above");
        fs::write(&binary, format!("#!/bin/sh\n{script}\n")).expect("the folder can be written");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let line = daemon.upgrade().expect_err(what);
        assert!(line.contains(" warn ") && line.contains(why), "{what}: {line}");
    }
    fs::remove_file(&binary).expect("it was made above");
    let line = daemon.upgrade().expect_err("no binary");
    assert!(line.contains("cannot start"), "{line}");

    // The right binary, and a config that it refuses: what it says of it is in the log.
    symlink(BINARY, &binary).expect("the folder can be written");
    let good = fs::read_to_string(daemon.config()).expect("it was written");
    fs::write(daemon.config(), good.replacen("pool = \"web\"", "pool = \"wbe\"", 1)).expect("it can be written");
    let from = daemon.events().len();
    let line = daemon.upgrade().expect_err("a config with an error");
    assert!(line.contains("exit status: 1"), "{line}");
    daemon.wait_event(from, &["wbe"]);
    fs::write(daemon.config(), &good).expect("it can be written");

    let before = crew.answered();
    until("traffic after all", || (crew.answered() >= before + 200).then_some(()));
    assert_eq!(daemon.pid(), pid);
    // And one that is in order is taken.
    daemon.upgrade().expect("the right binary");
    assert_ne!(daemon.pid(), pid);
    let before = crew.answered();
    until("traffic after the upgrade", || (crew.answered() >= before + 200).then_some(()));
    let books = crew.stop();
    assert!(books.values().all(|book| book.lost.is_empty()), "{}", told(&books));
}
