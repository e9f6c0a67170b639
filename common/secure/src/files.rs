//! Files of certificates and keys: read with their permissions checked and their length limited, written whole or not at
//! all and for their owner alone, and watched for changes by what the file system says of them.

use crate::error::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The bit of folders in which everybody may make files.
const STICKY: u32 = 0o1000;
/// The most certificates in one file.
const MAX_CERTIFICATES: usize = 16;

/// Reads a file that others may read but not change.
///
/// # Errors
/// [`Error::Io`]; [`Error::File`] where it is too long or others could change it.
pub fn read_public(path: &Path) -> Result<Vec<u8>> {
    read(path, 0o022, "can be changed by others", "go-w")
}

/// Reads a file that nobody else may read.
///
/// # Errors
/// [`Error::Io`]; [`Error::File`] where it is too long or others could read it.
pub fn read_secret(path: &Path) -> Result<Vec<u8>> {
    read(path, 0o077, "can be read by others", "600")
}

fn read(path: &Path, forbidden: u32, fault: &str, remedy: &str) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // Of the file that was opened, not of whatever bears its name by now.
    let metadata = file.metadata().map_err(Error::io("look at", path))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "is not a file"));
    }
    if metadata.mode() & forbidden != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(Error::file(
            path,
            format!("{fault} (mode {mode:03o}): chmod {remedy} {}", path.display()),
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::file(path, format!("is longer than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Makes a folder that only its owner may enter. One that exists and is open to others is closed to them, which is said;
/// but not one where everybody may have files (`/tmp` and the like), nor one of another owner.
///
/// # Errors
/// [`Error::Io`].
pub fn private_folder(path: &Path) -> Result<()> {
    make_private(path).map_err(Error::io("create", path))
}

/// The same with the system's own error.
///
/// # Errors
/// Those of the system.
pub fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = std::fs::metadata(path)?.mode() & 0o7777;
    if mode & 0o077 == 0 || mode & STICKY != 0 {
        return Ok(());
    }
    let closed = std::fs::set_permissions(path, Permissions::from_mode(0o700));
    let path = path.display();
    match closed {
        Ok(()) => {
            tracing::warn!("{path} was open to others (mode {mode:03o}); it is now its owner's alone (700)")
        }
        Err(e) => {
            tracing::warn!("{path} is open to others (mode {mode:03o}) and cannot be closed to them: {e}")
        }
    }
    Ok(())
}

/// Makes a file for its owner alone, in place of whatever bears its name: a link is not followed, and a file that was left
/// there with another mode is not written into.
///
/// # Errors
/// Those of the system.
pub fn create_private(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}

/// Writes a file for its owner alone, whole or not at all, in place of an earlier one.
///
/// # Errors
/// [`Error::Io`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let mut file = create_private(&draft).map_err(Error::io("write", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))?;
    std::fs::rename(&draft, path).map_err(Error::io("write", path))?;
    // The name is as durable as the content, so that a token that was used stays used.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("write", path))
}

/// Holds a folder for one process at a time, for as long as the value lives.
///
/// # Errors
/// [`Error::Io`].
pub fn locked(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(Error::io("open", &path))?;
    file.lock().map_err(Error::io("lock", &path))?;
    Ok(file)
}

/// What tells whether files have changed: identity, size and times, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<Option<[i64; 6]>>);

impl Stamp {
    /// Of some files, those that are absent included.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Stamp {
        let one = |path| {
            let m = std::fs::metadata(path).ok()?;
            let (device, number, size) = (m.dev() as i64, m.ino() as i64, m.size() as i64);
            Some([device, number, size, m.mtime(), m.mtime_nsec(), m.ctime() ^ (m.ctime_nsec() << 32)])
        };
        Stamp(paths.into_iter().map(one).collect())
    }
}

/// Where one end's certificates lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The authority's certificate: whom to believe.
    pub ca: PathBuf,
    /// One's own certificate, those between it and the authority after it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Revoked certificates of the other side; need not exist.
    pub crl: PathBuf,
}

impl Files {
    /// `ca.pem`, `cert.pem`, `key.pem` and `crl.pem` of a folder.
    pub fn in_folder(folder: &Path) -> Files {
        let file = |name| folder.join(name);
        Files { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), crl: file("crl.pem") }
    }

    /// What a command line names: a folder, or three files; `None` for neither.
    ///
    /// # Errors
    /// In words, where only some are given.
    pub fn named(
        folder: Option<&Path>,
        ca: Option<&Path>,
        cert: Option<&Path>,
        key: Option<&Path>,
    ) -> Result<Option<Files>, String> {
        match (folder, ca, cert, key) {
            (None, None, None, None) => Ok(None),
            (Some(folder), None, None, None) => Ok(Some(Files::in_folder(folder))),
            (None, Some(ca), Some(cert), Some(key)) => {
                let crl = ca.with_file_name("crl.pem");
                Ok(Some(Files { ca: ca.into(), cert: cert.into(), key: key.into(), crl }))
            }
            _ => Err("give --tls DIR, or all of --ca, --cert and --key".into()),
        }
    }

    /// What they look like now.
    pub fn stamp(&self) -> Stamp {
        Stamp::of([&*self.ca, &*self.cert, &*self.key, &*self.crl])
    }

    /// Reads them.
    ///
    /// # Errors
    /// The file that is absent, unusable, or open to others, by its name.
    pub fn read(&self) -> Result<Material> {
        let crl = match self.crl.exists() {
            true => revocations(&self.crl)?,
            false => Vec::new(),
        };
        let key = read_secret(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| Error::file(&self.key, "holds no private key in PEM form"))?;
        Ok(Material { ca: certificates(&self.ca)?, chain: certificates(&self.cert)?, key, crl })
    }
}

/// What the files hold.
pub struct Material {
    /// Whom to believe.
    pub ca: Vec<CertificateDer<'static>>,
    /// One's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// Lists of revoked certificates.
    pub crl: Vec<CertificateRevocationListDer<'static>>,
}

/// The certificates of a file, at least one.
///
/// # Errors
/// As [`read_public`], and where there is none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read_public(path)?;
    from_pem(&bytes).ok_or_else(|| {
        Error::file(path, format!("holds no certificates in PEM form, or more than {MAX_CERTIFICATES}"))
    })
}

/// The certificates of a text, at least one and not too many.
pub fn from_pem(bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(bytes).take(MAX_CERTIFICATES + 1).collect::<Result<_, _>>().ok()?;
    (1..=MAX_CERTIFICATES).contains(&found.len()).then_some(found)
}

fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let bytes = read_public(path)?;
    CertificateRevocationListDer::pem_slice_iter(&bytes)
        .take(MAX_CERTIFICATES)
        .collect::<Result<_, _>>()
        .map_err(|_| Error::file(path, "holds no list of revoked certificates in PEM form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_private(&path, b"x").unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"x");
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let e = read_secret(&path).unwrap_err().to_string();
            assert!(e.contains(&format!("chmod 600 {}", path.display())), "{e}");
        }
        // A certificate may be read by all, but changed by its owner alone.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        read_public(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(read_public(&path).unwrap_err().to_string().contains("chmod go-w"));
    }

    #[test]
    fn a_folder_that_others_can_enter_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        let (open, shared) = (dir.path().join("open"), dir.path().join("shared"));
        for (path, before, after) in [(&open, 0o755, 0o700), (&shared, 0o1777, 0o1777)] {
            std::fs::create_dir(path).unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(before)).unwrap();
            private_folder(path).unwrap();
            assert_eq!(mode(path), after, "{}", path.display());
        }
        private_folder(&open.join("a/b")).unwrap();
        assert_eq!(mode(&open.join("a/b")), 0o700);
    }

    #[test]
    fn a_draft_follows_no_link_and_keeps_no_older_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("a"), dir.path().join("secret"));
        let draft = dir.path().join(format!(".a.{}.new", std::process::id()));
        std::fs::write(&secret, "kept").unwrap();
        std::os::unix::fs::symlink(&secret, &draft).unwrap();
        write_private(&path, b"x").unwrap();
        assert_eq!(std::fs::read(&secret).unwrap(), b"kept");
        std::fs::write(&draft, "left over").unwrap();
        std::fs::set_permissions(&draft, Permissions::from_mode(0o666)).unwrap();
        write_private(&path, b"y").unwrap();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!((metadata.is_file(), metadata.mode() & 0o777), (true, 0o600));
        assert_eq!(std::fs::read(&path).unwrap(), b"y");
    }

    #[test]
    fn long_files_are_not_read_and_a_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let before = Stamp::of([&*path]);
        write_private(&path, &vec![0; MAX_BYTES as usize + 1]).unwrap();
        assert!(read_public(&path).unwrap_err().to_string().contains("longer than"));
        let long = Stamp::of([&*path]);
        assert_ne!(before, long);
        // Another file of the same length at the same moment is another file.
        write_private(&path, &vec![1; MAX_BYTES as usize + 1]).unwrap();
        assert_ne!(long, Stamp::of([&*path]));
        assert!(read_public(dir.path()).unwrap_err().to_string().contains("not a file"));
    }
}
