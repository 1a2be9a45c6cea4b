//! Who is asking on the ops listener: the token, the Host header, the content type. Turned into [`Credentials`] for the policy,
//! and into the name that the record of changes gives to the asker.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};

use super::tokens::Tokens;
use crate::transport::policy::Credentials;

/// Who changes something where no token is asked for.
const LOCAL: &str = "local";

/// What the ops listener accepts.
#[derive(Debug)]
pub(super) struct Guard {
    tokens: Option<Tokens>,
    bind: SocketAddr,
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(tokens: Option<Tokens>, bind: SocketAddr, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { tokens, bind, hosts }
    }

    pub(super) fn has_token(&self) -> bool {
        self.tokens.is_some()
    }

    pub(super) fn look(&self, parts: &Parts) -> Credentials {
        let known = |token| self.tokens.as_ref().is_some_and(|tokens| tokens.bearer(token).is_some());
        Credentials {
            known_host: host(&parts.uri, &parts.headers).is_some_and(|host| self.knows(&host)),
            token: bearer(&parts.headers).map(known),
            json: parts.headers.get(header::CONTENT_TYPE).is_some_and(is_json),
        }
    }

    /// The asker's name: that of the token where tokens are asked for, empty when it is not accepted; else `local`.
    pub(super) fn who(&self, headers: &HeaderMap) -> Arc<str> {
        let Some(tokens) = &self.tokens else { return LOCAL.into() };
        bearer(headers).and_then(|token| tokens.bearer(token)).cloned().unwrap_or_default()
    }

    /// Loopback names, the bind address, and what the operator allowed. A listener on every address is known by any address:
    /// a page that rebinds a name to this machine still sends the name.
    fn knows(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || ip == self.bind.ip() || self.bind.ip().is_unspecified(),
            Err(_) => host == "localhost" || self.hosts.iter().any(|known| known == host),
        }
    }
}

/// The one host that a request names, in lower case and without port or brackets.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let named = match uri.host() {
        Some(host) => host,
        None => {
            let mut given = headers.get_all(header::HOST).iter();
            let text = given.next()?.to_str().ok().filter(|_| given.next().is_none())?;
            match text.strip_prefix('[') {
                Some(v6) => v6.split_once(']')?.0,
                None => text.split(':').next()?,
            }
        }
    };
    let named = named.trim_start_matches('[').trim_end_matches(']');
    Some(named.to_ascii_lowercase())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let given = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = given.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn is_json(value: &HeaderValue) -> bool {
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn look(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> Credentials {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.look(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn hosts() {
        let local = Guard::new(None, "127.0.0.1:8002".parse().unwrap(), &["Weir.example".to_owned()]);
        let all = Guard::new(None, "0.0.0.0:8002".parse().unwrap(), &[]);
        for (host, on_loopback, on_all) in [
            ("localhost:8002", true, true),
            ("LOCALHOST", true, true),
            ("127.0.0.1", true, true),
            ("[::1]:8002", true, true),
            ("weir.EXAMPLE:80", true, false),
            ("10.1.2.3:8002", false, true),
            ("evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("", false, false),
            ("[::1", false, false),
        ] {
            assert_eq!(look(&local, "/ops/models", &[("host", host)]).known_host, on_loopback, "{host}");
            assert_eq!(look(&all, "/ops/models", &[("host", host)]).known_host, on_all, "{host}");
        }
        assert!(!look(&local, "/ops/models", &[]).known_host);
        assert!(!look(&local, "/ops/models", &[("host", "localhost"), ("host", "evil.example")]).known_host);
        assert!(!look(&local, "http://evil.example/ops/models", &[("host", "localhost")]).known_host);
        assert!(look(&local, "http://[::1]:1/ops/models", &[]).known_host);
    }

    #[test]
    fn tokens() {
        let guard = Guard::new(Tokens::parse("s3cret").ok(), "127.0.0.1:8002".parse().unwrap(), &[]);
        for (given, want) in [
            ("Bearer s3cret", Some(true)),
            ("bearer  s3cret ", Some(true)),
            ("Bearer s3cre", Some(false)),
            ("Bearer s3cret2", Some(false)),
            ("Bearer ", Some(false)),
            ("Basic s3cret", None),
            ("s3cret", None),
        ] {
            assert_eq!(look(&guard, "/", &[("authorization", given)]).token, want, "{given}");
        }
        assert_eq!(look(&guard, "/", &[]).token, None);
    }

    #[test]
    fn names() {
        let bind = "127.0.0.1:8002".parse().unwrap();
        let guarded = Guard::new(Tokens::parse("ann:a1\nbob:b2").ok(), bind, &[]);
        let open = Guard::new(None, bind, &[]);
        for (given, guarded_name) in
            [("Bearer b2", "bob"), ("Bearer a1", "ann"), ("Bearer guess", ""), ("Basic b2", "")]
        {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(given))]);
            assert_eq!(&*guarded.who(&headers), guarded_name, "{given}");
            assert_eq!(&*open.who(&headers), "local", "{given}");
        }
        assert_eq!(&*guarded.who(&HeaderMap::new()), "");
    }

    #[test]
    fn content_types() {
        let guard = Guard::new(None, "127.0.0.1:8002".parse().unwrap(), &[]);
        for (given, want) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/jsonp", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(look(&guard, "/", &[("content-type", given)]).json, want, "{given}");
        }
    }
}
