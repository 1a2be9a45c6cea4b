//! Unary gRPC on the wire: a five-byte prefix and a message each way. Done by hand for two reasons: a request that arrives in
//! one piece is decoded where it lies, and a message above the limit is RESOURCE_EXHAUSTED, as every other gRPC server says.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};

use crate::{
    transport::{
        budget::Share,
        coding::{Coding, compress, decompress},
        given::{Given, Known},
        intake::Intake,
    },
    types::{Error, ErrorCode},
};

const GRPC_ENCODING: HeaderName = Known::GrpcEncoding.name();

/// Compressed flag and length.
pub(super) const PREFIX: usize = 5;
/// Answers below this are not worth compressing.
const WORTH_COMPRESSING: usize = 1024;

/// How a request is compressed and whether its answer should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codings {
    pub(super) request: Option<Coding>,
    /// Answers mirror the request: nearly every client says that it accepts compression, few want to wait for it.
    pub(super) answer: Option<Coding>,
}

impl Codings {
    /// # Errors
    /// `Unimplemented` for a compression that is not known.
    pub(super) fn of(headers: &HeaderMap, given: Given) -> Result<Self, Error> {
        let Some(named) = given.get(headers, Known::GrpcEncoding) else { return Ok(Self::default()) };
        let token = named.to_str().unwrap_or("?");
        if token.eq_ignore_ascii_case("identity") {
            return Ok(Self::default());
        }
        let Some(coding) = Coding::parse(token) else {
            let text = format!("grpc-encoding: expected identity, gzip or deflate, got '{token}'");
            return Err(Error::new(ErrorCode::Unimplemented, text));
        };
        let accepted =
            given.get(headers, Known::GrpcAcceptEncoding).and_then(|list| list.to_str().ok()).unwrap_or_default();
        let answer = accepted.split(',').any(|token| Coding::parse(token) == Some(coding)).then_some(coding);
        Ok(Self { request: Some(coding), answer })
    }

    /// Says how the answer is compressed.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        if let Some(coding) = self.answer {
            headers.insert(GRPC_ENCODING, http::HeaderValue::from_static(coding.as_str()));
        }
    }
}

/// The length of a body by its first bytes.
pub(super) fn announced(first: &[u8]) -> Option<usize> {
    let (_, length) = prefix(first)?;
    length.checked_add(PREFIX)
}

fn prefix(body: &[u8]) -> Option<(u8, usize)> {
    let (flag, rest) = body.split_first()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    Some((*flag, usize::try_from(u32::from_be_bytes(*length)).ok()?))
}

/// Takes the message out of a unary request's body.
///
/// # Errors
/// `InvalidArgument` when the frame is damaged, `TooLarge` or `Overloaded` when it decompresses to too much.
pub(super) async fn unframe(
    body: Bytes,
    coding: Option<Coding>,
    intake: &Intake,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let Some((flag, length)) = prefix(&body) else {
        return Err(Error::expected("body", "one gRPC message", format_args!("{} bytes", body.len())));
    };
    if length > intake.max_body {
        return Err(intake.too_large());
    }
    let there = body.len() - PREFIX;
    if there != length {
        return Err(Error::expected("message", format_args!("{length} bytes"), there));
    }
    let message = body.slice(PREFIX..);
    match (flag, coding) {
        (0, _) => Ok(message),
        (1, Some(coding)) => decompress(coding, &message, intake, share).await,
        // The gRPC specification asks for exactly this code.
        (1, None) => Err(Error::new(ErrorCode::Internal, "message: compressed, but grpc-encoding is missing")),
        (flag, _) => Err(Error::expected("message: compressed flag", "0 or 1", flag)),
    }
}

/// A message with its prefix, compressed if asked and worth it.
pub(super) fn frame(message: &impl prost::Message, coding: Option<Coding>) -> Result<Bytes, Error> {
    // There is room for what it says it takes, which is the only reason to fail.
    frame_with(message.encoded_len(), |out| message.encode(out).unwrap_or_default(), coding)
}

/// The same with a message of `length` bytes that `write` writes.
pub(super) fn frame_with(
    length: usize,
    write: impl FnOnce(&mut BytesMut),
    coding: Option<Coding>,
) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(PREFIX + length);
    put_prefix(&mut out, 0, length)?;
    write(&mut out);
    if out.len() != PREFIX + length {
        let text = format!("{length} bytes were to be written, {} were", out.len().saturating_sub(PREFIX));
        return Err(Error::internal("server: the answer cannot be encoded", text));
    }
    let packed = coding.filter(|_| length >= WORTH_COMPRESSING).and_then(|coding| compress(coding, &out[PREFIX..]));
    if let Some(packed) = packed {
        out.clear();
        put_prefix(&mut out, 1, packed.len())?;
        out.extend_from_slice(&packed);
    }
    Ok(out.freeze())
}

fn put_prefix(out: &mut BytesMut, flag: u8, length: usize) -> Result<(), Error> {
    let length = u32::try_from(length).map_err(|_| Error::new(ErrorCode::TooLarge, "answer: larger than 4 GiB"))?;
    out.put_u8(flag);
    out.put_u32(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::transport::budget::Budget;

    fn intake() -> Intake {
        Intake { max_body: 1 << 16, patience: Duration::from_secs(1), budget: Budget::new(1 << 20) }
    }

    async fn read(body: &[u8], coding: Option<Coding>) -> Result<Bytes, (ErrorCode, String)> {
        let intake = intake();
        let body = Bytes::copy_from_slice(body);
        unframe(body, coding, &intake, &mut intake.budget.share()).await.map_err(|e| (e.code(), e.text().to_owned()))
    }

    #[tokio::test]
    async fn frames_round_trip() {
        let long = "x".repeat(4000);
        for (text, coding) in [("a", None), ("a", Some(Coding::Gzip)), (&*long, Some(Coding::Deflate)), (&*long, None)]
        {
            let framed = frame(&text.to_owned(), coding).unwrap();
            assert_eq!(framed[0] == 1, coding.is_some() && text.len() > 1000);
            let message = read(&framed, coding).await.unwrap();
            assert_eq!(<String as prost::Message>::decode(message).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn damaged_frames() {
        use ErrorCode::{Internal, InvalidArgument, TooLarge};
        for (body, code, text) in [
            (&b""[..], InvalidArgument, "body: expected one gRPC message, got 0 bytes"),
            (b"\0\0\0\0", InvalidArgument, "body: expected one gRPC message, got 4 bytes"),
            (b"\0\0\0\0\x05abc", InvalidArgument, "message: expected 5 bytes, got 3"),
            (b"\0\0\0\0\x01abc", InvalidArgument, "message: expected 1 bytes, got 3"),
            (b"\x02\0\0\0\x01a", InvalidArgument, "message: compressed flag: expected 0 or 1, got 2"),
            (b"\x01\0\0\0\x01a", Internal, "message: compressed, but grpc-encoding is missing"),
            (b"\0\xff\xff\xff\xff", TooLarge, "body: expected at most 65536 bytes, got more"),
        ] {
            assert_eq!(read(body, None).await, Err((code, text.to_owned())));
        }
        let bomb = frame(&"\0".repeat(1 << 20), Some(Coding::Gzip)).unwrap();
        assert_eq!(read(&bomb, Some(Coding::Gzip)).await.unwrap_err().0, TooLarge);
    }

    #[test]
    fn answers_mirror_the_requests_coding() {
        let codings = |request: &str, accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_ENCODING, request.parse().unwrap());
            headers.insert(Known::GrpcAcceptEncoding.name(), accept.parse().unwrap());
            Codings::of(&headers, Given::of(&headers)).map(|codings| (codings.request, codings.answer))
        };
        assert_eq!(codings("identity", "identity, deflate, gzip"), Ok((None, None)));
        assert_eq!(codings("gzip", "identity, deflate, gzip"), Ok((Some(Coding::Gzip), Some(Coding::Gzip))));
        assert_eq!(codings("gzip", "identity"), Ok((Some(Coding::Gzip), None)));
        assert_eq!(codings("zstd", "").unwrap_err().code(), ErrorCode::Unimplemented);
    }
}
