//! Image formats that are recognized, to say what to do with them, but not read.

/// Offset of the brand in files of the ISO base media format, behind `ftyp`.
const BRAND: usize = 8;

/// First bytes of other formats, and their names.
const OTHERS: [(&[u8], &str); 4] = [
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
];

/// Refuses an image of a format that is not read.
pub(crate) fn refuse_unsupported(bytes: &[u8]) -> Result<(), String> {
    let media = bytes.get(4..BRAND).filter(|kind| kind == b"ftyp").and(bytes.get(BRAND..BRAND + 4));
    let name = match media {
        Some(b"avif" | b"avis") => Some("an AVIF"),
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"mif1" | b"msf1") => Some("a HEIF or AVIF"),
        _ => OTHERS.iter().find(|(mark, _)| bytes.starts_with(mark)).map(|(_, name)| *name),
    };
    name.map_or(Ok(()), |name| {
        Err(format!("is {name} image, which is not supported; convert it to PNG or JPEG"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_by_their_first_bytes() {
        // ISO/IEC 23008-12 (HEIF), AV1 Image File Format 1.1, ISO/IEC 18181-2, ISO/IEC 15444-1.
        for (bytes, name) in [
            (&b"\0\0\0\x20ftypavif\0\0\0\0"[..], "an AVIF image"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIF"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        ] {
            assert!(refuse_unsupported(bytes).unwrap_err().contains(name), "{name}");
        }
        for other in
            [&b""[..], b"\0\0\0\x20ftyp", b"\0\0\0\x20ftypisom", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
        {
            assert_eq!(refuse_unsupported(other), Ok(()));
        }
    }
}
