//! Which folders of the routes' directory are routes: those with a `route.toml`, and those with a history, whose routes may have
//! been deleted. Keeps nothing between calls.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{registry::source::ROUTE_TOML, types::ModelName};

/// One look at the directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Routes.
    pub(super) routes: BTreeSet<ModelName>,
    /// Every folder: a route may be about to be made in it.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Folders that would be routes if they had a name that a route can have.
    pub(super) misnamed: Vec<String>,
    /// Device and inode of the directory: tells an unmounted directory from an emptied one.
    pub(super) identity: (u64, u64),
}

/// Looks at the directory, which may be a link.
///
/// # Errors
/// When it cannot be read. What cannot be read inside it is looked at more closely by the route's own store.
pub(super) fn scan(root: &Path) -> io::Result<Found> {
    let meta = fs::metadata(root)?;
    let mut found = Found { identity: (meta.dev(), meta.ino()), ..Found::default() };
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = entry.path();
        if name.as_encoded_bytes().starts_with(b".") || !path.is_dir() {
            continue;
        }
        found.folders.insert(path.clone());
        if !is_route(&path) {
            continue;
        }
        match name.to_str().and_then(|name| ModelName::parse(name).ok()) {
            Some(name) => {
                found.routes.insert(name);
            }
            None => found.misnamed.push(name.to_string_lossy().into_owned()),
        }
    }
    Ok(found)
}

fn is_route(folder: &Path) -> bool {
    // A link is something too: what it is worth is said later.
    fs::symlink_metadata(folder.join(ROUTE_TOML)).is_ok() || folder.join(".history").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn folders_with_a_route_or_a_history_are_found() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for path in ["a/route.toml", "b/.history/000001.toml", "m/1/model.onnx", ".x/route.toml", "no name/route.toml"]
        {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        }
        fs::write(root.join("route.toml"), "").unwrap();
        symlink(root.join("a"), root.join("linked")).unwrap();
        let found = scan(root).unwrap();
        let names: Vec<_> = found.routes.iter().map(ModelName::as_str).collect();
        assert_eq!(names, ["a", "b", "linked"]);
        assert_eq!(found.misnamed, ["no name"]);
        assert_eq!(found.folders.len(), 5, "the models' too");
        assert!(scan(&root.join("absent")).is_err());
    }
}
