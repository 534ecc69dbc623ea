//! The ONNX nodes of each op.

use super::graph::{Builder, Layout};
use super::proto::Attribute;
use crate::Result;
use crate::graph::{Input, Op, TracedOp};
use crate::params::ParamId;

use Layout::{ChannelsFirst, ChannelsLast};

impl Builder<'_> {
    /// Adds an op of the model.
    pub(super) fn add(&mut self, traced: &TracedOp) -> Result<()> {
        let TracedOp { op, inputs, shape, .. } = traced;
        self.enter(inputs);
        // Inputs that must be values of the graph; the others are parameters.
        let values = match op {
            Op::ConcatChannels => inputs.len(),
            Op::Add | Op::CrossAttention { .. } | Op::Residual { .. } => 2,
            _ => 1,
        };
        let values = inputs
            .iter()
            .take(values)
            .chain(inputs.iter().skip(3).filter(|_| matches!(op, Op::BatchNorm { .. })));
        if values.clone().any(|input| !matches!(input, Input::Image | Input::Op(_))) {
            return Err(self.refused(&format!("the op {} of a parameter or constant", op.name())));
        }
        let (layout, name) = match op {
            Op::Conv2d { stride, padding } => (ChannelsFirst, self.conv(inputs, *stride, *padding, 1)?),
            Op::DepthwiseConv2d { tile } => (ChannelsFirst, self.depthwise(inputs, *tile)?),
            Op::BatchNorm { relu, eps, running_mean, running_var } => {
                self.batch_norm(inputs, *relu, *eps, [*running_mean, *running_var])?
            }
            Op::MaxPool2d { kernel, stride, padding } => {
                (ChannelsFirst, self.max_pool(inputs[0], *kernel, *stride, *padding))
            }
            Op::UpsampleNearest { factor } => (ChannelsFirst, self.upsample(inputs[0], *factor)),
            Op::Relu | Op::Gelu | Op::SquaredRelu | Op::StarRelu | Op::Scale(_) | Op::Add => {
                self.elementwise(op, inputs)?
            }
            Op::GlobalAvgPool => (ChannelsLast, self.global_avg_pool(inputs[0])),
            _ => (ChannelsLast, self.channels_last(op, inputs, shape)?),
        };
        self.push(shape, layout, name);
        Ok(())
    }

    /// Ops that have one layout, channels last.
    fn channels_last(&mut self, op: &Op, inputs: &[Input], shape: &[usize]) -> Result<String> {
        let x = self.read(inputs[0], ChannelsLast);
        Ok(match op {
            Op::Reshape => self.reshape(&x, &shape[1..]),
            Op::Linear => self.linear(&x, inputs, shape.len())?,
            Op::LayerNorm { eps } => {
                let mut names = vec![x];
                for &input in &inputs[1..] {
                    names.push(self.param(input)?);
                }
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", *eps)];
                self.node("LayerNormalization", &names, attributes)
            }
            Op::WindowAttention { heads, windows } => {
                self.window_attention(&x, self.shape(inputs[0]).to_vec(), *heads, windows, inputs.get(1))?
            }
            Op::CrossAttention { heads } => {
                let kv = self.read(inputs[1], ChannelsLast);
                let [queries, keys] = [0, 1].map(|i| self.shape(inputs[i]).to_vec());
                self.cross_attention([&x, &kv], [&queries, &keys], *heads)
            }
            Op::Residual { skip, branch } => self.residual(&x, inputs, *skip, *branch)?,
            Op::JoinTokens => self.join_tokens(&x, inputs, shape)?,
            Op::SelectTokens { start } => self.slice(&x, 1, *start..start + shape[1]),
            Op::SliceChannels { start } => {
                let axis = shape.len() - 1;
                self.slice(&x, axis, *start..start + shape[axis])
            }
            Op::ConcatChannels => {
                let all: Vec<String> = inputs.iter().map(|&input| self.read(input, ChannelsLast)).collect();
                self.concat(&all, -1)
            }
            Op::MergePatches => {
                let &[_, h, w, c] = shape else { return Err(self.refused("merge_patches of no map")) };
                let squares = self.reshape(&x, &[h, 2, w, 2, c / 4]);
                let squares = self.transpose(&squares, &[0, 1, 3, 4, 2, 5]);
                self.reshape(&squares, &[h, w, c])
            }
            other => return Err(self.refused(&format!("the op {}", other.name()))),
        })
    }

    fn conv(&mut self, inputs: &[Input], stride: usize, padding: usize, group: usize) -> Result<String> {
        let x = self.read(inputs[0], ChannelsFirst);
        self.conv_of(&x, inputs, stride, padding, group)
    }

    fn conv_of(
        &mut self,
        x: &str,
        inputs: &[Input],
        stride: usize,
        padding: usize,
        group: usize,
    ) -> Result<String> {
        let kernel = self.shape(inputs[1])[2..].to_vec();
        let mut names = vec![x.to_string()];
        for &input in &inputs[1..] {
            names.push(self.param(input)?);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let attributes = vec![
            Attribute::ints("dilations", &[1, 1]),
            Attribute::int("group", group as i64),
            Attribute::ints("kernel_shape", &kernel),
            Attribute::ints("pads", &[padding; 4]),
            Attribute::ints("strides", &[stride; 2]),
        ];
        Ok(self.node("Conv", &names, attributes))
    }

    fn depthwise(&mut self, inputs: &[Input], tile: Option<[usize; 2]>) -> Result<String> {
        let &[_, h, w, c] = self.shape(inputs[0]) else {
            return Err(self.refused("a convolution of no map"));
        };
        let padding = self.shape(inputs[1])[2] / 2;
        let Some([th, tw]) = tile.filter(|&tile| tile != [h, w]) else {
            return self.conv(inputs, 1, padding, c);
        };
        let x = self.read(inputs[0], ChannelsFirst);
        let tiles = self.reshape(&x, &[c, h / th, th, w / tw, tw]);
        let tiles = self.transpose(&tiles, &[0, 2, 4, 1, 3, 5]);
        let tiles = self.reshape_to(&tiles, &[-1, c as i64, th as i64, tw as i64]);
        let tiles = self.conv_of(&tiles, inputs, 1, padding, c)?;
        let map = [h / th, w / tw, c, th, tw].map(|d| d as i64);
        let map: Vec<i64> = [-1].into_iter().chain(map).collect();
        let map = self.reshape_to(&tiles, &map);
        let map = self.transpose(&map, &[0, 3, 1, 4, 2, 5]);
        Ok(self.reshape(&map, &[c, h, w]))
    }

    fn batch_norm(
        &mut self,
        inputs: &[Input],
        relu: bool,
        eps: f64,
        running: [ParamId; 2],
    ) -> Result<(Layout, String)> {
        let x = self.read(inputs[0], ChannelsFirst);
        let (weight, bias) = (self.param(inputs[1])?, self.param(inputs[2])?);
        let (mean, var) =
            (self.param(Input::Parameter(running[0]))?, self.param(Input::Parameter(running[1]))?);
        let attributes = vec![Attribute::float("epsilon", eps)];
        let mut y = self.node("BatchNormalization", &[&x, &weight, &bias, &mean, &var], attributes);
        if let Some(&residual) = inputs.get(3) {
            let residual = self.read(residual, ChannelsFirst);
            y = self.node("Add", &[&y, &residual], Vec::new());
        }
        if relu {
            y = self.node("Relu", &[&y], Vec::new());
        }
        Ok((ChannelsFirst, y))
    }

    fn max_pool(&mut self, input: Input, kernel: usize, stride: usize, padding: usize) -> String {
        let x = self.read(input, ChannelsFirst);
        let attributes = vec![
            Attribute::ints("kernel_shape", &[kernel; 2]),
            Attribute::ints("pads", &[padding; 4]),
            Attribute::ints("strides", &[stride; 2]),
        ];
        self.node("MaxPool", &[&x], attributes)
    }

    fn upsample(&mut self, input: Input, factor: usize) -> String {
        let x = self.read(input, ChannelsFirst);
        let factor = factor as f32;
        let scales = self.floats(&format!("scales.{factor}"), &[4], &[1.0, 1.0, factor, factor]);
        let attributes = vec![
            Attribute::string("coordinate_transformation_mode", "asymmetric"),
            Attribute::string("mode", "nearest"),
            Attribute::string("nearest_mode", "floor"),
        ];
        self.node("Resize", &[&x, "", &scales], attributes)
    }

    /// Ops that do the same to every element, in the layout that is there.
    fn elementwise(&mut self, op: &Op, inputs: &[Input]) -> Result<(Layout, String)> {
        let values: Vec<Input> =
            inputs.iter().copied().filter(|input| !matches!(input, Input::Parameter(_))).collect();
        let first = self.are_in(&values, ChannelsFirst);
        let layout = if first { ChannelsFirst } else { ChannelsLast };
        let x = self.read(inputs[0], layout);
        let name = match op {
            Op::Relu => self.node("Relu", &[&x], Vec::new()),
            Op::Gelu => self.gelu(&x),
            Op::SquaredRelu => self.squared_relu(&x),
            Op::StarRelu => {
                let square = self.squared_relu(&x);
                let (scale, bias) = (self.param(inputs[1])?, self.param(inputs[2])?);
                let scaled = self.node("Mul", &[&square, &scale], Vec::new());
                self.node("Add", &[&scaled, &bias], Vec::new())
            }
            Op::Scale(factor) => {
                let factor = self.number(*factor);
                self.node("Mul", &[&x, &factor], Vec::new())
            }
            _ => {
                let y = self.read(inputs[1], layout);
                self.node("Add", &[&x, &y], Vec::new())
            }
        };
        Ok((layout, name))
    }

    /// `x / 2 * (1 + erf(x / sqrt(2)))`: the opset has no GELU of its own yet.
    fn gelu(&mut self, x: &str) -> String {
        let (root, one, half) = (self.number(std::f64::consts::SQRT_2), self.number(1.0), self.number(0.5));
        let erf = self.node("Div", &[x, &root], Vec::new());
        let erf = self.node("Erf", &[&erf], Vec::new());
        let erf = self.node("Add", &[&erf, &one], Vec::new());
        let twice = self.node("Mul", &[x, &erf], Vec::new());
        self.node("Mul", &[&twice, &half], Vec::new())
    }

    fn squared_relu(&mut self, x: &str) -> String {
        let relu = self.node("Relu", &[x], Vec::new());
        self.node("Mul", &[&relu, &relu], Vec::new())
    }

    fn global_avg_pool(&mut self, input: Input) -> String {
        if self.are_in(&[input], ChannelsFirst) {
            let x = self.read(input, ChannelsFirst);
            let pooled = self.node("GlobalAveragePool", &[&x], Vec::new());
            return self.node("Flatten", &[&pooled], vec![Attribute::int("axis", 1)]);
        }
        let axes: Vec<usize> = (1..self.shape(input).len() - 1).collect();
        let x = self.read(input, ChannelsLast);
        self.node("ReduceMean", &[&x], vec![Attribute::ints("axes", &axes), Attribute::int("keepdims", 0)])
    }

    fn linear(&mut self, x: &str, inputs: &[Input], rank: usize) -> Result<String> {
        if rank == 2 {
            let mut names = vec![x.to_string()];
            for &input in &inputs[1..] {
                names.push(self.param(input)?);
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Ok(self.node("Gemm", &names, vec![Attribute::int("transB", 1)]));
        }
        let weight =
            self.changed_param(inputs[1], ".transposed", |weight| Ok(weight.t()?.contiguous()?))?;
        let product = self.node("MatMul", &[x, &weight], Vec::new());
        let Some(&bias) = inputs.get(2) else { return Ok(product) };
        let bias = self.param(bias)?;
        Ok(self.node("Add", &[&product, &bias], Vec::new()))
    }

    fn residual(&mut self, x: &str, inputs: &[Input], skip: bool, branch: bool) -> Result<String> {
        let mut factors = inputs[2..].iter();
        let (mut x, mut y) = (x.to_string(), self.read(inputs[1], ChannelsLast));
        for (path, has_factor) in [(&mut x, skip), (&mut y, branch)] {
            if let Some(&factor) = has_factor.then(|| factors.next()).flatten() {
                let factor = self.param(factor)?;
                *path = self.node("Mul", &[path, &factor], Vec::new());
            }
        }
        Ok(self.node("Add", &[&x, &y], Vec::new()))
    }

    fn join_tokens(&mut self, x: &str, inputs: &[Input], shape: &[usize]) -> Result<String> {
        let (position, tokens) = match &inputs[1..] {
            [tokens @ .., position] => (*position, tokens),
            [] => return Err(self.refused("join_tokens without a position embedding")),
        };
        let mut parts = Vec::new();
        if !tokens.is_empty() {
            let batch = self.node("Shape", &[x], vec![Attribute::int("start", 0), Attribute::int("end", 1)]);
            let rest = self.ints("shape", &[1, shape[2] as i64]);
            let whole = self.concat(&[batch, rest], 0);
            for &token in tokens {
                let token = self.param(token)?;
                parts.push(self.node("Expand", &[&token, &whole], Vec::new()));
            }
        }
        parts.push(x.to_string());
        let all = self.concat(&parts, 1);
        let position = self.param(position)?;
        Ok(self.node("Add", &[&all, &position], Vec::new()))
    }
}
