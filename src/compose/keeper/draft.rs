//! What a route is to become, by what operators ask for: a text and what it means. Also what comes of weights when a split
//! changes. Called by `change`.

use std::{sync::Arc, time::SystemTime};

use super::{
    kept::{in_file, parse},
    manager::Manager,
};
use crate::{
    compose::{
        Change, ChangeError, Edit,
        assign::{moved, reshuffled},
        store::{Entry, Note, StoreError},
    },
    spec::{route_to_toml, with_weights},
    types::{Error, ModelName, RouteKind, RouteSpec},
};

/// What a route is to become.
pub(super) struct Draft {
    /// Nothing, when it is to go.
    pub(super) route: Option<(Arc<str>, Arc<RouteSpec>)>,
    /// The revision that it comes from.
    pub(super) from: u64,
}

impl Manager {
    /// What the route is to become.
    pub(super) fn draft(&mut self, change: &Change) -> Result<Draft, ChangeError> {
        let Change { route, edit, .. } = change;
        let now = self.live.get(route).cloned();
        let from = now.as_ref().map_or(0, |now| now.revision.number);
        let drafted = |text: String, from| {
            let spec = parse(&text).map_err(ChangeError::Refused)?;
            Ok(Draft { route: Some((text.into(), spec)), from })
        };
        match edit {
            Edit::Put(spec) => drafted(route_to_toml(spec), from),
            Edit::Weights(weights) => {
                let now = now.ok_or_else(|| ChangeError::Conflict(format!("route '{route}': no revision serves")))?;
                let text = with_weights(&now.text, weights);
                drafted(text.map_err(|problems| ChangeError::Refused(in_file(&problems)))?, from)
            }
            Edit::Rollback(number) => {
                let entry = self.entry_of(route, *number)?;
                if entry.is_deletion() {
                    let text = format!("route '{route}': revision {number} deleted it: there is nothing to go back to");
                    return Err(ChangeError::Refused(vec![text]));
                }
                drafted(entry.text.to_string(), *number)
            }
            Edit::Delete => Ok(Draft { route: None, from }),
        }
    }

    /// An earlier revision.
    fn entry_of(&mut self, route: &ModelName, number: u64) -> Result<Entry, ChangeError> {
        let kept = self.kept(route);
        let entry = match kept.memory().iter().find(|entry| entry.revision.number == number) {
            Some(entry) => Some((**entry).clone()),
            None => kept.store.read(number).map_err(|error| failed(route, &error))?,
        };
        entry.ok_or_else(|| ChangeError::NotFound(format!("route '{route}': revision {number}: not found")))
    }

    /// The revision as it would be.
    pub(super) fn entry(&mut self, change: &Change, draft: &Draft) -> Entry {
        let note = Note { author: change.author.clone(), from: draft.from, at: SystemTime::now() };
        let text = draft.route.as_ref().map_or_else(|| Arc::from(""), |(text, _)| Arc::clone(text));
        Entry::new(self.kept(&change.route).next(), note, text)
    }
}

/// What callers are told about a folder.
pub(super) fn failed(route: &ModelName, error: &StoreError) -> ChangeError {
    match error {
        StoreError::ReadOnly(_) => ChangeError::Conflict(format!("route '{route}': the folder '{route}' {error}")),
        StoreError::TooLarge(_) => ChangeError::Refused(vec![error.to_string()]),
        // Only operators are told, and what the disk says is what they have to act on.
        _ => Error::internal(format!("route '{route}': {error}"), error).into(),
    }
}

/// Weights by name of variant; empty unless it is a split.
pub(super) fn weights(spec: &RouteSpec) -> Vec<(Box<str>, f64)> {
    match &spec.kind {
        RouteKind::Split(split) => {
            split.variants.iter().map(|variant| (variant.name.clone(), variant.weight)).collect()
        }
        _ => Vec::new(),
    }
}

/// The share of keys that move to another variant.
pub(super) fn moves(route: &ModelName, before: &RouteSpec, after: &RouteSpec) -> f64 {
    let (RouteKind::Split(old), RouteKind::Split(new)) = (&before.kind, &after.kind) else { return 0.0 };
    let salt = |salt: &Option<Box<str>>| salt.clone().unwrap_or_else(|| route.as_str().into());
    let same = old.keys == new.keys && salt(&old.salt) == salt(&new.salt);
    let share = if same { moved } else { reshuffled };
    share(&weights(before), &weights(after))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_the_disk_says_is_told() {
        let route = ModelName::parse("checkout").unwrap();
        let full = io::Error::other("No space left on device");
        let error = failed(&route, &StoreError::Io { what: "the revision cannot be written", source: full });
        assert_eq!(error.to_string(), "route 'checkout': the revision cannot be written: No space left on device");
    }
}
