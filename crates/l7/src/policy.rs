//! What a listener's and a pool's settings add to one answer: HSTS, a sticky cookie, a coding.
//!
//! Reads settings and what was noted of the request; writes nothing.

use std::time::Duration;

use evenkeel_balance::sticky::Token;
use evenkeel_plan::{Coding, Hsts, StickyMode};
use evenkeel_wire::ResponseHead;
use evenkeel_wire::encoding::{Negotiated, may_compress};

use crate::client::Client;

/// The value of Strict-Transport-Security. Over plain HTTP it must not be said (RFC 6797 section 7.2).
pub(crate) fn strict_transport_security(client: &Client) -> Option<Hsts> {
    if client.secure { client.listener.read(|settings| settings.http.hsts) } else { None }
}

/// A token that the client is to be given.
pub(crate) struct Due {
    pub token: Token,
    pub mode: StickyMode,
    pub cookie: Box<str>,
    pub max_age: Option<Duration>,
}

/// A client without a token that names the backend it got is given one, and one whose token grows old. A backend's own
/// cookie is marked whenever it sets it.
pub(crate) fn due_token(client: &Client, unix: u64) -> Option<Due> {
    let pool = client.attempt.pool.as_ref()?;
    let tokens = pool.sticky()?;
    let picked = client.attempt.picked.as_ref()?;
    let is_known = client.attempt.wants.held.is_some_and(|held| held.backend == picked.backend.key && !held.renew);
    pool.read(|settings| {
        let sticky = settings.sticky.as_ref().filter(|sticky| sticky.mode == StickyMode::Rewrite || !is_known)?;
        let token = tokens.issue(picked.backend.key, unix);
        Some(Due { token, mode: sticky.mode, cookie: sticky.cookie.clone(), max_age: sticky.max_age })
    })
}

/// Whether and how the answer's body is compressed, with the level.
pub(crate) fn negotiate(client: &Client, head: &ResponseHead<'_, '_>) -> Negotiated<(Coding, u32)> {
    let Some(accepted) = client.attempt.wants.accepted else { return Negotiated { coding: None, vary: false } };
    client.listener.read(|settings| match &settings.http.compression {
        None => Negotiated { coding: None, vary: false },
        Some(compression) => {
            let negotiated = may_compress(accepted, head, &compression.types, compression.min_size);
            Negotiated { coding: negotiated.coding.map(|coding| (coding, compression.level)), vary: negotiated.vary }
        }
    })
}
