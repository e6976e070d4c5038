//! evenkeel from outside: the real binary, real sockets, real faults.
//!
//! Each module is one promise of the contract. What needs root or a program that is not here is skipped aloud, or
//! fails with EVENKEEL_REQUIRE_ALL=1.

mod aborts;
mod affinity;
mod backend;
mod causes;
mod checks;
mod client;
mod counting;
mod daemon;
mod dashboard;
mod faults;
mod h2_clients;
mod health_expected;
mod health_kinds;
mod health_random;
mod health_scene;
mod health_servers;
mod health_streams;
mod health_table;
mod health_times;
#[path = "../sim/hello.rs"]
mod hello;
mod host;
mod l7_causes;
mod l7_certificates;
mod l7_coding;
mod l7_named;
mod l7_refused;
mod l7_retries;
mod l7_rules;
mod l7_slow;
mod l7_speak;
mod lab;
mod lab_page;
mod lab_rows;
mod lab_sites;
mod lab_table;
mod monitoring;
mod nginx;
mod passive;
mod passthrough;
mod proxy_protocol;
mod quic;
mod real_dns;
mod real_game;
mod real_redis;
mod recipes;
mod reload;
mod reload_loss;
mod servers;
mod side_commands;
mod side_hooks;
mod side_names;
mod side_state;
mod tcp;
mod tcp_causes;
mod tcp_sessions;
mod tls_clients;
mod tools;
mod transparent;
mod udp;
mod udp_truth;
mod upgrade;
mod upgrade_fails;
