//! The `weir` command as a program: its help, its exit codes, what it says about wrong arguments and files.

mod calibrate;
mod client;
mod docs;
mod serve;
mod split;

use std::{
    path::Path,
    process::{Command, Output},
};

/// Runs `weir` in a folder, with nothing of this process's own settings in its environment.
fn weir(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WEIR_")) {
        command.env_remove(name);
    }
    command.env("WEIR_ONNXRUNTIME_LIB", "off");
    command.current_dir(folder).args(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// Exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    texts(&weir(folder, arguments, &[]))
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_goes_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = run(folder.path(), &["--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("serve") && out.contains("completions"), "{out}");
    let (code, out, _) = run(folder.path(), &["serve", "--help"]);
    assert_eq!(code, 0);
    for part in ["[REGISTRY]", "[default: ./models] [env: WEIR_REGISTRY]", "--http-port <PORT>", "WEIR_CONFIG"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    let (code, out, _) = run(folder.path(), &["--version"]);
    assert_eq!((code, out), (0, format!("weir {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_arguments_are_code_2_and_name_the_flag() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&[] as &[&str], "Usage: weir"),
        (&["swim"], "unrecognized subcommand 'swim'"),
        (&["serve", "--http-port", "70000"], "invalid value '70000' for '--http-port <PORT>'"),
        (&["serve", "--max-body-bytes", "1GB"], "expected an integer from 1 to 1125899906842624"),
        (&["serve", "--http-prot", "1"], "a similar argument exists: '--http-port'"),
        (&["serve", "--strict-readiness=maybe"], "expected true, false, 1 or 0"),
        (&["serve", "--watch", "on"], "[possible values: auto, poll, off]"),
        (&["serve", "--log-level", "inof"], "got 'inof'"),
        (&["serve", "--config", "absent.toml"], "error: absent.toml: "),
        (&["serve", "--ops-host", "0.0.0.0"], "--ops-token-file"),
        (&["serve", "--host", "0.0.0.0", "--model-control", "explicit"], "--insecure-data-control"),
        (
            &["serve", "absent", "--http-port=0", "--grpc-port=0", "--ops-port=0"],
            "error: registry absent: No such file",
        ),
        (
            &["serve", "--ready-file=absent/x", "--http-port=0", "--grpc-port=0", "--ops-port=0"],
            "error: --ready-file 'absent/x': No such file",
        ),
        (&["completions", "fax"], "invalid value 'fax'"),
    ] {
        let (code, out, err) = run(folder.path(), arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
        assert!(!err.contains('\u{1b}'), "no colours into a pipe: {err}");
    }
}

#[test]
fn a_wrong_weir_toml_is_code_2_with_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weir.toml"), "http-port = 1\nworkers = 'all'\n").unwrap();
    let (code, _, err) = texts(&weir(folder.path(), &["serve"], &[("WEIR_WATCH", "on")]));
    assert_eq!(code, 2);
    assert_eq!(
        err,
        "error: environment: WEIR_WATCH: expected one of auto, poll, off, got 'on'\n\
         error: weir.toml: line 1, column 1: http-port: unknown key, did you mean 'http_port'?\n\
         error: weir.toml: line 2, column 11: workers: expected an integer from 0 to 1024, got 'all'\n"
    );
}

#[test]
fn completions_know_the_flags() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, err) = run(folder.path(), &["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        assert!(out.contains("strict-readiness"), "{shell}");
    }
}

/// The demo registry's model that is pushed around.
fn digits(file: &str) -> String {
    format!("{}/models/digits-linear/1/{file}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn push_publishes_whole_versions() {
    let folder = tempfile::tempdir().unwrap();
    let (model, golden) = (digits("model.onnx"), digits("golden.json"));
    for registry in ["r", "s"] {
        std::fs::create_dir(folder.path().join(registry)).unwrap();
    }
    let (code, out, err) = run(folder.path(), &["push", "digits", &model, "--registry", "r", "--golden", &golden]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("published digits version 1: r/digits/1\n\nFILE         BYTES"), "{out}");
    assert!(folder.path().join("r/digits/1/manifest.json").is_file());
    assert_eq!(std::fs::read(folder.path().join("r/digits/1/golden.json")).unwrap(), std::fs::read(&golden).unwrap());

    // The registry that serve would take here, from the file, then from the environment; the next number; JSON.
    std::fs::write(folder.path().join("weir.toml"), "registry = 'r'").unwrap();
    let (code, out, _) = run(folder.path(), &["push", "digits", &model, "--output=json"]);
    assert_eq!(code, 0);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((out["version"].as_u64(), out["folder"].as_str()), (Some(2), Some("r/digits/2")));
    assert_eq!(out["files"][0]["name"], "model.onnx");
    let output = weir(folder.path(), &["push", "digits", &model], &[("WEIR_REGISTRY", "s")]);
    assert_eq!(texts(&output).0, 0);
    assert!(folder.path().join("s/digits/1/model.onnx").is_file());

    let (code, _, err) = run(folder.path(), &["push", "digits", &model, "--version", "2"]);
    assert_eq!((code, err.as_str()), (1, "error: model 'digits' version 2: exists already\n"));
}

#[test]
fn push_refuses_what_could_not_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("golden.json", "{\"cases\": 3}");
    write("models/broken/model.toml", "verions = 'all'");
    write("models/triton/config.pbtxt", "platform: \"onnxruntime_onnx\"\ndefault_model_filename: \"net.onnx\"\n");
    let model = digits("model.onnx");
    for (arguments, code, part) in [
        (&["push", "digits", &model, "--golden", "golden.json"] as &[&str], 1, "golden.json: line 1, column 11: "),
        (&["push", "broken", &model], 1, "model 'broken': model.toml: line 1, column 1: verions: unknown key"),
        (&["push", "digits", "absent.onnx"], 1, "absent.onnx"),
        (&["push", "digits", &model, "--registry", "modles"], 2, "registry modles: No such file or directory"),
        (&["push", "a/b", &model], 2, "invalid value 'a/b' for '<MODEL>'"),
        (&["push", "digits", &model, "--version", "01"], 2, "expected a positive integer"),
        (&["push", "digits", &model, "--output", "yaml"], 2, "for '--output <FORMAT>'"),
    ] {
        let (got, out, err) = run(folder.path(), arguments);
        assert_eq!((got, out.as_str()), (code, ""), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
    assert!(!folder.path().join("models/digits").exists(), "nothing was left behind");
    assert!(!folder.path().join("modles").exists(), "a registry is not made by a slip");
    let output = weir(folder.path(), &["push", "digits", &model], &[("WEIR_OUTPUT", "yaml")]);
    assert!(texts(&output).2.contains("for 'the environment variable WEIR_OUTPUT'"), "{}", texts(&output).2);
    let (code, _, err) = run(folder.path(), &["push", "triton", &model]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(folder.path().join("models/triton/1/net.onnx").is_file(), "the name that the configuration gives");
}
