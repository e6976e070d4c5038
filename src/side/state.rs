//! The state file: what is in it, how it is read, how it is replaced.
//!
//! It is written beside its place and renamed, so whoever reads finds a whole one, also after a power cut. Only a file that evenkeel wrote is
//! ever replaced or moved: a path that was mistyped must not cost somebody else's file. One of ours that cannot be read is kept aside for who
//! wants to know why; it never stops a start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_control::Memory;
use evenkeel_control::memory::{BackendMemory, CheckMemory, OrderMemory, WeightMemory};
use evenkeel_health::judge::Counts;
use evenkeel_model::event::Beside;
use evenkeel_model::limits;
use evenkeel_model::standing::{AgentWord, Order, Verdict};
use serde_json::{Value, json};

/// The first bytes of every file of ours.
const MARK: &str = "{\"evenkeel_state\":";

/// Of the form below. A file of another one is not used.
const VERSION: u64 = 1;

/// A file that claims to come from later than this was written under another clock.
const AHEAD: Duration = Duration::from_secs(5);

/// Why a file was not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unused {
    /// There is none, as at the first start.
    Absent,
    /// It is ours and of no use.
    Broken { why: String },
    /// It is not ours, or cannot be read: it stays and nothing is written in its place.
    Foreign { why: String },
}

/// What an earlier process wrote. One of ours that is of no use is moved aside.
pub fn read(path: &Path) -> Result<Memory, Unused> {
    let bytes = load(path)?;
    let now = since_1970(SystemTime::now());
    parse(&bytes, now).map_err(|why| {
        let aside = beside(path, "broken");
        let kept = match fs::rename(path, &aside) {
            Ok(()) => format!("it is kept as \"{}\"", aside.display()),
            Err(error) => format!("it cannot be kept aside: {error}"),
        };
        Unused::Broken { why: format!("{why}; {kept}") }
    })
}

/// Whether a file of ours may be written there.
pub fn examine(path: &Path) -> Result<(), String> {
    match load(path) {
        Ok(_) | Err(Unused::Absent | Unused::Broken { .. }) => Ok(()),
        Err(Unused::Foreign { why }) => Err(why),
    }
}

/// The bytes of a file that is ours, or empty, as one that was made by hand to have the right owner.
fn load(path: &Path) -> Result<Vec<u8>, Unused> {
    let foreign = |why: String| Unused::Foreign { why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unused::Absent),
        Err(error) => return Err(foreign(format!("it cannot be read: {error}"))),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(foreign("it is no file".to_owned()));
    }
    let most = limits::STATE_BYTES.value;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| foreign(format!("it cannot be read: {error}")))?;
    if bytes.is_empty() {
        return Err(Unused::Absent);
    }
    if !bytes.starts_with(MARK.as_bytes()) {
        return Err(foreign("evenkeel did not write it, so it is left alone; name another file".to_owned()));
    }
    if bytes.len() as u64 > most {
        return Err(foreign(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
}

/// Puts a file in place of the one that is there, with rights for its owner only: it names every backend.
pub fn write(path: &Path, memory: &Memory) -> Result<(), String> {
    let text = text(memory, since_1970(SystemTime::now()));
    let fresh = beside(path, "new");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let replace = || -> io::Result<()> {
        // Of a process that ended in the middle. A new one is made in its place and not written into: it might be a link.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(folder)?.sync_all()
    };
    replace().map_err(|error| error.to_string())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(end);
    path.with_file_name(name)
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// As a text that [`parse_now`] reads.
pub fn write_now(memory: &Memory) -> String {
    text(memory, since_1970(SystemTime::now()))
}

/// What [`write_now`] wrote, as old as it is.
pub fn parse_now(bytes: &[u8]) -> Result<Memory, String> {
    parse(bytes, since_1970(SystemTime::now()))
}

fn text(memory: &Memory, now: Duration) -> String {
    let backends: Vec<Value> = memory.backends.iter().map(backend).collect();
    // By hand as far as the mark, which has to come first.
    let rest = json!({ "written_unix_ms": millis(now), "backends": backends }).to_string();
    format!("{MARK}{VERSION},{}\n", rest.trim_start_matches('{'))
}

fn backend(memory: &BackendMemory) -> Value {
    json!({
        "pool": &*memory.pool,
        "address": memory.address.to_string(),
        "order": memory.order.as_ref().map_or(Order::Serve, |order| order.order).word(),
        "ordered_for_ms": millis(memory.order.as_ref().map_or(Duration::ZERO, |order| order.held_for)),
        "ordered_by": memory.order.as_ref().map(|order| &*order.by),
        "order_left_ms": memory.order.as_ref().and_then(|order| order.left).map(millis),
        "order_kept": memory.order.as_ref().map(|order| order.kept),
        "weight": memory.weight.as_ref().map(|weight| json!({
            "weight": weight.weight,
            "by": &*weight.by,
            "held_for_ms": millis(weight.held_for),
            "kept": weight.kept,
        })),
        "climbed_ms": memory.climbed.map(millis),
        "ejected_for_ms": memory.ejected_for.map(millis),
        "ejections": memory.ejections,
        "checks": memory.checks.iter().map(check).collect::<Vec<_>>(),
    })
}

fn check(memory: &CheckMemory) -> Value {
    let Counts { passed, failed, void, kept } = memory.counts;
    json!({
        "name": &*memory.name,
        "verdict": memory.verdict.word(),
        "held_for_ms": millis(memory.held_for),
        "heard_ms": memory.heard.map(millis),
        "counts": { "passed": passed, "failed": failed, "void": void, "kept": kept },
        "word": memory.word.map(|word| json!({ "order": word.order.word(), "percent": word.percent })),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the file says, as old as it is `now`; or what is wrong with it.
fn parse(bytes: &[u8], now: Duration) -> Result<Memory, String> {
    let document: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is broken: {error}"))?;
    match document["evenkeel_state"].as_u64() {
        Some(VERSION) => {}
        Some(other) => return Err(format!("it has form {other} of another version, and this one reads {VERSION}")),
        None => return Err("it is broken: its version is no number".to_owned()),
    }
    let written = duration(&document["written_unix_ms"]).ok_or("it is broken: it does not say when it was written")?;
    if written > now + AHEAD {
        return Err("it was written in the future, so one of two clocks is wrong".to_owned());
    }
    let backends = document["backends"].as_array().ok_or("it is broken: it has no list of backends")?;
    let read = backends.iter().enumerate().map(|(position, value)| {
        read_backend(value).ok_or_else(|| format!("it is broken: backend {} cannot be read", position + 1))
    });
    Ok(Memory { age: now.saturating_sub(written), backends: read.collect::<Result<_, _>>()? })
}

fn read_backend(value: &Value) -> Option<BackendMemory> {
    Some(BackendMemory {
        pool: value["pool"].as_str()?.into(),
        address: value["address"].as_str()?.parse::<SocketAddr>().ok()?,
        order: read_order(value)?,
        weight: maybe(&value["weight"], read_weight)?,
        climbed: maybe(&value["climbed_ms"], duration)?,
        ejected_for: maybe(&value["ejected_for_ms"], duration)?,
        ejections: u32::try_from(value["ejections"].as_u64()?).ok()?,
        checks: value["checks"].as_array()?.iter().map(read_check).collect::<Option<_>>()?,
    })
}

/// `Some(None)` under `serve`. A file of a version that kept every order does not say who gave it nor that it is kept.
fn read_order(value: &Value) -> Option<Option<OrderMemory>> {
    let memory = OrderMemory {
        order: order(&value["order"])?,
        by: maybe(&value["ordered_by"], |by| by.as_str().map(Into::into))?.unwrap_or_default(),
        held_for: duration(&value["ordered_for_ms"])?,
        left: maybe(&value["order_left_ms"], duration)?,
        kept: maybe(&value["order_kept"], Value::as_bool)?.unwrap_or(true),
    };
    Some(Some(memory).filter(|memory| memory.order != Order::Serve))
}

fn read_weight(value: &Value) -> Option<WeightMemory> {
    Some(WeightMemory {
        weight: u32::try_from(value["weight"].as_u64()?)
            .ok()
            .filter(|weight| u64::from(*weight) <= limits::WEIGHT.max)?,
        by: value["by"].as_str()?.into(),
        held_for: duration(&value["held_for_ms"])?,
        kept: value["kept"].as_bool()?,
    })
}

fn read_check(value: &Value) -> Option<CheckMemory> {
    let verdict = value["verdict"].as_str()?;
    let count = |name: &str| value["counts"][name].as_u64();
    Some(CheckMemory {
        name: value["name"].as_str()?.into(),
        verdict: Verdict::ALL.into_iter().find(|known| known.word() == verdict)?,
        held_for: duration(&value["held_for_ms"])?,
        heard: maybe(&value["heard_ms"], duration)?,
        counts: Counts {
            passed: count("passed")?,
            failed: count("failed")?,
            void: count("void")?,
            kept: count("kept")?,
        },
        word: maybe(&value["word"], |word| {
            Some(AgentWord { order: order(&word["order"])?, percent: u16::try_from(word["percent"].as_u64()?).ok()? })
        })?,
    })
}

fn order(value: &Value) -> Option<Order> {
    let word = value.as_str()?;
    Order::ALL.into_iter().find(|known| known.word() == word)
}

fn duration(value: &Value) -> Option<Duration> {
    value.as_u64().map(Duration::from_millis)
}

/// `Some(None)` for null, `None` for what cannot be read.
fn maybe<T>(value: &Value, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    if value.is_null() { Some(None) } else { read(value).map(Some) }
}

impl Unused {
    /// Of a first start there is nothing to tell, and of a file that is not ours the side thread does when it finds that it cannot write.
    pub fn event(&self, path: &Path) -> Option<Beside> {
        let path = path.display().to_string().into();
        match self {
            Unused::Absent | Unused::Foreign { .. } => None,
            Unused::Broken { why } => Some(Beside::StateIgnored { path, why: why.as_str().into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn sample() -> Memory {
        let check = |name: &str, verdict, word| CheckMemory {
            name: name.into(),
            verdict,
            held_for: Duration::from_secs(60),
            heard: Some(Duration::from_millis(1500)),
            counts: Counts { passed: 7, failed: 3, void: 1, kept: 2 },
            word,
        };
        let word = AgentWord { order: Order::Drain, percent: 75 };
        let backend = BackendMemory {
            pool: "we\"b".into(),
            address: "[2001:db8::1]:8080".parse().expect("an address"),
            order: Some(OrderMemory {
                order: Order::Maintain,
                by: "o\"ps".into(),
                held_for: Duration::from_secs(5),
                left: Some(Duration::from_secs(600)),
                kept: false,
            }),
            weight: Some(WeightMemory { weight: 20, by: "ops".into(), held_for: Duration::from_secs(7), kept: true }),
            climbed: Some(Duration::from_secs(3)),
            ejected_for: Some(Duration::from_secs(9)),
            ejections: 4,
            checks: vec![
                check("http", Verdict::Unhealthy, None),
                CheckMemory { heard: None, ..check("agent", Verdict::Unknown, Some(word)) },
            ],
        };
        let plain = BackendMemory {
            order: None,
            weight: None,
            climbed: None,
            ejected_for: None,
            checks: Vec::new(),
            ..backend.clone()
        };
        Memory { age: Duration::ZERO, backends: vec![backend, plain] }
    }

    #[test]
    fn what_is_written_is_read_again_with_the_time_it_lay() {
        let text = text(&sample(), NOW);
        let read = parse(text.as_bytes(), NOW + Duration::from_secs(30)).expect("our own file");
        assert_eq!(read, Memory { age: Duration::from_secs(30), ..sample() });
    }

    // Written before orders could be given without being kept.
    #[test]
    fn an_order_in_an_older_file_is_one_to_be_kept() {
        let text = "{\"evenkeel_state\":1,\"written_unix_ms\":1,\"backends\":[{\"pool\":\"web\",\"address\":\"10.0.0.1:80\",\
            \"order\":\"drain\",\"ordered_for_ms\":5000,\"climbed_ms\":null,\"ejected_for_ms\":null,\"ejections\":0,\"checks\":[]}]}";
        let read = parse(text.as_bytes(), Duration::from_secs(1)).expect("an older file");
        let order = read.backends[0].order.as_ref().expect("it was drained");
        assert_eq!((order.order, order.kept, order.left), (Order::Drain, true, None));
        assert_eq!(read.backends[0].weight, None);
    }

    #[test]
    fn whatever_byte_is_lost_or_changed_the_reader_says_so_or_reads_something_and_never_panics() {
        let whole = text(&sample(), NOW);
        for end in 0..whole.len() - 2 {
            assert!(parse(&whole.as_bytes()[..end], NOW).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for byte in [b'0', b'"', b'}', b'x', 0, 0xff] {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] = byte;
                let _ = parse(&bytes, NOW);
            }
        }
    }

    #[test]
    fn a_file_of_another_form_or_from_the_future_is_not_used() {
        let text = text(&sample(), NOW);
        let other = text.replacen(":1,", ":2,", 1);
        let table = [
            (other.as_str(), NOW, "it has form 2 of another version, and this one reads 1"),
            (&text, NOW - Duration::from_secs(60), "it was written in the future, so one of two clocks is wrong"),
            ("{\"evenkeel_state\":\"x\"}", NOW, "it is broken: its version is no number"),
            ("{\"evenkeel_state\":1}", NOW, "it is broken: it does not say when it was written"),
        ];
        for (text, now, expected) in table {
            assert_eq!(parse(text.as_bytes(), now), Err(expected.to_owned()));
        }
        let wrong = text.replacen("unhealthy", "ill", 1);
        assert_eq!(parse(wrong.as_bytes(), NOW), Err("it is broken: backend 1 cannot be read".to_owned()));
    }

    #[test]
    fn only_a_file_of_ours_is_ever_moved_or_replaced() {
        let folder = std::env::temp_dir().join(format!("evenkeel-state-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for files");
        let path = folder.join("state.json");
        assert_eq!(read(&path), Err(Unused::Absent));
        fs::write(&path, "precious").expect("the folder is ours");
        assert!(matches!(read(&path), Err(Unused::Foreign { .. })));
        assert!(examine(&path).is_err());
        assert_eq!(fs::read_to_string(&path).expect("it is still there"), "precious");
        fs::write(&path, "").expect("the folder is ours");
        assert_eq!((read(&path), examine(&path)), (Err(Unused::Absent), Ok(())));
        fs::write(&path, "{\"evenkeel_state\":7}").expect("the folder is ours");
        assert!(matches!(read(&path), Err(Unused::Broken { .. })));
        assert!(folder.join("state.json.broken").exists() && !path.exists());
        write(&path, &sample()).expect("the folder is ours");
        assert_eq!(read(&path).map(|memory| memory.backends), Ok(sample().backends));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).expect("it was written"));
        assert_eq!(mode & 0o777, 0o600);
        assert!(examine(&folder).is_err(), "a folder is no file");
        fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
