// Tensors of linear/tiled.wgsl read and written four at a time: every width and the rank are multiples of four.
// include: linear/params.wgsl
@group(0) @binding(3) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(5) var<storage, read> lora_in: array<vec4f>;
@group(0) @binding(6) var<storage, read> lora_weight: array<vec4f>;
@group(0) @binding(7) var<storage, read> residual: array<vec4f>;

fn dy_four(at: u32, count: u32) -> vec4f {
    if (count == 0u) { return vec4f(0.0); }
    return dy[at / 4u];
}

fn store_four(at: u32, count: u32, value: vec4f) {
    var sum = value;
    if (params.accumulate == 1u) { sum += y[at / 4u]; }
    if (params.accumulate == 2u) { sum += residual[at / 4u]; }
    y[at / 4u] = sum;
}

fn lora_in_four(row: u32, r: u32) -> vec4f {
    if (r >= params.rank_total) { return vec4f(0.0); }
    return lora_in[(row * params.rank_total + r) / 4u];
}

fn b_four(row: u32, r: u32, first: u32) -> vec4f {
    if (r < first || r >= first + params.rank) { return vec4f(0.0); }
    return lora_weight[(row * params.rank + r - first) / 4u];
}

fn a_four(r: u32, quad: u32) -> vec4f { return lora_weight[r * (params.columns / 4u) + quad]; }
