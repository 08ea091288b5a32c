// GGUF Q4_1: blocks of 32 columns, w = scale * quant + low. A block is 5 words, as in the file: scale and low (f16
// each), then 16 bytes; byte j holds column j in its low nibble and column j + 16 in its high one.
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 3u) + (quad >> 3u)) * 5u;
    return vec4u(weight[block], weight[block + 1u + (quad & 3u)], 0u, 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let scale_low = unpack2x16float(words.x);
    let quants = (vec4u(words.y >> (quad & 4u)) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(15u);
    return scale_low.x * vec4f(quants) + scale_low.y;
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
