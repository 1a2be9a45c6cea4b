//! Where the library may be when nobody names it: in the Python package `onnxruntime`, as `pip install onnxruntime` leaves it
//! beside this program, in the active virtual environment, or beside the `python3` that a shell would run. Python itself is not
//! run, and nothing else is searched. Called by `library`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// What the search goes out from.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// This program.
    pub(super) program: Option<PathBuf>,
    /// The active virtual environment.
    pub(super) virtual_env: Option<PathBuf>,
    /// Where programs are.
    pub(super) path: Option<OsString>,
    /// The user's directory.
    pub(super) home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            program: env::current_exe().ok(),
            virtual_env: folder("VIRTUAL_ENV"),
            path: env::var_os("PATH"),
            home: folder("HOME"),
        }
    }

    /// The libraries that are there, the likeliest first.
    pub(super) fn libraries(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for packages in self.package_folders() {
            for library in libraries_in(&packages.join("onnxruntime/capi")) {
                if !found.contains(&library) {
                    found.push(library);
                }
            }
        }
        found
    }

    /// Folders of Python packages.
    fn package_folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        let beside = self.program.as_deref().and_then(prefix);
        for prefix in beside.into_iter().chain(self.virtual_env.clone()) {
            add_packages(&prefix, &mut folders);
        }
        let Some(python) = self.python() else { return folders };
        // The link leads to the interpreter that a virtual environment was made with; its packages come after those here.
        let real = fs::canonicalize(&python).unwrap_or_default();
        for prefix in [prefix(&python), prefix(&real)].into_iter().flatten() {
            add_packages(&prefix, &mut folders);
            if prefix == Path::new("/usr") {
                add_packages(Path::new("/usr/local"), &mut folders);
            }
        }
        if let Some(home) = &self.home {
            add_packages(&home.join(".local"), &mut folders);
        }
        folders
    }

    /// The `python3` that a shell would run.
    fn python(&self) -> Option<PathBuf> {
        let path = self.path.as_ref()?;
        env::split_paths(path).map(|folder| folder.join("python3")).find(|python| python.is_file())
    }
}

/// `/opt/env` for `/opt/env/bin/python3`.
fn prefix(program: &Path) -> Option<PathBuf> {
    let bin = program.parent()?;
    (bin.file_name()? == "bin").then(|| bin.parent().map(Path::to_path_buf))?
}

/// Adds `<prefix>/lib/python3*/{site,dist}-packages`, newer interpreters first.
fn add_packages(prefix: &Path, folders: &mut Vec<PathBuf>) {
    let mut versions: Vec<(Vec<u32>, PathBuf)> = Vec::new();
    for entry in fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(version) = name.to_str().and_then(|name| name.strip_prefix("python3")) else { continue };
        versions.push((numbers(version), entry.path()));
    }
    versions.sort_by(|a, b| b.cmp(a));
    for (_, folder) in versions {
        for packages in ["site-packages", "dist-packages"] {
            let packages = folder.join(packages);
            if !folders.contains(&packages) {
                folders.push(packages);
            }
        }
    }
}

/// The libraries of a package, the newest first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Some(version) = entry.file_name().to_str().and_then(version_of) {
            found.push((version, entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The version in the name of a library: `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib`, `onnxruntime.dll`. `None` for
/// other files; execution providers are libraries of their own.
fn version_of(name: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix("lib").unwrap_or(name).strip_prefix("onnxruntime")?;
    let version = match rest.strip_prefix(".so") {
        Some(version) => version,
        None => rest.strip_suffix(".dylib").or_else(|| rest.strip_suffix(".dll"))?,
    };
    version.chars().all(|char| char == '.' || char.is_ascii_digit()).then(|| numbers(version))
}

fn numbers(text: &str) -> Vec<u32> {
    text.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, file: &str) -> PathBuf {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    }

    #[test]
    fn libraries_are_told_by_name() {
        assert_eq!(version_of("libonnxruntime.so.1.31.1"), Some(vec![1, 31, 1]));
        assert_eq!(version_of("libonnxruntime.so"), Some(vec![]));
        assert_eq!(version_of("libonnxruntime.1.20.0.dylib"), Some(vec![1, 20, 0]));
        assert_eq!(version_of("onnxruntime.dll"), Some(vec![]));
        for other in ["libonnxruntime_providers_shared.so", "onnxruntime_pybind11_state.so", "libonnx.so", "x"] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_nearest_package_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let capi = |prefix: &str, python: &str, version: &str| {
            let file = format!("{prefix}/lib/{python}/onnxruntime/capi/libonnxruntime.so.{version}");
            touch(root.path(), &file)
        };
        let beside = capi("app", "python3.11/site-packages", "1.18.0");
        let old = capi("env", "python3.9/site-packages", "1.17.0");
        let new = capi("env", "python3.12/site-packages", "1.9.3");
        let newer = capi("env", "python3.12/site-packages", "1.31.1");
        let system = capi("system", "python3/dist-packages", "1.20.0");
        let user = capi("home/.local", "python3.11/site-packages", "1.19.0");
        touch(root.path(), "env/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime_providers_shared.so");
        touch(root.path(), "system/bin/python3");
        fs::create_dir_all(root.path().join("empty/bin")).unwrap();
        let at = |path: &str| root.path().join(path);
        let mut around = Surroundings {
            program: Some(at("app/bin/weir")),
            virtual_env: Some(at("env")),
            path: env::join_paths([at("empty/bin"), at("system/bin")]).ok(),
            home: Some(at("home")),
        };
        assert_eq!(around.libraries(), [&beside, &newer, &new, &old, &system, &user].map(PathBuf::clone));
        around.virtual_env = None;
        around.program = Some(at("app/target/weir"));
        assert_eq!(around.libraries(), [system, user]);
        assert_eq!(Surroundings::default().libraries(), Vec::<PathBuf>::new());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_an_interpreter_is_followed() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), "real/bin/python3");
        let library = touch(root.path(), "real/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.2.3");
        fs::create_dir_all(root.path().join("links/bin")).unwrap();
        std::os::unix::fs::symlink(root.path().join("real/bin/python3"), root.path().join("links/bin/python3"))
            .unwrap();
        let path = Some(root.path().join("links/bin").into_os_string());
        let found = Surroundings { path, ..Surroundings::default() }.libraries();
        assert_eq!(found, [fs::canonicalize(library).unwrap()]);
    }
}
