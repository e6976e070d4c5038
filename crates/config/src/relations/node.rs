//! What the settings of the node mean for each other and for the pools.
//!
//! One setting alone is the reader's business. Here stands what becomes wrong, or without effect, only beside another: a
//! command that the node does not allow, an age of a file that nobody writes.

use evenkeel_plan::HookTo;

use crate::config::{Config, place_of};
use crate::problem::{Note, Notes};
use crate::values::show_duration;

pub(super) fn check(config: &Config, notes: &mut Notes) {
    state(config, notes);
    hooks(config, notes);
    resolver(config, notes);
}

fn state(config: &Config, notes: &mut Notes) {
    let written = &config.node.written;
    if let Some(span) = place_of(written, "state_max_age")
        && place_of(written, "state_file").is_none()
    {
        let text = "node: state_max_age has no effect, because nothing is kept without state_file";
        let help = "add state_file = \"/var/lib/evenkeel/state.json\", or remove state_max_age";
        notes.add(Note::warning("setting_without_effect", span, text).help(help));
    }
}

fn hooks(config: &Config, notes: &mut Notes) {
    for (position, hook) in config.node.hooks.iter().enumerate() {
        if let Some(HookTo::Command(_)) = hook.to
            && !config.node.allow_commands
        {
            let text = format!("hook {}: commands are not allowed on this node", position + 1);
            let help =
                "write allow_commands = true in [node]: whoever may write this file may then run programs as evenkeel";
            notes.add(Note::error("commands_not_allowed", hook.head.clone(), text).help(help).about_the_file());
        }
        let heard = config.node.hooks[..position].iter().find(|first| first.to.is_some() && first.to == hook.to);
        if let Some(first) = heard {
            let text = format!("hook {}: it tells the same as another one", position + 1);
            notes.add(
                Note::warning("hook_twice", hook.head.clone(), text)
                    .related(first.head.clone(), "the first one")
                    .help("write one of them, with all the changes in its list: on = [\"unhealthy\", \"healthy\"]"),
            );
        }
    }
}

fn resolver(config: &Config, notes: &mut Notes) {
    let resolver = &config.node.resolver;
    if resolver.min_ttl > resolver.max_ttl {
        let shown = (show_duration(resolver.min_ttl), show_duration(resolver.max_ttl));
        let text = format!("node: resolver.min_ttl is {}, longer than the max_ttl of {}", shown.0, shown.1);
        let span = place_of(&resolver.written, "min_ttl").or_else(|| place_of(&resolver.written, "max_ttl"));
        let span = span.unwrap_or_else(|| resolver.head.clone());
        notes.add(Note::error("ttl_bounds_crossed", span, text).help("make min_ttl the shorter one"));
    }
    let incomplete = config.pools.iter().any(|pool| pool.backends_incomplete);
    if let Some(span) = place_of(&config.node.written, "resolver")
        && !incomplete
        && !resolver.head.is_empty()
        && config.pools.iter().all(|pool| pool.names.is_empty())
    {
        let text = "node: resolver has no effect, because no backend is given by name";
        notes.add(Note::warning("setting_without_effect", span, text).help("remove it").about_the_file());
    }
}
