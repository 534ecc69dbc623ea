//! Weights and data sets of the Hugging Face Hub, by name.
//!
//! `hub:OWNER/NAME`, optionally with a revision and a file, `hub:timm/resnet50.a1_in1k@main:model.safetensors`,
//! stands for files in the cache that all programs of the Hub share. What is there already is used
//! without asking the Hub; the rest is downloaded, in parts that are gone on with after a break, and
//! checked by its sum.
//!
//! `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN` and the token of
//! `hf auth login` work as in the Hub's own programs.

#[cfg(feature = "hub")]
mod download;
mod spec;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub use spec::HubSpec;

use crate::error::{Error, Result};

/// Returns true if a path names something of the Hub.
pub(crate) fn is_hub(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with(spec::PREFIX))
}

/// Returns the weight file that a path stands for: the path itself, or a file of a model of the Hub,
/// which is downloaded first. timm's `config.json` is then beside it.
///
/// # Errors
/// Returns an error that names model and file if it cannot be had.
pub(crate) fn weight_file(path: &Path) -> Result<Cow<'_, Path>> {
    local(path, |spec| download_weights(&spec))
}

/// Returns the folder that a path stands for: the path itself, or the files of a data set of the
/// Hub, which are downloaded first.
///
/// # Errors
/// Returns an error that names data set and file if it cannot be had.
pub(crate) fn data_folder(path: &Path) -> Result<Cow<'_, Path>> {
    local(path, |spec| download_data(&spec))
}

fn local(path: &Path, download: impl FnOnce(HubSpec) -> Result<PathBuf>) -> Result<Cow<'_, Path>> {
    if !is_hub(path) {
        return Ok(Cow::Borrowed(path));
    }
    let spec: HubSpec = path
        .to_string_lossy()
        .parse()
        .map_err(|what| Error::Hub { name: path.display().to_string(), what })?;
    download(spec).map(Cow::Owned)
}

#[cfg(feature = "hub")]
use download::{data as download_data, weights as download_weights};

#[cfg(not(feature = "hub"))]
fn download_weights(spec: &HubSpec) -> Result<PathBuf> {
    let what = "this build does not download; build it with the feature `hub`, or download the file and give its path";
    Err(Error::Hub { name: spec.to_string(), what: what.into() })
}

#[cfg(not(feature = "hub"))]
use download_weights as download_data;
