// GGUF Q5_0: blocks of 32 columns, w = scale * (quant - 16). On the GPU two blocks of a row are 11 words: both scales
// (f16), then 5 words each: the fifth bits, bit j of column j, and the lower four as in Q4_0. A row of an odd number of
// blocks ends with half a pair, its second scale unused.
// include: weights/bytes.wgsl
@group(0) @binding(2) var<storage, read> weight: array<u32>;
fn weight_words(row: u32, quad: u32, quads_per_row: u32) -> vec4u {
    let pair = row * (((quads_per_row >> 3u) * 11u + 1u) >> 1u) + (quad >> 4u) * 11u;
    let block = pair + 1u + ((quad >> 3u) & 1u) * 5u;
    return vec4u(weight[pair], weight[block], weight[block + 1u + (quad & 3u)], 0u);
}

fn weight_values(words: vec4u, quad: u32) -> vec4f {
    let scale = unpack2x16float(words.x >> ((quad & 8u) << 1u)).x;
    // The quad's four fifth bits, multiplied to where each byte has its own in place.
    let fifth = (((words.y >> ((quad & 7u) << 2u)) & 15u) * 0x02040810u) & 0x10101010u;
    return scale * (unsigned_bytes(((words.z >> (quad & 4u)) & 0x0f0f0f0fu) | fifth) - 16.0);
}

fn weight_quad(row: u32, quad: u32, quads_per_row: u32) -> vec4f {
    return weight_values(weight_words(row, quad, quads_per_row), quad);
}
