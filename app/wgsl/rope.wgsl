// rope:  with angle = position * theta^(-2d / D) and halves (a, b) of a head's D channels (Hugging Face's row order):
//   a' = a cos - b sin,   b' = b cos + a sin;   backward turns the other way (sign = -1). In place.
// Where `half` is less than D / 2 the head's first 2 half channels are turned, and the others stay.
// x: (rows, heads * D), and from `second_base` on a second such tensor of `second_heads` (k behind q), which may be none
// positions: (rows)   table: (max positions, D / 2) pairs (cos, sin), computed in float64 on the
// CPU because software devices' sin and cos are off by 2e-4.
struct Params { rows: u32, heads: u32, head_dim: u32, half: u32, sign: f32, second_base: u32, second_heads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read> positions: array<u32>;
@group(0) @binding(4) var<storage, read> table: array<vec2f>;

@compute @workgroup_size(256)
fn rotate(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
          @builtin(num_workgroups) groups: vec3u) {
    let first_size = params.rows * params.heads * params.half;
    let all = (group.y * groups.x + group.x) * 256u + lane;
    if (all >= first_size + params.rows * params.second_heads * params.half) { return; }
    let second = all >= first_size;
    let index = select(all, all - first_size, second);
    let heads = select(params.heads, params.second_heads, second);
    let d = index % params.half;
    let head = (index / params.half) % heads;
    let row = index / (params.half * heads);
    let turn = table[positions[row] * params.half + d];
    let at = select(0u, params.second_base, second) + (row * heads + head) * params.head_dim + d;
    let a = x[at];
    let b = x[at + params.half];
    let sine = turn.y * params.sign;
    x[at] = a * turn.x - b * sine;
    x[at + params.half] = b * turn.x + a * sine;
}
