//! Legend of a chart, above its area so that it covers nothing.

use plotters::prelude::*;

use crate::observe::chart::sheet::Sheet;

/// Mark beside a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Line,
    Dashes,
    Dot,
}

/// Entry of a legend.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) color: RGBColor,
    pub(crate) mark: Mark,
}

/// Height of letters, in pixels.
const LETTERS: i32 = 15;
/// Height of a row, in pixels.
const ROW: i32 = 22;
/// Width of a mark including the space after it, in pixels.
const MARK: i32 = 28;
/// Space around the whole and between entries, in pixels.
const SPACE: i32 = 18;
/// Assumed ratio of a character's width to the letter height, as in wide fonts: the reader's font
/// is unknown.
const CHARACTER: f64 = 0.6;

fn width(name: &str) -> i32 {
    MARK + (CHARACTER * f64::from(LETTERS) * name.chars().count() as f64).ceil() as i32
}

/// Returns the left edge and the row of each name, as many per row as fit.
fn positions<'a>(names: impl Iterator<Item = &'a str>, max_width: i32) -> Vec<(i32, i32)> {
    let (mut x, mut row) = (SPACE, 0);
    let position = |name: &str| {
        if x > SPACE && x + width(name) + SPACE > max_width {
            (x, row) = (SPACE, row + 1);
        }
        let position = (x, row);
        x += width(name) + SPACE;
        position
    };
    names.map(position).collect()
}

/// Draws the legend at the top of an area; returns the rest of the area.
pub(crate) fn draw_legend<'a>(
    area: &Sheet<'a>,
    entries: &[Entry],
) -> Result<Sheet<'a>, Box<dyn std::error::Error>> {
    let max_width = i32::try_from(area.dim_in_pixel().0)?;
    let positions = positions(entries.iter().map(|entry| entry.name.as_str()), max_width);
    let rows = positions.last().map_or(0, |position| position.1 + 1);
    let (top, rest) = area.split_vertically(rows * ROW);
    for (Entry { name, color, mark }, (x, row)) in entries.iter().zip(positions) {
        let y = row * ROW + ROW / 2;
        let line = |from, to| PathElement::new([(x + from, y), (x + to, y)], color.stroke_width(2));
        match mark {
            Mark::Line => top.draw(&line(0, MARK - 6))?,
            Mark::Dashes => {
                [(0, 6), (8, 14), (16, 22)].map(|(a, b)| line(a, b)).iter().try_for_each(|l| top.draw(l))?;
            }
            Mark::Dot => top.draw(&Circle::new((x + MARK / 2, y), 5, color.filled()))?,
        }
        // The position of a text is its upper left corner.
        let style = ("sans-serif", LETTERS).into_font();
        top.draw(&Text::new(name.clone(), (x + MARK, y - LETTERS / 2), style))?;
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_room_and_none_covers_another() {
        let names = [
            "resnet18-etpp (73.7%)",
            "deit_tiny-baseline mixup=0.8 (8.1%)",
            "x",
            "a-name-as-long-as-a-folder",
        ];
        for max_width in [860, 560, 200] {
            let positions = positions(names.iter().copied(), max_width);
            for (i, (&(x, row), name)) in positions.iter().zip(names).enumerate() {
                assert!(x + width(name) <= max_width || x == SPACE, "{name} is cut off at {max_width}");
                for (&(other, below), _) in positions[..i].iter().zip(names) {
                    assert!(below <= row && (below < row || other < x));
                }
                let before = i.checked_sub(1).filter(|&j| positions[j].1 == row);
                assert!(
                    before.is_none_or(|j| positions[j].0 + width(names[j]) < x),
                    "{name} covers its neighbor"
                );
            }
        }
        assert_eq!(positions(names.iter().copied(), 860)[2].1, 0);
        assert!(positions(std::iter::empty(), 860).is_empty());
    }
}
