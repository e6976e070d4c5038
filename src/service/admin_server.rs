//! The running admin side: made with the first plan, its doors opened and closed as each plan says.
//!
//! What it shows outlives a move of the address: history and numbers of events go on. Its sockets pass on to the process that takes this one's place, so that no question meets a closed door.

use std::io;
use std::os::fd::OwnedFd;

use crate::admin::{Admin, Doors};
use crate::node::Node;

use super::Desk;

pub struct AdminServer(Doors);

impl AdminServer {
    /// Makes what runs what the plan says. When it cannot, what ran goes on. What another process `left` is used where it fits.
    pub async fn follow(
        running: &mut Option<AdminServer>,
        node: &Node,
        desk: &Desk,
        left: Vec<(String, OwnedFd)>,
    ) -> Result<(), String> {
        let server =
            running.get_or_insert_with(|| AdminServer(Doors::new(Admin::new(node.view(), Some(desk.clone())))));
        server.0.follow(node.plan().admin.as_ref(), left).await
    }

    /// Copies of its sockets, for the process that takes this one's place.
    pub fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.0.sockets()
    }

    /// Another process answers at its doors from now on.
    pub fn leave(self) {
        self.0.leave();
    }
}
