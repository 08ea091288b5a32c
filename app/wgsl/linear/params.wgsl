// What every form of the linear kernel shares. With weight: (out, in), frozen, in the form of the included loader:
//   forward:   y (rows, out) (=|+=) x (rows, in) weightT       + lora_in (rows, R) lora_weight (out, R)T
//   backward: dx (rows, in)  (=|+=) dy (rows, out) weight      + lora_in (rows, R) lora_weight (R, in)
// `y` is the result (y or dx), `inner` the length of the sum, `columns` the width of the result. `in` is a multiple of 4.
// In forward lora_in is u = scale * x AT and lora_weight is B; in backward du = scale * dy B and A. R = 0: no adapter.
// accumulate: 0 is `=`, 1 is `+=`, 2 adds `residual` (laid out like the result) instead of what is there.
// `part` is how much of the inner sum one layer of the grid (z) takes, all of it unless there are several: then each
// writes a result of its own, one behind another in `y`, and linear/sum_parts.wgsl adds them. The first takes the adapter too.
// A chunk of the loss works on the trained rows only: those from chunk_start on, as many as step.loss_rows leaves.
// Layers that share their input may be one product (q, k and v; gate and up). Their results, and the gradients of those,
// then lie one layer behind another: output n of row r is at base + r * width + n - start of the layer that n is of, and
// each layer has its own R columns of lora_in. `weight_row0` picks one layer out of a joined weight. Of layers in weights of
// different forms a product makes some: `rank0` and `lora_row0` say where its ranks begin in lora_in, and (forward) its
// rows in lora_weight. Of a matrix that is too large for one binding a product makes some outputs: they begin `base0` into a
// row of `stride` (0: as many as the layer has outputs).
struct Params {
    rows: u32, columns: u32, inner: u32, outs: u32, rank: u32, rank_total: u32, accumulate: u32, chunk_start: u32,
    part: u32, y_size: u32, weight_row0: u32, rank0: u32, lora_row0: u32, base0: u32, stride: u32, start1: u32, start2: u32, base1: u32, base2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
const NO_CHUNK = 0xffffffffu;

fn active_rows() -> u32 {
    if (params.chunk_start == NO_CHUNK) { return params.rows; }
    return min(params.rows, max(step.loss_rows, params.chunk_start) - params.chunk_start);
}

// The layer that output n belongs to.
struct Layer { index: u32, start: u32, width: u32, base: u32 }

// Without branches: where a compiler has to inline many calls, each early return costs it dearly.
fn layer_of(n: u32) -> Layer {
    let second = n >= params.start1;
    let third = n >= params.start2;
    let start = select(select(0u, params.start1, second), params.start2, third);
    let end = select(select(params.start1, params.start2, second), params.outs, third);
    let base = select(select(params.base0, params.base1, second), params.base2, third);
    let width = select(end - start, params.stride, params.stride > 0u);
    return Layer(select(0u, 1u, second) + select(0u, 1u, third), start, width, base);
}

// Where output n of a row lies among results or their gradients.
fn place_of(row: u32, n: u32) -> u32 {
    let layer = layer_of(n);
    return layer.base + row * layer.width + n - layer.start;
}
