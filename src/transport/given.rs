//! Which of the headers that Weir looks at a request has. Most requests have few headers and hardly any of these, so that one walk
//! over what there is costs less than to look each of them up. Made by the handlers of both protocols for every request.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::protocol::json;

/// A header that means something to Weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Known {
    RequestId = 1,
    Traceparent = 1 << 1,
    GrpcTimeout = 1 << 2,
    GrpcEncoding = 1 << 3,
    GrpcAcceptEncoding = 1 << 4,
    RequestTimeout = 1 << 5,
    JsonLength = 1 << 6,
    ContentEncoding = 1 << 7,
    AcceptEncoding = 1 << 8,
}

impl Known {
    /// The header with a name, which is in lower case.
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "x-request-id" => Self::RequestId,
            "traceparent" => Self::Traceparent,
            "grpc-timeout" => Self::GrpcTimeout,
            "grpc-encoding" => Self::GrpcEncoding,
            "grpc-accept-encoding" => Self::GrpcAcceptEncoding,
            "request-timeout-ms" => Self::RequestTimeout,
            json::HEADER_LENGTH => Self::JsonLength,
            "content-encoding" => Self::ContentEncoding,
            "accept-encoding" => Self::AcceptEncoding,
            _ => return None,
        })
    }

    /// Its name.
    pub(super) const fn name(self) -> HeaderName {
        match self {
            Self::RequestId => HeaderName::from_static("x-request-id"),
            Self::Traceparent => HeaderName::from_static("traceparent"),
            Self::GrpcTimeout => HeaderName::from_static("grpc-timeout"),
            Self::GrpcEncoding => HeaderName::from_static("grpc-encoding"),
            Self::GrpcAcceptEncoding => HeaderName::from_static("grpc-accept-encoding"),
            Self::RequestTimeout => HeaderName::from_static("request-timeout-ms"),
            Self::JsonLength => HeaderName::from_static(json::HEADER_LENGTH),
            Self::ContentEncoding => header::CONTENT_ENCODING,
            Self::AcceptEncoding => header::ACCEPT_ENCODING,
        }
    }
}

/// The headers of one request that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given(u16);

impl Given {
    /// What these headers have.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let bit = |name: &HeaderName| Known::parse(name.as_str()).map_or(0, |known| known as u16);
        Self(headers.keys().fold(0, |all, name| all | bit(name)))
    }

    /// A header of the map that this was made of: its first value.
    pub(super) fn get(self, headers: &HeaderMap, known: Known) -> Option<&HeaderValue> {
        if self.has(known) { headers.get(known.name()) } else { None }
    }

    /// Whether a header is there.
    pub(super) fn has(self, known: Known) -> bool {
        self.0 & known as u16 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Known; 9] = [
        Known::RequestId,
        Known::Traceparent,
        Known::GrpcTimeout,
        Known::GrpcEncoding,
        Known::GrpcAcceptEncoding,
        Known::RequestTimeout,
        Known::JsonLength,
        Known::ContentEncoding,
        Known::AcceptEncoding,
    ];

    #[test]
    fn each_header_is_found_by_its_name_and_by_no_other() {
        for known in ALL {
            assert_eq!(Known::parse(known.name().as_str()), Some(known));
            let headers = HeaderMap::from_iter([
                (header::HOST, HeaderValue::from_static("h")),
                (known.name(), HeaderValue::from_static("first")),
            ]);
            let given = Given::of(&headers);
            for other in ALL {
                let want = (other == known).then_some(&b"first"[..]);
                assert_eq!(given.get(&headers, other).map(HeaderValue::as_bytes), want, "{known:?} {other:?}");
            }
        }
        assert_eq!(Given::of(&HeaderMap::new()), Given(0));
    }
}
