//! Where the options of `weir serve` come from: a flag wins over the environment, the environment over `weir.toml`, the file
//! over the default. Every wrong value of environment and file is reported at once, with its variable or its place.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::{Arg, Args as _, Command, FromArgMatches as _, error::ContextKind};

use super::{
    exit::Failure,
    flags::{self, ServeFlags},
    values::log_level,
};
use crate::{app::ServeOptions, spec::weir_toml::parse_weir_toml};

/// The file that is read when no other is named; it need not exist.
const DEFAULT_FILE: &str = "weir.toml";

/// What layering looks at besides the flags: the environment and files, or what a test puts in their place.
pub trait Surroundings {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<OsString>;
    /// The text of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The process's environment and the file system.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Puts the layers over each other. `config` is the `--config` flag.
///
/// # Errors
/// Every value of the environment and the file that is wrong, and a named file that cannot be read.
pub fn resolve(
    flags: ServeFlags,
    config: Option<PathBuf>,
    around: &impl Surroundings,
) -> Result<ServeOptions, Failure> {
    let mut problems = Vec::new();
    let environment = from_environment(around, &mut problems);
    let config = config.or_else(|| set(around, "WEIR_CONFIG").map(PathBuf::from));
    let file = from_file(config, around, &mut problems);
    if problems.is_empty() {
        Ok(flags.over(environment).over(file).into_options())
    } else {
        Err(Failure::usage(problems.join("\n")))
    }
}

/// The registry directory of a command that serves nothing: the one given, else the one that `weir serve` would take here.
///
/// # Errors
/// As [`resolve`], when none is given.
pub fn registry(given: Option<PathBuf>, around: &impl Surroundings) -> Result<PathBuf, Failure> {
    match given {
        Some(path) => Ok(path),
        None => resolve(ServeFlags::default(), None, around).map(|options| options.registry),
    }
}

/// The registry and the folder of routes of a command that serves nothing: those given, else those of `weir serve` here; routes
/// are in the registry unless something says otherwise.
///
/// # Errors
/// As [`resolve`], when one is not given.
pub fn folders(
    given: (Option<PathBuf>, Option<PathBuf>),
    around: &impl Surroundings,
) -> Result<(PathBuf, PathBuf), Failure> {
    if let (Some(registry), Some(routes)) = given {
        return Ok((registry, routes));
    }
    let served = resolve(ServeFlags::default(), None, around)?;
    let registry = given.0.unwrap_or(served.registry);
    let routes = given.1.or(served.routes).unwrap_or_else(|| registry.clone());
    Ok((registry, routes))
}

/// The ONNX Runtime library of a command that serves nothing: the one that `weir serve` would take here. What else is wrong with
/// the options is not this command's business.
pub fn onnxruntime_lib(around: &impl Surroundings) -> Option<PathBuf> {
    resolve(ServeFlags::default(), None, around).ok()?.onnxruntime_lib
}

/// A variable that is set to something: compose files turn an absent value into an empty one.
fn set(around: &impl Surroundings, name: &str) -> Option<OsString> {
    around.variable(name).filter(|value| !value.is_empty())
}

fn from_environment(around: &impl Surroundings, problems: &mut Vec<String>) -> ServeFlags {
    let mut layer = ServeFlags::default();
    for option in flags::options() {
        let variable = flags::variable(option.get_id().as_str());
        let Some(value) = set(around, &variable) else { continue };
        match parse_one(&option, value) {
            Ok(one) => layer = layer.over(one),
            Err(problem) => problems.push(format!("environment: {variable}: {problem}")),
        }
    }
    layer
}

/// Reads one value exactly as its flag does.
fn parse_one(option: &Arg, value: OsString) -> Result<ServeFlags, String> {
    let argument = match option.get_long() {
        Some(long) => {
            let mut argument = OsString::from(format!("--{long}="));
            argument.push(value);
            vec![argument]
        }
        None => vec!["--".into(), value],
    };
    let command = ServeFlags::augment_args(Command::new("weir").no_binary_name(true));
    let matches = command.try_get_matches_from(argument).map_err(|error| explain(&error))?;
    ServeFlags::from_arg_matches(&matches).map_err(|error| explain(&error))
}

/// What is wrong with a value, without the flag that the message of the command line would name.
fn explain(error: &clap::Error) -> String {
    let text = |kind| error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty());
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    if let Some(words) = text(ContextKind::ValidValue) {
        return format!("expected one of {words}, got '{value}'");
    }
    match std::error::Error::source(error) {
        Some(reason) => format!("invalid value '{value}': {reason}"),
        None => format!("invalid value '{value}'"),
    }
}

fn from_file(config: Option<PathBuf>, around: &impl Surroundings, problems: &mut Vec<String>) -> ServeFlags {
    let path = config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let text = match around.read(path) {
        Ok(text) => text,
        Err(error) if config.is_none() && error.kind() == io::ErrorKind::NotFound => return ServeFlags::default(),
        Err(error) => {
            problems.push(format!("{}: {error}", path.display()));
            return ServeFlags::default();
        }
    };
    let layer = match parse_weir_toml(&text) {
        Ok(file) => ServeFlags::from(file),
        Err(found) => {
            problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", path.display())));
            return ServeFlags::default();
        }
    };
    if let Some(problem) = layer.log_level.as_deref().and_then(|level| log_level(level).err()) {
        problems.push(format!("{}: log_level: {problem}", path.display()));
    }
    layer
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::*;
    use crate::app::{ModelControl, Watch};

    /// Variables and files by name.
    #[derive(Default)]
    struct Given {
        variables: HashMap<&'static str, &'static str>,
        files: HashMap<&'static str, &'static str>,
    }

    impl Surroundings for Given {
        fn variable(&self, name: &str) -> Option<OsString> {
            self.variables.get(name).map(OsString::from)
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            let text = path.to_str().and_then(|path| self.files.get(path));
            text.map(|text| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    fn given(variables: &[(&'static str, &'static str)], files: &[(&'static str, &'static str)]) -> Given {
        Given { variables: variables.iter().copied().collect(), files: files.iter().copied().collect() }
    }

    fn flags(arguments: &[&str]) -> ServeFlags {
        let command = ServeFlags::augment_args(Command::new("serve").no_binary_name(true));
        ServeFlags::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
    }

    fn problems(around: &Given) -> String {
        resolve(ServeFlags::default(), None, around).unwrap_err().text
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        const FILE: (&str, &str) = ("weir.toml", "http_port = 3\nstrict_readiness = true\n");
        const PORT: (&str, &str) = ("WEIR_HTTP_PORT", "2");
        for (arguments, variables, files, port) in [
            (&["--http-port=1"] as &[&str], &[PORT] as &[_], &[FILE] as &[_], 1),
            (&[], &[PORT], &[FILE], 2),
            (&[], &[], &[FILE], 3),
            (&[], &[("WEIR_HTTP_PORT", "")], &[FILE], 3),
            (&[], &[], &[], 8000),
            (&["--http-port", "0"], &[PORT], &[], 0),
        ] {
            let options = resolve(flags(arguments), None, &given(variables, files)).unwrap();
            assert_eq!(options.http_port, port, "{arguments:?} {variables:?} {files:?}");
            assert_eq!(options.strict_readiness, !files.is_empty(), "every key is layered by itself");
        }
    }

    #[test]
    fn every_layer_sets_every_key() {
        const VALUES: [(&str, &str, &str); 36] = [
            ("registry", "a/b", "'a/b'"),
            ("host", "::1", "'::1'"),
            ("http_port", "1", "1"),
            ("grpc_port", "2", "2"),
            ("ops_host", "0.0.0.0", "'0.0.0.0'"),
            ("ops_port", "3", "3"),
            ("routes", "r", "'r'"),
            ("workers", "4", "4"),
            ("io_threads", "5", "5"),
            ("poll_spin_us", "50", "50"),
            ("max_body_bytes", "6", "6"),
            ("max_request_rows", "7", "7"),
            ("max_connections", "8", "8"),
            ("max_inflight_bytes", "9", "9"),
            ("watch", "poll", "'poll'"),
            ("poll_interval_ms", "10", "10"),
            ("settle_ms", "11", "11"),
            ("model_control", "explicit", "'explicit'"),
            ("insecure_data_control", "1", "true"),
            ("strict_readiness", "true", "true"),
            ("drain_notice_ms", "12", "12"),
            ("drain_timeout_ms", "13", "13"),
            ("ops_token_file", "t", "'t'"),
            ("ops_audit_file", "a", "'a'"),
            ("ops_readonly", "1", "true"),
            ("insecure_ops", "true", "true"),
            ("ops_allow_host", "a,b", "['a', 'b']"),
            ("load_budget_ms", "14", "14"),
            ("tenant", "header:x", "'header:x'"),
            ("load_probe", "0", "false"),
            ("load_probe_memory_bytes", "268435457", "268435457"),
            ("load_probe_cpu_seconds", "15", "15"),
            ("onnxruntime_lib", "o", "'o'"),
            ("log_format", "json", "'json'"),
            ("log_level", "warn", "'warn'"),
            ("ready_file", "f", "'f'"),
        ];
        let arguments: Vec<String> = VALUES
            .iter()
            .map(|(key, value, _)| match *key {
                "registry" => (*value).to_owned(),
                key => format!("--{}={value}", key.replace('_', "-")),
            })
            .collect();
        let by_flag = flags(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let mut around = Given::default();
        let mut file = String::new();
        for (key, value, toml) in VALUES {
            around.variables.insert(Box::leak(flags::variable(key).into_boxed_str()), value);
            file.push_str(&format!("{key} = {toml}\n"));
        }
        let by_variable = from_environment(&around, &mut Vec::new());
        let by_file = ServeFlags::from(parse_weir_toml(&file).unwrap());
        assert_eq!(by_variable, by_flag);
        assert_eq!(by_file, by_flag);
        let options = by_flag.clone().over(ServeFlags::default()).into_options();
        assert_eq!(ServeFlags::default().over(by_flag).into_options(), options);
        let default = ServeOptions::default();
        assert_eq!((options.watch, options.model_control), (Watch::Poll, ModelControl::Explicit));
        assert_eq!((options.settle, options.load_budget), (Duration::from_millis(11), Duration::from_millis(14)));
        let differs = format!("{options:#?}").lines().filter(|l| !format!("{default:#?}").contains(l)).count();
        assert!(differs >= VALUES.len(), "a value that is the default would prove nothing: {differs}");
    }

    #[test]
    fn booleans_take_a_value_or_none() {
        for (argument, expected) in [
            ("--strict-readiness", true),
            ("--strict-readiness=true", true),
            ("--strict-readiness=1", true),
            ("--strict-readiness=false", false),
            ("--strict-readiness=0", false),
        ] {
            assert_eq!(flags(&[argument]).strict_readiness, Some(expected), "{argument}");
        }
        let apart = flags(&["--strict-readiness", "models"]);
        assert_eq!((apart.strict_readiness, apart.registry), (Some(true), Some("models".into())));
    }

    #[test]
    fn wrong_values_name_their_variable_or_place_all_at_once() {
        let around = given(
            &[("WEIR_HTTP_PORT", "65536"), ("WEIR_WATCH", "on"), ("WEIR_OPS_READONLY", "yes"), ("WEIR_LOG_LEVEL", "x")],
            &[("weir.toml", "workers = -1\nhost = 'here'\n")],
        );
        assert_eq!(
            problems(&around),
            "environment: WEIR_HTTP_PORT: invalid value '65536': 65536 is not in 0..=65535\n\
             environment: WEIR_WATCH: expected one of auto, poll, off, got 'on'\n\
             environment: WEIR_OPS_READONLY: invalid value 'yes': expected true, false, 1 or 0\n\
             environment: WEIR_LOG_LEVEL: invalid value 'x': expected off, error, warn, info, debug, trace or \
             module=level, got 'x'\n\
             weir.toml: line 1, column 11: workers: expected an integer from 0 to 1024, got -1\n\
             weir.toml: line 2, column 8: host: expected an IP address, got 'here'"
        );
        let around = given(&[], &[("weir.toml", "log_level = 'inof'")]);
        assert!(problems(&around).starts_with("weir.toml: log_level: expected off, "), "{}", problems(&around));
    }

    #[test]
    fn a_named_file_must_exist() {
        let flag = resolve(ServeFlags::default(), Some("a.toml".into()), &Given::default()).unwrap_err();
        assert!(flag.text.starts_with("a.toml: "), "{}", flag.text);
        let variable = given(&[("WEIR_CONFIG", "b.toml")], &[("weir.toml", "http_port = 1")]);
        assert!(problems(&variable).starts_with("b.toml: "));
        let named = given(&[], &[("c.toml", "http_port = 1"), ("weir.toml", "http_port = 2")]);
        assert_eq!(resolve(ServeFlags::default(), Some("c.toml".into()), &named).unwrap().http_port, 1);
    }
}
