//! The rules of a listener in words, for whoever looks at them without the config file at hand.
//!
//! Which of them a request falls under is another question, and `diagnose::route` answers it.

use evenkeel_plan::{Action, Listener, Plan, Rule};

use super::shape;

/// In the order of the config.
pub fn told(plan: &Plan, listener: &Listener) -> Vec<shape::Rule> {
    listener.rules.iter().map(|rule| one(plan, rule)).collect()
}

fn one(plan: &Plan, rule: &Rule) -> shape::Rule {
    let (does, pool) = match &rule.action {
        Action::Pool(pool) => {
            let name = plan.pools[pool.index()].name.to_string();
            let rewritten = rule.rewrite_path.as_ref().map(|path| format!(", path as {path}")).unwrap_or_default();
            (format!("{name}{rewritten}"), Some(name))
        }
        Action::Redirect { status, to } => (format!("redirect {status} to {to}"), None),
        Action::Answer { status, content_type, .. } => (format!("answer {status} {content_type}"), None),
    };
    shape::Rule { name: rule.name.to_string(), when: when(rule), does, pool }
}

fn when(rule: &Rule) -> String {
    let mut conditions = Vec::new();
    if !rule.hosts.is_empty() {
        let hosts: Vec<String> = rule.hosts.iter().map(ToString::to_string).collect();
        conditions.push(format!("host {}", hosts.join(", ")));
    }
    if &*rule.path != "/" {
        conditions.push(format!("path {}", rule.path));
    }
    if !rule.methods.is_empty() {
        conditions.push(format!("method {}", rule.methods.join(", ")));
    }
    for field in &rule.headers {
        conditions.push(match &field.value {
            Some(value) => format!("field {}: {value}", field.name),
            None => format!("field {}", field.name),
        });
    }
    conditions.join("; ")
}

#[cfg(test)]
mod tests {
    use evenkeel_config::{Format, Source, compile};

    use super::*;

    #[test]
    fn a_rule_is_told_with_all_that_it_asks_for_and_what_it_does() {
        let text = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:80"
protocol = "http"
pool = "web"

[[listener.rule]]
name = "beta"
host = ["www.example.com", "*.example.org"]
path = "/api"
method = ["GET", "POST"]
headers = { "x-beta" = "1" }
pool = "web"
rewrite_path = "/v2"

[[listener.rule]]
name = "moved"
path = "/"
redirect = { to = "https://example.com{path}", status = 301 }

[[listener.rule]]
name = "health"
path = "/healthz"
answer = { status = 200, body = "ok", content_type = "text/plain" }

[[pool]]
name = "web"
backends = [{ address = "10.0.0.1:80" }]
"#;
        let compiled = compile(&Source { name: "web.toml", text, format: Format::Toml });
        let plan = compiled.plan.unwrap_or_else(|| panic!("{:?}", compiled.problems));
        let rules = told(&plan, &plan.listeners[0]);
        let of = |place: usize| {
            let rule = &rules[place];
            (&*rule.name, &*rule.when, &*rule.does, rule.pool.as_deref())
        };
        let asked = "host www.example.com, *.example.org; path /api; method GET, POST; field x-beta: 1";
        assert_eq!(of(0), ("beta", asked, "web, path as /v2", Some("web")));
        assert_eq!(of(1), ("moved", "", "redirect 301 to https://example.com{path}", None));
        assert_eq!(of(2), ("health", "path /healthz", "answer 200 text/plain", None));
    }
}
