//! Which files are meant, and their text.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::checker::nearest_of;
use super::problem::Problem;
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

pub(super) const SCENARIOS: [BuiltIn; 5] = [
    built_in!("normal", "normal.yaml"),
    built_in!("cloud-down", "cloud-down.yaml"),
    built_in!("gaming", "gaming.yaml"),
    built_in!("cloud-gpu-down", "cloud-gpu-down.yaml"),
    built_in!("full-outage", "full-outage.yaml"),
];

const LOCAL: BuiltIn = built_in!("local", "environments/local.yaml");

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

/// The scenario files that are meant; problems with single files do not hide the others.
pub(super) fn scenarios(root: &Path, paths: &[PathBuf]) -> (Vec<Document>, Vec<Problem>) {
    let default = root.join("scenarios");
    let paths = match paths {
        [] if default.is_dir() => std::slice::from_ref(&default),
        [] => return (SCENARIOS.iter().map(BuiltIn::document).collect(), Vec::new()),
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
    let mut documents = Vec::new();
    for file in files {
        match read(&file) {
            Ok(document) => documents.push(document),
            Err(problem) => problems.push(problem),
        }
    }
    (documents, problems)
}

/// A directory's own YAML files, sorted by name.
fn own_files(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let shown = directory.display().to_string();
    let listing = fs::read_dir(directory).map_err(|error| {
        Problem::of_file(&shown, format!("cannot be listed: {error}"), "check its permissions")
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
    let wanted = wanted.unwrap_or("local");
    if wanted.contains(std::path::is_separator) || is_yaml(Path::new(wanted)) {
        return read(&root.join(wanted));
    }
    let folder = root.join("scenarios").join("environments");
    let file = folder.join(format!("{wanted}.yaml"));
    if file.exists() {
        return read(&file);
    }
    if wanted == LOCAL.name {
        return Ok(LOCAL.document());
    }
    let mut known: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .take(MAX_FILES)
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .chain([LOCAL.name.to_owned()])
        .collect();
    known.sort();
    known.dedup();
    Err(Problem::of_file(
        &file.display().to_string(),
        format!("unknown environment `{wanted}`: there is no such file"),
        nearest_of("environment", wanted, known.iter().map(String::as_str)),
    ))
}

/// A file's text, UTF-8 and at most [`MAX_BYTES`] long, without byte order mark.
pub(super) fn read(path: &Path) -> Result<Document, Problem> {
    let shown = path.display().to_string();
    let cannot = |error: std::io::Error| {
        let hint = "check the path and its permissions";
        match error.kind() {
            std::io::ErrorKind::NotFound => Problem::of_file(&shown, "no such file or directory", hint),
            _ => Problem::of_file(&shown, format!("cannot be read: {error}"), hint),
        }
    };
    let too_large = || Problem::of_file(&shown, "larger than 1 MiB", "this is not a file for this program");
    // Asked before opening: opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Problem::of_file(&shown, "not a regular file", "name a YAML file"));
    }
    if metadata.len() > MAX_BYTES as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(cannot)?;
    if bytes.len() > MAX_BYTES {
        return Err(too_large());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem::of_file(&shown, format!("not UTF-8: byte {at} is no text"), "save it as UTF-8")
    })?;
    Ok(document(&shown, text))
}
