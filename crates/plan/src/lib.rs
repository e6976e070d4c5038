//! What the node is to do (the plan) and what it knows (the snapshot), as values.
//!
//! The compiler of configs makes a [`Plan`]; the control room joins it with health into a
//! [`Snapshot`] and publishes that through one pointer, so that a worker never sees a plan and a
//! health of different generations. This room decides nothing and touches nothing.

mod asked;
mod beside;
mod diff;
mod hsts;
mod names;
mod plan;
mod publish;
mod rules;
mod snapshot;

pub use asked::Asked;
pub use beside::{Answer, Hook, HookOn, HookTo, NameAsked, Records, Resolved, Resolver, StateFile, Traces};
pub use diff::{Altered, Part, PlanDiff, diff};
pub use evenkeel_health::settings::PassiveSettings;
pub use hsts::Hsts;
pub use names::{NameRule, Names};
pub use plan::{
    Access, AccessLog, Admin, AdminToken, Affinity, Backend, Check, Coding, Compression, Datagrams, HashOn,
    HttpSettings, Listener, ListenerTcp, Node, OnUnhealthy, Plan, Pool, Protocol, ProxyDatagrams, ProxyProtocol,
    ProxyVersion, Rate, Rates, Refuse, Role, SocketTcp, Source, Speaks, Sticky, StickyMode, StreamLimits, Target,
};
pub use publish::{Publisher, Reader};
pub use rules::{Action, Candidate, HeaderCondition, HeaderEdits, HostPattern, Miss, Reason, Rule, Rules};
pub use snapshot::{PoolView, Snapshot};
