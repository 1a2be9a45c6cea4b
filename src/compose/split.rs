//! A split: every key has its arm, whoever asks and however often. Called by `route` for a compiled route. The arithmetic is in
//! `assign`; here is where keys come from.

use std::{sync::Arc, time::Instant};

use smallvec::SmallVec;

use super::{
    assign::{Assigner, element_key, parameter_key, sampled},
    call::{Call, Facts, Part, Reply, SplitFacts, random},
    rows::absent,
    scatter::scatter,
    shadow::Shadow,
};
use crate::{
    observe::{RequestSeries, SplitSeries, StageSeries},
    types::{Error, KeySource, Rows, Rule, Tensor, TextTest},
};

/// A compiled split.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) salt: Arc<str>,
    pub(super) keys: Vec<Key>,
    pub(super) assigner: Assigner,
    pub(super) arms: Vec<Arm>,
    pub(super) rules: Vec<Rule>,
    pub(super) shadow: Option<Mirror>,
}

/// Where a key is looked for.
#[derive(Debug)]
pub(super) enum Key {
    Parameter(Box<str>),
    Header(Box<str>),
    /// An input of the route.
    Input {
        slot: usize,
        name: Box<str>,
    },
}

/// A compiled arm.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) name: Arc<str>,
    pub(super) part: Part,
    /// Where requests are counted that it alone answered.
    pub(super) requests: Arc<RequestSeries>,
    /// Requests that it answered, alone or not.
    pub(super) count: Arc<SplitSeries>,
    pub(super) stage: Arc<StageSeries>,
}

/// The compiled shadow of a split.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) shadow: Shadow,
    pub(super) sample: f64,
}

/// Who answers.
enum Choice {
    /// One arm, and whether the same key gets it again.
    Whole { arm: usize, sticky: bool },
    /// An arm for every row.
    Rows(Vec<u32>),
}

/// A key's bytes, kept for the shadow's sample.
type KeyBytes = SmallVec<[u8; 36]>;

impl Split {
    pub(super) async fn run(&self, rows: Rows, call: Call<'_>) -> Result<Reply, Error> {
        let begun = Instant::now();
        let choice = self.choose(&rows, &call)?;
        let mirror = self.mirror(&rows, &call)?;
        let reply = match choice {
            Choice::Whole { arm, sticky } => self.whole(arm, sticky, &rows, call).await?,
            Choice::Rows(choice) => self.by_row(&choice, &rows, call).await?,
        };
        if let Some(mirror) = mirror {
            mirror.shadow.mirror(&rows, &reply.outputs, begun, Instant::now());
        }
        Ok(reply)
    }

    /// The arm that a key gets, and its u.
    pub(super) fn preview(&self, key: &[u8]) -> (Arc<str>, f64) {
        let (arm, u) = self.assigner.assign(key);
        (self.arms.get(arm).map_or_else(|| "".into(), |arm| Arc::clone(&arm.name)), u)
    }

    async fn whole(&self, index: usize, sticky: bool, rows: &Rows, call: Call<'_>) -> Result<Reply, Error> {
        let arm = self.arms.get(index).ok_or_else(|| Error::internal("route: failed", "no such arm"))?;
        let begun = Instant::now();
        arm.count.chosen();
        let mut reply = arm.part.ask(rows, call).await?;
        arm.stage.ran(begun.elapsed());
        reply.outputs = arm.part.select(&reply.outputs)?;
        reply.facts.split = Some(SplitFacts {
            variant: Arc::clone(&arm.name),
            model: Arc::clone(&arm.part.name),
            version: Arc::clone(&arm.part.version),
            sticky,
            requests: Some(Arc::clone(&arm.requests)),
        });
        reply.path = vec![i32::try_from(index).unwrap_or(i32::MAX); rows.rows];
        Ok(reply)
    }

    async fn by_row(&self, choice: &[u32], rows: &Rows, call: Call<'_>) -> Result<Reply, Error> {
        let gathered = scatter(|arm| self.arms.get(arm).map(|arm| &arm.part), choice, rows, call).await?;
        let used = || gathered.took.iter().filter_map(|(arm, _)| self.arms.get(*arm));
        used().for_each(|arm| arm.count.chosen());
        for (arm, took) in &gathered.took {
            if let Some(arm) = self.arms.get(*arm) {
                arm.stage.ran(*took);
            }
        }
        let joined = |text: &dyn Fn(&Arm) -> Arc<str>| -> Arc<str> {
            used().map(|arm| text(arm).to_string()).collect::<Vec<_>>().join(",").into()
        };
        let split = SplitFacts {
            variant: joined(&|arm| Arc::clone(&arm.name)),
            model: joined(&|arm| Arc::clone(&arm.part.name)),
            version: joined(&|arm| Arc::clone(&arm.part.version)),
            sticky: true,
            requests: None,
        };
        let mut reply = gathered.reply;
        reply.facts = Facts { split: Some(split), ..reply.facts };
        Ok(reply)
    }

    /// Who answers.
    fn choose(&self, rows: &Rows, call: &Call<'_>) -> Result<Choice, Error> {
        if let Some(rule) = self.rules.iter().find(|rule| matches(rule, call)) {
            return Ok(Choice::Whole { arm: rule.variant, sticky: true });
        }
        for key in &self.keys {
            let arm = match key {
                Key::Parameter(name) => match call.params.get(name) {
                    Some(value) => self.assigner.assign(&parameter_key(name, value)?).0,
                    None => continue,
                },
                Key::Header(name) => match header(name, call) {
                    Some(value) => self.assigner.assign(value).0,
                    None => continue,
                },
                Key::Input { slot, name } => match rows.inputs.get(*slot).filter(|tensor| !absent(tensor)) {
                    Some(tensor) => return self.choose_rows(name, tensor, rows.rows),
                    None => continue,
                },
            };
            return Ok(Choice::Whole { arm, sticky: true });
        }
        Ok(Choice::Whole { arm: self.assigner.assign_random(random()), sticky: false })
    }

    fn choose_rows(&self, name: &str, keys: &Tensor, rows: usize) -> Result<Choice, Error> {
        let arm = |row| -> Result<u32, Error> {
            let (arm, _) = self.assigner.assign(&element_key(name, keys, row)?);
            Ok(u32::try_from(arm).unwrap_or(u32::MAX))
        };
        let arms: Vec<u32> = (0..rows).map(arm).collect::<Result<_, _>>()?;
        Ok(match arms.first() {
            Some(one) if arms.iter().all(|arm| arm == one) => Choice::Whole { arm: *one as usize, sticky: true },
            _ => Choice::Rows(arms),
        })
    }

    /// The shadow, when this request is one that it sees: by the request's key, of a tensor by its first row's.
    fn mirror(&self, rows: &Rows, call: &Call<'_>) -> Result<Option<&Mirror>, Error> {
        let Some(mirror) = &self.shadow else { return Ok(None) };
        let key = match self.first_key(rows, call)? {
            Some(key) => key,
            None => KeyBytes::from_slice(&random().to_le_bytes()),
        };
        Ok(sampled(&self.salt, &key, mirror.sample).then_some(mirror))
    }

    fn first_key(&self, rows: &Rows, call: &Call<'_>) -> Result<Option<KeyBytes>, Error> {
        for key in &self.keys {
            let found = match key {
                Key::Parameter(name) => match call.params.get(name) {
                    Some(value) => Some(KeyBytes::from_slice(&parameter_key(name, value)?)),
                    None => None,
                },
                Key::Header(name) => header(name, call).map(KeyBytes::from_slice),
                Key::Input { slot, name } => match rows.inputs.get(*slot).filter(|tensor| !absent(tensor)) {
                    Some(tensor) => Some(KeyBytes::from_slice(&element_key(name, tensor, 0)?)),
                    None => None,
                },
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

fn header<'a>(name: &str, call: &Call<'a>) -> Option<&'a [u8]> {
    call.context.headers.as_ref().and_then(|headers| headers.get(name))
}

fn matches(rule: &Rule, call: &Call<'_>) -> bool {
    match &rule.source {
        KeySource::Header(name) => header(name, call).is_some_and(|value| passes(&rule.test, value)),
        KeySource::Parameter(name) => {
            let value = call.params.get(name);
            value.is_some_and(|value| passes(&rule.test, value.to_string().as_bytes()))
        }
        KeySource::Input(_) => false,
    }
}

fn passes(test: &TextTest, value: &[u8]) -> bool {
    match test {
        TextTest::Equals(wanted) => wanted.as_bytes() == value,
        TextTest::In(wanted) => wanted.iter().any(|wanted| wanted.as_bytes() == value),
        TextTest::Prefix(wanted) => value.starts_with(wanted.as_bytes()),
    }
}
