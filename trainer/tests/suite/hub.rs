//! Weights and data of the Hub, from a server on this machine that speaks its protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::command::text;
use crate::common::image_folder;
use candle_core::{DType, Device};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain_models::{ModelOptions, ParamStore, create_model, weights};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// Files by their path behind the repository, such as `timm/net:model.safetensors`, and faults.
#[derive(Default)]
struct Contents {
    files: HashMap<String, Vec<u8>>,
    /// Breaks the connection after this many bytes of a large file, as often as the number says.
    breaks: AtomicUsize,
    /// Sends other bytes than the sum says.
    damages: bool,
    /// Asks for the token.
    private: bool,
    requests: Mutex<Vec<String>>,
}

struct Server {
    address: String,
    contents: Arc<Contents>,
}

impl Server {
    fn new(contents: Contents) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let contents = Arc::new(contents);
        let shared = contents.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let contents = shared.clone();
                std::thread::spawn(move || while answer(&stream, &contents).unwrap_or(false) {});
            }
        });
        Self { address, contents }
    }

    fn requests(&self) -> usize {
        self.contents.requests.lock().unwrap().len()
    }
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers one request; true if the connection can take another one.
fn answer(stream: &TcpStream, contents: &Contents) -> std::io::Result<bool> {
    let mut lines = BufReader::new(stream).lines();
    let Some(request) = lines.next().transpose()? else { return Ok(false) };
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_string());
    }
    contents.requests.lock().unwrap().push(path.clone());
    let mut stream = stream;
    let mut status = |text: &str| {
        write!(stream, "HTTP/1.1 {text}\r\nContent-Length: 0\r\n\r\n")?;
        Ok(true)
    };
    if contents.private && headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return status("401 Unauthorized");
    }
    if let Some(repository) = path.strip_prefix("/api/datasets/") {
        let repository = repository.split("/revision/").next().unwrap_or_default();
        let prefix = format!("{repository}:");
        let names = contents.files.keys().filter_map(|name| name.strip_prefix(&prefix));
        let files: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
        if files.is_empty() {
            return status("404 Not Found");
        }
        let body = serde_json::json!({ "siblings": files, "sha": COMMIT }).to_string();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        return Ok(true);
    }
    let found = path.trim_start_matches("/datasets").trim_start_matches('/').split_once("/resolve/");
    let found = found.and_then(|(repository, rest)| {
        let file = rest.split_once('/')?.1.replace("%2F", "/");
        contents.files.get(&format!("{repository}:{file}"))
    });
    let Some(bytes) = found else { return status("404 Not Found") };
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let (start, end) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(bytes.len(), |end: usize| end + 1);
    let (size, etag) = (bytes.len(), sum(bytes));
    let mut part = bytes[start..end].to_vec();
    if contents.damages && part.len() > 1000 {
        part[500] ^= 1;
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{size}\r\n\
         ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\n\r\n",
        part.len(),
        end - 1
    )?;
    let breaks = |n: usize| n.checked_sub(1);
    if part.len() > 100_000
        && contents.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, breaks).is_ok()
    {
        stream.write_all(&part[..part.len() / 2])?;
        stream.shutdown(std::net::Shutdown::Both)?;
        return Ok(false);
    }
    stream.write_all(&part)?;
    Ok(true)
}

/// Runs the program with a Hub's home of its own.
fn with_hub(home: &Path, server: &str, more: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
    for name in
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "http_proxy", "HTTP_PROXY"]
    {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", server).envs(more.iter().copied()).args(args);
    let output = command.output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&all).into_owned())
}

/// A server with a model as timm stores it, and images to predict.
fn server_of_a_model(dir: &Path, change: impl FnOnce(&mut Contents)) -> (Server, std::path::PathBuf) {
    let options = ModelOptions { num_classes: 10, input_size: [32, 32], ..ModelOptions::default() };
    let model = create_model("resnet10", &options).unwrap();
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu).unwrap();
    let weights = safetensors::serialize(weights::export(&*model, &params).unwrap(), None).unwrap();
    let description = r#"{"architecture": "resnet10", "num_classes": 10,
        "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 1.0, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
    let mut contents = Contents::default();
    contents.files.insert("timm/net:model.safetensors".into(), weights);
    contents.files.insert("timm/net:config.json".into(), description.into());
    change(&mut contents);
    let image = dir.join("image.png");
    image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * 6) as u8, (y * 6) as u8, 9]))
        .save(&image)
        .unwrap();
    (Server::new(contents), image)
}

#[test]
fn a_model_is_downloaded_once_and_brings_its_description() {
    let dir = tempfile::tempdir().unwrap();
    let (server, image) = server_of_a_model(dir.path(), |contents| contents.breaks = AtomicUsize::new(2));
    let home = dir.path().join("hub");
    let predict = |more: &[(&str, &str)], weights: &str, rest: &[&str]| {
        let args = [&["predict", "--weights", weights, "--json", text(&image)], rest].concat();
        with_hub(&home, &server.address, more, &args)
    };
    // The connection breaks twice, and the download goes on.
    let (ok, first) = predict(&[], "hub:timm/net", &[]);
    assert!(ok && first.contains("probabilities"), "{first}");
    let requests = server.requests();
    // From the cache, with and without a connection.
    assert_eq!(predict(&[], "hub:timm/net", &[]).1, first);
    assert_eq!(predict(&[("HF_HUB_OFFLINE", "1")], "hub:timm/net", &[]).1, first);
    assert_eq!(server.requests(), requests, "the cache was not used");
    // A copy of both files beside each other is the same model.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["model.safetensors", "config.json"] {
        std::fs::write(copy.join(name), &server.contents.files[&format!("timm/net:{name}")]).unwrap();
    }
    assert_eq!(predict(&[], text(&copy.join("model.safetensors")), &[]).1, first);
    // Its crop and its numbers are used.
    assert_ne!(predict(&[], "hub:timm/net", &["--crop-pct", "0.875"]).1, first);
    std::fs::remove_file(copy.join("config.json")).unwrap();
    let (ok, said) = predict(&[], text(&copy.join("model.safetensors")), &[]);
    assert!(!ok && said.contains("contains only weights"), "{said}");

    let data = image_folder(&dir.path().join("data"), 3, 8);
    let out = dir.path().join("tuned");
    let args =
        ["finetune", "--init", "hub:timm/net@main", "--data", text(&data), "--epochs", "0.5", "--batch", "4"];
    let (ok, said) = with_hub(&home, &server.address, &[], &[&args[..], &["--out", text(&out)]].concat());
    assert!(ok, "{said}");
    let saved = Checkpoint::open(&out.join("model.safetensors")).unwrap();
    let record = saved.run().unwrap();
    assert_eq!((record.model.as_str(), record.base_size), ("resnet10", 32));
    assert_eq!(record.config.normalization().mean, [0.5; 3]);
    assert_eq!(record.config.init.as_deref(), Some(Path::new("hub:timm/net@main")));
}

#[test]
fn what_cannot_be_had_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (server, image) = server_of_a_model(dir.path(), |contents| contents.damages = true);
    let home = dir.path().join("hub");
    let say = |server: &str, more: &[(&str, &str)], weights: &str| {
        let (ok, said) = with_hub(&home, server, more, &["predict", "--weights", weights, text(&image)]);
        assert!(!ok, "{said}");
        said
    };
    let damaged = say(&server.address, &[], "hub:timm/net");
    assert!(damaged.contains("hub:timm/net: `model.safetensors` arrived damaged"), "{damaged}");
    // It is gone from the cache, so the next try downloads again.
    let requests = server.requests();
    say(&server.address, &[], "hub:timm/net");
    assert!(server.requests() > requests);
    let missing = say(&server.address, &[], "hub:timm/other");
    assert!(missing.contains("no such file, repository or revision"), "{missing}");
    let missing = say(&server.address, &[], "hub:timm/net:weights.bin");
    assert!(missing.contains("`weights.bin`: there is no such file"), "{missing}");
    let offline = say(&server.address, &[("HF_HUB_OFFLINE", "1")], "hub:timm/new");
    assert!(offline.contains("not in the cache") && offline.contains("HF_HUB_OFFLINE"), "{offline}");
    let nowhere = say("http://127.0.0.1:9", &[], "hub:timm/new");
    assert!(nowhere.contains("cannot be reached"), "{nowhere}");
    let wrong = say(&server.address, &[], "hub:timm");
    assert!(wrong.contains("hub:OWNER/NAME"), "{wrong}");
}

#[test]
fn private_models_need_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let (server, image) = server_of_a_model(dir.path(), |contents| contents.private = true);
    let home = dir.path().join("hub");
    let args = ["predict", "--weights", "hub:timm/net", text(&image)];
    let (ok, said) = with_hub(&home, &server.address, &[], &args);
    assert!(!ok && said.contains("HF_TOKEN") && said.contains("refuses access"), "{said}");
    let (ok, said) = with_hub(&home, &server.address, &[("HF_TOKEN", TOKEN)], &args);
    assert!(ok, "{said}");
    // Or the one that was stored by logging in.
    let other = dir.path().join("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("token"), format!("{TOKEN}\n")).unwrap();
    assert!(with_hub(&other, &server.address, &[], &args).0);
}

#[test]
fn a_data_set_is_downloaded_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 4);
    let mut contents = Contents::default();
    contents.files.insert("team/photos:README.md".into(), b"text".to_vec());
    for split in ["train", "val"] {
        for class in 0..2 {
            for image in 0..4 {
                let name = format!("{split}/class{class}/{image:03}");
                let bytes = std::fs::read(data.join(&name).with_extension("jpg")).unwrap();
                // Endings in either case, and others than the most usual.
                let ending = ["jpg", "JPG", "jfif"][image % 3];
                contents.files.insert(format!("team/photos:{name}.{ending}"), bytes);
            }
        }
    }
    let server = Server::new(contents);
    let home = dir.path().join("hub");
    let train = |more: &[(&str, &str)], name: &str| {
        let out = dir.path().join(name);
        let args = [
            "train",
            "--data",
            "hub:team/photos",
            "--model",
            "resnet10",
            "--base-size",
            "32",
            "--batch",
            "4",
        ];
        let args = [&args[..], &["--epochs", "0.5", "--lr", "1e-3", "--out", text(&out)]].concat();
        let (ok, said) = with_hub(&home, &server.address, more, &args);
        assert!(ok, "{said}");
        Checkpoint::open(&out.join("model.safetensors")).unwrap()
    };
    let first = train(&[], "first");
    assert_eq!(first.run().unwrap().train_images, 8);
    assert_eq!(first.run().unwrap().config.data.as_deref(), Some(Path::new("hub:team/photos")));
    let files =
        || server.contents.requests.lock().unwrap().iter().filter(|path| path.contains("resolve")).count();
    let downloads = files();
    let again = train(&[("HF_HUB_OFFLINE", "1")], "again");
    assert_eq!(files(), downloads);
    let weights = |saved: &Checkpoint| {
        saved.weights(false).unwrap()["fc.weight"].flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(weights(&first), weights(&again));
    // With one of its files gone, it is not another data set in silence.
    let snapshot = home.join(format!("hub/datasets--team--photos/snapshots/{COMMIT}"));
    std::fs::remove_file(snapshot.join("train/class1/003.jpg")).unwrap();
    let offline = ["data", "check", "hub:team/photos"];
    let (ok, said) = with_hub(&home, &server.address, &[("HF_HUB_OFFLINE", "1")], &offline);
    assert!(!ok && said.contains("`train/class1/003.jpg` is not in the cache"), "{said}");
    let args = ["data", "check", "hub:team/photos"];
    let (ok, said) = with_hub(&home, &server.address, &[], &args);
    assert!(ok && said.contains("class1"), "{said}");
}

/// Most data sets of the Hub are Parquet files, in the folder `data`.
#[cfg(feature = "parquet")]
mod parquet {
    use super::*;

    fn files_in(folder: &Path, below: &str, found: &mut HashMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            match entry.path().is_dir() {
                true => files_in(&entry.path(), &format!("{name}/"), found),
                false => drop(found.insert(name, std::fs::read(entry.path()).unwrap())),
            }
        }
    }

    #[test]
    fn a_data_set_of_parquet_files_is_trained_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut contents = Contents::default();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parquet/hub");
        files_in(&folder, "team/tables:", &mut contents.files);
        contents.files.insert("team/tables:README.md".into(), b"text".to_vec());
        let server = Server::new(contents);
        let (home, out) = (dir.path().join("hub"), dir.path().join("run"));
        let args = ["train", "--data", "hub:team/tables", "--model", "resnet10", "--base-size", "32"];
        let short = ["--epochs", "0.5", "--batch", "4", "--lr", "1e-3", "--out", text(&out)];
        let (ok, said) = with_hub(&home, &server.address, &[], &[&args[..], &short].concat());
        assert!(ok, "{said}");
        let saved = Checkpoint::open(&out.join("model.safetensors")).unwrap();
        let run = saved.run().unwrap();
        assert_eq!((run.train_images, run.classes.len()), (8, 3));
    }
}
