// Weights as float16, two to a u32: needs no shader-f16.
@group(0) @binding(2) var<storage, read> weight: array<vec2u>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    return vec4u(weight[row * quads_per_row + quad], 0u, 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
