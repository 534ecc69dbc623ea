//! Weight files: what PyTorch writes is read exactly, and no file does harm.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use crate::common::{data, numbers};
use candle_core::DType;
use efficienttrain_models::weights::{Format, ReadOptions, WeightFile, read, read_from};

fn file(name: &str) -> PathBuf {
    data("weights").join(name)
}

fn read_file(name: &str) -> WeightFile {
    read(&file(name), &ReadOptions::default()).unwrap()
}

fn read_ema(name: &str) -> WeightFile {
    read(&file(name), &ReadOptions { prefer_ema: true }).unwrap()
}

/// The state dict that `make.py` puts into most files.
fn assert_state(found: &WeightFile, start: f64, wrapper: &str) {
    let names: Vec<_> = found.tensors.keys().map(String::as_str).collect();
    assert_eq!(names, ["fc.weight", "fc.bias"]);
    let weight: Vec<f64> = (0..12).map(|i| start + 0.25 * f64::from(i)).collect();
    assert_eq!(found.tensors["fc.weight"].dims(), [3, 4]);
    assert_eq!(numbers(&found.tensors["fc.weight"]), weight);
    assert_eq!(numbers(&found.tensors["fc.bias"]), [start - 7., start - 6.75, start - 6.5]);
    assert_eq!(found.wrapper, wrapper);
}

#[test]
fn every_kind_of_tensor_is_read_exactly() {
    let (pickled, plain) = (read_file("kinds.pth"), read_file("kinds.safetensors"));
    assert_eq!((pickled.format, plain.format), (Format::PyTorch, Format::SafeTensors));
    assert_eq!(pickled.tensors.len(), 17);
    let mut names: Vec<_> = plain.tensors.keys().collect();
    names.sort();
    let mut pickled_names: Vec<_> = pickled.tensors.keys().collect();
    pickled_names.sort();
    assert_eq!(names, pickled_names);
    for (name, tensor) in &pickled.tensors {
        let want = &plain.tensors[name];
        assert_eq!((tensor.dims(), tensor.dtype()), (want.dims(), want.dtype()), "{name}");
        if tensor.dtype() == DType::I64 {
            assert_eq!(tensor.to_vec1::<i64>().unwrap(), want.to_vec1::<i64>().unwrap(), "{name}");
        } else {
            assert_eq!(numbers(tensor), numbers(want), "{name}");
        }
    }
    assert_eq!(pickled.tensors["i64"].to_vec1::<i64>().unwrap(), [-(1i64 << 40), 0, 1 << 62]);
    assert_eq!(numbers(&pickled.tensors["every_other"]), [0.25, 0.75, 1.25, 3.25, 3.75, 4.25]);
    assert_eq!(pickled.tensors["bf16"].dtype(), DType::BF16);
}

#[test]
fn state_dicts_are_found_in_their_wrappers() {
    assert_state(&read_file("plain.pth"), 0.0, "");
    assert_state(&read_file("protocol4.pth"), 0.0, "");
    assert_state(&read_ema("plain.pth"), 0.0, "");
    // This one has an argument namespace, an optimizer, classes nobody knows, and a `module.`
    // before each name.
    assert_state(&read_file("wrapped.pth"), 0.0, "model");
    assert_state(&read_ema("wrapped.pth"), 100.0, "model_ema");
    assert_state(&read_file("timm.pth"), 0.0, "state_dict");
    assert_state(&read_ema("timm.pth"), 100.0, "state_dict_ema");
    assert_state(&read_file("nested.pth"), 0.0, "model");
    assert_state(&read_ema("nested.pth"), 100.0, "ema.module");
    // PyTorch's format from before version 1.6.
    assert_state(&read_file("legacy.pth"), 0.0, "");
    // torchvision's: an `AveragedModel`, which counts beside its `module.`.
    assert_state(&read_file("averaged.pth"), 0.0, "model");
    assert_state(&read_ema("averaged.pth"), 100.0, "model_ema");
}

#[test]
fn files_of_before_version_1_6_that_are_cut_off_are_errors() {
    let mut whole = Vec::new();
    File::open(file("legacy.pth")).unwrap().read_to_end(&mut whole).unwrap();
    for length in 15..whole.len() {
        let message = hostile(whole[..length].to_vec()).unwrap_err().to_string();
        assert!(message.contains("damaged") || message.contains("copy it again"), "{length}: {message}");
    }
}

/// Types that are not read cost nothing until a model asks for them.
#[test]
fn tensors_of_other_types_are_told_apart_from_missing_ones() {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let view = |dtype, length: usize| TensorView::new(dtype, vec![8], &bytes[..length]).unwrap();
    let tensors =
        [("odd", view(Dtype::F8_E5M2, 8)), ("mask", view(Dtype::BOOL, 8)), ("w", view(Dtype::F32, 32))];
    let found = hostile(safetensors::serialize(tensors, None).unwrap()).unwrap();
    let mut names: Vec<_> = found.tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["mask", "w"]);
    assert!(found.tensors.unread("odd").unwrap().contains("F8_E5M2"));
    assert_eq!(found.tensors.unread("w"), None);
}

#[test]
fn files_that_are_not_read_say_what_to_do() {
    let bytes = |bytes: &[u8]| hostile(bytes.to_vec()).unwrap_err().to_string();
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (message, parts) in [
        (failure("module.pth"), &["torch.nn.modules.linear.Linear", "state_dict()"][..]),
        (failure("sparse.pth"), &["`a`", "_rebuild_sparse_tensor"]),
        (failure("absent.pth"), &["absent.pth", "cannot open"]),
        (bytes(b""), &["empty"]),
        (bytes(&tar), &["tar archive"]),
        (bytes(b"<!DOCTYPE html><html>"), &["web page"]),
        (bytes(b"version https://git-lfs.github.com/spec/v1\n"), &["git lfs pull"]),
        (bytes(b"some text that is no file of weights"), &["neither"]),
        (bytes(&archive(b"}.", &[])), &["no state dict", "`model_ema`"]),
        (
            bytes(&archive(b"}\x8c\x05modelcmy.code\nNet\n)\x81s.", &[])),
            &["{`model`: an object of `my.code.Net`}"],
        ),
        (bytes(&archive(b"\x8c\x01x.", &[])), &["a plain value"]),
    ] {
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}

fn failure(name: &str) -> String {
    read(&file(name), &ReadOptions::default()).unwrap_err().to_string()
}

fn hostile(bytes: Vec<u8>) -> efficienttrain_models::Result<WeightFile> {
    read_from(Cursor::new(bytes), Path::new("hostile"), &ReadOptions::default())
}

/// A zip archive with a pickle and storages, all stored.
fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("a/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    for (key, bytes) in storages {
        zip.start_file(format!("a/data/{key}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// `{"w": a tensor}` over a storage `0`; numbers are eight bytes each.
fn tensor_pickle(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let long = |n: i64| [&[0x8A, 8][..], &n.to_le_bytes()].concat();
    let tuple =
        |items: &[i64]| [vec![b'('], items.iter().flat_map(|&n| long(n)).collect(), vec![b't']].concat();
    [
        b"\x80\x02}\x8c\x01wctorch._utils\n_rebuild_tensor_v2\n((\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpu".to_vec(),
        long(elements),
        b"tQ".to_vec(),
        long(offset),
        tuple(shape),
        tuple(strides),
        b"\x89NtRs.".to_vec(),
    ]
    .concat()
}

#[test]
fn sizes_and_offsets_are_checked_against_the_file() {
    let bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let try_it = |elements, offset, shape: &[i64], strides: &[i64]| {
        hostile(archive(&tensor_pickle(elements, offset, shape, strides), &[("0", &bytes)]))
    };
    let good = try_it(6, 1, &[2, 2], &[3, 1]).unwrap();
    assert_eq!(numbers(&good.tensors["w"]), [1., 2., 4., 5.]);
    for (elements, offset, shape, strides, part) in [
        (6, 3, &[2, 2][..], &[3, 1][..], "leaves its storage"),
        (6, -1, &[2], &[1], "starts before"),
        (6, 0, &[-2], &[1], "negative"),
        (6, 0, &[2], &[-1], "negative"),
        (6, i64::MAX, &[2], &[1], "leaves its storage"),
        (6, 0, &[i64::MAX, i64::MAX, 4], &[0, 0, 1], "leaves its storage"),
        (6, 0, &[1 << 40], &[0], "far more than the file holds"),
        (1 << 40, 0, &[1 << 20, 1 << 20], &[1 << 20, 1], "far more than the file holds"),
        (1 << 20, 0, &[1000], &[1], "has 6 elements, expected 1048576"),
        (-1, 0, &[1], &[1], "negative size"),
        (6, 0, &[1, 1], &[1], "2 dimensions but 1 strides"),
        (6, 0, &[1; 65], &[1; 65], "65 dimensions"),
    ] {
        let message = try_it(elements, offset, shape, strides).unwrap_err().to_string();
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    let lost = hostile(archive(&tensor_pickle(6, 0, &[2], &[1]), &[])).unwrap_err().to_string();
    assert!(lost.contains("`a/data/0`") && lost.contains("not in the archive"), "{lost}");
}

/// The largest address space that this process ever had, in bytes: an allocation counts even if it
/// is never touched.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(not(target_os = "linux"))]
fn peak_memory() -> u64 {
    0
}

#[test]
fn pickles_made_to_harm_fail_fast_and_small() {
    let repeated =
        |start: &[u8], middle: &[u8], count: usize, end: &[u8]| [start, &middle.repeat(count), end].concat();
    let before = peak_memory();
    let started = std::time::Instant::now();
    for (what, pickle, part) in [
        ("text of 4 GB", b"\x80\x02X\xff\xff\xff\xff.".to_vec(), "more bytes should follow"),
        ("text of 2^63 bytes", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.".to_vec(), "more bytes"),
        ("bytes of 2^64 - 1", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff.".to_vec(), "more bytes"),
        ("integer of 4 GB", b"\x80\x02\x8b\xff\xff\xff\xff.".to_vec(), "more bytes"),
        ("deep lists", repeated(b"\x80\x02", b"](", 500_000, b"."), "missing on its stack"),
        ("deep tuples", repeated(b"\x80\x02N", b"\x85", 900_000, b"."), "a plain value"),
        ("deep dictionaries", repeated(b"\x80\x02", b"}\x8c\x01m", 200_000, b"."), "a plain value"),
        ("a million marks", repeated(b"\x80\x02", b"(", 2_000_000, b"."), "more than 1048576 objects"),
        ("two million objects", repeated(b"\x80\x02", b"}0", 2_000_000, b"."), "more than 1048576 objects"),
        ("a full stack", repeated(b"\x80\x02", b"N", 2_000_000, b"."), "more than 1048576 objects"),
        // Each step doubles what a reader that copies would hold.
        ("doubling", repeated(b"\x80\x02)q\x00", b"h\x00h\x00\x86q\x00", 100_000, b"."), "a plain value"),
        ("itself inside", b"\x80\x02}q\x00\x8c\x05modelh\x00sh\x00.".to_vec(), "no state dict"),
        ("a call", b"\x80\x02cos\nsystem\n\x8c\x04true\x85R.".to_vec(), "an object of `os.system`"),
        ("a long class name", repeated(b"\x80\x02c", b"a", 1_000_000, b"\nb\n)R."), "an object of `aaa"),
        ("memo of nothing", b"\x80\x02h\x07.".to_vec(), "nothing was kept under 7"),
        ("odd dictionary", b"\x80\x02}(NNNu.".to_vec(), "key without a value"),
        ("protocol 9", b"\x80\x09}.".to_vec(), "protocol 9"),
        ("protocol 0", b"I1\n.".to_vec(), "0x49"),
        ("no end", b"\x80\x02}".to_vec(), "it ends"),
        ("nothing left", b"\x80\x02.".to_vec(), "missing on its stack"),
    ] {
        let message = hostile(archive(&pickle, &[])).expect_err(what).to_string();
        assert!(message.contains(part), "{what}: `{part}` is not in: {message}");
        assert!(message.len() < 2000, "{what}: a message of {} bytes", message.len());
    }
    assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
    // The largest of these files has 4 MB.
    assert!(peak_memory() - before < 1 << 30, "{} MB more", (peak_memory() - before) >> 20);
}

#[test]
fn many_views_of_one_storage_do_not_multiply() {
    // 4 MB of storage, ten tensors of 4 MB each: more than the four times that are allowed.
    let storage = vec![0; 4 << 20];
    let one = tensor_pickle(1 << 20, 0, &[1 << 20], &[1]);
    let body = &one[6..one.len() - 2]; // from after `}` and the name to before `s.`
    let mut pickle = b"\x80\x02}".to_vec();
    for i in 0..10 {
        pickle.extend([0x8C, 1, b'a' + i]);
        pickle.extend(body);
        pickle.push(b's');
    }
    pickle.push(b'.');
    let message = hostile(archive(&pickle, &[("0", &storage)])).unwrap_err().to_string();
    assert!(message.contains("far more than the file holds"), "{message}");
}

#[test]
fn truncated_and_mutated_files_never_panic() {
    let before = peak_memory();
    for name in ["wrapped.pth", "kinds.pth", "kinds.safetensors", "protocol4.pth"] {
        let whole = std::fs::read(file(name)).unwrap();
        for end in 0..whole.len() {
            assert!(hostile(whole[..end].to_vec()).is_err(), "{name} cut at {end}");
        }
        let mut failed = 0;
        for round in 0..3000u64 {
            let mut bytes = whole.clone();
            for change in 0..=round % 3 {
                let random = crate::common::fnv1a64(&format!("{name} {round} {change}"));
                let at = (random >> 16) as usize % bytes.len();
                bytes[at] = random as u8;
            }
            failed += usize::from(hostile(bytes).is_err());
        }
        assert!((100..3000).contains(&failed), "{name}: {failed} mutations were noticed");
    }
    assert!(peak_memory() - before < 1 << 30, "{} MB more", (peak_memory() - before) >> 20);
}

/// One byte changed, added, removed, or eight copied from elsewhere; all by a formula of `what`.
fn mutate(bytes: &mut Vec<u8>, what: &str) {
    let random = crate::common::fnv1a64(what);
    let place = |shift: u32| (random >> shift) as usize % bytes.len();
    let (at, from) = (place(16), place(40));
    match (random >> 8) & 3 {
        0 => bytes[at] = random as u8,
        1 => bytes.insert(at, random as u8),
        2 => drop(bytes.remove(at)),
        _ => {
            let copy = bytes[from..bytes.len().min(from + 8)].to_vec();
            bytes.splice(at..at, copy);
        }
    }
}

/// Behind the checksum of the archive: what the pickle reader itself must bear.
#[test]
fn mutated_pickles_never_panic() {
    let before = peak_memory();
    let mut zip = zip::ZipArchive::new(File::open(file("wrapped.pth")).unwrap()).unwrap();
    let mut wrapped = Vec::new();
    zip.by_name("wrapped/data.pkl").unwrap().read_to_end(&mut wrapped).unwrap();
    let storage = [0; 48];
    let storages = ["0", "1", "2", "3", "4", "5"].map(|key| (key, &storage[..]));
    for pickle in [wrapped, tensor_pickle(6, 1, &[2, 2], &[3, 1])] {
        hostile(archive(&pickle, &storages)).expect("untouched it is good");
        let mut read = 0;
        for round in 0..20_000u64 {
            let mut bytes = pickle.clone();
            for change in 0..=round % 4 {
                mutate(&mut bytes, &format!("{round} {change}"));
            }
            read += usize::from(hostile(archive(&bytes, &storages)).is_ok());
        }
        assert!((1..20_000).contains(&read), "{read} mutated pickles were read");
    }
    assert!(peak_memory() - before < 1 << 30, "{} MB more", (peak_memory() - before) >> 20);
}

#[test]
fn a_huge_safetensors_header_is_an_error() {
    for length in [u64::MAX, 1 << 40, 99_999_999] {
        let bytes = [&length.to_le_bytes()[..], b"{\"a\":{}}"].concat();
        let message = hostile(bytes).unwrap_err().to_string();
        assert!(message.contains("no complete safetensors file"), "{message}");
    }
}
