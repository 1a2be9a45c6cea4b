//! What is in the registry directory at this moment: models with their versions, routes, and what was ignored. A scan keeps
//! nothing between calls; what to do about the difference to the last one is the manager's business. `weir check` scans too.

use std::{
    collections::BTreeMap,
    fs::{self, DirEntry, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::files::FileStamp;
use crate::types::{ModelName, Version};

/// Weir's own configuration of a model.
pub const MODEL_TOML: &str = "model.toml";
/// Triton's configuration of a model.
pub const CONFIG_PBTXT: &str = "config.pbtxt";
/// The file that makes a folder a route.
pub const ROUTE_TOML: &str = "route.toml";
/// The model file that needs no version folder.
pub const MODEL_ONNX: &str = "model.onnx";

/// More files than a version has; a folder with more is no version.
const MAX_FILES: usize = 1024;
const NO_FOLDER: &str = "a version must be a folder that is no link";

/// One look at the registry directory.
#[derive(Debug, Default)]
pub struct Scan {
    /// Every model, or why its folder could not be looked at.
    pub models: BTreeMap<ModelName, Result<FoundModel, String>>,
    /// Every route and its folder.
    pub routes: Vec<(ModelName, PathBuf)>,
    /// What is neither, with the reason.
    pub ignored: Vec<Ignored>,
    /// Device and inode of the directory: tells an unmounted registry from an emptied one.
    pub identity: (u64, u64),
}

/// Something in the registry that is neither model nor route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    /// Path relative to the registry.
    pub path: String,
    /// Why it is ignored.
    pub why: &'static str,
}

/// A model's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundModel {
    /// The folder, as found under the registry.
    pub folder: PathBuf,
    /// Stamps of the configuration files that exist.
    pub config: BTreeMap<&'static str, FileStamp>,
    /// The version folders, or version 1 for a bare `model.onnx`.
    pub versions: BTreeMap<Version, FoundVersion>,
    /// Stamps of the other files; the configuration may refer to them.
    pub loose: BTreeMap<String, FileStamp>,
}

/// A version's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVersion {
    /// Where its files are.
    pub place: Place,
    /// Stamps of its regular files.
    pub files: BTreeMap<String, FileStamp>,
}

/// Where a version's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the folder named by the version.
    Folder,
    /// In the model's folder.
    Bare,
}

/// Looks at the registry directory, which may be a link.
///
/// # Errors
/// When the directory itself cannot be read. What cannot be read inside it concerns that model only.
pub fn scan(root: &Path) -> io::Result<Scan> {
    let meta = fs::metadata(root)?;
    let mut scan = Scan { identity: (meta.dev(), meta.ino()), ..Scan::default() };
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let Some(name) = shown(&entry, "", &mut scan.ignored) else { continue };
        look_at_folder(&entry, &name, &mut scan);
    }
    scan.routes.sort();
    scan.ignored.sort();
    Ok(scan)
}

/// The entry's name as text; `None` for dot names, which are skipped silently, and for names that are no text.
fn shown(entry: &DirEntry, folder: &str, ignored: &mut Vec<Ignored>) -> Option<String> {
    let name = entry.file_name();
    if name.as_encoded_bytes().starts_with(b".") {
        return None;
    }
    let Some(text) = name.to_str() else {
        let path = format!("{folder}{}", name.to_string_lossy());
        ignored.push(Ignored { path, why: "the name is not UTF-8" });
        return None;
    };
    Some(text.to_owned())
}

fn look_at_folder(entry: &DirEntry, name: &str, scan: &mut Scan) {
    let mut ignore = |why| scan.ignored.push(Ignored { path: name.to_owned(), why });
    let path = entry.path();
    // Follows a link: a model's folder may be one.
    let is_folder = fs::metadata(&path).map(|meta| meta.is_dir());
    match is_folder {
        Ok(true) => {}
        Ok(false) => return ignore("not a folder"),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(entry) => return,
        Err(_) => return ignore("cannot be looked at"),
    }
    let Ok(model) = ModelName::parse(name) else {
        return ignore("the name does not match [A-Za-z0-9][A-Za-z0-9._-]{0,127}");
    };
    match look_inside(&path, name) {
        Err(error) => {
            let text = format!("the folder cannot be read: {}", error.kind());
            scan.models.insert(model, Err(text));
        }
        // Something is being prepared, as a push of a model's first version is.
        Ok(Inside { model: None, route: false, hidden_only: true, .. }) => {}
        Ok(Inside { model: None, route: false, ignored, .. }) => {
            ignore("neither model.toml, config.pbtxt, route.toml, model.onnx nor a version folder in it");
            scan.ignored.extend(ignored.into_iter().filter(|ignored| ignored.why == NO_FOLDER));
        }
        Ok(Inside { model: None, route: true, .. }) => scan.routes.push((model, path)),
        Ok(Inside { model: Some(_), route: true, .. }) => {
            let text = "is a model and a route: remove route.toml or the model's files";
            scan.models.insert(model, Err(text.to_owned()));
        }
        Ok(Inside { model: Some(found), route: false, ignored, .. }) => {
            scan.ignored.extend(ignored);
            scan.models.insert(model, Ok(found));
        }
    }
}

fn is_link(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_symlink())
}

/// What a folder of the registry holds.
struct Inside {
    model: Option<FoundModel>,
    route: bool,
    /// It holds dot names and nothing else.
    hidden_only: bool,
    ignored: Vec<Ignored>,
}

fn look_inside(path: &Path, name: &str) -> io::Result<Inside> {
    let mut found = FoundModel { folder: path.to_owned(), ..FoundModel::default() };
    let mut ignored = Vec::new();
    let mut files = BTreeMap::new();
    let mut route = false;
    let (mut hidden, mut visible) = (false, false);
    let prefix = format!("{name}/");
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        hidden |= is_hidden;
        visible |= !is_hidden;
        let Some(inner) = shown(&entry, &prefix, &mut ignored) else { continue };
        let Some(meta) = existing(&entry)? else { continue };
        let mut ignore = |why| ignored.push(Ignored { path: format!("{prefix}{inner}"), why });
        match (Version::parse(&inner), meta.is_dir()) {
            (Some(version), true) => {
                let files = look_at_files(&entry.path());
                found.versions.insert(version, FoundVersion { place: Place::Folder, files });
            }
            (Some(_), false) => ignore(NO_FOLDER),
            // A folder of that name is no route, but was meant as one: who reads it says what is wrong.
            (None, _) if inner == ROUTE_TOML => route = true,
            (None, true) => ignore("the name is no version"),
            (None, false) => match config_name(&inner) {
                Some(config) => {
                    found.config.insert(config, FileStamp::of(&meta));
                }
                None => {
                    files.insert(inner, FileStamp::of(&meta));
                }
            },
        }
    }
    adopt_bare_model(&mut found, files, &prefix, &mut ignored);
    let is_model = !found.config.is_empty() || !found.versions.is_empty();
    Ok(Inside { model: is_model.then_some(found), route, hidden_only: hidden && !visible, ignored })
}

/// A `model.onnx` beside no version folder is version 1, together with the files beside it.
fn adopt_bare_model(
    found: &mut FoundModel,
    files: BTreeMap<String, FileStamp>,
    prefix: &str,
    ignored: &mut Vec<Ignored>,
) {
    if !files.contains_key(MODEL_ONNX) {
        found.loose = files;
    } else if found.versions.is_empty() {
        found.versions.insert(Version::ONE, FoundVersion { place: Place::Bare, files });
    } else {
        ignored.push(Ignored {
            path: format!("{prefix}{MODEL_ONNX}"),
            why: "there are version folders: move it into one of its own",
        });
        found.loose = files;
        found.loose.remove(MODEL_ONNX);
    }
}

fn config_name(name: &str) -> Option<&'static str> {
    [MODEL_TOML, CONFIG_PBTXT].into_iter().find(|config| *config == name)
}

/// The entry's own metadata (a link is a link); `None` when it has gone meanwhile.
fn existing(entry: &DirEntry) -> io::Result<Option<Metadata>> {
    match entry.metadata() {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stamps of the files in a version's folder. Links and unreadable folders have none: the loader says what is wrong.
fn look_at_files(folder: &Path) -> BTreeMap<String, FileStamp> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries.flatten().take(MAX_FILES) {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        if let Ok(Some(meta)) = existing(&entry)
            && !meta.is_dir()
        {
            files.insert(name.to_owned(), FileStamp::of(&meta));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn put(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    fn name(text: &str) -> ModelName {
        ModelName::parse(text).unwrap()
    }

    fn versions(scan: &Scan, model: &str) -> Vec<u64> {
        scan.models[&name(model)].as_ref().unwrap().versions.keys().map(|version| version.get()).collect()
    }

    #[test]
    fn finds_models_and_routes() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for path in ["two/1/model.onnx", "two/2/model.onnx", "two/2/w.bin", "bare/model.onnx", "bare/w.bin"] {
            put(root, path);
        }
        for path in ["toml-only/model.toml", "triton/config.pbtxt", "triton/labels.txt", "route/route.toml"] {
            put(root, path);
        }
        put(root, "route/.history/000001.toml");
        put(root, "big/999999999999999999/model.onnx");
        symlink(root.join("two"), root.join("linked")).unwrap();
        let scan = scan(root).unwrap();
        assert_eq!(versions(&scan, "two"), [1, 2]);
        assert_eq!(versions(&scan, "linked"), [1, 2]);
        assert_eq!(versions(&scan, "bare"), [1]);
        assert_eq!(versions(&scan, "toml-only"), [0_u64; 0]);
        assert_eq!(versions(&scan, "big"), [999_999_999_999_999_999]);
        let bare = &scan.models[&name("bare")].as_ref().unwrap().versions[&Version::ONE];
        assert_eq!((bare.place, bare.files.len()), (Place::Bare, 2));
        let loose = &scan.models[&name("triton")].as_ref().unwrap().loose;
        assert_eq!(loose.keys().collect::<Vec<_>>(), ["labels.txt"]);
        assert_eq!(scan.routes, [(name("route"), root.join("route"))]);
        assert_eq!(scan.ignored, []);
    }

    #[test]
    fn ignores_what_is_neither_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "README.md");
        put(root, ".hidden/1/model.onnx");
        put(root, "bad name/1/model.onnx");
        put(root, "empty/nothing.txt");
        put(root, "m/1/model.onnx");
        put(root, "m/model.onnx");
        put(root, "m/.tmp/model.onnx");
        for wrong in ["0", "007", "-1", "1.tmp", "1 copy", "9223372036854775807"] {
            put(root, &format!("m/{wrong}/model.onnx"));
        }
        put(root, "m/2");
        symlink(root.join("m/1"), root.join("m/3")).unwrap();
        put(root, "pushing/.push-1-1/model.onnx");
        fs::create_dir(root.join("links")).unwrap();
        symlink(root.join("m/1"), root.join("links/1")).unwrap();
        let scan = scan(root).unwrap();
        assert_eq!(scan.models.len(), 1);
        assert_eq!(versions(&scan, "m"), [1]);
        let paths: Vec<_> = scan.ignored.iter().map(|ignored| ignored.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "README.md",
                "bad name",
                "empty",
                "links",
                "links/1",
                "m/-1",
                "m/0",
                "m/007",
                "m/1 copy",
                "m/1.tmp",
                "m/2",
                "m/3",
                "m/9223372036854775807",
                "m/model.onnx"
            ]
        );
    }

    #[test]
    fn a_name_that_is_both_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "both/1/model.onnx");
        put(root.path(), "both/route.toml");
        let scan = scan(root.path()).unwrap();
        assert!(scan.routes.is_empty());
        let error = scan.models[&name("both")].as_ref().unwrap_err();
        assert_eq!(error, "is a model and a route: remove route.toml or the model's files");
    }

    #[test]
    fn an_unreadable_folder_concerns_one_model() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "good/1/model.onnx");
        put(root.path(), "locked/1/model.onnx");
        let locked = root.path().join("locked");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        let result = scan(root.path()).unwrap();
        let readable_all_the_same = fs::read_dir(&locked).is_ok();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(versions(&result, "good"), [1]);
        // The super-user reads everything.
        assert!(readable_all_the_same || result.models[&name("locked")].is_err());
        assert!(scan(&root.path().join("absent")).is_err());
    }
}
