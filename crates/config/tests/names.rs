//! Backends by name: what answers make of a plan, which is all a change of DNS can do to one.
//!
//! Which names are refused is in the cases; who asks for them is not the config's business.

use evenkeel_config::{Compiled, Format, Source, compile};
use evenkeel_plan::{Answer, NameAsked, Plan, Records, Resolved};

fn compiled(backends: &str) -> Compiled {
    let text =
        format!("[[listener]]\nlisten = '127.0.0.1:80'\npool = 'p'\n\n[[pool]]\nname = 'p'\nbackends = [{backends}]\n");
    compile(&Source { name: "names.toml", text: &text, format: Format::Toml })
}

fn asked(name: &str, port: Option<u16>, records: Records) -> NameAsked {
    NameAsked { name: name.into(), port, records }
}

fn answer(address: &str, weight: Option<u32>) -> Answer {
    Answer { address: address.parse().expect("an address"), weight }
}

/// Address and weight of every backend.
fn backends(plan: &Plan) -> Vec<(String, u32)> {
    plan.backends.iter().map(|backend| (backend.address.to_string(), backend.weight)).collect()
}

fn with(backends: &str, answers: &[(NameAsked, &[Answer])]) -> Plan {
    let resolved: Resolved = answers.iter().map(|(asked, answers)| (asked.clone(), answers.to_vec())).collect();
    compiled(backends).recipe.expect("the config is valid").plan(&resolved)
}

#[test]
fn a_name_without_an_answer_has_no_backends_and_is_asked_for() {
    let plan = compiled("'10.0.0.1:80', 'app:80', { name = '_http._tcp.app', records = 'srv' }").plan.expect("valid");
    assert_eq!(backends(&plan), [("10.0.0.1:80".to_owned(), 100)]);
    assert_eq!(plan.pools[0].backend_count, 1);
    assert_eq!(plan.names, [asked("_http._tcp.app", None, Records::Srv), asked("app", Some(80), Records::Any)]);
}

#[test]
fn answers_stand_where_their_name_stands_and_have_its_weight_or_their_own() {
    let plan = with(
        "'10.0.0.1:80', { name = 'app:80', weight = 7 }, '10.0.0.2:80', { name = '_http._tcp.app', records = 'srv' }",
        &[
            (asked("app", Some(80), Records::Any), &[answer("10.0.0.8:80", None), answer("[2001:db8::8]:80", None)]),
            (asked("_http._tcp.app", None, Records::Srv), &[answer("10.0.0.9:81", Some(30))]),
        ],
    );
    let expected =
        [("10.0.0.1:80", 100), ("10.0.0.8:80", 7), ("[2001:db8::8]:80", 7), ("10.0.0.2:80", 100), ("10.0.0.9:81", 30)];
    assert_eq!(backends(&plan), expected.map(|(address, weight)| (address.to_owned(), weight)));
    assert_eq!(plan.pools[0].backend_count, 5);
    assert!(plan.backends.iter().all(|backend| backend.targets.len() == 1), "each is probed");
}

#[test]
fn an_address_that_comes_twice_is_one_backend_and_the_first_entry_says_its_weight() {
    let both = [answer("10.0.0.1:80", None), answer("10.0.0.2:80", None)];
    let answers: [(NameAsked, &[Answer]); 2] =
        [(asked("a", Some(80), Records::Any), &both), (asked("b", Some(80), Records::Any), &both)];
    let before =
        "{ name = 'a:80', weight = 1 }, { name = 'b:80', weight = 2 }, { address = '10.0.0.1:80', weight = 3 }";
    let behind =
        "{ address = '10.0.0.1:80', weight = 3 }, { name = 'b:80', weight = 2 }, { name = 'a:80', weight = 1 }";
    let owned = |expected: [(&str, u32); 2]| expected.map(|(address, weight)| (address.to_owned(), weight));
    assert_eq!(backends(&with(before, &answers)), owned([("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]));
    assert_eq!(backends(&with(behind, &answers)), owned([("10.0.0.1:80", 3), ("10.0.0.2:80", 2)]));
}

#[test]
fn what_no_config_could_name_is_not_taken_from_an_answer() {
    let answers = [
        answer("0.0.0.0:80", None),
        answer("[::]:80", None),
        answer("224.0.0.1:80", None),
        answer("255.255.255.255:80", None),
        answer("10.0.0.1:0", None),
        answer("[::ffff:10.0.0.3]:80", None),
    ];
    let plan = with("'app:80'", &[(asked("app", Some(80), Records::Any), &answers)]);
    assert_eq!(backends(&plan), [("10.0.0.3:80".to_owned(), 100)], "and a mapped address is the one it maps");
}

#[test]
fn the_same_answers_make_an_equal_plan_and_others_leave_the_rest_as_it_is() {
    let recipe = compiled("'10.0.0.1:80', 'app:80'").recipe.expect("valid");
    let name = asked("app", Some(80), Records::Any);
    let one = Resolved::from([(name.clone(), vec![answer("10.0.0.8:80", None)])]);
    let other = Resolved::from([(name, vec![answer("10.0.0.9:80", None)])]);
    assert_eq!(recipe.plan(&one), recipe.plan(&one));
    let (one, other) = (recipe.plan(&one), recipe.plan(&other));
    assert_ne!(one, other);
    assert_eq!((&one.node, &one.listeners, &one.pools), (&other.node, &other.listeners, &other.pools));
    assert_eq!(one.backends[0], other.backends[0]);
}
