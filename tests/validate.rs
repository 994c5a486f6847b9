//! The command `validate` as a user meets it: a line for each line, exit statuses, files and standard input.

#![expect(clippy::unwrap_used, reason = "the helpers are parts of tests, too")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

/// How it ended: exit status, standard output, standard error.
struct Ended {
    status: i32,
    out: String,
    err: String,
}

fn validate(arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("APISIX_ETCD_CONTROLLER_")) {
        command.env_remove(name);
    }
    let mut child = command
        .arg("validate")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // One that ends without reading closes the pipe; that is not this test's matter.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn stream_routes(input: &[u8]) -> Ended {
    validate(&["--kind", "stream_route", "--apisix-version", "3.13.0"], input)
}

const GOOD: &str = r#"{"id":"a","server_port":9100,"upstream_id":"b"}"#;

#[test]
fn each_line_gets_a_line_in_order() {
    let input = format!("{GOOD}\n{{\"server_port\":0,\"upstream_id\":\"b\"}}\n{GOOD}\n");
    let Ended { status, out, err } = stream_routes(input.as_bytes());
    assert_eq!(out, "ok\nrefused: server_port: is 0, must be an integer from 1 to 65535\nok\n");
    assert_eq!((status, err.as_str()), (1, ""));
}

#[test]
fn all_good_documents_end_with_0_and_so_do_none() {
    let Ended { status, out, .. } = stream_routes(format!("{GOOD}\n{GOOD}\n").as_bytes());
    assert_eq!((status, out.as_str()), (0, "ok\nok\n"));
    let Ended { status, out, .. } = stream_routes(b"");
    assert_eq!((status, out.as_str()), (0, ""));
}

#[test]
fn a_last_line_needs_no_end_and_lines_may_end_as_on_windows() {
    let Ended { status, out, .. } = stream_routes(format!("{GOOD}\r\n{GOOD}").as_bytes());
    assert_eq!((status, out.as_str()), (0, "ok\nok\n"));
}

#[test]
fn lines_that_are_no_documents_are_lines_too() {
    let mut input = b"\n  \n\xff\xfe\n\0\nnull\n{\"id\":\n".to_vec();
    input.extend("[".repeat(50_000).into_bytes());
    input.push(b'\n');
    input.extend(GOOD.as_bytes());
    let Ended { status, out, .. } = stream_routes(&input);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((status, lines.len()), (1, 8), "{out}");
    assert!(lines[..7].iter().all(|line| line.starts_with("refused: ")), "{out}");
    assert_eq!(lines[7], "ok");
}

#[test]
fn a_file_is_read_where_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents.jsonl");
    fs::write(&path, format!("{GOOD}\n")).unwrap();
    let arguments = ["--kind", "stream_route", path.to_str().unwrap()];
    let Ended { status, out, .. } = validate(&arguments, b"not read\n");
    assert_eq!((status, out.as_str()), (0, "ok\n"));
    let Ended { status, out, .. } = validate(&["--kind", "stream_route", "-"], b"not JSON\n");
    assert_eq!((status, out.lines().count()), (1, 1));
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_what_would_do() {
    for path in ["no/such/file", env!("CARGO_MANIFEST_DIR")] {
        let Ended { status, out, err } = validate(&["--kind", "ssl", path], b"");
        assert_eq!((status, out.as_str()), (2, ""));
        assert!(err.starts_with("error: cannot read ") && err.contains(path), "{err}");
        assert!(err.contains("one a line, or leave it out to read standard input"), "{err}");
    }
}

#[test]
fn wrong_settings_end_with_2_and_say_what_would_do() {
    for (arguments, part) in [
        (&["--apisix-version", "3.13.0"][..], "--kind"),
        (&["--kind", "route"], "stream_route, upstream, ssl"),
        (&["--kind", "ssl", "--apisix-version", "3.1"], "3.2.2 and later"),
        (&["--kind", "ssl", "--apisix-version", "newest"], "3.13.0"),
    ] {
        let Ended { status, out, err } = validate(arguments, b"");
        assert_eq!((status, out.as_str()), (2, ""), "{err}");
        assert!(err.starts_with("error: ") && err.contains(part), "{err}");
    }
}

#[test]
fn help_shows_examples() {
    let Ended { status, out, .. } = validate(&["--help"], b"");
    assert_eq!(status, 0);
    assert!(out.contains("Examples:\n") && out.contains("apisix-etcd-controller validate --kind"), "{out}");
    assert!(out.contains("Ends with 0"), "{out}");
}

#[test]
fn every_release_of_the_table_can_be_named() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/validate.md")).unwrap();
    for version in ["3.2.2", "3.6.0", "3.8.0", "3.9.1", "3.14.0", "3.18.0", "3.19.0"] {
        let Ended { status, .. } = validate(&["--kind", "upstream", "--apisix-version", version], b"");
        assert_eq!(status, 0, "{version}");
    }
    assert!(table.contains("3.2.2"), "docs/validate.md says which releases are known");
}
