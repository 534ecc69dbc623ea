//! Downloads into the cache of the Hub.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::spec::{HubSpec, is_inside};
use crate::error::{Error, Result};
use crate::util::atomic_file::replace;
use crate::util::endings::{ending, file_name, has_image_ending};

/// Weights of a repository, the preferred name first, and timm's description of them.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
const DESCRIPTION: &str = "config.json";
/// Files that data sets are made of, beside images: by extension, and by name.
const DATA_ENDINGS: [&str; 3] = ["parquet", "tar", "csv"];
const DATA_NAMES: [&str; 2] = ["classes.txt", "dataset.json"];
/// Attempts after a broken connection.
const RETRIES: usize = 4;
/// Longest wait for another process that downloads the same file.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Returns the weight file of a model.
pub(super) fn weights(spec: &HubSpec) -> Result<PathBuf> {
    let hub = Hub::new(spec, RepoType::Model)?;
    // Repositories without a description are of other programs than timm. If it cannot be had for
    // another reason, the weights would be used with wrong numbers.
    match hub.get(DESCRIPTION) {
        Err(error) if !hub.is_missing(&error) => return Err(error),
        _ => {}
    }
    if let Some(file) = &spec.file {
        return hub.get(file);
    }
    hub.get(WEIGHTS[0]).or_else(|first| match hub.is_missing(&first) {
        true => hub.get(WEIGHTS[1]).map_err(|_| first),
        false => Err(first),
    })
}

/// Returns the folder with the files of a data set.
pub(super) fn data(spec: &HubSpec) -> Result<PathBuf> {
    let hub = Hub::new(spec, RepoType::Dataset)?;
    if let Some(file) = &spec.file {
        return hub.get(file);
    }
    let names = hub.files()?;
    let is_data = |name: &&String| {
        let ending = ending(name);
        has_image_ending(ending) || DATA_ENDINGS.contains(&ending) || DATA_NAMES.contains(&file_name(name))
    };
    let names: Vec<&String> = names.iter().filter(is_data).collect();
    let Some(first) = names.first() else {
        return Err(hub.error("has no Parquet files, tar files or images".into()));
    };
    let mut folder = hub.get(first)?;
    names[1..].iter().try_for_each(|name| hub.get(name).map(|_| ()))?;
    Path::new(first).components().for_each(|_| {
        folder.pop();
    });
    Ok(folder)
}

/// A repository and the ways to its files.
struct Hub {
    spec: HubSpec,
    cache: CacheRepo,
    /// None if `HF_HUB_OFFLINE` says so.
    remote: Option<ApiRepo>,
}

impl Hub {
    fn new(spec: &HubSpec, kind: RepoType) -> Result<Self> {
        let revision = spec.revision.clone().unwrap_or_else(|| "main".into());
        let repo = Repo::with_revision(spec.repository.clone(), kind, revision);
        let cache = cache();
        let offline = env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
        let mut hub = Self { spec: spec.clone(), cache: cache.repo(repo.clone()), remote: None };
        if !offline {
            hub.remote = Some(api(cache).map_err(|e| hub.explain(&e, ""))?.repo(repo));
        }
        Ok(hub)
    }

    /// Returns a file, from the cache if it is there.
    fn get(&self, file: &str) -> Result<PathBuf> {
        if let Some(path) = self.cache.get(file) {
            return Ok(path);
        }
        let Some(remote) = &self.remote else {
            let what =
                format!("`{file}` is not in the cache, and HF_HUB_OFFLINE is set; unset it to download");
            return Err(self.error(what));
        };
        let begun = Instant::now();
        let path = loop {
            match remote.download(file) {
                Err(ApiError::LockAcquisition(_)) if begun.elapsed() < PATIENCE => {}
                other => break other.map_err(|error| self.explain(&error, file))?,
            }
        };
        self.verify(&path, file)?;
        Ok(path)
    }

    /// Names of the files of the repository, as they were when it was first asked for: with a part
    /// of them alone, a data set would be another one.
    fn files(&self) -> Result<Vec<String>> {
        let list = self.list_of_files();
        if let Some(names) = std::fs::read(&list).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(names);
        }
        let Some(remote) = &self.remote else {
            return Err(
                self.error("is not in the cache, and HF_HUB_OFFLINE is set; unset it to download".into())
            );
        };
        let info = remote.info().map_err(|error| self.explain(&error, ""))?;
        let mut names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        names.retain(|name| is_inside(name));
        names.sort();
        replace(&list, serde_json::json!(names).to_string().as_bytes())?;
        Ok(names)
    }

    /// File with the names of the files, in the folder of the repository in the cache.
    fn list_of_files(&self) -> PathBuf {
        let revision = self.spec.revision.as_deref().unwrap_or("main").replace('/', "--");
        let snapshot = self.cache.pointer_path("snapshot");
        let folder = snapshot.ancestors().nth(2).unwrap_or(&snapshot);
        folder.join(format!("efficienttrain-files-{revision}.json"))
    }

    /// Checks a downloaded file by its sum, which is its name in the cache; removes it if it is
    /// wrong. Small files are named by another sum, which covers more than their content.
    fn verify(&self, path: &Path, file: &str) -> Result<()> {
        let blob = std::fs::canonicalize(path).map_err(Error::io(path))?;
        let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        let sum = sha256(&blob).map_err(Error::io(&blob))?;
        if sum.eq_ignore_ascii_case(&name) {
            return Ok(());
        }
        for path in [path, &blob] {
            std::fs::remove_file(path).map_err(Error::io(path))?;
        }
        let what = format!(
            "`{file}` arrived damaged: its SHA-256 is {sum} instead of {name}; it was removed, try again"
        );
        Err(self.error(what))
    }

    fn error(&self, what: String) -> Error {
        Error::Hub { name: self.spec.to_string(), what }
    }

    fn is_missing(&self, error: &Error) -> bool {
        matches!(error, Error::Hub { what, .. } if what.contains("no such file"))
    }

    /// Returns what an error of the Hub means, and what to do.
    fn explain(&self, error: &ApiError, file: &str) -> Error {
        let inner = match error {
            ApiError::TooManyRetries(last) => &**last,
            other => other,
        };
        let named = if file.is_empty() { String::new() } else { format!("`{file}`: ") };
        let what = match inner {
            ApiError::RequestError(request) => match &**request {
                ureq::Error::StatusCode(401 | 403) => {
                    "the Hub refuses access: the name is wrong, or it is private or gated; for the latter set HF_TOKEN, \
                     or log in with `hf auth login`"
                        .into()
                }
                ureq::Error::StatusCode(404) if file.is_empty() => "there is no such repository or revision".into(),
                ureq::Error::StatusCode(404) => "there is no such file, repository or revision".into(),
                ureq::Error::StatusCode(code) => format!("the Hub answers with status {code}; try again later"),
                other => format!("the Hub cannot be reached ({other}); what is in the cache needs no connection"),
            },
            ApiError::IoError(error) => {
                format!("the download was interrupted ({error}); try again, it goes on from there")
            }
            other => format!("the download failed ({other}); try again"),
        };
        self.error(format!("{named}{what}"))
    }
}

fn cache() -> Cache {
    match env::var_os("HF_HUB_CACHE") {
        Some(folder) if !folder.is_empty() => Cache::new(folder.into()),
        _ => Cache::from_env(),
    }
}

fn api(cache: Cache) -> Result<Api, ApiError> {
    // The token lies in the Hub's home, wherever the cache is.
    let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(|name| env::var(name).ok());
    let token = token.filter(|token| !token.trim().is_empty()).or_else(|| Cache::from_env().token());
    let mut builder = ApiBuilder::from_cache(cache).with_retries(RETRIES).with_token(token);
    if let Ok(endpoint) = env::var("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').into());
    }
    builder.build()
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let (mut file, mut sum, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => sum.update(&buffer[..read]),
        }
    }
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
