//! What each kind of route asks of its parts, checked when it is compiled. Called by `compile`.

use std::sync::Arc;

use super::{
    assign::Assigner,
    cascade::{Cascade, Step},
    combine,
    compile::{Common, Compiler, Draft, Site},
    ensemble::Ensemble,
    fit::{Named, shared_outputs, shown, union_inputs},
    gate::Gate,
    route::{Body, RouteNode},
    shadow::Shadow,
    split::{Arm, Key, Mirror, Split},
    switch::{Branch, Switch},
};
use crate::{
    observe::RouteSeries,
    types::{
        Accept, Batch, CascadeSpec, CaseTest, ClassNames, DType, EnsembleSpec, KeySource, RouteKind, RouteSpec,
        Signature, SplitSpec, SwitchSpec, TensorSpec,
    },
};

/// The output that tells how far the members of an ensemble are apart.
const DISAGREEMENT: &str = "weir_disagreement";

impl Compiler<'_> {
    /// Puts a route together out of its parts, which are in the order of [`RouteSpec::parts`].
    pub(super) fn body(&mut self, site: Site<'_>, drafts: Vec<Draft>) -> Option<RouteNode> {
        let spec = &site.live.spec;
        match &spec.kind {
            RouteKind::Split(split) => self.split(site, split, drafts),
            RouteKind::Cascade(cascade) => self.cascade(site, cascade, drafts),
            RouteKind::Switch(switch) => self.switch(site, switch, drafts),
            RouteKind::Ensemble(ensemble) => self.ensemble(site, ensemble, drafts),
        }
    }

    fn split(&mut self, site: Site<'_>, split: &SplitSpec, mut drafts: Vec<Draft>) -> Option<RouteNode> {
        let Site { name, live, above } = site;
        let shadow = drafts.split_off(split.variants.len().min(drafts.len())).pop();
        let keys: Vec<Arc<str>> = split
            .keys
            .iter()
            .filter_map(|key| match key {
                KeySource::Input(input) => Some(Arc::from(&**input)),
                _ => None,
            })
            .collect();
        let batch = self.batch(&drafts, !keys.is_empty());
        if !keys.is_empty() {
            self.independent(drafts.iter());
        }
        let outputs = self.outputs(&drafts, live.spec.outputs.as_deref(), |_| Ok(()));
        let inputs = self.inputs(&drafts);
        self.check_keys(&keys, &inputs);
        let common = self.common(name, &mut drafts, &keys, inputs);
        let signature = self.seal(&mut drafts, &common, outputs, batch);
        let class_names = class_names(&drafts);
        let metrics = self.world.metrics;
        let salt: Arc<str> = split.salt.as_deref().unwrap_or(name.as_str()).into();
        let series = Arc::clone(&common.series);
        let shadow = match (shadow, &split.shadow) {
            (Some(draft), Some(spec)) => {
                Some(Mirror { shadow: self.shadow(&draft, &signature, &common.series)?, sample: spec.sample })
            }
            _ => None,
        };
        let place = |input: &str| common.slots.iter().position(|slot| **slot == *input);
        let keys = split.keys.iter().filter_map(|key| {
            Some(match key {
                KeySource::Parameter(name) => Key::Parameter(name.clone()),
                KeySource::Header(name) => Key::Header(name.clone()),
                KeySource::Input(name) => Key::Input { slot: place(name)?, name: name.clone() },
            })
        });
        let keys = keys.collect();
        let arms = drafts.into_iter().zip(&split.variants).enumerate().map(|(index, (draft, variant))| {
            let label = if above.is_empty() { format!("{name}/{}", variant.name) } else { above.to_owned() };
            Arm {
                name: (&*variant.name).into(),
                part: draft.part,
                requests: metrics.requests(self.root.as_str(), &self.revision, &label),
                count: series.split(&variant.name, live.revision.number),
                stage: series.stage(&index.to_string()),
            }
        });
        let arms = arms.collect();
        let assigner = Assigner::new(&salt, split.variants.iter().map(|variant| (&*variant.name, variant.weight)));
        let body = Split { salt, keys, assigner, arms, rules: split.rules.clone(), shadow };
        Some(finished(Body::Split(body), signature, common, class_names))
    }

    fn cascade(&mut self, site: Site<'_>, cascade: &CascadeSpec, mut drafts: Vec<Draft>) -> Option<RouteNode> {
        let Site { name, live, .. } = site;
        let spec = &live.spec;
        let batch = self.batch(&drafts, true);
        self.independent(drafts.iter().skip(1));
        self.check_calibration(spec, &drafts);
        let looked_at: Vec<Option<usize>> = cascade
            .stages
            .iter()
            .zip(&drafts)
            .map(|(stage, draft)| stage.accept.as_ref().and_then(|accept| self.score(draft, accept)))
            .collect();
        let outputs = self.outputs(&drafts, spec.outputs.as_deref(), |_| Ok(()));
        let inputs = self.inputs(&drafts);
        let common = self.common(name, &mut drafts, &[], inputs);
        let signature = self.seal(&mut drafts, &common, outputs, batch);
        let class_names = class_names(&drafts);
        let first = cascade.stages.first().and_then(|stage| stage.accept.as_ref());
        let controller = match (first, cascade.escalation) {
            (Some(accept), Some(escalation)) => Some(self.world.controllers.get(name, accept, escalation)),
            _ => None,
        };
        let series = Arc::clone(&common.series);
        let stages = drafts.into_iter().zip(&cascade.stages).zip(looked_at).enumerate();
        let stages = stages.map(|(index, ((draft, stage), output))| {
            let gate = stage.accept.as_ref().map(Gate::new);
            let series = series.stage(&index.to_string());
            let at_least = stage.accept.as_ref().and_then(|accept| accept.measure.at_least());
            Step { part: draft.part, accept: output.zip(gate), at_least, series }
        });
        let body = Cascade { stages: stages.collect(), on_overload: cascade.on_overload, controller };
        Some(finished(Body::Cascade(body), signature, common, class_names))
    }

    fn switch(&mut self, site: Site<'_>, switch: &SwitchSpec, mut drafts: Vec<Draft>) -> Option<RouteNode> {
        let Site { name, live, .. } = site;
        let spec = &live.spec;
        let batch = self.batch(&drafts, true);
        self.independent(drafts.iter().skip(1));
        let output = drafts.first().and_then(|selector| self.selector(selector, switch));
        let outputs = self.outputs(drafts.get(1..).unwrap_or_default(), spec.outputs.as_deref(), |_| Ok(()));
        let inputs = self.inputs(&drafts);
        let common = self.common(name, &mut drafts, &[], inputs);
        let signature = self.seal(drafts.get_mut(1..).unwrap_or_default(), &common, outputs, batch);
        let class_names = class_names(drafts.get(1..).unwrap_or_default());
        let series = Arc::clone(&common.series);
        let mut drafts = drafts.into_iter();
        let selector = drafts.next()?.part;
        let cases = drafts.zip(&switch.cases).map(|(draft, case)| Branch {
            when: case.when.clone(),
            part: draft.part,
            series: series.stage(&case.name),
        });
        let cases = cases.collect();
        let series = series.stage("selector");
        let body = Switch { selector, output: output?, class: switch.selector.class, cases, series };
        Some(finished(Body::Switch(body), signature, common, class_names))
    }

    fn ensemble(&mut self, site: Site<'_>, ensemble: &EnsembleSpec, mut drafts: Vec<Draft>) -> Option<RouteNode> {
        let Site { name, live, .. } = site;
        let spec = &live.spec;
        let batch = self.batch(&drafts, ensemble.disagreement);
        let fits = |output: &TensorSpec| combine::fits(ensemble.combine, output.dtype, &output.shape);
        let mut outputs = self.outputs(&drafts, spec.outputs.as_deref(), fits);
        // What a client looks at first is most telling about how far the members are apart: scores before labels.
        let disagreement =
            ensemble.disagreement.then(|| outputs.iter().position(|output| output.dtype.is_float()).unwrap_or(0));
        let inputs = self.inputs(&drafts);
        let common = self.common(name, &mut drafts, &[], inputs);
        let signature = self.seal(&mut drafts, &common, outputs.clone(), batch);
        let signature = match disagreement {
            None => signature,
            Some(_) => {
                outputs.push(TensorSpec { name: DISAGREEMENT.into(), dtype: DType::Fp32, shape: vec![None] });
                Arc::new(Signature { outputs, inputs: signature.inputs.clone(), batch })
            }
        };
        let class_names = class_names(&drafts);
        let series = Arc::clone(&common.series);
        let quorum = ensemble.quorum.unwrap_or(ensemble.members.len());
        let members = drafts.into_iter().zip(&ensemble.members).enumerate().map(|(index, (draft, member))| {
            super::ensemble::Member {
                part: draft.part,
                weight: member.weight,
                series: series.stage(&index.to_string()),
            }
        });
        let body = Ensemble { members: members.collect(), how: ensemble.combine, quorum, disagreement };
        Some(finished(Body::Ensemble(body), signature, common, class_names))
    }

    fn outputs(
        &mut self,
        drafts: &[Draft],
        listed: Option<&[Box<str>]>,
        fits: impl Fn(&TensorSpec) -> Result<(), String>,
    ) -> Vec<TensorSpec> {
        let named: Vec<Named<'_>> = drafts.iter().map(Draft::named).collect();
        let mut problems = Vec::new();
        let outputs = shared_outputs(&named, listed, fits, &mut problems);
        problems.into_iter().for_each(|problem| self.said(problem));
        outputs
    }

    fn inputs(&mut self, drafts: &[Draft]) -> Vec<TensorSpec> {
        let named: Vec<Named<'_>> = drafts.iter().map(Draft::named).collect();
        let mut problems = Vec::new();
        let inputs = union_inputs(&named, &mut problems);
        problems.into_iter().for_each(|problem| self.said(problem));
        inputs
    }

    /// Tells every part where its outputs are, and makes the signature.
    fn seal(
        &mut self,
        drafts: &mut [Draft],
        common: &Common,
        outputs: Vec<TensorSpec>,
        batch: Batch,
    ) -> Arc<Signature> {
        for draft in drafts {
            let place = |output: &TensorSpec| draft.signature.outputs.iter().position(|own| own.name == output.name);
            draft.part.outputs = outputs.iter().filter_map(place).collect();
        }
        Arc::new(Signature { inputs: common.inputs.clone(), outputs, batch })
    }

    /// The mirrored model: it must get by with the inputs that the route takes.
    fn shadow(&mut self, draft: &Draft, signature: &Signature, series: &RouteSeries) -> Option<Shadow> {
        let Some(servable) = draft.servable() else {
            self.said(Shadow::not_a_model(&draft.part.name));
            return None;
        };
        match Shadow::new(servable, signature, series) {
            Ok(shadow) => Some(shadow),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.said(problem));
                None
            }
        }
    }

    fn check_keys(&mut self, keys: &[Arc<str>], inputs: &[TensorSpec]) {
        for key in keys {
            let Some(input) = inputs.iter().find(|input| input.name == *key) else { continue };
            let one_per_row = matches!(input.shape.as_slice(), [_] | [_, Some(1)]);
            if input.dtype.is_float() || !one_per_row {
                let text =
                    format!("'input:{key}': expected text, integers or booleans, one per row, got {}", shown(input));
                self.problem("key", text);
            }
        }
    }

    /// The output that a stage's acceptance looks at.
    fn score(&mut self, draft: &Draft, accept: &Accept) -> Option<usize> {
        let key = format!("{}.accept.output", draft.key);
        let found = draft.signature.outputs.iter().position(|output| *output.name == *accept.output);
        let Some((index, output)) = found.and_then(|index| Some((index, draft.signature.outputs.get(index)?))) else {
            let known: Vec<_> = draft.signature.outputs.iter().map(|output| &*output.name).collect();
            let text = format!(
                "'{}' is no output of '{}': expected one of '{}'",
                accept.output,
                draft.part.name,
                known.join("', '")
            );
            self.problem(&key, text);
            return None;
        };
        match Gate::new(accept).fits(output.dtype, &output.shape) {
            Ok(()) => Some(index),
            Err(why) => {
                self.problem(&key, format!("{} of '{}': {why}", shown(output), draft.part.name));
                None
            }
        }
    }

    /// The output that a switch decides by.
    fn selector(&mut self, draft: &Draft, switch: &SwitchSpec) -> Option<usize> {
        let wanted = &switch.selector.output;
        let found = draft.signature.outputs.iter().position(|output| *output.name == **wanted);
        let Some((index, output)) = found.and_then(|index| Some((index, draft.signature.outputs.get(index)?))) else {
            let known: Vec<_> = draft.signature.outputs.iter().map(|output| &*output.name).collect();
            let text =
                format!("'{wanted}' is no output of '{}': expected one of '{}'", draft.part.name, known.join("', '"));
            self.problem("selector.output", text);
            return None;
        };
        let shape_fits = match (output.shape.as_slice(), switch.selector.class) {
            ([_, columns], Some(class)) => columns.is_none_or(|columns| class < columns),
            ([_], None) => true,
            ([_, columns], None) => columns.is_none_or(|columns| columns == 1),
            _ => false,
        };
        if !shape_fits {
            let expected = match switch.selector.class {
                Some(class) => format!("[rows, more than {class}]"),
                None => "one value per row, or the key 'class'".to_owned(),
            };
            self.problem(
                "selector.output",
                format!("expected {expected}, got {} of '{}'", shown(output), draft.part.name),
            );
        }
        for (case, spec) in switch.cases.iter().enumerate() {
            let fits = match &spec.when {
                None => true,
                Some(CaseTest::AtLeast(_)) => output.dtype != DType::Bytes,
                Some(CaseTest::Integers(_)) => output.dtype != DType::Bytes && !output.dtype.is_float(),
                Some(CaseTest::Texts(_)) => output.dtype == DType::Bytes,
            };
            if !fits {
                let text = format!("does not fit {} of output '{wanted}' of '{}'", output.dtype, draft.part.name);
                self.problem(&format!("case[{case}]"), text);
            }
        }
        shape_fits.then_some(index)
    }

    /// A calibration holds for the models and thresholds that it was made with.
    fn check_calibration(&mut self, spec: &RouteSpec, drafts: &[Draft]) {
        const REMEDY: &str = "recalibrate or remove [calibration]";
        let Some(calibration) = &spec.calibration else { return };
        if calibration.digests.len() != drafts.len() {
            let text = format!("expected {} digests, got {}: {REMEDY}", drafts.len(), calibration.digests.len());
            return self.problem("calibration.digests", text);
        }
        for (draft, digest) in drafts.iter().zip(&calibration.digests) {
            match draft.servable() {
                Some(servable) if *servable.digest == **digest => {}
                Some(servable) => {
                    let text = format!(
                        "{} is '{}', which is not the model it was made with: {REMEDY}",
                        draft.key, servable.id
                    );
                    self.problem("calibration.digests", text);
                }
                None => self.problem("calibration", format!("{} is a route: {REMEDY}", draft.key)),
            }
        }
    }
}

fn class_names(drafts: &[Draft]) -> Arc<ClassNames> {
    let mut names = ClassNames::new();
    for (output, classes) in drafts.iter().rev().flat_map(|draft| &*draft.class_names) {
        names.insert(output.clone(), classes.clone());
    }
    Arc::new(names)
}

fn finished(body: Body, signature: Arc<Signature>, common: Common, class_names: Arc<ClassNames>) -> RouteNode {
    let Common { optional, max_rows, series, .. } = common;
    RouteNode { signature, optional, body, max_rows, class_names, series }
}
