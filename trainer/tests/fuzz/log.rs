//! The log of a run, as a report reads it.

use efficienttrain::observe::report::RunLog;

pub(super) fn run(data: &[u8]) {
    let folder = std::env::temp_dir().join(format!("fuzz-{}-run", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written to");
    std::fs::write(folder.join("config.toml"), "").expect("the temporary folder can be written to");
    std::fs::write(folder.join("log.jsonl"), data).expect("the temporary folder can be written to");
    let _ = RunLog::read(&folder);
    let _ = std::fs::remove_dir_all(&folder);
}
