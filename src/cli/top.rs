//! `evenkeel top`: a running node live, what is wrong first.
//!
//! A thread asks the node, the main thread draws and hears keys; neither waits for the other, so that a node that does not answer
//! can still be left. What keys do is decided in `state`, how it looks in `draw`; both are told everything and touch nothing.

mod draw;
mod state;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};

use super::operate::client::{Client, Failure};
use super::operate::orders::{Target, post_order, post_probe};
use state::{Act, News, State};

/// Between two looks at the node.
const LOOK: Duration = Duration::from_secs(1);
/// How long a key may wait for news to be drawn.
const TICK: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub struct Arguments {
    /// Only backends whose pool or address has this in it.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    #[command(flatten)]
    pub node: super::operate::Node,
}

pub fn top(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    // Whatever is wrong with the way to the node is said on the ordinary screen.
    let first = look(client)?;
    if arguments.node.json {
        println!("{:#}", first.documents());
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Failure::Usage("top needs a terminal; evenkeel status prints the same once".to_owned()));
    }
    let mut state = State::new(client.place.to_string(), arguments.filter.clone().unwrap_or_default());
    state.hear(first);
    let (wishes, wished) = channel();
    let (news, heard) = channel();
    let asker = client.clone();
    std::thread::spawn(move || ask(&asker, &wished, &news));
    let mut terminal = ratatui::init();
    let shown = show(&mut terminal, &mut state, &wishes, &heard);
    ratatui::restore();
    match shown {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The terminal was taken away: nobody is left to be told.
        Err(_) => Ok(ExitCode::from(1)),
    }
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    state: &mut State,
    wishes: &Sender<Act>,
    heard: &Receiver<News>,
) -> std::io::Result<()> {
    loop {
        for news in heard.try_iter() {
            state.hear(news);
        }
        terminal.draw(|frame| draw::draw(frame, state))?;
        if !event::poll(TICK)? {
            continue;
        }
        if let Event::Key(key) = event::read()? {
            match state.key(key) {
                Some(Act::Leave) => return Ok(()),
                // The thread lives as long as its end of the channel, which is ours.
                Some(act) => drop(wishes.send(act)),
                None => {}
            }
        }
    }
}

/// Asks the node now and then, and does what the operator wants in between.
fn ask(client: &Client, wished: &Receiver<Act>, news: &Sender<News>) {
    loop {
        match wished.recv_timeout(LOOK) {
            // Looked at right behind it, so that what it did is seen.
            Ok(act) => {
                if news.send(act_on(client, act)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let found = look(client).unwrap_or_else(|failure| News::Failed(failure.to_string()));
        if news.send(found).is_err() {
            return;
        }
    }
}

fn act_on(client: &Client, act: Act) -> News {
    let target = |pool: String, backend: String| Target { pool, backend };
    let (what, done) = match act {
        Act::Leave => return News::Done(String::new()),
        Act::Order { pool, backend, order, lasts } => (
            format!("{order} {pool}/{backend}"),
            post_order(client, &target(pool, backend), order, lasts.as_deref(), false),
        ),
        Act::Probe { pool, backend } => (format!("probe {pool}/{backend}"), post_probe(client, &target(pool, backend))),
    };
    match done {
        Ok(_) => News::Done(format!("{what}: done")),
        Err(failure) => News::Done(format!("{what}: {failure}")),
    }
}

fn look(client: &Client) -> Result<News, Failure> {
    let status = client.get("/api/v1/status")?;
    // What an older node does not have is not missed.
    let causes = client.get("/api/v1/causes").unwrap_or_default();
    let history = client.get("/api/v1/history?minutes=1").unwrap_or_default();
    Ok(News::Seen { status, causes, history })
}
