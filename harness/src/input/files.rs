//! Which files are meant, and their text.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::checker::nearest_of;
use super::problem::{Hidden, Lines, Place, Problem};
use crate::scenario::Source;

/// No honest file is larger.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// No honest directory holds more.
const MAX_FILES: usize = 1000;

/// A file's text and where it came from.
pub(crate) struct Document {
    pub(crate) source: Source,
    pub(crate) text: String,
}

/// A file that is part of the program.
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    path: &'static str,
    text: &'static str,
}

macro_rules! built_in {
    ($name:literal, $path:literal) => {
        BuiltIn {
            name: $name,
            path: concat!("scenarios/", $path),
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/", $path)),
        }
    };
}

pub(super) static SCENARIOS: [BuiltIn; 5] = [
    built_in!("normal", "normal.yaml"),
    built_in!("cloud-down", "cloud-down.yaml"),
    built_in!("gaming", "gaming.yaml"),
    built_in!("cloud-gpu-down", "cloud-gpu-down.yaml"),
    built_in!("full-outage", "full-outage.yaml"),
];

static WITH_OPENCLAW: [BuiltIn; 5] = [
    built_in!("openclaw-normal", "openclaw/openclaw-normal.yaml"),
    built_in!("openclaw-cloud-down", "openclaw/openclaw-cloud-down.yaml"),
    built_in!("openclaw-gaming", "openclaw/openclaw-gaming.yaml"),
    built_in!("openclaw-cloud-gpu-down", "openclaw/openclaw-cloud-gpu-down.yaml"),
    built_in!("openclaw-full-outage", "openclaw/openclaw-full-outage.yaml"),
];

const LOCAL: &str = "local";
const OPENCLAW: &str = "openclaw";

static ENVIRONMENTS: [BuiltIn; 2] =
    [built_in!("local", "environments/local.yaml"), built_in!("openclaw", "environments/openclaw.yaml")];

impl BuiltIn {
    fn document(&self) -> Document {
        document(&format!("built-in:{}", self.path), self.text.to_owned())
    }
}

fn document(name: &str, text: String) -> Document {
    let digest = Sha256::digest(text.as_bytes());
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Document { source: Source { name: name.to_owned(), sha256 }, text }
}

/// A file that is meant.
pub(super) enum Wanted {
    BuiltIn(&'static BuiltIn),
    File(PathBuf),
}

impl Wanted {
    pub(super) fn read(&self) -> Result<Document, Problem> {
        match self {
            Self::BuiltIn(file) => Ok(file.document()),
            Self::File(path) => read(path),
        }
    }
}

/// The scenario files that are meant in an environment, and what is wrong with directories.
pub(super) fn scenarios(
    root: &Path,
    paths: &[PathBuf],
    environment: Option<&str>,
) -> (Vec<Wanted>, Vec<Problem>) {
    let (folder, built_in) = match environment {
        Some(OPENCLAW) => ("scenarios/openclaw", &WITH_OPENCLAW),
        _ => ("scenarios", &SCENARIOS),
    };
    let default = root.join(folder);
    let paths = match paths {
        [] if default.is_dir() => std::slice::from_ref(&default),
        [] => return (built_in.iter().map(Wanted::BuiltIn).collect(), Vec::new()),
        paths => paths,
    };
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let path = root.join(path);
        if path.is_dir() {
            match own_files(&path) {
                Ok(found) => files.extend(found),
                Err(problem) => problems.push(problem),
            }
        } else {
            files.push(path);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    (files.into_iter().map(Wanted::File).collect(), problems)
}

/// A directory's own YAML files, sorted by name.
fn own_files(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let shown = directory.display().to_string();
    let listing = fs::read_dir(directory).map_err(|error| {
        Problem::of_file(&shown, format!("cannot be listed: {}", words(&error)), "check its permissions")
    })?;
    let mut files: Vec<PathBuf> = listing
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| is_yaml(path) && !path.is_dir())
        .take(MAX_FILES + 1)
        .collect();
    files.sort();
    match files.len() {
        0 => Err(Problem::of_file(
            &shown,
            "no scenario in this directory",
            "a directory means its own `*.yaml` and `*.yml` files, not those of its subfolders",
        )),
        1..=MAX_FILES => Ok(files),
        _ => Err(Problem::of_file(
            &shown,
            "more than 1000 files in this directory",
            "name the files that are meant",
        )),
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The environment that is meant: a file, or a name in `scenarios/environments/`.
pub(super) fn environment(root: &Path, wanted: Option<&str>) -> Result<Document, Problem> {
    let wanted = wanted.unwrap_or(LOCAL);
    if wanted.contains(std::path::is_separator) || is_yaml(Path::new(wanted)) {
        return read(&root.join(wanted));
    }
    let folder = root.join("scenarios").join("environments");
    let file = folder.join(format!("{wanted}.yaml"));
    if file.exists() {
        return read(&file);
    }
    if let Some(own) = ENVIRONMENTS.iter().find(|own| own.name == wanted) {
        return Ok(own.document());
    }
    let mut known: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .take(MAX_FILES)
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .chain(ENVIRONMENTS.iter().map(|own| own.name.to_owned()))
        .collect();
    known.sort();
    known.dedup();
    Err(Problem::of_file(
        &file.display().to_string(),
        format!("unknown environment `{wanted}`: there is no such file"),
        nearest_of("environment", wanted, known.iter().map(String::as_str)),
    ))
}

/// A text that somebody else has read.
pub(super) fn given(name: &str, text: String) -> Result<Document, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::of_file(name, "too large", "no honest file has more than 1 MiB"));
    }
    Ok(document(name, text))
}

/// A file's text, UTF-8 and at most [`MAX_BYTES`] long, without byte order mark.
pub(crate) fn read(path: &Path) -> Result<Document, Problem> {
    let shown = path.display().to_string();
    let cannot = |error: std::io::Error| {
        let hint = "check the path and its permissions";
        match error.kind() {
            std::io::ErrorKind::NotFound => Problem::of_file(&shown, "no such file or directory", hint),
            _ => Problem::of_file(&shown, format!("cannot be read: {}", words(&error)), hint),
        }
    };
    let check_kind = |metadata: &fs::Metadata| match metadata.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => {
            Err(Problem::of_file(&shown, "a directory, not a file", "name a YAML file in it"))
        }
        _ => Err(Problem::of_file(&shown, "not a regular file", "name a YAML file")),
    };
    let too_large = || Problem::of_file(&shown, "larger than 1 MiB", "this is not a file for this program");
    // Asked before opening, since opening alone moves some devices.
    check_kind(&fs::metadata(path).map_err(cannot)?)?;
    let file = open(path).map_err(cannot)?;
    // And again, since another file may have taken its place.
    let metadata = file.metadata().map_err(cannot)?;
    check_kind(&metadata)?;
    if metadata.len() > MAX_BYTES as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > MAX_BYTES {
        return Err(too_large());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(document(&shown, text)),
        Err(error) => Err(not_utf8(&shown, error.as_bytes(), error.utf8_error().valid_up_to())),
    }
}

/// Opens without waiting for the other end of a pipe.
fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    File::options().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path)
}

/// The system's words without its number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn not_utf8(file: &str, bytes: &[u8], at: usize) -> Problem {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Problem::of_file(file, "this is UTF-16, not UTF-8", "save it as UTF-8");
    }
    // As long as nothing before the fault is replaced, its place is that in the bytes.
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let before = String::from_utf8_lossy(&bytes[..at]);
    let before = before.strip_prefix('\u{feff}').unwrap_or(&before);
    let lines = Lines::new(before);
    let (line, column) = lines.end();
    let place = Place { line, column, chars: 1 };
    let message = format!("not UTF-8: the byte 0x{:02x} is no text here", bytes[at]);
    Problem::at(file, &Lines::new(text), place, &message, "save the file as UTF-8", Hidden::Unknown)
}
