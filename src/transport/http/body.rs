//! Bodies of HTTP requests and answers: taken in under every limit, decompressed, and compressed where the caller accepts it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::Incoming;

use super::reply::Failed;
use crate::{
    transport::{
        budget::Share,
        coding::{Coding, compress, decompress},
        given::{Given, Known},
        intake::Intake,
    },
    types::Error,
};

/// Answers below this fit into one packet as they are.
const WORTH_COMPRESSING: usize = 1024;

/// Reads a request's body, decompressed.
///
/// # Errors
/// Everything that a body can be refused for.
pub(in crate::transport) async fn take(
    intake: &Intake,
    (headers, given): (&HeaderMap, Given),
    body: Incoming,
) -> Result<(Bytes, Share), Failed> {
    let coding = if given.has(Known::ContentEncoding) { coding(headers)? } else { None };
    let (mut bytes, mut share) = intake.collect(body, 0, |_| None).await.map_err(Failed::Body)?;
    if let Some(coding) = coding {
        bytes = decompress(coding, &bytes, intake, &mut share).await?;
    }
    Ok((bytes, share))
}

fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Failed> {
    let mut given = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let token = value.to_str().unwrap_or("?").trim();
    match Coding::parse(token) {
        Some(coding) if given.next().is_none() => Ok(Some(coding)),
        None if token.is_empty() || token.eq_ignore_ascii_case("identity") => Ok(None),
        _ => Err(Failed::Coding(Error::expected("content-encoding", "gzip or deflate", format_args!("'{token}'")))),
    }
}

/// Compresses an answer if its caller accepts that and it is worth it.
pub(super) fn compressed(accepts: Option<&HeaderValue>, bytes: Bytes, headers: &mut HeaderMap) -> Bytes {
    let Some(accepts) = accepts.and_then(|list| list.to_str().ok()) else { return bytes };
    if bytes.len() < WORTH_COMPRESSING {
        return bytes;
    }
    let Some(coding) = Coding::accepted(accepts) else { return bytes };
    match compress(coding, &bytes) {
        Some(packed) => {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
            headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
            packed
        }
        None => bytes,
    }
}
