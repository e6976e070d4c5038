//! Where a key stands in the text that a plan was made of.
//!
//! Asked when somebody wants to know which line decided something, long after the config was read: which time ran out on a
//! request. A key that was left out stands nowhere, and its value is the default.

use std::ops::Range;

use crate::Recipe;
use crate::config::{Written, place_of};
use crate::lower::listener_name;
use crate::relations::rule_name;
use crate::source::{Lines, Place};

/// Whose key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    Node,
    /// By its name in the plan.
    Listener(&'a str),
    /// By its name in the plan, which is its own or made of its hosts and path.
    Rule {
        listener: &'a str,
        name: &'a str,
    },
    Pool(&'a str),
}

impl Recipe {
    /// Where `key` was written in `text`, the text that this recipe was compiled from. A key of an inner table is named with
    /// it: `tls.handshake_timeout`.
    pub fn place_of(&self, of: Of<'_>, key: &str, text: &str) -> Option<Place> {
        Some(Lines::new(text).place(self.span_of(of, key)?))
    }

    fn span_of(&self, of: Of<'_>, key: &str) -> Option<Range<usize>> {
        let config = &self.config;
        let listener = |name: &str| {
            let called = |listener: &&crate::config::Listener| listener_name(listener).as_deref() == Some(name);
            config.listeners.iter().find(called)
        };
        let written: &Written = match of {
            Of::Node => &config.node.written,
            Of::Listener(name) => match key.split_once('.') {
                Some(("tls", key)) => return place_of(&listener(name)?.tls.written, key),
                _ => &listener(name)?.written,
            },
            Of::Rule { listener: of, name } => {
                &listener(of)?.rules.iter().find(|rule| rule_name(rule) == name)?.written
            }
            Of::Pool(name) => {
                let called = |pool: &&crate::config::Pool| pool.name.as_ref().is_some_and(|at| at.value == name);
                &config.pools.iter().find(called)?.written
            }
        };
        place_of(written, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Source, compile};

    const TEXT: &str = r#"
[node]
drain_timeout = "1m"

[[listener]]
listen = "127.0.0.1:80"
pool = "web"
header_timeout = "3s"

[[listener.rule]]
path = "/slow"
pool = "web"
response_timeout = "5s"

[[pool]]
name = "web"
connect_timeout = "1s"
backends = ["127.0.0.1:81"]
"#;

    #[test]
    fn a_written_key_has_a_line_and_one_that_was_left_out_has_none() {
        let source = Source { name: "a.toml", text: TEXT, format: Format::Toml };
        let recipe = compile(&source).recipe.expect("a good config");
        let listener = "127.0.0.1:80";
        let table = [
            (Of::Node, "drain_timeout", Some(3)),
            (Of::Node, "workers", None),
            (Of::Listener(listener), "header_timeout", Some(8)),
            (Of::Listener(listener), "tls.handshake_timeout", None),
            (Of::Listener("other"), "header_timeout", None),
            (Of::Rule { listener, name: "*/slow" }, "response_timeout", Some(13)),
            (Of::Rule { listener, name: "*/slow" }, "try_timeout", None),
            (Of::Rule { listener, name: "*/" }, "response_timeout", None),
            (Of::Pool("web"), "connect_timeout", Some(17)),
            (Of::Pool("web"), "response_timeout", None),
        ];
        for (of, key, line) in table {
            assert_eq!(recipe.place_of(of, key, TEXT).map(|place| place.line), line, "{of:?} {key}");
        }
    }
}
