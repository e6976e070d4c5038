//! Sets the scene: three backends, the node on a compiled config, its admin pages, the wish to stop.
//!
//! All of it in this process and on loopback ports that the kernel chose.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use evenkeel_config::{Format, Source, compile, render};
use evenkeel_health::judge::Progress;
use evenkeel_model::event::Event;
use evenkeel_model::standing::Verdict;
use evenkeel_model::{BackendId, Cause};
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_plan::Plan;
use evenkeel_reactor::Clock;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::node::{Node, Refused, View};

use super::backend::Backend;
use super::{BACKENDS, CONFIG};

pub struct Stage {
    pub backends: Vec<Backend>,
    pub clock: Clock,
    pub plan: Arc<Plan>,
    /// The config as it was compiled.
    pub config: String,
    pub web: SocketAddr,
    pub admin: SocketAddr,
    pub news: Receiver<News>,
    node: Node,
    view: View,
}

/// What reaches the story from other threads.
#[derive(Debug)]
pub enum News {
    Recorded(Event),
    Interrupted,
}

/// What the node knows of one backend.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub verdict: Verdict,
    pub progress: Option<Progress>,
    pub in_flight: u64,
    /// Probes that were void since the start.
    pub voids: u64,
}

/// Between our look for a free port and the node's bind somebody else may take it.
const PORT_TRIES: usize = 10;

impl Stage {
    /// # Errors
    /// A sentence for the user.
    pub fn set() -> Result<Stage, String> {
        let backends: io::Result<Vec<Backend>> = BACKENDS.iter().map(|&name| Backend::start(name)).collect();
        let backends = backends.map_err(|error| format!("cannot start a backend on loopback: {error}"))?;
        let admin_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (admin, admin_listener) = admin_listener.map_err(|error| format!("cannot listen on loopback: {error}"))?;
        let (tell, news) = channel();
        let (clock, epoch) = Clock::start();
        let mut tries = 0;
        let (node, web, config) = loop {
            tries += 1;
            let web = free_port().map_err(|error| format!("cannot listen on loopback: {error}"))?;
            let config = config(web, admin, backends.iter().map(|backend| backend.address));
            let plan = Arc::new(plan(&config)?);
            let sink = {
                let tell = tell.clone();
                // The story may have ended; then nobody listens.
                Box::new(move |event: &Event| drop(tell.send(News::Recorded(event.clone()))))
            };
            match Node::start(plan, Arc::default(), clock, epoch, sink) {
                Ok(node) => break (node, web, config),
                Err(Refused::InUse { .. } | Refused::Bind { .. }) if tries < PORT_TRIES => {}
                Err(refused) => return Err(refused.to_string()),
            }
        };
        let view = node.view();
        attend(admin_listener, view.clone(), tell).map_err(|error| format!("cannot start the admin pages: {error}"))?;
        let plan = Arc::clone(node.plan());
        Ok(Stage { backends, clock, plan, config, web, admin, news, node, view })
    }

    /// What the node knows of each backend right now.
    pub fn known(&self) -> Vec<Known> {
        let mut known = self
            .view
            .boss
            .look(|control| {
                let plan = &control.snapshot().plan;
                let each = plan.backends.iter().enumerate().map(|(index, backend)| {
                    let target = backend.targets.first().map(|&target| control.target(target));
                    Known {
                        verdict: control.standing(BackendId::from_index(index)).verdict,
                        progress: target.and_then(|target| target.progress()),
                        in_flight: 0,
                        voids: target.map_or(0, |target| target.counts().void),
                    }
                });
                each.collect::<Vec<_>>()
            })
            .unwrap_or_default();
        for (known, backend) in known.iter_mut().zip(&self.plan.backends) {
            let pool = Arc::clone(&self.plan.pools[backend.pool.index()].name);
            let label = BackendLabel { pool, backend: backend.address.to_string().into() };
            known.in_flight = self.view.registry.sum_backend(&label, |metrics| metrics.in_flight.read());
        }
        known
    }

    /// The node's own counters of ended exchanges that went wrong.
    pub fn counted(&self) -> Vec<u64> {
        let listener = &self.plan.listeners[0].name;
        Cause::ALL
            .iter()
            .map(|&cause| self.view.registry.sum_listener(listener, |metrics| metrics.causes.read(cause)))
            .collect()
    }

    pub fn name_of(&self, address: SocketAddr) -> Option<usize> {
        self.backends.iter().position(|backend| backend.address == address)
    }

    pub fn strike(self) {
        self.node.drain(Duration::from_secs(1));
    }
}

/// The embedded config with its addresses filled in.
fn config(web: SocketAddr, admin: SocketAddr, backends: impl Iterator<Item = SocketAddr>) -> String {
    let mut text = CONFIG.replace("\"WEB\"", &format!("\"{web}\"")).replace("\"ADMIN\"", &format!("\"{admin}\""));
    for (name, address) in BACKENDS.iter().zip(backends) {
        text = text.replace(&format!("BACKEND_{}", name.to_ascii_uppercase()), &address.to_string());
    }
    text
}

fn plan(config: &str) -> Result<Plan, String> {
    let source = Source { name: "demo.toml", text: config, format: Format::of_path("demo.toml") };
    let compiled = compile(&source);
    compiled.plan.ok_or_else(|| render(&source, &compiled.problems, false))
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// For everybody on this host, as the demo's config says.
fn pages(view: View) -> axum::Router {
    let came = admin::Came { door: admin::Door::Loopback, tokens: admin::Tokens::default() };
    admin::router(admin::Admin::new(view, None)).layer(axum::Extension(came))
}

/// Serves the admin pages and waits for the wish to stop, on a thread that ends with the process.
fn attend(listener: TcpListener, view: View, tell: Sender<News>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let attending = async move {
        let (mut interrupt, mut terminate, mut hangup) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(async move {
            // Ends only with the runtime.
            let _ = axum::serve(listener, pages(view)).await;
        });
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if tell.send(News::Interrupted).is_err() {
                return io::Result::Ok(());
            }
        }
    };
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || runtime.block_on(attending))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_health::settings::ProbeSettings;

    #[test]
    fn the_embedded_config_is_good_and_fits_the_story() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let text = config(address(4000), address(4001), [4002, 4003, 4004].map(address).into_iter());
        let plan = plan(&text).expect("a plan");
        assert_eq!(plan.backends.iter().map(|backend| backend.address.port()).collect::<Vec<_>>(), [4002, 4003, 4004]);
        assert_eq!(plan.admin.as_ref().and_then(|admin| admin.listen).map(|listen| listen.port()), Some(4001));
        let pool = &plan.pools[0];
        let check = &pool.checks[0].settings;
        let ProbeSettings::Http(http) = &check.probe else { panic!("an http check") };
        assert_eq!(http.path, super::super::HEALTH_PATH);
        // What the story's own numbers promise of these.
        assert!(super::super::DWELL > pool.response_timeout);
        assert!(super::super::CLIENT_PATIENCE > pool.response_timeout);
    }
}
