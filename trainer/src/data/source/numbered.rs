//! Series of numbered files whose names contain the size of the series.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// Number of missing files to list in a message.
const SHOWN: usize = 5;

/// Checks that no file of a series such as `train-00003-of-00005-1a2b.parquet` is missing.
///
/// # Errors
/// The error names the missing files.
pub(crate) fn check_complete(files: &[PathBuf]) -> Result<(), DataError> {
    let mut series: BTreeMap<(PathBuf, String, u64), (BTreeSet<u64>, usize)> = BTreeMap::new();
    for (path, Numbered { before, number, digits, total }) in
        files.iter().filter_map(|f| Some((f, numbered(f)?)))
    {
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        series.entry((folder, before, total)).or_insert((BTreeSet::new(), digits)).0.insert(number);
    }
    for ((folder, before, total), (there, digits)) in series {
        // Some series count from 1.
        let first = u64::from(!there.contains(&0) && there.contains(&total));
        let missing = total.saturating_sub(there.len() as u64);
        if missing == 0 {
            continue;
        }
        let gaps = (first..first + total).filter(|number| !there.contains(number)).take(SHOWN);
        let names: Vec<String> =
            gaps.map(|n| format!("`{before}{n:0digits$}-of-{total:0digits$}`")).collect();
        let more = if missing > names.len() as u64 {
            format!(" and {} more", missing - names.len() as u64)
        } else {
            String::new()
        };
        return Err(DataError::layout(
            &folder,
            format!(
                "of {total} files according to their names, {} are there; missing: {}{more}; download them, or rename the others (without \
                 `-of-`) to use a part of the set",
                there.len(),
                names.join(", ")
            ),
        ));
    }
    Ok(())
}

/// The parts of a name such as `train-00003-of-00005`.
struct Numbered {
    before: String,
    number: u64,
    digits: usize,
    total: u64,
}

fn numbered(path: &Path) -> Option<Numbered> {
    let name = path.file_name()?.to_str()?;
    let mark = |mark: &str| name.find(mark).map(|at| (at, at + mark.len()));
    let (end, start) = mark("-of-").or_else(|| mark("_of_"))?;
    let digits = name[..end].len() - name[..end].trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let rest = &name[start..];
    let total = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
    let number = name[end - digits..end].parse().ok()?;
    Some(Numbered { before: name[..end - digits].into(), number, digits, total: total.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let check = |names: &[&str]| {
            let files: Vec<PathBuf> = names.iter().map(|name| Path::new("d").join(name)).collect();
            check_complete(&files).map_err(|e| e.to_string())
        };
        let whole = ["train-00000-of-00002-aa.parquet", "train-00001-of-00002-bb.parquet"];
        assert!(check(&whole).is_ok() && check(&["a-1-of-2.tar", "a-2-of-2.tar"]).is_ok());
        assert!(check(&["train-0.tar", "train-7.tar", "best-of-3-train.tar"]).is_ok());
        let message = check(&["train-00000-of-00003.tar", "train-00002-of-00003.tar"]).unwrap_err();
        assert!(message.contains("`train-00001-of-00003`") && message.contains("3 files"), "{message}");
        let message = check(&["a-3-of-9999999.tar"]).unwrap_err();
        assert!(
            message.contains("`a-0000000-of-9999999`") || message.contains("`a-0-of-9999999`"),
            "{message}"
        );
        assert!(check(&[whole[0], "train-00001-of-00003.tar"]).is_err());
    }
}
