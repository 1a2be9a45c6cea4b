//! The description of the ops API that programs read: `GET /ops/openapi.json`. It is written by hand beside this file, with the
//! version put in here; a test holds it to the table of paths.

use std::sync::LazyLock;

use bytes::Bytes;

/// Where the document has the version.
const VERSION: &str = "\"{version}\"";

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    include_str!("openapi.json").replacen(VERSION, &version, 1).into()
});

/// The document, in OpenAPI 3.1.
pub(super) fn document() -> Bytes {
    DOCUMENT.clone()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::transport::ops::paths::PATHS;

    fn read() -> Value {
        serde_json::from_slice(&document()).unwrap()
    }

    #[test]
    fn every_path_and_method_is_described_and_no_other() {
        let document = read();
        let described: BTreeMap<String, BTreeSet<String>> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, item)| {
                let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters" && *key != "summary");
                (path.clone(), methods.map(|method| method.to_uppercase()).collect())
            })
            .collect();
        let served: BTreeMap<String, BTreeSet<String>> = PATHS
            .iter()
            // HEAD goes without saying.
            .map(|path| {
                let methods = path.methods.split(", ").filter(|method| *method != "HEAD");
                (path.template.to_owned(), methods.map(str::to_owned).collect())
            })
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn it_is_of_this_version_and_refers_to_what_it_has() {
        let document = read();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut references = BTreeSet::new();
        gather(&document, &mut references);
        assert!(!references.is_empty());
        for reference in &references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        for (kind, parts) in document["components"].as_object().unwrap() {
            for name in parts.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
                assert!(references.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is not used");
            }
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_says_what_it_does() {
        let document = read();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(_, value)| value["responses"].is_object())
            {
                let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
                assert!(names.insert(name.to_owned()), "{name} twice");
                assert!(operation["summary"].is_string(), "{name}");
            }
        }
    }

    fn gather(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    match value.as_str() {
                        Some(reference) if key == "$ref" => drop(found.insert(reference.to_owned())),
                        _ => gather(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| gather(item, found)),
            _ => {}
        }
    }
}
