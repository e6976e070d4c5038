//! The table of stickiness: what is written in the manual is what `choose` answers, and no case is left out.
//!
//! Walked over every combination of the facts, so that a new fact makes somebody say what it means.

use std::fs;
use std::path::Path;
use std::time::Duration;

use evenkeel_balance::BackendKey;
use evenkeel_balance::sticky::{Aside, Held, Known, Moved, Place, Room, Stick, Sticky, Tries, choose};
use evenkeel_model::Instant;
use evenkeel_model::standing::{Order, Standing, Traffic, Verdict};

const NOW: u64 = 1_800_000_000;
const MOMENT: Instant = Instant::from_nanos(1_000_000_000);

/// All that an answer can depend on.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `None`: no backend of the pool has the address.
    standing: Option<(Verdict, Order, u32)>,
    traffic: Traffic,
    /// Whether the drain timeout is over; of a meaning for drained backends only.
    overdue: bool,
    tries: Tries,
    room: Room,
}

impl Case {
    fn all() -> impl Iterator<Item = Case> {
        let in_pool = Verdict::ALL.into_iter().flat_map(|verdict| {
            Order::ALL.into_iter().flat_map(move |order| [0, 100].map(|weight| Some((verdict, order, weight))))
        });
        in_pool.chain([None]).flat_map(|standing| {
            [false, true].into_iter().flat_map(move |overdue| {
                [Tries::None, Tries::Failed]
                    .into_iter()
                    .flat_map(move |tries| [Room::Left, Room::Full].map(|room| (tries, room)))
                    .flat_map(move |(tries, room)| {
                        let ejected = Traffic::Ejected { until: Instant::NEVER };
                        [Traffic::Good, ejected].map(|traffic| Case { standing, traffic, overdue, tries, room })
                    })
            })
        })
    }

    fn stick(self) -> Stick {
        let place = match self.standing {
            None => Place::Gone,
            Some((verdict, order, weight)) => {
                let until = if self.overdue { MOMENT } else { MOMENT + Duration::from_nanos(1) };
                let standing = Standing { verdict, order, traffic: self.traffic, ..Standing::default() };
                Aside::of(&standing, weight, until).map_or(Place::Candidate, Place::Aside)
            }
        };
        choose(Known { place, tries: self.tries, room: self.room }, MOMENT)
    }

    fn is(self, order: Order) -> bool {
        self.standing.is_some_and(|(_, its, _)| its == order)
    }
}

struct Row {
    backend: &'static str,
    covers: fn(Case) -> bool,
    expected: Stick,
}

/// The first row that covers a case speaks for it.
const ROWS: &[Row] = &[
    Row {
        backend: "no longer in the pool",
        covers: |case| case.standing.is_none(),
        expected: Stick::Move(Moved::Removed),
    },
    Row {
        backend: "order `maintain`",
        covers: |case| case.is(Order::Maintain),
        expected: Stick::Move(Moved::Maintained),
    },
    Row {
        backend: "`unhealthy`, whether served or drained",
        covers: |case| case.standing.is_some_and(|(verdict, ..)| verdict == Verdict::Unhealthy),
        expected: Stick::Move(Moved::Unhealthy),
    },
    Row {
        backend: "ejected by what its traffic showed",
        covers: |case| case.traffic.is_ejected(),
        expected: Stick::Move(Moved::Ejected),
    },
    Row {
        backend: "order `drain` for longer than `drain_timeout`",
        covers: |case| case.is(Order::Drain) && case.overdue,
        expected: Stick::Move(Moved::Drained),
    },
    Row {
        backend: "may stay, but failed this very request",
        covers: |case| case.tries == Tries::Failed,
        expected: Stick::Move(Moved::Failed),
    },
    Row {
        backend: "may stay, but is at its `backend_limit`",
        covers: |case| case.room == Room::Full,
        expected: Stick::Wait,
    },
    Row {
        backend: "order `drain`, within `drain_timeout`, any weight",
        covers: |case| case.is(Order::Drain),
        expected: Stick::Stay,
    },
    Row {
        backend: "weight 0, order `serve`",
        covers: |case| case.standing.is_some_and(|(.., weight)| weight == 0),
        expected: Stick::Stay,
    },
    Row { backend: "`healthy` or `unknown`, order `serve`", covers: |_| true, expected: Stick::Stay },
];

const fn consequence(stick: Stick) -> (&'static str, &'static str) {
    match stick {
        Stick::Stay => ("stays", "kept"),
        Stick::Wait => (
            "waits for it in the pool's queue; `backend_queue_full` or `backend_queue_timeout` when it comes to nothing",
            "kept",
        ),
        Stick::Move(_) => ("moved: the schedule picks another", "set anew"),
    }
}

fn table() -> String {
    let mut text = String::from("| the backend that the cookie names | the client | the cookie |\n|---|---|---|\n");
    for row in ROWS {
        let (client, cookie) = consequence(row.expected);
        text.push_str(&format!("| {} | {client} | {cookie} |\n", row.backend));
    }
    text
}

#[test]
fn every_case_is_answered_as_the_first_row_that_covers_it_says() {
    let mut used = vec![false; ROWS.len()];
    for case in Case::all() {
        let position = ROWS.iter().position(|row| (row.covers)(case)).expect("the last row covers all");
        used[position] = true;
        assert_eq!(case.stick(), ROWS[position].expected, "{case:?}: {}", ROWS[position].backend);
    }
    assert!(used.iter().all(|used| *used), "a row of the table can never come about");
}

#[test]
fn the_manual_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/stickiness.md");
    let text = fs::read_to_string(&path).expect("docs/reference/stickiness.md is there");
    let (start, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let from = text.find(start).expect("the mark where the table begins") + start.len();
    let to = text.find(end).expect("the mark where the table ends");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{}{}{}", &text[..from], table(), &text[to..])).expect("the manual can be written");
        return;
    }
    assert!(
        text[from..to] == table(),
        "the table in docs/reference/stickiness.md is not current; rewrite it with UPDATE_GOLDEN=1"
    );
}

#[test]
fn a_cookie_that_cannot_be_believed_names_nobody() {
    let day = Some(Duration::from_secs(86_400));
    let web = Sticky::new(b"the cluster's secret, 32 bytes..", "web", day);
    let key = BackendKey::of("10.0.0.1:80".parse().expect("an address"));
    let read = |token: &[u8]| web.read(token, NOW);
    assert_eq!(read(web.issue(key, NOW).as_bytes()), Some(Held { backend: key, renew: false }));
    // Forged, of another pool, expired, somebody else's cookie of the same name.
    let forged = Sticky::new(b"what an attacker guesses........", "web", day).issue(key, NOW);
    let other_pool = Sticky::new(b"the cluster's secret, 32 bytes..", "api", day).issue(key, NOW);
    let expired = web.issue(key, NOW - 2 * 86_400);
    for token in [forged.as_bytes(), other_pool.as_bytes(), expired.as_bytes(), b"SERVER-1", b""] {
        assert_eq!(read(token), None);
    }
}

#[test]
fn a_backend_that_left_and_came_back_is_found_by_the_old_cookie() {
    let sticky = Sticky::new(b"the cluster's secret, 32 bytes..", "web", None);
    let address = "10.0.0.1:80".parse().expect("an address");
    let token = sticky.issue(BackendKey::of(address), NOW);
    // Made anew, as by a node that was started in between and numbers its backends differently.
    let sticky = Sticky::new(b"the cluster's secret, 32 bytes..", "web", None);
    assert_eq!(sticky.read(token.as_bytes(), NOW).map(|held| held.backend), Some(BackendKey::of(address)));
}
