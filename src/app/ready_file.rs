//! The file that says where a server listens, written once start-up has ended: how a supervisor or a test that asked for any
//! free port learns which it got.

use std::{fs, io, path::Path};

use super::start::Addresses;

/// Removes the file of an earlier run, which would tell of addresses that nobody answers on; anything but a plain file is left.
///
/// # Errors
/// What the system says, also when the folder for it is not there: better now than when everything is loaded.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            fs::metadata(folder.unwrap_or(Path::new("."))).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// Writes the file under a temporary name and renames it, so that whoever sees it sees all of it.
///
/// # Errors
/// What the system says.
pub(super) fn write(path: &Path, addresses: &Addresses) -> io::Result<()> {
    let Addresses { http, grpc, ops } = addresses;
    let text = format!("{{\"http\":\"{http}\",\"grpc\":\"{grpc}\",\"ops\":\"{ops}\"}}");
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_of_an_earlier_run_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        clear(&path).unwrap();
        fs::write(&path, "{}").unwrap();
        clear(&path).unwrap();
        assert!(!path.exists());
        let absent = folder.path().join("absent/ready.json");
        assert_eq!(clear(&absent).unwrap_err().kind(), io::ErrorKind::NotFound);
        clear(folder.path()).unwrap();
        assert!(folder.path().is_dir(), "not a plain file");
        clear(Path::new("ready.json.absent")).unwrap();
    }

    #[test]
    fn the_exact_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        write(&path, &Addresses { http: at(41001), grpc: at(41002), ops: at(41003) }).unwrap();
        let want = r#"{"http":"127.0.0.1:41001","grpc":"127.0.0.1:41002","ops":"127.0.0.1:41003"}"#;
        assert_eq!(fs::read_to_string(path).unwrap(), want);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
