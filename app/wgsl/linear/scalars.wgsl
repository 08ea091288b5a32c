// Tensors of linear/tiled.wgsl whose rows may begin anywhere: widths or a rank that four does not divide.
// include: linear/bindings.wgsl

// Up to four values from `at` on, zeros behind.
fn dy_four(at: u32, count: u32) -> vec4f {
    var value = vec4f(0.0);
    if (count > 0u) { value.x = dy[at]; }
    if (count > 1u) { value.y = dy[at + 1u]; }
    if (count > 2u) { value.z = dy[at + 2u]; }
    if (count > 3u) { value.w = dy[at + 3u]; }
    return value;
}

fn store_four(at: u32, count: u32, value: vec4f) {
    y[at] = value.x + base_at(at);
    if (count > 1u) { y[at + 1u] = value.y + base_at(at + 1u); }
    if (count > 2u) { y[at + 2u] = value.z + base_at(at + 2u); }
    if (count > 3u) { y[at + 3u] = value.w + base_at(at + 3u); }
}

// Ranks r .. r + 3 of a row of lora_in, zeros behind the last.
fn lora_in_four(row: u32, r: u32) -> vec4f {
    let at = row * params.rank_total + r;
    let count = max(params.rank_total, r) - r;
    var value = vec4f(0.0);
    if (count > 0u) { value.x = lora_in[at]; }
    if (count > 1u) { value.y = lora_in[at + 1u]; }
    if (count > 2u) { value.z = lora_in[at + 2u]; }
    if (count > 3u) { value.w = lora_in[at + 3u]; }
    return value;
}

fn b_at(row: u32, r: u32, first: u32) -> f32 {
    if (r < first || r >= first + params.rank) { return 0.0; }
    return lora_weight[row * params.rank + r - first];
}

// Row `row` of B for ranks r .. r + 3; its layer's ranks begin at `first`, all others are zero.
fn b_four(row: u32, r: u32, first: u32) -> vec4f {
    return vec4f(b_at(row, r, first), b_at(row, r + 1u, first), b_at(row, r + 2u, first), b_at(row, r + 3u, first));
}

// A of a rank for four columns.
fn a_four(r: u32, quad: u32) -> vec4f {
    let at = r * params.columns + 4u * quad;
    return vec4f(lora_weight[at], lora_weight[at + 1u], lora_weight[at + 2u], lora_weight[at + 3u]);
}
