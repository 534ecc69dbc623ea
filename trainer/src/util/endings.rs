//! File extensions of images.

/// File extensions that count as images, in lower case: those of torchvision's `IMG_EXTENSIONS`,
/// the other extensions of JPEG and PNG, the rest of the PNM family, and of files with several
/// images GIF and MPO (their first).
pub(crate) const ENDINGS: [&str; 17] = [
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "bmp", "webp", "gif", "tif", "tiff", "ppm", "pgm",
    "pbm", "pnm", "pam",
];

/// Returns true if a file extension belongs to an image format.
pub(crate) fn has_image_ending(ending: &str) -> bool {
    ENDINGS.contains(&ending.to_lowercase().as_str())
}

/// Returns the last component of a path whose separator is `/`.
pub(crate) fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Returns the part of a file name after its last dot; empty if there is none.
pub(crate) fn ending(name: &str) -> &str {
    file_name(name).rsplit_once('.').map_or("", |(_, ending)| ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_those_of_the_last_part() {
        assert_eq!(["a/b.c/d", "a.tar.gz", "x/1.JPG", "", "a."].map(ending), ["", "gz", "JPG", "", ""]);
        // torchvision.datasets.folder.IMG_EXTENSIONS
        for known in ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "JFIF", "Gif"] {
            assert!(has_image_ending(known), "{known}");
        }
        assert!(!has_image_ending("heic") && !has_image_ending("") && !has_image_ending("jpg2"));
    }
}
