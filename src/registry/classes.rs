//! The class names of a version's outputs: those of a label file, else those that the model file has itself. Made by the loader,
//! kept by the servable, since a label file may change under a version that stays.

use std::sync::Arc;

use crate::types::{ClassNames, ModelSpec};

/// Class names by output.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    own: Arc<ClassNames>,
    all: Arc<ClassNames>,
}

impl Classes {
    /// Those of the model, behind those of its configuration, output by output.
    pub fn new(own: ClassNames, spec: &ModelSpec) -> Self {
        Self { own: Arc::new(own), all: Arc::default() }.with_spec(spec)
    }

    /// The same under another configuration.
    #[must_use]
    pub fn with_spec(&self, spec: &ModelSpec) -> Self {
        let own = Arc::clone(&self.own);
        if spec.class_names.is_empty() {
            return Self { all: Arc::clone(&own), own };
        }
        let mut all = ClassNames::clone(&own);
        all.extend(spec.class_names.clone());
        Self { own, all: Arc::new(all) }
    }

    /// All that are known.
    pub fn names(&self) -> &Arc<ClassNames> {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_file_wins_over_the_model() {
        let names = |output: &str, names: &[&str]| -> (Box<str>, Vec<Box<str>>) {
            (output.into(), names.iter().map(|name| (*name).into()).collect())
        };
        let own = ClassNames::from([names("y", &["a", "b"]), names("z", &["c"])]);
        let classes = Classes::new(own.clone(), &ModelSpec::default());
        assert_eq!(**classes.names(), own);
        let spec = ModelSpec { class_names: ClassNames::from([names("y", &["cat", "dog"])]), ..ModelSpec::default() };
        let named = classes.with_spec(&spec);
        assert_eq!(**named.names(), ClassNames::from([names("y", &["cat", "dog"]), names("z", &["c"])]));
        assert_eq!(**named.with_spec(&ModelSpec::default()).names(), own, "the label file is gone");
    }
}
