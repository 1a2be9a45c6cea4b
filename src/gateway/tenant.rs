//! Whose a request is: read from a header or a parameter that the operator names, for fair shares of a queue. Asked by the
//! gateway for every request, where it is configured.

use xxhash_rust::xxh3::xxh3_64;

use crate::types::{InferRequest, ParamValue, TenantKey};

/// The longest name of a tenant that is looked at, in bytes.
const MAX_NAME: usize = 256;

/// A number for the tenant of a request: the same for the same name. 0 when it says none.
pub(super) fn tenant(key: &TenantKey, request: &InferRequest) -> u64 {
    match key {
        TenantKey::Header(name) => {
            let headers = request.context.headers.as_ref();
            headers.and_then(|headers| headers.get(name)).map_or(0, number)
        }
        TenantKey::Parameter(name) => match request.params.get(name) {
            None => 0,
            Some(ParamValue::Text(text)) => number(text.as_bytes()),
            Some(other) => number(other.to_string().as_bytes()),
        },
    }
}

/// Neither 0, which is nobody, nor the largest, which is everybody who is not told apart.
fn number(name: &[u8]) -> u64 {
    if name.is_empty() { 0 } else { xxh3_64(name.get(..MAX_NAME).unwrap_or(name)).clamp(1, u64::MAX - 1) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::types::{Headers, Params, Protocol, RequestContext, VersionRef};

    struct One(&'static str, &'static [u8]);

    impl Headers for One {
        fn get(&self, name: &str) -> Option<&[u8]> {
            (name == self.0).then_some(self.1)
        }
    }

    fn request(header: &'static [u8], param: Option<ParamValue>) -> InferRequest {
        let mut context = RequestContext::new(Protocol::Http, Instant::now());
        context.headers = Some(Box::new(One("x-tenant", header)));
        let mut params = Params::default();
        if let Some(value) = param {
            params.set("customer", value);
        }
        InferRequest {
            model: "m".into(),
            version: VersionRef::Policy,
            id: "".into(),
            params,
            inputs: Vec::new(),
            outputs: Vec::new(),
            context,
        }
    }

    #[test]
    fn tenants_are_told_apart_by_what_the_operator_names() {
        let header: TenantKey = "header:X-Tenant".parse().unwrap();
        let of = |name| tenant(&header, &request(name, None));
        assert_eq!((of(b"a"), of(b"")), (of(b"a"), 0));
        assert_ne!(of(b"a"), of(b"b"));
        let parameter: TenantKey = "parameter:customer".parse().unwrap();
        let of = |value| tenant(&parameter, &request(b"a", value));
        assert_eq!(of(None), 0);
        assert_eq!(of(Some(ParamValue::Int(7))), of(Some(ParamValue::Text("7".into()))));
    }
}
