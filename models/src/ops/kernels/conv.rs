//! Two-dimensional convolution of channels-last images as matrix products over windows.

use super::product::{
    FlippedKernel, Im2col, Left, OutputRows, Right, multiplies_bf16, product, product_at, product_onto,
    product_split_k,
};
use super::rows::zip;
use super::transpose::transpose_each;
use super::{Compute, Storage, winograd};

/// Shapes of one convolution. Images are `[n, h, w, c]`, results `[n, ho, wo, o]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) o: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) stride: usize,
    pub(crate) pad: usize,
    pub(crate) dilation: usize,
    pub(crate) ho: usize,
    pub(crate) wo: usize,
}

impl Geometry {
    fn rows_per_image(&self) -> usize {
        self.ho * self.wo
    }

    fn rows(&self) -> usize {
        self.n * self.rows_per_image()
    }

    /// Length of an unfolded row.
    fn k(&self) -> usize {
        self.kh * self.kw * self.c
    }

    fn pixels(&self) -> usize {
        self.h * self.w * self.c
    }

    /// A 1x1 convolution with stride 1 reads the image as a matrix.
    fn is_pointwise(&self) -> bool {
        self.kh == 1 && self.kw == 1 && self.stride == 1 && self.pad == 0
    }

    /// The windows of the image that the kernel sees.
    fn windows<'a, S>(&self, x: &'a [S]) -> Im2col<'a, S> {
        Im2col {
            x,
            size: [self.h, self.w],
            c: self.c,
            count: [self.ho, self.wo],
            step: self.stride,
            origin: [-(self.pad as isize); 2],
            kernel: [self.kh, self.kw],
            dilation: self.dilation,
        }
    }
}

/// Way to compute a convolution, with the weight in the form that it takes.
pub(crate) enum Kernel<S: Storage> {
    /// Products over windows, for a weight that is stored as rows `[o, kh * kw * c]`.
    Unchanged,
    /// The same with such rows of the weight.
    Real(Vec<S::Real>),
    /// The same with the rows rounded to the type of the images, as the products of this machine do
    /// with them anyway.
    Rounded(Vec<S>),
    /// Winograd convolution, which takes the weight as it is.
    Winograd,
}

impl<S: Storage> Kernel<S> {
    /// The way for images stored as `S`, and a weight `[o, c, kh, kw]`, the layout of weight files.
    pub(crate) fn new(w: &[S::Real], g: &Geometry) -> Self {
        let rounded = !S::EXACT && multiplies_bf16();
        if g.kh * g.kw == 1 || g.c == 1 {
            Self::Unchanged
        } else if rounded {
            Self::Rounded(transpose_each(w, g.o, g.c, g.kh * g.kw))
        } else if winograd::is_faster(g) {
            Self::Winograd
        } else {
            Self::Real(transpose_each(w, g.o, g.c, g.kh * g.kw))
        }
    }

    /// Products over windows, whatever is faster.
    #[cfg(test)]
    pub(crate) fn direct(w: &[S::Real], g: &Geometry) -> Self {
        Self::Real(transpose_each(w, g.o, g.c, g.kh * g.kw))
    }

    /// `y = conv(x, w) + bias`, for the weight `w` that this was made of.
    pub(crate) fn forward(&self, x: &[S], w: &[S::Real], bias: Option<&[S::Real]>, g: &Geometry) -> Vec<S> {
        match self {
            Self::Unchanged => forward(x, w, bias, g),
            Self::Real(w) => forward(x, w, bias, g),
            Self::Rounded(w) => forward(x, w, bias, g),
            Self::Winograd => winograd::forward(x, w, bias, g),
        }
    }

    /// Gradient of the image, plus `onto`, for the weight `w` that this was made of.
    pub(crate) fn backward_data(&self, dy: &[S], w: &[S::Real], onto: Option<&[S]>, g: &Geometry) -> Vec<S> {
        match self {
            Self::Unchanged => backward_data(dy, w, onto, g),
            Self::Real(w) => backward_data(dy, w, onto, g),
            Self::Rounded(w) => backward_data(dy, w, onto, g),
            Self::Winograd => winograd::backward_data(dy, w, onto, g),
        }
    }

    /// Gradient of the weight, in the layout of weight files.
    pub(crate) fn backward_weight(&self, x: &[S], dy: &[S], g: &Geometry) -> Vec<S::Real> {
        match self {
            Self::Unchanged => backward_weight(x, dy, g),
            Self::Real(_) | Self::Rounded(_) => {
                transpose_each(&backward_weight(x, dy, g), g.o, g.kh * g.kw, g.c)
            }
            Self::Winograd => winograd::backward_weight(x, dy, g),
        }
    }
}

/// `y = conv(x, w) + bias`, `w` packed.
fn forward<S: Storage<Real = T>, B: Storage<Real = T>, T: Compute>(
    x: &[S],
    w: &[B],
    bias: Option<&[T]>,
    g: &Geometry,
) -> Vec<S> {
    let left = if g.is_pointwise() { Left::Rows(x, g.c) } else { Left::Im2col(g.windows(x)) };
    product((g.rows(), g.o, g.k()), left, Right::Columns(w, g.k()), bias)
}

/// Gradient of the packed weight.
fn backward_weight<S: Storage>(x: &[S], dy: &[S], g: &Geometry) -> Vec<S::Real> {
    let right = if g.is_pointwise() { Right::Rows(x, g.c) } else { Right::Im2col(g.windows(x)) };
    product_split_k((g.o, g.k(), g.rows()), Left::Columns(dy, g.o), right)
}

/// Gradient of the image, plus `onto`, `w` packed.
///
/// Pixels a stride apart see the same taps of the kernel. Such a class of pixels gets its gradient
/// from a convolution of `dy` with those taps in reverse order, written to the class's pixels.
fn backward_data<S: Storage<Real = T>, B: Storage<Real = T>, T: Compute>(
    dy: &[S],
    w: &[B],
    onto: Option<&[S]>,
    g: &Geometry,
) -> Vec<S> {
    if g.is_pointwise() {
        return product_onto((g.rows(), g.c, g.o), Left::Rows(dy, g.o), Right::Rows(w, g.c), onto);
    }
    if g.stride == 1 {
        let (shape, left, right, _) = Class::new(g, [0, 0]).product(dy, w, g);
        return product_onto(shape, left, right, onto);
    }
    let mut dx = vec![S::store(T::ZERO); g.n * g.pixels()];
    for first in (0..g.stride.min(g.h)).flat_map(|y| (0..g.stride.min(g.w)).map(move |x| [y, x])) {
        let class = Class::new(g, first);
        if class.kernel[0] * class.kernel[1] > 0 {
            let (shape, left, right, place) = class.product(dy, w, g);
            product_at(shape, left, right, &mut dx, place);
        }
    }
    match onto {
        Some(onto) => zip(&dx, onto, |dx, more| dx + more),
        None => dx,
    }
}

/// Pixels a stride apart, and the taps of the kernel that they see.
struct Class {
    first: [usize; 2],
    /// Rows and columns of such pixels.
    count: [usize; 2],
    /// Rows and columns of the kernel that they see, and the last of them.
    kernel: [usize; 2],
    last: [usize; 2],
    /// Distance of these in the kernel, and of the pixels of the result that they see.
    step: usize,
    dilation: usize,
    /// The result's pixel under the last of them, for the first pixel.
    origin: [isize; 2],
}

impl Class {
    fn new(g: &Geometry, first: [usize; 2]) -> Self {
        let axis = |first: usize, size: usize, kernel: usize| {
            let place = first + g.pad;
            let seen = (0..kernel).filter(|k| k * g.dilation % g.stride == place % g.stride);
            let last = seen.clone().next_back().unwrap_or(0);
            let origin = (place as isize - (last * g.dilation) as isize) / g.stride as isize;
            ((size - first).div_ceil(g.stride), seen.count(), last, origin)
        };
        let (y, x) = (axis(first[0], g.h, g.kh), axis(first[1], g.w, g.kw));
        // Places of the kernel that meet a pixel are so far apart that their distances are
        // multiples of the stride.
        let common = greatest_common_divisor(g.stride, g.dilation);
        Self {
            first,
            count: [y.0, x.0],
            kernel: [y.1, x.1],
            last: [y.2, x.2],
            step: g.stride / common,
            dilation: g.dilation / common,
            origin: [y.3, x.3],
        }
    }

    /// Returns the product that computes these pixels' gradient.
    fn product<'a, S, T>(
        &self,
        dy: &'a [S],
        w: &'a [T],
        g: &Geometry,
    ) -> ((usize, usize, usize), Left<'a, S>, Right<'a, T>, OutputRows) {
        let left = Im2col {
            x: dy,
            size: [g.ho, g.wo],
            c: g.o,
            count: self.count,
            step: 1,
            origin: self.origin,
            kernel: self.kernel,
            dilation: self.dilation,
        };
        let right = FlippedKernel {
            w,
            o: g.o,
            c: g.c,
            kernel: [g.kh, g.kw],
            count: self.kernel,
            last: self.last,
            step: self.step,
        };
        let place =
            OutputRows::Grid { size: [g.h, g.w], count: self.count, first: self.first, step: g.stride };
        let rows = g.n * self.count[0] * self.count[1];
        let shape = (rows, g.c, self.kernel[0] * self.kernel[1] * g.o);
        (shape, Left::Im2col(left), Right::FlippedKernel(right), place)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
