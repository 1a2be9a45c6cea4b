//! What a file is that is not a model: people rename, truncate and forget to fetch.

use super::super::LoadError;

/// Bytes looked at to tell text from data.
const LOOK_BYTES: usize = 512;

const LARGE_FILE_POINTER: &[u8] = b"version https://git-lfs.github.com/";

/// The reason why bytes cannot be decoded as a model; `decoding` is what the decoder said.
pub(in super::super) fn not_a_model(bytes: &[u8], decoding: &str) -> LoadError {
    let look = &bytes[..bytes.len().min(LOOK_BYTES)];
    let what = if bytes.is_empty() {
        "the file is empty".to_owned()
    } else if bytes.starts_with(LARGE_FILE_POINTER) {
        "the file is a Git LFS pointer, not the model itself".to_owned()
    } else if is_text(look) {
        "the file is text, not ONNX".to_owned()
    } else {
        format!("the file is truncated or not ONNX ({} bytes): {decoding}", bytes.len())
    };
    LoadError::new(format!("model: {what}"))
}

fn is_text(look: &[u8]) -> bool {
    let cut_at_the_end = |error: std::str::Utf8Error| error.error_len().is_none();
    let utf8 = std::str::from_utf8(look).map_or_else(cut_at_the_end, |_| true);
    utf8 && look.iter().all(|byte| *byte >= b' ' || matches!(byte, b'\n' | b'\r' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_file_is() {
        let check = |bytes: &[u8], text: &str| assert_eq!(not_a_model(bytes, "short").to_string(), text);
        check(b"", "model: the file is empty");
        check(b"a note\n", "model: the file is text, not ONNX");
        check("żółw".repeat(200).as_bytes(), "model: the file is text, not ONNX");
        check(b"\x08\x08\x12", "model: the file is truncated or not ONNX (3 bytes): short");
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
        check(pointer, "model: the file is a Git LFS pointer, not the model itself");
    }
}
