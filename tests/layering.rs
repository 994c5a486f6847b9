//! Holds the code to its layout: which room may know what, how large files and functions may be, how files begin.
//!
//! Reads `src/**/*.rs` as text. Each rule names every place that breaks it.

#[path = "layering/source.rs"]
mod source;

use source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// Files and folders (with everything below) that know no runtime, no client, no clock, no log and no chance.
const PURE: &[&str] = &[
    "apisix",
    "cluster/certificates",
    "cluster/convert",
    "cluster/decode",
    "cluster/kinds",
    "cluster/manifests",
    "cluster/wire",
    "cluster/yaml",
    "command/translate",
    "config",
    "model",
    "plan",
    "proto",
    "readiness",
    "reconcile/holds",
    "reconcile/kind_guard",
    "show/checkpoint",
    "show/overview",
    "show/table",
    "status/conditions",
    "status/fields",
    "status/merge",
    "status/print",
    "status/reasons",
    "store/audit",
    "store/checkpoint",
    "store/lanes",
    "store/memory/state",
    "store/mirror",
    "store/txn",
    "translate",
];

/// What nothing pure mentions.
const IMPURE: &[&str] =
    &["tokio", "etcd_client", "tracing", "clock", "SystemTime", "rand", "getrandom", "fastrand", "Client", "thread"];

/// Who may mention which crate; everybody may mention the others.
const CRATES: &[(&str, &[&str])] = &[
    ("kube", &["app", "cluster", "status/events/writer", "status/writer"]),
    ("k8s_openapi", &["app", "cluster", "status/events/writer", "status/writer"]),
    ("gateway_api", &["cluster", "status/writer"]),
    ("etcd_client", &["store/etcd"]),
    ("prost", &["store/checkpoint"]),
    ("axum", &["admin"]),
    ("notify", &["cluster/folder"]),
    ("clap", &["config/args", "main"]),
    ("comfy_table", &["show/table"]),
    ("backoff", &["retry"]),
    ("tracing_subscriber", &["config/settings", "telemetry"]),
    ("anyhow", &["app", "command/run"]),
    ("rustls", &["apisix/check/certificates", "app", "cluster/certificates", "store/etcd"]),
    ("x509_parser", &["cluster/certificates"]),
];

/// Fields and values of APISIX's documents that are nothing else's, as names or inside texts.
const APISIX_NAMES: &[&str] =
    &["server_port", "server_addr", "remote_addr", "upstream_id", "weighted_upstreams", "roundrobin", "init_dir"];

/// Fields of APISIX's documents whose words are also names of our own: only texts of exactly this are theirs.
const APISIX_WORDS: &[&str] =
    &["desc", "retries", "nodes", "upstream", "plugins", "traffic-split", "scheme", "sni", "snis"];

/// What each room may know of the crate, besides itself. Not here: `command`, which knows everyone, `app`, which knows
/// everyone but `command`, and `main`.
const ARROWS: &[(&str, &[&str])] = &[
    ("admin", &["metrics", "readiness"]),
    ("apisix", &["model"]),
    ("clock", &[]),
    ("cluster", &["clock", "model", "retry", "status"]),
    ("config", &["apisix", "model", "translate"]),
    ("leader", &["clock", "retry", "store"]),
    ("metrics", &["apisix"]),
    ("model", &[]),
    ("plan", &["apisix", "model", "store", "translate"]),
    ("proto", &[]),
    ("readiness", &[]),
    ("replica", &["cluster", "leader", "reconcile", "status", "store", "translate"]),
    ("reconcile", &["apisix", "clock", "cluster", "leader", "model", "plan", "retry", "status", "store", "translate"]),
    ("retry", &[]),
    ("show", &["apisix", "model", "status", "store", "translate"]),
    ("status", &["clock", "model", "retry"]),
    ("store", &["apisix", "clock", "model", "proto", "retry"]),
    ("telemetry", &["cluster", "config"]),
    ("translate", &["apisix", "model"]),
];

/// Lines of a file, its tests left out.
const FILE_LINES_MAX: usize = 400;

/// Lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// `place` is `room`, or in it.
fn is_in(place: &str, room: &str) -> bool {
    place.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[track_caller]
fn none(broken: &BTreeSet<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.iter().map(String::as_str).collect::<Vec<_>>().join("\n"));
}

#[test]
fn pure_rooms_know_no_runtime_no_client_no_clock_and_no_log() {
    let mut broken = BTreeSet::new();
    for source in source::all().iter().filter(|source| PURE.iter().any(|room| is_in(&source.place, room))) {
        for word in IMPURE.iter().filter(|word| source.words().contains(*word)) {
            broken.insert(format!("{} mentions {word}", source.path));
        }
        if source.code.contains("Instant::now") {
            broken.insert(format!("{} reads a clock", source.path));
        }
    }
    none(&broken);
}

#[test]
fn every_pure_room_exists() {
    let sources = source::all();
    let missing = PURE.iter().filter(|room| !sources.iter().any(|source| is_in(&source.place, room)));
    none(&missing.map(|room| format!("there is no src/{room}")).collect());
}

#[test]
fn client_libraries_stop_at_their_boundary() {
    let mut broken = BTreeSet::new();
    for source in source::all() {
        let words = source.words();
        for (name, rooms) in CRATES {
            if words.contains(name) && !rooms.iter().any(|room| is_in(&source.place, room)) {
                broken.insert(format!("{} mentions {name}", source.path));
            }
        }
    }
    none(&broken);
}

#[test]
fn fields_of_apisix_stop_in_its_room() {
    let mut broken = BTreeSet::new();
    for source in source::all().iter().filter(|source| !is_in(&source.place, "apisix")) {
        let words = source.words();
        for name in APISIX_NAMES {
            if words.contains(name) || source.texts.iter().any(|text| text.contains(name)) {
                broken.insert(format!("{} mentions {name}", source.path));
            }
        }
        for word in APISIX_WORDS.iter().filter(|word| source.texts.iter().any(|text| text == *word)) {
            broken.insert(format!("{} mentions \"{word}\"", source.path));
        }
    }
    none(&broken);
}

#[test]
fn rooms_know_only_whom_they_may() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut broken = BTreeSet::new();
    for source in source::all() {
        let room = source.place.split('/').next().unwrap();
        if room == "app" && source.rooms_known().contains("command") {
            broken.insert(format!("{} knows command", source.path));
        }
        if matches!(room, "app" | "command" | "lib" | "main") {
            continue;
        }
        let Some(known) = arrows.get(room) else {
            broken.insert(format!("{} is in no room of this test's list", source.path));
            continue;
        };
        for other in source.rooms_known().iter().filter(|other| **other != room && !known.contains(other)) {
            broken.insert(format!("{} knows {other}", source.path));
        }
    }
    none(&broken);
}

#[test]
fn no_arrow_is_allowed_that_nobody_needs() {
    let sources = source::all();
    let mut unused = BTreeSet::new();
    for (room, known) in ARROWS {
        let of_room: Vec<_> = sources.iter().filter(|source| is_in(&source.place, room)).collect();
        for other in known.iter().filter(|other| !of_room.iter().any(|source| source.rooms_known().contains(*other))) {
            unused.insert(format!("nothing in {room} knows {other}"));
        }
    }
    none(&unused);
}

#[test]
fn files_and_functions_fit_on_what_one_reads_at_a_time() {
    let mut broken = BTreeSet::new();
    for source in source::all() {
        let lines = source.code.lines().count();
        if lines > FILE_LINES_MAX {
            broken.insert(format!("{} has {lines} lines without its tests", source.path));
        }
        for (name, lines) in source.functions().into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            broken.insert(format!("{}: fn {name} has {lines} lines", source.path));
        }
    }
    none(&broken);
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent = source::all().into_iter().filter(|source| !source.text.starts_with("//! "));
    none(&silent.map(|source| format!("{} does not begin with //!", source.path)).collect());
}

#[test]
fn folders_stand_beside_files_of_their_name() {
    let old = source::all().into_iter().filter(|source| source.path.ends_with("/mod.rs"));
    none(&old.map(|source| format!("{} should stand beside its folder", source.path)).collect());
}

#[test]
fn imports_are_one_block_with_one_use_for_each_crate() {
    let mut broken = BTreeSet::new();
    for source in source::all() {
        let uses = source.uses();
        for (earlier, later) in uses.iter().zip(uses.iter().skip(1)) {
            // What is handed on may stand apart from what is used.
            if later.public == earlier.public && later.first_line != earlier.last_line + 1 {
                broken.insert(format!("{}:{}: imports are parted", source.path, later.first_line));
            }
        }
        let mut roots = BTreeSet::new();
        for import in uses.iter().filter(|import| !roots.insert((&import.root, import.public))) {
            broken.insert(format!("{}:{}: a second use of {}", source.path, import.first_line, import.root));
        }
    }
    none(&broken);
}

/// What the rules above rest on: what is code, what is text, and where things begin and end.
mod reading {
    use super::*;

    #[test]
    fn comments_texts_and_tests_are_told_from_code() {
        let source = Source::of(
            "src/a/b.rs",
            "//! tokio\nuse x; // kube\n/* a /* b */ c */ let s = \"etcd_client // \\\" no\"; let c = '\"';\n\
             let r = r#\"raw \" text\"#; fn f<'a>() {}\n#[cfg(test)]\nmod tests { use clock; }\n",
        );
        assert_eq!(source.place, "a/b");
        let words = source.words();
        assert!(words.contains("use") && words.contains("s") && words.contains("a"), "{words:?}");
        for word in ["tokio", "kube", "etcd_client", "b", "no", "raw", "tests", "clock"] {
            assert!(!words.contains(word), "{word}");
        }
        assert_eq!(source.texts, ["etcd_client // \\\" no", "raw \" text"]);
    }

    #[test]
    fn a_single_test_item_does_not_hide_the_code_after_it() {
        let source = Source::of("src/a.rs", "//! x\n#[cfg(test)]\nuse tokio;\nuse kube;\n");
        assert!(source.words().contains("kube") && !source.words().contains("tokio"));
    }

    #[test]
    fn rooms_are_found_in_every_form_of_path() {
        let source = Source::of("src/a.rs", "use crate::{b::{c, d}, e};\nuse crate::f;\nfn x() { crate::g::h() }\n");
        assert_eq!(source.rooms_known(), ["b", "e", "f", "g"].into());
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let source = Source::of("src/a.rs", "fn a() {\n  {\n  }\n}\ntrait T { fn b(); }\nimpl T { fn c() {} }\n");
        assert_eq!(source.functions(), [("a".to_owned(), 4), ("c".to_owned(), 1)]);
    }

    #[test]
    fn imports_are_found_with_their_lines() {
        let source = Source::of("src/a.rs", "//! x\n\nuse a::{\n  b,\n};\npub use c::d;\nfn f() { use e; }\n");
        let uses: Vec<_> = source.uses().into_iter().map(|u| (u.root, u.public, u.first_line, u.last_line)).collect();
        assert_eq!(uses, [("a".to_owned(), false, 3, 5), ("c".to_owned(), true, 6, 6)]);
    }
}
