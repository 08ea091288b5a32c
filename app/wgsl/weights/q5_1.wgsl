// GGUF Q5_1: blocks of 32 columns, w = scale * quant + low. A block is 6 words, as in the file: scale and low (f16 each),
// the fifth bits, bit j of column j, and the lower four as in Q4_1.
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let block = (row * (quads_per_row >> 3u) + (quad >> 3u)) * 6u;
    return vec4u(weight[block], weight[block + 1u], weight[block + 2u + (quad & 3u)], 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let scale_low = unpack2x16float(words.x);
    let fifth = (((words.y >> ((quad & 7u) << 2u)) & 15u) * 0x02040810u) & 0x10101010u;
    return scale_low.x * unsigned_bytes(((words.z >> (quad & 4u)) & 0x0f0f0f0fu) | fifth) + scale_low.y;
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
