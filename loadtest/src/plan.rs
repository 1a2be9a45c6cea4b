//! From arguments to a plan: what is sent where and how hard. Nothing is read from the network yet. Used by `main`.

use std::time::Duration;

use crate::bench::{Bounds, Cancel};
use crate::class::{ClassSpec, Source};
use crate::cli::{Mode, Output, RunArgs};
use crate::error::{Fault, Result};
use crate::profile::Profile;
use crate::run_open::OpenLoad;
use crate::scenario;
use crate::target::resolve;
use crate::verify::Tolerance;

/// A run, as asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) classes: Vec<ClassSpec>,
    /// The second server's classes, and how many rounds each gets.
    pub(crate) versus: Option<(Vec<ClassSpec>, u32)>,
    pub(crate) load: Load,
    pub(crate) bounds: Bounds,
    pub(crate) allowed_errors: Vec<String>,
    pub(crate) output: Output,
}

/// What drives the requests.
#[derive(Debug, Clone)]
pub(crate) enum Load {
    Closed { callers: Profile },
    Open(OpenLoad),
}

/// Slices of a ramp that nobody asked for a number of.
const RAMP_SLICES: u32 = 10;

impl Load {
    /// Requests that can be under way at once.
    pub(crate) fn in_flight(&self) -> usize {
        match self {
            Self::Closed { callers } => callers.most().round() as usize,
            Self::Open(open) => open.outstanding,
        }
    }
}

impl Plan {
    /// What the arguments ask for.
    ///
    /// # Errors
    /// Anything that would make the run meaningless, said before it starts.
    pub(crate) fn new(args: &RunArgs) -> Result<Self> {
        let load = load(args)?;
        let base = base(args);
        let classes = match &args.cases.scenario {
            Some(path) => scenario::read(path, &base)?,
            None => vec![base],
        };
        let versus = args.vs.vs.as_ref().map(|url| versus(args, &classes, url)).transpose()?;
        for class in classes.iter().chain(versus.iter().flat_map(|(classes, _)| classes)) {
            resolve(&class.url, class.allow_remote)?;
        }
        let (span, changes) = match &load {
            Load::Closed { .. } => ("--concurrency", args.load.concurrency.ramps()),
            Load::Open(_) => ("--rate", args.load.rate.is_some_and(|rate| rate.ramps())),
        };
        if args.load.steps.is_some() && !changes {
            return Err(Fault::new("--steps", format_args!("needs a ramp, such as {span} 1..10")));
        }
        if changes && (versus.is_some() || args.capacity.find_capacity) {
            return Err(Fault::new(span, "a ramp has no one figure to compare or to search for"));
        }
        let ramp = changes.then(|| args.load.steps.unwrap_or(RAMP_SLICES));
        let bounds = Bounds {
            warmup: args.load.warmup,
            duration: args.load.duration,
            requests: args.load.requests,
            grace: args.load.grace,
            slices: args.load.slices.or(ramp).unwrap_or(0) as usize,
        };
        if bounds.duration.is_zero() {
            return Err(Fault::new("--duration", "expected more than nothing"));
        }
        let allowed_errors = args.check.allow_errors.iter().map(|code| code.trim().to_uppercase()).collect();
        Ok(Self { classes, versus, load, bounds, allowed_errors, output: args.output })
    }
}

/// The command line's class: the only one, or what those of a scenario inherit.
fn base(args: &RunArgs) -> ClassSpec {
    let (target, cases, check) = (&args.target, &args.cases, &args.check);
    let source = match (&cases.golden, &cases.inputs[..]) {
        (Some(path), _) => Source::Golden(path.clone()),
        (None, []) => Source::Metadata,
        (None, inputs) => Source::Inputs(inputs.to_vec()),
    };
    let tolerance = match check.bitwise {
        true => Tolerance { absolute: 0.0, relative: 0.0 },
        false => Tolerance { absolute: check.atol, relative: check.rtol },
    };
    let cancel = |(share, ms)| Cancel { share, after: Duration::from_millis(ms) };
    let model = target.model.clone().unwrap_or_default();
    ClassSpec {
        name: model.clone(),
        url: target.url.clone().unwrap_or_default(),
        allow_remote: target.allow_remote,
        model,
        models: target.models,
        protocol: target.protocol,
        connections: target.connections,
        headers: target.headers.clone(),
        parameters: target.parameters.clone(),
        timeout: target.timeout_ms.map(Duration::from_millis),
        timeout_by: target.timeout_by,
        weight: 1,
        source,
        rows: cases.rows,
        variants: cases.variants,
        seed: cases.seed,
        ask_first: check.ask_first,
        tag: cases.tag.clone(),
        cancel: cases.cancel_share.zip(cases.cancel_after_ms).map(cancel),
        verify: check.verify,
        tolerance,
    }
}

/// The second side of a comparison: the first one's classes, with what was given for it.
fn versus(args: &RunArgs, classes: &[ClassSpec], url: &str) -> Result<(Vec<ClassSpec>, u32)> {
    let given = &args.vs;
    if classes.len() > 1 && (given.vs_model.is_some() || given.vs_protocol.is_some()) {
        return Err(Fault::new("--vs", "a scenario's models and protocols are the same for both servers"));
    }
    let side = |class: &ClassSpec| {
        let model = given.vs_model.as_ref().unwrap_or(&class.model).clone();
        let name = if given.vs_model.is_some() { model.clone() } else { class.name.clone() };
        let protocol = given.vs_protocol.unwrap_or(class.protocol);
        ClassSpec { name, model, protocol, verify: given.vs_verify.unwrap_or(class.verify), ..class.at(url) }
    };
    Ok((classes.iter().map(side).collect(), given.rounds))
}

fn load(args: &RunArgs) -> Result<Load> {
    let load = &args.load;
    let profile = |span: crate::units::Span| match span.ramps() {
        true => Profile::ramp(span.from, span.to, load.steps, load.duration),
        false => Profile::constant(span.from),
    };
    match (load.mode, load.rate) {
        (Mode::Closed, None) => Ok(Load::Closed { callers: profile(load.concurrency) }),
        (Mode::Closed, Some(_)) => Err(Fault::new("--rate", "needs --mode open")),
        (Mode::Open, None) => Err(Fault::new("--mode open", "needs --rate")),
        (Mode::Open, Some(rate)) => Ok(Load::Open(open(args, profile(rate)))),
    }
}

/// An open loop with everything but the rate from the arguments.
pub(crate) fn open(args: &RunArgs, rate: Profile) -> OpenLoad {
    let outstanding = args.load.max_outstanding as usize;
    OpenLoad { rate, spacing: args.load.arrivals, outstanding, seed: args.cases.seed }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::target::Protocol;

    fn plan(line: &str) -> Result<Plan> {
        let common = "weir-loadtest --url http://127.0.0.1:1 --model m:2 --input x:FP32:1x2";
        let words = common.split(' ').chain(line.split_whitespace());
        Plan::new(&Cli::try_parse_from(words).map_err(|e| Fault::new("cli", e))?.run)
    }

    #[test]
    fn the_second_side_inherits_what_it_is_not_given() {
        let plan = plan("--vs http://127.0.0.1:2 --vs-protocol http-json --rounds 4").unwrap();
        let (versus, rounds) = plan.versus.unwrap();
        assert_eq!((versus[0].model.as_str(), versus[0].protocol, rounds), ("m:2", Protocol::HttpJson, 4));
        assert_eq!(versus[0].url, "http://127.0.0.1:2");
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "--rate 10",
            "--duration 0",
            "--vs http://192.0.2.1:1",
            "--steps 3",
            "--concurrency 1..4 --vs http://127.0.0.1:2",
            "--concurrency 1..4 --find-capacity",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }

    #[test]
    fn ramps_are_reported_in_slices() {
        assert_eq!(plan("").unwrap().bounds.slices, 0);
        assert_eq!(plan("--concurrency 1..8").unwrap().bounds.slices, 10);
        let steps = plan("--mode open --rate 10..100 --steps 4").unwrap();
        assert_eq!((steps.bounds.slices, steps.load.in_flight()), (4, 1024));
        assert_eq!(plan("--slices 7").unwrap().bounds.slices, 7);
    }
}
