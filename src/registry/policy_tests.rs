//! Tables of wanted versions and next steps, and the promise that availability is preserved whatever happens.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn v(number: u64) -> Version {
    Version::new(number).unwrap()
}

fn set(numbers: &[u64]) -> BTreeSet<Version> {
    numbers.iter().map(|number| v(*number)).collect()
}

#[test]
fn wanted_versions() {
    use VersionPolicy::{All, Latest, Only};
    type Row<'a> = (VersionPolicy, &'a [u64], &'a [u64], &'a [u64], &'a [u64], &'a [u64]);
    // policy, labelled, present, failed -> all, by policy
    let table: [Row<'_>; 11] = [
        (Latest(1), &[], &[1, 2, 10], &[], &[10], &[10]),
        (Latest(2), &[], &[1, 2, 10], &[], &[2, 10], &[2, 10]),
        (Latest(9), &[], &[1, 2], &[], &[1, 2], &[1, 2]),
        (Latest(1), &[], &[], &[], &[], &[]),
        (Latest(1), &[1], &[1, 2, 3], &[], &[1, 3], &[3]),
        (Latest(1), &[], &[1, 2, 3], &[3], &[2, 3], &[2, 3]),
        (Latest(1), &[], &[1, 2], &[1, 2], &[1, 2], &[1, 2]),
        (All, &[], &[1, 3], &[3], &[1, 3], &[1, 3]),
        (Only(vec![v(1), v(4)]), &[], &[1, 2, 3], &[], &[1], &[1]),
        (Only(vec![v(1)]), &[3, 5], &[1, 2, 3], &[], &[1, 3], &[1]),
        (Only(vec![v(2)]), &[], &[1, 2], &[2], &[2], &[2]),
    ];
    for (policy, labelled, present, failed, all, by_policy) in table {
        let facts = Facts {
            policy: &policy,
            labelled: &set(labelled),
            pinned: &set(&[]),
            present: &set(present),
            failed: &set(failed),
            chosen: &set(&[]),
        };
        let got = aspired(facts);
        assert_eq!((&got.all, &got.by_policy), (&set(all), &set(by_policy)), "{facts:?}");
    }
}

#[test]
fn named_versions_that_are_not_there_are_told() {
    let facts = Facts {
        policy: &VersionPolicy::Only(vec![v(1), v(7)]),
        labelled: &set(&[8]),
        pinned: &set(&[9, 2]),
        present: &set(&[1, 2]),
        failed: &set(&[]),
        chosen: &set(&[]),
    };
    let got = aspired(facts);
    assert_eq!((got.all, got.missing), (set(&[1, 2]), set(&[7, 8, 9])));
}

#[test]
fn a_list_of_absent_versions_changes_nothing() {
    let chosen = set(&[1, 3]);
    let facts = Facts {
        policy: &VersionPolicy::Only(vec![v(7)]),
        labelled: &set(&[2]),
        pinned: &set(&[]),
        present: &set(&[1, 2]),
        failed: &set(&[]),
        chosen: &chosen,
    };
    let got = aspired(facts);
    assert_eq!((got.by_policy, got.all, got.missing), (set(&[1]), set(&[1, 2]), set(&[7])));
}

#[test]
fn a_label_replaces_nothing_that_the_policy_chose() {
    let view = |n, aspired, by_policy, stage| View { version: v(n), aspired, by_policy, stage };
    let labelled = view(1, true, false, Stage::Ready);
    let before = view(2, false, false, Stage::Ready);
    assert_eq!(next_action(&[labelled, before, view(3, true, true, Stage::Failed)]), None);
    assert_eq!(next_action(&[labelled, before, view(3, true, true, Stage::Ready)]), Some(Action::Unload(v(2))));
    assert_eq!(next_action(&[labelled, before]), Some(Action::Unload(v(2))));
}

#[test]
fn next_actions() {
    use Stage::{Failed, Loadable, Loading, Ready, Reloading, Settling, Stale};
    type Row<'a> = (&'a [(u64, bool, Stage)], Option<Action>);
    let load = |version| Some(Action::Load(v(version)));
    let unload = |version| Some(Action::Unload(v(version)));
    let table: [Row<'_>; 15] = [
        (&[], None),
        (&[(1, true, Loadable), (2, true, Loadable)], load(2)),
        (&[(1, true, Loading), (2, true, Settling)], None),
        // The old one stays until the new one is ready, ...
        (&[(1, false, Ready), (2, true, Settling)], None),
        (&[(1, false, Ready), (2, true, Loadable)], load(2)),
        (&[(1, false, Ready), (2, true, Loading)], None),
        (&[(1, false, Ready), (2, true, Ready)], unload(1)),
        // ... and for ever when the new one is refused.
        (&[(1, false, Ready), (2, true, Failed)], None),
        (&[(1, false, Ready), (2, true, Ready), (3, true, Failed)], unload(1)),
        (&[(1, false, Ready), (2, true, Ready), (3, true, Loading)], None),
        // Nothing is wanted: everything goes, the lowest first.
        (&[(2, false, Ready), (1, false, Ready)], unload(1)),
        // What serves is loaded again after what does not serve yet.
        (&[(3, true, Stale), (2, true, Loadable)], load(2)),
        (&[(3, true, Stale), (2, true, Ready)], load(3)),
        (&[(3, true, Reloading), (2, false, Ready)], unload(2)),
        (&[(3, false, Reloading), (2, true, Ready)], None),
    ];
    for (views, want) in table {
        let views: Vec<_> = views
            .iter()
            .map(|(n, aspired, stage)| View { version: v(*n), aspired: *aspired, by_policy: *aspired, stage: *stage })
            .collect();
        assert_eq!(next_action(&views), want, "{views:?}");
    }
}

/// A model's life: what happens to it from outside, step by step.
#[derive(Clone, Debug)]
enum Event {
    Publish { version: u64, good: bool },
    Remove { version: u64 },
    Policy(VersionPolicy),
    Change { version: u64, good: bool },
}

fn event() -> impl Strategy<Value = Event> {
    let version = 1..6_u64;
    let policy = prop_oneof![
        (1..4_usize).prop_map(VersionPolicy::Latest),
        Just(VersionPolicy::All),
        proptest::collection::btree_set(1..6_u64, 1..3)
            .prop_map(|versions| VersionPolicy::Only(versions.into_iter().map(v).collect())),
    ];
    prop_oneof![
        (version.clone(), any::<bool>()).prop_map(|(version, good)| Event::Publish { version, good }),
        version.clone().prop_map(|version| Event::Remove { version }),
        policy.prop_map(Event::Policy),
        (version, any::<bool>()).prop_map(|(version, good)| Event::Change { version, good }),
    ]
}

#[derive(Default)]
struct World {
    on_disk: BTreeMap<Version, bool>,
    stages: BTreeMap<Version, Stage>,
}

impl World {
    fn wanted(&self, policy: &VersionPolicy) -> Aspired {
        let present = self.on_disk.keys().copied().collect();
        let failed = self.stages.iter().filter(|(_, stage)| **stage == Stage::Failed).map(|(v, _)| *v).collect();
        let none = BTreeSet::new();
        let chosen = self.serving();
        let (labelled, pinned) = (&none, &none);
        aspired(Facts { policy, labelled, pinned, present: &present, failed: &failed, chosen: &chosen })
    }

    fn serving(&self) -> BTreeSet<Version> {
        self.stages.iter().filter(|(_, stage)| stage.serves()).map(|(version, _)| *version).collect()
    }

    /// One step of the reconcile loop with a loader that answers at once; false when there is nothing to do.
    fn step(&mut self, policy: &VersionPolicy) -> bool {
        let wanted = self.wanted(policy);
        for version in &wanted.all {
            self.stages.entry(*version).or_insert(Stage::Loadable);
        }
        self.stages.retain(|version, stage| wanted.all.contains(version) || stage.serves());
        let views: Vec<_> = self
            .stages
            .iter()
            .map(|(version, stage)| View {
                version: *version,
                aspired: wanted.all.contains(version),
                by_policy: wanted.by_policy.contains(version),
                stage: *stage,
            })
            .collect();
        match next_action(&views) {
            None => false,
            Some(Action::Unload(version)) => {
                assert!(!wanted.all.contains(&version));
                self.stages.remove(&version);
                true
            }
            Some(Action::Load(version)) => {
                let served = self.stages[&version].serves();
                let stage = if self.on_disk[&version] || served { Stage::Ready } else { Stage::Failed };
                self.stages.insert(version, stage);
                true
            }
        }
    }

    fn apply(&mut self, event: &Event, policy: &mut VersionPolicy) {
        match event {
            Event::Publish { version, good } => {
                self.on_disk.entry(v(*version)).or_insert(*good);
            }
            Event::Remove { version } => {
                self.on_disk.remove(&v(*version));
            }
            Event::Policy(new) => policy.clone_from(new),
            Event::Change { version, good } => {
                if let Some(state) = self.on_disk.get_mut(&v(*version)) {
                    *state = *good;
                    match self.stages.get_mut(&v(*version)) {
                        Some(stage) if stage.serves() => *stage = Stage::Stale,
                        Some(stage) => *stage = Stage::Loadable,
                        None => {}
                    }
                }
            }
        }
    }
}

proptest! {
    /// Whatever happens, the loop comes to rest; a model that serves and still has wanted versions never stops
    /// serving on the way; at rest the good wanted versions serve, and nothing else if any of them does.
    #[test]
    fn availability_is_preserved(events in proptest::collection::vec(event(), 1..40)) {
        let mut world = World::default();
        let mut policy = VersionPolicy::Latest(1);
        for event in events {
            let served = !world.serving().is_empty();
            world.apply(&event, &mut policy);
            let mut steps = 0;
            while world.step(&policy) {
                steps += 1;
                prop_assert!(steps < 100, "does not come to rest");
                let wanted = world.wanted(&policy);
                prop_assert!(!served || wanted.all.is_empty() || !world.serving().is_empty());
            }
            let wanted = world.wanted(&policy);
            let serving = world.serving();
            let failed = |version: &&Version| world.stages.get(version) == Some(&Stage::Failed);
            for version in wanted.all.iter().filter(|version| !failed(version)) {
                prop_assert!(serving.contains(version));
            }
            if wanted.all.is_empty() || wanted.all.iter().any(|version| serving.contains(version)) {
                prop_assert!(serving.is_subset(&wanted.all));
            }
        }
    }
}
