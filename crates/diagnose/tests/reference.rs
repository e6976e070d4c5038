//! The committed manual page of causes is the one the table makes.
//!
//! `UPDATE_GOLDEN=1` rewrites it; the difference is reviewed like code.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_committed_page_of_causes_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/causes.md");
    let current = evenkeel_diagnose::explain::manual();
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &current).expect("the page can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/reference/causes.md is not what the table of causes makes; \
         run `UPDATE_GOLDEN=1 cargo test -p evenkeel-diagnose` and review the difference"
    );
}
