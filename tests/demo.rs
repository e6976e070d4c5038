//! The demo as a stranger runs it: one process, no config, and it vouches for itself.
//!
//! What it claims is the business of `src/demo/claims.rs`, where each claim is seen to break. Here the real binary
//! tells the real story, in real time; that is the price of a window that is really waited for.

use std::process::Command;

#[test]
fn the_story_told_once_holds_every_claim() {
    let demo = Command::new(env!("CARGO_BIN_EXE_evenkeel")).args(["demo", "--once"]).output();
    let demo = demo.expect("the binary was built for this test");
    let text = String::from_utf8_lossy(&demo.stdout);
    let said = format!("{text}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert_eq!(demo.status.code(), Some(0), "{said}");
    let (story, summary) = text.split_once("\nsummary\n").expect("a summary");
    for verdict in ["backend a unhealthy", "backend a healthy", "backend b unhealthy", "backend c healthy"] {
        assert!(story.contains(verdict), "{verdict:?} is not in the story\n{said}");
    }
    for row in ["a killed", "a back", "b hangs", "b back", "c health page 500", "c back"] {
        let found = summary.lines().any(|line| line.starts_with(row) && line.contains(" to "));
        assert!(found, "no row for {row:?} in the summary\n{said}");
    }
    assert!(summary.contains("backend_response_timeout (blame: backend)"), "{said}");
    assert!(summary.trim_end().ends_with("all 12 claims held"), "{said}");
    assert!(!text.contains('\x1b'), "no escape sequences into a pipe\n{said}");
}
