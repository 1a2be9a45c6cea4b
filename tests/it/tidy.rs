//! The architecture as a test: layers use only lower layers, every file says what it is and stays short, only one layer knows
//! the graph library, and the pure parts read no clock.

use std::{
    fs,
    path::{Path, PathBuf},
};

const MAX_FILE_LINES: usize = 400;

/// Layers from the lowest to the highest; a file may use only layers before its own.
const LAYERS: [&[&str]; 11] = [
    &["types"],
    &["observe"],
    &["spec"],
    &["engine"],
    &["scheduler"],
    &["registry"],
    &["compose"],
    &["gateway"],
    &["protocol"],
    &["transport"],
    &["app", "cli", "shutdown", "main"],
];

/// Layers that may use less than everything below them.
const NARROW: [(&str, &[&str]); 3] =
    [("spec", &["types"]), ("engine", &["types", "observe"]), ("protocol", &["types"])];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    rust_files(&root().join(folder), &mut files);
    files.sort();
    assert!(!files.is_empty(), "{folder} has no Rust files");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    files.into_iter().map(read).collect()
}

fn layer_of(file: &str) -> Option<(usize, &'static str)> {
    let inside = file.strip_prefix("src/")?;
    let name = inside.split(['/', '.']).next()?;
    let at = LAYERS.iter().position(|layer| layer.contains(&name))?;
    LAYERS[at].iter().find(|known| **known == name).map(|known| (at, *known))
}

/// Layers named by `crate::…` paths and by `use crate::{…}` groups of a file, outside comments.
fn used_layers(text: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    let mut group = false;
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        for part in code.split("crate::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            used.push((number + 1, name));
        }
        if group && let Some(item) = code.strip_prefix("    ").filter(|item| !item.starts_with(' ')) {
            used.push((number + 1, item.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()));
        }
        let trimmed = code.trim_end();
        group = (group && !trimmed.starts_with('}')) || trimmed.ends_with("use crate::{");
    }
    used
}

#[test]
fn layers_use_only_lower_layers() {
    let mut wrong = Vec::new();
    for (file, text) in sources("src") {
        let Some((level, own)) = layer_of(&file) else {
            assert_eq!(file, "src/lib.rs", "{file} belongs to no layer");
            continue;
        };
        let narrow = NARROW.iter().find(|(layer, _)| *layer == own).map(|(_, allowed)| *allowed);
        for (line, used) in used_layers(&text) {
            let Some(at) = LAYERS.iter().position(|layer| layer.contains(&used.as_str())) else { continue };
            let allowed = used == own || narrow.map_or(at <= level, |allowed| allowed.contains(&used.as_str()));
            if !allowed {
                wrong.push(format!("{file}:{line}: {own} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for folder in ["src", "kernels", "tests", "benches", "loadtest"] {
        for (file, text) in sources(folder) {
            if !text.starts_with("//! ") {
                wrong.push(format!("{file}: expected a //! header that says what it is and who uses it"));
            }
            let lines = text.lines().count();
            if lines > MAX_FILE_LINES {
                wrong.push(format!("{file}: expected at most {MAX_FILE_LINES} lines, got {lines}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_engine_names_the_graph_library() {
    for (file, text) in sources("src") {
        let names_it =
            text.lines().map(|line| line.split("//").next().unwrap_or("")).any(|code| code.contains("tract_onnx::"));
        assert!(!names_it || file.starts_with("src/engine/"), "{file} names tract");
    }
}

/// The path of a crate with a name that other names end in.
#[test]
fn only_one_engine_names_the_other_library() {
    let names = |code: &str| {
        let mut before = code.match_indices("ort::").map(|(at, _)| code[..at].chars().next_back());
        before.any(|c| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_'))
    };
    assert!(names("use ort::session::Session;") && !names("use crate::transport::http;"));
    let mut found = 0;
    for (file, text) in sources("src") {
        let names_it = text.lines().map(|line| line.split("//").next().unwrap_or("")).any(names);
        assert!(!names_it || file.starts_with("src/engine/onnxruntime/"), "{file} names ort");
        found += usize::from(names_it);
    }
    assert!(found > 0, "nothing names ort any more");
}

#[test]
fn below_the_protocol_nobody_knows_a_wire_format() {
    for (file, text) in
        sources("src").into_iter().filter(|(file, _)| layer_of(file).is_some_and(|(level, _)| level < 8))
    {
        for word in ["tonic::", "hyper::", "axum::", "http::", "StatusCode"] {
            let uses = text.lines().map(|line| line.split("//").next().unwrap_or("")).any(|code| code.contains(word));
            assert!(!uses, "{file} uses {word}");
        }
    }
}

#[test]
fn pure_parts_take_time_and_chance_as_arguments() {
    let pure = [
        "src/scheduler/queue.rs",
        "src/scheduler/policy.rs",
        "src/scheduler/ledger.rs",
        "src/registry/policy.rs",
        "src/compose/assign.rs",
        "src/compose/budget.rs",
        "src/compose/calibrate.rs",
        "src/compose/combine.rs",
        "src/compose/difference.rs",
        "src/compose/fit.rs",
        "src/compose/gate.rs",
        "src/compose/rows.rs",
    ];
    assert!(pure.iter().all(|file| root().join(file).is_file()), "a pure file has another name now");
    let is_pure = |file: &str| pure.contains(&file);
    for (file, text) in sources("src").into_iter().filter(|(file, _)| is_pure(file)) {
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        assert!(!code.contains("Instant::now") && !code.contains("SystemTime::now"), "{file} reads a clock");
    }
}

#[test]
fn the_text_speaks_of_the_project_alone() {
    let mut files: Vec<(String, String)> =
        ["src", "kernels", "tests", "benches", "loadtest"].into_iter().flat_map(sources).collect();
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml", "docker-compose.yml"] {
        files.push((name.to_owned(), fs::read_to_string(root().join(name)).unwrap_or_default()));
    }
    for (file, text) in files.iter().filter(|(file, _)| !file.ends_with("tidy.rs")) {
        for (number, line) in text.lines().enumerate() {
            let unfinished =
                ["TODO", "FIXME", "XXX", "unimplemented!(", "todo!("].iter().find(|word| line.contains(**word));
            assert!(unfinished.is_none(), "{file}:{}: {}", number + 1, unfinished.unwrap());
        }
    }
}

/// A test file that the binary does not name is not compiled, and nobody misses its tests.
#[test]
fn every_test_file_is_in_the_binary() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(name == "main" || main.contains(&format!("\nmod {name};")), "tests/it/main.rs has no mod {name}");
    }
}
