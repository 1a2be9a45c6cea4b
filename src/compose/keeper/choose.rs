//! Which of several changes can be made together. Routes name each other, so whether one change is in order may depend on
//! another: all are tried at once, then without those that are in their own way, then the rest one by one. What cannot be made
//! leaves everything as it is. Pure: what fits is asked of a function.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    compose::{Fit, LiveRoute, RouteSet},
    types::ModelName,
};

/// What a route is to become; `None` = nothing.
pub(super) type Wish = Option<LiveRoute>;

/// Fits by route.
pub(super) type Fits = BTreeMap<ModelName, Fit>;

/// Why a change cannot be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How the route itself would get on.
    pub(super) own: Fit,
    /// What would be wrong with other routes that are in order now; only of a route that would itself be in order.
    pub(super) breaks: Vec<(ModelName, String)>,
    /// How all routes would get on.
    pub(super) fits: Fits,
}

impl Verdict {
    fn new(name: &ModelName, fits: &Fits, breaks: Vec<(ModelName, String)>) -> Self {
        Self { own: own(fits, name), breaks, fits: fits.clone() }
    }

    fn is_good(&self) -> bool {
        self.own.fits() && self.breaks.is_empty()
    }
}

/// What can be made of the changes.
#[derive(Debug)]
pub(super) struct Choice {
    /// The routes after those that can be made.
    pub(super) set: RouteSet,
    /// How these get on.
    pub(super) fits: Fits,
    /// The routes that change.
    pub(super) taken: BTreeSet<ModelName>,
    /// Those that do not, and why.
    pub(super) left: BTreeMap<ModelName, Verdict>,
}

/// Chooses. `fits` is how the live routes get on.
pub(super) fn choose(
    live: &RouteSet,
    fits: &Fits,
    wishes: &BTreeMap<ModelName, Wish>,
    check: impl Fn(&RouteSet) -> Fits,
) -> Choice {
    let mut choice =
        Choice { set: Arc::clone(live), fits: fits.clone(), taken: BTreeSet::new(), left: BTreeMap::new() };
    let mut together: BTreeSet<&ModelName> = wishes.keys().collect();
    while !together.is_empty() {
        let set = with(live, wishes, together.iter().copied());
        let after = check(&set);
        let in_their_way: Vec<_> = together.iter().copied().filter(|name| !own(&after, name).fits()).collect();
        if in_their_way.is_empty() {
            let breaks = broken(fits, &after, |name| together.contains(name));
            if breaks.is_empty() {
                choice.taken = together.into_iter().cloned().collect();
                (choice.set, choice.fits) = (set, after);
            } else if let [one] = *together.iter().copied().collect::<Vec<_>>() {
                choice.left.insert(one.clone(), Verdict::new(one, &after, breaks));
            }
            break;
        }
        for name in in_their_way {
            choice.left.insert(name.clone(), Verdict::new(name, &after, Vec::new()));
            together.remove(name);
        }
    }
    one_by_one(&mut choice, wishes, check);
    choice
}

/// Tries what is left, as often as something can be made.
fn one_by_one(choice: &mut Choice, wishes: &BTreeMap<ModelName, Wish>, check: impl Fn(&RouteSet) -> Fits) {
    // A single one has been tried already.
    let mut again = wishes.len() > 1;
    while std::mem::take(&mut again) {
        for name in wishes.keys() {
            if choice.taken.contains(name) {
                continue;
            }
            let set = with(&choice.set, wishes, [name]);
            let after = check(&set);
            // What else is then wrong mostly follows from what is wrong with the change itself.
            let is_good = after.get(name).is_none_or(Fit::fits);
            let breaks = if is_good { broken(&choice.fits, &after, |changed| changed == name) } else { Vec::new() };
            let verdict = Verdict::new(name, &after, breaks);
            if verdict.is_good() {
                choice.left.remove(name);
                choice.taken.insert(name.clone());
                (choice.set, choice.fits) = (set, after);
                again = true;
            } else {
                choice.left.insert(name.clone(), verdict);
            }
        }
    }
}

/// The routes after some of the changes.
fn with<'n>(
    live: &RouteSet,
    wishes: &BTreeMap<ModelName, Wish>,
    names: impl IntoIterator<Item = &'n ModelName>,
) -> RouteSet {
    let mut set = BTreeMap::clone(live);
    for name in names {
        match wishes.get(name) {
            Some(Some(route)) => drop(set.insert(name.clone(), route.clone())),
            Some(None) => drop(set.remove(name)),
            None => {}
        }
    }
    Arc::new(set)
}

/// How a route gets on; one that is not there has no difficulties.
fn own(fits: &Fits, name: &ModelName) -> Fit {
    fits.get(name).cloned().unwrap_or_default()
}

/// What is wrong with routes that do not change and that were in order.
fn broken(before: &Fits, after: &Fits, changed: impl Fn(&ModelName) -> bool) -> Vec<(ModelName, String)> {
    let was_good = |name: &ModelName| before.get(name).is_some_and(|fit| fit.problems.is_empty());
    let others = after.iter().filter(|(name, _)| !changed(name) && was_good(name));
    others.flat_map(|(name, fit)| fit.problems.iter().map(|problem| (name.clone(), problem.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::keeper::lab::{checked, live, name, routes};

    /// Routes by what they name: `("a", "b?")` is in order when there is a route b, `!` never, `~` waits.
    fn chosen(before: &[(&str, &str)], wishes: &[(&str, Option<&str>)]) -> (Vec<String>, Vec<String>, Vec<String>) {
        let set = routes(before);
        let wishes = wishes.iter().map(|(route, parts)| (name(route), parts.map(|parts| live(route, 2, parts))));
        let choice = choose(&set, &checked(&set), &wishes.collect(), checked);
        assert_eq!(choice.fits, checked(&choice.set));
        let shown = |names: &mut dyn Iterator<Item = &ModelName>| names.map(ToString::to_string).collect();
        let breaks = choice.left.values().flat_map(|left| &left.breaks);
        (
            shown(&mut choice.taken.iter()),
            shown(&mut choice.left.keys()),
            breaks.map(|(route, why)| format!("{route}: {why}")).collect(),
        )
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_in_order_is_taken_and_the_rest_is_left() {
        assert_eq!(chosen(&[], &[]), (vec![], vec![], vec![]));
        assert_eq!(chosen(&[], &[("a", Some("m"))]), (strings(&["a"]), vec![], vec![]));
        assert_eq!(chosen(&[], &[("a", Some("!"))]), (vec![], strings(&["a"]), vec![]));
        assert_eq!(chosen(&[], &[("a", Some("~"))]), (vec![], strings(&["a"]), vec![]));
        assert_eq!(chosen(&[("a", "m")], &[("a", Some("!")), ("b", Some("m"))]).0, strings(&["b"]));
    }

    #[test]
    fn changes_that_need_each_other_are_made_together() {
        let both = [("a", Some("b?")), ("b", Some("m"))];
        assert_eq!(chosen(&[], &both).0, strings(&["a", "b"]));
        assert_eq!(chosen(&[], &both[..1]).1, strings(&["a"]));
        // Beside a third that cannot be.
        assert_eq!(chosen(&[], &[both[0], both[1], ("c", Some("!"))]).0, strings(&["a", "b"]));
        // One that falls with another.
        assert_eq!(chosen(&[], &[("a", Some("b?")), ("b", Some("!")), ("c", Some("m"))]).0, strings(&["c"]));
        // One that another would have made impossible only as it was to become.
        let fallen = chosen(&[("b", "m")], &[("a", Some("b?")), ("b", Some("!"))]);
        assert_eq!((fallen.0, fallen.1), (strings(&["a"]), strings(&["b"])));
    }

    #[test]
    fn nothing_breaks_what_is_in_order() {
        let before = [("a", "b?"), ("b", "m")];
        let (taken, left, breaks) = chosen(&before, &[("b", None)]);
        assert_eq!((taken, left, breaks), (vec![], strings(&["b"]), strings(&["a: no b"])));
        assert_eq!(chosen(&before, &[("b", None), ("a", None)]).0, strings(&["a", "b"]));
        assert_eq!(chosen(&before, &[("b", None), ("a", Some("m"))]).0, strings(&["a", "b"]));
        // The one that breaks something is left, others go on.
        assert_eq!(chosen(&before, &[("b", None), ("c", Some("m"))]).0, strings(&["c"]));
        // What was not in order before cannot be broken.
        assert_eq!(chosen(&[("a", "!b?"), ("b", "m")], &[("b", None)]).0, strings(&["b"]));
    }
}
