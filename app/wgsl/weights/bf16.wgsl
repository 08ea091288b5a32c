// Weights as bfloat16, two to a u32: a bfloat16 is the upper half of the float32 of the same value.
@group(0) @binding(2) var<storage, read> weight: array<vec2u>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    return vec4u(weight[row * quads_per_row + quad], 0u, 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    return bitcast<vec4f>(vec4u(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
