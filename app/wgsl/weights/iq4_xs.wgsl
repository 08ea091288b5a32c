// GGUF IQ4_XS: blocks of 256 columns, w = d * (scale - 32) * one of 16 fixed values, with a scale for every 32 columns.
// A block is 34 words, as in the file: d (f16) and the upper two bits of the 8 scales, their lower four bits, and 4 words
// of nibbles for every 32 columns, as in Q4_0.
// include: weights/iq4_values.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 6u) + (quad >> 6u)) * 34u;
    return vec4u(weight[block], weight[block + 1u], weight[block + 2u + ((quad >> 1u) & 28u) + (quad & 3u)], 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let low = (words.y >> ((quad >> 1u) & 28u)) & 15u;
    let high = (words.x >> (16u + ((quad >> 2u) & 14u))) & 3u;
    let scale = unpack2x16float(words.x).x * (f32(low | (high << 4u)) - 32.0);
    return scale * iq4_values((words.z >> (quad & 4u)) & 0x0f0f0f0fu);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
