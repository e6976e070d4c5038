//! The running admin server: started, moved and stopped as the plan says.
//!
//! An address that cannot be had leaves the server before it running: an operator must not lose the pages over a typing error.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Desk;
use crate::admin;
use crate::node::Node;

pub struct AdminServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Makes what runs what the plan says. When it cannot, what ran goes on.
    pub async fn follow(running: &mut Option<AdminServer>, node: &Node, desk: &Desk) -> Result<(), String> {
        let wanted = node.plan().admin.as_ref().map(|admin| admin.listen);
        if running.as_ref().map(|server| server.address) == wanted {
            return Ok(());
        }
        let started = match wanted {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                let listener = listener.map_err(|error| format!("admin: cannot listen on {address}: {error}"))?;
                let admin = admin::Admin::new(node.view(), Some(desk.clone()));
                let task = tokio::spawn(async move {
                    // Both end only with the runtime.
                    let _ =
                        tokio::join!(Arc::clone(&admin).keep_history(), axum::serve(listener, admin::router(admin)));
                });
                Some(AdminServer { address, task })
            }
        };
        if let Some(before) = std::mem::replace(running, started) {
            before.task.abort();
        }
        Ok(())
    }
}
