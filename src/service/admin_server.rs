//! The running admin side: made with the first plan, its doors opened and closed as each plan says.

use crate::admin::{Admin, Doors};
use crate::node::Node;

use super::Desk;

pub struct AdminServer(Doors);

impl AdminServer {
    /// Makes what runs what the plan says. When it cannot, what ran goes on.
    pub async fn follow(running: &mut Option<AdminServer>, node: &Node, desk: &Desk) -> Result<(), String> {
        let server =
            running.get_or_insert_with(|| AdminServer(Doors::new(Admin::new(node.view(), Some(desk.clone())))));
        server.0.follow(node.plan().admin.as_ref()).await
    }
}
