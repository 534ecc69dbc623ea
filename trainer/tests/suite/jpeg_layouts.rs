//! Every JPEG layout, compared with libjpeg-turbo's pixels (`tests/data/jpeg/make.py`).

use crate::common::Rendered;
use std::collections::BTreeMap;

use efficienttrain::data::decode;
use safetensors::SafeTensors;

/// Largest difference in levels of the second decoder, which interpolates chroma and rounds
/// differently.
const SECOND_MAX: u8 = 6;
const SECOND_MEAN: f64 = 0.6;

/// Samplings that are always left to the second decoder.
const SECOND_ALWAYS: [&str; 4] = ["1x1,2x2,2x2", "1x1,1x2,1x2", "2x1,1x2,1x2", "inks-2x2"];

fn file() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jpeg/layouts.safetensors")).unwrap()
}

fn is_partly_interleaved(name: &str) -> bool {
    ["luma-then-chroma", "chroma-last", "pairs"].iter().any(|layout| name.starts_with(layout))
}

/// Largest and mean difference.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let differences = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let mean = differences().map(f64::from).sum::<f64>() / a.len() as f64;
    (differences().max().unwrap_or(0), mean)
}

#[test]
fn every_layout_has_the_pixels_of_libjpeg() {
    let bytes = file();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let jpegs: BTreeMap<&str, &[u8]> = tensors
        .names()
        .into_iter()
        .filter_map(|key| Some((key.strip_prefix("jpeg/")?, tensors.tensor(key).unwrap().data())))
        .collect();
    assert!(jpegs.len() > 100);
    for (name, jpeg) in jpegs {
        let (sampling, layout) = name.split_once('/').unwrap();
        let second = SECOND_ALWAYS.contains(&sampling) || is_partly_interleaved(layout);
        let decoded = decode(jpeg, name, 1 << 30);
        if second && layout == "arithmetic" {
            // Neither decoder supports these; the error names them.
            let message = decoded.unwrap_err().rendered();
            assert!(message.contains(name) && message.contains("rithmetic"), "{message}");
            continue;
        }
        let pixels = decoded.unwrap();
        let expected = tensors.tensor(&format!("rgb/{sampling}")).unwrap();
        assert_eq!(expected.shape(), [pixels.height() as usize, pixels.width() as usize, 3]);
        let (max, mean) = difference(&pixels, expected.data());
        let within = if second { max <= SECOND_MAX && mean <= SECOND_MEAN } else { max == 0 };
        assert!(within, "{name}: {max} at most, {mean:.3} on average");
    }
}

/// A JPEG that ends between two scans.
#[test]
fn a_missing_scan_is_named() {
    let bytes = file();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for layout in ["separate", "luma-then-chroma", "reversed", "progressive"] {
        let name = format!("jpeg/2x2/{layout}");
        let whole = tensors.tensor(&name).unwrap().data();
        let scans: Vec<usize> = whole
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| *pair == [0xff, 0xda])
            .map(|(at, _)| at)
            .collect();
        // Progressive files begin with the means of all components; later scans refine them and may
        // be missing.
        let end = if layout == "progressive" { scans[0] } else { scans[1] };
        let early = [&whole[..end], &[0xff, 0xd9]].concat();
        let message = decode(&early, "early.jpg", 1 << 30).map(|_| name.clone()).unwrap_err().rendered();
        assert!(message.contains("early.jpg") && message.contains("a scan is missing"), "{name}: {message}");
    }
}

/// A JPEG with all its markers, whose entropy-coded data end in the middle. (Arithmetic coding has
/// no end marker: as in libjpeg, missing data are read as zeros.)
#[test]
fn a_scan_that_ends_early_is_named() {
    let bytes = file();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for layout in ["interleaved", "separate", "progressive", "interleaved-restart"] {
        for sampling in ["1x1", "2x2"] {
            let name = format!("jpeg/{sampling}/{layout}");
            let whole = tensors.tensor(&name).unwrap().data();
            // Two thirds of the last scan, without splitting a stuffed byte.
            let scan = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap() + 12;
            let mut kept = &whole[..scan + (whole.len() - scan) * 2 / 3];
            kept = kept.strip_suffix(&[0xff]).unwrap_or(kept);
            let early = [kept, &[0xff, 0xd9]].concat();
            let message = decode(&early, "early.jpg", 1 << 30).map(|_| name.clone()).unwrap_err().rendered();
            assert!(message.contains("early.jpg") && message.contains("end early"), "{name}: {message}");
        }
    }
}
