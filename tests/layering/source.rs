//! One file of `src/`, read as text: what is code in it, what is text, and what is a test.

#![expect(clippy::unwrap_used, reason = "a part of a test: what cannot be read fails it")]

use std::{collections::BTreeSet, fs, path::Path};

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the repository's root.
    pub(crate) path: String,
    /// From `src/`, without `.rs`.
    pub(crate) place: String,
    /// As it is.
    pub(crate) text: String,
    /// Without its tests, its comments and the insides of its texts; lines are kept, but for those of tests.
    pub(crate) code: String,
    /// The insides of its texts, without those of tests.
    pub(crate) texts: Vec<String>,
}

/// One import at the top level of a file.
#[derive(Debug)]
pub(crate) struct Import {
    /// The first segment of its path.
    pub(crate) root: String,
    /// Whether it is a `pub use` of any reach.
    pub(crate) public: bool,
    /// Counted from 1.
    pub(crate) first_line: usize,
    /// Counted from 1.
    pub(crate) last_line: usize,
}

/// Every file of `src/`, but those that are modules for tests only.
pub(crate) fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push(Source::of(path.strip_prefix(root).unwrap().to_str().unwrap(), &text));
            }
        }
    }
    assert!(sources.len() > 20, "src/ was not found");
    let for_tests: BTreeSet<String> = sources.iter().flat_map(Source::modules_for_tests).collect();
    sources.retain(|source| !for_tests.contains(&source.place));
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

impl Source {
    pub(crate) fn of(path: &str, text: &str) -> Self {
        let blanked = blank(text, &mut Vec::new());
        let tests = tests(&blanked);
        let mut kept = String::new();
        let mut from = 0;
        for (start, end) in tests {
            kept.push_str(&text[from..start]);
            from = end;
        }
        kept.push_str(&text[from..]);
        let mut texts = Vec::new();
        let code = blank(&kept, &mut texts);
        let place = path.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
        Self { path: path.to_owned(), place, text: text.to_owned(), code, texts }
    }

    /// The places of modules in files of their own that are there for tests only.
    fn modules_for_tests(&self) -> Vec<String> {
        let after_marks = self.text.split("#[cfg(test)]").skip(1);
        let names = after_marks.filter_map(|rest| {
            let (item, _) = rest.split_once(';')?;
            let (before, name) = item.split_once("mod ")?;
            (before.trim().is_empty() || before.trim().starts_with("pub")).then_some(name)
        });
        names.map(|name| format!("{}/{name}", self.place)).collect()
    }

    /// Every word of the code.
    pub(crate) fn words(&self) -> BTreeSet<&str> {
        self.code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
    }

    /// The first segments of all paths that begin with `crate`.
    pub(crate) fn rooms_known(&self) -> BTreeSet<&str> {
        let mut rooms = BTreeSet::new();
        for (at, _) in self.code.match_indices("crate::") {
            let rest = &self.code[at + "crate::".len()..];
            let Some(inside) = rest.strip_prefix('{') else {
                rooms.insert(first_word(rest));
                continue;
            };
            let mut depth = 0;
            let mut begins = true;
            for (i, c) in inside.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => begins = true,
                    c if begins && c.is_alphabetic() => {
                        rooms.insert(first_word(&inside[i..]));
                        begins = false;
                    }
                    _ => {}
                }
            }
        }
        rooms.into_iter().filter(|room| room.starts_with(char::is_lowercase)).collect()
    }

    /// Name and number of lines of each function with a body.
    pub(crate) fn functions(&self) -> Vec<(String, usize)> {
        let mut functions = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let begins = self.code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
            let rest = &self.code[at..];
            let Some(open) = rest.find(['{', ';']).filter(|open| begins && rest[*open..].starts_with('{')) else {
                continue;
            };
            let body = &rest[..open + closing(&rest[open..])];
            functions.push((first_word(&rest["fn ".len()..]).to_owned(), body.lines().count()));
        }
        functions
    }

    /// The imports at the top level, in order.
    pub(crate) fn uses(&self) -> Vec<Import> {
        let mut uses = Vec::new();
        let mut lines = self.code.lines().enumerate();
        while let Some((i, line)) = lines.next() {
            let Some((before, after)) = line.split_once("use ") else { continue };
            if !(before.is_empty() || (before.starts_with("pub") && before.ends_with([' ', ')']))) {
                continue;
            }
            let mut last = i;
            let mut ends = line.contains(';');
            while !ends {
                let Some((j, line)) = lines.next() else { break };
                (last, ends) = (j, line.contains(';'));
            }
            let root = first_word(after).to_owned();
            uses.push(Import { root, public: !before.is_empty(), first_line: i + 1, last_line: last + 1 });
        }
        uses
    }
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Where the brace that `text` begins with is closed, one past it.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    text.len()
}

/// Start and end of every item that is there for tests only.
fn tests(blanked: &str) -> Vec<(usize, usize)> {
    const MARK: &str = "#[cfg(test)]";
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (start, _) in blanked.match_indices(MARK) {
        if found.last().is_some_and(|(_, end)| start < *end) {
            continue;
        }
        let rest = &blanked[start..];
        let end = match rest.find(['{', ';']) {
            Some(open) if rest[open..].starts_with('{') => open + closing(&rest[open..]),
            Some(semicolon) => semicolon + 1,
            None => rest.len(),
        };
        found.push((start, start + end));
    }
    found
}

/// `text` with comments and the insides of texts and characters replaced by blanks, byte for byte; the insides of texts are
/// added to `texts`.
fn blank(text: &str, texts: &mut Vec<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (length, inside) = token(rest, out.chars().next_back());
        match inside {
            Some((from, to)) if c != '/' => {
                out.push_str(&rest[..from]);
                out.push_str(&blanks(&rest[from..to]));
                out.push_str(&rest[to..length]);
                if c != '\'' {
                    texts.push(rest[from..to].to_owned());
                }
            }
            Some(_) => out.push_str(&blanks(&rest[..length])),
            None => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out
}

fn blanks(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The length of the comment, text or character that `rest` begins with, and where its inside is; else one character.
fn token(rest: &str, before: Option<char>) -> (usize, Option<(usize, usize)>) {
    let whole = |length| (length, Some((0, length)));
    if rest.starts_with("//") {
        return whole(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return whole(comment_end(rest));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && (rest.starts_with('r') || rest.starts_with("br")) {
        let prefix = rest.find('r').unwrap() + 1;
        let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
        let from = prefix + hashes + 1;
        if rest[prefix + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let to = from + rest[from..].find(&end).unwrap_or(rest.len() - from);
            return ((to + end.len()).min(rest.len()), Some((from, to)));
        }
    }
    if rest.starts_with('"') {
        let to = unescaped(rest, '"');
        return ((to + 1).min(rest.len()), Some((1, to)));
    }
    if rest.starts_with('\'') && is_character(rest) {
        let to = unescaped(rest, '\'');
        return ((to + 1).min(rest.len()), Some((1, to)));
    }
    (rest.chars().next().map_or(0, char::len_utf8), None)
}

/// Whether an apostrophe begins a character and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

fn unescaped(rest: &str, end: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == end => return i,
            _ => {}
        }
    }
    rest.len()
}

fn comment_end(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut i = 0;
    while i < rest.len() {
        if rest[i..].starts_with("/*") {
            (depth, i) = (depth + 1, i + 2);
        } else if rest[i..].starts_with("*/") {
            (depth, i) = (depth - 1, i + 2);
        } else {
            i += rest[i..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    i
}
