//! Detects shards that are not tar files.

use std::io::{Read, Seek, SeekFrom};

/// Magic numbers of other formats, their descriptions, and what to do.
const OTHERS: [(&[u8], &str, &str); 10] = [
    (b"\x1f\x8b", "compressed with gzip", "unpack it: `gunzip -c FILE > NAME.tar`"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it: `zstd -dc FILE > NAME.tar`"),
    (b"BZh", "compressed with bzip2", "unpack it: `bunzip2 -c FILE > NAME.tar`"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it: `xz -dc FILE > NAME.tar`"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it: `lz4 -dc FILE > NAME.tar`"),
    (b"PK\x03\x04", "a zip archive", "unpack it into a folder"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it into a folder"),
    (b"PAR1", "a Parquet file", "call it NAME.parquet"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS and not the file itself",
        "download it with `git lfs pull`",
    ),
    (b"<", "a web page or XML and not the file itself", "download it again"),
];

/// Extensions of compressed shards, after `.tar` or instead of it.
const COMPRESSED: [&str; 6] = ["gz", "zst", "zstd", "bz2", "xz", "lz4"];
const COMPRESSED_TAR: [&str; 5] = ["tgz", "tzst", "tbz2", "tbz", "txz"];

/// Returns true if a file name belongs to a tar file, compressed ones included: those are refused
/// by their content.
pub(crate) fn is_tar_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let Some((stem, ending)) = name.rsplit_once('.') else { return false };
    ending == "tar"
        || COMPRESSED_TAR.contains(&ending)
        || (COMPRESSED.contains(&ending) && stem.ends_with(".tar"))
}

/// Refuses a file that begins like one of another format; others are left at their beginning.
pub(crate) fn check_format<R: Read + Seek>(file: &mut R) -> Result<(), String> {
    let mut first = Vec::new();
    file.by_ref().take(32).read_to_end(&mut first).map_err(|e| e.to_string())?;
    file.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    // The name of a tar file's first entry could begin with one of the short magic numbers; a valid
    // header decides.
    match OTHERS.iter().find(|(mark, ..)| first.starts_with(mark)) {
        Some((_, what, advice)) if !has_tar_header(file)? => {
            Err(format!("is {what}; shards are tar files that are read in place, so {advice}"))
        }
        _ => Ok(()),
    }
}

fn has_tar_header<R: Read + Seek>(file: &mut R) -> Result<bool, String> {
    let mut header = tar::Header::new_old();
    let read = file.read_exact(header.as_mut_bytes());
    file.seek(SeekFrom::Start(0)).map_err(|e| e.to_string())?;
    let sum = |h: &tar::Header| -> u32 {
        let bytes = h.as_bytes();
        bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32
    };
    Ok(read.is_ok() && header.cksum().is_ok_and(|stated| stated == sum(&header)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_names_are_names_of_shards() {
        let names = ["a.tar", "a.TAR", "a.tar.gz", "a.tgz", "a.tar.zst", "a.tar.bz2", "a.tar.xz"];
        assert!(names.into_iter().all(is_tar_name));
        assert!(!["a.gz", "tar", "a.tar.index.json", "a.zip", "tar.gz"].into_iter().any(is_tar_name));
    }
}
