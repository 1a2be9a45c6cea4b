//! Holds `docs/configuration.md` and `docs/routes.md` to what the readers do: their examples are read, every key is explained,
//! and the files of the demo registry are good.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    config_pbtxt::parse_config_pbtxt, golden_json::parse_golden_json, manifest_json::parse_manifest_json, model_toml,
    parse_model_toml, parse_route_toml, pbtxt_raw, route_keys::Kind, route_to_toml, weir_toml,
};
use crate::types::ModelSpec;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

fn routes_page() -> String {
    fs::read_to_string(root().join("docs/routes.md")).unwrap()
}

/// A section of a page: from its `## ` heading to the next one.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let mut sections = page.split("\n## ");
    sections.find(|section| section.lines().next() == Some(heading)).unwrap_or_else(|| panic!("no section {heading}"))
}

/// What the rows of a section's tables begin with: the texts in backticks of the first column.
fn explained(section: &str) -> Vec<&str> {
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

/// The code blocks of the page: language and text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    page.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

#[test]
fn examples_are_good() {
    let page = page();
    let mut seen = Vec::new();
    for (language, text) in blocks(&page) {
        let kind = match language {
            "toml" => text.lines().next().unwrap(),
            "json" if text.contains("\"cases\"") => "golden",
            "json" => "manifest",
            other => other,
        };
        let problems = match kind {
            "# model.toml" => parse_model_toml(text).err(),
            "# weir.toml" => weir_toml::parse_weir_toml(text).err(),
            "pbtxt" => parse_config_pbtxt(text, "fraud").err(),
            "golden" => parse_golden_json(text).err(),
            "manifest" => parse_manifest_json(text).err(),
            "text" => None,
            other => panic!("a block that nobody reads: {other}"),
        };
        assert_eq!(problems, None, "{text}");
        seen.push(kind);
    }
    seen.sort_unstable();
    assert_eq!(seen, ["# model.toml", "# model.toml", "# weir.toml", "golden", "manifest", "pbtxt", "text"]);
}

#[test]
fn the_first_example_is_the_default() {
    let page = page();
    let (_, text) = blocks(&page).into_iter().find(|(language, _)| *language == "toml").unwrap();
    assert_eq!(parse_model_toml(text), Ok(ModelSpec::default()));
    for key in model_toml::KEYS.iter().filter(|key| !key.starts_with("score.")) {
        let leaf = key.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("\n{leaf} = ")), "{key}");
    }
}

#[test]
fn every_key_is_explained() {
    let page = page();
    for key in model_toml::KEYS.iter().chain(weir_toml::KEYS) {
        assert!(page.contains(&format!("\n| `{key}` | ")), "{key} has no row");
    }
    let pbtxt = page.split("\n## ").find(|section| section.starts_with("config.pbtxt")).unwrap();
    for field in pbtxt_raw::field_names() {
        let named = [format!("`{field}`"), format!("`{field}."), format!("`{field} ")];
        assert!(named.iter().any(|name| pbtxt.contains(name)), "{field} is not mentioned");
    }
}

#[test]
fn routes_have_one_good_example_per_kind() {
    let page = routes_page();
    for (word, _) in Kind::WORDS {
        let blocks = blocks(section(&page, word));
        let [("toml", text)] = blocks[..] else { panic!("{word}: {blocks:?}") };
        let route = parse_route_toml(text).unwrap_or_else(|problems| panic!("{word}: {problems:?}"));
        assert_eq!(route.kind.as_str(), word);
        assert_eq!(route_to_toml(&route), format!("{}\n", text.trim_end()), "the example is in the canonical form");
    }
    assert_eq!(blocks(&page).iter().filter(|(language, _)| *language == "toml").count(), Kind::WORDS.len());
}

#[test]
fn every_key_of_a_route_is_explained_where_it_belongs() {
    let page = routes_page();
    let shared = explained(section(&page, "Every kind"));
    assert_eq!(shared, ["kind", "outputs"]);
    for (word, kind) in Kind::WORDS {
        let (before, own) = kind.keys().split_at(shared.len());
        assert_eq!(before, shared);
        let rows = explained(section(&page, word));
        assert_eq!(&rows[..own.len().min(rows.len())], own, "{word}");
    }
}

#[test]
fn the_problems_shown_are_real() {
    let page = routes_page();
    let variant = |name: &str| format!("[[variant]]\nname = '{name}'\nmodel = 'm'\nweight = 1\n");
    let text = format!("kind = 'split'\n{}{}versoin = 2\n\n[[stage]]\n", variant("a"), variant("b"));
    let problems: Vec<_> = parse_route_toml(&text).unwrap_err().iter().map(ToString::to_string).collect();
    let shown: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("checkout/route.toml: ")).collect();
    assert_eq!(shown, problems);
}

/// Every file of that name in the demo registry.
fn demo_files(name: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("models")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|file| file == name) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no {name} in the demo registry");
    found
}

#[test]
fn the_demo_registry_is_good() {
    for (path, text) in demo_files("golden.json") {
        assert!(!parse_golden_json(&text).unwrap_or_else(|problems| panic!("{path:?}: {problems:?}")).is_empty());
    }
    for (path, text) in demo_files("manifest.json") {
        assert_eq!(parse_manifest_json(&text).err(), None, "{path:?}");
    }
    for (path, text) in demo_files("route.toml") {
        assert_eq!(parse_route_toml(&text).err(), None, "{path:?}");
    }
    for (path, text) in demo_files("model.toml") {
        assert_eq!(parse_model_toml(&text).err(), None, "{path:?}");
    }
}
