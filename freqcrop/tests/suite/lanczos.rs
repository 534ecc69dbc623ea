//! Pillow's bytes, exactly.

use std::path::{Path, PathBuf};

use freqcrop::Lanczos;
use safetensors::SafeTensors;

/// Checks every `lanczos/SOURCE_HxW_to_B` of a file, `[3, B, B]` bytes each; returns how many.
fn check_file(file: &Path, images: &Path) -> usize {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut count = 0;
    for (key, view) in tensors.tensors() {
        let Some(case) = key.strip_prefix("lanczos/") else { continue };
        let [source, size, "to", side] = case.split('_').collect::<Vec<_>>()[..] else { panic!("key {key}") };
        let (h, w) = size.split_once('x').map(|(h, w)| (h.parse().unwrap(), w.parse().unwrap())).unwrap();
        let side: usize = side.parse().unwrap();
        let image = match source {
            "synth" => crate::common::synth(11, h, w),
            name => crate::common::corner(&images.join(format!("{name}.png")), h as u32, w as u32),
        };
        let resize = Lanczos::new((h as usize, w as usize), (side, side)).unwrap();
        let pixels = resize.apply_u8(3, &image).unwrap();
        let planes: Vec<u8> = (0..3).flat_map(|c| pixels.iter().skip(c).step_by(3)).copied().collect();
        let differing = planes.iter().zip(view.data()).filter(|(a, b)| a != b).count();
        assert_eq!((planes.len(), differing), (view.data().len(), 0), "{key}");
        count += 1;
    }
    count
}

#[test]
fn selected_images() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    assert_eq!(check_file(&data.join("freqcrop.safetensors"), &data), 3);
}

#[test]
fn every_image_of_the_reference() {
    let Some(golden) = std::env::var_os("EFFICIENTTRAIN_GOLDEN").map(PathBuf::from) else {
        println!("note: set EFFICIENTTRAIN_GOLDEN to the folder of reference numbers to check all of them");
        return;
    };
    let count = check_file(&golden.join("freqcrop/pil_downsample.safetensors"), &golden.join("images"));
    assert!(count > 0);
    println!("{count} images hold");
}

#[test]
fn sides_that_keep_their_length_are_left_alone() {
    let image = crate::common::synth(3, 20, 30);
    assert_eq!(Lanczos::new((20, 30), (20, 30)).unwrap().apply_u8(3, &image).unwrap(), image);
    // One pass after the other is both passes.
    let across = Lanczos::new((20, 30), (20, 17)).unwrap().apply_u8(3, &image).unwrap();
    let both = Lanczos::new((20, 17), (9, 17)).unwrap().apply_u8(3, &across).unwrap();
    assert_eq!(Lanczos::new((20, 30), (9, 17)).unwrap().apply_u8(3, &image).unwrap(), both);
}
