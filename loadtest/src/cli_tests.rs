//! What the command line accepts, and that the documents only name what it accepts.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("weir-loadtest").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn caps_hold() {
    let target = "--url http://127.0.0.1:1 --model m";
    assert!(parse(&format!("{target} --concurrency 64 --rows 8")).is_ok());
    for beyond in [
        "--concurrency 16385",
        "--requests 1000000001",
        "--mode open --rate 1e7",
        "--rounds 101",
        "--slices 401",
        "--variants 65537",
        "--duration 2h",
        "--timeout-ms 3600001",
    ] {
        assert!(parse(&format!("{target} {beyond}")).is_err(), "{beyond}");
    }
}

#[test]
fn a_run_needs_a_target_and_an_open_one_a_rate() {
    assert!(parse("").is_err());
    assert!(parse("--url http://127.0.0.1:1").is_err());
    assert!(parse("--scenario s.toml").is_ok());
    assert!(parse("--url http://127.0.0.1:1 --model m --mode open").is_err());
    assert!(parse("--url http://127.0.0.1:1 --model m --golden g.json --input x:FP32:1").is_err());
    assert!(parse("--url http://127.0.0.1:1 --model m --cancel-share 0.5").is_err());
    assert!(parse("--url http://127.0.0.1:1 --model m --find-capacity --vs http://127.0.0.1:2").is_err());
}

#[test]
fn echo_servers_have_a_long_and_a_short_name() {
    let commands = ["echo-grpc --port 0", "echo grpc --port 0"].map(|line| parse(line).unwrap().command);
    assert!(matches!(&commands, [Some(Command::EchoGrpc(_)), Some(Command::Echo(EchoKind::Grpc(_)))]));
}

/// Commands in documents: every line of a fenced block that begins with the program's name, continuations joined.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.trim().trim_start_matches("$ "));
    let lines = lines.map(|line| line.split(" # ").next().unwrap_or("").trim_end_matches('&').trim());
    let ours = lines.filter_map(|line| {
        let at = line.find("weir-loadtest ")?;
        let before = &line[..at];
        let starts = before.is_empty() || before.ends_with('/') || before.starts_with("taskset ");
        starts.then(|| line[at..].to_owned())
    });
    ours.filter(|line| !line.starts_with("weir-loadtest …") && !line.contains('|')).collect()
}

#[test]
fn commands_in_the_documents_are_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for document in ["README.md", "../README.md", "../docs/performance.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for line in commands(&text) {
            let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{document}: {line}: {}", parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen} commands found");
}
