//! What wrk and h2load leave to be done in `bench/`: they speak only HTTP, and Python is slower than the proxies.
//!
//! `serve` is the backend of the TCP and UDP rows, `targets` are what checkers probe, `sink` is a log server; `connections`, `bulk`, `both`, `datagrams` and
//! `handshakes` are clients at full speed, `idle` is many that do nothing, `pace` is one at a steady pace. Every client checks what comes back, so that a proxy cannot be fast by
//! being wrong, and prints one line of JSON.
//! Nothing here decides what is compared with what: that is the harness's part.

mod answer;
mod answers;
mod both;
mod bulk;
mod connections;
mod datagram;
mod datagrams;
mod handshakes;
mod idle;
mod latency;
mod pace;
mod serve;
mod sink;
mod targets;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: evenkeel-load serve --echo PORT,PORT --source PORT,PORT --both PORT,PORT --answers PORT,PORT --bursts PORT,PORT
       evenkeel-load targets --tcp PORT --http PORT --udp PORT --counts PORT
       evenkeel-load sink --port PORT --file FILE
       evenkeel-load connections --target ADDRESS --seconds S [--concurrency N]
       evenkeel-load bulk --target ADDRESS --seconds S [--connections N]
       evenkeel-load both --target ADDRESS --seconds S [--connections N]
       evenkeel-load datagrams --asks echo|bursts|once --target ADDRESS --seconds S [--flows N] [--burst N] [--size BYTES]
       evenkeel-load idle --target ADDRESS --connections N
       evenkeel-load handshakes --wanted full|resumed --target ADDRESS --seconds S --certificate PEM --name NAME
                                --path PATH --length BYTES [--concurrency N]
       evenkeel-load pace --target ADDRESS --seconds S --rate N --path PATH --length BYTES";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("evenkeel-load: {problem}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let verb = arguments.first().ok_or("no verb")?;
    let options = Options(&arguments[1..]);
    match verb.as_str() {
        "serve" => {
            let ports = serve::Ports {
                echo: options.ports("--echo")?,
                source: options.ports("--source")?,
                both: options.ports("--both")?,
                answers: options.ports("--answers")?,
                bursts: options.ports("--bursts")?,
            };
            serve::run(&ports).map_err(|e| e.to_string())
        }
        "targets" => {
            let port = |name| options.ports(name).map(|ports| ports[0]);
            let ports = targets::Ports {
                tcp: port("--tcp")?,
                http: port("--http")?,
                udp: port("--udp")?,
                counts: port("--counts")?,
            };
            targets::run(&ports).map_err(|e| e.to_string())
        }
        "sink" => {
            let ports = options.ports("--port")?;
            sink::run(ports[0], options.needed("--file")?.as_ref()).map_err(|e| e.to_string())
        }
        "connections" => {
            let load = connections::Load {
                target: options.address("--target")?,
                length: options.seconds("--seconds")?,
                concurrency: options.count("--concurrency", 64)?,
            };
            println!("{}", connections::run(&load).map_err(|e| e.to_string())?);
            Ok(())
        }
        "bulk" => {
            let target = options.address("--target")?;
            println!("{}", bulk::run(target, options.seconds("--seconds")?, options.count("--connections", 2)?));
            Ok(())
        }
        "both" => {
            let target = options.address("--target")?;
            println!("{}", both::run(target, options.seconds("--seconds")?, options.count("--connections", 2)?));
            Ok(())
        }
        "datagrams" => {
            let load = datagrams::Load {
                target: options.address("--target")?,
                length: options.seconds("--seconds")?,
                asks: match options.needed("--asks")? {
                    "echo" => datagrams::Asks::Echo,
                    "bursts" => datagrams::Asks::Bursts,
                    "once" => datagrams::Asks::Once,
                    other => return Err(format!("--asks \"{other}\" is neither echo, bursts nor once")),
                },
                flows: options.count("--flows", 64)?,
                burst: options.count("--burst", 1)?,
                size: options.count("--size", 64)?,
            };
            println!("{}", datagrams::run(&load)?);
            Ok(())
        }
        "idle" => idle::run(options.address("--target")?, options.count("--connections", 10_000)?),
        "handshakes" => {
            let wanted = match options.needed("--wanted")? {
                "full" => handshakes::Wanted::Full,
                "resumed" => handshakes::Wanted::Resumed,
                other => return Err(format!("--wanted \"{other}\" is neither full nor resumed")),
            };
            let load = handshakes::Load {
                target: options.address("--target")?,
                length: options.seconds("--seconds")?,
                concurrency: options.count("--concurrency", 32)?,
                wanted,
                certificate: options.needed("--certificate")?.as_ref(),
                name: options.needed("--name")?,
                path: options.needed("--path")?,
                body_length: options.count("--length", 0)?,
            };
            println!("{}", handshakes::run(&load)?);
            Ok(())
        }
        "pace" => {
            let load = pace::Load {
                target: options.address("--target")?,
                length: options.seconds("--seconds")?,
                requests_per_second: options.count("--rate", 200)?,
                path: options.needed("--path")?,
                body_length: options.count("--length", 0)?,
            };
            println!("{}", pace::run(&load));
            Ok(())
        }
        other => Err(format!("unknown verb \"{other}\"")),
    }
}

/// `--name value` pairs, in any order.
struct Options<'a>(&'a [String]);

impl Options<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
    }

    fn needed(&self, name: &str) -> Result<&str, String> {
        self.value(name).ok_or_else(|| format!("{name} is missing"))
    }

    fn address(&self, name: &str) -> Result<SocketAddr, String> {
        let text = self.needed(name)?;
        text.parse().map_err(|_| format!("{name} \"{text}\" is not ADDRESS:PORT"))
    }

    fn seconds(&self, name: &str) -> Result<Duration, String> {
        let text = self.needed(name)?;
        let seconds: f64 = text.parse().map_err(|_| format!("{name} \"{text}\" is not a number"))?;
        Duration::try_from_secs_f64(seconds).map_err(|_| format!("{name} \"{text}\" is not a length of time"))
    }

    fn count(&self, name: &str, default: usize) -> Result<usize, String> {
        match self.value(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name} \"{text}\" is not a number")),
        }
    }

    fn ports(&self, name: &str) -> Result<Vec<u16>, String> {
        let text = self.needed(name)?;
        text.split(',').map(|port| port.parse().map_err(|_| format!("{name}: \"{port}\" is not a port"))).collect()
    }
}
