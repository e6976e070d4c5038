//! The session machine by tables, then by properties over drawn stories.
//!
//! A plain book is kept beside it, so that the machine is not held against itself.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Instant {
    Instant::START + Duration::from_millis(millis)
}

const IDLE: Duration = Duration::from_secs(90);

fn terms(requests: Option<u32>, responses: Option<u32>) -> Terms {
    Terms { idle_timeout: IDLE, lifetime: None, requests, responses }
}

#[test]
fn a_session_is_over_at_once_when_every_answer_came() {
    let table = [
        //  requests  responses  received  answered  over
        (None, None, 1, 1, false),
        (None, None, 100, 100, false),
        (None, Some(0), 1, 0, true),
        (None, Some(1), 1, 0, false),
        (None, Some(1), 1, 1, true),
        (None, Some(1), 5, 4, false),
        (None, Some(1), 5, 5, true),
        (None, Some(3), 2, 5, false),
        (None, Some(3), 2, 6, true),
        (None, Some(1), 1, 9, true),
        (Some(1), None, 1, 1, false),
        (Some(1), Some(1), 1, 0, false),
        (Some(1), Some(1), 1, 1, true),
        // Until it is taken up it waits for the client, though all was answered.
        (Some(3), Some(1), 2, 2, false),
        (Some(3), Some(1), 3, 3, true),
        (Some(1000), Some(0), 999, 0, false),
        (Some(1000), Some(0), 1000, 0, true),
    ];
    for (requests, responses, received, answered, over) in table {
        let mut session = Session::new(terms(requests, responses), at(0));
        session.received(received, 10, at(1));
        session.answered(answered, 20, at(2));
        let row = format!("{requests:?} {responses:?} {received} {answered}");
        assert_eq!(session.poll_over(), over.then_some(Over::WELL), "{row}");
        assert_eq!(session.datagrams(), Datagrams { received, sent: answered }, "{row}");
    }
}

#[test]
fn a_session_without_a_datagram_is_not_answered_yet() {
    assert_eq!(Session::new(terms(None, Some(0)), at(0)).poll_over(), None);
}

#[test]
fn what_ends_a_session_that_nobody_uses_depends_on_what_was_promised() {
    let no_reply = |phase| Some(Over::with(Cause::BackendNoReply, phase, Some(Detail::Timeout(IDLE))));
    let table = [
        //  requests  responses  received  answered  ends with
        (None, None, 3, 0, Some(Over::WELL)),
        (None, None, 3, 3, Some(Over::WELL)),
        (Some(9), None, 3, 0, Some(Over::WELL)),
        (Some(9), Some(0), 3, 0, Some(Over::WELL)),
        (Some(9), Some(1), 3, 3, Some(Over::WELL)),
        (None, Some(1), 3, 0, no_reply(Phase::Connect)),
        (None, Some(1), 3, 2, no_reply(Phase::Relay)),
        (Some(9), Some(2), 3, 3, no_reply(Phase::Relay)),
    ];
    for (requests, responses, received, answered, ends) in table {
        let mut session = Session::new(terms(requests, responses), at(0));
        session.received(received, 1, at(0));
        if answered > 0 {
            session.answered(answered, 1, at(1000));
        }
        let quiet = if answered > 0 { at(1000) } else { at(0) } + IDLE;
        assert_eq!(session.poll_timeout(), quiet);
        let row = format!("{requests:?} {responses:?} {received} {answered}");
        assert_eq!(session.handle_timeout(quiet), ends, "{row}");
    }
}

#[test]
fn the_lifetime_ends_a_busy_session_and_the_idle_timeout_a_quiet_one() {
    let lifetime = Duration::from_secs(100);
    let mut session = Session::new(Terms { lifetime: Some(lifetime), ..terms(None, None) }, at(0));
    session.received(1, 1, at(5000));
    assert_eq!(session.poll_timeout(), at(95_000));
    session.answered(1, 1, at(60_000));
    assert_eq!(session.poll_timeout(), at(100_000));
    assert_eq!(session.handle_timeout(at(99_999)), None);
    let over = Over::with(Cause::RelayLifetimeOver, Phase::Relay, Some(Detail::Timeout(lifetime)));
    assert_eq!(session.handle_timeout(at(100_000)), Some(over));
}

#[test]
fn a_refusal_names_its_cause_and_how_far_the_session_was() {
    let table = [
        (Icmp::Port, false, Cause::BackendConnectRefused, Phase::Connect),
        (Icmp::Port, true, Cause::BackendConnectRefused, Phase::Relay),
        (Icmp::Unreachable, false, Cause::BackendUnreachable, Phase::Connect),
        (Icmp::Unreachable, true, Cause::BackendUnreachable, Phase::Relay),
    ];
    for (refusal, heard, cause, phase) in table {
        let mut session = Session::new(terms(None, None), at(0));
        session.received(1, 1, at(0));
        if heard {
            session.answered(1, 1, at(1));
        }
        assert_eq!(session.refused(refusal, 111), Over::with(cause, phase, Some(Detail::Errno(111))));
    }
}

#[test]
fn a_session_moves_when_its_backend_is_out_and_stays_while_it_drains() {
    let grace = Duration::from_secs(30);
    let removed = Seen::Removed { grace };
    let table = [
        //  seen, one look a second                  must move at the third second
        (&[Seen::Serving][..], None),
        (&[Seen::Unhealthy], Some(Moves::Unhealthy)),
        (&[Seen::Unhealthy, Seen::Unhealthy], Some(Moves::Unhealthy)),
        // It recovered before the client spoke again.
        (&[Seen::Unhealthy, Seen::Serving], None),
        (&[removed], None),
        (&[removed, Seen::Serving], None),
        (&[Seen::Unhealthy, removed], None),
    ];
    for (looks, moves) in table {
        let mut session = Session::new(terms(None, None), at(0));
        for (second, seen) in looks.iter().enumerate() {
            session.backend_seen(*seen, at(1000 * second as u64));
        }
        assert_eq!(session.must_move(at(3000)), moves, "{looks:?}");
    }
    let mut session = Session::new(terms(None, None), at(0));
    for second in 0..40 {
        session.backend_seen(removed, at(1000 * second));
    }
    assert_eq!(session.must_move(at(29_999)), None);
    assert_eq!(session.must_move(at(30_000)), Some(Moves::Removed), "looking again does not prolong the grace");
}

#[test]
fn after_a_move_nothing_is_owed_by_the_backend_before() {
    let mut session = Session::new(terms(None, Some(1)), at(0));
    session.received(4, 1, at(0));
    session.answered(1, 1, at(1));
    session.backend_seen(Seen::Unhealthy, at(2));
    session.moved();
    assert_eq!((session.must_move(at(3)), session.is_heard()), (None, false));
    session.received(1, 1, at(3));
    assert_eq!(session.poll_over(), None);
    session.answered(1, 1, at(4));
    assert_eq!(session.poll_over(), Some(Over::WELL));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Received(u64),
    Answered(u64),
    Wait(u64),
    Seen(Seen),
    Moved,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..5_u64).prop_map(Step::Received),
        (1..5_u64).prop_map(Step::Answered),
        (0..120_000_u64).prop_map(Step::Wait),
        Just(Step::Seen(Seen::Serving)),
        Just(Step::Seen(Seen::Unhealthy)),
        Just(Step::Seen(Seen::Removed { grace: Duration::from_secs(5) })),
        Just(Step::Moved),
    ]
}

proptest! {
    /// A plain book of all that happened is kept beside the machine, and the two must agree at every step.
    #[test]
    fn a_session_lives_exactly_as_long_as_it_is_used_or_awaited(
        requests in prop::option::of(1..8_u32),
        responses in prop::option::of(0..3_u32),
        lifetime in prop::option::of(1..400_000_u64),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let lifetime = lifetime.map(Duration::from_millis);
        let mut session = Session::new(Terms { idle_timeout: IDLE, lifetime, requests, responses }, at(0));
        let (mut now, mut last) = (0, 0);
        let (mut received, mut sent) = (0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Received(wanted) => {
                    let taken = wanted.min(session.room());
                    if taken > 0 {
                        session.received(taken, 7 * taken, at(now));
                        (received, last) = (received + taken, now);
                    }
                }
                Step::Answered(count) => {
                    session.answered(count, 3 * count, at(now));
                    (sent, last) = (sent + count, now);
                }
                Step::Wait(millis) => {
                    now += millis;
                    let idle = at(last) + IDLE;
                    let end = lifetime.map_or(idle, |lifetime| idle.min(at(0) + lifetime));
                    prop_assert_eq!(session.poll_timeout(), end);
                    let over = session.handle_timeout(at(now));
                    prop_assert_eq!(over.is_some(), at(now) >= end);
                    if let Some(over) = over {
                        // Without a promise of answers or of a lifetime, quiet is no failure.
                        prop_assert!(over.cause.is_none() || responses.is_some_and(|each| each > 0) || lifetime.is_some());
                        break;
                    }
                }
                Step::Seen(seen) => {
                    session.backend_seen(seen, at(now));
                    prop_assert_eq!(session.must_move(at(now)).is_some(), match seen {
                        Seen::Serving => false,
                        Seen::Unhealthy => true,
                        Seen::Removed { .. } => session.must_move(at(now)) == Some(Moves::Removed),
                    });
                }
                Step::Moved => {
                    session.moved();
                    prop_assert_eq!(session.must_move(at(now)), None);
                }
            }
            prop_assert_eq!(session.datagrams(), Datagrams { received, sent });
            prop_assert_eq!((session.bytes_in(), session.bytes_out()), (7 * received, 3 * sent));
            prop_assert!(requests.is_none_or(|most| received <= u64::from(most)));
            if let Some(over) = session.poll_over() {
                prop_assert_eq!(over, Over::WELL);
                prop_assert!(responses.is_some() && received > 0);
                prop_assert!(requests.is_none_or(|most| received == u64::from(most)));
            }
        }
    }
}
