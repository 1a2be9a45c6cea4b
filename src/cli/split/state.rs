//! What a gateway's ops listener says about routes, as far as `weir split` shows it. Unknown members are ignored, so that an
//! older command line reads a newer gateway.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

/// `GET /ops/routes`.
#[derive(Debug, Deserialize)]
pub(super) struct Routes {
    pub(super) routes: Vec<Route>,
}

/// `GET /ops/routes/{route}`.
#[derive(Debug, Deserialize)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) revision: Option<u64>,
    pub(super) at: Option<String>,
    pub(super) who: Option<String>,
    pub(super) why: Option<String>,
    #[serde(default)]
    pub(super) problems: Vec<String>,
    pub(super) writable: bool,
    #[serde(default)]
    pub(super) weights: Weights,
    pub(super) route: Option<Spec>,
}

/// The configuration, of which only splits are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) key: Vec<String>,
    #[serde(default)]
    pub(super) variant: Vec<Variant>,
    #[serde(default)]
    pub(super) rule: Vec<Value>,
    pub(super) shadow: Option<Shadow>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) model: String,
    pub(super) version: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Shadow {
    pub(super) model: String,
    pub(super) version: Option<Value>,
    pub(super) sample: f64,
}

/// The answer to a change.
#[derive(Debug, Deserialize)]
pub(super) struct Changed {
    pub(super) revision: u64,
    #[serde(default)]
    pub(super) weights: Weights,
    #[serde(default)]
    pub(super) moved: f64,
    #[serde(default)]
    pub(super) loads: Vec<String>,
    #[serde(default)]
    pub(super) unloads: Vec<String>,
    #[serde(default)]
    pub(super) problems: Vec<String>,
}

/// `GET …/history`.
#[derive(Debug, Deserialize)]
pub(super) struct History {
    pub(super) revisions: Vec<Revision>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Revision {
    pub(super) revision: u64,
    pub(super) at: String,
    pub(super) who: String,
    #[serde(default)]
    pub(super) why: String,
    #[serde(default)]
    pub(super) from: u64,
}

/// `GET …/assignment`.
#[derive(Debug, Deserialize)]
pub(super) struct Assignment {
    pub(super) key: String,
    pub(super) variant: String,
    pub(super) u: f64,
    pub(super) revision: u64,
    pub(super) sticky: bool,
}

/// Weights by name of variant, in the gateway's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Weights(pub(super) Vec<(String, f64)>);

impl Weights {
    /// A variant's weight and its share of all, 0 to 1.
    pub(super) fn of(&self, name: &str) -> Option<(f64, f64)> {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let weight = self.0.iter().find(|(known, _)| known == name)?.1;
        Some((weight, if total > 0.0 { weight / total } else { 0.0 }))
    }
}

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Weights;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("weights by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Weights, A::Error> {
                let mut weights = Vec::new();
                while let Some(member) = map.next_entry()? {
                    weights.push(member);
                }
                Ok(Weights(weights))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
