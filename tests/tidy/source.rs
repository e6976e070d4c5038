//! A Rust file seen as code, comments and tests, as far as a tidiness rule needs it.
//!
//! Not a parser: it knows where comments and literals begin and end, which is what a plain text search gets
//! wrong, and where `#[cfg(test)]` items end. A real parser would cost the test its
//! speed and its freedom from dependencies.

/// Same length in lines as the file, so a line number means the same in every view.
pub struct Source {
    /// Comments and the insides of literals blanked out.
    pub code: String,
    /// Everything but comments blanked out.
    pub comments: String,
}

impl Source {
    pub fn read(text: &str) -> Self {
        let mut views = Views::default();
        let mut rest = text;
        let mut last = ' ';
        while let Some(first) = rest.chars().next() {
            let in_word = last.is_alphanumeric() || last == '_';
            let length = if rest.starts_with("//") {
                let length = rest.find('\n').unwrap_or(rest.len());
                views.comment(&rest[..length]);
                length
            } else if rest.starts_with("/*") {
                let length = block_comment(rest);
                views.comment(&rest[..length]);
                length
            } else if let Some(length) = (!in_word).then(|| raw_string(rest)).flatten() {
                views.literal(&rest[..length]);
                length
            } else if first == '"' {
                let length = quoted(rest, '"');
                views.literal(&rest[..length]);
                length
            } else if first == '\'' && is_char_literal(rest) {
                let length = quoted(rest, '\'');
                views.literal(&rest[..length]);
                length
            } else {
                views.code(&rest[..first.len_utf8()]);
                first.len_utf8()
            };
            last = rest[..length].chars().next_back().unwrap_or(' ');
            rest = &rest[length..];
        }
        Source { code: views.code, comments: views.comments }
    }

    /// The code without `#[cfg(test)]` items.
    pub fn shipped(&self) -> String {
        self.split().0
    }

    /// The code of `#[cfg(test)]` items alone.
    pub fn tests(&self) -> String {
        self.split().1
    }

    fn split(&self) -> (String, String) {
        const MARK: &str = "#[cfg(test)]";
        let (mut shipped, mut tests) = (String::new(), String::new());
        let mut rest = self.code.as_str();
        while let Some(start) = rest.find(MARK) {
            let end = start + MARK.len() + item_length(&rest[start + MARK.len()..]);
            shipped += &rest[..start];
            shipped += &blank(&rest[start..end]);
            tests += &blank(&rest[..start]);
            tests += &rest[start..end];
            rest = &rest[end..];
        }
        shipped += rest;
        tests += &blank(rest);
        (shipped, tests)
    }
}

/// Lines of a text, with their numbers.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

/// Every path under `std` that the code names, with its line; `use` trees are written out, so that
/// `use std::{fs, time::{Duration, Instant}};` names `std::time::Instant`.
pub fn std_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let starts = code.match_indices("std::").filter(|(at, _)| !code[..*at].ends_with(is_word_char));
    for (at, _) in starts {
        let line = code[..at].matches('\n').count() + 1;
        let mut paths = Vec::new();
        write_out("std", &code[at + "std::".len()..], &mut paths);
        found.extend(paths.into_iter().map(|path| (line, path)));
    }
    found
}

/// Whether the text names this word as a whole.
pub fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_word_char) && !text[at + word.len()..].starts_with(is_word_char))
}

pub fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words in lower case of an identifier in either style: `RealServer` and `real_server` alike.
pub fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lowercase = false;
    for c in identifier.chars() {
        if c == '_' || c.is_uppercase() && after_lowercase {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("there is always a word").extend(c.to_lowercase());
        }
        after_lowercase = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

pub fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !is_word_char(c)).filter(|word| !word.is_empty())
}

#[derive(Default)]
struct Views {
    code: String,
    comments: String,
}

impl Views {
    fn code(&mut self, text: &str) {
        self.code += text;
        self.comments += &blank(text);
    }

    fn comment(&mut self, text: &str) {
        self.code += &blank(text);
        self.comments += text;
    }

    /// Quotes stay in the code, so that `f("")` still looks like a call.
    fn literal(&mut self, text: &str) {
        let inside = text.chars().map(|c| if c == '"' || c == '\n' { c } else { ' ' });
        self.code.extend(inside);
        self.comments += &blank(text);
    }
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of `r"…"`, `br#"…"#` and kin at the start of the text.
fn raw_string(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let inside = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(text.len() - inside.len() + length)
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// `'a'` and `'\n'` are literals, `'a` alone is a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    match after.next() {
        Some('\\') => true,
        Some(_) => after.next() == Some('\''),
        None => false,
    }
}

/// To the end of the next item: its closing brace, or its semicolon if that comes first.
fn item_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Follows a path or a `use` tree and returns what is left of the text behind it.
fn write_out<'a>(prefix: &str, tree: &'a str, paths: &mut Vec<String>) -> &'a str {
    let tree = tree.trim_start();
    if let Some(mut branches) = tree.strip_prefix('{') {
        loop {
            branches = branches.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if branches.is_empty() || branches.starts_with('}') {
                return branches.strip_prefix('}').unwrap_or(branches);
            }
            let left = write_out(prefix, branches, paths);
            // Something a use tree cannot hold: step over it rather than stand still.
            branches = if left.len() == branches.len() {
                &left[left.chars().next().map_or(0, char::len_utf8)..]
            } else {
                left
            };
        }
    }
    let end = tree.find(|c: char| !is_word_char(c)).unwrap_or(tree.len());
    let path = format!("{prefix}::{}", &tree[..end]);
    let rest = &tree[end..];
    match rest.strip_prefix("::") {
        Some(deeper) => write_out(&path, deeper, paths),
        None => {
            paths.push(path);
            rest
        }
    }
}
