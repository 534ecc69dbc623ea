//! Files and folders that are not part of a data set.

/// Files and folders that operating systems create beside those of users, in lower case.
const SYSTEM: [&str; 16] = [
    "__macosx",
    "__pycache__",
    "@__thumb",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "lost+found",
    "network trash folder",
    "system volume information",
    "thumbs.db",
];

/// Returns true if a file or folder name (one component of a path) is hidden, or created by an
/// operating system.
pub(crate) fn is_hidden_name(name: &str) -> bool {
    match name {
        "." | ".." => false,
        _ => name.starts_with('.') || SYSTEM.contains(&name.to_lowercase().as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systems_leave_behind_is_hidden() {
        for hidden in [".x", "._a.jpg", ".DS_Store", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db"] {
            assert!(is_hidden_name(hidden), "{hidden}");
        }
        for plain in [".", "..", "cat", "a.jpg", "_x", "@", "lost", "macosx", "thumbs"] {
            assert!(!is_hidden_name(plain), "{plain}");
        }
    }
}
