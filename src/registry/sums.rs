//! Digests of a version's files. Those of large files are worked out on a thread of their own, beside the engine that loads the
//! model: they are only needed when it serves. Made by `bundle`, awaited by the loader.

use std::{collections::BTreeMap, sync::Arc, thread};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::publish::hex;
use crate::engine::LoadError;

/// Files up to this size are digested where they are read: a thread would take longer.
const SMALL_BYTES: usize = 1 << 20;

/// A SHA-256.
type Sha = [u8; 32];

/// What the digests of a version come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// SHA-256 of the model file, in hexadecimal.
    pub digest: Arc<str>,
    /// SHA-256 over everything that was read: equal when nothing that matters has changed.
    pub fingerprint: Arc<str>,
}

/// Digests that may still be on their way.
#[derive(Debug)]
pub struct Summing(State);

#[derive(Debug)]
enum State {
    Done(Sums),
    Going(thread::JoinHandle<Sums>),
}

impl Summing {
    /// The digests, when they are there.
    ///
    /// # Errors
    /// When their thread has panicked.
    pub fn wait(self) -> Result<Sums, LoadError> {
        match self.0 {
            State::Done(sums) => Ok(sums),
            State::Going(thread) => thread.join().map_err(|_| LoadError::new("digests: panicked")),
        }
    }
}

impl From<Sums> for Summing {
    fn from(sums: Sums) -> Self {
        Self(State::Done(sums))
    }
}

/// Files by name, as they are read.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: BTreeMap<String, Sha>,
    /// Large ones.
    open: Vec<(String, Bytes)>,
}

impl Files {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.known.contains_key(name) || self.open.iter().any(|(open, _)| open == name)
    }

    /// Adds a file whose digest is known.
    pub(super) fn add_known(&mut self, name: &str, digest: Sha) {
        self.known.insert(name.to_owned(), digest);
    }

    /// Adds a file; its digest is worked out now or later.
    pub(super) fn add(&mut self, name: &str, bytes: &Bytes) {
        if bytes.len() <= SMALL_BYTES {
            self.add_known(name, Sha256::digest(bytes).into());
        } else {
            self.open.push((name.to_owned(), bytes.clone()));
        }
    }

    /// Works out what is missing, for the model of this name.
    pub(super) fn sum(self, model: &str) -> Summing {
        if self.open.is_empty() {
            return self.summed(model).into();
        }
        let shared = Arc::new((self, model.to_owned()));
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("weir-digest".to_owned()).spawn(move || theirs.0.summed(&theirs.1));
        match thread {
            Ok(thread) => Summing(State::Going(thread)),
            Err(_) => shared.0.summed(&shared.1).into(),
        }
    }

    fn summed(&self, model: &str) -> Sums {
        let open = self.open.iter().map(|(name, bytes)| (name.as_str(), Sha256::digest(bytes).into()));
        let known = self.known.iter().map(|(name, digest)| (name.as_str(), *digest));
        let digests: BTreeMap<&str, Sha> = known.chain(open).collect();
        let mut all = Sha256::new();
        for (name, digest) in &digests {
            all.update((name.len() as u64).to_le_bytes());
            all.update(name);
            all.update(digest);
        }
        let digest = digests.get(model).map_or_else(String::new, |digest| hex(digest));
        Sums { digest: digest.into(), fingerprint: hex(&all.finalize()).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_matter_where_a_file_is_digested() {
        let (model, small) = (Bytes::from(vec![7; SMALL_BYTES + 1]), Bytes::from_static(b"data"));
        let mut files = Files::default();
        files.add("model.onnx", &model);
        files.add("w.bin", &small);
        assert!(files.contains("model.onnx") && files.contains("w.bin") && !files.contains("other"));
        let summing = files.sum("model.onnx");
        assert!(matches!(summing.0, State::Going(_)));
        let mut known = Files::default();
        known.add("w.bin", &small);
        known.add_known("model.onnx", Sha256::digest(&model).into());
        let done = known.sum("model.onnx");
        assert!(matches!(done.0, State::Done(_)));
        let sums = summing.wait().unwrap();
        assert_eq!(*sums.digest, *hex(&Sha256::digest(&model)));
        assert_eq!(sums, done.wait().unwrap());
    }
}
