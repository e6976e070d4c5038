//! How `top` looks: what is wrong, the backends, the causes, the keys. Sane on 80 by 24, and it uses what there is.
//!
//! Colours repeat what words say, so that a screen without them lacks nothing.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as Cells, Table, TableState};

use super::state::{Mode, Rates, Row, State, Struck};
use crate::cli::operate::seen::{Concern, age, seconds_between};

/// Lines that what is wrong may take, of the screen's.
const WRONG_SHARE: u16 = 4;
const CAUSES_MAX: usize = 5;

pub fn draw(frame: &mut Frame<'_>, state: &State) {
    let height = frame.area().height;
    let wrong = wrong(state);
    let wrong_height = (wrong.len() as u16).clamp(1, (height / WRONG_SHARE).max(1));
    let causes = state.causes.len().clamp(1, CAUSES_MAX) as u16 + 1;
    let listeners = (state.status.listeners.len() as u16).clamp(1, 3) + 1;
    // On a screen that is too low the backends come first.
    let room = |wanted: u16| if height >= 16 { wanted } else { 0 };
    let [head, top, table, chosen, below, causes_at, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(wrong_height),
        Constraint::Min(3),
        Constraint::Length(room(1)),
        Constraint::Length(room(listeners)),
        Constraint::Length(room(causes)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(title(state)), head);
    draw_wrong(frame, top, wrong);
    draw_table(frame, table, state);
    frame.render_widget(Paragraph::new(told(state)), chosen);
    if below.height > 0 {
        draw_listeners(frame, below, state);
        draw_causes(frame, causes_at, &state.causes);
    }
    frame.render_widget(Paragraph::new(footer(state)), foot);
    match &state.mode {
        Mode::Help => draw_help(frame),
        Mode::Confirming { pool, backend, order, lasts } => draw_question(frame, pool, backend, order, lasts),
        Mode::Watching | Mode::Filtering => {}
    }
}

fn title(state: &State) -> Line<'_> {
    let status = &state.status;
    let up = seconds_between(&status.started, &status.time).map(age).unwrap_or_default();
    let changes = status.config.as_ref().map_or(0, |config| config.changes);
    let mut parts = vec![
        Span::styled(format!("evenkeel {}", status.version), bold()),
        Span::raw(format!(" on {}, up {up}", state.place)),
    ];
    if changes > 0 {
        let noun = if changes == 1 { "change" } else { "changes" };
        parts.push(Span::styled(format!(", {changes} {noun} at run time"), Style::new().fg(Color::Yellow)));
    }
    if !state.filter.is_empty() {
        parts.push(Span::styled(format!(", only \"{}\"", state.filter), Style::new().fg(Color::Cyan)));
    }
    Line::from(parts)
}

fn wrong(state: &State) -> Vec<String> {
    let unanswered = state.failing.iter().map(|why| format!("the node does not answer, this is from before: {why}"));
    unanswered.chain(state.status.wrong()).collect()
}

fn draw_wrong(frame: &mut Frame<'_>, area: Rect, wrong: Vec<String>) {
    if wrong.is_empty() {
        let line = Line::styled("nothing is wrong", Style::new().fg(Color::Green));
        return frame.render_widget(Paragraph::new(line), area);
    }
    let room = usize::from(area.height);
    let hidden = wrong.len().saturating_sub(room);
    let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
    let style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let mut lines: Vec<Line<'_>> =
        wrong.iter().take(shown).map(|text| Line::styled(format!("! {text}"), style)).collect();
    if hidden > 0 {
        lines.push(Line::styled(format!("! and {} more", wrong.len() - shown), style));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &State) {
    // Time until the next probe and the like is told as of the last answer.
    let now = &state.status.time;
    let name_width = state.rows.iter().map(|row| row.pool.chars().count() + row.backend.address.len() + 1).max();
    let name_width = (name_width.unwrap_or(7).clamp(7, 34) as u16).min(area.width / 3);
    let widths = [
        Constraint::Length(name_width),
        Constraint::Length(9),
        Constraint::Length(12),
        Constraint::Length(3),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Min(8),
    ];
    let header = Cells::new(["BACKEND", "VERDICT", "ORDER", "WT", "WORK", "REQ/S", "FAIL/S", "P99", "EVIDENCE"])
        .style(Style::new().add_modifier(Modifier::REVERSED));
    let rows = state.rows.iter().map(|row| cells(row, now));
    let table = Table::new(rows, widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .column_spacing(1);
    let mut at = TableState::default().with_selected(state.position());
    frame.render_stateful_widget(table, area, &mut at);
}

/// All there is to say of the chosen backend, for whose evidence the table may be too narrow.
fn told(state: &State) -> Line<'_> {
    let Some(row) = state.position().and_then(|position| state.rows.get(position)) else { return Line::default() };
    let evidence = row.backend.evidence(&state.status.time);
    Line::styled(format!("> {}/{}: {evidence}", row.pool, row.backend.address), Style::new().fg(Color::Cyan))
}

fn cells<'a>(row: &'a Row, now: &str) -> Cells<'a> {
    let Row { pool, backend, rates } = row;
    let since = seconds_between(&backend.since, now).map(age).unwrap_or_default();
    let color = match backend.concern() {
        Concern::Wrong => Color::Red,
        Concern::Watch => Color::Yellow,
        Concern::Fine => Color::Green,
    };
    let verdict = if backend.ejected_until.is_some() { "ejected" } else { &backend.verdict };
    let evidence = match backend.concern() {
        Concern::Fine => format!("for {since}"),
        Concern::Watch | Concern::Wrong => backend.evidence(now),
    };
    Cells::new([
        Cell::from(format!("{pool}/{}", backend.address)),
        Cell::from(verdict.to_owned()).style(Style::new().fg(color)),
        Cell::from(backend.order_text(now)),
        Cell::from(backend.effective_weight.to_string()),
        Cell::from(backend.in_flight.to_string()),
        Cell::from(rate(rates.per_second)),
        Cell::from(rate(rates.failed_per_second)),
        Cell::from(latency(rates.p99_ms)),
        Cell::from(evidence),
    ])
}

fn draw_listeners(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let mut lines = vec![Line::styled("LISTENERS", bold())];
    let room = usize::from(area.height).saturating_sub(1);
    for listener in state.status.listeners.iter().take(room) {
        let Rates { per_second, failed_per_second, p50_ms, p99_ms } =
            state.listeners.get(&listener.name).copied().unwrap_or_default();
        lines.push(Line::raw(format!(
            "{} {} {}: {} open, {}/s, {}/s failed, p50 {}, p99 {}",
            listener.name,
            listener.protocol,
            listener.listen.join(" "),
            listener.connections,
            rate(per_second),
            rate(failed_per_second),
            latency(p50_ms),
            latency(p99_ms),
        )));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_causes(frame: &mut Frame<'_>, area: Rect, causes: &[Struck]) {
    let mut lines = vec![Line::styled("CAUSES               last minute / hour", bold())];
    if causes.is_empty() {
        lines.push(Line::raw("nothing failed within the hour"));
    }
    for cause in causes.iter().take(CAUSES_MAX) {
        let style = if cause.last_minute > 0 { Style::new().fg(Color::Red) } else { Style::new() };
        let Struck { code, blame, last_minute, last_hour, place } = cause;
        lines.push(Line::styled(format!("{last_minute:>6} / {last_hour:<7} {code} ({blame}) {place}"), style));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn footer(state: &State) -> Line<'_> {
    match (&state.mode, &state.message) {
        (Mode::Filtering, _) => Line::from(format!("filter: {}_   Enter keeps it, Esc clears it", state.filter)),
        (_, Some(message)) => Line::styled(message.clone(), Style::new().fg(Color::Cyan)),
        (_, None) => Line::styled(
            "q leave  ? help  / filter  d drain  s serve  m maintain  p probe now",
            Style::new().add_modifier(Modifier::DIM),
        ),
    }
}

fn draw_question(frame: &mut Frame<'_>, pool: &str, backend: &str, order: &str, lasts: &str) {
    let limit = match (order, lasts) {
        ("serve", _) => "It gets new work again.".to_owned(),
        (_, "") => "Without an end. Type a time, such as 10m, for one that ends by itself.".to_owned(),
        (_, lasts) => format!("For {lasts}, then it serves again by itself."),
    };
    let lines = vec![
        Line::styled(format!("{order} {pool}/{backend}?"), bold()),
        Line::raw(limit),
        Line::raw("y or Enter: yes    n or Esc: no"),
    ];
    draw_box(frame, " order ", lines);
}

fn draw_help(frame: &mut Frame<'_>) {
    let keys = [
        ("up down, k j", "choose a backend"),
        ("d", "drain: no new work, what runs may finish"),
        ("s", "serve: work again"),
        ("m", "maintain: as if absent, and not probed"),
        ("p", "probe it now"),
        ("/", "show only what has a text in it"),
        ("Esc", "clear the filter, or leave"),
        ("q", "leave"),
        ("", ""),
        ("WT", "weight it has now: 0 gets no new work"),
        ("WORK", "requests or connections at it now"),
        ("P99", "time to the first byte that 99 of 100 stay under"),
    ];
    let lines =
        keys.iter().map(|(key, what)| Line::from(vec![Span::styled(format!("{key:14}"), bold()), Span::raw(*what)]));
    draw_box(frame, " keys, any leads back ", lines.collect());
}

fn draw_box(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>) {
    let area = frame.area();
    let width = lines.iter().map(Line::width).max().unwrap_or(0) as u16 + 4;
    let (width, height) = (width.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title.to_owned())), place);
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// At most six characters.
fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate <= 0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate if rate < 100_000.0 => format!("{rate:.0}"),
        rate => format!("{:.0}k", rate / 1000.0),
    }
}

fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1}ms"),
        Some(ms) if ms < 1000.0 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1000.0),
    }
}
