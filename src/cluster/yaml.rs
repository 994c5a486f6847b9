//! The text of one manifest file becomes its documents, each with the line it begins at.
//!
//! Text in, JSON values and faults out, with lines counted in the whole file. It opens no files and does not know what the
//! documents mean.

use serde::Deserialize;
use serde_json::Value;

/// One document of a file.
// No Debug outside tests: there may be Secrets in it.
#[derive(PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Document {
    /// Where it begins, counted from 1.
    pub(super) line: usize,
    /// What it holds.
    pub(super) value: Value,
}

/// Why a part of a file is no document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line, counted from 1 in the whole file, where it is known.
    pub(super) line: Option<usize>,
    /// The column, counted from 1.
    pub(super) column: Option<usize>,
    /// What is wrong.
    pub(super) reason: String,
}

/// The documents of a YAML file, empty ones left out. One that cannot be read does not hide the others.
pub(super) fn yaml(text: &str) -> Vec<Result<Document, Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let empty = |document: &Result<Document, Fault>| document.as_ref().is_ok_and(|document| document.value.is_null());
    chunks(text).iter().flat_map(chunk).filter(|document| !empty(document)).collect()
}

/// The documents of a JSON file, which may hold several one after another. Nothing after a fault is read.
pub(super) fn json(text: &str) -> Vec<Result<Document, Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    loop {
        let rest = text.get(stream.byte_offset()..).unwrap_or_default();
        let begin = text.len() - rest.trim_start().len();
        let line = text.get(..begin).unwrap_or_default().matches('\n').count() + 1;
        match stream.next() {
            None => return documents,
            Some(Ok(value)) => documents.push(Ok(Document { line, value })),
            Some(Err(error)) => {
                let (line, column) = (error.line(), error.column());
                let reason = without_position(&error.to_string(), line, column);
                documents.push(Err(Fault { line: Some(line), column: Some(column), reason }));
                return documents;
            }
        }
    }
}

/// The text between two document separators, the first included.
#[derive(Debug, Default)]
struct Chunk<'a> {
    /// The line it begins at, counted from 1.
    line: usize,
    lines: Vec<&'a str>,
}

impl Chunk<'_> {
    /// Whether there is something in it besides comments and directives.
    fn has_content(&self) -> bool {
        self.lines.iter().any(|line| is_content(line))
    }

    /// The line its content begins at.
    fn content_line(&self) -> usize {
        self.line + self.lines.iter().position(|line| is_content(line)).unwrap_or(0)
    }
}

/// Cuts at `---` in the first column, which YAML allows nowhere but between documents. What comes before the first
/// document (comments and directives such as `%YAML 1.2`) stays with it.
fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk { line: 1, lines: Vec::new() };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_separator(line) && chunk.has_content() {
            chunks.push(std::mem::replace(&mut chunk, Chunk { line: index + 1, lines: Vec::new() }));
        }
        chunk.lines.push(line);
    }
    if chunk.has_content() {
        chunks.push(chunk);
    }
    chunks
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn is_content(line: &str) -> bool {
    let line = if is_separator(line) { line.get(3..).unwrap_or_default() } else { line };
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#') && !line.starts_with('%') && line != "..."
}

fn chunk(chunk: &Chunk<'_>) -> Vec<Result<Document, Fault>> {
    let text = chunk.lines.concat();
    let line = chunk.content_line();
    match parse(&text) {
        Ok(values) => values.into_iter().map(|value| Ok(Document { line, value })).collect(),
        // Parsed again below as many empty lines as the file has above it, so that every line the parser names, within
        // its text too, is one of the file. Only for a fault, or long files would take a time that grows with the square.
        Err(_) => match parse(&format!("{}{text}", "\n".repeat(chunk.line - 1))) {
            Ok(_) => Vec::new(),
            Err(error) => vec![Err(fault(&error, line))],
        },
    }
}

/// More than one value where documents are parted by `...` instead of `---`.
fn parse(text: &str) -> Result<Vec<Value>, serde_yaml_ng::Error> {
    let parse = |document| {
        // By way of YAML's own value: it refuses a key that stands there twice, and knows merge keys.
        let mut value = serde_yaml_ng::Value::deserialize(document)?;
        value.apply_merge()?;
        serde_json::to_value(value).map_err(serde::de::Error::custom)
    };
    serde_yaml_ng::Deserializer::from_str(text).map(parse).collect()
}

fn fault(error: &serde_yaml_ng::Error, document_line: usize) -> Fault {
    let text = error.to_string();
    match error.location() {
        Some(at) => Fault {
            line: Some(at.line()),
            column: Some(at.column()),
            reason: without_position(&text, at.line(), at.column()),
        },
        None => Fault { line: Some(document_line), column: None, reason: text },
    }
}

fn without_position(text: &str, line: usize, column: usize) -> String {
    text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(text: &str) -> Vec<(usize, Value)> {
        yaml(text)
            .into_iter()
            .map(|document| document.unwrap())
            .map(|document| (document.line, document.value))
            .collect()
    }

    #[test]
    fn documents_carry_the_line_their_content_begins_at() {
        let text = "# a comment\n---\n\na: 1\n---\n# only a comment\n---\nb: 2\n--- # why\nc: 3\n";
        assert_eq!(lines(text), [(4, json!({"a": 1})), (8, json!({"b": 2})), (10, json!({"c": 3}))]);
    }

    #[test]
    fn a_separator_inside_a_value_is_no_separator() {
        assert_eq!(lines("a: |\n  x\n  ---\n  y\n"), [(1, json!({"a": "x\n---\ny\n"}))]);
        assert_eq!(lines("a: ---b\n"), [(1, json!({"a": "---b"}))]);
    }

    #[test]
    fn directives_ends_of_documents_windows_lines_and_byte_order_marks_are_understood() {
        assert_eq!(lines("\u{feff}%YAML 1.2\n---\na: 1\n...\n"), [(3, json!({"a": 1}))]);
        assert_eq!(lines("a: 1\r\n---\r\nb: 2\r\n"), [(1, json!({"a": 1})), (3, json!({"b": 2}))]);
        assert_eq!(lines("a: 1\n...\n---\nb: 2"), [(1, json!({"a": 1})), (4, json!({"b": 2}))]);
        assert_eq!(lines(""), []);
        assert_eq!(lines("# nothing\n---\n"), []);
    }

    #[test]
    fn merge_keys_are_resolved() {
        assert_eq!(
            lines("base: &b {x: 1}\nc:\n  <<: *b\n  y: 2\n"),
            [(1, json!({"base": {"x": 1}, "c": {"y": 2, "x": 1}}))]
        );
    }

    #[test]
    fn a_fault_names_its_line_in_the_whole_file_and_hides_no_other_document() {
        let documents = yaml("a: 1\n---\nb: 2\nc: [1\n---\nd: 4\n");
        assert_eq!(documents.len(), 3);
        let fault = documents[1].as_ref().unwrap_err();
        assert!(matches!(fault.line, Some(4 | 5)), "{fault:?}");
        assert!(!fault.reason.contains("line 2 "), "{fault:?}");
        assert_eq!(documents[2].as_ref().unwrap().line, 6);
    }

    #[test]
    fn a_key_that_stands_twice_is_a_fault() {
        let documents = yaml("---\na: 1\n---\nb: 1\nb: 2\n");
        let fault = documents[1].as_ref().unwrap_err();
        assert!(matches!(fault.line, Some(4 | 5)) && fault.reason.contains("duplicate"), "{fault:?}");
    }

    #[test]
    fn json_documents_may_follow_one_another() {
        let documents: Vec<Document> = json("{\"a\": 1}\n\n{\"b\":\n2}\n").into_iter().map(Result::unwrap).collect();
        assert_eq!(
            documents,
            [Document { line: 1, value: json!({"a": 1}) }, Document { line: 3, value: json!({"b": 2}) }]
        );
    }

    #[test]
    fn a_fault_in_json_names_line_and_column() {
        let documents = json("{\"a\": 1}\n{\"b\": }\n");
        assert_eq!(documents[1], Err(Fault { line: Some(2), column: Some(7), reason: "expected value".into() }));
    }
}
