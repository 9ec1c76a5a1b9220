//! What makes programs of an exec ask the cluster's DNS and be in their pod's network: for Python, a `sitecustomize.py`
//! in a private folder.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The script; a call of `_install` is added to it.
const SITECUSTOMIZE: &str = include_str!("sitecustomize.py");

/// A private folder that is deleted with this.
#[derive(Debug)]
pub(super) struct NameFiles {
    folder: PathBuf,
    names_at: SocketAddr,
}

impl NameFiles {
    pub(super) fn make(names_at: SocketAddr) -> io::Result<Self> {
        let drawn: u64 = rand::random();
        let folder = std::env::temp_dir().join(format!("mock-cluster-{}-{drawn:016x}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self { folder, names_at })
    }

    /// The folder for the `PYTHONPATH` of a program in a pod of this namespace, at this address.
    pub(super) fn python_path(&self, namespace: &str, pod: Option<Ipv4Addr>) -> io::Result<PathBuf> {
        let pod = pod.map_or_else(|| "None".to_owned(), |ip| format!("\"{ip}\""));
        let folder = self.folder.join(namespace).join(pod.trim_matches('"'));
        let file = folder.join("sitecustomize.py");
        if !file.exists() {
            fs::create_dir_all(&folder)?;
            let (ip, port) = (self.names_at.ip(), self.names_at.port());
            let text = format!(
                "{SITECUSTOMIZE}_install((\"{ip}\", {port}), \"{namespace}\", {pod})\ndel _install\n"
            );
            // Renamed into its place, so that nobody ever reads half of it.
            let draft = folder.join(format!("draft-{:016x}", rand::random::<u64>()));
            fs::write(&draft, text)?;
            fs::rename(&draft, &file)?;
        }
        Ok(folder)
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for NameFiles {
    fn drop(&mut self) {
        // What cannot be deleted holds no more than an address on loopback.
        let _deleted = fs::remove_dir_all(Path::new(&self.folder));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_folder_is_private_and_goes_with_its_owner() {
        let files = NameFiles::make("127.0.0.1:1".parse().unwrap()).unwrap();
        let folder = files.folder().to_owned();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let path = files.python_path("ml", Some(Ipv4Addr::LOCALHOST)).unwrap();
        assert!(fs::read_to_string(path.join("sitecustomize.py")).unwrap().contains("\"ml\""));
        drop(files);
        assert!(!folder.exists());
    }
}
