//! The file that says where a server listens, written once start-up has ended: how a supervisor or a test that asked for any
//! free port learns which it got.

use std::{fs, io, path::Path};

use super::start::Addresses;

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
