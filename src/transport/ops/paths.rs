//! What the ops listener can be asked: one table of paths, from which requests are matched, the `Allow` header is written, and
//! the OpenAPI document is checked. Pure.

use std::borrow::Cow;

use http::Method;
use smallvec::SmallVec;

use crate::transport::{http::route::decoded, policy::Action};

/// What a path is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Live,
    Ready,
    Metrics,
    OpenApi,
    Models,
    Model,
    Load,
    Unload,
    Scores,
    Routes,
    Route,
    Weights,
    Rollback,
    History,
    Revision,
    Assignment,
    Report,
}

/// A path and the methods that it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Segments in braces stand for any one segment.
    pub(super) template: &'static str,
    pub(super) topic: Topic,
    /// As the `Allow` header lists them.
    pub(super) methods: &'static str,
}

const READ: &str = "GET, HEAD";

const fn path(template: &'static str, topic: Topic, methods: &'static str) -> Path {
    Path { template, topic, methods }
}

/// Every path there is.
pub(super) const PATHS: [Path; 20] = [
    path("/livez", Topic::Live, READ),
    path("/healthz", Topic::Live, READ),
    path("/v2/health/live", Topic::Live, READ),
    path("/readyz", Topic::Ready, READ),
    path("/v2/health/ready", Topic::Ready, READ),
    path("/metrics", Topic::Metrics, READ),
    path("/ops/openapi.json", Topic::OpenApi, READ),
    path("/ops/models", Topic::Models, READ),
    path("/ops/models/{model}", Topic::Model, READ),
    path("/ops/models/{model}/load", Topic::Load, "POST"),
    path("/ops/models/{model}/unload", Topic::Unload, "POST"),
    path("/ops/scores/{model}", Topic::Scores, READ),
    path("/ops/routes", Topic::Routes, READ),
    path("/ops/routes/{route}", Topic::Route, "GET, HEAD, PUT, DELETE"),
    path("/ops/routes/{route}/weights", Topic::Weights, "PATCH"),
    path("/ops/routes/{route}/rollback", Topic::Rollback, "POST"),
    path("/ops/routes/{route}/history", Topic::History, READ),
    path("/ops/routes/{route}/history/{revision}", Topic::Revision, READ),
    path("/ops/routes/{route}/assignment", Topic::Assignment, READ),
    path("/ops/routes/{route}/report", Topic::Report, READ),
];

/// A path as a request spells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked<'p> {
    pub(super) topic: Topic,
    pub(super) methods: &'static str,
    /// What stands where the template has braces, decoded.
    names: SmallVec<[Cow<'p, str>; 2]>,
}

impl<'p> Asked<'p> {
    /// `None` for a path that is not in the table. Names are percent-decoded after the split, literals are not: there is no
    /// second spelling of a path.
    pub(super) fn parse(path: &'p str) -> Option<Self> {
        PATHS.iter().find_map(|known| {
            let names = matched(known.template, path)?;
            Some(Self { topic: known.topic, methods: known.methods, names })
        })
    }

    /// The name at a place of the template; empty when it has none there.
    pub(super) fn name(&self, at: usize) -> &str {
        self.names.get(at).map_or("", |name| name)
    }

    /// What a change of a route with this method is called in the record; `None` when it is none.
    pub(super) fn change(&self, method: &Method) -> Option<&'static str> {
        match self.topic {
            Topic::Route if *method == Method::PUT => Some("put"),
            Topic::Route if *method == Method::DELETE => Some("delete"),
            Topic::Weights => Some("weights"),
            Topic::Rollback => Some("rollback"),
            _ => None,
        }
    }

    /// What a request with this method does, for the policy.
    pub(super) fn action(&self, method: &Method) -> Action {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match self.topic {
            Topic::Live | Topic::Ready => Action::Probe,
            Topic::Metrics => Action::Metrics,
            _ if reads => Action::Read,
            _ => Action::Write,
        }
    }
}

fn matched<'p>(template: &str, path: &'p str) -> Option<SmallVec<[Cow<'p, str>; 2]>> {
    let (mut names, mut given) = (SmallVec::new(), path.split('/'));
    for want in template.split('/') {
        let got = given.next()?;
        if want.starts_with('{') {
            names.push(decoded(got)?);
        } else if want != got {
            return None;
        }
    }
    given.next().is_none().then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_they_are_spelled() {
        for (path, want) in [
            ("/healthz", Some((Topic::Live, ""))),
            ("/v2/health/ready", Some((Topic::Ready, ""))),
            ("/metrics", Some((Topic::Metrics, ""))),
            ("/ops/models", Some((Topic::Models, ""))),
            ("/ops/models/m", Some((Topic::Model, "m"))),
            ("/ops/models/a%20b", Some((Topic::Model, "a b"))),
            ("/ops/models/m/load", Some((Topic::Load, "m"))),
            ("/ops/models/load/unload", Some((Topic::Unload, "load"))),
            ("/ops/routes/history/history", Some((Topic::History, "history"))),
            ("/ops/routes/r/history/12", Some((Topic::Revision, "r"))),
            ("/ops/routes/a%2Fb/weights", Some((Topic::Weights, "a/b"))),
            ("/ops/models/", None),
            ("/ops/modelsx", None),
            ("/ops/models/m/reload", None),
            ("/ops/models/m/load/x", None),
            ("/ops/models/%zz", None),
            ("/ops/routes/r/history/", None),
            ("/ops/%72outes", None),
            ("//ops/routes", None),
            ("/metrics/", None),
            ("/v2/models/m/infer", None),
            ("", None),
            ("/", None),
        ] {
            let asked = Asked::parse(path);
            assert_eq!(asked.as_ref().map(|asked| (asked.topic, asked.name(0))), want, "{path}");
        }
        assert_eq!(Asked::parse("/ops/routes/r/history/1%32").unwrap().name(1), "12");
    }

    #[test]
    fn only_reading_methods_read() {
        let action = |path, method: &Method| Asked::parse(path).unwrap().action(method);
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(action("/ops/routes/r", &method), Action::Read);
            assert_eq!(action("/metrics", &method), Action::Metrics);
        }
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::POST, Method::from_bytes(b"get").unwrap()] {
            assert_eq!(action("/ops/routes/r", &method), Action::Write);
            assert_eq!(action("/ops/models/m/load", &method), Action::Write);
        }
        assert_eq!(action("/livez", &Method::GET), Action::Probe);
        let change = |path, method: &Method| Asked::parse(path).unwrap().change(method);
        assert_eq!(change("/ops/routes/r", &Method::PUT), Some("put"));
        assert_eq!(change("/ops/routes/r", &Method::GET), None);
        assert_eq!(change("/ops/routes/r/rollback", &Method::POST), Some("rollback"));
        assert_eq!(change("/ops/models/m/load", &Method::POST), None);
    }

    #[test]
    fn no_two_templates_match_one_path() {
        for path in PATHS {
            let spelled = path.template.replace(['{', '}'], "");
            let matching = PATHS.iter().filter(|known| matched(known.template, &spelled).is_some()).count();
            assert_eq!(matching, 1, "{spelled}");
        }
    }
}
