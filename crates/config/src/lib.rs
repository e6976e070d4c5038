//! The compiler of configs: text in, every problem or a [`Plan`] out.
//!
//! The binary calls [`compile`] for `run`, `check` and each reload, and [`render`] or [`render_json`]
//! to show what came of it. A run reports all problems of a file. A plan exists exactly when there was no error,
//! and then nothing downstream checks anything again.
//!
//! ```text
//! text -> Document      document/   TOML, YAML, JSON into one tree with places     syntax errors
//!      -> Config        read.rs     each key by the table in keys.rs               wrong words and values
//!      -> (same)        relations/  what keys mean for each other                  contradictions
//!      -> Material      material.rs what the named files hold                      bad certificates and keys
//!      -> Plan          lower.rs    names into indices, targets deduplicated       cannot fail
//! ```
//!
//! It opens no file: the caller has the bytes, and a name to call them by, and brings [`Files`] when a config may name
//! certificates. It will never guess: an unknown key is an error with a proposal, not a warning.

mod config;
mod document;
mod keys;
mod lower;
mod material;
mod problem;
mod read;
mod reader;
mod reference;
mod relations;
mod render;
mod schema;
mod secrets;
mod source;
mod values;
mod written;

use std::sync::Arc;

use evenkeel_plan::{Plan, Resolved};

pub use material::Files;
pub use problem::{Problem, Severity};
pub use reader::closest;
pub use reference::reference;
pub use render::{render, render_json};
pub use schema::schema;
pub use secrets::{Secrets, secrets};
pub use source::{Format, Place, Source};
pub use written::Of;

/// What came of a config.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// `None` when any problem is an error. Names of backends have no answers in it.
    pub plan: Option<Plan>,
    /// What the plan was made of; present with it.
    pub recipe: Option<Arc<Recipe>>,
    /// By place.
    pub problems: Vec<Problem>,
}

/// A config without errors and what its files hold, to make its plan anew when names of backends have other answers.
///
/// Nothing is read for it again: a file that changed meanwhile is the next reload's.
#[derive(Debug)]
pub struct Recipe {
    config: config::Config,
    material: material::Material,
}

impl Recipe {
    /// The names that want answers are `names` of any plan of it. One without an answer has no backends.
    pub fn plan(&self, resolved: &Resolved) -> Plan {
        lower::plan(&self.config, &self.material, resolved)
    }
}

/// Compiles a config that names no files; one that does has an error for each.
pub fn compile(source: &Source<'_>) -> Compiled {
    compile_with(source, &mut material::NoFiles::default())
}

/// Where the node of a config is operated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlace {
    pub listen: Option<std::net::SocketAddr>,
    /// An absolute path.
    pub socket: Option<String>,
    /// Whether the address speaks TLS.
    pub secured: bool,
}

/// What a config says of that, whatever else is wrong with it: whoever mends a config still wants to ask the node.
pub fn admin_place(source: &Source<'_>) -> AdminPlace {
    let mut notes = problem::Notes::default();
    let admin = read::config(&document::parse(source, &mut notes), &mut notes).admin;
    AdminPlace {
        listen: admin.listen.map(|at| at.value),
        socket: admin.socket.map(|at| at.value),
        secured: admin.certificates_written,
    }
}

pub fn compile_with(source: &Source<'_>, files: &mut dyn Files) -> Compiled {
    let mut notes = problem::Notes::default();
    let document = document::parse(source, &mut notes);
    let config = read::config(&document, &mut notes);
    relations::check(&config, &mut notes);
    let material = material::material(&config, files, &mut notes);
    let recipe = (!notes.failed()).then(|| Arc::new(Recipe { config, material }));
    let plan = recipe.as_ref().map(|recipe| recipe.plan(&Resolved::new()));
    Compiled { plan, recipe, problems: notes.into_problems(&source::Lines::new(source.text)) }
}
