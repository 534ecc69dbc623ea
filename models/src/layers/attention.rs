//! Self-attention in all its groupings: the whole sequence, windows, stripes, a coarser map.

use super::{Conv2d, ConvShape, DepthwiseConv2d, LayerNorm, Linear, add, concat_channels, slice_channels};
use crate::Result;
use crate::graph::{Context, Op, Variable};
use crate::ops::{self, Windows};
use crate::params::{Init, ParamBuilder, ParamId};

/// Self-attention with parameters `qkv` and `proj`, as timm's; all tokens see each other.
#[derive(Clone, Debug)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    /// `heads` heads over `width` channels, which `heads` must divide; biases only if `bias`.
    pub fn new(b: &mut ParamBuilder, width: usize, heads: usize, weight: Init, bias: bool) -> Self {
        let bias = bias.then_some(Init::Zeros);
        let qkv = b.within("qkv", |b| Linear::new(b, width, 3 * width, weight, bias));
        Self { qkv, proj: b.within("proj", |b| Linear::new(b, width, width, weight, bias)), heads }
    }

    /// `[B, L, C]` or `[B, H, W, C]` to the same shape.
    ///
    /// # Errors
    /// When the last dimension does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let qkv = self.qkv.forward(cx, x)?;
        let shape = x.dims();
        let tokens: usize = shape[1..shape.len() - 1].iter().product();
        let whole = Windows { size: [1, tokens], shift: [0, 0] };
        let map = cx.reshape(&qkv, &[shape[0], 1, tokens, 3 * shape[shape.len() - 1]])?;
        let mixed = attend(cx, &map, self.heads, &[whole], None)?;
        let mixed = cx.reshape(&mixed, shape)?;
        self.proj.forward(cx, &mixed)
    }
}

/// Self-attention inside windows with a relative position bias (Swin): parameters
/// `relative_position_bias_table`, `qkv`, `proj`.
#[derive(Clone, Debug)]
pub struct WindowAttention {
    table: ParamId,
    inner: Attention,
}

impl WindowAttention {
    /// For windows of `window` rows and columns.
    pub fn new(b: &mut ParamBuilder, width: usize, heads: usize, window: [usize; 2], weight: Init) -> Self {
        let offsets = window.map(|w| 2 * w - 1).iter().product();
        let table = b.parameter("relative_position_bias_table", &[offsets, heads], weight);
        Self { table, inner: Attention::new(b, width, heads, weight, true) }
    }

    /// The parameter that follows the size of the window.
    pub fn table(&self) -> ParamId {
        self.table
    }

    /// `[B, H, W, C]` to the same shape.
    ///
    /// # Errors
    /// When the windows do not tile the map, or are not those the bias table is for.
    pub fn forward(&self, cx: &mut Context, x: &Variable, windows: Windows) -> Result<Variable> {
        let qkv = self.inner.qkv.forward(cx, x)?;
        let table = cx.param(self.table);
        let mixed = attend(cx, &qkv, self.inner.heads, &[windows], Some(&table))?;
        self.inner.proj.forward(cx, &mixed)
    }
}

/// Self-attention in stripes, vertical ones for half of the heads and horizontal ones for the
/// others, with a depthwise convolution of the values as position encoding (CSWin): parameters
/// `attns.{i}.get_v`.
#[derive(Clone, Debug)]
pub struct StripeAttention {
    heads: usize,
    /// One convolution for each kind of stripe.
    get_v: Vec<DepthwiseConv2d>,
}

impl StripeAttention {
    /// `kinds` is 2 for stripes, 1 if one window covers the map.
    pub fn new(b: &mut ParamBuilder, width: usize, heads: usize, kinds: usize) -> Self {
        let share = width / kinds;
        let one = |b: &mut ParamBuilder| DepthwiseConv2d::new(b, share, 3, Init::fan_in_uniform(9), true);
        let get_v =
            b.within("attns", |b| (0..kinds).map(|i| b.within(i, |b| b.within("get_v", one))).collect());
        Self { heads, get_v }
    }

    /// Packed queries, keys and values `[B, H, W, 3C]` to `[B, H, W, C]`; one entry of `windows`
    /// for each kind.
    ///
    /// # Errors
    /// When the windows do not tile the map.
    pub fn forward(&self, cx: &mut Context, qkv: &Variable, windows: &[Windows]) -> Result<Variable> {
        let width = qkv.dims()[3] / 3;
        let share = width / self.get_v.len();
        let mixed = attend(cx, qkv, self.heads, windows, None)?;
        let mut encodings = Vec::with_capacity(windows.len());
        for (i, (get_v, windows)) in self.get_v.iter().zip(windows).enumerate() {
            let v = slice_channels(cx, qkv, 2 * width + i * share, share)?;
            encodings.push(get_v.forward_tiled(cx, &v, Some(windows.size))?);
        }
        let encoding = concat_channels(cx, encodings)?;
        add(cx, &mixed, &encoding)
    }
}

/// Attention over a coarser map (PVT): parameters `q`, `kv`, `sr` and `norm` (if the map is
/// reduced), `proj`.
#[derive(Clone, Debug)]
pub struct ReducedAttention {
    q: Linear,
    kv: Linear,
    reduction: Option<(Conv2d, LayerNorm)>,
    proj: Linear,
    heads: usize,
}

impl ReducedAttention {
    /// Keys and values come from a map with edges `reduction` times shorter.
    pub fn new(b: &mut ParamBuilder, width: usize, heads: usize, reduction: usize, weight: Init) -> Self {
        let zeros = Some(Init::Zeros);
        Self {
            q: b.within("q", |b| Linear::new(b, width, width, weight, zeros)),
            kv: b.within("kv", |b| Linear::new(b, width, 2 * width, weight, zeros)),
            // Registered in the order of the authors: `proj` before `sr` and `norm`.
            proj: b.within("proj", |b| Linear::new(b, width, width, weight, zeros)),
            reduction: (reduction > 1).then(|| {
                let conv = b.within("sr", |b| Conv2d::plain(b, ConvShape::patches(width, width, reduction)));
                (conv, b.within("norm", |b| LayerNorm::new(b, width, LayerNorm::DEFAULT_EPS)))
            }),
            heads,
        }
    }

    /// `[B, L, C]` to the same shape; `map` is `[H, W]` with `H W = L` if the map is reduced.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn forward(&self, cx: &mut Context, x: &Variable, [h, w]: [usize; 2]) -> Result<Variable> {
        let (n, c) = (x.dims()[0], x.dims()[2]);
        let q = self.q.forward(cx, x)?;
        let coarse = match &self.reduction {
            Some((conv, norm)) => {
                let map = cx.reshape(x, &[n, h, w, c])?;
                let map = conv.forward(cx, &map)?;
                let tokens = map.dims()[1] * map.dims()[2];
                let tokens = cx.reshape(&map, &[n, tokens, c])?;
                norm.forward(cx, &tokens)?
            }
            None => x.clone(),
        };
        let kv = self.kv.forward(cx, &coarse)?;
        let op = Op::CrossAttention { heads: self.heads };
        let mixed = cx
            .apply(op, &[&q, &kv], x.dims(), |_| ops::cross_attention(q.tensor(), kv.tensor(), self.heads))?;
        self.proj.forward(cx, &mixed)
    }
}

/// `[B, H, W, 3C]` to `[B, H, W, C]`.
fn attend(
    cx: &mut Context,
    qkv: &Variable,
    heads: usize,
    windows: &[Windows],
    table: Option<&Variable>,
) -> Result<Variable> {
    let [n, h, w, width] = [0, 1, 2, 3].map(|i| qkv.dims()[i]);
    let op = Op::WindowAttention { heads, windows: windows.to_vec() };
    let inputs: Vec<&Variable> = [qkv].into_iter().chain(table).collect();
    cx.apply(op, &inputs, &[n, h, w, width / 3], |_| {
        ops::window_attention(qkv.tensor(), heads, windows, table.map(Variable::tensor))
    })
}
