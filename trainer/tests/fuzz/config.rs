//! A configuration file: what is read is written, and read again as the same.

use efficienttrain::config::ConfigLayers;

pub(super) fn run(data: &[u8]) {
    let path = std::env::temp_dir().join(format!("fuzz-{}.toml", std::process::id()));
    let read = |text: &[u8]| {
        std::fs::write(&path, text).expect("the temporary folder can be written to");
        let layers = ConfigLayers::new().file(&path);
        let _ = std::fs::remove_file(&path);
        layers?.resolve()
    };
    let Ok(first) = read(data) else { return };
    // A recipe file that is not there is found out here.
    let Ok(text) = first.to_toml() else { return };
    let again = read(text.as_bytes()).expect("its own text is read");
    assert_eq!(first.config, again.config);
}
