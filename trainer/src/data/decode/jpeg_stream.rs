//! Structure of a JPEG file: its markers, without the entropy-coded data between them.

/// Information from the markers of a JPEG file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct JpegStream {
    /// Frame header, if the file has one.
    pub(crate) frame: Option<Frame>,
    /// Number of components in each scan.
    pub(crate) scans: Vec<usize>,
    /// Numbers of the components whose first scan (of whole blocks or of their DC coefficients) has
    /// been found.
    begun: Vec<u8>,
    /// True if the file has an end-of-image marker.
    pub(crate) is_whole: bool,
    /// EXIF data before the first scan, without prefix; the parts in several segments are joined.
    pub(crate) exif: Vec<u8>,
    /// XMP packet before the first scan.
    pub(crate) xmp: Vec<u8>,
}

/// Frame header (ITU-T T.81, B.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Second byte of the marker: 0xc0 baseline, 0xc1 extended sequential, 0xc2 progressive, and
    /// others.
    pub(crate) kind: u8,
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
    /// Horizontal and vertical sampling factor of each component.
    pub(crate) sampling: Vec<(u32, u32)>,
}

impl JpegStream {
    /// Walks over all markers. Thumbnails inside segments have markers of their own and are
    /// skipped.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut stream = Self::default();
        let mut at = 2;
        // Between markers there is entropy-coded data, or padding between segments.
        while let Some(skipped) = bytes.get(at..).and_then(|rest| memchr::memchr(0xff, rest)) {
            at += skipped;
            match bytes.get(at + 1) {
                None => return stream,
                Some(0xd9) => {
                    stream.is_whole = true;
                    return stream;
                }
                // Skips fill bytes, stuffed zeros, restart markers and other markers without a
                // length.
                Some(0xff) => at += 1,
                Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
                Some(&marker) => {
                    let Some(length) = bytes.get(at + 2..at + 4) else { return stream };
                    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                    stream.segment(marker, bytes.get(at + 4..at + 2 + length).unwrap_or_default());
                    at += 2 + length;
                }
            }
        }
        stream
    }

    fn segment(&mut self, marker: u8, content: &[u8]) {
        match marker {
            // Uses the first frame; 0xc4, 0xc8 and 0xcc are tables.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) && self.frame.is_none() => {
                self.frame = Frame::parse(marker, content);
            }
            0xda => self.scan(content),
            0xe1 if self.scans.is_empty() => {
                if let Some(exif) = content.strip_prefix(b"Exif\0\0") {
                    self.exif.extend_from_slice(exif);
                } else if let Some(xmp) = content.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
                    self.xmp = xmp.to_vec();
                }
            }
            _ => {}
        }
    }
}

impl JpegStream {
    fn scan(&mut self, content: &[u8]) {
        let Some((&count, rest)) = content.split_first() else { return };
        self.scans.push(usize::from(count));
        let (components, spectrum) = rest.as_chunks::<2>().0.split_at(usize::from(count).min(rest.len() / 2));
        // Later scans of progressive JPEGs only refine coefficients.
        if spectrum.first().is_none_or(|first| first[0] == 0) {
            self.begun.extend(components.iter().map(|component| component[0]));
        }
    }

    /// Returns true if every component of the frame has a scan.
    pub(crate) fn has_all_components(&self) -> bool {
        let mut begun = self.begun.clone();
        begun.sort_unstable();
        begun.dedup();
        self.frame.as_ref().is_none_or(|frame| begun.len() >= frame.sampling.len())
    }
}

impl Frame {
    fn parse(kind: u8, content: &[u8]) -> Option<Self> {
        let &[_, h1, h0, w1, w0, count, ref rest @ ..] = content else { return None };
        let (components, _) = rest.as_chunks::<3>();
        let sampling = components.iter().take(usize::from(count));
        Some(Self {
            kind,
            width: u32::from(u16::from_be_bytes([w1, w0])),
            height: u32::from(u16::from_be_bytes([h1, h0])),
            sampling: sampling.map(|c| (u32::from(c[1] >> 4), u32::from(c[1] & 15))).collect(),
        })
    }

    /// Returns true if the coefficients of all scans must be kept until the last one has been read.
    pub(crate) fn keeps_coefficients(&self, scans: &[usize]) -> bool {
        matches!(self.kind, 0xc2 | 0xca) || scans.len() > 1
    }

    /// Returns the total number of samples of all components.
    pub(crate) fn samples(&self) -> u64 {
        let largest =
            |factor: fn(&(u32, u32)) -> u32| self.sampling.iter().map(factor).max().unwrap_or(1).max(1);
        let (h_max, v_max) = (largest(|s| s.0), largest(|s| s.1));
        let samples = |&(h, v): &(u32, u32)| {
            let width = (u64::from(self.width) * u64::from(h)).div_ceil(h_max.into());
            width * (u64::from(self.height) * u64::from(v)).div_ceil(v_max.into())
        };
        self.sampling.iter().map(samples).sum()
    }
}

/// Returns true if the bytes begin like a JPEG.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_jpeg_is_found_behind_its_segments() {
        let is_whole = |bytes: &[u8]| JpegStream::parse(bytes).is_whole;
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd9, 1, 2];
        let scan = [0xff, 0xda, 0, 2, 5, 0xff, 0x00, 7, 0xff, 0xd3, 9];
        let head = [&[0xff, 0xd8][..], &thumbnail, &scan].concat();
        assert!(!is_whole(&head));
        assert!(is_whole(&[&head[..], &[0xff, 0xd9]].concat()));
        assert!(is_whole(&[&head[..], &[0xff, 0xff, 0xd9, 0, 0]].concat()));
        assert!(!is_whole(&[&head[..], &[0xff]].concat()));
        assert!(!is_whole(&[]));
    }

    #[test]
    fn headers_say_size_sampling_and_scans() {
        let frame = [0xff, 0xc2, 0, 17, 8, 0, 49, 1, 0, 3, 1, 0x21, 0, 2, 0x11, 1, 3, 0x11, 1];
        let scan = |count: u8| [0xff, 0xda, 0, 3, count, 7, 8];
        let bytes = [&[0xff, 0xd8][..], &frame, &scan(1), &scan(2)].concat();
        let stream = JpegStream::parse(&bytes);
        let sampling = vec![(2, 1), (1, 1), (1, 1)];
        let want = Frame { kind: 0xc2, width: 256, height: 49, sampling };
        assert_eq!(want.samples(), 2 * 256 * 49);
        assert_eq!((stream.frame, stream.scans), (Some(want), vec![1, 2]));
    }
}
