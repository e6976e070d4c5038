//! Who can reach the admin address, and whether anybody is asked who they are.
//!
//! Where others than this host's users can connect, tokens are demanded: a port that drains backends for everybody must not
//! come about by a forgotten key.

use crate::config::{Admin, Config};
use crate::problem::{Note, Notes, Quoted};

pub(super) fn check(config: &Config, notes: &mut Notes) {
    let admin = &config.admin;
    twice(admin, notes);
    match &admin.listen {
        Some(listen) if !listen.value.ip().is_loopback() => {
            let shown = Quoted(&listen.value.to_string()).to_string();
            if !admin.tokens_written {
                let text = format!("admin: listen is {shown}, which others can reach, and there is no token");
                let help = "add [[admin.token]] with name, role and sha256, or write \"127.0.0.1\" and the port";
                notes.add(Note::error("admin_without_token", listen.span.clone(), text).help(help).about_the_file());
            } else if !admin.certificates_written {
                let text = format!("admin: listen is {shown}, and tokens cross the network in the clear");
                let help = "add [[admin.certificate]] with certificate and key, or see to it that nobody can listen on the way";
                notes.add(Note::warning("admin_in_the_clear", listen.span.clone(), text).help(help).about_the_file());
            }
        }
        // Off, or refused by the reader.
        None => {
            if let Some(token) = admin.tokens.first() {
                let text = format!("{}: it has no effect, because nothing listens", token.label);
                let help =
                    "who may open the socket may operate and is asked for none; give listen an address, or remove it";
                notes
                    .add(Note::warning("setting_without_effect", token.head.clone(), text).help(help).about_the_file());
            }
        }
        Some(_) => {}
    }
}

fn twice(admin: &Admin, notes: &mut Notes) {
    for (position, token) in admin.tokens.iter().enumerate() {
        let first = admin.tokens[..position].iter().find(|first| first.name.value == token.name.value);
        if let Some(first) = first {
            let text = format!("admin: token {} is there twice", Quoted(&token.name.value));
            notes.add(
                Note::error("duplicate_name", token.name.span.clone(), text)
                    .related(first.name.span.clone(), "the first one")
                    .help("give each a name of its own: events tell by it who gave an order"),
            );
        }
    }
}
