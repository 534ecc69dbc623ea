//! Names of repositories and files of the Hub.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

pub(super) const PREFIX: &str = "hub:";

/// A repository of the Hub, or one of its files: `hub:OWNER/NAME[@REVISION][:FILE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSpec {
    /// Owner and name, such as `timm/resnet50.a1_in1k`.
    pub repository: String,
    /// Branch, tag or commit; `main` if none is given.
    pub revision: Option<String>,
    /// Path of a file in it.
    pub file: Option<String>,
}

impl FromStr for HubSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; expected hub:OWNER/NAME[@REVISION][:FILE]");
        let rest = text.strip_prefix(PREFIX).ok_or_else(|| wrong("does not begin with `hub:`"))?;
        let (rest, file) = rest.split_once(':').map_or((rest, None), |(rest, file)| (rest, Some(file)));
        let (repository, revision) =
            rest.split_once('@').map_or((rest, None), |(name, revision)| (name, Some(revision)));
        let parts: Vec<&str> = repository.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_name(part)) {
            return Err(wrong("has no owner and name"));
        }
        if revision.is_some_and(|revision| !revision.split('/').all(is_name)) {
            return Err(wrong("has no valid revision"));
        }
        if file.is_some_and(|file| !is_inside(file)) {
            return Err(wrong("names no file inside of the repository"));
        }
        Ok(Self {
            repository: repository.into(),
            revision: revision.map(Into::into),
            file: file.map(Into::into),
        })
    }
}

impl fmt::Display for HubSpec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repository)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))?;
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

/// Letters, digits, `-`, `_` and `.`, and not only dots.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().all(allowed) && text.chars().any(|c| c != '.')
}

/// A relative path that does not leave its folder.
pub(super) fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_the_same() {
        for text in [
            "hub:timm/resnet50.a1_in1k",
            "hub:timm/resnet50.a1_in1k@main",
            "hub:timm/resnet50.a1_in1k:model.safetensors",
            "hub:frgfm/imagenette@refs/pr/1:data/train.parquet",
        ] {
            assert_eq!(text.parse::<HubSpec>().map(|spec| spec.to_string()), Ok(text.to_string()));
        }
        let spec: HubSpec = "hub:a/b@c:d/e".parse().unwrap();
        assert_eq!((spec.revision.as_deref(), spec.file.as_deref()), (Some("c"), Some("d/e")));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "hub:",
            "hub:resnet50",
            "hub:a/b/c",
            "hub:a/",
            "hub:../b",
            "hub:a/b@",
            "hub:a/b@..",
            "hub:a/b:",
            "hub:a/b:../c",
            "hub:a/b:/etc/passwd",
            "hub:a b/c",
            "a/b",
        ] {
            let error = text.parse::<HubSpec>().unwrap_err();
            assert!(error.contains("hub:OWNER/NAME"), "{text}: {error}");
        }
    }
}
