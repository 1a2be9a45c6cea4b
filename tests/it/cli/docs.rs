//! Holds `docs/cli.md` to the command line: every command has a section, whose tables of arguments are made from the help: one
//! for itself or, where it has commands of its own, one for each of them.
//! `UPDATE_DOCS=1` writes the tables anew.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")
}

/// What a help text says in `[name: …]`, and the text without it.
fn take(help: &mut String, name: &str) -> String {
    let Some(start) = help.find(&format!(" [{name}: ")) else { return String::new() };
    let end = start + help[start..].find(']').unwrap();
    let value = help[start + name.len() + 4..end].to_owned();
    help.replace_range(start..=end, "");
    value
}

fn row(arg: &Arg) -> String {
    let mut help = arg.get_help().unwrap().to_string();
    let (mut default, variable) = (take(&mut help, "default"), take(&mut help, "env"));
    if let Some(value) = arg.get_default_values().first().filter(|_| default.is_empty()) {
        default = value.to_string_lossy().into_owned();
    }
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return format!("| `--{}` | | | {help} |\n", arg.get_long().unwrap());
    }
    let value = arg.get_value_names().and_then(|names| names.first()).unwrap();
    let required = arg.is_required_set();
    let argument = match arg.get_long() {
        Some(long) if arg.get_num_args().is_some_and(|range| range.min_values() == 0) => format!("--{long}[={value}]"),
        Some(long) => format!("--{long} {value}"),
        None if matches!(arg.get_action(), ArgAction::Append) => format!("<{value}>..."),
        None if required => format!("<{value}>"),
        None => format!("[{value}]"),
    };
    let words: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let is_flag = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    let words = if words.is_empty() || is_flag { String::new() } else { format!(": {}", words.join(", ")) };
    let code = |text: String| if text.is_empty() { text } else { format!("`{text}`") };
    // A default in words is no value.
    let default = if default.contains(' ') { default } else { code(default) };
    format!("| `{argument}` | {default} | {} | {help}{words} |\n", code(variable))
        .replace("|  |", "| |")
        .replace("|  |", "| |")
}

fn table(command: &Command) -> String {
    let rows = command.get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version_flag"));
    let rows: String = rows.map(row).collect();
    format!("| argument | default | environment | meaning |\n|---|---|---|---|\n{rows}")
}

/// The commands that have tables, by name: the command itself, or those that it consists of.
fn tables(command: &Command) -> Vec<(String, &Command)> {
    let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
    let inner: Vec<_> = inner.map(|inner| (format!("{} {}", command.get_name(), inner.get_name()), inner)).collect();
    if inner.is_empty() { vec![(command.get_name().to_owned(), command)] } else { inner }
}

#[test]
fn every_command_and_argument_is_documented() {
    let before = std::fs::read_to_string(path()).unwrap();
    let mut after = String::new();
    let mut rest = before.as_str();
    let command = weir::cli::command();
    let commands: Vec<&Command> = command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    for command in &commands {
        let mut section = format!("\n## weir {}\n", command.get_name());
        for (name, command) in tables(command) {
            let (start, end) = (format!("<!-- arguments of {name} -->\n"), "<!-- end -->\n");
            let Some((text, tail)) = rest.split_once(&start) else {
                panic!("no table for {name}, in the order of the help")
            };
            let (_, tail) = tail.split_once(end).unwrap();
            assert!(text.contains(&std::mem::take(&mut section)), "no section for {name}");
            after.push_str(&format!("{text}{start}{}{end}", table(command)));
            rest = tail;
        }
    }
    after.push_str(rest);
    assert_eq!(after.matches("\n## weir ").count(), commands.len(), "a section without command");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(), &after).unwrap();
    } else {
        assert!(before == after, "the tables are not the help's: run UPDATE_DOCS=1 cargo test cli::docs");
    }
}

#[test]
fn flags_in_the_text_exist() {
    let text = std::fs::read_to_string(path()).unwrap();
    let command = weir::cli::command();
    let known: Vec<String> = command
        .get_subcommands()
        .flat_map(tables)
        .flat_map(|(_, command)| command.get_arguments())
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .chain(["--help".to_owned(), "--version".to_owned()])
        .collect();
    let shell = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    for word in shell.flat_map(str::split_whitespace).filter(|word| word.starts_with("--")) {
        let flag = word.split('=').next().unwrap();
        assert!(known.iter().any(|known| known == flag), "{word}");
    }
}
