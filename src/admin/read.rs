//! Pages that change nothing.

pub mod causes;
pub mod events;
pub mod history;
pub mod host;
pub mod metrics;
pub mod requests;
pub mod route;
pub mod status;
