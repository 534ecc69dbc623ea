//! The nearest filter against Pillow's.

use image::{Rgb, RgbImage};
use randaug::{Filter, Scratch, resize};

#[test]
fn nearest_pixels_are_those_of_pillow() {
    let text = include_str!("../data/oracle/nearest.json");
    let cases: Vec<(u32, u32, Vec<u8>)> = serde_json::from_str(text).unwrap();
    assert!(cases.len() > 200);
    for (from, to, expected) in cases {
        let row = RgbImage::from_fn(from, 3, |x, _| Rgb([x as u8, 7, 255 - x as u8]));
        let small = resize(&row, to, 3, Filter::Nearest, &mut Scratch::new()).unwrap();
        let got: Vec<u8> = small.pixels().take(to as usize).map(|pixel| pixel[0]).collect();
        assert_eq!(got, expected, "{from} to {to}");
        let column = RgbImage::from_fn(2, from, |_, y| Rgb([y as u8, 7, 255 - y as u8]));
        let small = resize(&column, 2, to, Filter::Nearest, &mut Scratch::new()).unwrap();
        let got: Vec<u8> = (0..to).map(|y| small.get_pixel(1, y)[0]).collect();
        assert_eq!(got, expected, "{from} to {to}, by columns");
    }
}
