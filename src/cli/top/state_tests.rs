//! What keys do, and how it looks on 80 columns and 24 lines.
//!
//! Screens are compared as text; whoever changes one sees in the test what an operator will see.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::super::draw;
use super::{Act, Mode, News, State};

fn backend(address: &str, verdict: &str) -> Value {
    json!({
        "address": address, "weight": 100, "weight_of_file": 100, "effective_weight": 100, "verdict": verdict,
        "since": "2026-11-22T17:00:00.000Z", "order": "serve", "ramp_percent": 100, "in_flight": 3, "attempts_total": 10,
        "checks": [{ "name": "http", "kind": "http", "verdict": verdict, "probing": { "state": "waiting", "next_in_ms": 1200.0 },
            "recent": [{ "started": "x", "duration_ms": 0.3, "result": "failed", "text": "connect refused after 0.3ms" }] }],
    })
}

fn seen(backends: Vec<Value>) -> News {
    let status = json!({
        "version": "0.1.0", "time": "2026-11-22T17:05:00.000Z", "started": "2026-11-22T14:00:00.000Z",
        "config": { "file": "/etc/evenkeel/evenkeel.toml", "same": true, "changes": 1 },
        "listeners": [{ "name": "web", "protocol": "http", "listen": ["0.0.0.0:80"], "connections": 7 }],
        "pools": [{ "name": "web", "schedule": "wrr", "eligible": 2, "backends": backends }],
    });
    let causes = json!({ "causes": [
        { "code": "backend_connect_refused", "blame": "backend", "last_minute": 12, "last_hour": 40,
          "by": [{ "listener": "web", "pool": "web", "backend": "10.0.0.2:80" }] },
        { "code": "client_aborted", "blame": "client", "last_minute": 0, "last_hour": 0, "by": [] },
    ]});
    let history = json!({ "step_ms": 5000, "samples": [
        { "backends": { "web/10.0.0.1:80": { "attempts": 1000, "failed": 0, "p99_ms": 20.0 } },
          "listeners": { "web": { "requests": 1500, "failed": 60, "p50_ms": 2.5, "p99_ms": 1250.0 } } },
    ]});
    News::Seen { status, causes, history }
}

fn three() -> Vec<Value> {
    vec![backend("10.0.0.1:80", "healthy"), backend("10.0.0.2:80", "unhealthy"), backend("10.0.0.3:80", "healthy")]
}

fn watching(backends: Vec<Value>) -> State {
    let mut state = State::new("127.0.0.1:9900".to_owned(), String::new());
    state.hear(seen(backends));
    state
}

fn press(state: &mut State, keys: &str) -> Vec<Act> {
    let codes = keys.chars().map(|letter| match letter {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        '\x08' => KeyCode::Backspace,
        'v' => KeyCode::Down,
        letter => KeyCode::Char(letter),
    });
    codes.filter_map(|code| state.key(KeyEvent::new(code, KeyModifiers::NONE))).collect()
}

fn screen(state: &State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen of memory");
    terminal.draw(|frame| draw::draw(frame, state)).expect("it can be drawn on");
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn order(backend: &str, order: &'static str, lasts: Option<&str>) -> Act {
    Act::Order { pool: "web".to_owned(), backend: backend.to_owned(), order, lasts: lasts.map(str::to_owned) }
}

#[test]
fn what_is_wrong_stands_first_and_on_80_columns_everything_has_its_place() {
    let screen = screen(&watching(three()), 80, 24);
    let expected = [
        "evenkeel 0.1.0 on 127.0.0.1:9900, up 3h 5m, 1 change at run time",
        "! backend web/10.0.0.2:80: unhealthy for 5m: connect refused after 0.3ms",
        "BACKEND         VERDICT   ORDER        WT  WORK  REQ/S  FAIL/S P99    EVIDENCE",
        "web/10.0.0.2:80 unhealthy serve        100 3     0      0      -      connect re",
        "web/10.0.0.1:80 healthy   serve        100 3     200    0      20ms   for 5m",
        "web/10.0.0.3:80 healthy   serve        100 3     0      0      -      for 5m",
    ];
    assert_eq!(screen[..expected.len()], expected);
    assert_eq!(
        screen[18..],
        [
            "> web/10.0.0.2:80: connect refused after 0.3ms",
            "LISTENERS",
            "web http 0.0.0.0:80: 7 open, 300/s, 12/s failed, p50 2.5ms, p99 1.2s",
            "CAUSES               last minute / hour",
            "    12 / 40      backend_connect_refused (backend) web > web > 10.0.0.2:80",
            "q leave  ? help  / filter  d drain  s serve  m maintain  p probe now",
        ]
    );
}

#[test]
fn no_size_of_screen_breaks_it_in_any_mode() {
    for keys in ["", "?", "d", "/web"] {
        let mut state = watching(three());
        press(&mut state, keys);
        for (width, height) in [(1, 1), (2, 3), (20, 5), (40, 10), (80, 15), (80, 24), (300, 100)] {
            screen(&state, width, height);
        }
    }
    let many: Vec<Value> = (0..100).map(|host| backend(&format!("10.0.0.{host}:80"), "unhealthy")).collect();
    let lines = screen(&watching(many), 80, 24);
    assert!(lines[6].starts_with("! and 95 more"), "{lines:#?}");
}

#[test]
fn an_order_is_given_only_after_a_yes_and_to_the_backend_it_was_asked_for() {
    let mut state = watching(three());
    // The worst stands first and is selected first.
    assert_eq!(press(&mut state, "d"), []);
    let Mode::Confirming { backend: asked, .. } = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!(asked, "10.0.0.2:80");
    assert_eq!(press(&mut state, "n"), []);
    assert_eq!(press(&mut state, "y"), [], "a yes to nothing");
    assert_eq!(press(&mut state, "d\x1b"), []);
    assert_eq!(press(&mut state, "vd10m\n"), [order("10.0.0.1:80", "drain", Some("10m"))]);
    assert_eq!(press(&mut state, "m5\x08y"), [order("10.0.0.1:80", "maintain", None)]);
    assert_eq!(press(&mut state, "s10my"), [order("10.0.0.1:80", "serve", None)], "serving has no end");
    // While it is asked, another backend gets the first line.
    assert_eq!(press(&mut state, "d"), []);
    let swapped = vec![backend_of("10.0.0.3:80"), backend_of("10.0.0.2:80"), backend("10.0.0.1:80", "healthy")];
    state.hear(seen(swapped));
    assert_eq!(press(&mut state, "y"), [order("10.0.0.1:80", "drain", None)]);
}

fn backend_of(address: &str) -> Value {
    backend(address, "unhealthy")
}

#[test]
fn the_selection_stays_with_its_backend_when_lines_move_and_finds_another_when_it_is_gone() {
    let mut state = watching(three());
    press(&mut state, "vv");
    assert_eq!(state.position(), Some(2));
    state.hear(seen(vec![backend("10.0.0.1:80", "healthy"), backend("10.0.0.3:80", "unhealthy")]));
    assert_eq!((state.position(), state.selected.clone()), (Some(0), Some(("web".into(), "10.0.0.3:80".into()))));
    state.hear(seen(vec![backend("10.0.0.1:80", "healthy")]));
    assert_eq!(state.selected, Some(("web".into(), "10.0.0.1:80".into())));
    state.hear(seen(Vec::new()));
    assert_eq!((state.selected.clone(), press(&mut state, "dyp")), (None, vec![]), "there is nobody to order");
}

#[test]
fn the_filter_is_written_letter_by_letter_and_escape_clears_it_before_it_leaves() {
    let mut state = watching(three());
    press(&mut state, "/0.3");
    assert_eq!((state.rows.len(), &*state.filter), (1, "0.3"));
    assert!(screen(&state, 80, 24)[23].starts_with("filter: 0.3_"));
    press(&mut state, "\n");
    assert_eq!((state.mode.clone(), press(&mut state, "\x1b")), (Mode::Watching, vec![]));
    assert_eq!(state.rows.len(), 3);
    press(&mut state, "/unhealthy\n");
    assert_eq!(state.rows.len(), 2 - 1);
    assert_eq!(press(&mut state, "\x1b\x1b"), [Act::Leave]);
    assert_eq!(press(&mut state, "/q\x1bq"), [Act::Leave], "a letter of the filter is no key");
}

#[test]
fn a_node_that_does_not_answer_is_said_so_above_what_was_known_of_it() {
    let mut state = watching(three());
    state.hear(News::Failed("no evenkeel node answers on 127.0.0.1:9900: refused\nhow to".to_owned()));
    let lines = screen(&state, 100, 24);
    assert!(lines[1].starts_with("! the node does not answer, this is from before: no evenkeel node"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("web/10.0.0.1:80")), "{lines:#?}");
    state.hear(seen(three()));
    assert!(!screen(&state, 100, 24)[1].contains("does not answer"));
}

#[test]
fn a_probe_needs_no_yes_and_what_became_of_it_is_shown() {
    let mut state = watching(three());
    assert_eq!(press(&mut state, "p"), [Act::Probe { pool: "web".to_owned(), backend: "10.0.0.2:80".to_owned() }]);
    state.hear(News::Done("probe web/10.0.0.2:80: done".to_owned()));
    assert_eq!(screen(&state, 80, 24)[23], "probe web/10.0.0.2:80: done");
    assert_eq!(state.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Act::Leave));
}
