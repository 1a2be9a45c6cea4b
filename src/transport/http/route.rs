//! Which question a path asks. A plain table over the path's segments, so that what is matched is what is served: names are
//! percent-decoded after the split, literals are not, and there is no second spelling of a route. Pure.

use std::borrow::Cow;

use smallvec::SmallVec;

/// A question that the data listeners know.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::transport) enum Route<'p> {
    /// `/v2`
    Server,
    /// `/v2/health/live`, `/livez`, `/healthz`
    Live,
    /// `/v2/health/ready`, `/readyz`
    Ready,
    /// `/v2/models`
    Models,
    /// `/v2/models/stats`
    Statistics,
    /// `/v2/models/{m}[/versions/{v}][/…]`
    Model(Aspect, Target<'p>),
    /// `/v2/repository[/{r}]/index`
    Index,
    /// `/v2/repository[/{r}]/models/{m}/load`
    Load(Cow<'p, str>),
    /// `/v2/repository[/{r}]/models/{m}/unload`
    Unload(Cow<'p, str>),
    /// `/v2/trace/setting`, also per model
    TraceSettings,
    /// `/v2/logging`
    LogSettings,
    /// `/v2/{system,cuda}sharedmemory/…/status`
    SharedMemoryStatus,
    /// `/v2/{system,cuda}sharedmemory/…/{register,unregister}`
    SharedMemory,
}

/// What is asked about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Aspect {
    Metadata,
    Ready,
    Config,
    Statistics,
    Infer,
}

/// Which model, as the path spells it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::transport) struct Target<'p> {
    pub(in crate::transport) name: Cow<'p, str>,
    /// Empty when the path has none.
    pub(in crate::transport) version: Cow<'p, str>,
}

/// The question of a path; `None` when there is none.
pub(in crate::transport) fn parse(path: &str) -> Option<Route<'_>> {
    // What nearly everybody asks is found without taking the path apart.
    if let Some((name, "infer")) = path.strip_prefix("/v2/models/").and_then(|rest| rest.split_once('/')) {
        return model(name, "", &["infer"]);
    }
    let segments: SmallVec<[&str; 8]> = path.strip_prefix('/')?.split('/').take(9).collect();
    match &segments[..] {
        ["healthz" | "livez"] => Some(Route::Live),
        ["readyz"] => Some(Route::Ready),
        ["v2", rest @ ..] => v2(rest),
        _ => None,
    }
}

fn v2<'p>(segments: &[&'p str]) -> Option<Route<'p>> {
    match segments {
        [] => Some(Route::Server),
        ["health", "live"] => Some(Route::Live),
        ["health", "ready"] => Some(Route::Ready),
        ["models"] => Some(Route::Models),
        ["models", "stats"] => Some(Route::Statistics),
        ["models", name, "trace", "setting"] => decoded(name).map(|_| Route::TraceSettings),
        ["models", name, "versions", version, rest @ ..] if !version.is_empty() => model(name, version, rest),
        ["models", name, rest @ ..] => model(name, "", rest),
        ["repository", "index"] | ["repository", _, "index"] => Some(Route::Index),
        ["repository", "models", name, verb] | ["repository", _, "models", name, verb] => match *verb {
            "load" => decoded(name).map(Route::Load),
            "unload" => decoded(name).map(Route::Unload),
            _ => None,
        },
        ["trace", "setting"] => Some(Route::TraceSettings),
        ["logging"] => Some(Route::LogSettings),
        ["systemsharedmemory" | "cudasharedmemory", rest @ ..] => match rest {
            ["status"] | ["region", _, "status"] => Some(Route::SharedMemoryStatus),
            ["unregister"] | ["region", _, "register" | "unregister"] => Some(Route::SharedMemory),
            _ => None,
        },
        _ => None,
    }
}

fn model<'p>(name: &'p str, version: &'p str, rest: &[&str]) -> Option<Route<'p>> {
    let aspect = match rest {
        [] => Aspect::Metadata,
        ["ready"] => Aspect::Ready,
        ["config"] => Aspect::Config,
        ["stats"] => Aspect::Statistics,
        ["infer"] => Aspect::Infer,
        _ => return None,
    };
    let version = if version.is_empty() { Cow::Borrowed("") } else { decoded(version)? };
    Some(Route::Model(aspect, Target { name: decoded(name)?, version }))
}

/// A segment with its percent-encoding undone; `None` when it is empty, damaged or not UTF-8.
pub(in crate::transport) fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    if segment.is_empty() {
        return None;
    }
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = tail.split_first_chunk::<2>()?;
            let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
            bytes.push(u8::try_from(high? * 16 + low?).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

impl Route<'_> {
    /// The methods that a route takes, as the Allow header lists them.
    pub(in crate::transport) fn methods(&self) -> &'static str {
        match self {
            Route::Model(Aspect::Infer, _) | Route::Index | Route::Load(_) | Route::Unload(_) | Route::SharedMemory => {
                "POST"
            }
            Route::TraceSettings | Route::LogSettings => "GET, HEAD, POST",
            _ => "GET, HEAD",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about<'p>(aspect: Aspect, name: &'p str, version: &'p str) -> Option<Route<'p>> {
        Some(Route::Model(aspect, Target { name: name.into(), version: version.into() }))
    }

    #[test]
    fn routes() {
        for (path, want) in [
            ("/v2", Some(Route::Server)),
            ("/v2/health/live", Some(Route::Live)),
            ("/v2/health/ready", Some(Route::Ready)),
            ("/healthz", Some(Route::Live)),
            ("/livez", Some(Route::Live)),
            ("/readyz", Some(Route::Ready)),
            ("/v2/models", Some(Route::Models)),
            ("/v2/models/stats", Some(Route::Statistics)),
            ("/v2/models/m", about(Aspect::Metadata, "m", "")),
            ("/v2/models/m/versions/3", about(Aspect::Metadata, "m", "3")),
            ("/v2/models/m/infer", about(Aspect::Infer, "m", "")),
            ("/v2/models/m/versions/stable/infer", about(Aspect::Infer, "m", "stable")),
            ("/v2/models/m/ready", about(Aspect::Ready, "m", "")),
            ("/v2/models/m/config", about(Aspect::Config, "m", "")),
            ("/v2/models/m/versions/1/stats", about(Aspect::Statistics, "m", "1")),
            ("/v2/models/m/trace/setting", Some(Route::TraceSettings)),
            ("/v2/trace/setting", Some(Route::TraceSettings)),
            ("/v2/logging", Some(Route::LogSettings)),
            ("/v2/repository/index", Some(Route::Index)),
            ("/v2/repository/any/index", Some(Route::Index)),
            ("/v2/repository/models/m/load", Some(Route::Load("m".into()))),
            ("/v2/repository/any/models/m/unload", Some(Route::Unload("m".into()))),
            ("/v2/systemsharedmemory/status", Some(Route::SharedMemoryStatus)),
            ("/v2/cudasharedmemory/region/r/status", Some(Route::SharedMemoryStatus)),
            ("/v2/cudasharedmemory/region/r/register", Some(Route::SharedMemory)),
            ("/v2/systemsharedmemory/unregister", Some(Route::SharedMemory)),
        ] {
            assert_eq!(parse(path), want, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_and_literals_are_not() {
        assert_eq!(parse("/v2/models/a%2Fb%20c/infer"), about(Aspect::Infer, "a/b c", ""));
        assert_eq!(parse("/v2/models/%c3%a9"), about(Aspect::Metadata, "é", ""));
        for path in [
            "",
            "v2",
            "/",
            "/v2/",
            "//v2",
            "/V2",
            "/v2/models/",
            "/v2//models",
            "/v2/models/m/",
            "/v2/models//infer",
            "/v2/%6dodels/m",
            "/v2/models/m/inf%65r",
            "/v2/models/%",
            "/v2/models/%f",
            "/v2/models/%zz",
            "/v2/models/%ff",
            "/v2/models/m/versions",
            "/v2/models/m/versions//infer",
            "/v2/models/m/infer/x",
            "/v2/models/../models/m",
            "/v2/repository/models/m",
            "/v2/repository/models/m/reload",
            "/v2/systemsharedmemory",
            "/v1/models/m:predict",
            "/v2/models/m/versions/1/2/3/4/5/6/7",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
