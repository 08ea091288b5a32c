// What every form of the linear kernel shares. With weight: (out, in), frozen, in the form of the included loader:
//   forward:   y (rows, out) (=|+=) x (rows, in) weightT       + lora_in (rows, R) lora_weight (out, R)T
//   backward: dx (rows, in)  (=|+=) dy (rows, out) weight      + lora_in (rows, R) lora_weight (R, in)
// `y` is the result (y or dx), `inner` the length of the sum, `columns` the width of the result. `in` is a multiple of 4.
// In forward lora_in is u = scale * x AT and lora_weight is B; in backward du = scale * dy B and A. R = 0: no adapter.
// `part` is how much of the inner sum one layer of the grid (z) takes, all of it unless there are several: then each
// writes a result of its own, one behind another in `y`, and sum_parts.wgsl adds them. The first takes the adapter too.
// A chunk of the loss works on the trained rows only: those from chunk_start on, as many as step.loss_rows leaves.
struct Params { rows: u32, columns: u32, inner: u32, rank: u32, accumulate: u32, chunk_start: u32,
                part: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(3) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> lora_in: array<f32>;
@group(0) @binding(6) var<storage, read> lora_weight: array<f32>;
const NO_CHUNK = 0xffffffffu;

fn active_rows() -> u32 {
    if (params.chunk_start == NO_CHUNK) { return params.rows; }
    return min(params.rows, max(step.loss_rows, params.chunk_start) - params.chunk_start);
}
