//! What agents say of their backends, and what becomes of it.

use evenkeel_control::Control;
use evenkeel_control::memory::Outlives;
use evenkeel_health::settings::{AgentProbe, CheckSettings, ProbeSettings};
use evenkeel_model::TargetId;
use evenkeel_model::finding::{AgentSays, Failure, FailureReason, Finding, Pass, ProbeKind, ProbePhase, ProbeResult};
use evenkeel_model::standing::{Order, Ramp, Verdict};

use crate::support::{CheckSpec, PoolSpec, check, pass, plan, pool, refusal};
use crate::{INTERVAL, Node, SECOND};

const AGENT: u16 = 9;

fn agent() -> CheckSpec {
    let probe = ProbeSettings::Agent(AgentProbe { send: Vec::new() });
    let settings = CheckSettings { probe, ..check(1, 1) };
    CheckSpec { port: Some(AGENT), ..CheckSpec::new("agent", settings) }
}

/// One backend with a tcp check on its own port and an agent.
fn watched() -> PoolSpec {
    PoolSpec { checks: vec![CheckSpec::new("tcp", check(2, 3)), agent()], ..pool("web", &[1]) }
}

fn says(order: Option<Order>, weight: Option<u16>) -> AgentSays {
    AgentSays { order, weight, maxconn: None }
}

fn line(order: Option<Order>, weight: Option<u16>) -> ProbeResult {
    ProbeResult::Passed(Pass::Agent(says(order, weight)))
}

fn down() -> ProbeResult {
    let reason = FailureReason::AgentDown { says: AgentSays::default(), word: "down", because: b"disk".to_vec() };
    ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
}

impl Node {
    /// The agent answers the probe that runs, and the next one starts.
    fn agent_says(&mut self, result: ProbeResult) {
        let found = self.in_flight.iter().find(|(_, to)| to.port() == AGENT);
        let key = *found.expect("the agent is being asked").0;
        self.in_flight.remove(&key);
        let finding = Finding { kind: ProbeKind::Agent, started: self.now, ended: self.now, result };
        self.handle(evenkeel_control::Event::ProbeDone { key, finding });
        self.wait(INTERVAL);
    }

    fn weight(&self) -> u32 {
        self.standing(0).effective_weight(100)
    }
}

fn serving() -> Node {
    let mut node = Node::new(&[watched()]);
    node.answer_at(8080, pass());
    node.agent_says(line(None, None));
    assert_eq!((node.verdict(0), node.weight()), (Verdict::Healthy, 100));
    node.events.clear();
    node
}

#[test]
fn an_agents_percentage_scales_the_weight_without_an_event() {
    let mut node = serving();
    node.agent_says(line(None, Some(40)));
    assert_eq!(node.weight(), 40);
    node.agent_says(line(None, None));
    assert_eq!(node.weight(), 40, "what a line leaves out stays");
    assert!(node.events.is_empty(), "{:?}", node.events);
    node.agent_says(line(None, Some(0)));
    assert_eq!((node.candidates(0), node.names()), (vec![], vec!["backend.agent"]));
}

#[test]
fn an_agents_drain_stops_new_work_and_leaves_verdict_and_order_alone() {
    let mut node = serving();
    node.agent_says(line(Some(Order::Drain), None));
    let standing = node.standing(0);
    assert_eq!((standing.verdict, standing.order, node.candidates(0)), (Verdict::Healthy, Order::Serve, vec![]));
    assert_eq!(
        node.events[0].to_string(),
        "backend 10.0.0.1:8080 of pool \"web\": its agent says drain 100%, was serve 100%"
    );
    node.agent_says(line(None, None));
    assert_eq!(node.candidates(0), [], "only `ready` ends it");
    node.agent_says(line(Some(Order::Serve), None));
    assert_eq!((node.candidates(0), node.names()), (vec![0], vec!["backend.agent"; 2]));
}

#[test]
fn an_agent_never_overrules_the_operator_nor_the_operator_the_agent() {
    let mut node = serving();
    node.order("web", 1, Order::Drain);
    node.agent_says(line(Some(Order::Serve), Some(100)));
    assert_eq!((node.standing(0).order, node.candidates(0)), (Order::Drain, vec![]));
    node.agent_says(line(Some(Order::Drain), None));
    node.order("web", 1, Order::Serve);
    assert_eq!((node.standing(0).order, node.candidates(0)), (Order::Serve, vec![]), "the agent still says drain");
}

#[test]
fn an_agent_that_says_maint_is_still_asked_and_its_backend_comes_back_slowly() {
    let mut node = Node::new(&[PoolSpec { slow_start: 100 * SECOND, ..watched() }]);
    node.answer_at(8080, pass());
    node.agent_says(line(Some(Order::Maintain), None));
    assert_eq!((node.candidates(0), node.in_flight.len()), (vec![], 2), "both checks go on");
    node.agent_says(line(Some(Order::Serve), None));
    assert!(matches!(node.standing(0).ramp, Ramp::At(_)));
}

#[test]
fn an_agent_that_cannot_be_asked_leaves_its_last_word_and_its_verdict() {
    let mut node = serving();
    node.agent_says(line(None, Some(30)));
    for _ in 0..5 {
        node.agent_says(refusal());
    }
    assert_eq!((node.verdict(0), node.weight()), (Verdict::Healthy, 30));
    node.agent_says(down());
    assert_eq!(node.verdict(0), Verdict::Unhealthy);
    node.agent_says(refusal());
    assert_eq!(node.verdict(0), Verdict::Unhealthy, "only an agent that says up ends what it said");
    node.agent_says(line(None, None));
    assert_eq!((node.verdict(0), node.names()), (Verdict::Healthy, vec!["backend.unhealthy", "backend.healthy"]));
    assert_eq!(node.control.target(TargetId(1)).counts().failed, 7, "counted and shown all the same");
}

#[test]
fn an_agent_that_was_never_heard_leaves_the_backend_unknown_which_takes_traffic() {
    let mut node = Node::new(&[watched()]);
    node.answer_at(8080, pass());
    node.agent_says(refusal());
    assert_eq!((node.verdict(0), node.candidates(0)), (Verdict::Unknown, vec![0]));
}

#[test]
fn an_agents_word_outlives_a_restart() {
    let mut node = serving();
    node.agent_says(line(Some(Order::Drain), Some(30)));
    let memory = node.control.memory(node.now, Outlives::Restart);
    let control = Control::with_memory(plan(&[watched()]), &memory, 60 * SECOND, node.now, 1);
    let mut node = Node::with(control, node.now);
    assert_eq!((node.candidates(0), node.standing(0).agent.to_string().as_str()), (vec![], "drain 30%"));
    node.agent_says(line(Some(Order::Serve), None));
    assert_eq!(node.weight(), 30);
}

#[test]
fn an_agents_word_outlives_a_reload_and_an_edit_of_its_check_but_not_its_check() {
    let mut node = serving();
    node.agent_says(line(Some(Order::Drain), Some(30)));
    let mut edited = watched();
    edited.checks[1].settings.timing.timeout = SECOND;
    node.reload(&[edited.clone()]);
    assert_eq!((node.candidates(0), node.standing(0).agent.percent), (vec![], 30));
    edited.checks.pop();
    node.events.clear();
    node.reload(&[edited]);
    assert_eq!((node.candidates(0), node.weight()), (vec![0], 100));
    assert_eq!(node.names(), ["backend.agent", "plan.changed"]);
}
