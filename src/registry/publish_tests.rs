//! Tests of `publish`: whole versions or none, whoever else publishes.

use super::*;
use std::collections::BTreeSet;

fn model() -> ModelName {
    ModelName::parse("m").unwrap()
}

fn file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path
}

fn push(root: &Path, from: &Path, version: Option<u64>) -> Result<Published, PublishError> {
    let version = version.map(|number| Version::new(number).unwrap());
    publish(root, Publication { model: &model(), from, model_filename: MODEL_ONNX, version, golden: None })
}

#[test]
fn a_version_appears_whole_with_its_manifest() {
    let root = tempfile::tempdir().unwrap();
    let from = file(root.path(), "export.onnx", b"abc");
    let first = push(root.path(), &from, None).unwrap();
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
    assert_eq!(first.files, [PublishedFile { name: MODEL_ONNX.to_owned(), sha256: sha256.clone(), size: 3 }]);
    assert_eq!(first.folder, root.path().join("m/1"));
    assert_eq!(fs::read(first.folder.join(MODEL_ONNX)).unwrap(), b"abc");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(first.folder.join(MANIFEST_JSON)).unwrap()).unwrap();
    assert_eq!(manifest, serde_json::json!({"files":[{"path":"model.onnx","sha256":sha256,"size":3}]}));
    // Numbers are compared as numbers, and gaps are not filled.
    fs::create_dir(root.path().join("m/10")).unwrap();
    assert_eq!(push(root.path(), &from, None).unwrap().version.get(), 11);
    assert_eq!(push(root.path(), &from, Some(9)).unwrap().version.get(), 9);
    let left: Vec<_> = fs::read_dir(root.path().join("m")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "nothing hidden is left: {left:?}");
}

#[test]
fn versions_are_immutable() {
    let root = tempfile::tempdir().unwrap();
    let from = file(root.path(), "export.onnx", b"abc");
    push(root.path(), &from, Some(2)).unwrap();
    let error = push(root.path(), &file(root.path(), "other.onnx", b"x"), Some(2)).unwrap_err();
    assert_eq!(error.to_string(), "model 'm' version 2: exists already");
    assert_eq!(fs::read(root.path().join("m/2/model.onnx")).unwrap(), b"abc");
    // An empty folder is a version that somebody else is about to fill.
    fs::create_dir(root.path().join("m/3")).unwrap();
    assert!(matches!(push(root.path(), &from, Some(3)), Err(PublishError::Exists(..))));
}

#[test]
fn a_folder_is_published_with_all_its_files() {
    let root = tempfile::tempdir().unwrap();
    let export = root.path().join("export");
    fs::create_dir(&export).unwrap();
    let error = push(root.path(), &export, None).unwrap_err().to_string();
    assert!(error.ends_with("export: expected a model.onnx in it"), "{error}");
    for name in ["model.onnx", "w.bin", "golden.json", "manifest.json", ".hidden"] {
        file(&export, name, name.as_bytes());
    }
    let published = push(root.path(), &export, None).unwrap();
    let names: Vec<_> = published.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["golden.json", "model.onnx", "w.bin"]);
    let golden = file(root.path(), "answers.json", b"{}");
    let other = Publication {
        model: &model(),
        from: &export,
        model_filename: MODEL_ONNX,
        version: None,
        golden: Some(&golden),
    };
    let folder = publish(root.path(), other).unwrap().folder;
    assert_eq!(fs::read(folder.join(GOLDEN_JSON)).unwrap(), b"{}");
    fs::create_dir(export.join("sub")).unwrap();
    assert!(matches!(push(root.path(), &export, None), Err(PublishError::Refused(_))));
}

#[test]
fn routes_and_bare_models_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let from = file(root.path(), "export.onnx", b"abc");
    fs::create_dir(root.path().join("m")).unwrap();
    let bare = file(&root.path().join("m"), MODEL_ONNX, b"x");
    let error = push(root.path(), &from, None).unwrap_err().to_string();
    assert!(error.contains("move it to 1/model.onnx first"), "{error}");
    fs::remove_file(bare).unwrap();
    file(&root.path().join("m"), ROUTE_TOML, b"");
    assert!(push(root.path(), &from, None).unwrap_err().to_string().ends_with("m: is a route"));
    assert!(matches!(push(root.path(), &root.path().join("absent"), None), Err(PublishError::Io { .. })));
}

#[test]
fn races_end_in_different_numbers() {
    let root = tempfile::tempdir().unwrap();
    let from = file(root.path(), "export.onnx", b"abc");
    let versions: BTreeSet<_> = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..5).map(|_| push(root.path(), &from, None).unwrap().version).collect()))
            .collect::<Vec<std::thread::ScopedJoinHandle<'_, Vec<_>>>>();
        pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()).collect()
    });
    assert_eq!(versions, (1..=40).map(|number| Version::new(number).unwrap()).collect());
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let from = file(root.path(), "export.onnx", b"abc");
    let absent = root.path().join("absent");
    let golden = Some(absent.as_path());
    let half = Publication { model: &model(), from: &from, model_filename: MODEL_ONNX, version: None, golden };
    assert!(matches!(publish(root.path(), half), Err(PublishError::Io { .. })));
    assert!(!root.path().join("m").exists(), "no empty folder of a model that came to nothing");
    let error = push(&absent, &from, None).unwrap_err().to_string();
    assert!(error.starts_with("creating ") && error.contains("No such file"), "a registry is not made: {error}");
    assert!(!absent.exists());
    push(root.path(), &from, None).unwrap();
    assert!(publish(root.path(), half).is_err());
    assert!(root.path().join("m/1/model.onnx").is_file(), "what was there stays");
}
