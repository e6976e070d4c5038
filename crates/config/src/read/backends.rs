//! `backends` of `[[pool]]`: addresses, and names that stand for addresses.
//!
//! No name is looked up here: what it stands for is known only while the node runs, and changes.

use std::net::SocketAddr;
use std::ops::Range;

use evenkeel_model::limits;
use evenkeel_plan::{NameAsked, Records};

use crate::config::{At, Backend, NamedBackends};
use crate::document::{Node, Table, Value};
use crate::keys::Section;
use crate::problem::Quoted;
use crate::reader::Reader;
use crate::values::{self, Purpose, Refusal, dns};

#[derive(Default)]
pub(super) struct Backends {
    pub addresses: Vec<Backend>,
    pub names: Vec<NamedBackends>,
    /// Whether an entry could not be read.
    pub incomplete: bool,
}

impl Backends {
    fn address(&mut self, address: Option<At<SocketAddr>>, weight: u64, server_id: Option<At<Vec<u8>>>) {
        self.incomplete |= address.is_none();
        self.addresses.extend(address.map(|address| Backend { address, weight, server_id }));
    }

    fn name(&mut self, asked: Option<NameAsked>, weight: u64, text: &str, span: &Range<usize>) {
        self.incomplete |= asked.is_none();
        let position = self.addresses.len();
        self.names.extend(asked.map(|asked| NamedBackends {
            asked: At { value: asked, span: span.clone() },
            weight,
            position,
            label: Quoted(text).to_string(),
        }));
    }
}

pub(super) fn of_pool(pool: &mut Reader<'_, '_>) -> Backends {
    let mut found = Backends::default();
    let Some(entry) = pool.entry("backends") else { return found };
    let items: &[Node] = match &entry.node.value {
        Value::List(items) => items,
        // One backend without its brackets is refused, and still read for further problems.
        other => {
            let what = format!("is {}, but it takes a list", other.described());
            let help = "put it in brackets: backends = [\"10.0.0.11:8080\"]".into();
            pool.refuse(Refusal { code: "wrong_type", what, help }, "backends", &entry.node);
            std::slice::from_ref(&entry.node)
        }
    };
    for item in items {
        match &item.value {
            Value::Text(text) => word(pool, text, item, &mut found),
            Value::Table(table) => full(pool, table, item, &mut found),
            other => {
                let what = format!("is {}, but it takes a string or a table", other.described());
                let help = "write \"10.0.0.11:8080\" or { address = \"10.0.0.11:8080\", weight = 50 }".into();
                pool.refuse(Refusal { code: "wrong_type", what, help }, "backend", item);
                found.incomplete = true;
            }
        }
    }
    found
}

fn word(pool: &mut Reader<'_, '_>, text: &str, item: &Node, found: &mut Backends) {
    let weight = limits::WEIGHT.default;
    if dns::is_meant(text) {
        let asked = pool.accept(dns::backend(text, Records::Any), "backend", item);
        found.name(asked, weight, text, &item.span);
    } else {
        let address = pool.accept(values::address(text, Purpose::Backend), "backend", item);
        found.address(address.map(|value| At { value, span: item.span.clone() }), weight, None);
    }
}

fn full(pool: &mut Reader<'_, '_>, table: &Table, item: &Node, found: &mut Backends) {
    let label = format!("{} backend", pool.label());
    let mut reader = Reader::new(Section::Backend, &label, table, item.span.clone(), pool.notes());
    let word = reader.word("records");
    let records = Records::ALL.into_iter().find(|records| Some(records.word()) == word);
    let by_name = reader.was_written("name");
    let address = reader.text("address", |text| values::address(text, Purpose::Backend));
    let asked = reader.text("name", |text| dns::backend(text, records.unwrap_or(Records::Any)));
    let weight = reader.count(limits::WEIGHT);
    let server_id = reader.text("server_id", values::server_id);
    found.incomplete |= reader.was_written("server_id") && server_id.is_none();
    if !by_name && !reader.was_written("address") {
        reader.missing("address", "add address = \"10.0.0.11:8080\"");
    }
    for (key, wrong, what, help) in [
        ("address", by_name, "stands beside name, and a backend has one of them", "remove one of them"),
        (
            "server_id",
            by_name,
            "stands beside a name, and an id is that of one server",
            "write its address, not a name",
        ),
        ("records", !by_name, "says what is asked for a name, and there is none", "remove it, or write a name"),
    ] {
        if let Some(entry) = table.get(key).filter(|_| wrong) {
            let refusal = Refusal { code: "keys_exclude_each_other", what: what.into(), help: help.into() };
            reader.refuse(refusal, key, &entry.node);
        }
    }
    if let Some(entry) = table.get("weight").filter(|_| by_name && records == Some(Records::Srv)) {
        let what = "has no effect, because SRV records have weights of their own".into();
        let refusal = Refusal { code: "setting_without_effect", what, help: "remove weight".into() };
        reader.warn(refusal, "weight", &entry.node);
    }
    reader.finish();
    if by_name {
        let text = match table.get("name").map(|entry| &entry.node.value) {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        };
        let span = asked.as_ref().map_or_else(|| item.span.clone(), |at| at.span.clone());
        found.name(asked.map(|at| at.value), weight, text, &span);
    } else {
        found.address(address, weight, server_id);
    }
}
